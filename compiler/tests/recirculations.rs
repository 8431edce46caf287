//! How often a packet of an established connection goes through the datapath again, on every node that it meets: once for
//! each look into connection tracking. The table in docs/services.md says why for each; the switch counts the same
//! (`switch_services`).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use compiler::FlowAction;
use compiler::simulate::matrix::{Site, compile_all};
use compiler::simulate::{Fabric, Outcome, Packet, Walk};
use network::{
    Labels, NamespacedName, Network, Node, NodeName, Pod, Protocol, Service, ServiceEndpoint, ServiceKind,
    ServicePort,
};
use openflow::Action;

const VIP: [u8; 4] = [10, 96, 0, 10];
/// The name by which the host hands over what asks for its node ports.
const NODE_PORTS: [u8; 4] = [169, 254, 254, 2];
const NODE_PORT: u16 = 30_080;
const OUTSIDE: [u8; 4] = [198, 51, 100, 9];

/// Two pods on node-1, `web-1` and `client`, and `web-2` on node-2; the Service has one endpoint.
fn network(endpoint: [u8; 4]) -> Network {
    let mut network = Network::default();
    for k in [1u8, 2] {
        let node = Node {
            name: NodeName::new(format!("node-{k}")),
            labels: Labels::new(),
            addresses: vec![[172, 30, 0, k].into()],
            pod_cidrs: vec![format!("10.244.{k}.0/24").parse().unwrap()],
            ..Node::default()
        };
        network.nodes.insert(node.name.clone(), node);
    }
    for (name, node, last) in [("web-1", 1u8, 2u8), ("client", 1, 3), ("web-2", 2, 2)] {
        let pod = Pod {
            key: NamespacedName::new("ns", name),
            uid: format!("uid-{name}"),
            node: Some(NodeName::new(format!("node-{node}"))),
            labels: Default::default(),
            addresses: vec![[10, 244, node, last].into()],
            host_network: false,
            completed: false,
            ports: vec![],
        };
        network.pods.insert(pod.key.clone(), pod);
    }
    let endpoint = ServiceEndpoint::new([endpoint.into()], 8080);
    let key = NamespacedName::new("ns", "web");
    let service = Service {
        kind: ServiceKind::NodePort,
        cluster_ips: [VIP.into()].into(),
        ports: vec![ServicePort {
            node_port: Some(NODE_PORT),
            ..ServicePort::new(Protocol::Tcp, 80, [endpoint])
        }],
        ..Service::new(key.clone())
    };
    network.services.insert(key, service);
    network
}

/// Actions that send the packet through the datapath again, node by node.
fn recirculations(sites: &[Site], walk: &Walk) -> Vec<usize> {
    assert!(walk.passed(), "{walk:#?}");
    let again = |action: &&FlowAction| matches!(action, FlowAction::Do(Action::Ct(ct)) if ct.table.is_some());
    let of_hop = |hop: &compiler::simulate::Hop| {
        let program = &sites.iter().find(|site| site.node.name == hop.node).unwrap().program;
        let flows = hop.trace.steps.iter().filter_map(|step| program.flows.get(step.flow.as_ref()?));
        flows.map(|flow| flow.actions.iter().filter(again).count()).sum()
    };
    walk.hops.iter().map(of_hop).collect()
}

enum From {
    Pod(&'static str),
    Host,
}

fn send(fabric: &mut Fabric<'_>, from: &From, packet: Packet) -> Walk {
    match from {
        From::Pod(name) => fabric.from_pod(&NamespacedName::new("ns", *name), packet).unwrap(),
        From::Host => fabric.from_node(&NodeName::new("node-1"), packet),
    }
}

/// Of an established connection, there and back.
fn established(
    endpoint: [u8; 4],
    from: From,
    source: [u8; 4],
    to: ([u8; 4], u16),
) -> (Vec<usize>, Vec<usize>) {
    let sites = compile_all(&network(endpoint));
    let mut fabric = Fabric::new(sites.iter().map(|s| (&s.node, &s.program, s.ports.as_slice())));
    let packet = Packet::first(IpAddr::from(source), IpAddr::from(to.0), Protocol::Tcp, to.1);
    let names: BTreeMap<[u8; 4], &str> =
        [([10, 244, 1, 2], "web-1"), ([10, 244, 1, 3], "client"), ([10, 244, 2, 2], "web-2")].into();
    let answerer = From::Pod(names[&endpoint]);
    let walk = send(&mut fabric, &from, packet.clone());
    assert!(matches!(walk.outcome, Outcome::Delivered { .. }), "{walk:#?}");
    let back = send(&mut fabric, &answerer, walk.packet.reply());
    assert!(back.passed(), "{back:#?}");
    let walk = send(&mut fabric, &from, packet.later());
    let back = send(&mut fabric, &answerer, walk.packet.reply().later());
    (recirculations(&sites, &walk), recirculations(&sites, &back))
}

#[test]
fn an_established_packet_goes_through_the_datapath_again_once_and_once_more_where_it_is_masked() {
    const WEB_1: [u8; 4] = [10, 244, 1, 2];
    const CLIENT: [u8; 4] = [10, 244, 1, 3];
    const WEB_2: [u8; 4] = [10, 244, 2, 2];
    const NODE: [u8; 4] = [172, 30, 0, 1];
    let client = || From::Pod("client");
    let cases: [(&str, _, _, _); 8] = [
        ("pod to Service, same node", established(WEB_1, client(), CLIENT, (VIP, 80)), vec![1], vec![1]),
        (
            "pod to Service, other node",
            established(WEB_2, client(), CLIENT, (VIP, 80)),
            vec![1, 1],
            vec![1, 1],
        ),
        ("pod to itself", established(CLIENT, client(), CLIENT, (VIP, 80)), vec![2], vec![2]),
        ("host to Service, same node", established(WEB_1, From::Host, NODE, (VIP, 80)), vec![1], vec![1]),
        (
            "host to Service, other node",
            established(WEB_2, From::Host, NODE, (VIP, 80)),
            vec![1, 1],
            vec![1, 1],
        ),
        (
            "outside to node port, same node",
            established(WEB_1, From::Host, OUTSIDE, (NODE_PORTS, NODE_PORT)),
            vec![1],
            vec![1],
        ),
        (
            "outside to node port, other node",
            established(WEB_2, From::Host, OUTSIDE, (NODE_PORTS, NODE_PORT)),
            vec![2, 1],
            vec![1, 2],
        ),
        // What a Service costs beside this is nothing.
        ("pod to pod", established(WEB_2, client(), CLIENT, (WEB_2, 8080)), vec![1, 1], vec![1, 1]),
    ];
    for (what, counted, there, back) in cases {
        assert_eq!(counted, (there, back), "{what}");
    }
}
