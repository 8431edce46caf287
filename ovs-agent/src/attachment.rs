//! Attachments: what is plugged into this node, kept as one small file each. The files are the truth; the database of the
//! switch is compared with them. This module must not know the switch or the controller.
//!
//! A file need not survive a power cut, since the containers do not either; it must survive the agent, so it is written
//! beside and renamed, and never half there.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use api::cni::{AddRequest, AttachmentId, Delegate, PodAddress, PodIdentity, Tombstone};
use compiler::LocalPort;
use network::{Mac, NamespacedName};
use serde::{Deserialize, Serialize};

/// One end of a veth pair whose other end is in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which.
    pub id: AttachmentId,
    /// `name` of the network configuration: garbage is collected per network.
    pub network: String,
    /// The container's namespace.
    pub netns: String,
    /// The host's end.
    pub host_interface: String,
    /// The pod, where the runtime said.
    pub pod: Option<PodIdentity>,
    /// The container's Ethernet address.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<PodAddress>,
    /// The delegated IPAM plugin that has to take the addresses back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<Delegate>,
}

impl Attachment {
    /// What a request becomes once it has addresses. `None` without an address: there is nothing to guard then.
    pub fn new(request: &AddRequest, addresses: Vec<PodAddress>) -> Option<Self> {
        // IPv4 first, so that a pod keeps its Ethernet address when IPv6 is added to the cluster.
        let naming = addresses.iter().find(|a| a.address.is_ipv4()).or(addresses.first())?;
        Some(Self {
            id: request.id.clone(),
            network: request.network.clone(),
            netns: request.netns.clone(),
            host_interface: request.host_interface.clone(),
            pod: request.pod.clone(),
            mac: request.mac.unwrap_or_else(|| Mac::from_address(naming.address)),
            addresses,
            ipam: request.ipam.clone(),
        })
    }

    /// What it leaves behind outside the agent.
    pub fn tombstone(&self) -> Tombstone {
        Tombstone { id: self.id.clone(), network: self.network.clone(), ipam: self.ipam.clone() }
    }

    /// `namespace/name` of the pod.
    pub fn pod_name(&self) -> Option<NamespacedName> {
        self.pod.as_ref().map(|pod| NamespacedName::new(&*pod.namespace, &*pod.name))
    }

    /// The pod, or what stands for it in messages.
    pub fn title(&self) -> String {
        match &self.pod {
            Some(pod) => format!("pod {}/{}", pod.namespace, pod.name),
            None => format!("container {} interface {}", self.id.container_id, self.id.interface),
        }
    }

    /// As the compiler wants it. `uid` is the pod's, which an old runtime does not give.
    pub fn local_port(&self, uid: Option<&str>) -> LocalPort {
        LocalPort {
            interface: self.host_interface.clone(),
            pod: self.pod.as_ref().map(|pod| {
                let uid = if pod.uid.is_empty() { uid.unwrap_or_default() } else { &pod.uid };
                (NamespacedName::new(&*pod.namespace, &*pod.name), uid.to_owned())
            }),
            mac: self.mac,
            addresses: self.addresses.iter().map(|address| address.address).collect(),
        }
    }
}

/// The folder of attachments.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// A file of the folder could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {error}; free space or mend the disk, then try again")]
pub struct StoreError {
    action: &'static str,
    path: String,
    error: io::Error,
}

impl StoreError {
    fn new(action: &'static str, path: &Path, error: io::Error) -> Self {
        Self { action, path: path.display().to_string(), error }
    }
}

