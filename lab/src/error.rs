//! What can go wrong with a lab, told so that a person knows what failed, on what, and what to do.

use std::io;
use std::path::PathBuf;

/// An error of the lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces and switches need root.
    #[error("a lab makes network namespaces and switches, which needs root: run it as root (or with sudo)")]
    NotRoot,
    /// A program is not installed.
    #[error("{program} is not installed: install the Debian package {package} (or its equivalent)")]
    MissingProgram {
        /// The program.
        program: String,
        /// The package that has it.
        package: &'static str,
    },
    /// The kernel cannot forward as it is asked to.
    #[error(
        "the kernel has no module {module}: load it with `modprobe {module}`, or take the userspace datapath \
         (`--datapath netdev`)"
    )]
    MissingModule {
        /// The module.
        module: &'static str,
    },
    /// A binary of Ferrule is not where it should be.
    #[error(
        "{path} is not there: build it with `cargo build --release`, or say where it is with --bin-dir or \
         FERRULE_BIN_DIR"
    )]
    MissingBinary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is no lab in this state directory.
    #[error("no lab is up in {state}: start one with `ferrule lab up` (and the same --state)")]
    NotUp {
        /// The state directory.
        state: PathBuf,
    },
    /// There is one already.
    #[error(
        "a lab is up in {state} already: use it, take it down with `ferrule lab down`, or start another with --state"
    )]
    AlreadyUp {
        /// The state directory.
        state: PathBuf,
    },
    /// Another command works on the same lab.
    #[error("another command is at work on {state}: wait for it, or end it, and try again")]
    Busy {
        /// The state directory.
        state: PathBuf,
    },
    /// The state directory cannot hold the sockets, or is something else's.
    #[error("the state directory {state} cannot be used: {why}")]
    BadState {
        /// The state directory.
        state: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// An option has no sense.
    #[error("{0}")]
    BadOption(String),
    /// No such node.
    #[error("there is no node {name}: the lab has {known}")]
    UnknownNode {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No such pod.
    #[error("there is no pod {name} in the lab: see `ferrule lab status`{hint}")]
    UnknownPod {
        /// What was asked for.
        name: String,
        /// Names that are alike.
        hint: String,
    },
    /// No such component.
    #[error("there is no component {name}: take one of {known}")]
    UnknownComponent {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A program that the lab called failed.
    #[error("{what} failed: {said}")]
    Command {
        /// What it was to do, with the command.
        what: String,
        /// What it said.
        said: String,
    },
    /// Something did not become ready in time.
    #[error("{what} was not ready after {seconds} s{detail}")]
    NotReady {
        /// Who, and where its log is.
        what: String,
        /// How long it was waited for.
        seconds: u64,
        /// The last thing that is known of it.
        detail: String,
    },
    /// The manifests cannot be used at all.
    #[error("the manifests in {directory} cannot be used: {why}")]
    Manifests {
        /// The directory.
        directory: PathBuf,
        /// Why.
        why: String,
    },
    /// The manifests say one thing, the controller holds another.
    #[error(
        "{file} is not in force as it stands there, so there is nothing to compare with: {why}; correct it and try again \
         (`ferrule get problems`)"
    )]
    NotInForce {
        /// The file.
        file: PathBuf,
        /// What the controller says of it.
        why: String,
    },
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A daemon's HTTP answer was not what the contract says.
    #[error("{endpoint} {what}")]
    Http {
        /// Whom we asked.
        endpoint: String,
        /// What went wrong.
        what: String,
    },
    /// A bundle that cannot be used.
    #[error("{0}")]
    Bundle(String),
    /// Ctrl-C or a termination signal.
    #[error("interrupted")]
    Interrupted,
}

/// A result of the lab.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says on what an IO error happened.
pub(crate) trait Context<T> {
    /// Wraps an error as "cannot `what`".
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}
