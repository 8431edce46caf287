//! A plan against a cluster whose objects are not at hand: what it says of Services is what the cluster would come to. A cluster here is
//! objects with numbers and addresses, and the EndpointSlices that its controller would keep for them.

#![allow(clippy::unwrap_used)]

#[path = "../../network/tests/held/mod.rs"]
mod held;

use std::collections::BTreeMap;

use network::difference::services::{Reach, changes};
use network::{Change, NamespacedName, Network};
use objects::live::{Changed, Live, Seen};
use objects::{ObjectSet, SourceText, amend, read};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// Kind, namespace and name.
type Id = (&'static str, String, String);

type Objects = BTreeMap<Id, Value>;

fn id(value: &Value) -> Id {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
    let kinds = ["Namespace", "Node", "Pod", "Service", "EndpointSlice", "NetworkPolicy"];
    let kind = kinds.into_iter().find(|kind| value["kind"] == *kind).unwrap();
    (kind, text("namespace"), text("name"))
}

fn namespace() -> impl Strategy<Value = Value> {
    (select(vec!["a", "b"]), select(vec!["x", "y"])).prop_map(|(name, team)| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}}})
    })
}

fn node(number: u8) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{number}"), "labels": {"topology.kubernetes.io/zone": format!("zone-{number}")}},
        "spec": {"podCIDR": format!("10.244.{number}.0/24"), "podCIDRs": [format!("10.244.{number}.0/24")]},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("172.30.0.{number}")}]}})
}

fn pod() -> impl Strategy<Value = Value> {
    let port = (select(vec!["http", "dns"]), 8080..8082u16);
    (select(vec!["a", "b"]), 0..4u8, select(vec!["web", "db"]), port).prop_map(
        |(namespace, number, app, (name, port))| {
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("p{number}"), "namespace": namespace, "labels": {"app": app}},
                "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"name": name, "containerPort": port}]}]}})
        },
    )
}

/// What a cluster gives a pod: where it runs, its address, and that one of them has ended.
fn placed(mut pod: Value) -> Value {
    let (_, namespace, name) = id(&pod);
    let number: u8 = name[1..].parse().unwrap();
    let (node, last) = (1 + number % 2, number + if namespace == "a" { 10 } else { 20 });
    let phase = if number == 3 { "Succeeded" } else { "Running" };
    pod["spec"]["nodeName"] = format!("node-{node}").into();
    pod["status"] = json!({"phase": phase, "podIPs": [{"ip": format!("10.244.{node}.{last}")}]});
    pod
}

fn service(namespace: &'static str, number: u8) -> impl Strategy<Value = Value> {
    let selector = option::weighted(0.8, select(vec!["web", "db"]));
    let target = || select(vec![json!(8080), json!(9090), json!("http"), json!("dns")]);
    let kind = select(vec!["ClusterIP", "NodePort"]);
    let policies = (select(vec!["Cluster", "Cluster", "Local"]), select(vec!["Cluster", "Local"]));
    (selector, target(), kind, prop::bool::weighted(0.3), option::of(target()), policies).prop_map(
        move |(selector, target, kind, prefers, second, (internal, external))| {
            let mut ports = vec![json!({"name": "one", "port": 80, "targetPort": target})];
            ports.extend(second.map(|target| json!({"name": "two", "port": 81, "targetPort": target})));
            let mut spec = json!({"type": kind, "ports": ports, "internalTrafficPolicy": internal});
            if let Some(app) = selector {
                spec["selector"] = json!({"app": app});
            }
            if prefers {
                spec["trafficDistribution"] = "PreferSameZone".into();
            }
            if kind == "NodePort" {
                spec["externalTrafficPolicy"] = external.into();
            }
            json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": format!("s{number}"), "namespace": namespace}, "spec": spec})
        },
    )
}

/// What a cluster gives a Service. They claim each other's node ports: the older has one.
fn numbered(mut service: Value) -> Value {
    let (_, namespace, name) = id(&service);
    let number: u16 = name[1..].parse().unwrap();
    let address = format!("10.96.0.{}", number + if namespace == "a" { 10 } else { 20 });
    service["metadata"]["creationTimestamp"] = format!("2026-01-0{}T00:00:00Z", 5 - number).into();
    service["spec"]["clusterIP"] = address.clone().into();
    service["spec"]["clusterIPs"] = json!([address]);
    let is_node_port = service["spec"]["type"] == "NodePort";
    for port in service["spec"]["ports"].as_array_mut().unwrap().iter_mut().filter(|_| is_node_port) {
        port["nodePort"] = (30_000 + port["port"].as_u64().unwrap() + u64::from(number / 2)).into();
    }
    service
}

