//! `cargo xtask lab`: packages, release binaries, then `ferrule lab demo`, which is all that knows what a lab is.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::distribution;
use crate::workspace::{self, Metadata};

/// The packages of the programs we install, and the program of each.
pub const BINARIES: &[(&str, &str)] = &[
    ("cli", "ferrule"),
    ("controller", "ferrule-controller"),
    ("ovs-agent", "ferrule-agent"),
    ("cni", "ferrule-cni"),
];

/// Runs the demonstration, or with arguments what they say (`cargo xtask lab up --nodes 3` is `ferrule lab up --nodes 3`).
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    if !distribution::is_root() {
        bail!("the lab makes network namespaces and needs root: call `cargo xtask lab` as root");
    }
    distribution::ensure(distribution::LAB)?;
    let binaries = build()?;
    let arguments = ferrule_arguments(arguments);
    println!("==> ferrule {}", arguments.join(" "));
    // exec: the lab takes our place, so that Ctrl-C and every other signal reach it and nothing else.
    let error = Command::new(binaries.join("ferrule"))
        .args(&arguments)
        .env("FERRULE_BIN_DIR", &binaries)
        .current_dir(workspace::root())
        .exec();
    Err(error).with_context(|| format!("cannot run {}", binaries.join("ferrule").display()))
}

/// Builds the release binaries, with cargo's progress on the terminal; returns their folder.
pub fn build() -> Result<PathBuf> {
    println!(
        "==> building {} (release)",
        BINARIES.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    );
    let mut command = workspace::cargo();
    command.args(["build", "--release"]);
    for (package, binary) in BINARIES {
        command.args(["--package", package, "--bin", binary]);
    }
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the release build failed ({status}): see cargo's message above");
    }
    Ok(Metadata::read()?.release_directory())
}

/// `lab demo` when nothing or only options are given; any other word is a subcommand of `ferrule lab`.
fn ferrule_arguments(arguments: &[String]) -> Vec<String> {
    let mut all = vec!["lab".to_owned()];
    if arguments.first().is_none_or(|first| first.starts_with('-')) {
        all.push("demo".to_owned());
    }
    all.extend_from_slice(arguments);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binaries_are_those_of_the_contract() {
        let contracts = std::fs::read_to_string(workspace::root().join("docs/contracts.md")).unwrap();
        let metadata = Metadata::read().unwrap();
        let members = metadata.members();
        for (package, binary) in BINARIES {
            let row = format!("| `{binary}` | `{}/` |", metadata.folder(members[package]));
            assert!(contracts.contains(&row), "docs/contracts.md has no row {row}");
            let target = members[package].targets.iter().find(|target| target.name == *binary);
            assert!(target.is_some_and(|target| target.kind == ["bin"]), "{package} builds no {binary}");
        }
    }

    fn given(arguments: &[&str]) -> String {
        ferrule_arguments(&arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn options_go_to_the_demonstration_and_words_to_the_lab() {
        assert_eq!(given(&[]), "lab demo");
        assert_eq!(given(&["--nodes", "3"]), "lab demo --nodes 3");
        assert_eq!(given(&["matrix", "-o", "json"]), "lab matrix -o json");
    }
}
