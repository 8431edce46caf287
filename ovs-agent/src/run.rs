//! Starts the agent: reads what was kept, opens the sockets, joins owner and drivers. Decides nothing afterwards.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use cni::generic::Generic;
use compiler::{Datapath, NodeConfig};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::attachment::{Store, StoreError};
use crate::cni::attach::Attacher;
use crate::cni::host::Host;
use crate::cni::{collect, server};
use crate::drivers::copies::Copies;
use crate::drivers::nftables::Nftables;
use crate::drivers::{audit, clock, controller, database, discovery, health_check, host, switch};
use crate::insight::{Insight, http};
use crate::ipam::{BuiltIn, FileDisk, IpamError};
use crate::metrics::Metrics;
use crate::node::{Node, Start};
use crate::owner::{self, Outputs};
use crate::saved::{Saved, Slot};
use crate::seen::Seen;
use crate::settings::{DatapathChoice, HostNetworkState, Services, Settings};

/// Why the agent cannot start. What can be tried again later is not here.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder or a socket of ours cannot be made.
    #[error("cannot {action} {path}: {error}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// An address that is not this node's, or that somebody else has.
    #[error("cannot listen at {address} ({flag}): {error}")]
    Listen {
        /// Who names it.
        flag: &'static str,
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Another agent uses the same state.
    #[error("another agent uses {0}: end that one first, or give this one its own --state-dir")]
    InUse(PathBuf),
    /// The record of attachments.
    #[error(transparent)]
    Attachments(#[from] StoreError),
    /// The record of addresses.
    #[error(transparent)]
    Addresses(#[from] IpamError),
    /// A part of the agent ended that never should.
    #[error("the {0} ended; the log says why")]
    Part(&'static str),
}

/// Events and questions that wait for the owner.
const INBOX: usize = 256;
/// Work that waits for a driver.
const OUTBOX: usize = 256;

/// Runs the agent until `ended` is ready.
pub async fn run(settings: Settings, ended: impl Future<Output = ()>) -> Result<(), StartError> {
    let state_dir = settings.state_dir.clone();
    std::fs::create_dir_all(&state_dir).map_err(file("make the folder", &state_dir))?;
    let _lock = lock(&state_dir)?;
    let store = Store::open(state_dir.join("attachments"))?;
    let attachments = store.load()?;
    let disk = state_dir.join("addresses");
    let disk = FileDisk::new(&disk).map_err(file("open", &disk))?;
    let (name, ranges) = (settings.node.clone(), settings.pod_cidrs.clone());
    let ipam = BuiltIn::open(name, ranges, BuiltIn::REST, Box::new(disk), clock::steady())?;
    let ipam = Arc::new(ipam);
    let suspects = Arc::new(Mutex::new(ipam.used()));
    let saved_path = Saved::path(&state_dir);
    let saved = Saved::load(&saved_path).unwrap_or_else(|error| {
        tracing::error!(%error, "starting without the saved state");
        Saved::default()
    });
    let cni_listener =
        server::listen(&settings.cni_socket).map_err(file("listen at", &settings.cni_socket))?;
    let api_listener =
        server::listen(&settings.api_socket).map_err(file("listen at", &settings.api_socket))?;
    let metrics_listener = match settings.metrics_tcp {
        None => None,
        Some(address) => {
            let bound = tokio::net::TcpListener::bind(address).await;
            Some(bound.map_err(|error| StartError::Listen { flag: "--metrics-tcp", address, error })?)
        }
    };

    let mut config = NodeConfig::new(settings.node.clone(), datapath(settings.datapath), FIRST_MTU);
    config.flow_budget = settings.flow_budget;
    config.services = settings.services == Services::Balance;
    config.node_port_addresses.clone_from(&settings.nodeport_addresses);
    tracing::info!(
        node = %config.node,
        datapath = config.datapath.as_str(),
        attachments = attachments.len(),
        version = env!("CARGO_PKG_VERSION"),
        "ferrule-agent starts"
    );
    let own_source = api::watermark::Watermark::bindings_of(&settings.node);
    let revision = first_revision(saved.watermark.revision(&own_source), SystemTime::now());
    let discovery = settings.discovery();
    let node = Node::new(Start {
        config: config.clone(),
        described: network::Node {
            name: settings.node.clone(),
            labels: Default::default(),
            addresses: settings.node_addresses.clone(),
            pod_cidrs: settings.pod_cidrs.clone(),
            ..network::Node::default()
        },
        saved,
        attachments,
        has_controllers: !settings.controllers.is_empty() || discovery.is_some(),
        revision,
    });

    let metrics = Arc::new(Metrics::default());
    let (events, event_inbox) = mpsc::channel(INBOX);
    let (asks, ask_inbox) = mpsc::channel(INBOX);
    let (to_switch, switch_commands) = mpsc::channel(OUTBOX);
    let (to_stream, stream_commands) = mpsc::channel(OUTBOX);
    let (to_database, database_wanted) = watch::channel(database::Wanted::default());
    let (to_host, host_wanted) = watch::channel(None);
    let (to_balancers, health_checks) = watch::channel(Arc::default());
    let to_disk = Arc::new(Slot::default());
    let (decide, decisions) = mpsc::channel(audit::WAITING);
    let outputs = Outputs {
        database: to_database,
        host: to_host,
        switch: to_switch.clone(),
        stream: to_stream,
        health_checks: to_balancers,
        save: Arc::clone(&to_disk),
        ipam: Arc::clone(&ipam),
        metrics: Arc::clone(&metrics),
    };
    let clock = clock::steady;
    let nftables = Nftables::new(compiler::host::NFTABLES_TABLE);
    let insight = Insight {
        asks: asks.clone(),
        switch: to_switch,
        ipam: Arc::clone(&ipam),
        metrics: Arc::clone(&metrics),
        keeps_host: settings.host_network_state == HostNetworkState::Manage,
        rundir: settings.ovs_rundir.clone(),
        nftables: nftables.clone(),
        clock,
    };
    let attacher = Attacher {
        asks,
        ipam,
        store,
        locks: Arc::default(),
        host: match settings.host_network_state {
            HostNetworkState::Manage => Host::Managed,
            HostNetworkState::Ignore => Host::Foreign,
        },
        state: state_dir.clone(),
        suspects,
    };
    let credentials = controller::Credentials {
        authority: settings.controller_ca.clone(),
        name: settings.controller_name.clone(),
        token: settings.token_file.clone(),
    };
    let mut known: BTreeSet<String> = settings.controllers.iter().cloned().collect();
    known.extend(discovery.iter().flat_map(|discovery| discovery::remembered(&discovery.kept)));
    let (found, addresses) = watch::channel(known);

    let mut parts = JoinSet::new();
    let mut part = |name: &'static str, task: futures::future::BoxFuture<'static, ()>| {
        parts.spawn(async move {
            task.await;
            name
        });
    };
    part("owner", Box::pin(owner::run(node, event_inbox, ask_inbox, outputs)));
    let socket = settings.openflow_socket(&config.bridge);
    let copies = Copies { seen: Seen::default(), audit: decide, clock: SystemTime::now };
    part("switch driver", Box::pin(switch::run(socket, switch_commands, events.clone(), copies)));
    let log = settings.audit_log.clone().unwrap_or_else(|| state_dir.join("audit.jsonl"));
    let sources = audit::Sources {
        asks: attacher.asks.clone(),
        switch: insight.switch.clone(),
        clock: SystemTime::now,
    };
    part("audit log", Box::pin(audit::run(log, config.node.clone(), decisions, sources)));
    let socket = settings.database_socket();
    let bridge = config.bridge.clone();
    part("database driver", Box::pin(database::run(socket, bridge, database_wanted, events.clone())));
    let underlay = host::Underlay {
        device: settings.underlay_device.clone(),
        addresses: settings.node_addresses.clone(),
    };
    let managed = settings.host_network_state == HostNetworkState::Manage;
    part("host driver", Box::pin(host::run(managed, underlay, nftables, host_wanted, events.clone())));
    let failed = Arc::new(tokio::sync::Notify::new());
    // Held to the end: the addresses of a list do not change.
    let (discovery, _listed) = match discovery {
        Some(discovery) => (Some((discovery, found)), None),
        None => (None, Some(found)),
    };
    if let Some((discovery, found)) = discovery {
        let task = discovery::run(discovery, found, Arc::clone(&failed), random);
        part("discovery of controllers", Box::pin(task));
    }
    let streams =
        controller::run(credentials, addresses, stream_commands, events, insight.clone(), failed, random);
    part("controller streams", Box::pin(streams));
    part("health checks", Box::pin(health_check::run(health_checks)));
    part("saver", Box::pin(save(saved_path, to_disk)));
    part("garbage collector", Box::pin(collect::run(attacher.clone(), clock)));
    part("CNI server", Box::pin(server::run(cni_listener, attacher, metrics, clock)));
    if let Some(listener) = metrics_listener {
        part("metrics server", Box::pin(http::monitor(listener, insight.clone())));
    }
    part("API server", Box::pin(http::run(api_listener, insight)));

    tokio::select! {
        () = ended => {
            tracing::info!("ferrule-agent ends; the switch goes on with what it holds");
            Ok(())
        }
        part = parts.join_next() => Err(StartError::Part(match part {
            Some(Ok(name)) => name,
            Some(Err(error)) => {
                tracing::error!(%error, "a part of the agent failed");
                "part that failed"
            }
            None => "agent",
        })),
    }
}

/// Until the underlay's is known: Ethernet's, in bytes.
const FIRST_MTU: u32 = 1500;

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> StartError + 'a {
    move |error| StartError::File { action, path: path.to_owned(), error }
}

/// Held as long as the process lives, whatever ends it.
fn lock(state_dir: &Path) -> Result<nix::fcntl::Flock<std::fs::File>, StartError> {
    let path = state_dir.join("lock");
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let opened = opened.map_err(file("open", &path))?;
    nix::fcntl::Flock::lock(opened, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        match errno {
            nix::errno::Errno::EWOULDBLOCK => StartError::InUse(state_dir.to_owned()),
            errno => StartError::File { action: "lock", path, error: errno.into() },
        }
    })
}

fn datapath(choice: DatapathChoice) -> Datapath {
    match choice {
        DatapathChoice::System => Datapath::System,
        DatapathChoice::Netdev => Datapath::Netdev,
        DatapathChoice::Auto => {
            // ovs-vswitchd would have the module loaded by the same question: who of us comes first makes no difference.
            let asked = Generic::connect().and_then(|generic| generic.family("ovs_datapath"));
            match asked {
                Ok(Some(_)) => Datapath::System,
                Ok(None) => Datapath::Netdev,
                Err(error) => {
                    tracing::warn!(%error, "the kernel does not say whether it has a datapath of Open vSwitch: taking userspace's");
                    Datapath::Netdev
                }
            }
        }
    }
}

/// Greater than before, also after a restart: microseconds grow faster than pods are plugged. If the clock went back, what
/// was acknowledged last is the floor.
fn first_revision(acknowledged: u64, now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0).max(acknowledged + 1)
}

