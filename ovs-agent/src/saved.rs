//! The last state that a controller gave and the switch confirmed, on disk, so that an agent that starts without a
//! controller enforces it. It must not know who writes it when.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::generated::ferrule::v1alpha1 as wire;
use api::watermark::Watermark;
use network::NodeView;
use prost::Message;

use crate::attachment::{Durability, replace_file};

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
        let delta = wire::Delta::decode(body).map_err(|error| malformed(error.to_string()))?;
        let watermark = api::delta::watermark(&delta).map_err(|error| malformed(error.to_string()))?;
        let mut view = NodeView::default();
        let applied = api::delta::apply(&mut view, &delta);
        if let Some(rejection) = applied.rejected.first() {
            return Err(malformed(rejection.reason.clone()));
        }
        Ok(Self { view: Arc::new(view), watermark })
    }

    /// Keeps the state, whole or not at all.
    pub fn store(&self, path: &Path) -> Result<(), SavedError> {
        let delta = wire::Delta {
            watermark: Some(api::convert::encode_watermark(&self.watermark)),
            changed: api::delta::whole(&self.view),
            ..wire::Delta::default()
        };
        let content = [BEGINNING, &delta.encode_to_vec()].concat();
        replace_file(path, &content, Durability::Power).map_err(|error| SavedError::Io {
            action: "write",
            path: path.display().to_string(),
            error,
        })
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
