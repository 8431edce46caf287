//! Services are handed over to somebody else on the nodes, and taken back: `--services leave` leaves nothing of them in the
//! switch and the node's own stack, packets to them meet what the other has there, and without it everything is as before.
//! The other is a rule of nftables that translates and masquerades as kube-proxy does.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::process::Child;
use std::time::Duration;

use lab::{Component, Family, NodeIndex, Place};
use nix::sys::signal::Signal;
use tests::asking::who;
use tests::lab_up::{LabUp, is_in_sync};
use tests::runtime::agents_words;
use tests::steady;

const MANIFESTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: t, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 8080}]}]}
status: {podIP: 10.244.1.20}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: t, labels: {app: web}}
spec: {nodeName: node-2, containers: [{name: c, image: i, ports: [{containerPort: 8080}]}]}
status: {podIP: 10.244.2.20}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: t}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: t}
spec: {type: NodePort, clusterIP: 10.96.3.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30083}]}
"#;

/// What kube-proxy would have: to one endpoint, so that it is told from Ferrule, which uses both.
const OTHER: &str = "table ip other {
    chain to { type nat hook prerouting priority dstnat; ip daddr 10.96.3.1 tcp dport 80 dnat to 10.244.2.20:8080; }
    chain own { type nat hook output priority -100; ip daddr 10.96.3.1 tcp dport 80 dnat to 10.244.2.20:8080; }
    chain from { type nat hook postrouting priority srcnat; ct status dnat masquerade; }
}";

const LIMIT: Duration = Duration::from_secs(30);
const NODES: [NodeIndex; 2] = [NodeIndex(1), NodeIndex(2)];

fn service() -> IpAddr {
    "10.96.3.1".parse().unwrap()
}

fn run(place: &Place, words: &[&str]) -> String {
    let output = place.exec(words).unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where a node speaks of the Service.
fn traces(up: &LabUp, node: NodeIndex) -> Vec<&'static str> {
    let place = up.lab.place_of_node(node);
    let own = run(&place, &["nft", "list", "table", "inet", "ferrule"]);
    let flows = up.lab.ovs(node, "ovs-ofctl", ["-OOpenFlow13", "dump-flows", "br-int"]).unwrap();
    [
        ("a flow", flows.contains("nw_dst=10.96.3.1")),
        ("a route", run(&place, &["ip", "route"]).contains("10.96.3.1")),
        ("a rule", own.contains("30083")),
    ]
    .into_iter()
    .filter_map(|(what, is_there)| is_there.then_some(what))
    .collect()
}

/// An agent that was started by hand; ends when dropped.
struct ByHand(Child);

impl Drop for ByHand {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The agent of a node again, as it was started, with one argument more.
fn again(up: &LabUp, node: NodeIndex, more: &str) -> ByHand {
    let words = agents_words(&up.lab, node);
    up.lab.stop(node, Component::Agent, Signal::SIGTERM).unwrap();
    let quiet = ["sh", "-c", "exec \"$@\" >/dev/null 2>&1", "agent"];
    let words = quiet.into_iter().chain(words.iter().map(String::as_str)).chain([more]);
    ByHand(up.lab.place_of_node(node).spawn(words).unwrap())
}

/// Everybody who asked, often enough that each endpoint was met.
fn answers(from: &Place) -> Vec<String> {
    let mut all: Vec<String> = (0..32).map(|_| who(from, service(), 80, LIMIT).unwrap()).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn services_are_handed_over_and_taken_back() {
    let Some(up) = LabUp::new("hand-over", Family::Ipv4, Some(&[("all.yaml", MANIFESTS)])) else { return };
    let client = up.lab.place("t/client").unwrap();
    let places = NODES.map(|node| up.lab.place_of_node(node));
    let both = ["t/web-1", "t/web-2"];
    let ours = || {
        for (node, place) in NODES.iter().zip(&places) {
            assert_eq!(traces(&up, *node), ["a flow", "a route", "a rule"], "{}", node.name());
            assert_eq!(answers(place), both);
        }
        assert_eq!(answers(&client), both);
    };
    ours();

    // One node after the other, the other proxy first: nobody is without one.
    let mut left = Vec::new();
    for (node, place) in NODES.into_iter().zip(&places) {
        run(place, &["nft", OTHER]);
        left.push(again(&up, node, "--services=leave"));
        steady::until("nothing of Services is left", LIMIT, || traces(&up, node).is_empty());
    }
    steady::until("the agents are in sync", LIMIT, || is_in_sync(&up.lab));
    for from in places.iter().chain([&client]) {
        assert_eq!(answers(from), ["t/web-2"], "from {}", from.name());
    }

    for (node, place) in NODES.into_iter().zip(&places) {
        drop(left.remove(0));
        up.lab.start(node, Component::Agent).unwrap();
        steady::until("Services are ours again", LIMIT, || traces(&up, node).len() == 3);
        run(place, &["nft", "delete", "table", "ip", "other"]);
    }
    steady::until("the agents are in sync", LIMIT, || is_in_sync(&up.lab));
    ours();
}
