//! What `ferrule plan` computes, at 10,000 policies and 10,000 pods with one policy changed: fast enough for an admission
//! webhook? One line per shape of the cluster and of the change.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use network::difference::services::changes;
use network::difference::{arrivals, connectivity};
use network::{
    Action, Cidr, Direction, IpBlock, Isolation, LabelSelector, Labels, NamespacedName, Network, Node,
    NodeName, Peers, Pod, Policy, PolicyId, PolicyKind, PortMatch, PortRange, Ports, Protocol, Rule,
    Selector, Service, ServiceEndpoint, ServicePort, Tier,
};

const MANY: u32 = 10_000;
const NODES: u32 = 100;
const BUDGET_SECONDS: f64 = 1.0;
const ROUNDS: usize = 5;
const SERVICES: usize = 5_000;
const ENDPOINTS: usize = 20;

type Change = fn(&mut Network);

fn main() {
    let touch_one: Change = |network| set_policy(network, "team-7", 7, &app(7), &app(8), 443);
    let touch_all: Change =
        |network| set_policy(network, "team-0", MANY, &LabelSelector::everything(), &app(7), 443);
    let delete_one: Change = |network| drop(network.policies.pop_first());
    let shapes: [(&str, Network, &str, Change); 5] = [
        ("all select and allow all", all_select_all(), "one goes", delete_one),
        ("all select and allow all", all_select_all(), "one more for all", touch_all),
        ("one policy per pod, 100 namespaces", policy_per_pod(100), "one changes", touch_one),
        ("one policy per pod, 1 namespace", policy_per_pod(1), "one goes", delete_one),
        ("one policy per pod, 1 namespace", policy_per_pod(1), "one more for all", touch_all),
    ];
    for (shape, before, what, change) in shapes {
        let mut after = before.clone();
        change(&mut after);
        let mut times: Vec<f64> = Vec::new();
        let mut shifts = 0;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            shifts = connectivity(&before, &after).shifts.len();
            times.push(began.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let median = times[ROUNDS / 2];
        println!(
            "ratio: plan, 10,000 policies x 10,000 pods ({shape}; {what}): {median:.3} s, {shifts} shifts, {:.2} of the \
             {BUDGET_SECONDS} s budget",
            median / BUDGET_SECONDS
        );
    }
    new_pods();
    services();
}

/// What three new pods reach, and who reaches them.
fn new_pods() {
    let shapes = [
        ("all select and allow all", all_select_all()),
        ("one policy per pod, 100 namespaces", policy_per_pod(100)),
    ];
    for (shape, after) in shapes {
        let mut before = after.clone();
        (0..3).for_each(|_| drop(before.pods.pop_last()));
        let mut times: Vec<f64> = Vec::new();
        let mut told = 0;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            told = arrivals(&before, &after).map_or(0, |(_, found)| found.shifts.len());
            times.push(began.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let median = times[ROUNDS / 2];
        println!(
            "ratio: plan, what 3 new pods reach beside 10,000 policies x 10,000 pods ({shape}): {median:.3} s, {told} shifts, {:.2} of \
             the {BUDGET_SECONDS} s budget",
            median / BUDGET_SECONDS
        );
    }
}

/// What a change does to Services: 5,000 of 20 endpoints each.
fn services() {
    let retarget: Change = |network| {
        let other = network.services.values().nth(7).map(|service| service.ports[0].endpoints.clone());
        if let (Some(other), Some(service)) = (other, network.services.values_mut().next()) {
            service.ports[0].endpoints = other;
        }
    };
    let pod_gone: Change = |network| {
        let Some((gone, _)) = network.pods.pop_first() else { return };
        let ports = network.services.values_mut().flat_map(|service| &mut service.ports);
        ports.for_each(|port| port.endpoints.retain(|endpoint| endpoint.pod.as_ref() != Some(&gone)));
    };
    let policy: Change = |network| drop(network.policies.pop_first());
    let shapes: [(&str, Network); 3] = [
        ("all select and allow all", all_select_all()),
        ("one policy per pod, 100 namespaces", policy_per_pod(100)),
        ("one policy per pod, 1 namespace", policy_per_pod(1)),
    ];
    for (shape, mut before) in shapes {
        add_services(&mut before);
        for (what, change) in [
            ("a Service gets other endpoints", retarget),
            ("a pod behind 10 of them goes", pod_gone),
            ("a policy goes", policy),
        ] {
            let mut after = before.clone();
            change(&mut after);
            let mut times: Vec<f64> = Vec::new();
            let mut told = 0;
            for _ in 0..ROUNDS {
                let began = Instant::now();
                told = changes(&before, &after).len();
                times.push(began.elapsed().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            let median = times[ROUNDS / 2];
            println!(
                "ratio: plan, 5,000 Services x 20 endpoints beside 10,000 policies x 10,000 pods ({shape}; {what}): {median:.3} s, \
                 {told} Services differ, {:.2} of the {BUDGET_SECONDS} s budget",
                median / BUDGET_SECONDS
            );
        }
    }
}

/// Every pod is behind ten of them.
fn add_services(network: &mut Network) {
    let pods: Vec<NamespacedName> = network.pods.keys().cloned().collect();
    for n in 0..SERVICES {
        let key = NamespacedName::new("team-0", format!("service-{n}"));
        let endpoint = |k: usize| {
            let pod = &network.pods[&pods[(n * ENDPOINTS + k) % pods.len()]];
            ServiceEndpoint {
                pod: Some(pod.key.clone()),
                node: pod.node.clone(),
                ..ServiceEndpoint::new(pod.addresses.iter().copied(), 80)
            }
        };
        let port = ServicePort::new(Protocol::Tcp, 80, (0..ENDPOINTS).map(endpoint));
        let address = Ipv4Addr::from(0x0a60_0000 + n as u32 + 11);
        let service =
            Service { cluster_ips: [address.into()].into(), ports: vec![port], ..Service::new(key.clone()) };
        network.services.insert(key, service);
    }
}

fn app(number: u32) -> LabelSelector {
    LabelSelector::from_labels(&labels(number))
}

fn labels(number: u32) -> Labels {
    Labels::from([("app".to_owned(), format!("app-{number}"))])
}

fn cluster(namespaces: u32) -> Network {
    let mut network = Network::default();
    for k in 0..NODES {
        let name = NodeName::new(format!("node-{k}"));
        let range = Cidr::new(Ipv4Addr::from(0x0af0_0000 | (k << 8)).into(), 24);
        let node = Node {
            name: name.clone(),
            labels: Labels::new(),
            addresses: vec![IpAddr::from([172, 30, 0, k as u8])],
            pod_cidrs: range.into_iter().collect(),
            ..Node::default()
        };
        network.nodes.insert(name, node);
    }
    for n in 0..namespaces {
        let name = format!("team-{n}");
        network.namespaces.insert(name.clone(), Labels::from([("name".to_owned(), name)]));
    }
    for n in 0..MANY {
        let (node, host) = (n % NODES, n / NODES);
        let key = NamespacedName::new(format!("team-{}", n % namespaces), format!("pod-{n}"));
        let pod = Pod {
            key: key.clone(),
            uid: format!("uid-{n}"),
            node: Some(NodeName::new(format!("node-{node}"))),
            labels: labels(n).into(),
            addresses: vec![Ipv4Addr::from(0x0af0_0002 + (node << 8) + host).into()],
            host_network: false,
            completed: false,
            ports: vec![],
        };
        network.pods.insert(key, pod);
    }
    network
}

fn all_select_all() -> Network {
    let mut network = cluster(1);
    let everybody = LabelSelector::everything();
    (0..MANY).for_each(|n| set_policy(&mut network, "team-0", n, &everybody, &everybody, 80));
    network
}

fn policy_per_pod(namespaces: u32) -> Network {
    let mut network = cluster(namespaces);
    (0..MANY).for_each(|n| {
        let namespace = format!("team-{}", n % namespaces);
        set_policy(&mut network, &namespace, n, &app(n), &app((n + namespaces) % MANY), 80);
    });
    network
}

/// A policy that isolates its subject both ways and allows a port to and from some peers, and from a block outside.
fn set_policy(
    network: &mut Network,
    namespace: &str,
    number: u32,
    subject: &LabelSelector,
    peers: &LabelSelector,
    port: u16,
) {
    let id = PolicyId {
        kind: PolicyKind::NetworkPolicy,
        namespace: namespace.to_owned(),
        name: format!("policy-{number}"),
    };
    let subject = network.intern(Selector::pods_in(namespace, subject.clone()));
    let peers = network.intern(Selector::pods_in(namespace, peers.clone()));
    let block = Cidr::new(Ipv4Addr::from(0xc633_0000 | (number % 256) << 8).into(), 24);
    let rule = |direction| Rule {
        index: 0,
        direction,
        action: Action::Accept,
        peers: Peers::Some {
            sets: [peers].into(),
            blocks: block.iter().copied().map(IpBlock::whole).collect(),
        },
        ports: Ports::Some([PortMatch::Range(PortRange::single(Protocol::Tcp, port))].into()),
    };
    let policy = Policy {
        id: id.clone(),
        generation: 1,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject,
        isolates: Isolation { ingress: true, egress: true },
        audit: false,
        rules: vec![rule(Direction::Ingress), rule(Direction::Egress)],
    };
    network.policies.insert(id, policy);
}
