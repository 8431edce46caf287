//! The matrix: its shape on the wire, its prediction, its differences.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::IpAddr;

use expect_test::expect;
use network::matrix::{Cell, Entry, Grid, Matrix, Participant, ServedPort, pods_of, predict};
use network::policy::{Isolation, Peers, Policy, PolicyId, PolicyKind, Ports, Rule, Tier};
use network::{
    Action, Direction, IpBlock, LabelSelector, Labels, NamedPort, NamespacedName, Network, Node, NodeName,
    Pod, Protocol, Selector,
};

fn pod(name: &str, addresses: &[&str], ports: &[(Protocol, u16)]) -> Pod {
    Pod {
        key: NamespacedName::new("shop", name),
        uid: name.into(),
        node: Some(NodeName::new("node-1")),
        labels: Default::default(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        host_network: false,
        completed: false,
        ports: ports
            .iter()
            .map(|(protocol, number)| NamedPort { name: None, protocol: *protocol, number: *number })
            .collect(),
    }
}

fn network(pods: Vec<Pod>, blocks: &[&str]) -> Network {
    let pods = pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect();
    let mut network = Network { pods, ..Network::default() };
    network.nodes.insert(
        NodeName::new("node-1"),
        Node {
            name: NodeName::new("node-1"),
            labels: Labels::new(),
            addresses: vec![[172, 30, 0, 1].into()],
            pod_cidrs: vec![],
            ..Node::default()
        },
    );
    let subject = network.intern(Selector::pods_in("shop", LabelSelector::everything()));
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "shop".into(), name: "blocks".into() };
    let blocks = blocks.iter().map(|b| IpBlock::whole(b.parse().unwrap())).collect();
    let rule = Rule {
        index: 0,
        direction: Direction::Ingress,
        action: Action::Accept,
        peers: Peers::Some { sets: [].into(), blocks },
        ports: Ports::Any,
    };
    let isolates = Isolation { ingress: true, egress: false };
    network.policies.insert(
        id.clone(),
        Policy {
            id,
            generation: 0,
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject,
            isolates,
            audit: false,
            rules: vec![rule],
        },
    );
    network
}

