//! `ferrule explain` as people and scripts meet it: exit codes, the document, the sentences about bad input.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn shop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/examples/shop")
}

fn explain(manifests: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_ferrule"))
        .arg("explain")
        .args(words)
        .arg("--manifests")
        .arg(manifests)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn document(words: &[&str]) -> (Option<i32>, Value) {
    let (code, out, err) = explain(&shop(), &[words, &["-o", "json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
}

/// The line of a file that a place names.
fn line_at(place: &Value) -> String {
    let (file, rest) = place.as_str().unwrap().rsplit_once(".yaml:").unwrap();
    let line: usize = rest.split(':').next().unwrap().parse().unwrap();
    let text = std::fs::read_to_string(format!("{file}.yaml")).unwrap();
    text.lines().nth(line - 1).unwrap().trim().to_owned()
}

#[test]
fn an_allowed_packet_names_the_rules_and_flows_of_both_nodes() {
    let (code, told) = document(&["shop/frontend-0", "shop/cart-0", "--port", "tcp/7070"]);
    assert_eq!(code, Some(0), "{told:#}");
    assert_eq!((&told["apiVersion"], &told["kind"]), (&"ferrule.io/v1alpha1".into(), &"Explanation".into()));
    let packet = &told["packets"][0];
    assert_eq!(packet["outcome"]["pod"], "shop/cart-0");
    let by: Vec<&Value> = packet["decisions"].as_array().unwrap().iter().map(|one| &one["by"][0]).collect();
    assert_eq!(by.len(), 2, "{packet:#}");
    assert_eq!(by[0]["policy"], "NetworkPolicy shop/frontend");
    assert_eq!(by[1]["rule"], "ingress[0]");
    assert!(line_at(&by[1]["source"]).starts_with("- from:"), "{}", by[1]);
    let hops = packet["hops"].as_array().unwrap();
    assert_eq!(hops.len(), 2, "it goes from node to node");
    let deciding =
        hops[1]["entries"].as_array().unwrap().iter().find(|flow| flow["table"] == "Ingress").unwrap();
    assert_eq!(deciding["clauses"].as_array().unwrap().len(), 3);
    assert!(deciding["flow"].as_str().unwrap().contains("conj_id="));
}

#[test]
fn a_denied_packet_names_what_isolates_and_what_each_rule_lacks() {
    let (code, told) = document(&["shop/payment-0", "cart-0", "--port", "tcp/7070"]);
    assert_eq!(code, Some(2));
    assert_eq!(told["verdict"], "denied");
    let packet = &told["packets"][0];
    let by = packet["decisions"][0]["by"].as_array().unwrap();
    let default_deny = by.iter().find(|rule| rule["policy"] == "NetworkPolicy shop/default-deny").unwrap();
    assert_eq!(default_deny["rule"], "egress default-deny");
    assert!(line_at(&default_deny["source"]).starts_with("apiVersion:"));
    let rules = packet["rules"].as_array().unwrap();
    let ingress = rules.iter().find(|rule| rule["policy"] == "NetworkPolicy shop/cart").unwrap();
    assert_eq!((&ingress["fit"], &ingress["missing"]), (&"differs".into(), &serde_json::json!(["peer"])));
    assert_eq!(packet["outcome"]["kind"], "dropped");
}

#[test]
fn every_kind_of_end_and_packet() {
    for (words, code) in [
        (&["node:node-1", "shop/cart-0", "-p", "7070"][..], 0),
        (&["outside", "shop/cart-0", "-p", "7070"], 2),
        (&["outside", "shop/cart-0", "-p", "7070", "--via", "node-2"], 2),
        (&["shop/frontend-0", "outside", "-p", "443"], 2),
        (&["platform/exporter-node-1", "outside", "-p", "udp/53"], 0),
        (&["platform/prometheus-0", "shop/catalog-0", "-p", "metrics"], 0),
        (&["platform/prometheus-0", "shop/catalog-0", "-p", "grpc"], 2),
        (&["shop/frontend-0", "shop/cart-0", "-p", "7070", "--reply"], 0),
        (&["shop/frontend-0", "shop/cart-0", "-p", "7070", "--established"], 0),
        (&["shop/payment-0", "shop/cart-0", "-p", "7070", "--established"], 2),
        (&["shop/payment-0", "shop/cart-0", "-p", "7070", "--reply"], 2),
        (&["shop/payment-0", "shop/cart-0", "-p", "icmp"], 2),
        (&["shop/frontend-0", "platform/dns-0", "-p", "sctp/53"], 2),
        (&["shop/frontend-0", "platform/dns-0", "-p", "udp/53"], 0),
        (&["shop/cart-0", "shop/cart-0"], 0),
        (&["node:node-1", "node:node-2", "-p", "22"], 0),
    ] {
        let (got, out, err) = explain(&shop(), words);
        assert_eq!(got, Some(code), "{words:?}\n{out}{err}");
        assert!(out.contains(if code == 0 { "ALLOWED" } else { "DENIED" }), "{words:?}\n{out}");
    }
}

#[test]
fn workloads_are_all_their_pods() {
    let (code, told) = document(&["workload:frontend", "workload:catalog", "-p", "grpc"]);
    assert_eq!(code, Some(0));
    assert_eq!(told["packets"].as_array().unwrap().len(), 2);
    let (code, out, _) =
        explain(&shop(), &["workload:frontend", "workload:frontend", "-p", "8080", "--brief"]);
    assert_eq!(code, Some(2));
    assert!(out.contains("0 packets pass, 2 are denied"), "{out}");
}

#[test]
fn bad_input_is_a_sentence_and_exit_code_one() {
    for (words, sentence) in [
        (&["shop/crat-0", "shop/cart-0"][..], "did you mean pod:shop/cart-0"),
        (&["shop/frontend", "shop/cart-0"], "workload:shop/frontend, service:shop/frontend"),
        (&["shop/frontend-0", "shop/catalog-0"], "say which --port: shop/catalog-0 has"),
        (&["shop/frontend-0", "shop/cart-0", "-p", "nonsense"], "there is no port `nonsense`"),
        (&["shop/frontend-0", "shop/cart-0", "-p", "tcp/0"], "is no port"),
        (&["outside", "shop/cart-0", "-p", "80", "--via", "node-9"], "there are node-1, node-2"),
        (&["shop/frontend-0", "fd00::1", "-p", "80"], "no address of one family"),
    ] {
        let (code, out, err) = explain(&shop(), words);
        assert_eq!(code, Some(1), "{words:?}: {out}");
        assert!(err.contains(sentence) && out.is_empty(), "{words:?}: {err}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.yaml"), "kind: Pod\n  spec: {").unwrap();
    let (code, _, err) = explain(folder.path(), &["a", "b"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("bad.yaml:2:"), "line and column: {err}");
}

const SERVICES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: t, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: t, labels: {app: web}}
spec: {nodeName: node-2, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8081}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: t, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: t}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: t}
spec:
  type: NodePort
  clusterIP: 10.96.0.80
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: itself, namespace: t}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  clusterIP: 10.96.0.82
  selector: {app: client}
  ports: [{port: 80, nodePort: 30082}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: t}
spec: {clusterIP: 10.96.0.83, selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: t}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: client}}
    - ipBlock: {cidr: 192.0.2.0/24}
    - ipBlock: {cidr: 172.30.0.0/16}
