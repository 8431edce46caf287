//! Objects of a real API server become a network: nodes, namespaces, pods and policies made, changed and removed, and the matrix
//! that is measured in the lab is each time the one that the objects in the API predict.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tests::cluster::Stage;

const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

/// The ports 80 and 81 of pods `app=web` in `shop`, from pods `app=web` of namespaces with these labels.
fn allow_from(namespaces: &Value) -> Value {
    let from = json!([{"namespaceSelector": {"matchLabels": namespaces}, "podSelector": {"matchLabels": {"app": "web"}}}]);
    json!({
        "podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": from, "ports": [{"protocol": "TCP", "port": 80}]}],
    })
}

#[test]
fn what_the_api_holds_is_what_passes() {
    let Some(mut stage) = Stage::new("what_the_api_holds_is_what_passes") else { return };
    stage.namespace("shop", &json!({"team": "a"}));
    stage.namespace("other", &json!({"team": "b"}));
    for (namespace, name, app, node) in [
        ("shop", "web-1", "web", "node-1"),
        ("shop", "web-2", "web", "node-2"),
        ("shop", "db", "db", "node-1"),
        ("other", "web", "web", "node-2"),
    ] {
        stage.pod(namespace, name, &json!({"app": app}), node, &[80, 81]);
    }
    stage.kubelets();
    stage.agrees("pods without a policy");

    stage.create(POLICIES, &policy("web", &allow_from(&json!({"team": "a"}))));
    stage.agrees("a policy was made");
    let blocked = |stage: &Stage| {
        let measured = stage.lab.measure_objects(&stage.objects()).unwrap();
        let text = serde_json::to_string(&measured.observed).unwrap();
        text.matches('X').count()
    };
    let with_policy = blocked(&stage);
    assert!(with_policy > 0, "the policy blocks nothing, so nothing was tested");

    // From the other team instead: who passed is blocked, who was blocked passes.
    stage.patch(&format!("{POLICIES}/web"), &json!({"spec": allow_from(&json!({"team": "b"}))}));
    stage.agrees("the policy selects other namespaces");
    stage.patch("/api/v1/namespaces/other", &json!({"metadata": {"labels": {"team": "c"}}}));
    stage.agrees("a namespace has another label");
    stage.patch("/api/v1/namespaces/shop/pods/db", &json!({"metadata": {"labels": {"app": "web"}}}));
    stage.agrees("a pod has another label, and the policy isolates it");
    stage.patch("/api/v1/namespaces/other", &json!({"metadata": {"labels": {"team": "b"}}}));
    stage.agrees("the namespace has its label again");

    stage.delete("/api/v1/namespaces/shop/pods/web-2");
    stage.kubelets();
    stage.agrees("a pod is gone");
    // The same name, another UID, another node.
    stage.pod("shop", "web-2", &json!({"app": "web"}), "node-1", &[80]);
    stage.pod("shop", "late", &json!({"app": "late"}), "node-2", &[80, 81]);
    stage.kubelets();
    stage.agrees("a pod of the same name came on another node, and a new one");

    stage.delete(&format!("{POLICIES}/web"));
    stage.agrees("the policy is gone");
    assert_eq!(blocked(&stage), 0, "without a policy nothing is blocked");
    stage.create(POLICIES, &policy("all", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})));
    stage.agrees("nothing passes in a namespace");
    stage.delete_namespace("shop");
    stage.agrees("the namespace is gone");
}

#[test]
fn nodes_come_change_and_go() {
    let Some(mut stage) = Stage::new("nodes_come_change_and_go") else { return };
    stage.namespace("shop", &json!({}));
    stage.pod("shop", "a", &json!({}), "node-1", &[80]);
    stage.pod("shop", "b", &json!({}), "node-2", &[80]);
    stage.kubelets();
    stage.agrees("two nodes");
    // A node without a range, and one that claims an address of another: told, and nobody else suffers.
    let stray = |name: &str, spec: &Value, address: &str| {
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec,
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        })
    };
    let taken = stage.lab.node("node-1").unwrap().address(true).unwrap().to_string();
    stage.create("/api/v1/nodes", &stray("without-range", &json!({}), "172.28.0.9"));
    stage.create("/api/v1/nodes", &stray("z-double", &json!({"podCIDR": "10.244.99.0/24"}), &taken));
    tests::steady::until("both nodes are told of as problems", std::time::Duration::from_secs(20), || {
        let problems = stage.controller(1).list::<api::insight::ProblemItem>("problems", &[]);
        let Ok(problems) = problems else { return false };
        let told = |node: &str, what: &str| {
            problems
                .items
                .iter()
                .any(|p| format!("{} {}", p.object, p.message).contains(node) && p.message.contains(what))
        };
        told("without-range", "podCIDR") && told("z-double", &taken)
    });
    assert_eq!(differences(&stage), 0, "two nodes that are wrong disturb nobody");
    stage.delete("/api/v1/nodes/without-range");
    stage.delete("/api/v1/nodes/z-double");
    stage.agrees("the strays are gone");
    // A third node: its range is reached through the tunnel at once, and no longer when it goes.
    let held = |stage: &Stage| {
        let flows =
            stage.lab.ovs(lab::NodeIndex(1), "ovs-ofctl", ["-O", "OpenFlow13", "dump-flows", "br-int"]);
        flows.unwrap().contains("10.244.77.")
    };
    assert!(!held(&stage));
    stage.create("/api/v1/nodes", &stray("node-77", &json!({"podCIDR": "10.244.77.0/24"}), "172.28.0.77"));
    tests::steady::until("node-1 knows the new node", std::time::Duration::from_secs(20), || held(&stage));
    stage.delete("/api/v1/nodes/node-77");
    tests::steady::until("node-1 has forgotten it", std::time::Duration::from_secs(20), || !held(&stage));
    stage.agrees("two nodes again");
}

fn differences(stage: &Stage) -> usize {
    let pods_and_nodes = stage.objects();
    stage.lab.measure_objects(&pods_and_nodes).unwrap().differences.len()
}
