//! What the kinds come to together.

use serde_json::{Value, json};

use network::NamespacedName;

use super::super::reflector::Failure;
use super::*;

fn index(name: &str) -> usize {
    WATCHED.iter().position(|kind| kind.name == name).unwrap()
}

fn seen(kind: &str, value: Value) -> Seen {
    let kind = WATCHED[index(kind)];
    Seen::of(kind.name, &kind.api_version(), value)
}

fn node(name: &str, k: u8) -> Seen {
    let value = json!({
        "metadata": {"name": name},
        "spec": {"podCIDRs": [format!("10.244.{k}.0/24")]},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{k}")}]},
    });
    seen("Node", value)
}

fn pod(name: &str, labels: Value) -> Seen {
    let value = json!({"metadata": {"name": name, "namespace": "shop", "uid": name, "labels": labels},
        "spec": {"nodeName": "node-1"}});
    seen("Pod", value)
}

fn complete() -> Model {
    let mut model = Model::default();
    for (kind, watched) in WATCHED.iter().enumerate() {
        assert!(!model.is_complete());
        let objects = match watched.name {
            "Node" => vec![node("node-1", 1)],
            "Pod" => vec![pod("a", json!({}))],
            _ => vec![],
        };
        model.learn(kind, if watched.optional { Learnt::NoSuchKind } else { Learnt::All(objects, 10) });
    }
    assert_eq!(model.take().unwrap().pods.len(), 1);
    model
}

#[test]
fn nothing_is_told_before_every_kind_was_received() {
    let mut model = Model::default();
    model.learn(index("Pod"), Learnt::Receiving(500, Some(2000)));
    model.learn(index("Node"), Learnt::All(vec![node("node-1", 1)], 10));
    assert!(model.take().is_none());
    let waiting = model.waiting();
    assert!(waiting.contains(&"pods: 500 of 2000 received".to_owned()), "{waiting:?}");
    assert!(!waiting.iter().any(|line| line.starts_with("nodes")), "{waiting:?}");
    assert_eq!(complete().waiting(), [""; 0]);
}

