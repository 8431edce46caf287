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
    }
    // exec: the cluster takes our place, so that Ctrl-C and every other signal reach it and nothing else.
    let error = command()?.args(arguments).exec();
    Err(error).context("cannot run the cluster's command")
}

/// The built command.
pub fn command() -> Result<Command> {
    Ok(Command::new(build()?))
}

fn build() -> Result<PathBuf> {
    let status = workspace::cargo()
        .args(["build", "--quiet", "--release", "--package", "cluster", "--bin", "cluster"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the cluster's command does not build ({status}): see cargo's message above");
    }
    Ok(Metadata::read()?.release_directory().join("cluster"))
}