#[test]
fn the_shape_on_the_wire() {
    let network = network(
        vec![
            pod("a", &["10.244.1.2"], &[(Protocol::Tcp, 80), (Protocol::Udp, 53)]),
            pod("b", &["10.244.1.3"], &[(Protocol::Tcp, 80), (Protocol::Tcp, 8080)]),
        ],
        &["10.244.1.2/32"],
    );
    let mut participants = pods_of(&network);
    let node: IpAddr = [172, 30, 0, 1].into();
    participants.push(Participant::node(&NodeName::new("node-1"), &[node], &[node], [].into()));
    participants.push(Participant::outside(&[[192, 0, 2, 1].into()], [].into()));
    let matrix = predict(&network, &participants);
    let text = serde_json::to_string_pretty(&matrix).unwrap();
    expect![[r#"
        {
          "order": [
            "shop/a",
            "shop/b",
            "node:node-1",
            "outside"
          ],
          "table": {
            "TCP/80": {
              "ingress": {
                "shop/a": "..--",
                "shop/b": "X.--",
                "node:node-1": "..--",
                "outside": "XX--"
              },
              "egress": {
                "shop/a": "..--",
                "shop/b": "..--",
                "node:node-1": "..--",
                "outside": "..--"
              },
              "combined": {
                "shop/a": "..--",
                "shop/b": "X.--",
                "node:node-1": "..--",
                "outside": "XX--"
              }
            },
            "TCP/8080": {
              "ingress": {
                "shop/a": "-.--",
                "shop/b": "-.--",
                "node:node-1": "-.--",
                "outside": "-X--"
              },
              "egress": {
                "shop/a": "-.--",
                "shop/b": "-.--",
                "node:node-1": "-.--",
                "outside": "-.--"
              },
              "combined": {
                "shop/a": "-.--",
                "shop/b": "-.--",
                "node:node-1": "-.--",
                "outside": "-X--"
              }
            },
            "UDP/53": {
              "ingress": {
                "shop/a": ".---",
                "shop/b": "X---",
                "node:node-1": ".---",
                "outside": "X---"
              },
              "egress": {
                "shop/a": ".---",
                "shop/b": ".---",
                "node:node-1": ".---",
                "outside": ".---"
              },
              "combined": {
                "shop/a": ".---",
                "shop/b": "X---",
                "node:node-1": ".---",
                "outside": "X---"
              }
            }
          }
        }"#]]
    .assert_eq(&text);
    let back: Matrix = serde_json::from_str(&text).unwrap();
    assert_eq!(back, matrix);
}

#[test]
fn a_cell_passes_only_when_every_common_family_does() {
    let pods = || {
        vec![
            pod("client", &["10.244.1.2", "fd00:10:244:1::2"], &[]),
            pod("server", &["10.244.1.3", "fd00:10:244:1::3"], &[(Protocol::Tcp, 80)]),
        ]
    };
    let port = ServedPort { protocol: Protocol::Tcp, port: 80 };
    let cell = |blocks: &[&str]| {
        let network = network(pods(), blocks);
        let [from, to] = ["client", "server"].map(|n| Entry::Pod(NamespacedName::new("shop", n)));
        predict(&network, &pods_of(&network)).cell(port, Grid::Combined, &from, &to)
    };
    assert_eq!(cell(&["10.244.0.0/16", "fd00:10:244::/48"]), Some(Cell::Passes));
    assert_eq!(cell(&["10.244.0.0/16"]), Some(Cell::Blocked));
    assert_eq!(cell(&["fd00:10:244::/48"]), Some(Cell::Blocked));
}

#[test]
fn a_pod_without_an_address_is_blocked() {
    let network =
        network(vec![pod("a", &[], &[(Protocol::Tcp, 80)]), pod("b", &["10.244.1.3"], &[])], &["0.0.0.0/0"]);
    let matrix = predict(&network, &pods_of(&network));
    let [a, b] = ["a", "b"].map(|n| Entry::Pod(NamespacedName::new("shop", n)));
    let port = ServedPort { protocol: Protocol::Tcp, port: 80 };
    assert_eq!(matrix.cell(port, Grid::Combined, &b, &a), Some(Cell::Blocked));
}

fn matrix(text: &str) -> Matrix {
    serde_json::from_str(text).unwrap()
}

#[test]
fn differences_leave_out_the_diagonal_and_do_not_mind_the_order() {
    let left = matrix(
        r#"{"id": 7, "order": ["s/a", "s/b"], "table": {"TCP/80": {"combined": {"s/a": "X.", "s/b": "X-"}}}}"#,
    );
    let right = matrix(
        r#"{"id": "x", "order": ["s/b", "s/a"], "table": {"TCP/80": {"combined": {"s/a": "..", "s/b": "-."}, "ingress": {}}}}"#,
    );
    let differences = left.differences(&right);
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["s/b → s/a TCP/80 Combined: `X` and `.`"]);
    assert_eq!(left.differences(&left), []);
}

#[test]
fn a_row_or_column_that_one_matrix_lacks_is_a_difference() {
    let left =
        matrix(r#"{"order": ["s/a", "s/b"], "table": {"TCP/80": {"combined": {"s/a": "..", "s/b": ".."}}}}"#);
    let right =
        matrix(r#"{"order": ["s/a", "s/c"], "table": {"TCP/80": {"combined": {"s/a": "..", "s/c": ".."}}}}"#);
    assert_eq!(left.differences(&right).len(), 4);
    let empty = matrix(r#"{"order": ["s/a", "s/b"], "table": {}}"#);
    assert_eq!(left.differences(&empty).len(), 2);
    assert_eq!(empty.differences(&left).len(), 2);
}

#[test]
fn entries_ports_and_rows_refuse_garbage() {
    for entry in ["", "node:", "service:x", "service:", "a/b/c", "Outside"] {
        assert!(entry.parse::<Entry>().is_err(), "{entry}");
    }
    for entry in ["s/a", "node:node-1", "service:s/web", "outside"] {
        assert_eq!(entry.parse::<Entry>().unwrap().to_string(), entry);
    }
    assert!("TCP".parse::<ServedPort>().is_err());
    assert!("ICMP/1".parse::<ServedPort>().is_err());
    assert!(
        serde_json::from_str::<Matrix>(r#"{"order": [], "table": {"TCP/80": {"ingress": {"s/a": "?"}}}}"#)
            .is_err()
    );
}
