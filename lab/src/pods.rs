//! The pods of a lab: plugging and unplugging them through the CNI binary, and the responders that run in them. A pod that
//! fails is reported by name and never stops another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use api::cni::{PodIdentity, code};
use network::matrix::ServedPort;
use network::{NamespacedName, Pod};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cni::{self, Call};
use crate::error::{Context, Error, Result};
use crate::layout::{Layout, NodeIndex};
use crate::process::{Process, wait_until};
use crate::record::{PodRecord, Record};
use crate::{Interrupt, netns};

/// Pods that are plugged at a time: more would only wait for the same switch.
const PARALLEL: usize = 8;

/// How long an ADD that says "try again" is repeated, as kubelet would.
const RETRY_LIMIT: Duration = Duration::from_secs(20);

/// How long a responder may take to listen.
const RESPONDER_LIMIT: Duration = Duration::from_secs(10);

/// What a responder writes into its ready file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Ports that could not be opened, with the reason.
    pub failed: BTreeMap<ServedPort, String>,
}

/// Plugs pods, several at a time. `done` hears how many are; the records say what became of each.
pub fn plug_all(
    layout: &Layout,
    record: &Record,
    pods: &[&Pod],
    interrupt: &Interrupt,
    done: &(dyn Fn(usize) + Sync),
) -> Result<BTreeMap<NamespacedName, PodRecord>> {
    let namespaces: Vec<_> =
        pods.iter().filter(|pod| !pod.host_network).map(|pod| layout.pod_namespace(&pod.key)).collect();
    netns::create(&namespaces)?;
    let queue = Mutex::new(pods.iter());
    let records = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(pods.len()) {
            scope.spawn(|| {
                loop {
                    // Only a panic poisons these, and it ends everything anyway.
                    let next = queue.lock().unwrap_or_else(|e| e.into_inner()).next();
                    let Some(pod) = next.filter(|_| !interrupt.is_set()) else { return };
                    let Some(plugged) = plug(layout, record, pod, interrupt) else { continue };
                    let mut records = records.lock().unwrap_or_else(|e| e.into_inner());
                    records.insert(pod.key.clone(), plugged);
                    done(records.len());
                }
            });
        }
    });
    interrupt.check()?;
    Ok(records.into_inner().unwrap_or_else(|e| e.into_inner()))
}

/// Plugs one and starts its responder; `None` for a pod that is on none of the lab's nodes (the manifests' problem list says so).
fn plug(layout: &Layout, record: &Record, pod: &Pod, interrupt: &Interrupt) -> Option<PodRecord> {
    let node = record.node_of(pod.node.as_ref()?)?;
    let mut plugged = PodRecord {
        node,
        uid: pod.uid.clone(),
        container: String::new(),
        host_network: pod.host_network,
        addresses: Vec::new(),
        wanted: pod.addresses.clone(),
        serves: pod
            .ports
            .iter()
            .map(|port| ServedPort { protocol: port.protocol, port: port.number })
            .collect(),
        problem: None,
    };
    let connected = if pod.host_network {
        Ok(Ok(layout.node_addresses(node, record.family)))
    } else {
        plugged.container = cni::container_id(layout.id(), &identity(&pod.key, &pod.uid));
        add(layout, record, &pod.key, &plugged, interrupt)
    };
    match connected {
        Ok(Ok(addresses)) => plugged.addresses = addresses,
        Ok(Err(failure)) => {
            let details =
                if failure.details.is_empty() { String::new() } else { format!(" ({})", failure.details) };
            plugged.problem =
                Some(format!("could not be plugged: CNI error {}: {}{details}", failure.code, failure.msg));
        }
        Err(error) => plugged.problem = Some(format!("could not be plugged: {error}")),
    }
    if plugged.is_plugged() {
        match start_responder(layout, record, &pod.key, &plugged, interrupt) {
            Ok(ready) if ready.failed.is_empty() => {}
            Ok(ready) => {
                plugged.serves.retain(|port| !ready.failed.contains_key(port));
                plugged.problem = Some(ready.to_string());
            }
            Err(error) => {
                plugged.serves.clear();
                plugged.problem = Some(format!("its responder does not run: {error}"));
            }
        }
    }
    Some(plugged)
}

