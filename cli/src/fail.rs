//! How a command ends: exit codes (docs/contracts.md) and errors for people.

use std::process::ExitCode;

/// How a command that could be done came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 0: as expected, allowed, or no change.
    Expected,
    /// 1: could not be done; what went wrong was said.
    Failed,
    /// 2: differences, changes, or denied.
    Differences,
    /// 3: something that was expected is not so.
    Broken,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Expected => 0,
            Outcome::Failed => 1,
            Outcome::Differences => 2,
            Outcome::Broken => 3,
        })
    }
}

/// Why a command could not be done.
#[derive(Debug)]
pub enum Fail {
    /// To be printed.
    Said(String),
    /// Nobody listens any more (a closed pipe), or it was said already.
    Quiet,
    /// The exit code of a program that was run for the user.
    Exit(u8),
}

impl From<lab::Error> for Fail {
    fn from(error: lab::Error) -> Self {
        Self::Said(error.to_string())
    }
}

impl From<String> for Fail {
    fn from(message: String) -> Self {
        Self::Said(message)
    }
}

impl From<std::io::Error> for Fail {
    /// Only writing to standard output ends here.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Quiet,
            _ => Self::Said(format!("cannot write to the standard output: {error}")),
        }
    }
}
