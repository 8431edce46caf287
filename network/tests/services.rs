//! What is said of Services against the matrices of the two networks, cell by cell.

#[allow(dead_code, reason = "others use the rest")]
mod arbitrary;
mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use network::difference::services::changes;
use network::{
    NamespacedName, Network, NodeName, Protocol, Seldom, Service, ServiceEndpoint, ServiceKind, ServicePort,
    Tier, TrafficPolicy,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use held::hold;

const TIERS: &[Tier] = &[Tier::Admin, Tier::NetworkPolicy, Tier::Baseline];

fn node_name() -> impl Strategy<Value = NodeName> {
    (1..=2u8).prop_map(|number| NodeName::new(format!("node-{number}")))
}

/// Of a pod that may be there, or of an address that may be a pod's.
fn endpoint() -> impl Strategy<Value = ServiceEndpoint> {
    let pod = (0..3usize, 0..6usize).prop_map(|(namespace, number)| {
        Some(NamespacedName::new(arbitrary::NAMESPACES[namespace], format!("pod-{number}")))
    });
    let whose = prop_oneof![
        5 => (pod, Just(BTreeSet::new())),
        1 => (1..=2u8, 2..8u8).prop_map(|(node, last)| {
            (None, BTreeSet::from([IpAddr::from(Ipv4Addr::new(10, 244, node, last))]))
        }),
        1 => Just((None, BTreeSet::from([IpAddr::from([203, 0, 113, 9])]))),
    ];
    let port = proptest::sample::select(&arbitrary::PORTS[..]);
    let states = (prop::bool::weighted(0.7), any::<bool>(), any::<bool>());
    (whose, port, option::of(node_name()), states, btree_set(node_name(), 0..2)).prop_map(
        |((pod, addresses), port, node, (ready, serving, terminating), for_nodes)| ServiceEndpoint {
            pod,
            addresses: addresses.into(),
            port,
            node,
            ready,
            serving,
            terminating,
            for_zones: Seldom::new(),
            for_nodes: for_nodes.into_iter().collect(),
        },
    )
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![2 => Just(TrafficPolicy::Cluster), 1 => Just(TrafficPolicy::Local)]
}

fn port() -> impl Strategy<Value = ServicePort> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let node_port = option::of(30_080..30_082u16);
    (protocol, 80..82u16, node_port, btree_set(endpoint(), 0..4)).prop_map(
        |(protocol, port, node_port, endpoints)| ServicePort {
            name: None,
            protocol,
            port,
            node_port,
            endpoints: endpoints.into(),
        },
    )
}

/// Few names, addresses and numbers: they claim each other's.
fn services() -> impl Strategy<Value = BTreeMap<NamespacedName, Service>> {
    let kind = prop_oneof![5 => Just(ServiceKind::NodePort), 3 => Just(ServiceKind::ClusterIp), 1 => Just(ServiceKind::Headless)];
    let one = (0..3usize, option::of(0..2u64), kind, 1..4u8, (policy(), policy()), vec(port(), 1..3));
    vec(one, 0..3).prop_map(|all| {
        let make = |(name, created, kind, last, (internal_policy, external_policy), ports)| Service {
            key: NamespacedName::new(arbitrary::NAMESPACES[name], "service"),
            created,
            kind,
            cluster_ips: [IpAddr::from([10, 96, 0, last])].into(),
            external_ips: BTreeSet::new(),
            load_balancer_ips: BTreeSet::new(),
            source_ranges: BTreeSet::new(),
            ports,
            affinity_seconds: None,
            internal_policy,
            external_policy,
            health_check_node_port: None,
            backing: None,
        };
        all.into_iter().map(make).map(|service| (service.key.clone(), service)).collect()
    })
}

proptest! {
    #[test]
    fn what_services_alone_change_is_the_difference_of_the_matrices(
        network in arbitrary::network(TIERS), before in services(), after in services()
    ) {
        let [before, after] = [before, after].map(|services| Network { services, ..network.clone() });
        hold(&changes(&before, &after), [&before, &after], true)?;
        prop_assert!(changes(&before, &before).is_empty());
    }

    #[test]
    fn what_is_told_of_a_service_holds_whatever_else_changes(
        networks in (arbitrary::network(TIERS), arbitrary::network(TIERS)), before in services(), after in services()
    ) {
        let before = Network { services: before, ..networks.0 };
        let after = Network { services: after, ..networks.1 };
        hold(&changes(&before, &after), [&before, &after], false)?;
    }
}