"#;

#[test]
fn services_are_translated_before_policy_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("services.yaml"), SERVICES).unwrap();
    let ask = |words: &[&str]| {
        let (code, out, err) = explain(folder.path(), &[words, &["-o", "json"]].concat());
        let told: Value =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?} {error}: {err}"));
        (code, told["packets"][0].clone())
    };
    let (code, packet) = ask(&["t/client", "service:t/web"]);
    assert_eq!(code, Some(0), "{packet:#}");
    assert!(packet["outcome"]["pod"].as_str().unwrap().starts_with("t/web-"));
    assert!(packet["translations"][0].as_str().unwrap().contains(":808"), "{packet:#}");
    let entries = packet["hops"][0]["entries"].as_array().unwrap();
    let owners = entries.iter().flat_map(|entry| entry["owners"].as_array().unwrap());
    assert!(owners.into_iter().any(|owner| owner == "Service t/web"), "{packet:#}");
    let others = "another connection may get another of the 2 endpoints of Service t/web";
    assert!(packet["reason"].as_str().unwrap().contains(others), "{packet:#}");
    let (code, packet) = ask(&["t/stranger", "service:t/web"]);
    assert_eq!(code, Some(2));
    let rule = &packet["rules"][0];
    assert_eq!(
        (&rule["policy"], &rule["missing"]),
        (&"NetworkPolicy t/web".into(), &serde_json::json!(["peer"]))
    );
    for (words, code, says) in [
        (&["outside", "node:node-1", "-p", "30080"][..], 0, "node port of Service t/web"),
        (&["node:node-1", "node:node-2", "-p", "30080"], 0, "node port of Service t/web"),
        (&["t/client", "node:node-2", "-p", "30080"], 0, "NetworkPolicy t/web ingress[0]"),
        (&["node:node-2", "node:node-1", "-p", "30082"], 0, "node port of Service t/itself"),
        (&["node:node-1", "node:node-2", "-p", "30082"], 2, "no endpoint on this node"),
        (&["t/client", "service:t/itself"], 0, ""),
        (&["t/client", "service:t/web", "--established"], 0, "NetworkPolicy t/web ingress[0]"),
        (&["t/client", "service:t/web", "--reply"], 0, "a reply"),
        (&["t/stranger", "service:t/web", "--reply"], 2, "a later policy blocked"),
        (&["service:t/itself", "service:t/web"], 0, "NetworkPolicy t/web ingress[0]"),
    ] {
        let (got, packet) = ask(words);
        assert_eq!(got, Some(code), "{words:?} {packet:#}");
        assert!(packet["reason"].as_str().unwrap().contains(says), "{words:?}: {}", packet["reason"]);
    }
}