fn slice() -> impl Strategy<Value = Value> {
    let addresses = vec((0..4u8, any::<bool>()), 0..3);
    (0..3u8, 0..3u8, select(vec!["one", "two"]), 8080..8082u16, addresses).prop_map(
        |(number, owner, port, to, addresses)| {
            // Somebody outside, or a pod of which the slice does not say that it is one.
            let one = |(last, ready): &(u8, bool)| {
                let address = if *last == 0 { "10.244.1.10".to_owned() } else { format!("203.0.113.{last}") };
                json!({"addresses": [address], "conditions": {"ready": ready}})
            };
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": format!("z{number}"), "namespace": "a", "labels": {"kubernetes.io/service-name": format!("s{owner}")}},
                "ports": [{"name": port, "port": to}], "endpoints": addresses.iter().map(one).collect::<Vec<_>>()})
        },
    )
}

fn policy() -> impl Strategy<Value = Value> {
    let peer = select(vec![
        json!({"podSelector": {"matchLabels": {"app": "web"}}}),
        json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}),
        json!({"ipBlock": {"cidr": "10.244.1.0/28"}}),
    ]);
    let port = option::of(select(vec![json!(8080), json!("http")]));
    (0..2u8, select(vec!["web", "db"]), any::<bool>(), peer, port).prop_map(
        |(number, app, is_ingress, peer, port)| {
            let (list, types, peers) = match is_ingress {
                true => ("ingress", "Ingress", "from"),
                false => ("egress", "Egress", "to"),
            };
            let ports: Vec<Value> = port.into_iter().map(|port| json!({"port": port})).collect();
            let mut spec = json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": [types]});
            spec[list] = json!([{peers: [peer], "ports": ports}]);
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": format!("n{number}"), "namespace": "a"}, "spec": spec})
        },
    )
}

fn cluster() -> impl Strategy<Value = Objects> {
    let services = (service("a", 0), service("a", 1), service("a", 2), service("b", 0));
    (vec(pod(), 0..8), services, vec(slice(), 0..4), vec(policy(), 0..3), namespace()).prop_map(
        |(pods, services, slices, policies, labelled)| {
            let bare =
                |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            let mut all = vec![bare("a"), bare("b"), labelled, node(1), node(2)];
            all.extend(pods.into_iter().map(placed));
            all.extend([services.0, services.1, services.2, services.3].map(numbered));
            all.extend(slices);
            all.extend(policies);
            all.into_iter().map(|value| (id(&value), value)).collect()
        },
    )
}

fn changed() -> impl Strategy<Value = Objects> {
    let one = prop_oneof![
        4 => pod(), 1 => service("a", 0), 1 => service("a", 1), 1 => service("b", 0), 1 => service("b", 1), 2 => slice(),
        1 => policy(), 1 => namespace(),
    ];
    vec(one, 1..4).prop_map(|all| all.into_iter().map(|value| (id(&value), value)).collect())
}

/// What becomes of a cluster's objects.
fn after(before: &Objects, change: &Objects, delete: bool) -> Objects {
    let mut objects = before.clone();
    for (id, value) in change {
        if delete {
            objects.remove(id);
            objects.retain(|other, _| id.0 != "Namespace" || other.1 != id.2);
            continue;
        }
        let value = match id.0 {
            "Pod" => placed(value.clone()),
            "Service" => numbered(value.clone()),
            _ => value.clone(),
        };
        objects.insert(id.clone(), value);
    }
    objects
}

/// Whether a pod is ready as an endpoint of a Service.
type Ready<'r> = dyn Fn(&Id, &Id) -> bool + 'r;

/// The slices that a cluster's controller keeps, one for each pod and port (KEP-0752).
fn kept(objects: &Objects, ready: &Ready<'_>) -> Vec<Value> {
    let mut slices = Vec::new();
    let of_kind = |kind: &'static str| objects.iter().filter(move |(id, _)| id.0 == kind);
    for (service_id, service) in of_kind("Service") {
        let Some(app) = service["spec"]["selector"]["app"].as_str() else { continue };
        let selected = of_kind("Pod").filter(|(pod_id, pod)| {
            pod_id.1 == service_id.1
                && pod["metadata"]["labels"]["app"] == app
                && pod["status"]["phase"] == "Running"
        });
        for (pod_id, pod) in selected {
            for port in service["spec"]["ports"].as_array().unwrap() {
                let declared = &pod["spec"]["containers"][0]["ports"][0];
                let number = match port["targetPort"].as_str() {
                    None => port["targetPort"].clone(),
                    Some(name) if declared["name"] == name => declared["containerPort"].clone(),
                    Some(_) => continue,
                };
                let node = pod["spec"]["nodeName"].as_str().unwrap();
                let mut endpoint = json!({"addresses": [pod["status"]["podIPs"][0]["ip"]], "nodeName": node,
                    "conditions": {"ready": ready(service_id, pod_id)},
                    "targetRef": {"kind": "Pod", "namespace": pod_id.1, "name": pod_id.2}});
                if service["spec"]["trafficDistribution"].is_string() {
                    endpoint["hints"] = json!({"forZones": [{"name": node.replace("node", "zone")}]});
                }
                slices.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": {
                        "name": format!("{}-{}-{}", service_id.2, pod_id.2, port["name"].as_str().unwrap()),
                        "namespace": service_id.1,
                        "labels": {
                            "kubernetes.io/service-name": service_id.2,
                            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                        },
                    },
                    "ports": [{"name": port["name"], "port": number}], "endpoints": [endpoint]}));
            }
        }
    }
    slices
}

