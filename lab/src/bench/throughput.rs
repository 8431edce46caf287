//! One TCP stream from pod to pod, beside the same over a bridge with a single NORMAL flow and ports of the same kind.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::EDIT_LIMIT;
use crate::command;
use crate::error::{Context, Error, Result};
use crate::lab::Lab;
use crate::layout::NodeIndex;
use crate::place::Place;
use crate::responder::SINK;
use crate::{ip, netns};

/// How long one stream runs.
const STREAM: Duration = Duration::from_millis(1500);

/// Streams of each kind, by turns; the middle one counts.
const ROUNDS: usize = 5;

/// Where the reference listens, and where a pod of the lab does is its own business.
const PORT: u16 = 5001;

/// The file that the benchmark writes, beside the manifests of the lab.
const SERVICE_FILE: &str = "zz-bench-service.yaml";

/// The bridge with one flow.
const BRIDGE: &str = "br-bench";

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Between two pods of one node.
    pub pods: f64,
    /// Between the same two, over a Service.
    pub service: f64,
    /// Between two ports of a bridge with one NORMAL flow.
    pub normal: f64,
}

impl Lab {
    /// Streams between two pods of one node that may talk, and over the reference.
    pub fn throughput(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Throughput> {
        let (from, to, node) = self.talkers()?;
        let reference = Normal::new(self, node, mtu(&from)?)?;
        let over = self.over_a_service(to)?;
        let (mut pods, mut service, mut normal) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            self.interrupt.check()?;
            pods.push(from.run(|| stream(to))??);
            service.push(from.run(|| stream(over))??);
            normal.push(reference.stream()?);
            progress(round + 1, ROUNDS);
        }
        self.without_service()?;
        Ok(Throughput { pods: middle(pods), service: middle(service), normal: middle(normal) })
    }

    /// Makes a Service with this one endpoint; where it is asked, once that is in force.
    pub(super) fn over_a_service(&self, endpoint: SocketAddr) -> Result<SocketAddr> {
        let (address, kind) = match endpoint.ip() {
            IpAddr::V4(_) => (IpAddr::from([10, 96, 250, 250]), "IPv4"),
            IpAddr::V6(_) => (IpAddr::from([0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xfafa]), "IPv6"),
        };
        self.replace_manifest(SERVICE_FILE, &service(address, endpoint, kind))?;
        let began = Instant::now();
        while !self.is_in_force()? {
            self.interrupt.check()?;
            if began.elapsed() > EDIT_LIMIT {
                return Err(Error::NotReady {
                    what: "the Service of the benchmark".to_owned(),
                    seconds: EDIT_LIMIT.as_secs(),
                    detail: String::new(),
                });
            }
        }
        Ok(SocketAddr::new(address, endpoint.port()))
    }

    /// Takes that Service out of the manifests.
    pub(super) fn without_service(&self) -> Result<()> {
        let path = self.record.manifests.join(SERVICE_FILE);
        std::fs::remove_file(&path).context(|| format!("remove {}", path.display()))
    }

    /// Two pods of one node, the second of which answers the first on a TCP port: as policy has it now.
    pub(super) fn talkers(&self) -> Result<(Place, SocketAddr, NodeIndex)> {
        let pods: Vec<_> =
            self.record.pods.iter().filter(|(_, pod)| pod.is_plugged() && !pod.host_network).collect();
        for (from_key, from) in &pods {
            for (to_key, to) in pods.iter().filter(|(key, to)| key != from_key && to.node == from.node) {
                let ports = to.serves.iter().filter(|served| served.protocol == network::Protocol::Tcp);
                for served in ports {
                    let (source, target) = (self.pod(&from_key.to_string())?, self.pod(&to_key.to_string())?);
                    let Some(address) = target.addresses().first().copied() else { continue };
                    let at = SocketAddr::new(address, served.port);
                    let open =
                        source.run(|| TcpStream::connect_timeout(&at, Duration::from_millis(300)).is_ok())?;
                    if open {
                        return Ok((source, at, from.node));
                    }
                }
            }
        }
        Err(Error::BadOption(
            "no two pods of one node may talk over TCP, so no stream can be measured".to_owned(),
        ))
    }
}

/// A Service, and its endpoint by hand.
fn service(address: IpAddr, endpoint: SocketAddr, kind: &str) -> String {
    let port = endpoint.port();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: ferrule-bench, namespace: default}}\n\
         spec: {{clusterIP: \"{address}\", clusterIPs: [\"{address}\"], ports: [{{port: {port}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: ferrule-bench, namespace: default, labels: {{kubernetes.io/service-name: ferrule-bench}}}}\n\
         addressType: {kind}\nports: [{{port: {port}}}]\nendpoints: [{{addresses: [\"{}\"]}}]\n",
        endpoint.ip()
    )
}

