//! UDP datagrams in pieces on a real switch's userspace datapath: to Services, to pods whose policies name ports, and back.
//! What a policy denies arrives in no piece (ADR-0045).

#![allow(clippy::unwrap_used)]

mod bridge;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bridge::{BRIDGE, connect, flow_mods, install, make_bridge, numbers};
use compiler::simulate::matrix::{Site, compile_all};
use compiler::{Datapath, NodeConfig};
use network::{
    Direction, Isolation, LabelSelector, Labels, Mac, NamespacedName, Network, Node, NodeName, NodeView,
    Peers, Pod, Policy, PolicyId, PolicyKind, PortMatch, PortRange, Ports, Protocol, Rule, Selector, Service,
    ServiceEndpoint, ServicePort, Tier,
};
use openflow::connection::Config;
use openflow::io::{Client, ClientEvent, Target};
use ovs_agent::datagram::{Gatherer, apart};
use ovs_agent::drivers::copies;
use ovs_agent::drivers::fragments::Fragments;
use tests::packet;
use tests::private_ovs::PrivateOvs;
use tests::steady::until;

const LIMIT: Duration = Duration::from_secs(30);
/// What Services are asked at, and what their endpoints listen on.
const PORTS: (u16, u16) = (53, 5353);
/// Nobody may ask for this one.
const CLOSED: u16 = 9999;
const MTU: u16 = 1450;

/// The pods, by the last part of their addresses. `web-1` and `web-2` serve; `client` may ask them, `stranger` may not.
const PODS: [(&str, u8); 4] = [("client", 2), ("stranger", 3), ("web-1", 4), ("web-2", 5)];

fn pod(name: &str, ipv4: bool) -> IpAddr {
    let last = PODS.iter().find(|(pod, _)| *pod == name).unwrap().1;
    address(ipv4, last)
}

fn address(ipv4: bool, last: u8) -> IpAddr {
    match ipv4 {
        true => Ipv4Addr::new(10, 244, 1, last).into(),
        false => Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, last.into()).into(),
    }
}

/// The address of the Service `web` (1), and of the one that leads its client back to itself (2).
fn service(ipv4: bool, last: u8) -> IpAddr {
    match ipv4 {
        true => Ipv4Addr::new(10, 96, 0, last).into(),
        false => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, last.into()).into(),
    }
}

fn network() -> Network {
    let mut network = Network::default();
    let node = Node {
        name: NodeName::new("node-1"),
        addresses: vec![[172, 30, 0, 1].into(), Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 1).into()],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
        ..Node::default()
    };
    for (name, _) in PODS {
        let key = NamespacedName::new("ns", name);
        let role = name.split('-').next().unwrap().to_owned();
        let pod = Pod {
            key: key.clone(),
            uid: format!("uid-{name}"),
            node: Some(node.name.clone()),
            labels: Labels::from([("role".into(), role)]).into(),
            addresses: [true, false].map(|ipv4| pod(name, ipv4)).into(),
            host_network: false,
            completed: false,
            ports: vec![],
        };
        network.pods.insert(key, pod);
    }
    network.nodes.insert(node.name.clone(), node);
    for (last, name, pods) in [(1, "web", &["web-1", "web-2"][..]), (2, "itself", &["client"])] {
        let endpoint = |name: &&str| ServiceEndpoint {
            addresses: [true, false].into_iter().map(|ipv4| pod(name, ipv4)).collect(),
            ..ServiceEndpoint::new([pod(name, true)], PORTS.1)
        };
        let service = Service {
            cluster_ips: [true, false].map(|ipv4| service(ipv4, last)).into(),
            ports: vec![ServicePort::new(Protocol::Udp, PORTS.0, pods.iter().map(endpoint))],
            ..Service::new(NamespacedName::new("ns", name))
        };
        network.services.insert(service.key.clone(), service);
    }
    let mut pods_of = |role: &str| {
        let labels = Labels::from([("role".to_owned(), role.to_owned())]);
        network.intern(Selector::pods_in("ns", LabelSelector::from_labels(&labels)))
    };
    let (subject, client) = (pods_of("web"), pods_of("client"));
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "ns".into(), name: "web".into() };
    let rule = Rule {
        index: 0,
        direction: Direction::Ingress,
        action: network::Action::Accept,
        peers: Peers::Some { sets: [client].into(), blocks: [].into() },
        ports: Ports::Some([PortMatch::Range(PortRange::single(Protocol::Udp, PORTS.1))].into()),
    };
    let policy = Policy {
        id: id.clone(),
        generation: 1,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject,
        isolates: Isolation { ingress: true, egress: false },
        audit: false,
        rules: vec![rule],
    };
    network.policies.insert(id, policy);
    network
}

