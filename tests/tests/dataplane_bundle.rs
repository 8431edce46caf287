//! Offline equals online: a lab is asked, kept in a bundle, taken down, and the bundle gives the same answers.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::Family;
use serde_json::Value;
use tests::lab_up::{LabUp, binaries};
use tests::steady;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: t, labels: {app: a}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: t, labels: {app: b}}
spec: {nodeName: node-2, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: shut, namespace: t, labels: {app: shut}}
spec: {nodeName: node-2, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: t}
spec: {podSelector: {matchLabels: {app: shut}}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}]}
"#;

/// Opens what is shut to b, and shuts it to a.
const CHANGE: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: t}
spec: {podSelector: {matchLabels: {app: shut}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}]}
"#;

const QUESTIONS: [&[&str]; 18] = [
    &["get", "nodes"],
    &["get", "switches"],
    &["get", "ports", "--node", "node-1"],
    &["get", "pods"],
    &["get", "pods", "--namespace", "t", "--node", "node-2"],
    &["get", "policies"],
    &["get", "tunnels"],
    &["get", "problems"],
    &["get", "flows"],
    &["get", "flows", "--policy", "t/shut"],
    &["get", "flows", "--pod", "t/shut", "--table", "ingress"],
    &["get", "drops", "--pod", "t/a"],
    &["get", "services"],
    &["get", "policies", "--cost"],
    &["explain", "t/a", "t/shut", "--port", "tcp/80"],
    &["explain", "t/b", "t/shut", "--port", "tcp/80"],
    &["audit"],
    &["plan", "-f", "change.yaml"],
];

/// For how long a network may go on changing after it is up.
const LIMIT: Duration = Duration::from_secs(30);

/// Exit code and what was printed, without what counts on while questions are asked.
fn ask(folder: &Path, words: &[&str], whom: [&str; 2]) -> (Option<i32>, Value) {
    let output = Command::new(binaries().join("ferrule"))
        .args(words)
        .args(["-o", "json"])
        .args(whom)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut said: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{words:?} {whom:?}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    still(&mut said);
    (output.status.code(), said)
}

fn still(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !["packets", "bytes"].contains(&name.as_str()));
            fields.values_mut().for_each(still);
        }
        Value::Array(items) => items.iter_mut().for_each(still),
        _ => {}
    }
}

#[test]
fn a_bundle_answers_as_the_network_did() {
    let test = "a_bundle_answers_as_the_network_did";
    let Some(up) = LabUp::new(test, Family::Ipv4, Some(&[("pods.yaml", PODS)])) else { return };
    let folder = up.folder().to_owned();
    std::fs::write(folder.join("change.yaml"), CHANGE).unwrap();
    let controller = format!("unix:{}", up.lab.layout().controller_socket().display());
    let logs = up.lab.layout().logs();
    let ferrule = |words: &[&str]| {
        Command::new(binaries().join("ferrule")).args(words).current_dir(&folder).output().unwrap()
    };
    let all = || -> Vec<_> {
        QUESTIONS.iter().map(|words| ask(&folder, words, ["--controller", &controller])).collect()
    };
    // Of a network that stands still: a node's own stack gets the last of what it should hold, and pods' kernels say what is
    // dropped, for a moment after the pods are there.
    let mut online = all();
    steady::until("the network answers as it did before the bundle was made", LIMIT, || {
        let _ = std::fs::remove_file(folder.join("b.json"));
        let made = ["bundle", "b.json", "--controller", &controller, "--logs", &logs.display().to_string()];
        let made = ferrule(&made);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let before = std::mem::replace(&mut online, all());
        before == online
    });

    // It is not written over, only its owner reads it, and no token of an agent is in it.
    assert_eq!(ferrule(&["bundle", "b.json", "--controller", &controller]).status.code(), Some(1));
    let text = std::fs::read_to_string(folder.join("b.json")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(folder.join("b.json")).unwrap().permissions().mode() & 0o077, 0);
    for node in up.lab.record().node_indexes() {
        let token = std::fs::read_to_string(up.lab.layout().token(node)).unwrap_or_default();
        assert!(token.trim().is_empty() || !text.contains(token.trim()), "a token is in the bundle");
    }
    assert!(text.contains("ferrule-agent") || text.contains("agent"), "no log of an agent is in it");

    let kept = up.down();
    for (words, online) in QUESTIONS.iter().zip(&online) {
        assert_eq!(&ask(&folder, words, ["--bundle", "b.json"]), online, "{words:?}");
    }
    // The plan is the one that this change deserves.
    let (code, plan) = online.last().unwrap();
    assert_eq!(*code, Some(2));
    for (side, from) in [("newlyAllowed", "t/b"), ("newlyDenied", "t/a")] {
        assert_eq!(plan[side].as_array().unwrap().len(), 1, "{plan:#}");
        assert_eq!(plan[side][0]["from"]["listed"], serde_json::json!([from]), "{plan:#}");
    }
    assert!(ask(&folder, QUESTIONS[8], ["--bundle", "b.json"]).1["items"].as_array().unwrap().len() > 50);
    drop(kept);
}
