//! More rules at one priority of an ordered tier than fit: what does not fit denies, says so, and disturbs nobody else.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use compiler::simulate::matrix::{compile_all, predict_grid};
use network::matrix::{Entry, Grid, ServedPort, pods_of};
use network::{
    Action, Direction, Isolation, LabelSelector, Labels, NamedPort, NamespacedName, Network, Node, NodeName,
    Peers, Pod, Policy, PolicyId, PolicyKind, Ports, Protocol, Rule, Selector, Tier,
};

fn pod(namespace: &str, host: u8) -> Pod {
    Pod {
        key: NamespacedName::new(namespace, format!("pod-{host}")),
        uid: host.to_string(),
        node: Some(NodeName::new("node-1")),
        labels: Labels::new(),
        addresses: vec![IpAddr::from([10, 244, 1, host])],
        host_network: false,
        completed: false,
        ports: vec![NamedPort { name: None, protocol: Protocol::Tcp, number: 80 }],
    }
}

fn accept_all(network: &mut Network, name: &str, priority: u32, namespace: &str, rules: u32) {
    let subject = network.intern(Selector::pods_in(namespace, LabelSelector::everything()));
    let rule = |index| Rule {
        index,
        direction: Direction::Ingress,
        action: Action::Accept,
        peers: Peers::Any,
        ports: Ports::Any,
    };
    let id = PolicyId { kind: PolicyKind::ClusterNetworkPolicy, namespace: String::new(), name: name.into() };
    let policy = Policy {
        id: id.clone(),
        generation: 1,
        tier: Tier::Admin,
        priority,
        subject,
        isolates: Isolation::default(),
        rules: (0..rules).map(rule).collect(),
    };
    network.policies.insert(id, policy);
}

#[test]
fn the_twenty_sixth_rule_of_a_priority_denies_and_is_reported() {
    let mut network = Network::default();
    let node = Node {
        name: NodeName::new("node-1"),
        labels: Labels::new(),
        addresses: vec![IpAddr::from([172, 30, 0, 1])],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
    };
    network.nodes.insert(node.name.clone(), node);
    for pod in [pod("a", 2), pod("b", 3), pod("c", 4)] {
        network.pods.insert(pod.key.clone(), pod);
    }
    accept_all(&mut network, "first", 7, "a", 25);
    accept_all(&mut network, "second", 7, "b", 1);
    accept_all(&mut network, "next", 8, "b", 1);
    accept_all(&mut network, "far", 1_001, "c", 1);

    let sites = compile_all(&network);
    let refused: Vec<&str> = sites[0].program.refused.keys().map(|id| id.name.as_str()).collect();
    assert_eq!(refused, ["far", "second"]);
    let matrix = predict_grid(&network, &pods_of(&network), Grid::Combined);
    let cell = |to: &str| {
        let entry = |name: &str| Entry::Pod(name.parse().unwrap());
        let from = if to == "a/pod-2" { entry("b/pod-3") } else { entry("a/pod-2") };
        let port = ServedPort { protocol: Protocol::Tcp, port: 80 };
        matrix.cell(port, Grid::Combined, &from, &entry(to)).unwrap().symbol()
    };
    assert_eq!([cell("a/pod-2"), cell("b/pod-3"), cell("c/pod-4")], ['.', 'X', 'X']);
}