/// A switch that holds the program of the only node, and what an agent does for it with datagrams in pieces.
struct Bench {
    ovs: PrivateOvs,
    site: Site,
    /// Of the next datagram.
    name: u16,
}

/// A datagram as somebody got it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    payload: Vec<u8>,
}

impl Bench {
    async fn new() -> Option<Self> {
        let ovs = PrivateOvs::start().unwrap()?;
        let network = network();
        let mut site = compile_all(&network).swap_remove(0);
        let config = NodeConfig::new(site.node.name.clone(), Datapath::Netdev, 1500);
        site.program = compiler::compile(&NodeView::of(&network, &site.node.name), &config, &site.ports);
        let numbers = numbers(&site);
        make_bridge(&ovs, &numbers);
        let target = Target::Unix(ovs.mgmt_socket(BRIDGE));
        let (client, mut events) = Client::connect(&target, Config::default()).await.unwrap();
        assert!(copies::prepare(&client).await.unwrap());
        install(&connect(&ovs).await, flow_mods(&site.program, &numbers)).await;
        let mut fragments = Fragments::new(0);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let ClientEvent::Async(message) = event else { continue };
                for packet in fragments.take(&message, Instant::now()) {
                    client.packet_out(packet).await.unwrap();
                }
            }
        });
        let bench = Self { ovs, site, name: 1 };
        for (name, _) in PODS {
            let option = format!("options:tx_pcap={}", bench.record(name).display());
            bench.ovs.vsctl(["set", "interface", &bench.port(name).0, &option]).unwrap();
        }
        Some(bench)
    }

    fn record(&self, pod: &str) -> PathBuf {
        self.ovs.rundir().join(format!("{pod}.pcap"))
    }

    fn port(&self, name: &str) -> (String, Mac) {
        let wanted = NamespacedName::new("ns", name);
        let is_it = |port: &&compiler::LocalPort| port.pod.as_ref().is_some_and(|(key, _)| *key == wanted);
        let port = self.site.ports.iter().find(is_it).unwrap();
        (port.interface.clone(), port.mac)
    }

    /// The pieces of a new datagram of somebody.
    fn pieces(&mut self, who: &str, from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<Vec<u8>> {
        let datagram = packet::udp(from.0, to.0, (from.1, to.1), payload);
        let datagram = packet::ip(from.0, to.0, packet::UDP, 64, &datagram);
        let mut frame = packet::ip_frame(self.port(who).1, Mac::ROUTER, &datagram);
        self.name += 1;
        if from.0.is_ipv4() {
            frame[18..20].copy_from_slice(&self.name.to_be_bytes());
        }
        apart(&frame, MTU, self.name.into())
    }

    fn send(&self, who: &str, pieces: &[Vec<u8>]) {
        let hex = |piece: &Vec<u8>| piece.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let words = ["netdev-dummy/receive".to_owned(), self.port(who).0];
        self.ovs.appctl(words.into_iter().chain(pieces.iter().map(hex))).unwrap();
    }

    /// Every frame that a pod got, in order.
    fn frames(&self, who: &str) -> Vec<Vec<u8>> {
        let record = std::fs::read(self.record(who)).unwrap_or_default();
        let mut rest = record.get(24..).unwrap_or_default();
        let mut frames = Vec::new();
        while let Some(length) = rest.get(8..12) {
            let length = u32::from_ne_bytes(length.try_into().unwrap()) as usize;
            let Some(frame) = rest.get(16..16 + length) else { break };
            frames.push(frame.to_vec());
            rest = &rest[16 + length..];
        }
        frames
    }

    /// Every datagram that a pod got, put together and checked.
    fn heard(&self, who: &str) -> Vec<Heard> {
        let (mut gatherer, now) = (Gatherer::default(), Instant::now());
        let frames = self.frames(who);
        frames.iter().filter_map(|frame| read(&gatherer.take((), frame, now)?.frame)).collect()
    }

    /// Whom of the endpoints a datagram reached, once it did.
    fn arrives(&self, what: &str, at: &[&'static str], payload: &[u8]) -> (&'static str, Heard) {
        let mut found = None;
        until(what, LIMIT, || {
            let of = |who: &&'static str| {
                let heard = self.heard(who).into_iter().find(|heard| heard.payload == payload);
                heard.map(|heard| (*who, heard))
            };
            found = at.iter().find_map(of);
            found.is_some()
        });
        found.unwrap()
    }
}

