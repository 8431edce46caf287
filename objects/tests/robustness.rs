//! No text makes anything panic, whatever is broken in it.

use network::matrix::{pods_of, predict};
use objects::offline::{Families, network, numbered_nodes};
use objects::{SourceText, read, scenarios};
use proptest::prelude::*;

const CLUSTER_POLICY: &str = r#"apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata:
  name: cluster
spec:
  tier: Admin
  priority: 10
  subject:
    pods:
      namespaceSelector:
        matchLabels: {team: a}
      podSelector: {}
  ingress:
  - name: first
    action: Deny
    from:
    - namespaces: {}
    protocols:
    - tcp:
        destinationPort:
          number: 80
    - destinationNamedPort: web
  egress:
  - action: Pass
    to:
    - nodes: {}
    - networks:
      - 10.0.0.0/8
    protocols:
    - udp:
        destinationPort:
          range:
            start: 1
            end: 9
  - action: Accept
    to:
    - domainNames: ["*.example.org"]
"#;

const MANIFESTS: [&str; 4] = [
    CLUSTER_POLICY,
    include_str!("manifests/20-data.yaml"),
    include_str!("manifests/40-policies-default.yaml"),
    include_str!("manifests/50-policies-shop.yaml"),
];

fn run(text: &str) {
    let (objects, problems) = read(&[SourceText::new("x.yaml", text)]);
    let (network, more) = network(&objects, &numbered_nodes(2, Families::Dual));
    for problem in problems.iter().chain(&more) {
        assert!(!problem.to_string().is_empty());
    }
    assert!(predict(&network, &pods_of(&network)).order.len() <= network.pods.len());
    let _ = scenarios(&SourceText::new("x.jsonl", text));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn broken_manifests(which in 0..MANIFESTS.len(), cuts in prop::collection::vec((any::<prop::sample::Index>(), "[-a-z0-9:{}\\[\\]\"' \n\t&*!|>%]{0,4}", 0..6usize), 1..4)) {
        let mut text: Vec<char> = MANIFESTS[which].chars().collect();
        for (at, insert, remove) in cuts {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        run(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        run(&text);
    }

    #[test]
    fn any_value_in_place_of_any_field(
        field in prop::sample::select(vec!["kind", "metadata", "spec", "podSelector", "ingress", "egress", "from", "ports", "cidr", "policyTypes", "namespace", "containerPort", "replicas", "template", "endPort", "matchLabels", "values", "operator", "key", "tier", "priority", "subject", "namespaces", "pods", "action", "to", "nodes", "networks", "protocols", "tcp", "destinationPort", "number", "range", "start", "destinationNamedPort", "domainNames"]),
        value in prop::sample::select(vec!["", "null", "{}", "[]", "[null]", "[[]]", "[{}]", "-1", "1e9", "99999999999999999999", "true", "text", "''", "{a: b}", "[a, b]", "~", "!!binary x", "&a [*a]"]),
    ) {
        for text in MANIFESTS {
            let prefix = format!("{field}:");
            let changed: String = text
                .lines()
                .map(|line| match line.find(&prefix) {
                    Some(at) => format!("{}{prefix} {value}\n", &line[..at]),
                    None => format!("{line}\n"),
                })
                .collect();
            run(&changed);
        }
    }
}
