//! Random small networks for property tests: few names and labels, so that everything collides with everything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use network::policy::{Action, Direction, IpBlock, Isolation, Peers, PortMatch, Ports, Rule, Tier};
use network::selector::NamespaceSelector;
use network::{
    Cidr, Few, LabelSelector, Labels, NamedPort, NamespacedName, Network, Node, NodeName, Operator, Pod,
    Policy, PolicyId, PolicyKind, PortRange, Protocol, Requirement, Selector,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

pub const NAMESPACES: [&str; 3] = ["alpha", "beta", "gamma"];
pub const PORTS: [u16; 3] = [80, 81, 443];
const PORT_NAMES: [&str; 2] = ["http", "metrics"];

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(words).prop_map(str::to_owned)
}

pub fn labels() -> impl Strategy<Value = Labels> {
    btree_map(word(&["app", "tier"]), word(&["a", "b"]), 0..=2)
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = btree_set(word(&["a", "b"]), 1..=2);
    (word(&["app", "tier"]), 0..4u8, values).prop_map(|(key, operator, values)| match operator {
        0 => Requirement { key, operator: Operator::In, values: values.into() },
        1 => Requirement { key, operator: Operator::NotIn, values: values.into() },
        2 => Requirement { key, operator: Operator::Exists, values: Few::new() },
        _ => Requirement { key, operator: Operator::DoesNotExist, values: Few::new() },
    })
}

fn label_selector() -> impl Strategy<Value = LabelSelector> {
    vec(requirement(), 0..=2).prop_map(LabelSelector::new)
}

fn selector() -> impl Strategy<Value = Selector> {
    let namespaces = prop_oneof![
        word(&NAMESPACES).prop_map(NamespaceSelector::Name),
        label_selector().prop_map(NamespaceSelector::Labels),
    ];
    (namespaces, label_selector()).prop_map(|(namespaces, pods)| Selector::Pods {
        namespaces,
        pods,
        port: None,
    })
}

pub fn protocol() -> impl Strategy<Value = Protocol> {
    proptest::sample::select(&Protocol::ALL[..])
}

fn port_match() -> impl Strategy<Value = PortMatch> {
    let range =
        (protocol(), proptest::sample::select(&PORTS[..]), 0..400u16).prop_map(|(protocol, first, more)| {
            PortMatch::Range(PortRange { protocol, first, last: first + more })
        });
    prop_oneof![
        range,
        protocol().prop_map(|p| PortMatch::Range(PortRange::all(p))),
        (protocol(), word(&PORT_NAMES)).prop_map(|(protocol, name)| PortMatch::Named { protocol, name }),
    ]
}

/// A prefix of 10.244.0.0/16 or the outside, of which the host addresses of [`pods`] fall into some.
fn block() -> impl Strategy<Value = IpBlock> {
    let hole = (0..8u8, 28..=32u8);
    (0..3u8, 22..=30u8, vec(hole, 0..=2)).prop_map(|(third, length, holes)| {
        let cidr = Cidr::new(Ipv4Addr::new(10, 244, third, 0).into(), length).expect("fits");
        let except = holes
            .into_iter()
            .filter_map(|(last, length)| Cidr::new(Ipv4Addr::new(10, 244, third, last).into(), length).ok())
            .filter(|hole| cidr.covers(hole))
            .collect();
        IpBlock { cidr, except }
    })
}

type RawPeers = Option<(Vec<Selector>, BTreeSet<IpBlock>)>;

/// Nodes too, which only the ordered tiers can name.
fn peer_selector() -> impl Strategy<Value = Selector> {
    prop_oneof![4 => selector(), 1 => label_selector().prop_map(Selector::Nodes)]
}

fn peers() -> impl Strategy<Value = RawPeers> {
    option::weighted(0.8, (vec(peer_selector(), 0..=2), btree_set(block(), 0..=2)))
}

/// A rule before its selectors are interned.
#[derive(Clone, Debug)]
pub struct RawRule {
    pub direction: Direction,
    peers: RawPeers,
    ports: Option<BTreeSet<PortMatch>>,
    action: Action,
}

pub fn rule() -> impl Strategy<Value = RawRule> {
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    let action = prop_oneof![Just(Action::Accept), Just(Action::Deny), Just(Action::Pass)];
    (direction, peers(), option::weighted(0.7, btree_set(port_match(), 0..=2)), action)
        .prop_map(|(direction, peers, ports, action)| RawRule { direction, peers, ports, action })
}

impl RawRule {
    pub fn into_rule(self, network: &mut Network, index: u32, tier: Tier) -> Rule {
        Rule {
            index,
            direction: self.direction,
            action: if tier == Tier::NetworkPolicy { Action::Accept } else { self.action },
            peers: match self.peers {
                None => Peers::Any,
                Some((selectors, blocks)) => {
                    Peers::Some { sets: selectors.into_iter().map(|s| network.intern(s)).collect(), blocks }
                }
            },
            ports: self.ports.map_or(Ports::Any, Ports::Some),
        }
    }
}

