//! Random networks: two nodes, a few pods in two namespaces, policies with every kind of peer and port, Services. The switch
//! tier uses them too.

mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::{
    Action, Cidr, Direction, IpBlock, Isolation, LabelSelector, Labels, NamedPort, NamespaceSelector,
    NamespacedName, Network, Node, NodeName, Operator, Peers, Pod, Policy, PolicyId, PolicyKind, PortMatch,
    PortRange, Ports, Protocol, Requirement, Rule, Selector, Tier,
};
use proptest::prelude::*;

const APPS: [&str; 3] = ["cart", "shop", "bank"];

/// Few, so that some are equal; both ends of what the API allows.
const PRIORITIES: [u32; 4] = [0, 7, 7, 1_000];

fn node(k: u8) -> Node {
    Node {
        name: NodeName::new(format!("node-{k}")),
        labels: labels(usize::from(k)),
        addresses: vec![IpAddr::from([172, 30, 0, k]), format!("fd00:172::{k}").parse().unwrap()],
        pod_cidrs: vec![
            format!("10.244.{k}.0/24").parse().unwrap(),
            format!("fd00:10:244:{k}::/64").parse().unwrap(),
        ],
        // The last is a translator's before both.
        external: vec![
            IpAddr::from([203, 0, 113, k]),
            format!("2001:db8::{k}").parse().unwrap(),
            IpAddr::from([203, 0, 113, 9]),
        ],
    }
}

fn labels(app: usize) -> Labels {
    Labels::from([("app".to_owned(), APPS[app].to_owned())])
}

/// What a random pod is.
type PodSeed = (u8, usize, usize, bool, u16, u8);

fn pod(index: usize, (node, namespace, app, host_network, port, kind): PodSeed) -> Pod {
    let k = node % 2 + 1;
    let host = index as u8 + 2;
    let addresses: Vec<IpAddr> = match host_network {
        true => vec![IpAddr::from([172, 30, 0, k])],
        false => {
            vec![IpAddr::from([10, 244, k, host]), format!("fd00:10:244:{k}::{host:x}").parse().unwrap()]
        }
    };
    Pod {
        key: NamespacedName::new(format!("ns-{namespace}"), format!("pod-{index}")),
        uid: format!("uid-{index}"),
        node: Some(NodeName::new(format!("node-{k}"))),
        labels: labels(app).into(),
        addresses,
        host_network,
        completed: kind == 0,
        ports: vec![
            NamedPort { name: Some("web".into()), protocol: Protocol::Tcp, number: port },
            NamedPort { name: Some("web".into()), protocol: Protocol::Udp, number: port + 1 },
        ],
    }
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let operator = prop_oneof![
        Just(Operator::In),
        Just(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist)
    ];
    prop_oneof![
        2 => Just(LabelSelector::everything()),
        3 => (operator, prop::collection::btree_set(0usize..3, 1..3)).prop_map(|(operator, apps)| {
            let values = match operator {
                Operator::In | Operator::NotIn => apps.into_iter().map(|app| APPS[app].to_owned()).collect(),
                _ => BTreeSet::new(),
            };
            LabelSelector::new([Requirement { key: "app".into(), operator, values: values.into() }])
        }),
    ]
}

fn pods_selector() -> impl Strategy<Value = Selector> {
    let namespaces = prop_oneof![
        (0usize..2).prop_map(|n| NamespaceSelector::Name(format!("ns-{n}"))),
        selector().prop_map(NamespaceSelector::Labels),
    ];
    (namespaces, selector()).prop_map(|(namespaces, pods)| Selector::Pods { namespaces, pods, port: None })
}

/// Who may be a peer: nodes too, which only the ordered tiers can name.
fn peer_selector() -> impl Strategy<Value = Selector> {
    prop_oneof![5 => pods_selector(), 1 => selector().prop_map(Selector::Nodes)]
}

fn block() -> impl Strategy<Value = IpBlock> {
    const CIDRS: [&str; 7] = [
        "10.244.0.0/16",
        "10.244.1.0/24",
        "10.244.1.2/32",
        "0.0.0.0/0",
        "fd00:10:244::/47",
        "::/0",
        "172.30.0.0/24",
    ];
    const HOLES: [&str; 4] = ["10.244.1.0/28", "10.244.1.4/31", "fd00:10:244:1::/64", "10.244.2.0/24"];
    (prop::sample::select(&CIDRS[..]), prop::collection::vec(prop::sample::select(&HOLES[..]), 0..3))
        .prop_map(|(cidr, holes)| {
            let cidr: Cidr = cidr.parse().unwrap();
            let except = holes.into_iter().map(|h| h.parse().unwrap()).filter(|h| cidr.covers(h)).collect();
            IpBlock { cidr, except }
        })
}

