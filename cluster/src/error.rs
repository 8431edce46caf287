//! What can go wrong with a cluster, told so that a person knows what failed, on what, and what to do.

use std::io;
use std::path::PathBuf;

/// An error of the cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kubernetes cannot be built without it.
    #[error(
        "no Go 1.24 or newer: {found}; install it from https://go.dev/dl (or your distribution) and put it on PATH"
    )]
    NoGo {
        /// What there is instead.
        found: String,
    },
    /// Nobody said where the built programs shall be.
    #[error(
        "cannot tell where cargo's target directory is: say with --build-dir where the programs shall be built"
    )]
    NoBuildDirectory,
    /// A version has another form.
    #[error("`{version}` is no Kubernetes version: write MAJOR.MINOR.PATCH, such as {example}")]
    BadVersion {
        /// What was said.
        version: String,
        /// One that works.
        example: &'static str,
    },
    /// `go` did not succeed.
    #[error("building {what} failed: `{command}` said:\n{said}\nits folder is {directory}")]
    Build {
        /// The program.
        what: String,
        /// The call of go.
        command: String,
        /// Its last lines.
        said: String,
        /// Where it was called.
        directory: PathBuf,
    },
    /// There is no cluster in this state directory.
    #[error("no cluster is up in {state}: start one with `cargo xtask cluster up` (and the same --state)")]
    NotUp {
        /// The state directory.
        state: PathBuf,
    },
    /// There is one already.
    #[error(
        "a cluster is up in {state} already: use it, take it down with `cargo xtask cluster down`, or start another with --state"
    )]
    AlreadyUp {
        /// The state directory.
        state: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of {subject}: {source}")]
    Certificate {
        /// Whose.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A server did not answer as it should.
    #[error("{server} {what}")]
    Answer {
        /// Whom we asked.
        server: &'static str,
        /// What was wrong.
        what: String,
    },
    /// A program of the distribution is missing.
    #[error(
        "there is no `{program}` on this machine, which an image is made of: `cargo xtask cluster up` as root installs it"
    )]
    NoProgram {
        /// Its name.
        program: String,
    },
    /// The cluster has no such node, or it does not run.
    #[error("no node {node} runs in {state}: see `cargo xtask cluster status`")]
    NoNode {
        /// What was asked for.
        node: String,
        /// The state directory.
        state: PathBuf,
    },
    /// A node did not become one.
    #[error("{node} {what}\nthe logs of its containerd and kubelet are in {logs}")]
    NodeFailed {
        /// Its name.
        node: String,
        /// What is wrong.
        what: String,
        /// The folder of the logs.
        logs: PathBuf,
    },
    /// The system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Namespaces and processes.
    #[error(transparent)]
    Lab(#[from] lab::Error),
}

/// A result of the cluster.
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
