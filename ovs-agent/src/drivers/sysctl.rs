//! Kernel settings under `/proc/sys`: read, compare, write what differs. It must not know what a setting is good for.
//!
//! `/proc/sys/net` shows the network namespace of the thread that reads it, which is the node's.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// The settings of one namespace.
#[derive(Clone, Debug)]
pub struct Sysctls {
    root: PathBuf,
}

/// A setting that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The name would lead out of the tree.
    #[error("{0:?} is no name of a kernel setting: write it as net/ipv4/ip_forward")]
    Name(String),
    /// This kernel does not have it.
    #[error("the kernel has no setting {name}: the device or the kernel module it belongs to is missing")]
    Missing {
        /// The setting.
        name: String,
    },
    /// It cannot be read or written.
    #[error(
        "kernel setting {name} cannot be made {value:?}: {error}; ferrule-agent needs root and a writable /proc/sys \
         (a privileged container)"
    )]
    Io {
        /// The setting.
        name: String,
        /// What it should be.
        value: String,
        /// What the system said.
        error: io::Error,
    },
}

impl Default for Sysctls {
    fn default() -> Self {
        Self { root: "/proc/sys".into() }
    }
}

impl Sysctls {
    /// Those under another root.
    pub fn under(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Writes every setting that differs: the names of those, and the errors of the others. One error does not keep the
    /// rest from being set.
    pub fn realize(&self, settings: &BTreeMap<String, String>) -> (Vec<String>, Vec<SysctlError>) {
        let (mut written, mut failed) = (Vec::new(), Vec::new());
        for (name, value) in settings {
            match self.set(name, value) {
                Ok(true) => written.push(name.clone()),
                Ok(false) => {}
                Err(error) => failed.push(error),
            }
        }
        (written, failed)
    }

    /// Every setting that differs: its name, as it should be, as it is; and what could not be read.
    pub fn differing(
        &self,
        settings: &BTreeMap<String, String>,
    ) -> (Vec<(String, String, String)>, Vec<SysctlError>) {
        let (mut differing, mut failed) = (Vec::new(), Vec::new());
        for (name, value) in settings {
            match self.read(name, value) {
                Ok((_, is)) if is.split_whitespace().eq(value.split_whitespace()) => {}
                Ok((_, is)) => differing.push((name.clone(), value.clone(), is.trim().to_owned())),
                Err(error) => failed.push(error),
            }
        }
        (differing, failed)
    }

    /// Where one is, and what it is.
    fn read(&self, name: &str, value: &str) -> Result<(PathBuf, String), SysctlError> {
        let path = self.path(name)?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => SysctlError::Missing { name: name.to_owned() },
            _ => SysctlError::Io { name: name.to_owned(), value: value.to_owned(), error },
        };
        let is = std::fs::read_to_string(&path).map_err(failed)?;
        Ok((path, is))
    }

    /// Sets one; says whether it had to be written.
    fn set(&self, name: &str, value: &str) -> Result<bool, SysctlError> {
        let (path, is) = self.read(name, value)?;
        // The kernel writes tabs between numbers and a newline behind them.
        if is.split_whitespace().eq(value.split_whitespace()) {
            return Ok(false);
        }
        match std::fs::write(&path, value) {
            Ok(()) => Ok(true),
            Err(error) => Err(SysctlError::Io { name: name.to_owned(), value: value.to_owned(), error }),
        }
    }

    /// Names are apart by slashes, or by dots where no part can hold a dot (a device's name can).
    fn path(&self, name: &str) -> Result<PathBuf, SysctlError> {
        let name = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) || name.contains('\0') {
            return Err(SysctlError::Name(name));
        }
        Ok(self.root.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_one_error_stops_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("net/ipv4/conf/eth0.5");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("rp_filter"), "1\n").unwrap();
        std::fs::write(root.path().join("net/ipv4/ip_forward"), "1\n").unwrap();
        std::fs::write(root.path().join("net/ipv4/range"), "1\t2\n").unwrap();
        let settings = [
            ("net.ipv4.ip_forward", "1"),
            ("net/ipv4/conf/eth0.5/rp_filter", "2"),
            ("net/ipv4/conf/gone/rp_filter", "2"),
            ("net/../../etc", "2"),
            ("net.ipv4.range", "1 2"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let sysctls = Sysctls::under(root.path());
        let one = ("net/ipv4/conf/eth0.5/rp_filter".to_owned(), "2".to_owned(), "1".to_owned());
        assert_eq!(sysctls.differing(&settings).0, [one]);
        let (written, failed) = sysctls.realize(&settings);
        assert_eq!(written, ["net/ipv4/conf/eth0.5/rp_filter"]);
        assert_eq!(std::fs::read_to_string(folder.join("rp_filter")).unwrap(), "2");
        assert!(matches!(failed.as_slice(), [SysctlError::Name(_), SysctlError::Missing { .. }]));
        assert!(sysctls.realize(&settings).0.is_empty());
    }
}
