//! What outlives the controller, in `--state-dir`: the epoch and the agents' bindings. Knows nothing of what they mean.
//!
//! **Epochs.** Manifests have no history of their own: revisions are counted in memory, and what agents have acknowledged
//! before is overtaken by reading the directory again ([`crate::state::State::confirm`]). The number is saved so that a
//! restart need not learn it from them; no clock is asked.
//!
//! **Bindings.** A restarted controller that knew no bindings would take all addresses out of every address set until the
//! agents have called again; so they are saved, one file per node, and a lost file costs only a short wait
//! ([`crate::floor::SETTLE`]).

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use api::watermark::Epoch;
use network::NodeName;

use crate::bindings::NodeBindings;

/// Why something could not be saved or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct StoreError {
    /// `read`, `write`, `create`.
    pub what: &'static str,
    /// Which file or directory.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    move |source| StoreError { what, path: path.to_owned(), source }
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Makes the directory when it is missing.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let bindings = directory.join("bindings");
        std::fs::create_dir_all(&bindings).map_err(failed("create", &bindings))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The saved epoch; the first one when none was saved or it is damaged, for agents bring what was acknowledged.
    pub fn epoch(&self) -> Result<Epoch, StoreError> {
        let path = self.epoch_file();
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "the saved epoch is damaged; the agents tell it");
                Epoch(1)
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Epoch(1)),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Saves an epoch.
    pub fn save_epoch(&self, epoch: Epoch) -> Result<(), StoreError> {
        replace(&self.epoch_file(), format!("{epoch}\n").as_bytes(), 0o644)
    }

    /// Every node's bindings. A damaged file is told and left out: its agent will call.
    pub fn bindings(&self) -> Result<BTreeMap<NodeName, NodeBindings>, StoreError> {
        let directory = self.directory.join("bindings");
        let mut nodes = BTreeMap::new();
        for entry in std::fs::read_dir(&directory).map_err(failed("read", &directory))? {
            let path = entry.map_err(failed("read", &directory))?.path();
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            let Some(node) = name.filter(|name| !name.starts_with('.')) else { continue };
            let text = std::fs::read(&path).map_err(failed("read", &path))?;
            match serde_json::from_slice(&text) {
                Ok(bindings) => {
                    nodes.insert(NodeName::new(node), bindings);
                }
                Err(error) => {
                    tracing::warn!(%error, %node, path = %path.display(), "saved bindings are damaged; waiting for the agent");
                }
            }
        }
        Ok(nodes)
    }

    /// Saves a node's bindings.
    pub fn save_bindings(&self, node: &NodeName, bindings: &NodeBindings) -> Result<(), StoreError> {
        let path = self.directory.join("bindings").join(format!("{node}.json"));
        let text = serde_json::to_vec(bindings).map_err(|error| failed("write", &path)(error.into()))?;
        replace(&path, &text, 0o644)
    }

    /// A thread that saves bindings, so that nobody waits for a disk. It ends when every sender is gone.
    pub fn writer(&self) -> Result<(mpsc::SyncSender<Saving>, std::thread::JoinHandle<()>), StoreError> {
        let (sender, receiver) = mpsc::sync_channel::<Saving>(64);
        let store = self.clone();
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
            while let Ok((node, bindings)) = receiver.recv() {
                if let Err(error) = store.save_bindings(&node, &bindings) {
                    tracing::error!(%error, %node, "bindings are not saved; a restart will wait for this agent");
                }
            }
        });
        Ok((sender, thread.map_err(failed("create", &self.directory))?))
    }

    fn epoch_file(&self) -> PathBuf {
        self.directory.join("epoch")
    }
}

/// A node and what it reported.
pub type Saving = (NodeName, NodeBindings);

/// Writes a file so that a reader sees the old or the new content, whole.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.new"));
    let write = || {
        // A draft left by a crash may have other permissions.
        let _ = std::fs::remove_file(&draft);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_outlives_us_and_damage_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.epoch().unwrap(), Epoch(1));
        store.save_epoch(Epoch(7)).unwrap();
        assert_eq!(store.epoch().unwrap(), Epoch(7));
        std::fs::write(directory.path().join("epoch"), "garbage").unwrap();
        assert_eq!(store.epoch().unwrap(), Epoch(1));
    }

    #[test]
    fn bindings_outlive_us_and_damage_costs_one_node() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let held = NodeBindings { revision: 4, ..NodeBindings::default() };
        store.save_bindings(&NodeName::new("node-1"), &held).unwrap();
        std::fs::write(directory.path().join("bindings/node-2.json"), "{").unwrap();
        assert_eq!(store.bindings().unwrap(), [(NodeName::new("node-1"), held)].into());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Store::open(file.path()).unwrap_err().to_string();
        assert!(error.starts_with("cannot create") && error.contains("bindings"), "{error}");
    }
}
