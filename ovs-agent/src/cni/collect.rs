//! Garbage: attachments whose container is gone, addresses without an attachment, deletions that came while there was no
//! agent. Collected at the start (containerd never calls GC) and now and then.

use std::time::{Duration, SystemTime};

use cni::tombstone::Intent;

use super::attach::Attacher;
use crate::ipam::{Ipam, Wanted};
use crate::owner::{Ask, ask};

/// How often is looked: a look costs a system call per attachment.
const INTERVAL: Duration = Duration::from_secs(10);

/// Collects for ever.
pub async fn run(attacher: Attacher, clock: fn() -> SystemTime) {
    loop {
        replay(&attacher, clock()).await;
        orphans(&attacher, clock()).await;
        reclaim(&attacher, clock()).await;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Carries out the deletions that are owed: of calls that were killed, and of DELs while the agent was away.
pub async fn replay(attacher: &Attacher, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(cni::tombstone::folder(&attacher.state)) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let found = match Intent::found(&path) {
            Ok(Some(found)) => found,
            // A call is busy with it, or through.
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a tombstone cannot be read; it waits for the next try");
                continue;
            }
        };
        let (intent, owed) = found;
        match owed {
            Some(Ok(owed)) => match attacher.del_all(&owed, now).await {
                Ok(()) => {
                    tracing::info!(container = owed.id.container_id, "a deletion that was owed is done")
                }
                Err(failure) => {
                    tracing::warn!(error = failure.msg, "a tombstone waits for the next try");
                    continue;
                }
            },
            // It is written before anything is made.
            Some(Err(why)) => {
                tracing::warn!(path = %path.display(), why, "a damaged tombstone is taken away")
            }
            None => {}
        }
        if let Err(error) = intent.end() {
            tracing::warn!(path = %path.display(), %error, "a tombstone that is done cannot be removed");
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
        if !attacher.store.contains(id) {
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
        if !attacher.store.contains(&record.id) {
            continue;
        }
        let container = record.id.container_id.clone();
        let addresses = record.addresses.iter().map(|address| address.address).collect();
        let wanted =
            Wanted { id: record.id, network: record.network, pod: record.pod, addresses, exact: true };
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
