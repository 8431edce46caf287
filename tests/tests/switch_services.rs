//! A Service on a real switch: its endpoints are used evenly, and the one that a client was given is kept.

#![allow(clippy::unwrap_used)]

mod bridge;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bridge::{connect, flow_mods, install, make_bridge, numbers};
use compiler::simulate::matrix::{Site, compile_all};
use compiler::{PortRef, Table};
use network::{
    Labels, Mac, NamespacedName, Network, Node, NodeName, Pod, Protocol, Service, ServiceEndpoint,
    ServiceKind, ServicePort,
};
use openflow::io::Client;
use openflow::message::{FlowStatsRequest, PacketOut};
use openflow::{Action, BufferId, Field, PortNo, TableId};
use tests::packet;
use tests::private_ovs::PrivateOvs;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The client's addresses: one alone has not as many ports as connections are made.
const CLIENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 244, 1, 2), Ipv4Addr::new(10, 244, 1, 3)];
/// TCP's SYN.
const SYN: u8 = 2;

/// One pod, and a Service with so many endpoints outside.
fn network(endpoints: usize, affinity_seconds: Option<u32>) -> Network {
    let mut network = Network::default();
    let node = Node {
        name: NodeName::new("node-1"),
        labels: Labels::new(),
        addresses: vec![IpAddr::from([172, 30, 0, 1])],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        ..Node::default()
    };
    let pod = Pod {
        key: NamespacedName::new("ns", "client"),
        uid: "uid".into(),
        node: Some(node.name.clone()),
        labels: Default::default(),
        addresses: CLIENTS.map(IpAddr::from).into(),
        host_network: false,
        completed: false,
        ports: vec![],
    };
    network.nodes.insert(node.name.clone(), node);
    network.pods.insert(pod.key.clone(), pod);
    let endpoint = |k: usize| {
        ServiceEndpoint::new(
            [Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + k as u32).into()],
            8080,
        )
    };
    let service = Service {
        cluster_ips: [VIP.into()].into(),
        ports: vec![ServicePort::new(Protocol::Tcp, 80, (0..endpoints).map(endpoint))],
        affinity_seconds,
        ..Service::new(NamespacedName::new("ns", "web"))
    };
    network.services.insert(service.key.clone(), service);
    network
}

/// The switch of the only node.
struct Running {
    client: Client,
    port: PortNo,
    mac: Mac,
}

async fn running(ovs: &PrivateOvs, site: &Site) -> Running {
    let numbers = numbers(site);
    make_bridge(ovs, &numbers);
    let client = connect(ovs).await;
    install(&client, flow_mods(&site.program, &numbers)).await;
    let port = numbers[&PortRef::Interface(site.ports[0].interface.clone())];
    Running { client, port, mac: site.ports[0].mac }
}

impl Running {
    /// Begins a connection to the Service, as the `n`th of the client's.
    async fn connect(&self, n: u32) {
        let client = CLIENTS[(n / PORTS) as usize];
        let ports = (1024 + (n % PORTS) as u16, 80);
        let syn = packet::tcp(client.into(), VIP.into(), ports, SYN, &[]);
        let datagram = packet::ip(client.into(), VIP.into(), 6, 64, &syn);
        let table = Action::Resubmit { port: PortNo::IN_PORT, table: Some(TableId(0)), ct: false };
        let packet = PacketOut {
            buffer_id: BufferId::NONE,
            in_port: self.port,
            actions: vec![table],
            data: packet::ip_frame(self.mac, Mac::ROUTER, &datagram).into(),
        };
        self.client.packet_out(packet).await.unwrap();
    }

