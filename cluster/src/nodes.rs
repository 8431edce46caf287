//! The nodes of a cluster from outside: their namespaces and cables, their processes, and when they are there. What a node is
//! inside is `node`'s.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::process::{Process, start_time};
use lab::progress::{Event, Progress, step};
use lab::{NodeIndex, ip, netns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::control_plane::{BRIDGE, ControlPlane};
use crate::error::{Context, Error, Result};
use crate::https::Request;
use crate::{cgroup, images};

/// A node has so much of an image registry as these archives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Nodes {
    /// How many.
    pub count: u8,
    /// The command `cluster`, which a node's first process is.
    pub command: PathBuf,
    /// docker-archives that every node imports, besides what a cluster needs itself.
    pub images: Vec<PathBuf>,
    /// Whether the images of Kubernetes' own tests are among them.
    pub for_tests: bool,
    /// Whether nodes, pods and Services have addresses of IPv6 besides those of IPv4.
    #[serde(default)]
    pub dual_stack: bool,
}

/// More make no sense on one machine.
pub const MAX_NODES: u8 = 32;

/// Where nodes keep images and pods: a file system that can be below an overlay, unlike /run on many machines.
const DATA: &str = "/var/lib/ferrule/cluster";

/// Nodes are spread over so many zones: as many as Kubernetes' own tests want.
const ZONES: u8 = 3;

/// A node's end of its cable.
pub(crate) const UPLINK: &str = "eth0";

/// How long a node may take to be known to the API server, on a machine that builds something beside.
const LIMIT: Duration = Duration::from_secs(180);

impl Nodes {
    /// Programs that run on them or beside them.
    pub(crate) fn programs(&self) -> Vec<&'static str> {
        let mut programs = vec!["kubelet", "kube-scheduler", "kubectl", "pause", "coredns"];
        if self.for_tests {
            programs.extend(["agnhost", "agnhost-sctp"]);
        }
        programs
    }

    /// Names of the images that a cluster makes for itself.
    pub(crate) fn own_images(&self) -> Vec<&'static str> {
        let more = if self.for_tests { images::FOR_TESTS } else { &[] };
        images::NEEDED.iter().chain(more).copied().collect()
    }

    /// All of them.
    pub fn indexes(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (1..=self.count).map(NodeIndex)
    }
}

/// Where everything of one node is.
#[derive(Clone, Debug)]
pub struct NodePlace {
    /// `node-1` …
    pub name: String,
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// And of the other family, where it has one.
    pub second: Option<Ipv6Addr>,
    /// The zone that it is said to be in: what Services ask of zones can be seen.
    pub zone: String,
    /// Its network namespace.
    pub namespace: String,
    /// What is written about it.
    pub directory: PathBuf,
    /// What containerd and kubelet keep.
    pub data: PathBuf,
}

impl NodePlace {
    /// The process id, as this machine sees it, of the node's first process.
    pub fn init(&self) -> Option<i32> {
        std::fs::read_to_string(self.directory.join(INIT)).ok()?.trim().parse().ok()
    }

    pub(crate) fn groups(&self) -> PathBuf {
        self.directory.join("control-groups")
    }
}

/// The file that a node's first process writes its id to.
pub(crate) const INIT: &str = "init.pid";

impl ControlPlane {
    /// A node, whether or not it runs.
    pub fn node(&self, node: NodeIndex) -> NodePlace {
        let layout = self.layout();
        let name = node.name().as_str().to_owned();
        NodePlace {
            address: Ipv4Addr::new(172, 29, layout.octet(), 10 + node.0),
            second: self.is_dual_stack().then(|| self.second(10 + node.0)),
            zone: format!("zone-{}", (node.0 - 1) % ZONES + 1),
            namespace: format!("{}{name}", layout.namespace_prefix()),
            directory: layout.state().join(&name),
            data: data(layout).join(&name),
            name,
        }
    }