fn ports() -> impl Strategy<Value = Ports> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let one = (protocol, 0u8..4, 78u16..84, 0u16..5).prop_map(|(protocol, kind, first, more)| match kind {
        0 => PortMatch::Named { protocol, name: "web".into() },
        1 => PortMatch::Range(PortRange::all(protocol)),
        2 => PortMatch::Range(PortRange { protocol, first, last: first + more }),
        _ => PortMatch::Range(PortRange::single(protocol, first)),
    });
    prop_oneof![1 => Just(Ports::Any), 3 => prop::collection::btree_set(one, 0..3).prop_map(Ports::Some)]
}

type RuleSeed = (bool, Option<(Vec<Selector>, Vec<IpBlock>)>, Ports);

fn rule() -> impl Strategy<Value = RuleSeed> {
    let peers = prop::option::weighted(
        0.8,
        (prop::collection::vec(peer_selector(), 0..3), prop::collection::vec(block(), 0..2)),
    );
    (any::<bool>(), peers, ports())
}

fn tier() -> impl Strategy<Value = Tier> {
    prop_oneof![3 => Just(Tier::NetworkPolicy), 1 => Just(Tier::Admin), 1 => Just(Tier::Baseline)]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Accept), Just(Action::Deny), Just(Action::Pass)]
}

/// Any network.
pub fn network() -> impl Strategy<Value = Network> {
    let pods = prop::collection::vec(
        (0u8..2, 0usize..2, 0usize..3, prop::bool::weighted(0.1), 79u16..82, 0u8..12),
        2..7,
    );
    let policies = prop::collection::vec(
        (
            (0usize..2, selector(), any::<bool>(), any::<bool>(), tier()),
            (pods_selector(), prop::sample::select(&PRIORITIES[..])),
            prop::collection::vec((rule(), action()), 0..4),
        ),
        0..6,
    );
    (pods, policies, services::services()).prop_map(|(pods, policies, services)| {
        let mut network = Network::default();
        for k in [1, 2] {
            network.nodes.insert(node(k).name.clone(), node(k));
        }
        network.services = services.into_iter().map(|service| (service.key.clone(), service)).collect();
        for n in 0..2 {
            network.namespaces.insert(format!("ns-{n}"), labels(n));
        }
        for (index, seed) in pods.into_iter().enumerate() {
            let pod = pod(index, seed);
            network.pods.insert(pod.key.clone(), pod);
        }
        for (index, ((namespace, subject, ingress, egress, tier), (anywhere, priority), rules)) in
            policies.into_iter().enumerate()
        {
            let namespace = format!("ns-{namespace}");
            let subject = network.intern(match tier {
                Tier::NetworkPolicy => Selector::pods_in(&namespace, subject),
                Tier::Admin | Tier::Baseline => anywhere,
            });
            let mut counts = BTreeMap::new();
            let rules: Vec<Rule> = rules
                .into_iter()
                .map(|((towards, peers, ports), action)| {
                    let direction = if towards { Direction::Ingress } else { Direction::Egress };
                    let count = counts.entry(direction).or_insert(0);
                    *count += 1;
                    let peers = match peers {
                        None => Peers::Any,
                        Some((selectors, blocks)) => Peers::Some {
                            sets: selectors.into_iter().map(|s| network.intern(s)).collect(),
                            blocks: blocks.into_iter().collect(),
                        },
                    };
                    let action = if tier == Tier::NetworkPolicy { Action::Accept } else { action };
                    Rule { index: *count - 1, direction, action, peers, ports }
                })
                .filter(|rule| if rule.direction == Direction::Ingress { ingress } else { egress })
                .collect();
            let name = format!("policy-{index}");
            let id = match tier {
                Tier::NetworkPolicy => PolicyId { kind: PolicyKind::NetworkPolicy, namespace, name },
                _ => PolicyId { kind: PolicyKind::ClusterNetworkPolicy, namespace: String::new(), name },
            };
            let isolates = match tier {
                Tier::NetworkPolicy => Isolation { ingress, egress },
                _ => Isolation::default(),
            };
            let policy = Policy {
                id: id.clone(),
                generation: 1,
                tier,
                priority: if tier == Tier::NetworkPolicy { 0 } else { priority },
                subject,
                isolates,
                audit: rules.len() % 2 == 1,
                rules,
            };
            network.policies.insert(id, policy);
        }
        network
    })
}
