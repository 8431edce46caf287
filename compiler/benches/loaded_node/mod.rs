//! A node of a large cluster: its pods, the rules that police them, the address sets that these rules name. For benchmarks;
//! a function of its arguments alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use compiler::{Datapath, LocalPort, NodeConfig, PortRef, Program};
use network::view::{AddressSet, LocalPod, NodeView, PeerMatch, ViewPolicy, ViewRule};
use network::{
    Action, Direction, Isolation, Labels, Mac, NamespacedName, Node, NodeName, PolicyId, PolicyKind,
    PortRange, Protocol, SetId, Tier,
};
use openflow::{FlowMod, PortNo};

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Nodes of the cluster.
    pub nodes: u16,
    /// Pods of this node.
    pub pods: u16,
    /// Rules of all policies.
    pub rules: u32,
    /// Distinct address sets.
    pub sets: u32,
    /// Addresses in each; every fifth set is IPv6.
    pub members: u32,
}

/// The load that the budget of an agent's memory names.
pub const BUDGET: Load = Load { nodes: 100, pods: 110, rules: 10_000, sets: 2_000, members: 50 };

/// Rules in one policy.
const RULES_PER_POLICY: u32 = 10;
/// Pods of one application, which policies select together.
const PODS_PER_APP: u16 = 11;

fn subject(app: u16) -> SetId {
    SetId(1 << 100 | u128::from(app))
}

fn set(number: u32) -> SetId {
    SetId(2 << 100 | u128::from(number))
}

/// Members of different sets are different addresses.
fn member(number: u32, place: u32, load: Load) -> IpAddr {
    let index = number * load.members + place;
    match number % 5 {
        0 => Ipv6Addr::from(0xfd00_0010_0245_u128 << 80 | u128::from(index)).into(),
        _ => Ipv4Addr::from(0x0a80_0000 + index).into(),
    }
}

fn node(number: u16) -> Node {
    let [high, low] = number.to_be_bytes();
    Node {
        name: NodeName::new(format!("node-{number}")),
        labels: Labels::new(),
        addresses: vec![IpAddr::from([172, 30, high, low])],
        pod_cidrs: [format!("10.{}.{low}.0/24", 64 + high), format!("fd00:10:244:{number:x}::/64")]
            .iter()
            .filter_map(|cidr| cidr.parse().ok())
            .collect(),
        ..Node::default()
    }
}

fn rule(number: u32, policy: u32, load: Load, apps: u16) -> ViewRule {
    let protocol = if number.is_multiple_of(4) { Protocol::Udp } else { Protocol::Tcp };
    let port = 1_024 + (number % 300) as u16;
    let ports = match number % 8 {
        0 => None,
        1 => Some(BTreeSet::from([PortRange { protocol, first: port, last: port + 20 }])),
        _ => Some(BTreeSet::from([PortRange::single(protocol, port)])),
    };
    ViewRule {
        index: number % RULES_PER_POLICY,
        direction: match (number / load.sets).is_multiple_of(2) {
            true => Direction::Ingress,
            false => Direction::Egress,
        },
        action: Action::Accept,
        subject: subject((policy % u32::from(apps)) as u16),
        peers: PeerMatch::Some { sets: [set(number % load.sets)].into(), blocks: BTreeSet::new() },
        ports,
    }
}

/// The node's view, its configuration and its ports.
pub fn loaded_node(load: Load) -> (NodeView, NodeConfig, Vec<LocalPort>) {
    let apps = load.pods.div_ceil(PODS_PER_APP);
    let mut view = NodeView::default();
    for number in 1..=load.nodes {
        let node = node(number);
        view.nodes.insert(node.name.clone(), node);
    }
    let mut ports = Vec::new();
    for number in 0..load.pods {
        let host = number + 2;
        let [high, low] = host.to_be_bytes();
        let v4 = IpAddr::from([10, 64, 1 + high, low]);
        let v6 = Ipv6Addr::from(0xfd00_0010_0244_0001_u128 << 64 | u128::from(host)).into();
        let key = NamespacedName::new("shop", format!("pod-{number}"));
        let pod = LocalPod {
            key: key.clone(),
            uid: format!("uid-{number}"),
            addresses: vec![v4, v6],
            member_of: BTreeSet::from([subject(number % apps)]),
        };
        ports.push(LocalPort {
            interface: format!("fe{number:012x}"),
            pod: Some((key.clone(), pod.uid.clone())),
            mac: Mac::from_address(v4),
            addresses: vec![v4, v6],
        });
        view.pods.insert(key, pod);
    }
    for number in 0..load.sets {
        let members = (0..load.members).map(|place| member(number, place, load)).collect();
        view.sets.insert(set(number), AddressSet { id: set(number), members });
    }
    for policy in 0..load.rules.div_ceil(RULES_PER_POLICY) {
        let name = format!("policy-{policy}");
        let id = PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "shop".into(), name };
        let first = policy * RULES_PER_POLICY;
        let rules: Vec<ViewRule> = (first..load.rules.min(first + RULES_PER_POLICY))
            .map(|number| rule(number, policy, load, apps))
            .collect();
        let isolates = Isolation {
            ingress: rules.iter().any(|rule| rule.direction == Direction::Ingress),
            egress: rules.iter().any(|rule| rule.direction == Direction::Egress),
        };
        let policy = ViewPolicy {
            id: id.clone(),
            generation: 1,
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: subject((policy % u32::from(apps)) as u16),
            isolates,
            audit: false,
            rules,
        };
        view.policies.insert(id, policy);
    }
    let config = NodeConfig::new(NodeName::new("node-1"), Datapath::Netdev, 1500);
    (view, config, ports)
}

/// The program's flows with port numbers as an agent would bind them.
pub fn bound(program: &Program, ports: &[LocalPort]) -> Vec<FlowMod> {
    let interfaces: BTreeMap<&str, u32> =
        ports.iter().zip(10..).map(|(port, number)| (port.interface.as_str(), number)).collect();
    let number = |port: &PortRef| match port {
        PortRef::Gateway => Some(PortNo(1)),
        PortRef::Tunnel => Some(PortNo(2)),
        PortRef::Interface(name) => interfaces.get(name.as_str()).map(|number| PortNo(*number)),
    };
    program.bind(number).collect()
}
