//! The main job, end to end: a lab with the real controller, agents, CNI binary and Open vSwitch.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use api::insight::{NodeItem, PolicyItem, SwitchItem};
use lab::http::Endpoint;
use lab::{Component, Family, Lab, NodeIndex, Place, netns};
use nix::sys::signal::Signal;
use tests::asking::who;
use tests::lab_up::{LabUp, write};
use tests::steady::{StopOnDrop, echo_until, until};
use tests::traffic::Conversation;

/// Two pods that talk, on two nodes, and one that nobody may reach.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: t, labels: {app: a}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: t, labels: {app: b}}
spec:
  nodeName: node-2
  containers: [{name: c, image: i, ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: shut, namespace: t, labels: {app: shut}}
spec:
  nodeName: node-2
  containers: [{name: c, image: i, ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}]}]
"#;

const SHUT: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: t}
spec: {podSelector: {matchLabels: {app: shut}}, policyTypes: [Ingress]}
"#;

const NODES: [NodeIndex; 2] = [NodeIndex(1), NodeIndex(2)];

fn assert_no_difference(lab: &Lab) {
    let measured = lab.measure(&|_, _| {}).unwrap();
    let differences: Vec<_> = measured.differences.iter().map(ToString::to_string).collect();
    assert!(
        differences.is_empty(),
        "observed and predicted differ: {differences:#?}, {:#?}",
        measured.remarks
    );
    assert!(measured.probes > 0, "nothing was probed");
}

fn address(place: &Place) -> IpAddr {
    place.address(true).unwrap()
}

/// Whether a TCP connection comes about, and carries something.
fn reaches(from: &Place, to: IpAddr, limit: Duration) -> bool {
    who(from, to, 80, limit).is_ok()
}

#[test]
fn the_example_passes_what_its_policies_say_and_leaves_nothing_behind() {
    let Some(up) = LabUp::new("example", Family::Dual, None) else { return };
    assert!(up.lab.problems().is_empty(), "{:#?}", up.lab.problems());
    assert_eq!(up.lab.record().pods.len(), 12);
    assert_no_difference(&up.lab);
    let prefix = up.lab.layout().namespace_prefix();
    assert!(!netns::list(&prefix).unwrap().is_empty());
    let processes = lab::process::Process::all(up.lab.layout());
    assert!(processes.len() >= 7 + 12, "{processes:#?}");
    let state = up.lab.layout().state().to_owned();
    let _folder = up.down();
    assert!(netns::list(&prefix).unwrap().is_empty());
    assert!(!state.exists());
    for process in processes {
        assert!(!process.is_alive(), "{process:?} outlived the lab");
    }
}

#[test]
fn an_edited_policy_is_in_force_without_a_further_word() {
    let Some(up) = LabUp::new("policy-edit", Family::Ipv4, Some(&[("pods.yaml", PODS)])) else { return };
    let (a, b) = (up.lab.pod("t/a").unwrap(), up.lab.pod("t/b").unwrap());
    assert!(reaches(&a, address(&b), Duration::from_secs(3)));
    let policy = SHUT.replace("shut", "b");
    write(&up.manifests, &[("policy.yaml", &policy)]);
    until("the deny is in force", Duration::from_secs(5), || {
        !reaches(&a, address(&b), Duration::from_millis(500))
    });
    assert_no_difference(&up.lab);
    std::fs::remove_file(up.manifests.join("policy.yaml")).unwrap();
    until("the deny is gone", Duration::from_secs(5), || reaches(&a, address(&b), Duration::from_secs(1)));
}

