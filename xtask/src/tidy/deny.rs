//! Licences, bans and sources of our dependencies: `deny.toml`, where cargo-deny is installed. Installs nothing.

use std::process::Stdio;

use anyhow::{Context, Result};

use crate::workspace;

/// True when cargo-deny is content or absent (which is said).
pub fn check() -> Result<bool> {
    let probe = workspace::cargo()
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    if !probe.success() {
        println!("tidy: cargo-deny not installed: skipped");
        return Ok(true);
    }
    // The advisory database needs the network; licences, bans and sources do not.
    let status = workspace::cargo()
        .args(["deny", "--offline", "check", "licenses", "bans", "sources"])
        .status()
        .context("cannot run cargo deny")?;
    Ok(status.success())
}
