//! What a pod may not send, simulated: each lie beside an honest packet of the same shape. The dataplane tier attacks for real.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use compiler::simulate::matrix::compile_all;
use compiler::simulate::{Fabric, Outcome, Packet};
use network::{Labels, NamespacedName, Network, Node, NodeName, Pod, Protocol};
use openflow::Field;

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
        let pod = Pod {
            key: NamespacedName::new("ns", format!("pod-{k}")),
            uid: format!("uid-{k}"),
            node: Some(node.name.clone()),
            labels: Default::default(),
            addresses: vec![IpAddr::from([10, 244, k, 2])],
            host_network: false,
            completed: false,
            ports: vec![],
        };
        network.nodes.insert(node.name.clone(), node);
        network.pods.insert(pod.key.clone(), pod);
    }
    network
}

/// What becomes of a datagram of the first pod.
fn sent(to: [u8; 4], port: u16, vlan: u128) -> bool {
    let sites = compile_all(&network());
    let mut fabric = Fabric::new(sites.iter().map(|s| (&s.node, &s.program, s.ports.as_slice())));
    let mut packet = Packet::first([10, 244, 1, 2].into(), to.into(), Protocol::Udp, port);
    packet.set(Field::VLAN_VID, vlan);
    let walk = fabric.from_pod(&NamespacedName::new("ns", "pod-1"), packet).unwrap();
    !matches!(walk.outcome, Outcome::Dropped { .. })
}

const OTHER_POD: [u8; 4] = [10, 244, 2, 2];
const OTHER_NODE: [u8; 4] = [172, 30, 0, 2];
const OUTSIDE: [u8; 4] = [192, 0, 2, 1];

#[test]
fn a_tag_goes_nowhere() {
    assert!(sent(OTHER_POD, 53, 0));
    for vlan in [0x1000, 0x1001, 0x1fff] {
        assert!(!sent(OTHER_POD, 53, vlan), "tagged {vlan:#x}");
    }
}

#[test]
fn geneve_goes_to_pods_alone() {
    for (to, may) in [(OTHER_POD, true), (OTHER_NODE, false), (OUTSIDE, false)] {
        assert!(sent(to, 6082, 0), "{to:?}");
        assert_eq!(sent(to, 6081, 0), may, "{to:?}");
    }
}
