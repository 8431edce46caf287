//! Many rules on one port: no flow grows past what a flow-mod holds, and every rule still allows exactly what it says.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use compiler::simulate::matrix::compile_all;
use compiler::{FlowAction, Table};
use network::matrix::{Grid, Participant, ServedPort};
use network::{
    Action, Cidr, Direction, Few, IpBlock, Isolation, LabelSelector, Labels, NamedPort, NamespacedName,
    Network, Node, NodeName, Peers, Pod, Policy, PolicyId, PolicyKind, PortMatch, PortRange, Ports, Protocol,
    Rule, Selector, Tier,
};

fn pod(node: u8, name: &str, host: u8) -> Pod {
    Pod {
        key: NamespacedName::new("ns", name),
        uid: name.into(),
        node: Some(NodeName::new(format!("node-{node}"))),
        labels: Default::default(),
        addresses: vec![IpAddr::from([10, 244, node, host])],
        host_network: false,
        completed: false,
        ports: vec![NamedPort { name: None, protocol: Protocol::Tcp, number: 80 }],
    }
}

#[test]
fn twenty_thousand_rules_share_a_port() {
    let mut network = Network::default();
    for k in [1u8, 2] {
        let node = Node {
            name: NodeName::new(format!("node-{k}")),
            labels: Labels::new(),
            addresses: vec![IpAddr::from([172, 30, 0, k])],
            pod_cidrs: vec![format!("10.244.{k}.0/24").parse().unwrap()],
            ..Node::default()
        };
        network.nodes.insert(node.name.clone(), node);
    }
    for pod in [pod(1, "server", 2), pod(2, "friend", 2), pod(2, "stranger", 3)] {
        network.pods.insert(pod.key.clone(), pod);
    }
    let subject = network.intern(Selector::pods_in("ns", LabelSelector::everything()));
    let rules = (0..20_000u32)
        .map(|index| {
            // One of them is the friend's address; the others are elsewhere.
            let address = if index == 12_345 {
                IpAddr::from([10, 244, 2, 2])
            } else {
                IpAddr::from((0xc000_0000 + index).to_be_bytes())
            };
            Rule {
                index,
                direction: Direction::Ingress,
                action: Action::Accept,
                peers: Peers::Some {
                    sets: Few::new(),
                    blocks: BTreeSet::from([IpBlock::whole(Cidr::host(address))]),
                },
                ports: Ports::Some(BTreeSet::from([PortMatch::Range(PortRange::single(Protocol::Tcp, 80))])),
            }
        })
        .collect();
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "ns".into(), name: "many".into() };
    let policy = Policy {
        id: id.clone(),
        generation: 1,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject,
        isolates: Isolation { ingress: true, egress: false },
        audit: false,
        rules,
    };
    network.policies.insert(id, policy);

    let sites = compile_all(&network);
    let program = &sites[0].program;
    assert!(program.refused.is_empty(), "{:?}", program.refused);
    let most = program.flows.values().map(|flow| {
        flow.actions
            .iter()
            .filter(|a| matches!(a, FlowAction::Do(openflow::Action::Conjunction { .. })))
            .count()
    });
    assert!(most.max().unwrap() <= 4_000);
    // 20,000 peers, as many verdicts, a few clause flows per level, and the pipeline itself.
    let ingress = program.flows.keys().filter(|key| key.table == Table::Ingress).count();
    assert!((40_000..40_100).contains(&ingress), "{ingress}");

    let participants: Vec<Participant> = network::matrix::pods_of(&network);
    let matrix = compiler::simulate::matrix::predict_grid(&network, &participants, Grid::Combined);
    let port = ServedPort { protocol: Protocol::Tcp, port: 80 };
    let row = |name: &str| {
        let from = network::matrix::Entry::Pod(NamespacedName::new("ns", name));
        let to = network::matrix::Entry::Pod(NamespacedName::new("ns", "server"));
        matrix.cell(port, Grid::Combined, &from, &to).unwrap().symbol()
    };
    assert_eq!((row("friend"), row("stranger")), ('.', 'X'));
}
