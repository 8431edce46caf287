//! The last state that a controller gave and the switch confirmed, on disk, so that an agent that starts without a
//! controller enforces it. It must not know who writes it when.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use api::watermark::Watermark;
use network::NodeView;

use crate::attachment::{Durability, replace_file_by};

/// A state and how much it contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The view.
    pub view: Arc<NodeView>,
    /// Its watermark.
    pub watermark: Watermark,
}

/// How the file begins; behind it stands one delta that holds everything, as a controller would send it.
const BEGINNING: &[u8] = b"ferrule view 1\n";

/// The saved state could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The system refused.
    #[error("cannot {action} the saved state {path}: {error}; free space or mend the disk")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is none of ours.
    #[error(
        "the saved state {path} cannot be read ({why}); starting without it, the controller will send all"
    )]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Where the newest state waits for whoever keeps it. Only what waits is held: a state that somebody else holds has to be
/// copied before it can change.
#[derive(Debug, Default)]
pub struct Slot {
    waiting: Mutex<Option<Saved>>,
    filled: tokio::sync::Notify,
}

impl Slot {
    /// In place of what waits.
    pub fn put(&self, saved: Saved) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
        self.filled.notify_one();
    }

    /// What waits, if anything does.
    pub fn try_take(&self) -> Option<Saved> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What waits, once something does.
    pub async fn take(&self) -> Saved {
        loop {
            if let Some(saved) = self.try_take() {
                return saved;
            }
            self.filled.notified().await;
        }
    }
}

impl Saved {
    /// Where the state is kept below the folder of states.
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("view.pb")
    }

    /// Reads what was kept; nothing when there is none.
    pub fn load(path: &Path) -> Result<Self, SavedError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(SavedError::Io { action: "read", path: path.display().to_string(), error });
            }
        };
        let malformed = |why: String| SavedError::Malformed { path: path.display().to_string(), why };
        let body = bytes.strip_prefix(BEGINNING).ok_or_else(|| malformed("it begins otherwise".into()))?;
        let mut view = NodeView::default();
        let mut sums = api::delta::Sums::default();
        let watermark = api::delta::read_parts(body, |part| {
            let applied = api::delta::apply_with(&mut view, &mut sums, &part);
            applied.rejected.first().map_or(Ok(()), |rejection| Err(rejection.reason.clone()))
        });
        Ok(Self { watermark: watermark.map_err(malformed)?, view: Arc::new(view) })
    }

    /// Keeps the state, whole or not at all.
    pub fn store(&self, path: &Path) -> Result<(), SavedError> {
        let written = replace_file_by(path, Durability::Power, |file| {
            let mut file = std::io::BufWriter::new(file);
            file.write_all(BEGINNING)?;
            api::delta::write_parts(&self.view, &self.watermark, |part| file.write_all(part))?;
            file.flush()
        });
        written.map_err(|error| SavedError::Io { action: "write", path: path.display().to_string(), error })
    }
}

#[cfg(test)]
mod tests {
    use network::{Node, NodeName};

    use super::*;

    #[test]
    fn a_state_is_read_back_and_a_torn_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = Saved::path(folder.path());
        assert_eq!(Saved::load(&path).unwrap(), Saved::default());
        let mut saved = Saved::default();
        let name = NodeName::new("node-1");
        let node = Node {
            name: name.clone(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            addresses: vec!["192.168.0.1".parse().unwrap()],
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            ..Node::default()
        };
        Arc::make_mut(&mut saved.view).nodes.insert(name, node);
        saved.watermark.revisions.insert("manifests".into(), 7);
        saved.store(&path).unwrap();
        assert_eq!(Saved::load(&path).unwrap(), saved);

        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = Saved::load(&path).unwrap_err().to_string();
        assert!(error.contains("view.pb"), "{error}");
    }
}
