//! The clock of every daemon jumps, more than a year forward and back: connections, policies, pods and freed addresses do not
//! notice, and controllers and agents find each other again. Only the time of day is another; what measures time goes on.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::insight::NodeItem;
use lab::daemons::BINARIES;
use lab::http::Endpoint;
use lab::{Component, Lab, NodeIndex};
use nix::sys::signal::Signal;
use tests::lab_up::{LabUp, binaries, flow_mods_sent, write};
use tests::skip;
use tests::steady::until;
use tests::traffic::Conversation;

const LIMIT: Duration = Duration::from_secs(30);
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

/// A pod that comes and goes, isolated by a policy.
fn passing(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: t, labels: {{app: {name}}}}}\n\
         spec: {{nodeName: node-1, containers: [{{name: c, image: i, ports: [{{containerPort: 80}}]}}]}}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: t}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: {name}}}}}\n"
    )
}

/// What fakes the time of day of a program that is told where to look for it.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
}

/// The product's binaries behind a clock: it shows the time of day and what `clock` says.
fn behind(clock: &Path, library: &Path, folder: &Path) {
    for name in BINARIES {
        let script = format!(
            "#!/bin/sh\nexec env LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
             DONT_FAKE_MONOTONIC=1 {} \"$@\"\n",
            library.display(),
            clock.display(),
            binaries().join(name).display()
        );
        let path = folder.join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn is_led(lab: &Lab) -> bool {
    let controller = Endpoint::Unix(lab.layout().controller_socket());
    let nodes = controller.list::<NodeItem>("nodes", &[]);
    nodes.is_ok_and(|list| list.items.len() == 2 && list.items.iter().all(|it| it.connected && it.realized))
}

/// Addresses of node-1's range that are neither handed out nor free: of 256, the network's, the gateway's and the broadcast
/// address belong to nobody.
fn resting(lab: &Lab) -> i64 {
    let agent = Endpoint::Unix(lab.layout().agent_socket(NodeIndex(1)));
    let text = String::from_utf8(agent.get("/metrics").unwrap()).unwrap();
    let gauge = |name: &str| -> i64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
    };
    253 - gauge("ferrule_agent_addresses_allocated ") - gauge("ferrule_agent_addresses_free ")
}

/// Flow-mods sent, once every node has confirmed everything and nothing is sent any more.
fn settled(lab: &Lab) -> Vec<u64> {
    let mut sent = flow_mods_sent(lab);
    until("the switches have everything", LIMIT, || {
        std::thread::sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut sent, flow_mods_sent(lab));
        is_led(lab) && before == sent
    });
    sent
}

/// The year of the newest line that a process has written.
fn year(lab: &Lab, process: &str) -> i32 {
    let log = std::fs::read_to_string(lab.layout().logs().join(format!("{process}.log"))).unwrap();
    let lines =
        log.lines().rev().filter_map(|line| line.trim_start_matches("\u{1b}[2m").get(..4)?.parse().ok());
    lines.take(1).next().unwrap_or_else(|| panic!("no time in the log of {process}: {log}"))
}

#[test]
fn a_clock_that_jumps_is_not_noticed() {
    let test = "a_clock_that_jumps_is_not_noticed";
    let Some(library) = library() else {
        return skip::skip("dataplane", test, "libfaketime is not installed");
    };
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    let set = |offset: &str| std::fs::write(&clock, offset).unwrap();
    set("+0");
    behind(&clock, &library, folder.path());
    let files = [("pods.yaml", PODS)];
    let change = |options: &mut lab::Options| folder.path().clone_into(&mut options.binaries);
    let Some(mut up) = LabUp::with(test, Some(&files), change) else { return };
    let (a, b) = (up.lab.pod("t/a").unwrap(), up.lab.pod("t/b").unwrap());
    let datagrams = Conversation::udp(&a, &b, true, 5000);
    let directions = [&datagrams.client, &datagrams.server];
    for direction in directions {
        direction.talk(true);
        until("datagrams arrive", LIMIT, || direction.heard_from(0) > 3);
    }
    let this_year = year(&up.lab, "node-1.agent");
    let jumps = [("+0", 0..=0), ("+400d", 1..=2), ("-800d", -3..=-2), ("+1d", 0..=1)];
    for (number, (offset, years)) in jumps.into_iter().enumerate() {
        let before = settled(&up.lab);
        let begun = directions.map(|direction| direction.sent());
        set(offset);
        std::thread::sleep(Duration::from_secs(2));
        let ended = directions.map(|direction| direction.sent());
        until(&format!("{offset}: streams that stand go on"), LIMIT, || is_led(&up.lab));
        // A moment ago, before the clock jumped, a pod went.
        assert!(
            number == 0 || resting(&up.lab) > 0,
            "{offset}: a freed address rests, whatever the clock says"
        );
        assert_eq!(flow_mods_sent(&up.lab), before, "{offset}: the clock is no reason to send anything");
        // What is lost to the probing and killing below is not the clock's.
        for ((direction, begun), ended) in directions.into_iter().zip(begun).zip(ended) {
            assert!(ended - begun > 50, "{offset}: {} datagrams", ended - begun);
            let arrived = || direction.heard_from(begun) - direction.heard_from(ended);
            until(&format!("{offset}: every datagram has arrived"), LIMIT, || {
                arrived() as u64 == ended - begun
            });
        }
        let name = format!("late-{number}");
        let file = up.manifests.join("late.yaml");
        write(&up.manifests, &[("late.yaml", &passing(&name))]);
        up.lab.sync(&|_| {}).unwrap();
        assert!(up.lab.problems().is_empty(), "{offset}: {:#?}", up.lab.problems());
        let measured = up.lab.measure(&|_, _| {}).unwrap();
        assert!(
            measured.differences.is_empty() && measured.probes > 0,
            "{offset}: {:#?}",
            measured.differences
        );
        std::fs::remove_file(&file).unwrap();
        up.lab.sync(&|_| {}).unwrap();
        // Who starts anew is let in: the controller's certificate is good at this time too.
        up.lab.restart(NodeIndex(1), Component::Agent, Signal::SIGKILL).unwrap();
        until("the agent is led again", LIMIT, || is_led(&up.lab));
        let passed = year(&up.lab, "node-1.agent") - this_year;
        assert!(years.contains(&passed), "{offset}: the agent's clock shows {passed} years more");
        up.lab.restart(NodeIndex(1), Component::Controller, Signal::SIGKILL).unwrap();
        until("the new controller leads", LIMIT, || is_led(&up.lab));
        // The last to go before the next jump.
        write(&up.manifests, &[("late.yaml", &passing("last"))]);
        up.lab.sync(&|_| {}).unwrap();
        std::fs::remove_file(&file).unwrap();
        up.lab.sync(&|_| {}).unwrap();
        assert!(resting(&up.lab) > 0);
    }
}