/// Numbers in 0..1 for the waits between connections; nobody has to be unable to guess them.
fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::hash::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Keeps the newest state on disk; one that cannot be kept is tried again, unless there is a newer one by then.
async fn save(path: PathBuf, slot: Arc<Slot>) {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
    const RETRY: std::time::Duration = std::time::Duration::from_secs(5);
    loop {
        let mut saved = slot.take().await;
        loop {
            let path = path.clone();
            let stored = tokio::task::spawn_blocking(move || {
                let outcome = saved.store(&path);
                (saved, outcome)
            });
            match stored.await {
                Ok((_, Ok(()))) => break,
                Ok((unsaved, Err(error))) => {
                    tracing::error!(%error, "the state is not kept; the node works on");
                    saved = unsaved;
                }
                Err(error) => {
                    tracing::error!(%error, "the state is not kept; the node works on");
                    break;
                }
            }
            tokio::time::sleep(RETRY).await;
            if let Some(newer) = slot.try_take() {
                saved = newer;
            }
        }
        // Changes come in bursts, and only the last state counts.
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_on_one_state_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let _first = lock(folder.path()).unwrap();
        assert!(matches!(lock(folder.path()), Err(StartError::InUse(_))));
    }

    #[test]
    fn revisions_grow_even_when_the_clock_goes_back() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        assert_eq!(first_revision(0, now), 1_000_000);
        assert_eq!(first_revision(5_000_000, now), 5_000_001);
    }

    #[test]
    fn random_numbers_are_in_range() {
        assert!((0..100).map(|_| random()).all(|number| (0.0..1.0).contains(&number)));
    }
}
