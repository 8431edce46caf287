//! Network namespaces of one test: made, entered by `ip netns exec`, and removed when dropped. Names carry the test's
//! process id, so that nothing of another run, and nothing of the machine, is ever touched.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A network namespace under `/run/netns`.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes `ferrule-test-PID-NAME`; `None`, with the reason, where that is not possible.
    pub fn new(name: &str) -> Result<Self, String> {
        if !nix_root() {
            return Err("it needs root".into());
        }
        let name = format!("ferrule-test-{}-{name}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        match made {
            Ok(output) if output.status.success() => Ok(Self { name }),
            Ok(output) => Err(format!("ip netns add: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("ip (iproute2) cannot be run: {error}")),
        }
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command that will run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a command inside; words are apart by white space.
    pub fn run(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or("true");
        let output = self.command(program).args(words).output();
        output.unwrap_or_else(|error| panic!("cannot run `{line}` in {}: {error}", self.name))
    }

    /// What a command that succeeds prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn text(&self, line: &str) -> String {
        let output = self.run(line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{line}` in {}: {error}", self.name);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about a failure here.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

fn nix_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
