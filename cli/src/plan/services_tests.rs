//! What is said of Services against the matrices of the two networks, cell by cell.

#[path = "../../../network/tests/arbitrary/mod.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod arbitrary;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use network::matrix::{Cell, Entry, Grid, Participant, Services, everybody, predict};
use network::{
    Few, NamespacedName, Network, NodeName, Protocol, Service, ServiceEndpoint, ServiceKind, ServicePort,
    Tier, TrafficPolicy,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::services::{Reach, ServiceChange, changes};

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
            for_zones: Few::new(),
            for_nodes: for_nodes.into(),
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

fn clients(networks: [&Network; 2]) -> Vec<[Participant; 2]> {
    let speaks = |one: &Participant| one.entry.speaks() && !one.sources.is_empty();
    let [before, after] = networks.map(|network| everybody(network).into_iter().filter(speaks));
    let after: BTreeMap<Entry, Participant> = after.map(|one| (one.entry.clone(), one)).collect();
    before.filter_map(|was| after.get(&was.entry).cloned().map(|is| [was, is])).collect()
}

fn folded(reach: Reach) -> Cell {
    match reach {
        Reach::NotServed => Cell::NotServed,
        Reach::Passes => Cell::Passes,
        Reach::Blocked | Reach::Partly => Cell::Blocked,
    }
}

/// Holds every cell of a Service's column against what is said of it. `alone`: nothing but Services differs.
fn hold(before: &Network, after: &Network, alone: bool) -> Result<(), TestCaseError> {
    let networks = [before, after];
    let told: BTreeMap<String, ServiceChange> =
        changes(before, after).into_iter().map(|change| (change.service.clone(), change)).collect();
    let matrices = networks.map(|network| predict(network, &everybody(network)).only(Grid::Combined));
    let services = networks.map(Services::of);
    let all: BTreeSet<&NamespacedName> =
        networks.iter().flat_map(|network| network.services.keys()).collect();
    for key in all {
        let change = told.get(&key.to_string());
        let held = networks.iter().filter_map(|network| network.services.get(key));
        let ports: BTreeSet<_> =
            held.filter_map(Participant::service).flat_map(|service| service.serves).collect();
        for (port, [was, is]) in
            ports.iter().flat_map(|port| clients(networks).into_iter().map(move |both| (*port, both)))
        {
            let to = Entry::Service(key.clone());
            let cells = matrices
                .each_ref()
                .map(|matrix| matrix.cell(port, Grid::Combined, &was.entry, &to).unwrap_or(Cell::NotServed));
            let at = change.and_then(|change| change.ports.iter().find(|it| it.port == port));
            let said = at.and_then(|it| it.clients.iter().find(|it| it.listed.contains(&was.entry)));
            match said {
                Some(said) => {
                    prop_assert_ne!(said.before, said.after);
                    prop_assert_eq!(
                        [folded(said.before), folded(said.after)],
                        cells,
                        "{} {}",
                        was.entry,
                        key
                    );
                }
                None if alone || change.is_some() => {
                    prop_assert_eq!(cells[0], cells[1], "{} → {} {}: not told", was.entry, key, port);
                }
                None => {}
            }
            // Another endpoint is told even where nobody reaches more or less by it.
            let [old, new] = [(0, &was), (1, &is)].map(|(time, client): (usize, &Participant)| {
                let ways = services[time].ways(client, key, port);
                let choices = ways.iter().flat_map(|way| {
                    let of = |choice: &network::matrix::Choice| {
                        (way.at, way.port, way.node.clone(), format!("{:?}", choice.to), choice.port)
                    };
                    way.choices.iter().map(of).collect::<Vec<_>>()
                });
                choices.collect::<BTreeSet<_>>()
            });
            prop_assert!(old == new || change.is_some(), "{}: other endpoints, and nothing is told", key);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_services_alone_change_is_the_difference_of_the_matrices(
        network in arbitrary::network(TIERS), before in services(), after in services()
    ) {
        let [before, after] = [before, after].map(|services| Network { services, ..network.clone() });
        hold(&before, &after, true)?;
        prop_assert!(changes(&before, &before).is_empty());
    }

    #[test]
    fn what_is_told_of_a_service_holds_whatever_else_changes(
        networks in (arbitrary::network(TIERS), arbitrary::network(TIERS)), before in services(), after in services()
    ) {
        let before = Network { services: before, ..networks.0 };
        let after = Network { services: after, ..networks.1 };
        hold(&before, &after, false)?;
    }
}

#[test]
fn clients_that_only_an_address_tells_apart_are_told_apart() {
    let text = |kind: &str| -> Vec<objects::SourceText> {
        let pod = |name: &str, app: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: alpha, labels: {{app: {app}}}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n---\n"
            )
        };
        let pods =
            [("a", "client"), ("b", "client"), ("c", "server")].map(|(name, app)| pod(name, app)).concat();
        let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: one, namespace: alpha}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{from: [{ipBlock: {cidr: 10.244.1.2/32}}]}]}\n---\n";
        let service = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: alpha}}\nspec: {{selector: {{app: {kind}}}, ports: [{{port: 80}}]}}\n"
        );
        vec![objects::SourceText::new("test", pods + policy + &service)]
    };
    let [before, after] = ["nobody", "server"].map(|kind| {
        let (objects, problems) = objects::read(&text(kind));
        assert!(problems.is_empty(), "{problems:?}");
        let nodes = objects::offline::numbered_nodes(1, objects::offline::Families::Ipv4);
        objects::offline::network(&objects, &nodes).0
    });
    let changes = changes(&before, &after);
    let clients: Vec<String> = changes[0].ports[0]
        .clients
        .iter()
        .filter(|it| it.after == Reach::Passes)
        .flat_map(|it| it.listed.iter().map(ToString::to_string))
        .collect();
    assert!(
        clients.contains(&"alpha/a".to_owned()) && !clients.contains(&"alpha/b".to_owned()),
        "{clients:?}"
    );
}
