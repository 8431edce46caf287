//! A policy that comes later cuts the connections that it denies, in both directions, and lets them live again when it goes.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use compiler::simulate::matrix::{Site, compile_all};
use compiler::simulate::{Fabric, Packet};
use network::{
    Direction, Isolation, LabelSelector, Labels, NamespacedName, Network, Node, NodeName, Peers, Pod, Policy,
    PolicyId, PolicyKind, Ports, Protocol, Rule, Selector, Tier,
};

fn pod(node: u8) -> Pod {
    Pod {
        key: NamespacedName::new("ns", format!("pod-{node}")),
        uid: format!("uid-{node}"),
        node: Some(NodeName::new(format!("node-{node}"))),
        labels: Labels::from([("node".into(), node.to_string())]).into(),
        addresses: vec![IpAddr::from([10, 244, node, 2])],
        host_network: false,
        completed: false,
        ports: vec![],
    }
}

fn network() -> Network {
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
        network.pods.insert(pod(k).key.clone(), pod(k));
    }
    network
}

/// The server is isolated; `allowed` adds a rule that lets everybody in.
fn isolated(direction: Direction, allowed: bool) -> Network {
    let mut network = network();
    let subject = match direction {
        Direction::Ingress => "2",
        Direction::Egress => "1",
    };
    let labels = Labels::from([("node".to_owned(), subject.to_owned())]);
    let subject = network.intern(Selector::pods_in("ns", LabelSelector::from_labels(&labels)));
    let rule =
        Rule { index: 0, direction, action: network::Action::Accept, peers: Peers::Any, ports: Ports::Any };
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "ns".into(), name: "later".into() };
    let policy = Policy {
        id: id.clone(),
        generation: 1,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject,
        isolates: Isolation {
            ingress: direction == Direction::Ingress,
            egress: direction == Direction::Egress,
        },
        audit: false,
        rules: if allowed { vec![rule] } else { vec![] },
    };
    network.policies.insert(id, policy);
    network
}

fn fabric<'a>(sites: &'a [Site], earlier: Option<&Fabric<'_>>) -> Fabric<'a> {
    let mut fabric = Fabric::new(sites.iter().map(|s| (&s.node, &s.program, s.ports.as_slice())));
    if let Some(earlier) = earlier {
        fabric.inherit_connections(earlier);
    }
    fabric
}

#[test]
fn a_deny_cuts_both_directions_and_an_allow_mends() {
    for direction in [Direction::Ingress, Direction::Egress] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (open, shut, mended) = (
                compile_all(&network()),
                compile_all(&isolated(direction, false)),
                compile_all(&isolated(direction, true)),
            );
            let client = NamespacedName::new("ns", "pod-1");
            let server = NamespacedName::new("ns", "pod-2");
            let first = Packet::first(pod(1).addresses[0], pod(2).addresses[0], protocol, 80);
            let (later, reply) = (first.clone().later(), first.reply());

            let mut before = fabric(&open, None);
            assert!(before.from_pod(&client, first.clone()).unwrap().passed());
            assert!(before.from_pod(&server, reply.clone()).unwrap().passed());

            let mut during = fabric(&shut, Some(&before));
            assert!(!during.from_pod(&client, later.clone()).unwrap().passed(), "{direction:?} {protocol}");
            // The packet that was denied marked the connection: the other side is cut off too.
            assert!(
                !during.from_pod(&server, reply.clone()).unwrap().passed(),
                "{direction:?} {protocol} reply"
            );

            let mut after = fabric(&mended, Some(&during));
            assert!(
                !after.from_pod(&server, reply.clone()).unwrap().passed(),
                "blocked until the client speaks"
            );
            assert!(
                after.from_pod(&client, later.clone()).unwrap().passed(),
                "{direction:?} {protocol} mended"
            );
            assert!(
                after.from_pod(&server, reply.clone()).unwrap().passed(),
                "{direction:?} {protocol} mended reply"
            );
        }
    }
}

#[test]
fn an_unchanged_allow_loses_nothing() {
    let (open, mended) = (compile_all(&network()), compile_all(&isolated(Direction::Ingress, true)));
    let client = NamespacedName::new("ns", "pod-1");
    let server = NamespacedName::new("ns", "pod-2");
    let first = Packet::first(pod(1).addresses[0], pod(2).addresses[0], Protocol::Tcp, 80);
    let mut before = fabric(&open, None);
    assert!(before.from_pod(&client, first.clone()).unwrap().passed());
    let mut after = fabric(&mended, Some(&before));
    assert!(after.from_pod(&server, first.reply()).unwrap().passed());
    assert!(after.from_pod(&client, first.later()).unwrap().passed());
}

#[test]
fn mid_stream_tcp_without_a_connection_does_not_reach_an_isolated_pod() {
    let sites = compile_all(&isolated(Direction::Ingress, true));
    let mut fabric = fabric(&sites, None);
    let client = NamespacedName::new("ns", "pod-1");
    let server = NamespacedName::new("ns", "pod-2");
    let first = Packet::first(pod(1).addresses[0], pod(2).addresses[0], Protocol::Tcp, 80);
    // The server's packet of a forgotten connection would make the server its originator.
    assert!(!fabric.from_pod(&server, first.reply()).unwrap().passed());
    assert!(!fabric.from_pod(&client, first.clone().later()).unwrap().passed());
    assert!(fabric.from_pod(&client, first).unwrap().passed());
}

