//! `cargo xtask cluster`: builds the command of the `cluster` crate, which is all that knows what a cluster is, and becomes it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Metadata};
use crate::{distribution, images};

/// Leaves a cluster with nodes without a network.
const WITHOUT_NETWORK: &str = "--without-network";

/// `up`, `status`, `down` and so on, with their options.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut arguments = arguments.to_vec();
    if arguments.iter().any(|word| word == "up") {
        if !distribution::is_root() {
            bail!("a cluster makes network namespaces and needs root: call `cargo xtask cluster` as root");
        }
        distribution::ensure(distribution::CLUSTER)?;
        if arguments.iter().any(|word| word == "--test-images") {
            distribution::ensure(distribution::TEST_IMAGES)?;
        }
        let without = arguments.iter().position(|word| word == WITHOUT_NETWORK);
        if let Some(place) = without {
            arguments.remove(place);
        }
        if arguments.iter().any(|word| word.starts_with("--nodes")) {
            distribution::ensure(distribution::NODES)?;
            if without.is_none() {
                return up_with_ferrule(&arguments);
            }
        }
    }
    // exec: the cluster takes our place, so that Ctrl-C and every other signal reach it and nothing else.
    let error = Command::new(command()?).args(&arguments).exec();
    Err(error).context("cannot run the cluster's command")
}

/// Nodes with Ferrule on them, installed by its chart.
fn up_with_ferrule(arguments: &[String]) -> Result<ExitCode> {
    let archives = images::build()?;
    let cluster = command()?;
    let run = |what: &str, command: &mut Command| -> Result<()> {
        let status = command.status().context("cannot run the cluster's command")?;
        if !status.success() {
            bail!("{what} failed ({status}): see the message above");
        }
        Ok(())
    };
    run("building helm", Command::new(&cluster).args(["build", "--program", "helm"]))?;
    let mut up = Command::new(&cluster);
    up.args(arguments);
    for archive in &archives {
        up.arg("--image").arg(archive);
    }
    run("the cluster", &mut up)?;
    let state = state(arguments);
    let status = Command::new(&cluster).args(&state).args(["status", "-o", "json"]).output()?;
    let status: serde_json::Value =
        serde_json::from_slice(&status.stdout).context("cannot read the status")?;
    let server = status["server"].as_str().context("the status names no API server")?;
    println!("==> installing deploy/chart with helm");
    let mut install = Command::new(&cluster);
    install
        .args(&state)
        .args(["run", "helm", "install", "ferrule"])
        .arg(workspace::root().join("deploy/chart"));
    install.args(["--namespace", "kube-system", "--wait", "--timeout", "180s"]);
    install.args(["--set", &format!("apiServer={server}")]);
    // Nodes of one machine share its kernel: each has a switch of its own on the userspace datapath only.
    install.args(["--set", "agent.datapath=netdev", "--set", "ovs.uplink=eth0"]);
    let nodes = status["nodes"].as_array().map_or(0, Vec::len);
    install.args(["--set", &format!("controller.replicas={}", nodes.clamp(1, 2))]);
    run("helm install", &mut install)?;
    Ok(ExitCode::SUCCESS)
}

/// `--state DIR`, if it was said.
fn state(arguments: &[String]) -> Vec<String> {
    let place = arguments.iter().position(|word| word == "--state");
    let pair = place.and_then(|place| arguments.get(place..place + 2));
    let joined = arguments.iter().find(|word| word.starts_with("--state="));
    pair.map(<[String]>::to_vec).or_else(|| joined.map(|word| vec![word.clone()])).unwrap_or_default()
}

/// What the benchmarks run.
pub const CONTROL_PLANE: &[&str] = &["etcd", "kube-apiserver"];

/// What the tests run.
pub const TESTED: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
    "pause",
    "coredns",
    "helm",
    "kube-proxy",
    "agnhost",
    "agnhost-sctp",
    "e2e.test",
    "ginkgo",
];

/// Builds programs of Kubernetes ahead of who needs them, with progress; a machine without Go is no failure here, as each test says
/// for itself what it misses.
pub fn build(programs: &[&str]) -> Result<()> {
    println!("==> building {} of Kubernetes, unless they are there", programs.join(", "));
    let mut build = Command::new(command()?);
    build.arg("build");
    for program in programs {
        build.args(["--program", program]);
    }
    let status = build.status().context("cannot run the cluster's command")?;
    if !status.success() {
        println!("==> going on without ({status}): see its message above");
    }
    Ok(())
}

/// The built command.
pub fn command() -> Result<PathBuf> {
    let status = workspace::cargo()
        .args(["build", "--quiet", "--release", "--package", "cluster", "--bin", "cluster"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the cluster's command does not build ({status}): see cargo's message above");
    }
    Ok(Metadata::read()?.release_directory().join("cluster"))
}
