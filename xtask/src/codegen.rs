//! `cargo xtask codegen`: hands over to the `codegen` package, which alone carries the protobuf compiler.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::workspace;

pub fn run(check: bool) -> Result<ExitCode> {
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "--package", "codegen", "--bin", "ferrule-codegen", "--"]);
    if check {
        command.arg("--check");
    }
    let status = command.status().context("cannot run cargo")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
