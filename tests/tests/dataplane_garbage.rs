//! Garbage and haste around a lab that runs: files half-written, files that are no text, pods that come and go by an edit, daemons
//! that lie. What is told is clear, the rest works on, and nothing is left behind. One lab for all of it.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use api::insight::{ProblemItem, SwitchItem};
use lab::http::Endpoint;
use lab::{Component, Interrupt, Lab, NodeIndex, Options};
use network::NamespacedName;
use nix::sys::signal::Signal;
use tests::steady::until;
use tests::{binaries, skip};

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
"#;

const SHUT: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: t}
spec: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress]}
"#;

const NODE: NodeIndex = NodeIndex(1);

struct Trial {
    // Down before the folder goes, also when a test panics.
    lab: Lab,
    folder: tempfile::TempDir,
    binaries: PathBuf,
}

impl Trial {
    fn new(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip::skip("dataplane", test, "needs root");
            return None;
        }
        let binaries = std::env::var_os("FERRULE_BIN_DIR").map_or_else(built, PathBuf::from);
        let folder = tempfile::Builder::new().prefix("lab-").tempdir_in("/tmp").unwrap();
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        std::fs::write(manifests.join("pods.yaml"), PODS).unwrap();
        // Latin-1: no reason not to bring up the rest.
        std::fs::write(manifests.join("latin.yaml"), b"kind: Pod\nmetadata: {name: \xe9t\xe9}\n").unwrap();
        let mut options = Options::new(folder.path().join("state"), &binaries);
        options.manifests = Some(manifests);
        match Lab::up(&options, &Interrupt::default(), &lab::progress::silent) {
            Ok(lab) => Some(Self { lab: lab.down_on_drop(), folder, binaries }),
            Err(error @ lab::Error::MissingProgram { .. }) => {
                skip::skip("dataplane", test, &error.to_string());
                None
            }
            Err(error) => panic!("the lab does not come up: {error}"),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("manifests").join(name)
    }

    fn edit(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    fn ferrule(&self, words: &[&str]) -> Output {
        let command = Command::new(self.binaries.join("ferrule"))
            .args(words)
            .env("FERRULE_LAB_STATE", self.folder.path().join("state"))
            .stdin(Stdio::null())
            .output();
        command.unwrap()
    }

    /// The matrix as a user asks for it: its exit code and what it said.
    fn matrix(&self) -> (Option<i32>, String) {
        let output = self.ferrule(&["lab", "matrix"]);
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), said)
    }

    fn controller(&self) -> Endpoint {
        Endpoint::Unix(self.lab.layout().controller_socket())
    }
}

fn built() -> PathBuf {
    let all = [
        ("controller", "ferrule-controller"),
        ("ovs-agent", "ferrule-agent"),
        ("cni", "ferrule-cni"),
        ("cli", "ferrule"),
    ];
    all.map(|(package, binary)| binaries::build(package, binary))[0].parent().unwrap().to_owned()
}

#[test]
fn whatever_is_thrown_at_a_running_lab_is_told_and_the_rest_works_on() {
    let Some(mut trial) = Trial::new("dataplane_garbage") else { return };
    a_file_that_is_no_text(&trial);
    edits_are_in_force_before_they_are_measured(&trial);
    a_half_written_file(&trial);
    pods_come_and_go_by_an_edit(&mut trial);
    a_switch_that_lies(&trial);
    let state = trial.folder.path().join("state");
    let prefix = trial.lab.layout().namespace_prefix();
    drop(trial);
    assert!(!state.exists());
    assert_eq!(lab::netns::list(&prefix).unwrap(), Vec::<String>::new());
}

fn a_file_that_is_no_text(trial: &Trial) {
    let problems = trial.lab.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].object.ends_with("latin.yaml"), "{problems:?}");
    assert!(problems[0].message.contains("UTF-8"), "{problems:?}");
    assert_eq!(trial.lab.record().pods.values().filter(|pod| pod.is_plugged()).count(), 2);
    std::fs::remove_file(trial.file("latin.yaml")).unwrap();
}

/// The prediction is of the files, the observation of the switches: an edit just before must not show as a difference.
fn edits_are_in_force_before_they_are_measured(trial: &Trial) {
    for round in 0..2 {
        trial.edit("shut.yaml", SHUT);
        let (code, said) = trial.matrix();
        assert_eq!(code, Some(0), "shut, round {round}: {said}");
        std::fs::remove_file(trial.file("shut.yaml")).unwrap();
        let (code, said) = trial.matrix();
        assert_eq!(code, Some(0), "open again, round {round}: {said}");
    }
}

/// In the middle of an edit the last good content stays in force, is what is predicted from, and no pod is unplugged.
fn a_half_written_file(trial: &Trial) {
    trial.edit("pods.yaml", PODS.split_at(PODS.len() - 60).0);
    let (code, said) = trial.matrix();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("pods.yaml") && said.contains("last good content"), "{said}");
    let problems = trial.controller().list::<ProblemItem>("problems", &[]).unwrap().items;
    assert!(problems.iter().any(|problem| problem.object.ends_with("pods.yaml")), "{problems:?}");
    let output = trial.ferrule(&["lab", "sync"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let plugged = Lab::open(trial.lab.layout().state()).unwrap().record().pods.len();
    assert_eq!(plugged, 2, "sync unplugged a pod because of half a file");
    trial.edit("pods.yaml", PODS);
    let (code, said) = trial.matrix();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("note:"), "{said}");
}

/// `matrix` makes the pods what the manifests say now; otherwise it compares other pods than there are.
fn pods_come_and_go_by_an_edit(trial: &mut Trial) {
    trial.edit("pods.yaml", &PODS.replace("name: b,", "name: c,"));
    let (code, said) = trial.matrix();
    assert_eq!(code, Some(0), "{said}");
    let pods: Vec<NamespacedName> =
        Lab::open(trial.lab.layout().state()).unwrap().record().pods.keys().cloned().collect();
    assert_eq!(pods, [NamespacedName::new("t", "a"), NamespacedName::new("t", "c")]);
    trial.edit("pods.yaml", PODS);
    assert_eq!(trial.matrix().0, Some(0));
}

/// Something else answers in the switch's place: the agent says so, stays, and takes the real one back.
fn a_switch_that_lies(trial: &Trial) {
    let socket = trial.lab.status().nodes[0].sockets.openflow.clone();
    let real = socket.with_extension("real");
    for lie in [&b"\x04\x00\x00"[..], b"\x04\x00\x00\x04\x00\x00\x00\x01", &[0xff; 300]] {
        std::fs::rename(&socket, &real).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        trial.lab.restart(NODE, Component::Agent, Signal::SIGKILL).unwrap();
        let mut heard = 0;
        until("the agent has tried twice", Duration::from_secs(10), || {
            if let Ok((mut stream, _)) = listener.accept() {
                heard += 1;
                let _ = stream.write_all(lie);
                let _ = stream.read(&mut [0; 64]);
            }
            heard == 2
        });
        assert!(!in_sync(trial), "a liar counts as the switch");
        put_back(&real, &socket);
        until("the real switch is in sync again", Duration::from_secs(10), || in_sync(trial));
    }
    let (code, said) = trial.matrix();
    assert_eq!(code, Some(0), "{said}");
}

fn put_back(real: &Path, socket: &Path) {
    std::fs::remove_file(socket).unwrap();
    std::fs::rename(real, socket).unwrap();
}

fn in_sync(trial: &Trial) -> bool {
    let switches = trial.controller().list::<SwitchItem>("switches", &[("node", "node-1")]);
    switches.is_ok_and(|list| list.items.iter().any(|switch| switch.in_sync))
}
