//! Two real controllers on one directory of manifests, killed in any order under a running connection: the data path does
//! not notice, and what is edited meanwhile is in force by whichever of them is there.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use api::insight::{NodeItem, PolicyItem};
use lab::http::Endpoint;
use lab::{Component, Lab, NodeIndex};
use nix::sys::signal::Signal;
use tests::lab_up::{LabUp, flow_mods_sent, write};
use tests::steady::{StopOnDrop, echo_until, until};

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
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: b, namespace: t}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]
"#;

const LATE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: late, namespace: t, labels: {app: a}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
"#;

const NODES: [NodeIndex; 2] = [NodeIndex(1), NodeIndex(2)];
const FIRST: Component = Component::Controller;
const SECOND: Component = Component::SecondController;
const LIMIT: Duration = Duration::from_secs(20);

fn kill(lab: &Lab, controller: Component) {
    lab.stop(NodeIndex(1), controller, Signal::SIGKILL).unwrap();
}

fn start(lab: &Lab, controller: Component) {
    lab.start(NodeIndex(1), controller).unwrap();
}

fn number(controller: Component) -> u8 {
    if controller == FIRST { 1 } else { 2 }
}

/// What the agent of a node says of its controllers: port → part.
fn parts(lab: &Lab, node: NodeIndex) -> Vec<(String, String)> {
    let agent = Endpoint::Unix(lab.layout().agent_socket(node));
    let health: serde_json::Value = serde_json::from_slice(&agent.get("/healthz").unwrap()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    health["controllers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (text(&it["address"]), text(&it["part"])))
        .collect()
}

/// Every agent is led by one of those that run and has the other at hand.
fn settled(lab: &Lab, running: &[Component]) -> bool {
    let expected: Vec<String> = running
        .iter()
        .map(|it| lab.layout().controller_address_of(number(*it), lab.record().family).to_string())
        .collect();
    NODES.iter().all(|node| {
        let parts = parts(lab, *node);
        let of = |wanted: &str| {
            let addresses = parts.iter().filter(|(_, part)| part == wanted).map(|(address, _)| address);
            addresses.filter(|address| expected.contains(address)).count()
        };
        of("leads") == 1 && of("stands by") == expected.len() - 1
    })
}

/// By this controller, everything is in force everywhere.
fn shows_in_force(lab: &Lab, controller: Component) -> bool {
    let controller = Endpoint::Unix(lab.layout().controller_socket_of(number(controller)));
    let nodes = controller.list::<NodeItem>("nodes", &[]);
    let nodes = nodes
        .is_ok_and(|list| list.items.len() == 2 && list.items.iter().all(|it| it.connected && it.realized));
    let policies = controller.list::<PolicyItem>("policies", &[]);
    nodes
        && policies
            .is_ok_and(|list| list.items.iter().all(|it| it.realized == it.nodes && !it.nodes.is_empty()))
}

#[test]
fn controllers_die_in_any_order_and_the_data_path_does_not_notice() {
    let files = [("pods.yaml", PODS)];
    let change = |options: &mut lab::Options| options.controllers = 2;
    let Some(mut up) = LabUp::with("two-controllers", Some(&files), change) else { return };
    let (a, b) = (up.lab.pod("t/a").unwrap(), up.lab.pod("t/b").unwrap());
    let to = b.address(true).unwrap();
    until("both controllers serve both agents", LIMIT, || settled(&up.lab, &[FIRST, SECOND]));
    for controller in [FIRST, SECOND] {
        until("both show what is in force", LIMIT, || shows_in_force(&up.lab, controller));
    }
    let before = flow_mods_sent(&up.lab);
    let (stop, echoes) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let stopper = StopOnDrop(&stop);
        let stream = scope.spawn(|| a.run(|| echo_until(&stop, &echoes, to, b"t/b\n")).unwrap());
        until("the connection runs", LIMIT, || echoes.load(Ordering::Relaxed) > 5);
        for (gone, other) in [(FIRST, SECOND), (SECOND, FIRST)] {
            kill(&up.lab, gone);
            until("the other one leads", LIMIT, || settled(&up.lab, &[other]));
            until("it shows what is in force", LIMIT, || shows_in_force(&up.lab, other));
            start(&up.lab, gone);
            until("both are there again", LIMIT, || settled(&up.lab, &[FIRST, SECOND]));
            until("the one that was away shows it too", LIMIT, || shows_in_force(&up.lab, gone));
        }
        kill(&up.lab, SECOND);
        kill(&up.lab, FIRST);
        std::thread::sleep(Duration::from_millis(500));
        for controller in [SECOND, FIRST] {
            start(&up.lab, controller);
        }
        until("both came back", LIMIT, || settled(&up.lab, &[FIRST, SECOND]));
        until("and know everything", LIMIT, || {
            shows_in_force(&up.lab, FIRST) && shows_in_force(&up.lab, SECOND)
        });
        drop(stopper);
        stream.join().unwrap();
    });
    assert_eq!(flow_mods_sent(&up.lab), before, "flow-mods were sent although nothing changed");

    // Whichever is there, a new pod is plugged and a policy that is edited comes into force.
    kill(&up.lab, FIRST);
    write(&up.manifests, &[("late.yaml", LATE)]);
    start(&up.lab, FIRST);
    until("the first one is back", LIMIT, || settled(&up.lab, &[FIRST, SECOND]));
    kill(&up.lab, SECOND);
    up.lab.sync(&|_| {}).unwrap();
    assert!(up.lab.problems().is_empty(), "{:#?}", up.lab.problems());
    start(&up.lab, SECOND);
    for controller in [FIRST, SECOND] {
        until("the new pod is in force by both", LIMIT, || shows_in_force(&up.lab, controller));
    }
    let measured = up.lab.measure(&|_, _| {}).unwrap();
    assert!(measured.differences.is_empty() && measured.probes > 0, "{:#?}", measured.differences);
}