#[test]
fn restarting_the_agent_sends_no_flow_mod_and_loses_no_packet() {
    let files = [("pods.yaml", PODS), ("shut.yaml", SHUT)];
    let Some(up) = LabUp::new("agent-restart", Family::Ipv4, Some(&files)) else { return };
    let (a, b) = (up.lab.pod("t/a").unwrap(), up.lab.pod("t/b").unwrap());
    let (from, to) = (address(&a).to_string(), address(&b));
    // The userspace datapath drops the packet for which it has to ask who the other node is: the first between two nodes.
    assert!(reaches(&a, to, Duration::from_secs(5)));
    let ping = a.spawn(["ping", "-i", "0.02", "-c", "150", "-W", "2", "-I", &from, &to.to_string()]).unwrap();
    let (stop, echoes) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let stopper = StopOnDrop(&stop);
        let stream = scope.spawn(|| a.run(|| echo_until(&stop, &echoes, to, b"t/b\n")).unwrap());
        until("the stream runs", Duration::from_secs(5), || echoes.load(Ordering::Relaxed) > 5);
        for node in NODES {
            up.lab.restart(node, Component::Agent, Signal::SIGKILL).unwrap();
        }
        for node in NODES {
            let agent = Endpoint::Unix(up.lab.layout().agent_socket(node));
            until("the agent is in sync", Duration::from_secs(10), || {
                let switches = agent.list::<SwitchItem>("switches", &[]);
                switches.is_ok_and(|list| list.items.iter().any(|switch| switch.in_sync))
            });
        }
        let connected = Endpoint::Unix(up.lab.layout().controller_socket());
        until("the agents are connected", Duration::from_secs(10), || {
            let nodes = connected.list::<NodeItem>("nodes", &[]);
            nodes.is_ok_and(|list| {
                list.items.len() == 2 && list.items.iter().all(|node| node.connected && node.realized)
            })
        });
        std::thread::sleep(Duration::from_millis(500));
        drop(stopper);
        stream.join().unwrap();
    });
    for node in NODES {
        let agent = Endpoint::Unix(up.lab.layout().agent_socket(node));
        let list = agent.list::<SwitchItem>("switches", &[]).unwrap();
        assert_eq!(list.items[0].flow_mods_sent, 0, "{} sent flow-mods after a restart", node.name());
    }
    let output = ping.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(" 0% packet loss"), "{said}");
}

#[test]
fn a_switch_that_is_killed_comes_back_whole_and_lets_nothing_forbidden_pass_meanwhile() {
    let files = [("pods.yaml", PODS), ("shut.yaml", SHUT)];
    let Some(up) = LabUp::new("switch-killed", Family::Ipv4, Some(&files)) else { return };
    let (a, b, shut) = ["t/a", "t/b", "t/shut"].map(|pod| up.lab.pod(pod).unwrap()).into();
    assert!(reaches(&a, address(&b), Duration::from_secs(3)));
    let addresses = |node| {
        let output = up.lab.place_of_node(node).exec(["ip", "-br", "addr"]).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("br-phy") || line.starts_with("ferrule"))
            .map(|line| {
                // The state of the link is not an address.
                let words: Vec<_> = line.split_whitespace().collect();
                format!("{} {}", words[0], words[2..].join(" "))
            })
            .collect();
        lines.sort();
        lines
    };
    let before = NODES.map(addresses);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopper = StopOnDrop(&stop);
        // Answers from the shut pod, over the whole time.
        let leaks = scope.spawn(|| a.run(|| answers_until(&stop, address(&shut))).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        for node in NODES {
            up.lab.restart(node, Component::OvsVswitchd, Signal::SIGKILL).unwrap();
        }
        until("the pods talk again", Duration::from_secs(20), || {
            reaches(&a, address(&b), Duration::from_millis(500))
        });
        std::thread::sleep(Duration::from_millis(500));
        drop(stopper);
        assert_eq!(leaks.join().unwrap(), 0, "the shut pod answered while the switch was restarted");
    });
    until("the host's addresses are back", Duration::from_secs(10), || NODES.map(addresses) == before);
    for node in NODES {
        let mode = up.lab.ovs(node, "ovs-vsctl", ["get", "bridge", "br-int", "fail_mode"]).unwrap();
        assert_eq!(mode.trim(), "secure");
    }
    assert_no_difference(&up.lab);
}

/// How many datagrams came back.
fn answers_until(stop: &AtomicBool, to: IpAddr) -> usize {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut answers = 0;
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        // Nobody may be there to send through.
        let _ = socket.send_to(b"x", (to, 53));
        answers += usize::from(socket.recv(&mut buffer).is_ok());
    }
    answers
}

#[test]
fn bad_manifests_are_told_one_by_one_and_the_rest_works() {
    let broken = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: t\nspec: [\n";
    let impossible = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: impossible, namespace: t}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/99}}]
  - ports: [{port: 90, endPort: 80}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: selector, namespace: t}
spec:
  podSelector: {matchExpressions: [{key: app, operator: Near, values: [b]}]}
