//! The incremental index against the whole recompute: any changes in any order, any reports of agents, bit by bit.

#[path = "../../network/tests/arbitrary/mod.rs"]
mod arbitrary;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use api::delta::{self, Versions};
use api::stream::Binding;
use controller::bindings::Bindings;
use controller::index::{Index, Oracle};
use network::{
    Action, Change, Direction, Isolation, LabelSelector, Labels, NamespacedName, Node, NodeName, NodeView,
    Peers, Pod, Policy, PolicyId, PolicyKind, Ports, Rule, Selector, Service, ServiceEndpoint, ServicePort,
    Tier,
};
use proptest::collection::vec;
use proptest::prelude::*;

const TIERS: &[Tier] = &[Tier::Admin, Tier::NetworkPolicy, Tier::Baseline];

/// An agent's report: which pods of the moment's network (by number), with which addresses.
#[derive(Clone, Debug)]
struct Report {
    node: u8,
    pods: Vec<(usize, u8, bool)>,
    whole: bool,
}

fn report() -> impl Strategy<Value = Report> {
    let pod = (0..6usize, 0..6u8, prop::bool::weighted(0.9));
    (1..=3u8, vec(pod, 0..4), any::<bool>()).prop_map(|(node, pods, whole)| Report { node, pods, whole })
}

impl Report {
    /// Smaller numbers than pods: addresses collide, with those of objects too.
    fn bindings(&self, pods: &[&Pod]) -> Vec<Binding> {
        let bind = |(index, last, right): &(usize, u8, bool)| {
            let pod = pods.get(index % pods.len().max(1))?;
            let address: IpAddr = Ipv4Addr::new(10, 244, self.node, *last).into();
            Some(Binding {
                pod: pod.key.clone(),
                uid: if *right { pod.uid.clone() } else { "another".into() },
                addresses: vec![address],
                interface: "veth".into(),
            })
        };
        self.pods.iter().filter_map(bind).collect()
    }
}

/// What an agent holds that takes every delta.
#[derive(Default)]
struct Follower {
    known: Versions,
    view: NodeView,
}

impl Follower {
    fn follow(&mut self, index: &Index, node: &NodeName) -> Result<(), TestCaseError> {
        let Some(resources) = index.resources(node) else { return Ok(()) };
        let lacks = delta::delta_where(&self.known, resources, true, |_| true).delta;
        let applied = delta::apply(&mut self.view, &lacks);
        prop_assert_eq!(&applied.rejected, &vec![]);
        self.known = resources.versions();
        prop_assert_eq!(&delta::versions(&self.view), &self.known);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_and_reports_comes_to_what_a_recompute_says(
        mut networks in vec(arbitrary::network(TIERS), 1..4),
        reports in vec(report(), 0..8),
        order in vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 12),
        elsewhere in any::<bool>(),
    ) {
        for (number, network) in networks.iter_mut().enumerate() {
            vary(network, number, elsewhere);
        }
        networks.push(Default::default());
        let (mut index, mut oracle, mut bindings) = (Index::default(), Oracle::default(), Bindings::default());
        let mut followers: BTreeMap<NodeName, Follower> = BTreeMap::new();
        for node in 1..=3 {
            let name = NodeName::new(format!("node-{node}"));
            index.attend(&name);
            followers.insert(name, Follower::default());
        }
        let mut reports = reports.into_iter();
        let mut held = network::Network::default();
        let mut dice = order.iter().cycle();
        for network in &networks {
            let mut changes = network.changes_since(&held);
            while !changes.is_empty() {
                let (at, settle, say) = dice.next().unwrap();
                let change = changes.remove(at.index(changes.len()));
                held.apply(change.clone());
                oracle.apply(change.clone());
                index.apply(change);
                if let Some(report) = reports.next().filter(|_| *say) {
                    let node = NodeName::new(format!("node-{}", report.node));
                    let pods: Vec<&Pod> = held.pods.values().collect();
                    let bound = report.bindings(&pods);
                    if report.whole {
                        bindings.replace(&node, bound, 0);
                    } else {
                        let released: BTreeSet<String> = pods.iter().take(1).map(|pod| pod.uid.clone()).collect();
                        bindings.update(&node, bound, &released, 1);
                    }
                }
                if *settle || changes.is_empty() {
                    index.reports_changed(bindings.take_touched());
                    let before: BTreeMap<NodeName, Versions> = followers.keys().map(|node| {
                        (node.clone(), index.resources(node).map(|it| it.versions()).unwrap_or_default())
                    }).collect();
                    let changed = index.settle(&bindings);
                    prop_assert_eq!(oracle.check(&index, &bindings), Ok(()));
                    for (node, follower) in &mut followers {
                        let differs = index.resources(node).map(|it| it.versions()).unwrap_or_default() != before[node];
                        prop_assert!(changed.contains(node) || !differs, "{} changed and nobody says so", node);
                        follower.follow(&index, node)?;
                    }
                }
            }
        }
        prop_assert_eq!(index.counts(), (0, 0, 0));
    }
}

