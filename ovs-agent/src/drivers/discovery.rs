//! Where the controllers are: reads one list of EndpointSlices from the API server at its real address, now, when a
//! controller was lost, and now and then. The last good list outlives us, for a start without an API server. It needs no
//! ClusterIP, no DNS and no Kubernetes client, and it must not know what controllers are for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ovsdb::Backoff;
use tokio::sync::{Notify, watch};

use super::endpoint_slice::{self, ServiceName};
use super::https::{self, Server};
use crate::attachment::{Durability, replace_file};

/// What is read, and where what was read is kept.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// API servers, asked in turn.
    pub servers: Vec<Server>,
    /// The controllers' Service.
    pub service: ServiceName,
    /// The file of the last good list.
    pub kept: PathBuf,
}

/// How often the list is read although nothing happens.
const NOW_AND_THEN: Duration = Duration::from_secs(60);
/// The least time between two reads.
const LEAST: Duration = Duration::from_secs(1);

/// Where the list is kept below the folder of states.
pub fn kept(state_dir: &Path) -> PathBuf {
    state_dir.join("controllers")
}

/// What was found last.
pub fn remembered(kept: &Path) -> BTreeSet<String> {
    match std::fs::read_to_string(kept) {
        Ok(text) => text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(%error, path = %kept.display(), "the controllers found last are not known");
            }
            BTreeSet::new()
        }
    }
}

/// Runs until nobody wants to know. `failed` says that a controller was not reached.
pub async fn run(
    discovery: Discovery,
    found: watch::Sender<BTreeSet<String>>,
    failed: Arc<Notify>,
    random: fn() -> f64,
) {
    let mut backoff = Backoff::new(LEAST, Duration::from_secs(30));
    let mut trouble = String::new();
    // A controller that stays away must not make every agent of the cluster ask all the time.
    let mut eager = LEAST;
    for turn in 0_usize.. {
        let pause = match read(&discovery, turn).await {
            Ok(addresses) => {
                backoff.succeeded();
                if !std::mem::take(&mut trouble).is_empty() {
                    tracing::info!(service = %discovery.service, "the API server says again where the controllers are");
                }
                if take(&discovery, &found, addresses) {
                    eager = LEAST;
                }
                NOW_AND_THEN
            }
            Err(error) => {
                if error != trouble {
                    tracing::warn!(service = %discovery.service, error, "cannot find out where the controllers are; those known last are dialled");
                    trouble = error;
                }
                backoff.failed()
            }
        };
        let pause = pause.mul_f64(0.5 + random().clamp(0.0, 1.0) / 2.0);
        tokio::select! {
            () = found.closed() => return,
            () = tokio::time::sleep(pause) => eager = LEAST,
            () = failed.notified(), if trouble.is_empty() => {
                // Many agents lose a controller at the same time.
                tokio::time::sleep(eager.mul_f64(1.0 + random().clamp(0.0, 1.0))).await;
                eager = (eager * 2).min(NOW_AND_THEN);
            }
        }
    }
}

async fn read(discovery: &Discovery, turn: usize) -> Result<BTreeSet<String>, String> {
    let count = discovery.servers.len().max(1);
    let Some(server) = discovery.servers.get(turn % count) else {
        return Err("no API server is given; give --api-server".into());
    };
    let url = &server.url;
    let body =
        https::get(server, &discovery.service.path()).await.map_err(|error| format!("{url}: {error}"))?;
    endpoint_slice::controllers(&body).map_err(|error| format!("{url}: {error}"))
}

/// Whether there is something new in it.
fn take(discovery: &Discovery, found: &watch::Sender<BTreeSet<String>>, addresses: BTreeSet<String>) -> bool {
    if addresses.is_empty() {
        // Between two controllers there may be none; the old ones are the best guess, and nobody else is.
        tracing::warn!(service = %discovery.service, "the Service has no endpoints; the controllers known last are dialled");
        return false;
    }
    if *found.borrow() == addresses {
        return false;
    }
    tracing::info!(controllers = ?addresses, "the controllers");
    let text: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    if let Err(error) = replace_file(&discovery.kept, text.as_bytes(), Durability::Power) {
        tracing::error!(%error, path = %discovery.kept.display(), "where the controllers are is not kept");
    }
    found.send_replace(addresses);
    true
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