/// A datagram; its checksum has to be right.
fn read(frame: &[u8]) -> Option<Heard> {
    let ipv4 = frame[12..14] == [8, 0];
    let (addresses, datagram) =
        if ipv4 { (&frame[26..34], &frame[34..]) } else { (&frame[22..54], &frame[54..]) };
    let address = |bytes: &[u8]| -> IpAddr {
        match bytes.try_into() {
            Ok(bytes) => Ipv4Addr::from_octets(bytes).into(),
            Err(_) => Ipv6Addr::from_octets(bytes.try_into().unwrap()).into(),
        }
    };
    let (from, to) = addresses.split_at(addresses.len() / 2);
    let number = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
    let heard = Heard {
        from: (address(from), number(0)),
        to: (address(to), number(2)),
        payload: datagram[8..].to_vec(),
    };
    let right = packet::udp(heard.from.0, heard.to.0, (heard.from.1, heard.to.1), &heard.payload);
    (right == datagram).then_some(heard)
}

/// Nothing that repeats: what is in the wrong place shows.
fn payload(seed: u32, length: usize) -> Vec<u8> {
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(next(&seed), next).map(|state| (state >> 24) as u8).take(length).collect()
}

/// In order, backwards, and from the middle on.
fn orders(pieces: &[Vec<u8>]) -> [Vec<Vec<u8>>; 3] {
    let (ordered, mut backwards, mut turned) = (pieces.to_vec(), pieces.to_vec(), pieces.to_vec());
    backwards.reverse();
    turned.rotate_left(pieces.len() / 2);
    [ordered, backwards, turned]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_asked_and_answers_in_pieces() {
    let Some(mut bench) = Bench::new().await else { return };
    let mut used = BTreeMap::<&str, usize>::new();
    let mut seed = 0;
    for ipv4 in [true, false] {
        let client = pod("client", ipv4);
        for length in [2_000, 6_900] {
            for turn in 0..3 {
                for asked in 0..4 {
                    // Twice by one port: the second time the connection is known.
                    let source = (client, 40_000 + asked / 2 + 10 * turn as u16 + length as u16);
                    seed += 1;
                    let said = payload(seed, length);
                    let pieces = bench.pieces("client", source, (service(ipv4, 1), PORTS.0), &said);
                    assert_eq!(pieces.len(), if length == 2_000 { 2 } else { 5 });
                    bench.send("client", &orders(&pieces)[turn]);
                    let what = format!("{length} bytes, ipv4 {ipv4}, order {turn}, asked {asked}");
                    let (who, heard) = bench.arrives(&what, &["web-1", "web-2"], &said);
                    assert_eq!((heard.from, heard.to), (source, (pod(who, ipv4), PORTS.1)));
                    *used.entry(who).or_default() += 1;

                    seed += 1;
                    let said = payload(seed, length);
                    let pieces = bench.pieces(who, heard.to, heard.from, &said);
                    bench.send(who, &orders(&pieces)[turn]);
                    let (_, heard) = bench.arrives(&format!("answer to {what}"), &["client"], &said);
                    assert_eq!((heard.from, heard.to), ((service(ipv4, 1), PORTS.0), source));
                }
            }
        }
    }
    assert_eq!(used.len(), 2, "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_of_two_datagrams_may_come_one_between_the_other() {
    let Some(mut bench) = Bench::new().await else { return };
    for (ipv4, seed) in [(true, 1), (false, 2)] {
        let to = (service(ipv4, 1), PORTS.0);
        let (one, two) = (payload(seed, 3_000), payload(seed + 2, 6_900));
        let a = bench.pieces("client", (pod("client", ipv4), 40_001), to, &one);
        let b = bench.pieces("client", (pod("client", ipv4), 40_002), to, &two);
        let mixed = [&b[4], &a[1], &b[0], &a[2], &b[2], &a[0], &b[1], &b[3]].map(Vec::clone);
        bench.send("client", &mixed);
        for said in [one, two] {
            bench.arrives("one of two", &["web-1", "web-2"], &said);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_asks_itself_by_its_service_in_pieces() {
    let Some(mut bench) = Bench::new().await else { return };
    let mut seed = 0;
    for ipv4 in [true, false] {
        for _ in 0..2 {
            let (own, by) = ((pod("client", ipv4), 40_000), (service(ipv4, 2), PORTS.0));
            seed += 1;
            let said = payload(seed, 3_000);
            let pieces = bench.pieces("client", own, by, &said);
            bench.send("client", &orders(&pieces)[1]);
            let (_, heard) = bench.arrives("to itself", &["client"], &said);
            assert_eq!((heard.from.0, heard.to), (address(ipv4, 1), (own.0, PORTS.1)));
            seed += 1;
            let said = payload(seed, 3_000);
            let pieces = bench.pieces("client", heard.to, heard.from, &said);
            bench.send("client", &orders(&pieces)[1]);
            let (_, heard) = bench.arrives("from itself", &["client"], &said);
            assert_eq!((heard.from, heard.to), (by, own));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_names_ports_lets_all_pieces_pass_or_none() {
    let Some(mut bench) = Bench::new().await else { return };
    let mut passed = 0;
    for ipv4 in [true, false] {
        let client = pod("client", ipv4);
        for (n, length) in [(0, 2_000), (1, 6_900)] {
            for turn in 0..3 {
                let denied = [
                    ("stranger", (pod("web-1", ipv4), PORTS.1)),
                    ("client", (pod("web-1", ipv4), CLOSED)),
                    ("stranger", (service(ipv4, 1), PORTS.0)),
                ];
                for (who, to) in denied {
                    let from = (pod(who, ipv4), 41_000 + 10 * n + turn as u16);
                    let pieces = bench.pieces(who, from, to, &payload(7, length));
                    bench.send(who, &orders(&pieces)[turn]);
                }
                // By the same way: what was denied before these has been judged when they arrive.
                for to in [(service(ipv4, 1), PORTS.0), (pod("web-1", ipv4), PORTS.1)] {
                    passed += 1;
                    let said = payload(1_000 + passed, length);
                    let pieces = bench.pieces("client", (client, 42_000 + passed as u16), to, &said);
                    bench.send("client", &orders(&pieces)[turn]);
                    let what = format!("{length} bytes to {}, order {turn}", to.0);
                    bench.arrives(&what, &["web-1", "web-2"], &said);
                }
            }
        }
    }
    let frames: usize = ["web-1", "web-2"].iter().map(|who| bench.frames(who).len()).sum();
    assert_eq!(frames, passed as usize / 2 * (2 + 5), "nothing arrives but what is allowed");
}