/// So many that pods, sets and views are made on several cores.
const MANY: u16 = 600;

#[test]
fn what_several_cores_make_is_what_a_recompute_says() {
    let (mut index, mut oracle) = (Index::default(), Oracle::default());
    let mut apply = |change: Change| {
        oracle.apply(change.clone());
        index.apply(change);
    };
    apply(Change::Namespace("many".into(), Labels::new()));
    for k in 0..MANY {
        let own = Labels::from([("app".to_owned(), k.to_string())]);
        let selector = Selector::pods_in("many", LabelSelector::from_labels(&own));
        let name = NodeName::new(format!("node-{}", k % 2));
        let [high, low] = k.to_be_bytes();
        apply(Change::Node(Node {
            name: name.clone(),
            addresses: vec![[172, 30, 0, low % 2].into()],
            ..Node::default()
        }));
        apply(Change::Pod(Pod {
            key: NamespacedName::new("many", format!("pod-{k}")),
            uid: format!("uid-{k}"),
            node: Some(name),
            labels: own.into(),
            addresses: vec![[10, 1, high, low].into()],
            host_network: false,
            completed: false,
            ports: Vec::new(),
        }));
        let rule = Rule {
            index: 0,
            direction: Direction::Ingress,
            action: Action::Accept,
            peers: Peers::Some { sets: [selector.id()].into(), blocks: BTreeSet::new() },
            ports: Ports::Any,
        };
        let policy = Policy {
            id: PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "many".into(), name: k.to_string() },
            generation: 1,
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: selector.id(),
            isolates: Isolation { ingress: true, egress: false },
            audit: false,
            rules: vec![rule],
        };
        apply(Change::policy(policy, [selector]));
    }
    // Nodes without an object: they are asked for.
    let others: Vec<NodeName> = (0..MANY).map(|k| NodeName::new(format!("empty-{k}"))).collect();
    others.iter().for_each(|name| drop(index.attend(name)));
    let bindings = Bindings::default();
    assert_eq!(index.settle(&bindings).len(), usize::from(MANY) + 2);
    others.iter().skip(1).for_each(|name| index.neglect(name));
    assert_eq!(oracle.check(&index, &bindings), Ok(()));
}

/// What the networks of the generator lack: nodes that come, go and change, pods that move, namespaces without an object,
/// Services.
fn vary(network: &mut network::Network, number: usize, elsewhere: bool) {
    network.prune();
    if elsewhere {
        network.namespaces.remove("gamma");
    }
    if number % 2 == 1 {
        let node = NodeName::new("node-2");
        if let Some(mut node) = network.nodes.remove(&node).filter(|_| elsewhere) {
            node.name = NodeName::new("node-3");
            network.nodes.insert(node.name.clone(), node);
        }
        for pod in network.pods.values_mut().take(2) {
            pod.node = elsewhere.then(|| NodeName::new("node-3"));
            pod.uid.push('b');
        }
    }
    let endpoints = network
        .pods
        .values()
        .take(3)
        .map(|pod| ServiceEndpoint { pod: Some(pod.key.clone()), ..ServiceEndpoint::new([], 80) });
    let port = ServicePort::new(network::Protocol::Tcp, 80, endpoints);
    let service = Service {
        kind: if number == 1 { network::ServiceKind::Headless } else { network::ServiceKind::ClusterIp },
        cluster_ips: BTreeSet::from([IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1))]),
        ports: vec![port],
        ..Service::new(NamespacedName::new("alpha", "web"))
    };
    network.services.insert(service.key.clone(), service);
}
