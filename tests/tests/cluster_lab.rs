//! `ferrule lab` on a Kubernetes API: the command joins a lab to the API server, and whoever plays kubelet gives it the objects.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use cluster::Request;
use serde_json::{Value, json};
use tests::cluster::{Stage, only};
use tests::lab_up::binaries;

fn ferrule(stage: &Stage, arguments: &[&str]) -> Output {
    let mut command = Command::new(binaries().join("ferrule"));
    command.args(["lab", "--state"]).arg(stage.lab.layout().state()).args(arguments);
    command.env("FERRULE_BIN_DIR", binaries()).output().unwrap()
}

/// What `kubectl get … -o json` prints.
fn objects(stage: &Stage) -> Value {
    let mut all = Vec::new();
    for path in
        ["/api/v1/nodes", "/api/v1/namespaces", "/api/v1/pods", "/apis/networking.k8s.io/v1/networkpolicies"]
    {
        let list = stage.ask(&Request::get(path));
        let kind = list["kind"].as_str().unwrap().trim_end_matches("List").to_owned();
        for item in list["items"].as_array().unwrap() {
            let mut item = item.clone();
            item["apiVersion"] = list["apiVersion"].clone();
            item["kind"] = kind.clone().into();
            all.push(item);
        }
    }
    json!({"apiVersion": "v1", "kind": "List", "items": all})
}

#[test]
fn the_command_brings_up_a_lab_that_follows_an_api_server() {
    let Some(stage) = Stage::new("the_command_brings_up_a_lab") else { return };
    assert!(ferrule(&stage, &["down"]).status.success());
    let kubeconfig = stage.folder().join("controller.kubeconfig").display().to_string();
    let namespace = stage.control.namespace();
    let up = ferrule(&stage, &["up", "--kubeconfig", &kubeconfig, "--join", &namespace, "--record"]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));

    stage.namespace("shop", &json!({}));
    for (name, node) in [("a", "node-1"), ("b", "node-2")] {
        stage.pod("shop", name, &json!({"app": name}), node, &[80]);
    }
    stage.create("/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies", &only("b", "b", "nobody"));
    let file = stage.folder().join("objects.json");
    std::fs::write(&file, objects(&stage).to_string()).unwrap();
    let file = file.display().to_string();
    let sync = ferrule(&stage, &["sync", "--objects", &file]);
    assert!(sync.status.success(), "{}", String::from_utf8_lossy(&sync.stderr));
    // ADD returned, so the policy is in force.
    let matrix = ferrule(&stage, &["matrix", "--objects", &file, "--output", "json"]);
    let text = String::from_utf8_lossy(&matrix.stdout).into_owned();
    assert!(matrix.status.success(), "{text}{}", String::from_utf8_lossy(&matrix.stderr));
    let measured: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(measured["differences"], 0);
    assert!(measured["observed"].to_string().contains('X'), "nothing is blocked: {measured}");

    // Without the objects nobody can know which pods there are.
    for command in ["sync", "matrix"] {
        let output = ferrule(&stage, &[command]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.contains("--objects")), (Some(1), true), "{said}");
    }
    assert!(stage.lab.layout().recording_of(1).is_file());
    let both = ferrule(&stage, &["up", "--kubeconfig", &kubeconfig, "--manifests", "/"]);
    assert_eq!(both.status.code(), Some(1));
    assert!(ferrule(&stage, &["down"]).status.success());
}
