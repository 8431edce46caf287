//! A network that is amended is the network of the amended objects, whatever happens to pods, Services and slices.

#![allow(clippy::unwrap_used)]

use objects::offline::{Families, network, network_beside, numbered_nodes};
use objects::{ObjectSet, SourceText, amend, read};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn set(documents: &[String]) -> ObjectSet {
    let (set, problems) = read(&[SourceText::new("it", documents.join("---\n"))]);
    assert_eq!(problems, vec![]);
    set
}

fn pod() -> impl Strategy<Value = String> {
    let port = (select(vec!["http", "dns"]), 8080..8082u16);
    (select(vec!["a", "b"]), 0..4u8, select(vec!["web", "db"]), port).prop_map(
        |(namespace, number, app, (name, port))| {
            let (node, last) = (1 + number % 2, number + if namespace == "a" { 10 } else { 20 });
            // What has ended is the cluster's to say, and a change leaves it.
            let phase = if number == 3 { "Succeeded" } else { "Running" };
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: {namespace}, labels: {{app: {app}}}}}\n\
                 spec: {{nodeName: node-{node}, containers: [{{name: c, image: i, ports: [{{name: {name}, containerPort: {port}}}]}}]}}\n\
                 status: {{phase: {phase}, podIPs: [{{ip: 10.244.{node}.{last}}}]}}\n"
            )
        },
    )
}

fn service(namespace: &str, number: u8) -> impl Strategy<Value = String> + use<> {
    let namespace = namespace.to_owned();
    let selector = option::weighted(0.8, select(vec!["web", "db"]));
    let target = select(vec!["8080", "9090", "http", "dns"]);
    let kind = select(vec!["ClusterIP", "NodePort"]);
    let prefers = select(vec!["", "trafficDistribution: PreferSameZone, "]);
    let second = option::of(select(vec!["8081", "http"]));
    (selector, target, kind, prefers, second).prop_map(move |(selector, target, kind, prefers, second)| {
        let selector = selector.map(|app| format!("selector: {{app: {app}}}, ")).unwrap_or_default();
        let second = second.map(|target| format!(", {{name: two, port: 81, targetPort: {target}}}"));
        let second = second.unwrap_or_default();
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: {namespace}}}\n\
             spec: {{type: {kind}, {selector}{prefers}ports: [{{name: one, port: 80, targetPort: {target}}}{second}]}}\n"
        )
    })
}

fn slice() -> impl Strategy<Value = String> {
    let addresses = vec((0..4u8, any::<bool>()), 0..3);
    (0..3u8, 0..3u8, select(vec!["one", "two"]), 8080..8082u16, addresses).prop_map(
        |(number, owner, port, to, addresses)| {
            let one = |(last, ready): &(u8, bool)| {
                format!("{{addresses: [203.0.113.{last}], conditions: {{ready: {ready}}}}}")
            };
            let endpoints: Vec<String> = addresses.iter().map(one).collect();
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{name: l{number}, namespace: a, labels: {{kubernetes.io/service-name: s{owner}}}}}\n\
                 addressType: IPv4\nports: [{{name: {port}, port: {to}}}]\nendpoints: [{}]\n",
                endpoints.join(", ")
            )
        },
    )
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

/// Objects of one name come once: the last of them counts here as it does at an API server.
fn unique(documents: Vec<String>) -> Vec<String> {
    let head =
        |text: &String| text.lines().take(3).collect::<String>().split(", labels").next().unwrap().to_owned();
    let last =
        |index: usize| !documents[index + 1..].iter().any(|later| head(later) == head(&documents[index]));
    (0..documents.len()).filter(|index| last(*index)).map(|index| documents[index].clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn amending_the_network_is_amending_its_objects(
        pods in vec(pod(), 0..8), services in (service("a", 0), service("a", 1), service("a", 2), service("b", 0)),
        slices in vec(slice(), 0..4),
        change in vec(prop_oneof![
            3 => pod(), 1 => service("a", 0), 1 => service("a", 1), 1 => service("b", 0), 1 => service("b", 1), 2 => slice(),
        ], 1..4),
        with_namespace in prop::bool::weighted(0.1), delete in prop::bool::weighted(0.3),
    ) {
        // All Services are there, so that no slice is of one that the network does not know.
        let (first, second, third, fourth) = services;
        let base = [vec![namespace("a"), namespace("b"), first, second, third, fourth], pods, slices].concat();
        let base = set(&unique(base));
        let mut change = change;
        change.extend(with_namespace.then(|| namespace("a")));
        let change = set(&unique(change));
        let nodes = numbered_nodes(2, Families::Ipv4);
        let (before, problems) = network(&base, &nodes);
        prop_assert_eq!(problems, vec![]);
        let mut objects = base.clone();
        if delete {
            objects.delete(&change);
        } else {
            objects.apply(change.clone());
        }
        let (mut expected, _) = network_beside(&objects, &nodes, &before);
        expected.prune();
        let amended = amend(&before, &change, delete);
        prop_assert!(amended.untold.is_empty());
        prop_assert_eq!(amended.network.services, expected.services);
        prop_assert_eq!(amended.network.pods, expected.pods);
    }
}
