//! What a DEL leaves for an agent that is away (`api::cni::Tombstone`): durable before the DEL succeeds.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use api::cni::{AttachmentId, Tombstone};

fn folder(state: &Path) -> PathBuf {
    state.join("tombstones")
}

/// Whether one was left for the attachment.
pub(crate) fn exists(state: &Path, id: &AttachmentId) -> bool {
    folder(state).join(Tombstone::file_name(id)).exists()
}

/// Leaves one.
pub(crate) fn leave(state: &Path, tombstone: &Tombstone) -> io::Result<()> {
    let folder = folder(state);
    fs::create_dir_all(&folder)?;
    let name = Tombstone::file_name(&tombstone.id);
    // The agent passes over what does not end in `.json`.
    let beside = folder.join(format!("{name}.{}", std::process::id()));
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(tombstone)?)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    File::open(&folder)?.sync_all()
}

/// Removes the attachment's, when the agent has done its DEL.
pub(crate) fn remove(state: &Path, id: &AttachmentId) -> io::Result<()> {
    match fs::remove_file(folder(state).join(Tombstone::file_name(id))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_per_attachment_whatever_the_length_of_its_id() {
        let state = tempfile::tempdir().unwrap();
        let id = AttachmentId { container_id: "c".repeat(300), interface: "eth0".into() };
        let tombstone = Tombstone { id: id.clone(), network: "ferrule".into() };
        assert!(!exists(state.path(), &id));
        for _ in 0..2 {
            leave(state.path(), &tombstone).unwrap();
        }
        let files: Vec<_> =
            fs::read_dir(folder(state.path())).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        let read: Tombstone = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
        assert_eq!(read, tombstone);
        remove(state.path(), &id).unwrap();
        remove(state.path(), &id).unwrap();
        assert!(!exists(state.path(), &id));
    }
}
