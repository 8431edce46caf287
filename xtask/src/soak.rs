//! `cargo xtask soak`: brings a cluster of three whole nodes up, unless it is, and hands over to the program `soak`,
//! which is all that knows what a soak is. Not a part of `cargo xtask test`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Metadata};
use crate::{cluster, distribution};

/// The cluster of these runs; it stays up, to look at.
const STATE: &str = "/run/ferrule/soak";

/// Runs it; ends with 2 when something was not as it should be.
pub fn run(minutes: u64, pods: u32, state: Option<&Path>) -> Result<ExitCode> {
    let state = state.unwrap_or(Path::new(STATE)).display().to_string();
    let build = workspace::cargo()
        .args(["build", "--quiet", "--release", "--package", "soak"])
        .status()
        .context("cannot run cargo")?;
    if !build.success() {
        bail!("the soak does not build ({build}): see cargo's message above");
    }
    distribution::ensure(distribution::SOAK)?;
    let is_up = || -> Result<bool> {
        let status = Command::new(cluster::command()?).args(["--state", &state, "status"]).output()?;
        Ok(status.status.success())
    };
    if !is_up()? {
        let up = ["--state", &state, "up", "--nodes", "3"].map(str::to_owned);
        cluster::run(&up)?;
    }
    let status = Command::new(Metadata::read()?.release_directory().join("soak"))
        .args(["--state", &state, "--minutes", &minutes.to_string(), "--pods", &pods.to_string()])
        .status()
        .context("cannot run the soak")?;
    println!("==> the cluster is still up: `cargo xtask cluster --state {state} down`");
    Ok(match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(2) => ExitCode::from(2),
        _ => ExitCode::from(1),
    })
}