fn add(
    layout: &Layout,
    record: &Record,
    pod: &NamespacedName,
    plugged: &PodRecord,
    interrupt: &Interrupt,
) -> Result<cni::Answer> {
    let identity = identity(pod, &plugged.uid);
    let netns = netns::path(&layout.pod_namespace(pod));
    let call = Call {
        layout,
        binaries: &record.binaries,
        node: plugged.node,
        container: &plugged.container,
        netns: &netns,
        pod: &identity,
        addresses: &plugged.wanted,
    };
    let began = Instant::now();
    loop {
        interrupt.check()?;
        match cni::add(&call)? {
            Err(failure) if failure.code == code::TRY_AGAIN && began.elapsed() < RETRY_LIMIT => {
                // A runtime calls DEL before it tries again.
                let _ = cni::del(&call)?;
                std::thread::sleep(Duration::from_millis(200));
            }
            answer => return Ok(answer),
        }
    }
}

/// Takes a pod away: its responder, its attachment, its namespace.
pub fn unplug(layout: &Layout, record: &Record, pod: &NamespacedName, plugged: &PodRecord) -> Result<()> {
    if let Some(process) = Process::find(layout, &responder_name(pod)) {
        process.end(layout, Signal::SIGKILL)?;
    }
    if plugged.host_network {
        return Ok(());
    }
    let identity = identity(pod, &plugged.uid);
    let namespace = layout.pod_namespace(pod);
    let netns = netns::path(&namespace);
    let call = Call {
        layout,
        binaries: &record.binaries,
        node: plugged.node,
        container: &plugged.container,
        netns: &netns,
        pod: &identity,
        addresses: &[],
    };
    if let Err(failure) = cni::del(&call)? {
        return Err(Error::Command {
            what: format!("CNI DEL of pod {pod}"),
            said: format!("error {}: {} {}", failure.code, failure.msg, failure.details).trim().to_owned(),
        });
    }
    netns::remove(&[namespace])
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.failed.iter().map(|(port, why)| format!("{port} ({why})")).collect();
        let ports = ports.join(", ");
        write!(f, "its responder cannot serve {ports}: another pod on the node's network may have the port")
    }
}

/// Starts the responder of a pod and tells which ports it could not open.
pub fn start_responder(
    layout: &Layout,
    record: &Record,
    pod: &NamespacedName,
    plugged: &PodRecord,
    interrupt: &Interrupt,
) -> Result<Ready> {
    // In a node's namespace an answer must leave from the address that was asked.
    let addresses: &[IpAddr] = if plugged.host_network { &plugged.addresses } else { &[] };
    let namespace = netns::path(&plugged.namespace(layout, pod));
    let responder = Responder {
        process: responder_name(pod),
        identity: pod.to_string(),
        namespace: &namespace,
        serves: &plugged.serves,
        addresses,
    };
    responder.start(layout, record, interrupt)
}

/// Starts what answers on a node itself.
pub fn start_node_responder(
    layout: &Layout,
    record: &Record,
    node: NodeIndex,
    interrupt: &Interrupt,
) -> Result<()> {
    let namespace = netns::path(&layout.node_namespace(node));
    let responder = Responder {
        process: format!("{}.responder", node.name()),
        identity: format!("node:{}", node.name()),
        namespace: &namespace,
        serves: &node_serves(record, node),
        addresses: &[],
    };
    let ready = responder.start(layout, record, interrupt)?;
    if ready.failed.is_empty() {
        return Ok(());
    }
    let said = ready.failed.values().cloned().collect::<Vec<_>>().join(", ");
    Err(Error::Command { what: format!("starting the responder of {}", node.name()), said })
}

