//! Random Services: every kind of frontend, some claimed twice, with endpoints of every kind behind them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use network::{
    Cidr, NamespacedName, NodeName, Protocol, Seldom, Service, ServiceEndpoint, ServiceKind, ServicePort,
    TrafficPolicy,
};
use proptest::prelude::*;

fn addresses<S: FromIterator<IpAddr>>(texts: &[&str]) -> S {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Pods here and there, nodes, and outside, in both families.
const TARGETS: [&str; 10] = [
    "10.244.1.2",
    "10.244.1.3",
    "10.244.2.3",
    "fd00:10:244:1::2",
    "fd00:10:244:2::3",
    "172.30.0.1",
    "172.30.0.2",
    "fd00:172::2",
    "192.0.2.7",
    "2001:db8::7",
];

fn endpoint() -> impl Strategy<Value = ServiceEndpoint> {
    let state = prop_oneof![
        6 => Just((true, true, false)),
        1 => Just((false, true, true)),
        1 => Just((false, false, false)),
    ];
    let hint = prop_oneof![3 => Just(None), 1 => (1u8..3).prop_map(Some)];
    let target = (prop::sample::select(&TARGETS[..]), 8_080u16..8_082);
    (target, prop::option::weighted(0.8, 1u8..3), state, hint).prop_map(
        |((address, port), node, (ready, serving, terminating), hint)| ServiceEndpoint {
            pod: None,
            addresses: addresses(&[address]),
            port,
            node: node.map(|k| NodeName::new(format!("node-{k}"))),
            ready,
            serving,
            terminating,
            for_zones: Seldom::new(),
            for_nodes: hint.map(|k| NodeName::new(format!("node-{k}"))).into_iter().collect(),
        },
    )
}

/// Numbers that no pod serves: an external address may be a node's.
fn port() -> impl Strategy<Value = ServicePort> {
    let protocol = prop_oneof![3 => Just(Protocol::Tcp), 2 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)];
    let node_port = prop::option::of(30_000u16..30_002);
    (protocol, 8_000u16..8_002, node_port, prop::collection::btree_set(endpoint(), 0..5)).prop_map(
        |(protocol, port, node_port, endpoints)| ServicePort {
            name: None,
            protocol,
            port,
            node_port,
            endpoints: endpoints.into(),
        },
    )
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![2 => Just(TrafficPolicy::Cluster), 1 => Just(TrafficPolicy::Local)]
}

/// Any Service of this name; cluster addresses come from so few that some are claimed twice.
fn service(index: usize) -> impl Strategy<Value = Service> {
    let kind = prop_oneof![
        2 => Just(ServiceKind::ClusterIp),
        2 => Just(ServiceKind::NodePort),
        2 => Just(ServiceKind::LoadBalancer),
        1 => Just(ServiceKind::Headless),
    ];
    let ports = prop::collection::vec(port(), 1..3);
    let affinity = prop::option::weighted(0.3, prop_oneof![Just(60u32), Just(86_400)]);
    (kind, 0u8..4, any::<u8>(), ports, affinity, policy(), policy()).prop_map(
        move |(kind, cluster, more, ports, affinity_seconds, internal_policy, external_policy)| Service {
            key: NamespacedName::new(format!("ns-{}", index % 2), format!("service-{index}")),
            created: [None, Some(1), Some(2), Some(2)][usize::from(more >> 4 & 3)],
            kind,
            cluster_ips: match kind {
                ServiceKind::Headless => BTreeSet::new(),
                _ => {
                    let both = [format!("10.96.0.{cluster}"), format!("fd00:10:96::{cluster}")];
                    both.iter().take(usize::from(more & 1) + 1).map(|text| text.parse().unwrap()).collect()
                }
            },
            // One of them is a node's own.
            external_ips: match more >> 1 & 3 {
                0 => addresses(&["203.0.113.1"]),
                1 => addresses(&["172.30.0.1", "203.0.113.2"]),
                _ => BTreeSet::new(),
            },
            load_balancer_ips: match kind {
                ServiceKind::LoadBalancer => addresses(&["203.0.113.3", "2001:db8:1::3"]),
                _ => BTreeSet::new(),
            },
            source_ranges: match more >> 3 & 1 {
                0 => BTreeSet::new(),
                _ => ["198.51.100.0/24", "2001:db8::/32"].map(|r| r.parse::<Cidr>().unwrap()).into(),
            },
            ports,
            affinity_seconds,
            internal_policy,
            external_policy,
            health_check_node_port: None,
            backing: None,
        },
    )
}

/// Up to five Services.
pub fn services() -> impl Strategy<Value = Vec<Service>> {
    let each: Vec<_> = (0..5).map(|index| prop::option::of(service(index))).collect();
    each.prop_map(|services| services.into_iter().flatten().collect())
}
