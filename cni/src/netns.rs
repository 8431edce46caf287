//! Working inside a container's network namespace, never by mistake in our own. It must not know what is done there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::{Scope, ScopedJoinHandle};

use api::cni::{Failure, code};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

/// An open network namespace that is not ours.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
}

/// Why there is no namespace to work in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("CNI_NETNS {0} does not exist: the container is gone, or its runtime gave a wrong path")]
    Missing(PathBuf),
    #[error("CNI_NETNS {0} is not a network namespace: give a path as /run/netns/NAME or /proc/PID/ns/net")]
    NoNamespace(PathBuf),
    #[error(
        "CNI_NETNS {0} is the namespace that ferrule-cni itself runs in: a host-network container gets no interface"
    )]
    Ours(PathBuf),
    #[error("cannot use CNI_NETNS {path}: {error}; ferrule-cni needs to run as root")]
    Io { path: PathBuf, error: io::Error },
}

impl From<NamespaceError> for Failure {
    fn from(error: NamespaceError) -> Self {
        let code = match error {
            NamespaceError::Missing(_) => code::UNKNOWN_CONTAINER,
            NamespaceError::NoNamespace(_) | NamespaceError::Ours(_) => code::INVALID_ENVIRONMENT,
            NamespaceError::Io { .. } => code::IO,
        };
        Self { code, msg: error.to_string(), details: String::new() }
    }
}

impl Namespace {
    pub(crate) fn open(path: &Path) -> Result<Self, NamespaceError> {
        let io = |error| NamespaceError::Io { path: path.to_owned(), error };
        // Not blocking: the path may be anything, a FIFO too.
        let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NamespaceError::Missing(path.to_owned()));
            }
            // What cannot be opened for reading (a socket, a folder on the way that is none) is no namespace.
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENXIO | nix::libc::ENOTDIR)) => {
                return Err(NamespaceError::NoNamespace(path.to_owned()));
            }
            other => other.map_err(io)?,
        };
        // After a reboot the plain file under a lost bind mount is still there.
        let kind = fstatfs(&file).map_err(|error| io(error.into()))?;
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(NamespaceError::NoNamespace(path.to_owned()));
        }
        let theirs = file.metadata().map_err(io)?;
        let ours = std::fs::metadata("/proc/self/ns/net").map_err(io)?;
        if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
            return Err(NamespaceError::Ours(path.to_owned()));
        }
        let namespace = Self { file };
        // A namespace of another kind looks the same until it is entered; now nothing has been made yet.
        match namespace.run(|| Ok(())) {
            Err(failure) if failure.code == code::INVALID_ENVIRONMENT => {
                Err(NamespaceError::NoNamespace(path.to_owned()))
            }
            Err(failure) => Err(io(io::Error::other(failure.msg))),
            Ok(()) => Ok(namespace),
        }
    }

    /// The open file, to hand a link over.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Runs `work` on a thread of its own inside the namespace; the thread ends with it, so nothing else is ever in
    /// there.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        std::thread::scope(|scope| joined(self.start(scope, work)))
    }

    /// The same, while the calling thread goes on; see [`joined`].
    pub(crate) fn start<'scope, T: Send + 'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, Result<T, Failure>> {
        scope.spawn(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|error| match error {
                nix::Error::EINVAL => Failure {
                    code: code::INVALID_ENVIRONMENT,
                    msg: "CNI_NETNS is a namespace, but not a network namespace".into(),
                    details: String::new(),
                },
                other => failure(format!(
                    "cannot enter the container's network namespace: {other}; ferrule-cni needs CAP_SYS_ADMIN"
                )),
            })?;
            work()
        })
    }
}

/// What the work gave.
pub(crate) fn joined<T>(inside: ScopedJoinHandle<'_, Result<T, Failure>>) -> Result<T, Failure> {
    inside.join().unwrap_or_else(|_| Err(failure("the work in the container's namespace broke off".into())))
}

fn failure(msg: String) -> Failure {
    Failure { code: code::IO, msg, details: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_of_a_container_is_told_apart() {
        let code_of = |path: &str| Failure::from(Namespace::open(Path::new(path)).unwrap_err()).code;
        assert_eq!(code_of("/run/netns/ferrule-no-such"), code::UNKNOWN_CONTAINER);
        assert_eq!(code_of("/proc/self/status"), code::INVALID_ENVIRONMENT);
        assert_eq!(code_of("/proc/self/status/net"), code::INVALID_ENVIRONMENT);
        assert_eq!(code_of("/proc/self/ns/net"), code::INVALID_ENVIRONMENT);
        let ours = Namespace::open(Path::new("/proc/self/ns/net")).unwrap_err();
        assert!(matches!(ours, NamespaceError::Ours(_)));
    }
}
