//! What manifests without an API server get in its place: cluster addresses, node ports, endpoints.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use network::{NamespacedName, Network, ServiceKind};
use objects::made_up::{NODE_PORTS, service_cidrs};
use objects::offline::{self, Families, numbered_nodes};
use objects::{SourceText, read};

const SHOP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: odd, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 9090}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, type: NodePort, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: shop}
spec: {selector: {app: web}, type: LoadBalancer, externalTrafficPolicy: Local, ipFamilyPolicy: PreferDualStack, ports: [{port: 81}]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.5}, {ip: 203.0.113.6, ipMode: Proxy}]}}
---
apiVersion: v1
kind: Service
metadata: {name: by-hand, namespace: shop}
spec: {clusterIP: 10.96.7.7, ports: [{port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-1, namespace: shop, labels: {kubernetes.io/service-name: by-hand}}
addressType: IPv4
ports: [{port: 15432}]
endpoints: [{addresses: [192.0.2.44]}]
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
"#;

fn network(text: &str, families: Families) -> (Network, Vec<String>) {
    let (objects, problems) = read(&[SourceText::new("shop.yaml", text)]);
    assert_eq!(problems, vec![]);
    let (network, problems) = offline::network(&objects, &numbered_nodes(2, families));
    (network, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn addresses_ports_and_endpoints_are_made_up_the_same_every_time() {
    let (first, problems) = network(SHOP, Families::Dual);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(first, network(SHOP, Families::Dual).0);
    let service = |name: &str| &first.services[&NamespacedName::new("shop", name)];

    let web = service("web");
    assert_eq!(web.kind, ServiceKind::NodePort);
    assert_eq!(web.cluster_ips.len(), 1);
    assert!(service_cidrs()[0].contains(*web.cluster_ips.first().unwrap()));
    let port = web.ports[0].node_port.unwrap();
    assert!((NODE_PORTS.0..=NODE_PORTS.1).contains(&port));
    let numbers: Vec<u16> = web.ports[0].endpoints.iter().map(|endpoint| endpoint.port).collect();
    assert_eq!(numbers.iter().filter(|number| **number == 8080).count(), 3);
    assert!(numbers.contains(&9090), "the same name is another number on another pod");
    let resolved = web.resolved(&first);
    let addresses: BTreeSet<_> =
        resolved.ports[0].endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().copied()).collect();
    assert_eq!(addresses.len(), 8, "four pods of two families");

    let balanced = service("balanced");
    assert_eq!(balanced.cluster_ips.len(), 2);
    assert!(balanced.health_check_node_port.is_some());
    assert_eq!(balanced.load_balancer_ips, ["203.0.113.5".parse().unwrap()].into());

    let by_hand = service("by-hand");
    assert_eq!(by_hand.cluster_ips, ["10.96.7.7".parse().unwrap()].into());
    let endpoint = by_hand.ports[0].endpoints.first().unwrap();
    assert_eq!((endpoint.port, endpoint.pod.is_none()), (15432, true));

    assert_eq!(service("none").kind, ServiceKind::Headless);
    assert!(service("none").cluster_ips.is_empty());
}

#[test]
fn a_family_that_pods_do_not_have_gives_no_cluster_address() {
    let (network, _) = network(SHOP, Families::Ipv6);
    let web = &network.services[&NamespacedName::new("shop", "web")];
    assert!(web.cluster_ips.iter().all(std::net::IpAddr::is_ipv6) && web.cluster_ips.len() == 1);
    assert_eq!(network.services[&NamespacedName::new("shop", "balanced")].cluster_ips.len(), 1);
}

#[test]
fn what_two_services_claim_belongs_to_one_and_is_told() {
    let two = |name: &str, port: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: t}}\nspec: {{type: NodePort, externalIPs: [192.0.2.9], \
             ports: [{{port: {port}, nodePort: 30100}}]}}\n---\n"
        )
    };
    let (_, problems) = network(&(two("b", 80) + &two("a", 80)), Families::Ipv4);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems.iter().all(|p| p.contains("Service t/b") && p.contains("Service t/a")), "{problems:#?}");
    let (_, problems) = network(&(two("b", 80) + &two("a", 81)), Families::Ipv4);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].contains("TCP node port 30100"), "{problems:#?}");
}

#[test]
fn the_older_of_two_has_what_both_claim() {
    let made = |name: &str, year: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: t, creationTimestamp: \"{year}-01-01T00:00:00Z\"}}\n\
             spec: {{externalIPs: [192.0.2.9], ports: [{{port: 80}}]}}\n---\n"
        )
    };
    // What is no time is none.
    let (_, problems) = network(&(made("a", 0).replace("0-01", "x") + &made("b", 2026)), Families::Ipv4);
    assert!(problems.len() == 1 && problems[0].starts_with("Service t/a"), "{problems:#?}");
    for (a, b, loser) in
        [(2025, 2026, "Service t/b"), (2026, 2025, "Service t/a"), (2026, 2026, "Service t/b")]
    {
        let (_, problems) = network(&(made("a", a) + &made("b", b)), Families::Ipv4);
        let [problem] = &problems[..] else { panic!("{problems:#?}") };
        assert!(problem.starts_with(loser), "{problem}");
    }
}

#[test]
fn near_endpoints_are_hinted_as_the_controller_would() {
    let near = |wanted: &str| {
        let text = SHOP.replace("type: NodePort,", &format!("trafficDistribution: {wanted},"));
        let (network, _) = network(&text, Families::Ipv4);
        network.services[&NamespacedName::new("shop", "web")].ports[0].endpoints.clone()
    };
    let by_node = near("PreferSameNode");
    assert_eq!(by_node.len(), 4);
    assert!(by_node.iter().all(|e| e.for_nodes.iter().eq(e.node.iter())), "{by_node:#?}");
    assert!(near("PreferClose").iter().all(|e| e.for_nodes.is_empty()));
}