#[derive(Clone, Debug)]
pub struct RawPolicy {
    tier: Tier,
    priority: u32,
    namespace: String,
    subject: LabelSelector,
    isolates: Isolation,
    rules: Vec<RawRule>,
}

fn policy(tiers: &'static [Tier]) -> impl Strategy<Value = RawPolicy> {
    (
        proptest::sample::select(tiers),
        0..3u32,
        word(&NAMESPACES),
        label_selector(),
        (any::<bool>(), any::<bool>()),
        vec(rule(), 0..=3),
    )
        .prop_map(|(tier, priority, namespace, subject, (ingress, egress), rules)| RawPolicy {
            tier,
            priority,
            namespace,
            subject,
            isolates: Isolation { ingress, egress },
            rules,
        })
}

impl RawPolicy {
    pub fn add_to(self, network: &mut Network, name: String) -> PolicyId {
        let ordered = self.tier != Tier::NetworkPolicy;
        let id = PolicyId {
            kind: if ordered { PolicyKind::ClusterNetworkPolicy } else { PolicyKind::NetworkPolicy },
            namespace: if ordered { String::new() } else { self.namespace.clone() },
            name,
        };
        let subject = network.intern(Selector::pods_in(self.namespace, self.subject));
        let isolates = if ordered { Isolation::default() } else { self.isolates };
        let mut counters = BTreeMap::new();
        let rules = self
            .rules
            .into_iter()
            .filter(|rule| ordered || isolates.of(rule.direction))
            .map(|rule| {
                let next = counters.entry(rule.direction).or_insert(0);
                let index = *next;
                *next += 1;
                rule.into_rule(network, index, self.tier)
            })
            .collect();
        let priority = if ordered { self.priority } else { 0 };
        let rules: Vec<Rule> = rules;
        let audit = rules.len() % 2 == 1;
        let policy = Policy {
            id: id.clone(),
            generation: 1,
            tier: self.tier,
            priority,
            subject,
            isolates,
            audit,
            rules,
        };
        network.policies.insert(id.clone(), policy);
        id
    }
}

fn named_port() -> impl Strategy<Value = NamedPort> {
    (option::of(word(&PORT_NAMES)), protocol(), proptest::sample::select(&PORTS[..]))
        .prop_map(|(name, protocol, number)| NamedPort { name, protocol, number })
}

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let one = (word(&NAMESPACES), labels(), any::<bool>(), 0..10u8, vec(named_port(), 0..=3));
    vec(one, 2..=6).prop_map(|pods| {
        let make = |(index, (namespace, labels, second, kind, ports)): (
            usize,
            (String, Labels, bool, u8, Vec<NamedPort>),
        )| {
            let node = if second { 2 } else { 1 };
            let address: IpAddr = match kind {
                0 => node_address(node),
                _ => Ipv4Addr::new(10, 244, node, 2 + index as u8).into(),
            };
            Pod {
                key: NamespacedName::new(namespace, format!("pod-{index}")),
                uid: format!("uid-{index}"),
                node: Some(NodeName::new(format!("node-{node}"))),
                labels: labels.into(),
                addresses: vec![address],
                host_network: kind == 0,
                completed: kind == 1,
                ports,
            }
        };
        pods.into_iter().enumerate().map(make).collect()
    })
}

fn node_address(node: u8) -> IpAddr {
    Ipv4Addr::new(172, 30, 0, node).into()
}

/// Labels and external addresses; of these one is of both nodes, and one is the other's own.
fn node(number: u8) -> impl Strategy<Value = Node> {
    let external =
        [[203, 0, 113, 1].into(), [203, 0, 113, 2].into(), [203, 0, 113, 7].into(), node_address(3 - number)];
    (labels(), btree_set(proptest::sample::select(external.to_vec()), 0..=2)).prop_map(
        move |(labels, external)| Node {
            name: NodeName::new(format!("node-{number}")),
            labels,
            addresses: vec![node_address(number)],
            pod_cidrs: vec![Cidr::new(Ipv4Addr::new(10, 244, number, 0).into(), 24).expect("fits")],
            external: external.into_iter().collect(),
        },
    )
}

pub fn network(tiers: &'static [Tier]) -> impl Strategy<Value = Network> {
    let nodes = (node(1), node(2));
    (nodes, vec(labels(), 3), pods(), vec(policy(tiers), 0..=4)).prop_map(
        |(nodes, namespaces, pods, policies)| {
            let mut network = Network::default();
            for node in [nodes.0, nodes.1] {
                network.nodes.insert(node.name.clone(), node);
            }
            network.namespaces = NAMESPACES.iter().map(|name| (*name).to_owned()).zip(namespaces).collect();
            network.pods = pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect();
            for (index, policy) in policies.into_iter().enumerate() {
                policy.add_to(&mut network, format!("policy-{index}"));
            }
            network
        },
    )
}
