//! The controller at scale: from the first change to every node's delta encoded, and what memory that takes; one label
//! changed among 100,000 pods; which policies touch a pod. Each load runs in a process of its own, so that its memory is its
//! own. Changes are made as they are applied: what the generator holds is not what the index holds.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use api::delta::{self, Resources, Versions};
use api::generated::ferrule::v1alpha1 as wire;
use controller::bindings::Bindings;
use controller::index::Index;
use network::{
    Action, Change, Cidr, Direction, Isolation, LabelSelector, Labels, NamespacedName, Node, NodeName, Peers,
    Pod, Policy, PolicyId, PolicyKind, Ports, Rule, Selector, Tier,
};
use prost::Message;

const NODES: u32 = 1000;

struct Load {
    name: &'static str,
    what: &'static str,
    changes: fn() -> Box<dyn Iterator<Item = Change>>,
    budget: &'static str,
    peer: &'static str,
}

const LOADS: &[Load] = &[
    Load {
        name: "small-namespaces",
        what: "25,000 namespaces x (4 pods + 3 policies)",
        changes: || Box::new((0..25_000).flat_map(small_namespace)),
        budget: "0.6 s, 300 MB",
        peer: "6.7 s, 2,036 MB",
    },
    Load {
        name: "all-select-all",
        what: "1 namespace, 10,000 policies that select and allow all of 10,000 pods",
        changes: || {
            let pods = (0..10_000).map(|n| pod("one", n, n, labels("app", "all")));
            let everybody = LabelSelector::from_labels(&labels("app", "all"));
            let policies = (0..10_000).map(move |n| policy("one", n, everybody.clone(), everybody.clone()));
            Box::new(namespace("one").into_iter().chain(pods).chain(policies))
        },
        budget: "0.35 s, 200 MB",
        peer: "3.6 s, 2,007 MB",
    },
    Load {
        name: "policy-per-pod",
        what: "1 namespace, 10,000 pods, one policy per pod",
        changes: || {
            Box::new(namespace("one").into_iter().chain((0..10_000).flat_map(|n| {
                let own = labels("app", &format!("app-{n}"));
                let selector = LabelSelector::from_labels(&own);
                [pod("one", n, n, own), policy("one", n, selector.clone(), selector)]
            })))
        },
        budget: "0.5 s, 100 MB",
        peer: "13.4 s, 215 MB",
    },
    Load {
        name: "large-namespaces",
        what: "100 namespaces x (1,000 pods + 101 policies)",
        changes: || Box::new((0..100).flat_map(large_namespace)),
        budget: "0.25 s, 200 MB",
        peer: "2.5 s, 1,041 MB",
    },
];

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--load");
    if let Some(load) = arguments.nth(1).and_then(|name| LOADS.iter().find(|load| load.name == name)) {
        return run(load);
    }
    for load in LOADS {
        let itself = std::env::current_exe().expect("a benchmark has a path");
        let status = Command::new(itself).args(["--load", load.name]).status().expect("it runs again");
        assert!(status.success(), "the load {} ended with {status}", load.name);
    }
}

fn run(load: &Load) {
    let idle = resident_mb();
    let used = used_seconds();
    let started = Instant::now();
    let mut index = Index::default();
    let bindings = Bindings::default();
    (0..NODES).for_each(|n| index.apply(Change::Node(node(n))));
    (load.changes)().for_each(|change| index.apply(change));
    let applied = started.elapsed();
    let changed = index.settle(&bindings);
    let settled = started.elapsed();
    let empty = Versions::new();
    let mut buffer = Vec::new();
    let mut bytes = 0;
    for node in &changed {
        let resources = index.resources(node).expect("it changed");
        buffer.clear();
        lacks(&empty, resources).encode(&mut buffer).expect("a vector grows");
        bytes += buffer.len();
    }
    let elapsed = started.elapsed();
    let used = used_seconds() - used;
    let (nodes, pods, policies) = index.counts();
    assert_eq!((nodes, changed.len()), (NODES as usize, NODES as usize));
    println!(
        "{}: {pods} pods, {policies} policies, {nodes} nodes: applied {:.2} s, settled {:.2} s, {} MB of deltas encoded {:.2} s",
        load.what,
        applied.as_secs_f64(),
        settled.as_secs_f64(),
        bytes >> 20,
        elapsed.as_secs_f64(),
    );
    println!(
        "ratio: controller, {}: {:.2} s ({used:.2} s of processors), {} MB; budget {}; peer {}",
        load.what,
        elapsed.as_secs_f64(),
        resident_mb().saturating_sub(idle),
        load.budget,
        load.peer
    );
    match load.name {
        "small-namespaces" => one_label(&mut index, &bindings),
        "all-select-all" => endpoint_queries(&index),
        _ => {}
    }
}

/// As agents are sent it.
fn lacks(known: &Versions, resources: &Resources) -> wire::Delta {
    delta::delta_where(known, resources, true, |_| true).delta
}