impl Store {
    /// Opens the folder, which is made when missing.
    pub fn open(folder: PathBuf) -> Result<Self, StoreError> {
        let failed = |error| StoreError::new("make the folder", &folder, error);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        // What a crash left beside. Later such a file is somebody's who writes.
        for path in std::fs::read_dir(&folder).map_err(failed)?.filter_map(|entry| Some(entry.ok()?.path())) {
            if !is_record(&path) {
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(Self { folder })
    }

    /// Everything that is recorded. A file that cannot be read as an attachment is taken away, with a warning: its
    /// address and port are then found to be nobody's and are collected.
    pub fn load(&self) -> Result<BTreeMap<AttachmentId, Attachment>, StoreError> {
        let failed = |error| StoreError::new("read the folder", &self.folder, error);
        let mut attachments = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !is_record(&path) {
                continue;
            }
            let read = match std::fs::read(&path) {
                // Freed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.map_err(|error| StoreError::new("read", &path, error))?,
            };
            match serde_json::from_slice::<Attachment>(&read) {
                Ok(attachment) if self.path(&attachment.id) == path => {
                    attachments.insert(attachment.id.clone(), attachment);
                }
                Ok(_) => self.discard(&path, "its name does not fit its content"),
                Err(error) => self.discard(&path, &error.to_string()),
            }
        }
        Ok(attachments)
    }

    fn discard(&self, path: &Path, error: &str) {
        tracing::warn!(path = %path.display(), error, "a damaged attachment record is taken away");
        let _ = std::fs::remove_file(path);
    }

    /// Whether one is recorded.
    pub fn contains(&self, id: &AttachmentId) -> bool {
        self.path(id).exists()
    }

    /// Whether a record could be written now.
    pub fn probe(&self) -> Result<(), StoreError> {
        // Several may ask at once.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = self.folder.join(format!("probe-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let text = [b' '; 4096];
        let outcome = replace_file(&path, &text, Durability::Process);
        outcome
            .and_then(|()| std::fs::remove_file(&path))
            .map_err(|error| StoreError::new("write", &path, error))
    }

    /// Records an attachment.
    pub fn put(&self, attachment: &Attachment) -> Result<(), StoreError> {
        let path = self.path(&attachment.id);
        // Strings, numbers and addresses: JSON always takes them.
        let text = serde_json::to_vec(attachment).unwrap_or_default();
        replace_file(&path, &text, Durability::Process)
            .map_err(|error| StoreError::new("write", &path, error))
    }

    /// Forgets an attachment; nothing happens when there is none.
    pub fn remove(&self, id: &AttachmentId) -> Result<(), StoreError> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::new("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, id: &AttachmentId) -> PathBuf {
        self.folder.join(format!("{}.json", id.host_interface()))
    }
}

fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// What a file must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process.
    Process,
    /// A power cut.
    Power,
}

/// Writes beside and renames, so that a reader sees the old content or the new one.
pub fn replace_file(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    use std::io::Write;
    replace_file_by(path, durability, |file| file.write_all(content))
}

/// The same with whatever `write` writes.
pub fn replace_file_by(
    path: &Path,
    durability: Durability,
    write: impl FnOnce(&mut std::fs::File) -> io::Result<()>,
) -> io::Result<()> {
    let beside = path.with_extension("new");
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        write(&mut file)?;
        if durability == Durability::Power { file.sync_all() } else { Ok(()) }
    });
    match written.and_then(|()| std::fs::rename(&beside, path)) {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = std::fs::remove_file(&beside);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container: &str) -> Attachment {
        let id = AttachmentId { container_id: container.into(), interface: "eth0".into() };
        Attachment {
            host_interface: id.host_interface(),
            id,
            network: "ferrule".into(),
            netns: "/run/netns/x".into(),
            pod: Some(PodIdentity { namespace: "shop".into(), name: "cart".into(), uid: String::new() }),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec![PodAddress {
                address: "10.244.1.2".parse().unwrap(),
                gateway: "10.244.1.1".parse().unwrap(),
                range: None,
            }],
            ipam: None,
        }
    }

    #[test]
    fn records_are_read_back_and_garbage_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("attachments")).unwrap();
        let (one, two) = (attachment("a"), attachment("b"));
        store.put(&one).unwrap();
        store.put(&two).unwrap();
        store.remove(&two.id).unwrap();
        store.remove(&two.id).unwrap();
        for garbage in ["half.new", "torn.json"] {
            std::fs::write(store.folder.join(garbage), b"{\"id\":").unwrap();
        }
        std::fs::copy(store.path(&one.id), store.folder.join("other.json")).unwrap();
        let expected = BTreeMap::from([(one.id.clone(), one.clone())]);
        assert_eq!(store.load().unwrap(), expected);
        let left = || std::fs::read_dir(&store.folder).unwrap().count();
        assert_eq!(left(), 2, "somebody may be writing it");
        assert_eq!(Store::open(store.folder.clone()).unwrap().load().unwrap(), expected);
        assert_eq!(left(), 1);
    }

    #[test]
    fn who_reads_all_disturbs_nobody_who_writes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("attachments")).unwrap();
        let one = attachment("a");
        std::thread::scope(|scope| {
            let probes = [0, 1].map(|_| scope.spawn(|| (0..500).try_for_each(|_| store.probe())));
            let puts = scope
                .spawn(|| (0..500).try_for_each(|_| store.put(&one).and_then(|()| store.remove(&one.id))));
            let reads = scope.spawn(|| (0..500).try_for_each(|_| store.load().map(drop)));
            let all = probes.into_iter().chain([puts, reads]);
            all.for_each(|thread| thread.join().unwrap().unwrap());
        });
    }

    #[test]
    fn the_uid_of_the_view_stands_in_for_a_runtime_that_gives_none() {
        let port = attachment("a").local_port(Some("u1"));
        assert_eq!(port.pod, Some((NamespacedName::new("shop", "cart"), "u1".into())));
    }

    #[test]
    fn a_folder_that_cannot_be_made_names_itself() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Store::open(file.path().join("attachments")).unwrap_err().to_string();
        assert!(error.contains("attachments"), "{error}");
    }
}
