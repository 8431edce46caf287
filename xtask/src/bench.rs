//! `cargo xtask bench`: every benchmark, then their ratios together. Which ones there are is one list; what they measure is
//! theirs. A benchmark prints a line `ratio: WHAT: …` for each figure that stands beside a reference or a budget; nothing
//! here asserts.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Metadata};
use crate::{cluster, distribution, lab};

/// What a benchmark's figures for the end begin with.
const RATIO: &str = "ratio: ";

#[derive(Debug)]
enum How {
    /// `cargo bench` of a package, when it has a target of kind `bench`.
    Cargo(&'static str),
    /// The same as root, with the release binaries and a control plane's programs.
    Cluster(&'static str),
    /// `ferrule …`, as root, with the release binaries.
    Ferrule(&'static [&'static str]),
}

#[derive(Debug)]
struct Bench {
    name: &'static str,
    how: How,
}

const BENCHES: &[Bench] = &[
    // Flow-mods of the compiler's mix and a private switch: what crosses crates is in tests/.
    Bench { name: "openflow", how: How::Cargo("tests") },
    Bench { name: "ovsdb", how: How::Cargo("ovsdb") },
    Bench { name: "network", how: How::Cargo("network") },
    Bench { name: "compiler", how: How::Cargo("compiler") },
    Bench { name: "controller", how: How::Cargo("controller") },
    Bench { name: "agent", how: How::Cargo("ovs-agent") },
    Bench { name: "lab", how: How::Ferrule(&["lab", "bench"]) },
    Bench { name: "cluster", how: How::Cluster("cluster") },
];

/// Runs all, or those that `names` ask for. One that fails does not keep the others from running.
pub fn run(names: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = names.iter().find(|name| !BENCHES.iter().any(|bench| bench.name == **name)) {
        let known: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("there is no benchmark {unknown:?}: take one of {}", known.join(", "));
    }
    let metadata = Metadata::read()?;
    let mut ratios = Vec::new();
    let mut failed = Vec::new();
    for bench in
        BENCHES.iter().filter(|bench| names.is_empty() || names.iter().any(|name| name == bench.name))
    {
        let command = match bench.how {
            How::Cargo(package) => cargo_bench(&metadata, package),
            How::Cluster(package) => cluster_bench(&metadata, package)?,
            How::Ferrule(arguments) => ferrule(arguments)?,
        };
        let Some(command) = command else { continue };
        println!("\n==> bench {}", bench.name);
        if !stream(command, &mut ratios)? {
            failed.push(bench.name);
        }
    }
    println!("\nRATIOS");
    for ratio in &ratios {
        println!("  {ratio}");
    }
    if ratios.is_empty() {
        println!("  none was printed");
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    Ok(ExitCode::from(u8::from(!failed.is_empty())))
}

fn cargo_bench(metadata: &Metadata, package: &str) -> Option<Command> {
    let members = metadata.members();
    let benches: Vec<_> = members
        .get(package)?
        .targets
        .iter()
        .filter(|target| target.kind.iter().any(|kind| kind == "bench"))
        .collect();
    if benches.is_empty() {
        return None;
    }
    let mut command = workspace::cargo();
    command.args(["bench", "--package", package]);
    for bench in benches {
        command.args(["--bench", &bench.name]);
    }
    Some(command)
}

fn cluster_bench(metadata: &Metadata, package: &str) -> Result<Option<Command>> {
    if !distribution::is_root() {
        println!("\n==> bench {package}: skipped, needs root");
        return Ok(None);
    }
    distribution::ensure(distribution::LAB)?;
    let binaries = lab::build()?;
    cluster::build(cluster::CONTROL_PLANE)?;
    let mut command = cargo_bench(metadata, package);
    if let Some(command) = &mut command {
        command.env("FERRULE_BIN_DIR", &binaries);
    }
    Ok(command)
}

fn ferrule(arguments: &[&str]) -> Result<Option<Command>> {
    if !distribution::is_root() {
        println!("\n==> ferrule {}: skipped, needs root", arguments.join(" "));
        return Ok(None);
    }
    distribution::ensure(distribution::LAB)?;
    distribution::ensure(distribution::BENCH)?;
    let binaries = lab::build()?;
    let mut command = Command::new(binaries.join("ferrule"));
    command.args(arguments).env("FERRULE_BIN_DIR", &binaries).current_dir(workspace::root());
    Ok(Some(command))
}

/// Passes the output on and keeps the ratios; true when the command succeeded.
fn stream(mut command: Command, ratios: &mut Vec<String>) -> Result<bool> {
    let program = Path::new(command.get_program()).display().to_string();
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {program}"))?;
    let stdout = child.stdout.take().context("the benchmark has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.with_context(|| format!("cannot read the output of {program}"))?;
        println!("{line}");
        ratios.extend(line.trim_start().strip_prefix(RATIO).map(ToOwned::to_owned));
    }
    Ok(child.wait().with_context(|| format!("cannot wait for {program}"))?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_kept_and_a_failure_is_seen() {
        let mut ratios = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo warming up; echo '  ratio: ADD: 0.9 of the reference'; exit 3"]);
        assert!(!stream(command, &mut ratios).unwrap());
        assert_eq!(ratios, ["ADD: 0.9 of the reference"]);
    }

    #[test]
    fn an_unknown_benchmark_is_named_with_the_known_ones() {
        let error = run(&["opnflow".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("opnflow") && error.contains("openflow"), "{error}");
    }
}
