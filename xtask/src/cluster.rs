//! `cargo xtask cluster`: builds the command of the `cluster` crate, which is all that knows what a cluster is, and becomes it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::distribution;
use crate::workspace::{self, Metadata};

/// `up`, `status`, `down` and so on, with their options.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    if arguments.first().is_some_and(|word| word == "up") {
        if !distribution::is_root() {
            bail!("a cluster makes network namespaces and needs root: call `cargo xtask cluster` as root");
        }
        distribution::ensure(distribution::CLUSTER)?;
        if arguments.iter().any(|word| word.starts_with("--nodes")) {
            distribution::ensure(distribution::NODES)?;
        }
        if arguments.iter().any(|word| word == "--test-images") {
            distribution::ensure(distribution::TEST_IMAGES)?;
        }
    }
    // exec: the cluster takes our place, so that Ctrl-C and every other signal reach it and nothing else.
    let error = Command::new(command()?).args(arguments).exec();
    Err(error).context("cannot run the cluster's command")
}

/// What the tests run.
pub const CONTROL_PLANE: &[&str] = &["etcd", "kube-apiserver"];

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
fn command() -> Result<PathBuf> {
    let status = workspace::cargo()
        .args(["build", "--quiet", "--release", "--package", "cluster", "--bin", "cluster"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the cluster's command does not build ({status}): see cargo's message above");
    }
    Ok(Metadata::read()?.release_directory().join("cluster"))
}