"#;
    let strangers = r#"
apiVersion: v1
kind: Pod
metadata: {name: lost, namespace: t}
spec: {nodeName: node-9, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: first, namespace: t}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
status: {podIP: 10.244.1.77}
---
apiVersion: v1
kind: Pod
metadata: {name: second, namespace: t}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
status: {podIP: 10.244.1.77}
"#;
    let files = [
        ("pods.yaml", PODS),
        ("broken.yaml", broken),
        ("impossible.yaml", impossible),
        ("strangers.yaml", strangers),
    ];
    let Some(up) = LabUp::new("bad-manifests", Family::Ipv4, Some(&files)) else { return };
    let problems: Vec<String> =
        up.lab.problems().iter().map(|p| format!("{} {}: {}", p.source, p.object, p.message)).collect();
    for part in [
        "broken.yaml",
        "prefix length 99",
        "t/impossible",
        "t/selector",
        "t/lost",
        "node-9",
        "t/second",
        "10.244.1.77",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(part)),
            "{part} is not told of: {problems:#?}"
        );
    }
    assert!(up.lab.pod("t/first").unwrap().addresses().contains(&"10.244.1.77".parse().unwrap()));
    assert_no_difference(&up.lab);
}

#[test]
fn a_pod_whose_agent_is_away_is_named_and_plugged_once_it_is_back() {
    let Some(mut up) = LabUp::new("agent-away", Family::Ipv4, Some(&[("pods.yaml", PODS)])) else { return };
    up.lab.stop(NodeIndex(1), Component::Agent, Signal::SIGKILL).unwrap();
    let late = PODS.split("---").next().unwrap().replace("name: a", "name: late");
    write(&up.manifests, &[("late.yaml", &late)]);
    up.lab.sync(&|_| {}).unwrap();
    let problems = up.lab.problems();
    assert!(problems.iter().any(|problem| problem.object == "Pod t/late"), "{problems:#?}");
    let (a, b) = (up.lab.pod("t/a").unwrap(), up.lab.pod("t/b").unwrap());
    assert!(reaches(&a, address(&b), Duration::from_secs(3)), "plugged pods need no agent to talk");
    up.lab.start(NodeIndex(1), Component::Agent).unwrap();
    up.lab.sync(&|_| {}).unwrap();
    assert!(up.lab.problems().is_empty(), "{:#?}", up.lab.problems());
    let late = up.lab.pod("t/late").unwrap();
    assert!(reaches(&late, address(&b), Duration::from_secs(3)));
    let controller = Endpoint::Unix(up.lab.layout().controller_socket());
    assert!(controller.list::<PolicyItem>("policies", &[]).unwrap().warnings.is_empty());
}

#[test]
fn pods_that_come_and_go_cost_others_no_packet() {
    let Some(mut up) = LabUp::new("come-and-go", Family::Ipv4, Some(&[("pods.yaml", PODS)])) else { return };
    assert!(up.lab.problems().is_empty(), "{:#?}", up.lab.problems());
    let (a, b) = (up.lab.pod("t/a").unwrap(), up.lab.pod("t/b").unwrap());
    let talks = [(&a, &b), (&b, &a)].map(|(from, to)| Conversation::udp(from, to, true, 5300));
    // The first packet between two nodes may be lost: the userspace datapath learns the other's Ethernet address by it.
    talks.iter().for_each(Conversation::begin);
    let directions: Vec<_> = talks.iter().flat_map(|talk| [&talk.client, &talk.server]).collect();
    let begun: Vec<_> = directions.iter().map(|direction| direction.sent()).collect();
    for round in 0..12 {
        let another = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: another-{round}, namespace: t}}\n\
             spec: {{nodeName: node-{}, containers: [{{name: c, image: i}}]}}\n",
            1 + round % 2
        );
        write(&up.manifests, &[("another.yaml", &another)]);
        let (_, plugged) = up.lab.sync(&|_| {}).unwrap();
        assert_eq!(plugged, 1, "round {round}");
    }
    for (direction, from) in directions.iter().zip(begun) {
        let sent = direction.sent();
        assert!(sent > from + 12, "{} messages only", sent - from);
        until("every message has arrived", Duration::from_secs(5), || direction.missing(from..sent) == 0);
    }
}
