//! Programs that are called and waited for: their output, or an error with what they said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::netns;

/// What the lab itself calls, and the Debian packages.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("setsid", "util-linux"),
    ("ovsdb-tool", "openvswitch-switch"),
    ("ovsdb-server", "openvswitch-switch"),
    ("ovs-vswitchd", "openvswitch-switch"),
    ("ovs-vsctl", "openvswitch-switch"),
];

/// Fails with the package to install when a program is missing.
pub fn check_programs() -> Result<()> {
    match PROGRAMS.iter().find(|(program, _)| !is_installed(program)) {
        Some((program, package)) => Err(Error::MissingProgram { program: (*program).to_owned(), package }),
        None => Ok(()),
    }
}

/// Whether a program is on PATH or in the sbin folders.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(program).is_file())
}

/// Runs a command here.
pub fn run(command: &mut Command) -> Result<String> {
    finish(None, command)
}

/// Runs a command in a namespace.
pub fn run_in(namespace: &Path, command: &mut Command) -> Result<String> {
    finish(Some(namespace), command)
}

fn finish(namespace: Option<&Path>, command: &mut Command) -> Result<String> {
    let text = shown(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = netns::spawn(namespace, command)?;
    let output = child.wait_with_output().context(|| format!("wait for {text}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(Error::Command { what: format!("`{text}`"), said })
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    words.join(" ")
}

/// sbin is missing from some PATHs; the daemons live there.
pub fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("`sh -c") && error.ends_with("broken"), "{error}");
        assert_eq!(run(Command::new("sh").args(["-c", "echo fine"])).unwrap(), "fine\n");
    }
}