#[test]
fn a_revision_moves_with_what_changed_and_what_is_contained_with_all() {
    let (mut model, pods) = (complete(), index("Pod"));
    let revision = |model: &Model| model.revisions()["pods"];
    assert_eq!(revision(&model), Revision { changed: 10, contained: 10 });
    // A heartbeat, a bookmark, a list that says the same.
    model.learn(pods, Learnt::There(pod("a", json!({})), 12));
    model.learn(pods, Learnt::UpTo(20));
    model.learn(pods, Learnt::All(vec![pod("a", json!({}))], 25));
    assert_eq!((revision(&model), model.take().is_none()), (Revision { changed: 10, contained: 25 }, true));
    model.learn(pods, Learnt::There(pod("a", json!({"app": "x"})), 30));
    assert_eq!(revision(&model), Revision { changed: 30, contained: 30 });
    let told = model.take_changes().unwrap();
    // A pod tells of its namespace too, which need not be an object of its own.
    let [Change::Namespace(shop, _), Change::Pod(pod_a)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((shop.as_str(), pod_a.labels["app"].as_str()), ("shop", "x"));
    assert!(model.take_changes().is_none());
    model.learn(pods, Learnt::Gone(pod("a", json!({})), 31));
    assert_eq!(revision(&model).changed, 31);
    assert_eq!(
        model.take_changes().unwrap().last(),
        Some(&Change::PodGone(NamespacedName::new("shop", "a")))
    );
    assert!(model.take().is_none(), "nobody but the owner has it");
}

#[test]
fn a_list_that_is_older_than_what_is_known_is_not_taken() {
    let (mut model, pods) = (complete(), index("Pod"));
    let outcome = model.learn(pods, Learnt::All(vec![], 9));
    assert_eq!(outcome, Outcome::WentBack { known: 10, found: 9 });
    assert!(model.take().is_none());
}

#[test]
fn what_is_forbidden_is_told_with_verb_and_resource_until_it_is_granted() {
    let mut model = Model::default();
    let policies = index("NetworkPolicy");
    let no = || Failure::Forbidden("User \"x\" cannot list resource".into());
    model.learn(policies, Learnt::Failed("list", no(), 1));
    let problems = model.failing();
    assert_eq!(problems[0].object, "networkpolicies.networking.k8s.io");
    assert!(
        problems[0].message.contains("grant the verb `list` on networkpolicies.networking.k8s.io"),
        "{problems:?}"
    );
    assert!(model.waiting().iter().any(|line| line.contains("we may not list")), "{:?}", model.waiting());
    model.learn(policies, Learnt::Succeeded("list"));
    assert_eq!(model.failing(), []);
    // What passes by itself is told when it does not.
    let broken = || Failure::Broken("connection refused".into());
    model.learn(policies, Learnt::Failed("watch", broken(), 1));
    assert_eq!(model.failing(), []);
    model.learn(policies, Learnt::Failed("watch", broken(), TELL_AFTER));
    assert_eq!(model.failing().len(), 1);
}

#[test]
fn a_kind_that_comes_later_is_taken_and_one_that_goes_takes_its_objects_along() {
    let (mut model, policies) = (complete(), index("ClusterNetworkPolicy"));
    let policy = seen(
        "ClusterNetworkPolicy",
        json!({"metadata": {"name": "p"}, "spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}}}),
    );
    model.learn(policies, Learnt::All(vec![policy], 40));
    assert!(matches!(model.take_changes().unwrap().as_slice(), [Change::Policy(..)]));
    // Its objects are in another version now: they are gone, and that is told.
    model.learn(policies, Learnt::NoSuchKind);
    assert!(matches!(model.take_changes().unwrap().as_slice(), [Change::PolicyGone(_)]));
    model.learn(policies, Learnt::Failed("list", Failure::OtherVersions("v1alpha1".into()), 1));
    let problems = model.failing();
    assert!(problems[0].message.contains("other versions only (v1alpha1)"), "{problems:?}");
    assert!(problems[0].message.contains("reads v1alpha2"), "{problems:?}");
    model.learn(policies, Learnt::Succeeded("list"));
    assert_eq!(model.failing(), []);
}

#[test]
fn the_same_objects_come_to_the_same_network_as_manifests() {
    let bound = |name: &str, node: &str, ip: &str| {
        json!({"metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x", "ports": [{"name": "http", "containerPort": 80}]}]},
            "status": {"podIP": ip, "podIPs": [{"ip": ip}], "phase": "Running"}})
    };
    let node = |k: u8| {
        json!({"metadata": {"name": format!("node-{k}"), "labels": {"zone": "a"}}, "spec": {"podCIDRs": [format!("10.244.{k}.0/24")]},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{k}")}, {"type": "Hostname", "address": "x"}]}})
    };
    let objects: Vec<(&str, Value)> = vec![
        ("Node", node(1)),
        ("Node", node(2)),
        ("Namespace", json!({"metadata": {"name": "shop", "labels": {"team": "a"}}})),
        ("Pod", bound("web", "node-1", "10.244.1.5")),
        ("Pod", bound("db", "node-2", "10.244.2.7")),
        (
            "Service",
            json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": {"type": "ClusterIP", "clusterIP": "10.96.3.4",
            "clusterIPs": ["10.96.3.4"], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}),
        ),
        (
            "EndpointSlice",
            json!({"metadata": {"name": "db-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.2.7"], "conditions": {"ready": true}, "nodeName": "node-2"}]}),
        ),
        (
            "NetworkPolicy",
            json!({"metadata": {"name": "db", "namespace": "shop", "generation": 3}, "spec": {
            "podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {}}, {"ipBlock": {"cidr": "198.51.100.0/24"}}],
                "ports": [{"port": "http", "protocol": "TCP"}, {"port": 90, "endPort": 99, "protocol": "UDP"}]}]}}),
        ),
        (
            "ClusterNetworkPolicy",
            json!({"metadata": {"name": "deny"}, "spec": {"tier": "Admin", "priority": 7, "subject": {"namespaces": {}},
            "ingress": [{"name": "x", "action": "Deny", "from": [{"namespaces": {"matchLabels": {"team": "b"}}}]}]}}),
        ),
    ];
    let mut model = Model::default();
    let mut files = BTreeMap::new();
    for (kind, watched) in WATCHED.iter().enumerate() {
        let mine = objects.iter().filter(|(name, _)| *name == watched.name);
        let mut all = Vec::new();
        for (number, (_, value)) in mine.enumerate() {
            all.push(Seen::of(watched.name, &watched.api_version(), value.clone()));
            let mut text = value.clone();
            text["kind"] = watched.name.into();
            text["apiVersion"] = watched.api_version().into();
            files.insert(format!("{}-{number}.yaml", watched.name), std::sync::Arc::from(text.to_string()));
        }
        model.learn(kind, Learnt::All(all, 10));
    }
    let (network, problems) = crate::manifests::Translate::translate(&crate::translate::Objects, &files);
    assert_eq!((problems, model.understood()), (vec![], vec![]));
    assert_eq!(network.policies.len() + network.services.len(), 3);
    assert_eq!(model.take().unwrap(), network);
}
