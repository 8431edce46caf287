//! More rules at one priority of an ordered tier than one policy may have: their order holds, and nobody is refused.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use compiler::simulate::matrix::{compile_all, predict_grid};
use network::matrix::{Entry, Grid, ServedPort, pods_of};
use network::{
    Action, Direction, Isolation, LabelSelector, Labels, NamedPort, NamespacedName, Network, Node, NodeName,
    Peers, Pod, Policy, PolicyId, PolicyKind, PortMatch, PortRange, Ports, Protocol, Rule, Selector, Tier,
};

fn pod(namespace: &str, host: u8) -> Pod {
    Pod {
        key: NamespacedName::new(namespace, format!("pod-{host}")),
        uid: host.to_string(),
        node: Some(NodeName::new("node-1")),
        labels: Default::default(),
        addresses: vec![IpAddr::from([10, 244, 1, host])],
        host_network: false,
        completed: false,
        ports: vec![NamedPort { name: None, protocol: Protocol::Tcp, number: 80 }],
    }
}

fn add(network: &mut Network, name: &str, priority: u32, namespace: &str, actions: &[Action]) {
    let subject = network.intern(Selector::pods_in(namespace, LabelSelector::everything()));
    let rule = |(index, action): (usize, &Action)| Rule {
        index: index as u32,
        direction: Direction::Ingress,
        action: *action,
        peers: Peers::Any,
        ports: Ports::Some([PortMatch::Range(PortRange::single(Protocol::Tcp, 80))].into()),
    };
    let id = PolicyId { kind: PolicyKind::ClusterNetworkPolicy, namespace: String::new(), name: name.into() };
    let policy = Policy {
        id: id.clone(),
        generation: 1,
        tier: Tier::Admin,
        priority,
        subject,
        isolates: Isolation::default(),
        audit: false,
        rules: actions.iter().enumerate().map(rule).collect(),
    };
    network.policies.insert(id, policy);
}

#[test]
fn policies_of_one_priority_may_have_more_rules_than_one_policy() {
    let mut network = Network::default();
    let node = Node {
        name: NodeName::new("node-1"),
        labels: Labels::new(),
        addresses: vec![IpAddr::from([172, 30, 0, 1])],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        ..Node::default()
    };
    network.nodes.insert(node.name.clone(), node);
    for pod in [pod("a", 2), pod("b", 3), pod("c", 4)] {
        network.pods.insert(pod.key.clone(), pod);
    }
    // Of equal priority: the smaller name first, whatever the rules behind it say.
    add(&mut network, "p-1", 7, "a", &[Action::Accept; 25]);
    add(&mut network, "p-2", 7, "a", &[Action::Deny; 25]);
    add(&mut network, "p-2b", 7, "b", &[Action::Deny; 25]);
    add(&mut network, "p-3", 7, "b", &[Action::Accept; 25]);
    // Before and behind the crowd.
    add(&mut network, "q", 6, "c", &[Action::Accept]);
    add(&mut network, "r", 7, "c", &[Action::Deny; 20]);
    add(&mut network, "s", 8, "a", &[Action::Deny]);

    for site in compile_all(&network) {
        assert!(site.program.refused.is_empty(), "{:?}", site.program.refused);
    }
    let participants = pods_of(&network);
    let matrix = predict_grid(&network, &participants, Grid::Combined);
    assert_eq!(
        matrix.differences(&network::matrix::predict(&network, &participants).only(Grid::Combined)),
        []
    );
    let cell = |to: &str| {
        let entry = |name: &str| Entry::Pod(name.parse().unwrap());
        let from = if to == "a/pod-2" { entry("b/pod-3") } else { entry("a/pod-2") };
        let port = ServedPort { protocol: Protocol::Tcp, port: 80 };
        matrix.cell(port, Grid::Combined, &from, &entry(to)).unwrap().symbol()
    };
    assert_eq!([cell("a/pod-2"), cell("b/pod-3"), cell("c/pod-4")], ['.', 'X', '.']);
}
