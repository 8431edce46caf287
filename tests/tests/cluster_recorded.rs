//! What a controller lives through on a real API server is written down, and comes to the same model, views and programs when it
//! is played again, by the library and by the command.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cluster::Component;
use controller::record::replay::{Replay, Step};
use lab::NodeIndex;
use nix::sys::signal::Signal;
use serde_json::json;
use tests::cluster::{Settings, Stage, only};
use tests::lab_up::binaries;
use tests::steady::until;

const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";

fn played(path: &Path) -> (Vec<Step>, network::Network) {
    let mut replay = Replay::new(BufReader::new(File::open(path).unwrap()), true).unwrap();
    let mut steps = Vec::new();
    while let Some(step) = replay.step().unwrap() {
        steps.push(step);
    }
    (steps, replay.state().network())
}

fn replay(path: &Path, json: bool) -> (i32, String) {
    let mut command = Command::new(binaries().join("ferrule-controller"));
    command.arg("--replay").arg(path);
    if json {
        command.args(["--log-format", "json"]);
    }
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_session_on_a_real_api_server_replays_bit_by_bit() {
    let settings = Settings { recorded: true, ..Settings::default() };
    let Some(mut stage) = Stage::with("a_session_on_a_real_api_server", &settings) else { return };
    stage.namespace("shop", &json!({"team": "a"}));
    for (name, node) in [("a", "node-1"), ("b", "node-2"), ("c", "node-2")] {
        stage.pod("shop", name, &json!({"app": name}), node, &[80]);
    }
    stage.kubelets();
    stage.create(POLICIES, &only("b", "b", "a"));
    stage.agrees("a policy");
    stage.patch("/api/v1/namespaces/shop/pods/c", &json!({"metadata": {"labels": {"app": "a"}}}));
    stage.agrees("another label");
    // The history ends and begins anew: a list in place of events; an agent comes back.
    stage.control.restart(Component::ApiServer, Signal::SIGKILL).unwrap();
    stage.lab.restart(NodeIndex(2), lab::Component::Agent, Signal::SIGKILL).unwrap();
    stage.delete("/api/v1/namespaces/shop/pods/a");
    stage.kubelets();
    stage.create(POLICIES, &only("c", "a", "b"));
    stage.agrees("after the API server and an agent were killed");
    stage.lab.stop(NodeIndex(1), lab::Component::Controller, Signal::SIGTERM).unwrap();

    let path = stage.lab.layout().recording_of(1);
    let (steps, network) = played(&path);
    let differing: Vec<&Step> = steps.iter().filter(|step| !step.differences.is_empty()).collect();
    assert!(differing.is_empty(), "{differing:#?}");
    let programs: usize = steps.iter().map(|step| step.digests.programs.len()).sum();
    assert!(steps.len() > 20 && programs > 10, "{} steps, {programs} programs", steps.len());
    let pods: Vec<String> = network.pods.keys().map(ToString::to_string).collect();
    assert_eq!((pods, network.policies.len()), (vec!["shop/b".to_owned(), "shop/c".to_owned()], 2));

    let (code, text) = replay(&path, false);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with(&format!("{} steps, 0 of them differ from what was recorded\n", steps.len())));
    let (code, lines) = replay(&path, true);
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((code, last["kind"].as_str()), (0, Some("ReplayStep")));
    assert_eq!(last["model"], json!(steps.last().unwrap().digests.model));

    // A label that is another from the beginning.
    let changed = std::fs::read_to_string(&path).unwrap().replacen("\"team\":\"a\"", "\"team\":\"b\"", 1);
    let other = stage.folder().join("changed.jsonl");
    std::fs::write(&other, changed).unwrap();
    let (code, text) = replay(&other, false);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("DIFFERS: another model than was recorded"), "{text}");

    // What is there is kept when the controller starts again.
    stage.lab.start(NodeIndex(1), lab::Component::Controller).unwrap();
    stage.agrees("it is back");
    let older = controller::record::writer::older(&path);
    until("the recording before is kept", Duration::from_secs(5), || older.is_file());
    assert_eq!(played(&older).0, steps);
}
