//! Random events: what the live network came to is what the objects come to at once.

use network::Network;
use serde_json::{Value, json};

use super::*;
use crate::located::{Located, Position};
use crate::read::Reader;
use crate::{ObjectSet, nodes, translate};

/// SplitMix64: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn apply(network: &mut Network, changed: Vec<Changed>) {
    fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
    for change in changed {
        match change {
            Changed::Node(name, node) => put(&mut network.nodes, name, node),
            Changed::Namespace(name, labels) => put(&mut network.namespaces, name, labels),
            Changed::Pod(key, pod) => put(&mut network.pods, key, pod),
            Changed::Policy(id, policy) => {
                let policy = policy.map(|(policy, selectors)| {
                    for selector in selectors {
                        network.intern(selector);
                    }
                    policy
                });
                put(&mut network.policies, id, policy);
            }
            Changed::Service(key, service) => put(&mut network.services, key, service),
        }
    }
}

fn whole(objects: &BTreeMap<ObjectRef, Value>) -> (Network, Vec<Problem>) {
    let mut reader = Reader { set: ObjectSet::default(), problems: Vec::new() };
    for value in objects.values() {
        let root = Located::anywhere(value.clone(), Position { line: 1, column: 1 });
        reader.document(&"x".into(), &root, None);
    }
    let Reader { set, mut problems } = reader;
    let (nodes, found) = nodes(&set);
    problems.extend(found);
    let mut pods = Vec::new();
    for object in set.pods.values() {
        let (pod, found) = crate::translate::pod::pod(&object.value);
        pods.push(pod);
        problems.extend(found);
    }
    let (network, found) = translate(&set, &nodes, &pods);
    problems.extend(found);
    (network, problems)
}

/// Without the selectors of policies that are gone: nobody asks for them.
fn sorted(mut network: Network, mut problems: Vec<Problem>) -> (Network, Vec<String>) {
    let mut named: BTreeSet<_> = BTreeSet::new();
    for policy in network.policies.values() {
        named.insert(policy.subject);
        for rule in &policy.rules {
            if let network::Peers::Some { sets, .. } = &rule.peers {
                named.extend(sets.iter().copied());
            }
        }
    }
    network.selectors.retain(|id, _| named.contains(id));
    for problem in &mut problems {
        problem.source = None;
        // Told when the pod came; nodes that came since are not added to the message.
        if let crate::Fault::UnknownNode { known, .. } = &mut problem.fault {
            known.clear();
        }
    }
    let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.sort();
    (network, problems)
}

fn node(random: &mut Random) -> (ObjectRef, &'static str, Value) {
    let name = format!("node-{}", random.below(4));
    let mut ranges = vec![format!("10.244.{}.0/24", random.below(4))];
    if random.below(3) == 0 {
        ranges.push(format!("fd00:10:244:{}::/64", random.below(4)));
    }
    if random.below(5) == 0 {
        ranges.clear();
    }
    let address = format!("192.0.2.{}", random.below(5));
    let value = json!({
        "metadata": {"name": name, "labels": {"zone": random.below(2).to_string()}},
        "spec": {"podCIDRs": ranges},
        "status": {"addresses": [{"type": "InternalIP", "address": address}], "conditions": [random.below(9)]},
    });
    (ObjectRef::cluster("Node", &name), "v1", value)
}

