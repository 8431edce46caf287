//! The node's devices and delegated IPAM plugins, as far as deletions concern them. It must not know what is deleted why.

use std::collections::BTreeSet;

use api::cni::{Failure, Tombstone, code};

/// Whose the host's network state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Ours.
    Managed,
    /// Somebody else's: nothing is looked at or touched.
    Foreign,
}

impl Host {
    /// Whether a network device is there; `None` where that is not ours to see.
    pub fn has_device(self, name: &str) -> Option<bool> {
        (self == Self::Managed).then(|| nix::net::if_::if_nametoindex(name).is_ok())
    }

    /// Deletes a veth and gives the addresses of a delegated plugin back.
    pub async fn take_back(self, owed: Tombstone) -> Result<(), Failure> {
        self.blocking(move || cni::take_back::take_back(&owed)).await.unwrap_or(Ok(()))
    }

    /// Deletes the veths of a network but these; gives their names.
    pub async fn sweep(self, network: String, keep: BTreeSet<String>) -> Result<Vec<String>, Failure> {
        self.blocking(move || cni::take_back::sweep(&network, &keep)).await.unwrap_or(Ok(Vec::new()))
    }

    async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Option<Result<T, Failure>> {
        if self == Self::Foreign {
            return None;
        }
        let broken = |error: tokio::task::JoinError| Failure {
            code: code::IO,
            msg: format!("a deletion broke off: {error}; try again, and read the agent's log"),
            details: String::new(),
        };
        Some(tokio::task::spawn_blocking(work).await.map_err(broken).and_then(|outcome| outcome))
    }
}