pub(super) fn mtu(place: &Place) -> Result<u32> {
    let shown = place.exec(["ip", "-o", "link", "show", "eth0"])?;
    let line = String::from_utf8_lossy(&shown.stdout).into_owned();
    let mut words = line.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    Ok(words.next().and_then(|word| word.parse().ok()).unwrap_or(1450))
}

/// Sends for a while; bytes per second until the other side has read everything.
fn stream(to: SocketAddr) -> Result<f64> {
    let what = || format!("stream to {to}");
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3)).context(what)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).context(what)?;
    stream.write_all(SINK).context(what)?;
    let block = vec![0x55; 128 * 1024];
    let began = Instant::now();
    let mut sent = 0_u64;
    while began.elapsed() < STREAM {
        sent += stream.write(&block).context(what)? as u64;
    }
    stream.shutdown(std::net::Shutdown::Write).context(what)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context(what)?;
    Ok(sent as f64 / began.elapsed().as_secs_f64())
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Two namespaces on a bridge that does nothing but NORMAL; gone when dropped.
pub(super) struct Normal<'a> {
    lab: &'a Lab,
    node: NodeIndex,
    namespaces: [String; 2],
}

impl<'a> Normal<'a> {
    pub(super) fn new(lab: &'a Lab, node: NodeIndex, mtu: u32) -> Result<Self> {
        let prefix = lab.layout.namespace_prefix();
        let namespaces = ["left", "right"].map(|side| format!("{prefix}bench-{side}"));
        netns::create(&namespaces)?;
        let normal = Self { lab, node, namespaces };
        let host = lab.layout.node_namespace(node);
        lab.ovs(
            node,
            "ovs-vsctl",
            ["--timeout=20", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"],
        )?;
        for (number, namespace) in normal.namespaces.iter().enumerate() {
            let port = format!("bench{number}");
            ip::batch(
                Some(&host),
                &[
                    format!("link add {port} mtu {mtu} type veth peer name eth0 netns {namespace}"),
                    format!("link set {port} up"),
                ],
            )?;
            ip::batch(
                Some(namespace),
                &[format!("addr add {}/24 dev eth0", address(number)), format!("link set eth0 mtu {mtu} up")],
            )?;
            let mut ethtool = Command::new("ethtool");
            command::run_in(&netns::path(namespace), ethtool.args(["-K", "eth0", "tx", "off"]))?;
            lab.ovs(node, "ovs-vsctl", ["--timeout=20", "add-port", BRIDGE, &port])?;
        }
        lab.ovs(node, "ovs-ofctl", ["del-flows", BRIDGE])?;
        lab.ovs(node, "ovs-ofctl", ["add-flow", BRIDGE, "actions=NORMAL"])?;
        Ok(normal)
    }

    /// Does something on one side while the other accepts connections and closes them.
    pub(super) fn accepting(&self, work: impl FnOnce(SocketAddr) -> Result<()> + Send) -> Result<()> {
        let [left, right] = &self.namespaces;
        let to = SocketAddr::new(address(1), PORT);
        let listener = netns::run(&netns::path(right), || TcpListener::bind(to))?
            .context(|| format!("listen at {to}"))?;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(listener.accept());
                }
            });
            netns::run(&netns::path(left), || {
                let outcome = work(to);
                done.store(true, Ordering::Relaxed);
                // The last one wakes whoever accepts.
                drop(TcpStream::connect(to));
                outcome
            })?
        })
    }

    fn stream(&self) -> Result<f64> {
        let [left, right] = &self.namespaces;
        let to = SocketAddr::new(address(1), PORT);
        let listener = netns::run(&netns::path(right), || TcpListener::bind(to))?
            .context(|| format!("listen at {to}"))?;
        std::thread::scope(|scope| {
            let sink = scope.spawn(move || -> std::io::Result<()> {
                let (mut stream, _) = listener.accept()?;
                let mut buffer = vec![0; 64 * 1024];
                while stream.read(&mut buffer)? > 0 {}
                stream.write_all(b"done\n")
            });
            let sent = netns::run(&netns::path(left), || stream(to))??;
            let sunk = sink.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sunk.context(|| "read a stream".to_owned())?;
            Ok(sent)
        })
    }
}

impl Drop for Normal<'_> {
    fn drop(&mut self) {
        // What stays goes with the lab.
        let _ = self.lab.ovs(self.node, "ovs-vsctl", ["--timeout=20", "--if-exists", "del-br", BRIDGE]);
        let _ = netns::remove(&self.namespaces);
    }
}

fn address(number: usize) -> IpAddr {
    // Two of them, in a range that nothing else of the lab has.
    IpAddr::from([10, 98, 0, if number == 0 { 1 } else { 2 }])
}