/// What a node itself serves: its own port, unless a host-network pod there has it.
pub fn node_serves(record: &Record, node: NodeIndex) -> BTreeSet<ServedPort> {
    let own = ServedPort { protocol: network::Protocol::Tcp, port: crate::layout::NODE_PORT };
    let taken = record
        .pods
        .values()
        .any(|pod| pod.host_network && pod.node == node && pod.is_plugged() && pod.serves.contains(&own));
    if taken { BTreeSet::new() } else { [own].into() }
}

/// What the outside serves.
pub const OUTSIDE_SERVES: ServedPort = ServedPort { protocol: network::Protocol::Tcp, port: 80 };

/// Starts what answers outside of the cluster.
pub fn start_outside_responder(layout: &Layout, record: &Record, interrupt: &Interrupt) -> Result<()> {
    let namespace = netns::path(&layout.underlay_namespace());
    let responder = Responder {
        process: "outside.responder".to_owned(),
        identity: network::matrix::Entry::Outside.to_string(),
        namespace: &namespace,
        serves: &[OUTSIDE_SERVES].into(),
        addresses: &[],
    };
    let ready = responder.start(layout, record, interrupt)?;
    if ready.failed.is_empty() {
        return Ok(());
    }
    Err(Error::Command { what: "starting the responder outside".to_owned(), said: ready.to_string() })
}

struct Responder<'a> {
    process: String,
    identity: String,
    namespace: &'a Path,
    serves: &'a BTreeSet<ServedPort>,
    addresses: &'a [IpAddr],
}

impl Responder<'_> {
    fn start(&self, layout: &Layout, record: &Record, interrupt: &Interrupt) -> Result<Ready> {
        if self.serves.is_empty() {
            return Ok(Ready::default());
        }
        let ready = layout.ready().join(&self.process);
        let _ = std::fs::remove_file(&ready);
        let mut command = Command::new(record.binaries.join("ferrule"));
        command.args(["lab", "responder", "--identity", &self.identity]);
        command.args(["--ready".as_ref(), ready.as_os_str()]);
        for port in self.serves {
            command.args(["--port", &port.to_string()]);
        }
        for address in self.addresses {
            command.args(["--address", &address.to_string()]);
        }
        let process = Process::start(layout, &self.process, Some(self.namespace), &command)?;
        wait_until(&process, RESPONDER_LIMIT, interrupt, || ready.exists())?;
        read_ready(&ready)
    }
}

/// Written beside and moved into place, so that whoever sees it sees all of it.
pub fn write_ready(path: &Path, ready: &Ready) -> Result<()> {
    // Names of pods have dots, so an extension is no safe place: two pods of a namespace would meet in one file.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let text = serde_json::to_vec(ready).context(|| "describe the responder".to_owned())?;
    std::fs::write(&beside, text).context(|| format!("write {}", beside.display()))?;
    std::fs::rename(&beside, path).context(|| format!("write {}", path.display()))
}

fn read_ready(path: &Path) -> Result<Ready> {
    let text = std::fs::read(path).context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).context(|| format!("read {}", path.display()))
}

fn responder_name(pod: &NamespacedName) -> String {
    format!("pod.{}.{}", pod.namespace(), pod.name())
}

fn identity(pod: &NamespacedName, uid: &str) -> PodIdentity {
    PodIdentity { namespace: pod.namespace().to_owned(), name: pod.name().to_owned(), uid: uid.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responders_of_one_namespace_do_not_meet_in_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..8).map(|pod| folder.path().join(format!("pod.shop.cart-{pod}"))).collect();
        std::thread::scope(|scope| {
            for path in &paths {
                scope.spawn(|| write_ready(path, &Ready::default()).unwrap());
            }
        });
        for path in &paths {
            assert_eq!(read_ready(path).unwrap(), Ready::default());
        }
    }
}