    /// Whether it has both families.
    pub fn is_dual_stack(&self) -> bool {
        self.nodes().is_some_and(|nodes| nodes.dual_stack)
    }

    /// An address of IPv6 on the underlay; 1 is the control plane's.
    fn second(&self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x172, 0x29, self.layout().octet().into(), 0, 0, 0, host.into())
    }

    /// A command inside a node, in all its namespaces.
    pub fn on_node(&self, node: NodeIndex, program: &str) -> Result<Command> {
        let place = self.node(node);
        let init = place.init().ok_or_else(|| Error::NoNode {
            node: place.name.clone(),
            state: self.layout().state().to_owned(),
        })?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={init}"));
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--", "env", "-i"]);
        command.args(["HOME=/root", "TERM=xterm", &format!("PATH={}", super::node::PATH), program]);
        Ok(command)
    }

    pub(crate) fn start_nodes(&self, nodes: &Nodes, progress: &Progress<'_>) -> Result<()> {
        let places: Vec<_> = nodes.indexes().map(|node| self.node(node)).collect();
        step(progress, "cables", || self.cables(&places))?;
        for place in &places {
            for directory in [&place.directory, &place.data] {
                std::fs::create_dir_all(directory).context(|| format!("make {}", directory.display()))?;
            }
            self.pki().node(&place.name, place.address.into(), &self.server())?;
        }
        let began = Instant::now();
        progress(Event::Began("nodes"));
        for place in &places {
            self.start_node(nodes, place)?;
        }
        for (count, place) in places.iter().enumerate() {
            self.wait_for_node(place)?;
            progress(Event::Part("nodes", count + 1, places.len()));
        }
        progress(Event::Finished("nodes", began.elapsed()));
        step(progress, "CoreDNS", || self.name_server())
    }

    fn start_node(&self, nodes: &Nodes, place: &NodePlace) -> Result<()> {
        let mut command = Command::new(&nodes.command);
        command.arg("--state").arg(self.layout().state()).args(["node", &place.name]);
        let namespace = netns::path(&place.namespace);
        Process::start(self.layout(), &place.name, Some(&namespace), &command)?;
        Ok(())
    }

    /// A namespace for each, and a cable from the control plane's bridge.
    fn cables(&self, places: &[NodePlace]) -> Result<()> {
        let namespaces: Vec<_> = places.iter().map(|place| place.namespace.clone()).collect();
        netns::create(&namespaces)?;
        let own = self.namespace();
        netns::run(&netns::path(&own), || {
            let path = "/proc/sys/net/ipv4/ip_forward";
            std::fs::write(path, "1").context(|| format!("write {path}"))
        })??;
        if self.is_dual_stack() {
            netns::run(&netns::path(&own), || {
                let path = "/proc/sys/net/ipv6/conf/all/forwarding";
                std::fs::write(path, "1").context(|| format!("write {path}"))
            })??;
            ip::batch(Some(&own), &[format!("addr add {}/64 dev {BRIDGE} nodad", self.second(1))])?;
        }
        for NodePlace { name, namespace, address, second, .. } in places {
            ip::batch(
                Some(&own),
                &[
                    format!("link add {name} type veth peer name {UPLINK} netns {namespace}"),
                    format!("link set {name} master {BRIDGE} up"),
                ],
            )?;
            ip::batch(
                Some(namespace),
                &[
                    format!("addr add {address}/24 dev {UPLINK}"),
                    format!("link set {UPLINK} up"),
                    format!("route add default via {}", self.address().ip()),
                ],
            )?;
            if let Some(second) = second {
                ip::batch(
                    Some(namespace),
                    &[
                        format!("addr add {second}/64 dev {UPLINK} nodad"),
                        format!("route add default via {}", self.second(1)),
                    ],
                )?;
            }
            // Switches that read frames as they are want checksums made.
            for (namespace, device) in [(&own, name.as_str()), (namespace, UPLINK)] {
                lab::command::run_in(
                    &netns::path(namespace),
                    Command::new("ethtool").args(["-K", device, "tx", "off"]),
                )?;
            }
        }
        Ok(())
    }

    /// Until the API server knows it and its ranges, which the API server and tests in its namespace then find.
    fn wait_for_node(&self, place: &NodePlace) -> Result<()> {
        let began = Instant::now();
        let path = format!("/api/v1/nodes/{}", place.name);
        loop {
            self.interrupt().check()?;
            let answer = self.ask(&Request::get(&path)).ok().filter(|answer| answer.status == 200);
            let node: serde_json::Value =
                answer.and_then(|answer| serde_json::from_str(&answer.body).ok()).unwrap_or_default();
            let ranges = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
            let lines = ranges.filter_map(serde_json::Value::as_str).map(|range| {
                let second = place.second.filter(|_| range.contains(':'));
                let via = second.map_or_else(|| place.address.to_string(), |second| second.to_string());
                format!("route replace {range} via {via} dev {BRIDGE}")
            });
            let lines: Vec<_> = lines.collect();
            if !lines.is_empty() {
                return Ok(ip::batch(Some(&self.namespace()), &lines)?);
            }
            let process = Process::find(self.layout(), &place.name);
            let words = || process.as_ref().map(Process::last_words).unwrap_or_default();
            let ended = !process.as_ref().is_some_and(Process::is_alive);
            if ended || began.elapsed() > LIMIT {
                let what = if ended { "ended" } else { "is not known to the API server in time" };
                return Err(Error::NodeFailed {
                    node: place.name.clone(),
                    what: format!("{what}{}", words()),
                    logs: self.layout().logs(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn name_server(&self) -> Result<()> {
        let text = include_str!("coredns.yaml")
            .replace("IMAGE", images::COREDNS)
            .replace("API_SERVER_ADDRESS", &self.address().ip().to_string())
            .replace("API_SERVER_PORT", &self.address().port().to_string())
            .replace("DNS_ADDRESS", &crate::flags::DNS_SERVICE.to_string());
        let path = self.layout().state().join("coredns.yaml");
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        let mut apply = self.tool("kubectl");
        apply.arg("apply").arg("-f").arg(&path);
        lab::command::run_in(&netns::path(&self.namespace()), &mut apply)?;
        Ok(())
    }
}

fn data(layout: &lab::Layout) -> PathBuf {
    Path::new(DATA).join(layout.id())
}

/// Ends every node of a state directory with all its pods, and removes what they kept.
pub(crate) fn remove(layout: &lab::Layout) -> Result<()> {
    let entries = std::fs::read_dir(layout.state()).into_iter().flatten().flatten();
    let directories: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.join(INIT).is_file()).collect();
    let ids: Vec<i32> = directories
        .iter()
        .filter_map(|directory| std::fs::read_to_string(directory.join(INIT)).ok()?.trim().parse().ok())
        .collect();
    // unshare(1) takes the first process along when it ends, and that all others of its process namespace.
    for process in Process::all(layout).iter().filter(|process| process.name.starts_with("node-")) {
        process.end(layout, Signal::SIGKILL)?;
    }
    for id in ids {
        let began = Instant::now();
        while belongs(id, layout) && began.elapsed() < Duration::from_secs(10) {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    for directory in &directories {
        cgroup::remove(&directory.join("control-groups"))?;
    }
    let data = data(layout);
    match std::fs::remove_dir_all(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", data.display()))
        }
        _ => {
            // Others may have theirs beside.
            let _ = std::fs::remove_dir(DATA);
            Ok(())
        }
    }
}

/// Whether the process runs and still is a node of this cluster: it is in one of its network namespaces.
fn belongs(id: i32, layout: &lab::Layout) -> bool {
    let names = netns::list(&layout.namespace_prefix()).unwrap_or_default();
    start_time(id).is_some() && netns::processes(&names).contains(&id)
}
