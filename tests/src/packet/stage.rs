//! The lab of every attack: pods of each kind on two nodes, the nodes' own sockets, and a host on the underlay that is no node.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage fails")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use lab::{Family, NodeIndex, Place};
use network::Mac;

use super::{Ear, Mark, UDP, Wire, geneve, ip, ip_frame, udp};
use crate::lab_up::LabUp;
use crate::steady;

/// Two nodes with a pod of each kind: `shut` hears alice alone, and on UDP 5000 and TCP 80 alone; `open` hears everybody.
pub const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: alice-1, namespace: t, labels: {app: alice}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: mallory-1, namespace: t, labels: {app: mallory}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: open-1, namespace: t, labels: {app: open}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: shut-1, namespace: t, labels: {app: shut}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: alice-2, namespace: t, labels: {app: alice}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: open-2, namespace: t, labels: {app: open}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: shut-2, namespace: t, labels: {app: shut}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
"#;

pub const POLICY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: t}
spec:
  podSelector: {matchLabels: {app: shut}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: alice}}}]
    ports: [{protocol: UDP, port: 5000}, {protocol: TCP, port: 80}]
"#;

/// What `shut` hears from alice.
pub const SERVICE: u16 = 5000;
/// Where the nodes' own sockets listen.
pub const NODE_SOCKET: u16 = 7000;
/// The IANA port of geneve, and the network that Ferrule uses.
pub const GENEVE: u16 = 6081;
pub const VNI: u32 = compiler::register::VNI as u32;

/// The node's end of its gateway port.
pub const GATEWAY: &str = "ferrule-gw0";

pub const FAMILIES: [bool; 2] = [true, false];

/// Somebody who can send and hear frames as they are.
#[derive(Debug)]
pub struct Host {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub ear: Ear,
    pub mac: Mac,
}

impl Host {
    pub fn new(name: &str, namespace: &Path, addresses: &[IpAddr]) -> Self {
        let wire = Wire::open(namespace, "eth0");
        Self { name: name.to_owned(), addresses: addresses.to_vec(), mac: wire.mac(), ear: Ear::Wire(wire) }
    }

    pub fn ip(&self, ipv4: bool) -> IpAddr {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == ipv4).unwrap()
    }

    pub fn v4(&self) -> Ipv4Addr {
        let IpAddr::V4(address) = self.ip(true) else { unreachable!() };
        address
    }

    pub fn v6(&self) -> Ipv6Addr {
        let IpAddr::V6(address) = self.ip(false) else { unreachable!() };
        address
    }

    pub fn wire(&self) -> &Wire {
        let Ear::Wire(wire) = &self.ear else { unreachable!() };
        wire
    }

    /// Sends an IP packet to the router, as whom it may.
    pub fn send_as(&self, mac: Mac, packet: &[u8]) {
        self.wire().send(&ip_frame(mac, Mac::ROUTER, packet));
    }

    pub fn send(&self, packet: &[u8]) {
        self.send_as(self.mac, packet);
    }
}

/// The lab of every attack: pods, the nodes' own sockets, and a host on the underlay that is no node.
#[derive(Debug)]
pub struct Stage {
    pub up: LabUp,
    pub alice_1: Host,
    pub mallory: Host,
    pub open_1: Host,
    pub shut_1: Host,
    pub alice_2: Host,
    pub open_2: Host,
    pub shut_2: Host,
    pub nodes: [Place; 2],
    pub node_ears: [Ear; 2],
    /// The device with each node's address: where the underlay's frames for it go.
    pub node_macs: [Mac; 2],
    pub stranger: Host,
}

impl Stage {
    pub fn new(test: &str) -> Option<Self> {
        let files = [("pods.yaml", PODS), ("policy.yaml", POLICY)];
        let up = LabUp::new(test, Family::Dual, Some(&files))?;
        assert!(up.lab.problems().is_empty(), "{:#?}", up.lab.problems());
        let pod = |name: &str| {
            let place = up.lab.pod(&format!("t/{name}")).unwrap();
            Host::new(name, &place.netns_path(), place.addresses())
        };
        let nodes = [1, 2].map(|node| up.lab.place_of_node(NodeIndex(node)));
        let stranger = stranger(&up);
        let underlay = up.lab.record().datapath.underlay_device();
        let stage = Self {
            alice_1: pod("alice-1"),
            mallory: pod("mallory-1"),
            open_1: pod("open-1"),
            shut_1: pod("shut-1"),
            alice_2: pod("alice-2"),
            open_2: pod("open-2"),
            shut_2: pod("shut-2"),
            node_ears: [0, 1].map(|node: usize| Ear::socket(&nodes[node], NODE_SOCKET)),
            node_macs: [0, 1].map(|node: usize| Wire::open(&nodes[node].netns_path(), underlay).mac()),
            nodes,
            stranger,
            up,
        };
        stage.warm_up();
        Some(stage)
    }

