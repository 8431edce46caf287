//! Scenarios: their shape, placement and prediction.

#![allow(clippy::unwrap_used, reason = "a test")]

use expect_test::expect;
use network::NamespacedName;
use objects::{SourceText, scenarios};

const SCENARIO: &str = r#"{"id": 3, "namespaces": {"x": {"ns": "x"}, "y": {}},
 "pods": [
  {"namespace": "x", "name": "a", "labels": {"pod": "a"}, "ip": "192.168.4.1", "ports": [{"name": "serve", "port": 80, "protocol": "TCP"}]},
  {"namespace": "y", "name": "a", "labels": {"pod": "a"}, "ip": "192.168.4.2", "ports": [{"name": "serve", "containerPort": 81}, {"containerPort": 53, "protocol": "UDP"}]},
  {"namespace": "x", "name": "b", "labels": {}, "ip": "10.244.1.1", "ports": []}],
 "policies": [
  {"metadata": {"name": "p", "namespace": "x"}, "spec": {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"ns": "x"}}}]}]}},
  {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "q", "namespace": "x"},
   "spec": {"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "192.168.4.0/24"}}], "ports": [{"port": "serve"}]}]}}],
 "order": ["x/b", "x/a", "y/a"]}"#;

#[test]
fn a_scenario_is_predicted_in_its_own_order() {
    let read = |text: String| {
        let (mut scenarios, problems) = scenarios(&SourceText::new("s.jsonl", text));
        assert_eq!(problems, []);
        scenarios.remove(0)
    };
    let scenario = read(SCENARIO.to_owned());
    let on_one_line = read(SCENARIO.replace('\n', ""));
    assert_eq!(scenario.network, on_one_line.network);
    assert_eq!(scenario.predict(), on_one_line.predict());
    expect![[r#"
        {
          "id": 3,
          "order": [
            "x/b",
            "x/a",
            "y/a"
          ],
          "table": {
            "TCP/80": {
              "ingress": {
                "x/a": "-.-",
                "x/b": "-.-",
                "y/a": "-X-"
              },
              "egress": {
                "x/a": "-.-",
                "x/b": "-.-",
                "y/a": "-.-"
              },
              "combined": {
                "x/a": "-.-",
                "x/b": "-.-",
                "y/a": "-X-"
              }
            },
            "TCP/81": {
              "ingress": {
                "x/a": "--.",
                "x/b": "--.",
                "y/a": "--."
              },
              "egress": {
                "x/a": "--.",
                "x/b": "--.",
                "y/a": "--."
              },
              "combined": {
                "x/a": "--.",
                "x/b": "--.",
                "y/a": "--."
              }
            },
            "UDP/53": {
              "ingress": {
                "x/a": "--.",
                "x/b": "--.",
                "y/a": "--."
              },
              "egress": {
                "x/a": "--X",
                "x/b": "--.",
                "y/a": "--."
              },
              "combined": {
                "x/a": "--X",
                "x/b": "--.",
                "y/a": "--."
              }
            }
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&scenario.predict()).unwrap());
    let node = |namespace: &str, name: &str| {
        scenario.network.pods[&NamespacedName::new(namespace, name)].node.as_ref().unwrap().as_str()
    };
    assert_eq!((node("x", "b"), node("x", "a"), node("y", "a")), ("node-1", "node-2", "node-1"));
    let nodes: Vec<String> = scenario
        .network
        .nodes
        .values()
        .map(|n| format!("{} {:?} {:?}", n.name, n.addresses, n.pod_cidrs))
        .collect();
    // 10.244.1.1 is a pod's here, so the nodes' own ranges make room.
    expect![[r#"
        node-1 [172.30.0.1] [10.0.1.0/24, 10.244.1.1/32, 192.168.4.2/32]
        node-2 [172.30.0.2] [10.0.2.0/24, 192.168.4.1/32]"#]]
    .assert_eq(&nodes.join("\n"));
}

#[test]
fn expected_tables_are_compared() {
    let text = SCENARIO.replace('\n', "").replace(
        "\"order\"",
        r#""table": {"TCP/80": {"ingress": {"x/b": "-.-", "x/a": "-.-", "y/a": "-.-"}}}, "order""#,
    );
    let (scenarios, problems) = scenarios(&SourceText::new("s.jsonl", text));
    assert_eq!(problems, []);
    let differences = scenarios[0].predict().differences(scenarios[0].expected.as_ref().unwrap());
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    expect![[r#"
        y/a → x/a TCP/80 Ingress: `X` and `.`
        x/b → y/a TCP/81 Ingress: `.` and `-`
        x/a → y/a TCP/81 Ingress: `.` and `-`
        x/b → y/a UDP/53 Ingress: `.` and `-`
        x/a → y/a UDP/53 Ingress: `.` and `-`"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn bad_lines_are_problems_and_the_others_are_read() {
    let good = SCENARIO.replace('\n', "");
    let text = format!("{good}\n{{\n\n{{\"pods\": [{{\"name\": 1}}]}}\n[]\n{good}\n");
    let (scenarios, problems) = scenarios(&SourceText::new("s.jsonl", text));
    assert_eq!(scenarios.len(), 2);
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    expect![[r#"
        s.jsonl:2:1: the document cannot be read: EOF while parsing an object at line 1 column 1; correct the text; the other documents are read
        s.jsonl:4:1: pods[0].name: the document cannot be read: invalid type: integer `1`, expected a string; correct the text; the other documents are read
        s.jsonl:5:1: the document cannot be read: a scenario is a JSON object; correct the text; the other documents are read"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn cluster_policies_nodes_and_pods_on_them_and_fields_that_nobody_knows() {
    let text = r#"{"pods": [
      {"name": "a", "labels": {"app": "a"}}, {"name": "host", "hostNetwork": true, "ports": [{"port": 80}]},
      {"name": "b", "colour": "red", "ports": [{"port": 80}]}],
     "policies": [{"metadata": {"name": "c"}, "spec": {"tier": "Admin", "priority": 3,
       "subject": {"pods": {"podSelector": {"matchLabels": {"app": "a"}}}},
       "egress": [{"action": "Deny", "to": [{"nodes": {"matchLabels": {"kubernetes.io/os": "linux"}}}]}]}}],
     "clusterPolicies": []}"#;
    let (mut scenarios, problems) = scenarios(&SourceText::new("s.json", text));
    expect![[r#"
        s.json:1:1: clusterPolicies: the field `clusterPolicies` is unknown and ignored; check the spelling and the indentation, or remove it
        s.json:1:1: pods[2].colour: the field `colour` is unknown and ignored; check the spelling and the indentation, or remove it"#]].assert_eq(&problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    let scenario = scenarios.remove(0);
    let matrix = serde_json::to_value(scenario.predict()).unwrap();
    assert_eq!(matrix["table"]["TCP/80"]["combined"]["default/a"], "-X.");
    assert_eq!(matrix["table"]["TCP/80"]["combined"]["default/b"], "-..");
}
