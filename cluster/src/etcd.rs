//! What only somebody with etcd itself can do: compact its history, and bring back an older state of it.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::control_plane::{Component, ControlPlane};
use crate::error::{Context, Error, Result};
use crate::https::Request;

/// A copy of everything that etcd held at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    directory: PathBuf,
}

impl ControlPlane {
    /// The revision of etcd's store: what the resourceVersion of the object written last is.
    pub fn revision(&self) -> Result<u64> {
        // The key of one zero byte, in base64: before every other.
        let answer = self.ask_etcd("kv/range", r#"{"key":"AA==","count_only":true}"#)?;
        let read: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        // 64-bit numbers are strings in protobuf's JSON.
        let revision = read["header"]["revision"].as_str().and_then(|text| text.parse().ok());
        revision.ok_or_else(|| Error::Answer {
            server: "etcd",
            what: format!("did not tell its revision: {}", answer.trim()),
        })
    }

    /// Forgets everything before a revision: whoever wants to go on from there has to list anew.
    pub fn compact(&self, revision: u64) -> Result<()> {
        self.ask_etcd("kv/compaction", &format!(r#"{{"revision":"{revision}","physical":true}}"#)).map(drop)
    }

    /// Copies etcd's data; it is stopped meanwhile.
    pub fn back_up(&self, directory: &Path) -> Result<Backup> {
        self.stop(Component::Etcd, Signal::SIGTERM)?;
        let copied = copy(&self.etcd_data(), directory);
        self.start(Component::Etcd)?;
        copied.map(|()| Backup { directory: directory.to_owned() })
    }

    /// Puts a copy in the place of what etcd holds now. The API server is restarted, as the documentation of etcd demands
    /// after a restore: it would answer from its cache otherwise.
    pub fn restore(&self, backup: &Backup) -> Result<()> {
        self.stop(Component::ApiServer, Signal::SIGKILL)?;
        self.stop(Component::Etcd, Signal::SIGKILL)?;
        let data = self.etcd_data();
        std::fs::remove_dir_all(&data).context(|| format!("remove {}", data.display()))?;
        copy(&backup.directory, &data)?;
        self.start(Component::Etcd)?;
        self.start(Component::ApiServer)
    }

    fn ask_etcd(&self, path: &str, body: &str) -> Result<String> {
        let path = format!("/v3/{path}");
        let request = Request { method: "POST", path: &path, content_type: "application/json", body };
        let answer = self.etcd_server().plain(&request.text())?;
        answer.success()
    }
}

/// Copies a directory of files and directories.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).context(|| format!("make {}", to.display()))?;
    let entries = std::fs::read_dir(from).context(|| format!("read {}", from.display()))?;
    for entry in entries {
        let entry = entry.context(|| format!("read {}", from.display()))?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &place)?;
        } else {
            std::fs::copy(&path, &place).context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}