    /// The switches learn each other's Ethernet addresses when the first packet wants to go there; that one may be lost.
    fn warm_up(&self) {
        for ipv4 in FAMILIES {
            for (from, to) in [(&self.mallory, &self.open_2), (&self.alice_2, &self.open_1)] {
                let mark = Mark::new();
                until("the nodes reach each other", || {
                    from.send(&datagram(from.ip(ipv4), to.ip(ipv4), SERVICE, &mark));
                    to.ear.has(&mark.bytes)
                });
            }
        }
        for node in &self.nodes {
            let to = self.stranger.ip(true);
            let mark = Mark::new();
            until("the nodes reach the underlay", || {
                node.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&mark.bytes, (to, 9)))
                    .unwrap()
                    .unwrap();
                self.stranger.ear.has(&mark.bytes)
            });
        }
    }

    /// Waits until what is allowed passes again, within a node, between both, and from a node to its pod.
    pub fn allowed_comes_back(&self) {
        for (from, to) in [
            (&self.alice_1, &self.shut_1),
            (&self.alice_1, &self.shut_2),
            (&self.alice_2, &self.shut_1),
            (&self.alice_2, &self.shut_2),
        ] {
            let mark = Mark::new();
            until("allowed packets pass again", || {
                from.send(&datagram(from.ip(true), to.ip(true), SERVICE, &mark));
                to.ear.has(&mark.bytes)
            });
        }
        for (index, pod) in [&self.open_1, &self.open_2].into_iter().enumerate() {
            let mark = Mark::new();
            until("nodes reach their pods again", || {
                self.node_sends(index, None, (pod.ip(true), SERVICE), &mark.bytes);
                pod.ear.has(&mark.bytes)
            });
        }
    }

    pub fn node(&self, index: usize, ipv4: bool) -> IpAddr {
        self.nodes[index].address(ipv4).unwrap()
    }

    /// The address of a node's gateway port: the first of its pod range.
    pub fn gateway(&self, index: usize, ipv4: bool) -> IpAddr {
        let range = lab::layout::pod_cidrs(NodeIndex(index as u8 + 1), Family::Dual)[usize::from(!ipv4)];
        match range.address() {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + 1).into(),
            IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + 1).into(),
        }
    }

    /// A datagram from a node's own stack, from the source that the stack or the caller chooses.
    pub fn node_sends(&self, index: usize, from: Option<IpAddr>, to: (IpAddr, u16), payload: &[u8]) {
        let any: IpAddr = if to.0.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        // A device that is away refuses; whether it arrives is what the caller looks at.
        let _ = self.nodes[index]
            .run(|| UdpSocket::bind((from.unwrap_or(any), 0))?.send_to(payload, to))
            .unwrap();
    }

    /// A frame from the stranger to a node.
    pub fn stranger_sends(&self, node: usize, packet: &[u8]) {
        let frame = ip_frame(self.stranger.mac, self.node_macs[node], packet);
        self.stranger.wire().send(&frame);
    }
}

/// A namespace on the underlay's bridge, with addresses there. It bears the lab's prefix, so it goes when the lab goes.
pub fn stranger(up: &LabUp) -> Host {
    let layout = up.lab.layout();
    let name = format!("{}stranger", layout.namespace_prefix());
    lab::netns::create(std::slice::from_ref(&name)).unwrap();
    let in_underlay = |line: &str| {
        let output = up.lab.underlay().exec(line.split(' ')).unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    in_underlay(&format!("ip link add stranger type veth peer name eth0 netns {name}"));
    in_underlay("ip link set stranger master underlay up");
    in_underlay("ethtool -K stranger tx off");
    let addresses = layout.gateway_addresses(Family::Dual).into_iter().map(|gateway| match gateway {
        IpAddr::V4(gateway) => {
            let [a, b, c, _] = gateway.octets();
            IpAddr::from([a, b, c, 200])
        }
        IpAddr::V6(gateway) => Ipv6Addr::from(u128::from(gateway) & !0xffff | 0x200).into(),
    });
    let addresses: Vec<IpAddr> = addresses.collect();
    let inside = |line: &str| in_underlay(&format!("ip -n {name} {line}"));
    inside(&format!("addr add {}/24 dev eth0", addresses[0]));
    inside(&format!("addr add {}/64 dev eth0 nodad", addresses[1]));
    inside("link set eth0 up");
    Host::new("stranger", &lab::netns::path(&name), &addresses)
}

/// An IP packet with a UDP datagram that carries the mark.
pub fn datagram(src: IpAddr, dst: IpAddr, port: u16, mark: &Mark) -> Vec<u8> {
    ip(src, dst, UDP, 64, &udp(src, dst, (mark.port, port), &mark.bytes))
}

/// Geneve around a datagram: the payload of the outer one.
pub fn forged(src: IpAddr, dst: IpAddr, port: u16, mark: &Mark) -> Vec<u8> {
    let inner = ip_frame(Mac::ROUTER, Mac::ROUTER, &datagram(src, dst, port, mark));
    geneve(VNI, &inner)
}

pub fn until(what: &str, ready: impl FnMut() -> bool) {
    steady::until(what, Duration::from_secs(15), ready);
}

pub fn family(ipv4: bool) -> &'static str {
    if ipv4 { "IPv4" } else { "IPv6" }
}

/// The address `n` further.
pub fn next(address: IpAddr, n: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) + u32::from(n)).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) + u128::from(n)).into(),
    }
}

pub fn holds(frame: &[u8], bytes: &[u8]) -> bool {
    frame.windows(bytes.len()).any(|part| part == bytes)
}
