//! Garbage: attachments whose container is gone, addresses without an attachment, deletions that came while there was no
//! agent. Collected at the start (containerd never calls GC) and now and then.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use api::cni::Tombstone;

use super::attach::Attacher;
use crate::ipam::{Ipam, Wanted};
use crate::owner::{Ask, ask};

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(60);

/// Where the CNI binary leaves deletions that it could not hand over ([`Tombstone`]).
pub fn tombstones(state_dir: &Path) -> PathBuf {
    state_dir.join("tombstones")
}

/// Collects for ever.
pub async fn run(attacher: Attacher, tombstones: PathBuf, clock: fn() -> SystemTime) {
    loop {
        replay(&attacher, &tombstones, clock()).await;
        orphans(&attacher, clock()).await;
        reclaim(&attacher, clock()).await;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Carries out the deletions that were left.
async fn replay(attacher: &Attacher, tombstones: &Path, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(tombstones) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue; // being written
        }
        let read = std::fs::read(&path).ok();
        let read = read.and_then(|text| serde_json::from_slice::<Tombstone>(&text).ok());
        let Some(Tombstone { id, .. }) = read else {
            tracing::warn!(path = %path.display(), "a damaged tombstone is taken away");
            let _ = std::fs::remove_file(&path);
            continue;
        };
        match attacher.del(&id, now).await {
            Ok(()) => {
                tracing::info!(
                    container = id.container_id,
                    "a deletion from while the agent was away is done"
                );
                let _ = std::fs::remove_file(&path);
            }
            Err(failure) => tracing::warn!(error = failure.msg, "a tombstone waits for the next try"),
        }
    }
}

/// Frees attachments whose device is gone, and with it the container, and addresses that no attachment has.
async fn orphans(attacher: &Attacher, now: SystemTime) {
    let Some(snapshot) = ask(&attacher.asks, Ask::Snapshot).await else { return };
    for attachment in &snapshot.attachments {
        match attacher.del_if_gone(attachment, now).await {
            Ok(false) => {}
            Ok(true) => {
                let container = &attachment.id.container_id;
                tracing::info!(container, "its device is gone: the attachment is freed");
            }
            Err(failure) => tracing::warn!(error = failure.msg, "an attachment waits for the next try"),
        }
    }
    let Ok(held) = attacher.ipam.list().await else { return };
    for allocation in held {
        let id = &allocation.id;
        // An ADD takes the address before it makes the record; it holds the lock for both.
        let _held = attacher.locks.hold(&id.container_id).await;
        let Ok(records) = attacher.store.load() else { return };
        if !records.contains_key(id) {
            tracing::info!(container = id.container_id, "an address without an attachment is freed");
            if let Err(error) = attacher.ipam.release(id, now).await {
                tracing::warn!(%error, "an address waits for the next try");
            }
        }
    }
}

/// Attachments of whose addresses the record of addresses knows nothing (a damaged disk): they get them again, before
/// anybody else does.
async fn reclaim(attacher: &Attacher, now: SystemTime) {
    let Ok(records) = attacher.store.load() else { return };
    let Ok(held) = attacher.ipam.list().await else { return };
    let lost =
        records.into_values().filter(|record| !held.iter().any(|allocation| allocation.id == record.id));
    for record in lost {
        let _held = attacher.locks.hold(&record.id.container_id).await;
        // It may have gone while the lock was awaited.
        if !attacher.store.load().is_ok_and(|records| records.contains_key(&record.id)) {
            continue;
        }
        let container = record.id.container_id.clone();
        let addresses = record.addresses.iter().map(|address| address.address).collect();
        let wanted = Wanted { id: record.id, network: record.network, pod: record.pod, addresses };
        match attacher.ipam.allocate(wanted, now).await {
            Ok(_) => tracing::warn!(
                container,
                "its addresses were missing in the record of addresses: claimed again"
            ),
            Err(error) => tracing::error!(
                container, %error,
                "its addresses are missing in the record of addresses and cannot be claimed: delete the pod"
            ),
        }
    }
}