    /// How many connections every endpoint got, once as many are counted as began.
    async fn counted(&self, began: u64) -> BTreeMap<u128, u64> {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            self.client.barrier().await.unwrap();
            let mut counts = BTreeMap::new();
            let request = FlowStatsRequest::table(TableId(Table::EndpointDnat.id()));
            self.client
                .dump_flows(request, |flow| {
                    if let Some(endpoint) = flow.match_.exact(Field::REG5) {
                        counts.insert(endpoint, flow.packet_count);
                    }
                })
                .await
                .unwrap();
            let sum: u64 = counts.values().sum();
            if sum >= began {
                assert_eq!(sum, began);
                return counts;
            }
            assert!(Instant::now() < limit, "{sum} of {began} connections were counted");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Chi-squared per degree of freedom: about 1 when every endpoint is as likely as any other.
fn unevenness(counts: &BTreeMap<u128, u64>) -> f64 {
    let sum: u64 = counts.values().sum();
    let expected = sum as f64 / counts.len() as f64;
    let squares: f64 = counts.values().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    squares / (counts.len() - 1) as f64
}

#[tokio::test]
async fn every_endpoint_is_used_as_much_as_any_other() {
    let Some(ovs) = PrivateOvs::start().unwrap() else { return };
    for endpoints in [2usize, 3, 10, 50, 300, 10_000] {
        let site = compile_all(&network(endpoints, None)).swap_remove(0);
        let switch = running(&ovs, &site).await;
        ovs.appctl(["dpctl/flush-conntrack"]).unwrap();
        let connections = 2 * PORTS;
        let began = Instant::now();
        for n in 0..connections {
            switch.connect(n).await;
        }
        let counts = switch.counted(u64::from(connections)).await;
        let elapsed = began.elapsed().as_secs_f64();
        let used = counts.values().filter(|count| **count > 0).count();
        let chi = unevenness(&counts);
        println!(
            "{endpoints} endpoints: {used} used, chi-squared per degree of freedom {chi:.2}, {:.0} connections a second",
            f64::from(connections) / elapsed
        );
        assert_eq!(counts.len(), endpoints);
        assert!(chi < 2.0, "{endpoints} endpoints: {chi}");
        // Of many more endpoints than connections some have none; as many as chance would have.
        let idle = endpoints as f64 * (-f64::from(connections) / endpoints as f64).exp();
        assert!(
            (endpoints - used) as f64 <= idle + 3.0 * idle.sqrt() + 1.0,
            "{used} of {endpoints} are used"
        );
    }
}

/// Connections of one of the client's addresses, each from a port of its own.
const PORTS: u32 = 50_000;

#[tokio::test]
async fn a_client_keeps_its_endpoint() {
    let Some(ovs) = PrivateOvs::start().unwrap() else { return };
    let site = compile_all(&network(10, Some(60))).swap_remove(0);
    let switch = running(&ovs, &site).await;
    for n in 0..200 {
        switch.connect(n).await;
    }
    let counts = switch.counted(200).await;
    assert_eq!(counts.values().filter(|count| **count > 0).count(), 1, "{counts:?}");
}

#[tokio::test]
async fn what_the_switch_learns_for_longer_than_a_flow_can_live_says_what_is_left() {
    let Some(ovs) = PrivateOvs::start().unwrap() else { return };
    let site = compile_all(&network(10, Some(86_400))).swap_remove(0);
    let switch = running(&ovs, &site).await;
    switch.connect(0).await;
    switch.counted(1).await;
    let table = format!("table={}", Table::ServiceAffinity.id());
    let learned = ovs.ofctl(["-OOpenFlow13", "dump-flows", bridge::BRIDGE, &table]).unwrap();
    let of_client: Vec<_> = learned.lines().filter(|line| line.contains("nw_src=10.244.1.2")).collect();
    let [line] = of_client[..] else { panic!("{learned}") };
    // 20,865 s are left after the first 65,535.
    assert!(line.contains("cookie=0xfd005181"), "{line}");
    assert!(line.contains("hard_timeout=65535") && line.contains("send_flow_rem"), "{line}");
}

/// The first node of two with a client, and a Service whose only endpoint is a pod here or there.
fn site(endpoint: Ipv4Addr) -> Site {
    let mut network = network(1, None);
    let node = |k: u8| Node {
        name: NodeName::new(format!("node-{k}")),
        labels: Labels::new(),
        addresses: vec![IpAddr::from([172, 30, 0, k])],
        pod_cidrs: vec![format!("10.244.{k}.0/24").parse().unwrap()],
        ..Node::default()
    };
    network.nodes.insert(node(2).name, node(2));
    let client = network.pods.values().next().unwrap().clone();
    // The client's second address is this pod's here.
    network.pods.values_mut().for_each(|pod| pod.addresses.truncate(1));
    for (k, address) in [(1, ENDPOINT), (2, ELSEWHERE)] {
        let key = NamespacedName::new("ns", format!("web-{k}"));
        let pod = Pod {
            key: key.clone(),
            uid: format!("uid-{k}"),
            node: Some(node(k).name),
            addresses: vec![address.into()],
            ..client.clone()
        };
        network.pods.insert(key, pod);
    }
    for service in network.services.values_mut() {
        let port = &mut service.ports[0];
        // Nobody counts its octets, so packets may be made up one by one.
        port.protocol = Protocol::Udp;
        port.node_port = Some(30_080);
        let any = port.endpoints.pop_first().unwrap();
        port.endpoints.insert(ServiceEndpoint { addresses: [endpoint.into()].into(), ..any });
        service.kind = ServiceKind::NodePort;
    }
    compile_all(&network).swap_remove(0)
}

const ENDPOINT: Ipv4Addr = CLIENTS[1];
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// As the host hands over what asks for its node ports.
const NODE_PORTS: Ipv4Addr = Ipv4Addr::new(169, 254, 254, 2);

/// Where a packet comes in.
#[derive(Clone, Copy)]
enum At {
    Pod(Ipv4Addr),
    Gateway,
    Tunnel,
}

impl At {
    async fn send(self, client: &Client, site: &Site, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) {
        let numbers = numbers(site);
        let (port, mac) = match self {
            Self::Pod(address) => {
                let port = site.ports.iter().find(|port| port.addresses.contains(&address.into())).unwrap();
                (PortRef::Interface(port.interface.clone()), port.mac)
            }
            Self::Gateway => (PortRef::Gateway, Mac::from_address(GATEWAY.into())),
            Self::Tunnel => (PortRef::Tunnel, Mac::ROUTER),
        };
        let datagram = packet::udp(from.0.into(), to.0.into(), (from.1, to.1), &[]);
        let datagram = packet::ip(from.0.into(), to.0.into(), packet::UDP, 64, &datagram);
        let mut actions = Vec::new();
        if let Self::Tunnel = self {
            actions.push(Action::set_field(Field::TUN_SRC, Ipv4Addr::new(172, 30, 0, 2)));
            actions.push(Action::set_field(Field::TUN_ID, compiler::register::VNI));
        }
        actions.push(Action::Resubmit { port: PortNo::IN_PORT, table: Some(TableId(0)), ct: false });
        let data = packet::ip_frame(mac, Mac::ROUTER, &datagram).into();
        let packet = PacketOut { buffer_id: BufferId::NONE, in_port: numbers[&port], actions, data };
        client.packet_out(packet).await.unwrap();
    }
}

/// How often packets went through the datapath again since it was made.
fn recirculations(ovs: &PrivateOvs) -> u64 {
    let stats = ovs.appctl(["dpif-netdev/pmd-stats-show"]).unwrap();
    let counts = stats.lines().filter_map(|line| line.trim().strip_prefix("packet recirculations:"));
    let counts: Vec<u64> = counts.map(|count| count.trim().parse().unwrap()).collect();
    assert!(!counts.is_empty(), "{stats}");
    counts.iter().sum()
}

#[tokio::test]
async fn the_switch_counts_as_many_recirculations_as_are_written_down() {
    let Some(ovs) = PrivateOvs::start().unwrap() else { return };
    const PACKETS: u64 = 20;
    let (pod, outside) = ((CLIENTS[0], 40_000), (OUTSIDE, 40_000));
    let (service, node_port) = ((VIP, 80), (NODE_PORTS, 30_080));
    let client = At::Pod(CLIENTS[0]);
    // Who asks what, who answers, whom the endpoint sees; as in compiler/tests/recirculations.rs.
    let cases = [
        ("pod, same node", client, pod, service, (At::Pod(ENDPOINT), ENDPOINT), pod, (1, 1)),
        ("pod, other node", client, pod, service, (At::Tunnel, ELSEWHERE), pod, (1, 1)),
        ("itself", client, pod, service, (client, CLIENTS[0]), (GATEWAY, 40_000), (2, 2)),
        (
            "host, same node",
            At::Gateway,
            (NODE, 40_000),
            service,
            (At::Pod(ENDPOINT), ENDPOINT),
            (NODE, 40_000),
            (1, 1),
        ),
        (
            "outside, same node",
            At::Gateway,
            outside,
            node_port,
            (At::Pod(ENDPOINT), ENDPOINT),
            outside,
            (1, 1),
        ),
        (
            "outside, other node",
            At::Gateway,
            outside,
            node_port,
            (At::Tunnel, ELSEWHERE),
            (GATEWAY, 40_000),
            (2, 2),
        ),
    ];
    for (what, from, source, to, (answers, endpoint), seen, expected) in cases {
        let site = site(endpoint);
        let numbers = numbers(&site);
        make_bridge(&ovs, &numbers);
        let switch = connect(&ovs).await;
        install(&switch, flow_mods(&site.program, &numbers)).await;
        ovs.appctl(["dpctl/flush-conntrack"]).unwrap();
        let answer = (endpoint, 8080);
        from.send(&switch, &site, source, to).await;
        answers.send(&switch, &site, answer, seen).await;
        let mut counted = Vec::new();
        for there in [true, false] {
            switch.barrier().await.unwrap();
            let before = recirculations(&ovs);
            for _ in 0..PACKETS {
                match there {
                    true => from.send(&switch, &site, source, to).await,
                    false => answers.send(&switch, &site, answer, seen).await,
                }
            }
            switch.barrier().await.unwrap();
            counted.push(recirculations(&ovs) - before);
        }
        assert_eq!(counted, [expected.0 * PACKETS, expected.1 * PACKETS], "{what}");
    }
}