fn pod(random: &mut Random) -> (ObjectRef, &'static str, Value) {
    let (namespace, name) = (format!("ns-{}", random.below(3)), format!("pod-{}", random.below(6)));
    let bound = random.below(5) > 0;
    let node = format!("node-{}", random.below(5));
    let mut addresses = vec![json!({"ip": format!("10.244.{}.{}", random.below(3), random.below(4))})];
    if random.below(3) == 0 {
        addresses.push(json!({"ip": format!("fd00:10:244:1::{}", random.below(3) + 1)}));
    }
    if random.below(4) == 0 {
        addresses.clear();
    }
    let phase = if random.below(6) == 0 { "Succeeded" } else { "Running" };
    let mut value = json!({
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{}", random.below(3)),
            "labels": {"app": random.below(3).to_string()}, "managedFields": ["x"]},
        "spec": {"hostNetwork": random.below(6) == 0, "containers": [
            {"name": "c", "image": "x", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": phase, "podIPs": addresses},
    });
    if bound {
        value["spec"]["nodeName"] = node.into();
    }
    (ObjectRef::namespaced("Pod", &namespace, &name), "v1", value)
}

fn policy(random: &mut Random) -> (ObjectRef, &'static str, Value) {
    let (namespace, name) = (format!("ns-{}", random.below(4)), format!("policy-{}", random.below(3)));
    let mut value = json!({
        "metadata": {"name": name, "namespace": namespace, "generation": random.below(3)},
        "spec": {"podSelector": {"matchLabels": {"app": random.below(3).to_string()}},
            "ingress": [{"from": [{"podSelector": {}}]}]},
    });
    if random.below(4) == 0 {
        value["spec"]["ingress"][0]["from"][0] = json!({"serviceSelector": {}});
    }
    (ObjectRef::namespaced("NetworkPolicy", &namespace, &name), "networking.k8s.io/v1", value)
}

fn namespace(random: &mut Random) -> (ObjectRef, &'static str, Value) {
    let name = format!("ns-{}", random.below(4));
    let value = json!({"metadata": {"name": name, "labels": {"team": random.below(2).to_string()}}});
    (ObjectRef::cluster("Namespace", &name), "v1", value)
}

/// Without a selector, whose pods the controllers of a cluster find and put into slices.
fn service(random: &mut Random) -> (ObjectRef, &'static str, Value) {
    let name = format!("service-{}", random.below(3));
    let address = format!("10.96.0.{}", 1 + random.below(3));
    let value = json!({
        "metadata": {"name": name, "namespace": "ns-0",
            "creationTimestamp": format!("2026-01-01T00:00:0{}Z", random.below(3))},
        "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80 + random.below(2), "protocol": "TCP"}]},
    });
    (ObjectRef::namespaced("Service", "ns-0", &name), "v1", value)
}

fn slice(random: &mut Random) -> (ObjectRef, &'static str, Value) {
    let name = format!("slice-{}", random.below(4));
    let value = json!({
        "metadata": {"name": name, "namespace": "ns-0",
            "labels": {"kubernetes.io/service-name": format!("service-{}", random.below(3))}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [format!("10.244.1.{}", random.below(9))], "conditions": {"ready": random.below(2) == 0}}],
    });
    (ObjectRef::namespaced("EndpointSlice", "ns-0", &name), "discovery.k8s.io/v1", value)
}

#[test]
fn random_events_come_to_what_the_objects_come_to_at_once() {
    for seed in 0..25 {
        let mut random = Random(seed);
        let mut live = Live::default();
        let mut network = Network::default();
        let mut problems = Vec::new();
        let mut objects: BTreeMap<ObjectRef, Value> = BTreeMap::new();
        for step in 0..40 {
            for _ in 0..=random.below(3) {
                let (object, version, mut value) = match random.below(10) {
                    0 | 1 => node(&mut random),
                    2 => namespace(&mut random),
                    3 => policy(&mut random),
                    4 => service(&mut random),
                    5 => slice(&mut random),
                    _ => pod(&mut random),
                };
                let kind = object.kind.clone();
                match random.below(10) {
                    0..=2 => {
                        live.remove(&object);
                        objects.remove(&object);
                    }
                    // A list in which this object is the only one.
                    3 if random.below(4) == 0 => {
                        live.replace(&kind, vec![Seen::of(&kind, version, value.clone())]);
                        objects.retain(|other, _| other.kind != kind);
                        value["kind"] = kind.into();
                        value["apiVersion"] = version.into();
                        objects.insert(object, value);
                    }
                    _ => {
                        live.upsert(Seen::of(&kind, version, value.clone()));
                        value["kind"] = kind.into();
                        value["apiVersion"] = version.into();
                        objects.insert(object, value);
                    }
                }
            }
            apply(&mut network, live.take());
            if let Some(found) = live.problems() {
                problems = found;
            }
            let (expected, faults) = whole(&objects);
            let (expected, faults) = sorted(expected, faults);
            let (network, problems) = sorted(network.clone(), problems.clone());
            assert_eq!(network, expected, "seed {seed}, step {step}: {objects:#?}");
            assert_eq!(problems, faults, "seed {seed}, step {step}: {objects:#?}");
        }
    }
}

#[test]
fn what_the_network_does_not_read_of_an_object_is_no_change() {
    let mut live = Live::default();
    let mut node = json!({
        "metadata": {"name": "node-1", "resourceVersion": "7"},
        "spec": {"podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    });
    live.upsert(Seen::of("Node", "v1", node.clone()));
    assert_eq!(live.take().len(), 1);
    node["metadata"]["resourceVersion"] = "8".into();
    node["status"]["conditions"] = json!([{"type": "Ready", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]);
    live.upsert(Seen::of("Node", "v1", node));
    assert_eq!((live.take(), live.problems()), (vec![], None));
}

#[test]
fn an_object_of_an_unknown_version_is_left_out_and_told() {
    let mut live = Live::default();
    let policy = json!({"metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}}});
    live.upsert(Seen::of("NetworkPolicy", "networking.k8s.io/v2", policy.clone()));
    assert_eq!(live.take(), vec![]);
    let problems = live.problems().unwrap();
    assert!(problems[0].to_string().starts_with("NetworkPolicy shop/deny: "), "{problems:?}");
    live.upsert(Seen::of("NetworkPolicy", "networking.k8s.io/v1", policy));
    assert_eq!((live.take().len(), live.problems()), (2, Some(vec![])));
}