#[test]
fn an_icmp_error_rides_with_its_connection() {
    let sites = compile_all(&isolated(Direction::Ingress, true));
    let mut fabric = fabric(&sites, None);
    let client = NamespacedName::new("ns", "pod-1");
    let server = NamespacedName::new("ns", "pod-2");
    let (a, b) = (pod(1).addresses[0], pod(2).addresses[0]);
    let first = Packet::first(a, b, Protocol::Udp, 53);
    assert!(fabric.from_pod(&client, first.clone()).unwrap().passed());
    assert!(fabric.from_pod(&server, Packet::echo(b, a).about(&first)).unwrap().passed());
}

/// The server may serve one SCTP port to the client, and the client nothing to the server.
fn one_port() -> Network {
    let mut network = isolated(Direction::Ingress, true);
    for policy in network.policies.values_mut() {
        let port = network::PortMatch::Range(network::PortRange::single(Protocol::Sctp, 3868));
        policy.rules[0].ports = Ports::Some([port].into());
    }
    network
}

#[test]
fn an_sctp_association_opens_no_other_port() {
    let sites = compile_all(&one_port());
    let mut fabric = fabric(&sites, None);
    let (client, server) = (NamespacedName::new("ns", "pod-1"), NamespacedName::new("ns", "pod-2"));
    let (a, b) = (pod(1).addresses[0], pod(2).addresses[0]);
    let allowed = Packet::first(a, b, Protocol::Sctp, 3868);
    assert!(fabric.from_pod(&client, allowed.clone()).unwrap().passed());
    assert!(fabric.from_pod(&server, allowed.reply()).unwrap().passed());
    // Another port of the same two hosts: the datapath takes it for the same connection.
    let other = Packet::first(a, b, Protocol::Sctp, 3869);
    assert!(!fabric.from_pod(&client, other.clone()).unwrap().passed());
    // The denied attempt does not disturb the allowed association.
    assert!(fabric.from_pod(&client, allowed.clone()).unwrap().passed());
    assert!(fabric.from_pod(&server, allowed.reply()).unwrap().passed());
    // The server's own association makes the client no friend of its denied port.
    let own = Packet::first(b, a, Protocol::Sctp, 5000);
    assert!(fabric.from_pod(&server, own.clone()).unwrap().passed());
    assert!(fabric.from_pod(&client, own.reply()).unwrap().passed());
    assert!(!fabric.from_pod(&client, other).unwrap().passed());
    assert!(fabric.from_pod(&client, allowed).unwrap().passed());
}

#[test]
fn a_deny_stops_an_sctp_association() {
    let (open, shut) = (compile_all(&network()), compile_all(&isolated(Direction::Ingress, false)));
    let client = NamespacedName::new("ns", "pod-1");
    let first = Packet::first(pod(1).addresses[0], pod(2).addresses[0], Protocol::Sctp, 80);
    let mut before = fabric(&open, None);
    assert!(before.from_pod(&client, first.clone()).unwrap().passed());
    let mut after = fabric(&shut, Some(&before));
    assert!(!after.from_pod(&client, first).unwrap().passed());
}

/// The agent's question about the connection that this packet opened.
fn question(mut first: Packet) -> Packet {
    first.set(openflow::Field::REG0, compiler::register::QUESTION.bits.mask());
    first
}

#[test]
fn a_question_blocks_what_policy_denies_and_touches_nothing_else() {
    for direction in [Direction::Ingress, Direction::Egress] {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let (client, server) = (NamespacedName::new("ns", "pod-1"), NamespacedName::new("ns", "pod-2"));
            let (open, shut) = (compile_all(&network()), compile_all(&isolated(direction, false)));
            let first = Packet::first(pod(1).addresses[0], pod(2).addresses[0], protocol, 80);
            let mut before = fabric(&open, None);
            assert!(before.from_pod(&client, first.clone()).unwrap().passed());
            // Where policy allows, a question is answered and goes nowhere.
            assert!(!before.from_pod(&client, question(first.clone())).unwrap().passed());
            assert!(before.from_pod(&server, first.reply()).unwrap().passed(), "{direction:?} {protocol}");

            // The client is silent. Each node is asked about what it judges: egress where the client is, ingress where the
            // server is, as if out of the tunnel.
            let mut during = fabric(&shut, Some(&before));
            let place = if direction == Direction::Egress { 1 } else { 2 };
            assert!(!during.ask(&NodeName::new(format!("node-{place}")), question(first.clone())).passed());
            assert!(!during.from_pod(&server, first.reply()).unwrap().passed(), "{direction:?} {protocol}");
        }
    }
}

#[test]
fn a_question_about_a_connection_that_is_gone_opens_nothing() {
    let sites = compile_all(&isolated(Direction::Ingress, true));
    let mut fabric = fabric(&sites, None);
    let server = NamespacedName::new("ns", "pod-2");
    let first = Packet::first(pod(1).addresses[0], pod(2).addresses[0], Protocol::Tcp, 80);
    assert!(!fabric.ask(&NodeName::new("node-2"), question(first.clone())).passed());
    assert!(!fabric.from_pod(&server, first.reply()).unwrap().passed());
}

#[test]
fn looking_again_changes_nothing() {
    let sites = compile_all(&network());
    let same = compiler::look_again();
    let stands = sites[0]
        .program
        .bind(|_| Some(openflow::PortNo(1)))
        .find(|flow| (flow.table, flow.priority, &flow.match_) == (same.table, same.priority, &same.match_));
    assert_eq!(stands.unwrap().instructions, same.instructions);
}