/// A pod leaves the group of one policy for that of another: until the bytes for every node are there.
fn one_label(index: &mut Index, bindings: &Bindings) {
    let mut took: Vec<Duration> = Vec::new();
    for n in 0..200 {
        let before: BTreeMap<NodeName, Versions> = spread(n)
            .into_iter()
            .map(|name| {
                let held = index.resources(&name).expect("there are all nodes").versions();
                (name, held)
            })
            .collect();
        let started = Instant::now();
        index.apply(pod(&format!("namespace-{n}"), 4 * n, 4 * n, labels("app-2", "scale-2")));
        let mut sent = 0;
        for node in index.settle(bindings) {
            let resources = index.resources(&node).expect("it changed");
            sent += black_box(lacks(&before[&node], resources).encode_to_vec()).len();
        }
        took.push(started.elapsed());
        assert!(sent > 0);
    }
    took.sort();
    println!(
        "ratio: controller, one pod's label among 100,000 pods, to the deltas of its nodes encoded: median {:.3} ms, slowest {:.3} ms; budget 2 ms",
        took[took.len() / 2].as_secs_f64() * 1e3,
        took[took.len() - 1].as_secs_f64() * 1e3
    );
}

fn endpoint_queries(index: &Index) {
    let started = Instant::now();
    let mut found = 0;
    for n in 0..1000 {
        let (about, naming) =
            index.policies_of(&NamespacedName::new("one", format!("pod-{n}"))).expect("it is there");
        found += black_box(about).len() + black_box(naming).len();
    }
    println!(
        "ratio: controller, 1,000 endpoint queries at 10,000 policies x 10,000 pods: {:.2} s ({found} answers); budget 0.5 s; peer 15 s",
        started.elapsed().as_secs_f64()
    );
}

/// The nodes of a small namespace's pods.
fn spread(namespace: u32) -> BTreeSet<NodeName> {
    (0..4).map(|n| node_name(4 * namespace + n)).collect()
}

fn small_namespace(number: u32) -> Vec<Change> {
    let name = format!("namespace-{number}");
    let [one, two] = [labels("app-1", "scale-1"), labels("app-2", "scale-2")];
    let [first, second] = [&one, &two].map(LabelSelector::from_labels);
    let mut changes = namespace(&name);
    changes.extend(
        (0..4).map(|n| {
            pod(&name, 4 * number + n, 4 * number + n, if n < 2 { one.clone() } else { two.clone() })
        }),
    );
    changes.push(deny(&name));
    changes.push(policy(&name, 1, first.clone(), first));
    changes.push(policy(&name, 2, second.clone(), second));
    changes
}

fn large_namespace(number: u32) -> Vec<Change> {
    let name = format!("namespace-{number}");
    let mut changes = namespace(&name);
    for n in 0..1000 {
        changes.push(pod(
            &name,
            1000 * number + n,
            1000 * number + n,
            labels("app", &format!("app-{}", n / 10)),
        ));
    }
    changes.push(deny(&name));
    for n in 0..100 {
        let selector = LabelSelector::from_labels(&labels("app", &format!("app-{n}")));
        changes.push(policy(&name, n, selector.clone(), selector));
    }
    changes
}

fn labels(key: &str, value: &str) -> Labels {
    [(key.to_owned(), value.to_owned())].into()
}

fn namespace(name: &str) -> Vec<Change> {
    vec![Change::Namespace(name.to_owned(), labels("kubernetes.io/metadata.name", name))]
}

fn node_name(number: u32) -> NodeName {
    // Pods of a namespace land far from each other, always at the same places.
    NodeName::new(format!("node-{}", number.wrapping_mul(2_654_435_761) % NODES))
}

fn node(number: u32) -> Node {
    let [_, _, high, low] = number.to_be_bytes();
    Node {
        name: NodeName::new(format!("node-{number}")),
        labels: labels("kubernetes.io/os", "linux"),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(172, 30, high, low))],
        pod_cidrs: Cidr::new(Ipv4Addr::new(100, 64 + high, low, 0).into(), 24).into_iter().collect(),
        ..Node::default()
    }
}

fn pod(namespace: &str, number: u32, address: u32, labels: Labels) -> Change {
    Change::Pod(Pod {
        key: NamespacedName::new(namespace, format!("pod-{number}")),
        uid: format!("00000000-0000-0000-0000-{number:012}"),
        node: Some(node_name(number)),
        labels: labels.into(),
        addresses: vec![IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + address + 1))],
        host_network: false,
        completed: false,
        ports: Vec::new(),
    })
}

fn deny(namespace: &str) -> Change {
    let everybody = Selector::pods_in(namespace, LabelSelector::everything());
    Change::policy(named(namespace, "deny", &everybody, Vec::new()), [everybody])
}

fn policy(namespace: &str, number: u32, subject: LabelSelector, peers: LabelSelector) -> Change {
    let [subject, peers] = [subject, peers].map(|labels| Selector::pods_in(namespace, labels));
    let rule = Rule {
        index: 0,
        direction: Direction::Ingress,
        action: Action::Accept,
        peers: Peers::Some { sets: [peers.id()].into(), blocks: BTreeSet::new() },
        ports: Ports::Any,
    };
    Change::policy(named(namespace, &format!("policy-{number}"), &subject, vec![rule]), [subject, peers])
}

fn named(namespace: &str, name: &str, subject: &Selector, rules: Vec<Rule>) -> Policy {
    Policy {
        id: PolicyId { kind: PolicyKind::NetworkPolicy, namespace: namespace.into(), name: name.into() },
        generation: 1,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: subject.id(),
        isolates: Isolation { ingress: true, egress: false },
        audit: false,
        rules,
    }
}

/// What all threads have used of processors, the system's work for them too; what others use is not in it.
fn used_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program ends with a parenthesis and may hold spaces; of the rest, the 12th and 13th are hundredths.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / 100.0
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib / 1024
}
