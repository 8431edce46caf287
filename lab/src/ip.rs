//! Calls of `ip` (iproute2), many changes at a time.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

/// Carries out commands of `ip`, one per line, in a namespace or in ours. Stops at the first that fails and names it.
pub fn batch(namespace: Option<&str>, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-netns", namespace]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| "start ip (Debian package iproute2)".to_owned())?;
    if let Some(mut stdin) = child.stdin.take() {
        let text = lines.join("\n") + "\n";
        stdin.write_all(text.as_bytes()).context(|| "write to ip".to_owned())?;
    }
    let output = child.wait_with_output().context(|| "wait for ip".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let place = namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default();
    Err(Error::Command {
        what: format!("`ip {}`{place}", failed_line(&said, lines)),
        said: first_line(&said),
    })
}

/// `ip -batch` ends with `Command failed -:3`: the third line failed.
fn failed_line(said: &str, lines: &[String]) -> String {
    let number = said.lines().find_map(|line| line.strip_prefix("Command failed -:")?.trim().parse().ok());
    let line = number.and_then(|number: usize| lines.get(number.checked_sub(1)?));
    line.cloned().unwrap_or_else(|| "-batch".to_owned())
}

fn first_line(said: &str) -> String {
    said.lines().next().unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_failed_is_named() {
        let lines = ["link add a".to_owned(), "link set b up".to_owned()];
        assert_eq!(failed_line("Cannot find device \"b\"\nCommand failed -:2\n", &lines), "link set b up");
        assert_eq!(failed_line("Command failed -:9\n", &lines), "-batch");
    }
}