/// What a controller makes of a cluster.
fn network(objects: &Objects, ready: &Ready<'_>) -> Network {
    let mut live = Live::default();
    for value in objects.values().chain(&kept(objects, ready)) {
        let text = |field: &str| value[field].as_str().unwrap().to_owned();
        live.upsert(Seen::of(&text("kind"), &text("apiVersion"), value.clone()));
    }
    let mut network = Network::default();
    for changed in live.take() {
        network.apply(match changed {
            Changed::Node(_, Some(node)) => Change::Node(node),
            Changed::Namespace(name, Some(labels)) => Change::Namespace(name, labels),
            Changed::Pod(_, Some(pod)) => Change::Pod(pod),
            Changed::Policy(_, Some((policy, selectors))) => Change::policy(policy, selectors),
            Changed::Service(_, Some(service)) => Change::Service(service),
            _ => continue,
        });
    }
    network
}

fn read_all<'a>(objects: impl IntoIterator<Item = &'a Value>) -> ObjectSet {
    let texts: Vec<String> = objects.into_iter().map(|value| format!("{value}\n")).collect();
    let (set, problems) = read(&[SourceText::new("change", texts.join("---\n"))]);
    assert_eq!(problems, vec![]);
    set
}

/// What somebody writes of an object. A new pod has no place before it is there, and a Service no numbers: here they say those
/// that they will get. What a cluster has given already they do not say.
fn as_written(before: &Objects, id: &Id, value: &Value) -> Value {
    match (id.0, before.get(id)) {
        ("Pod", None) => placed(value.clone()),
        ("Service", held) => {
            let mut written = numbered(value.clone());
            let Some(held) = held else { return written };
            written["metadata"] = value["metadata"].clone();
            let spec = written["spec"].as_object_mut().unwrap();
            spec.retain(|field, _| !field.starts_with("clusterIP"));
            let held = held["spec"]["ports"].as_array().unwrap();
            for port in spec["ports"].as_array_mut().unwrap() {
                let has = held.iter().any(|it| it["name"] == port["name"] && it["nodePort"].is_u64());
                port.as_object_mut().unwrap().retain(|field, _| field != "nodePort" || !has);
            }
            written
        }
        _ => value.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_planned_of_services_is_what_the_cluster_comes_to(
        objects in cluster(), change in changed(), delete in prop::bool::weighted(0.3),
    ) {
        let unready = |_: &Id, pod: &Id| pod.2 != "p1";
        let before = network(&objects, &unready);
        let written: Vec<Value> =
            change.iter().map(|(id, value)| as_written(&objects, id, value)).collect();
        let amended = amend(&before, &read_all(&written), delete);
        prop_assert!(amended.untold.is_empty());
        // Who becomes an endpoint is taken for ready; who is one stays as it is.
        let serves = |service: &Id, pod: &Id| {
            let (service, pod) = (NamespacedName::new(&service.1, &service.2), NamespacedName::new(&pod.1, &pod.2));
            let ports = before.services.get(&service).into_iter().flat_map(|service| &service.ports);
            ports.flat_map(|port| &port.endpoints).any(|endpoint| endpoint.pod.as_ref() == Some(&pod))
        };
        let ready = |service: &Id, pod: &Id| !serves(service, pod) || unready(service, pod);
        let expected = network(&after(&objects, &change, delete), &ready);
        let told = changes(&before, &amended.network);
        held::hold(&told, [&before, &expected], false)?;
        prop_assert_eq!(told, changes(&before, &expected));
    }
}

#[test]
fn clients_that_only_an_address_tells_apart_are_told_apart() {
    let text = |kind: &str| -> Vec<SourceText> {
        let pod = |name: &str, app: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: alpha, labels: {{app: {app}}}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n---\n"
            )
        };
        let pods =
            [("a", "client"), ("b", "client"), ("c", "server")].map(|(name, app)| pod(name, app)).concat();
        let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: one, namespace: alpha}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{from: [{ipBlock: {cidr: 10.244.1.2/32}}]}]}\n---\n";
        let service = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: alpha}}\nspec: {{selector: {{app: {kind}}}, ports: [{{port: 80}}]}}\n"
        );
        vec![SourceText::new("test", pods + policy + &service)]
    };
    let [before, after] = ["nobody", "server"].map(|kind| {
        let (objects, problems) = read(&text(kind));
        assert!(problems.is_empty(), "{problems:?}");
        let nodes = objects::offline::numbered_nodes(1, objects::offline::Families::Ipv4);
        objects::offline::network(&objects, &nodes).0
    });
    let changes = changes(&before, &after);
    let clients: Vec<String> = changes[0].ports[0]
        .clients
        .iter()
        .filter(|it| it.after == Reach::Passes)
        .flat_map(|it| it.listed.iter().map(ToString::to_string))
        .collect();
    assert!(
        clients.contains(&"alpha/a".to_owned()) && !clients.contains(&"alpha/b".to_owned()),
        "{clients:?}"
    );
}
