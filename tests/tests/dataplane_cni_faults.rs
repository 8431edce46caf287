//! Crashes in the middle of ADD and DEL: the agent and `ferrule-cni` are killed at each of their steps, on a real node; after
//! the next start of the agent nothing is left, and the container can be added. One lab for all of it, and for a reboot, a
//! full disk and calls that meet each other.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use api::cni::code;
use lab::{Component, Family, NodeIndex};
use serde_json::json;
use tests::lab_up::LabUp;
use tests::runtime::{Runtime, Traces};

const NODE: NodeIndex = NodeIndex(1);
const FAULT: &str = cni::fault::VARIABLE;
/// How long it may take until nothing is left: the kernel takes a namespace apart at its leisure, the agent looks every 10 s.
const LIMIT: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: t}\n";

#[test]
fn nothing_is_left_of_what_was_cut_short() {
    let manifests = [("t.yaml", NAMESPACE)];
    let Some(up) = LabUp::new("dataplane_cni_faults", Family::Ipv4, Some(&manifests)) else { return };
    let mut runtime = Runtime::new(&up.lab, NODE);
    let delegated = json!({
        "type": "host-local", "dataDir": runtime.delegated_folder(),
        "ranges": [[{"subnet": "10.244.1.0/24", "rangeStart": "10.244.1.100"}]],
    });
    if Path::new("/usr/lib/cni/host-local").exists() {
        runtime.extra = json!({ "ipam": delegated });
    } else {
        tests::skip::skip(
            "dataplane",
            "faults with delegated IPAM",
            "containernetworking-plugins is not installed",
        );
    }
    let other_node = |traces: &Traces| traces.flows.iter().any(|flow| flow.contains("10.244.2.0/24"));
    runtime.until("the node knows the other one", || other_node(&runtime.traces()));
    let before = runtime.traces();
    let agents = ovs_agent::cni::FAULT_POINTS;
    for step in cni::fault::STEPS.iter().chain(&agents) {
        if *step == "cni.add.delegated" && runtime.extra["ipam"].is_null() {
            continue;
        }
        killed_at(&runtime, step, &before);
    }
    runtime.extra = json!({});
    calls_that_meet(&runtime, &before);
    a_reboot(&runtime, &before);
    a_full_disk(&runtime, &before);
}

fn killed_at(runtime: &Runtime<'_>, step: &str, before: &Traces) {
    let (of_agent, in_add) = (step.starts_with("agent."), step.contains(".add."));
    let container = runtime.container("fault");
    let netns = container.path();
    let fault = [(FAULT, step)];
    let binary: &[(&str, &str)] = if of_agent { &[] } else { &fault };
    if of_agent {
        runtime.agent_with(&fault);
    }
    if !in_add {
        let added = runtime.call("ADD", step, &netns, &[]);
        assert!(added.success, "{step}: {added:?}");
    }
    let agent = runtime.lab.process(NODE, Component::Agent).unwrap();
    let cut = runtime.call(if in_add { "ADD" } else { "DEL" }, step, &netns, binary);
    if of_agent {
        assert!(agent.wait(Duration::from_secs(10)), "{step} was not reached");
        assert_eq!(cut.success, !in_add, "{step}: {cut:?}");
        if in_add {
            assert_eq!(cut.said["code"], code::AGENT_UNREACHABLE, "{step}: {cut:?}");
        }
    } else {
        assert!(cut.killed, "{step} was not reached: {cut:?}");
        runtime.stop(Component::Agent);
    }
    if step == "cni.add.ended" {
        // Only the answer was lost: the runtime takes the container down and may never call DEL.
        drop(container);
    }
    runtime.start(Component::Agent);
    clean(runtime, step, before);

    let container = runtime.container("fault-again");
    let again = runtime.call("ADD", step, &container.path(), &[]);
    assert!(again.success, "{step}: cannot be added afterwards: {again:?}");
    assert!(container.run("ping -c 1 -W 2 10.244.1.1").status.success(), "{step}: no connection afterwards");
    let gone = runtime.call("DEL", step, &container.path(), &[]);
    assert!(gone.success, "{step}: {gone:?}");
    same(runtime, step, before);
}

fn same(runtime: &Runtime<'_>, what: &str, before: &Traces) {
    let left = runtime.traces().difference(before);
    assert!(left.is_empty(), "{what}: this is left: {left:#?}");
}

fn clean(runtime: &Runtime<'_>, what: &str, before: &Traces) {
    let began = Instant::now();
    while runtime.traces() != *before && began.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(50));
    }
    same(runtime, what, before);
}

/// A runtime that lost its patience deletes while it adds, twice, and adds again with the same id.
fn calls_that_meet(runtime: &Runtime<'_>, before: &Traces) {
    let container = runtime.container("meet");
    let netns = container.path();
    for round in 0..5 {
        std::thread::scope(|scope| {
            for command in ["ADD", "DEL", "ADD", "DEL", "DEL"] {
                let netns = &netns;
                scope.spawn(move || {
                    let outcome = runtime.call(command, "meet", netns, &[]);
                    // An ADD may find the interface of the one before it, which is whole.
                    let taken = command == "ADD" && outcome.said["code"] == code::INVALID_ENVIRONMENT;
                    assert!(outcome.success || taken, "round {round}: {command}: {outcome:?}");
                });
            }
        });
        let last = runtime.call("DEL", "meet", &netns, &[]);
        assert!(last.success, "{last:?}");
        same(runtime, "calls that meet", before);
    }
}

/// All namespaces and the switch's ports of the userspace datapath are gone, all files are there.
fn a_reboot(runtime: &Runtime<'_>, before: &Traces) {
    let containers = [runtime.container("boot-1"), runtime.container("boot-2")];
    for (number, container) in containers.iter().enumerate() {
        let added = runtime.call("ADD", &format!("boot-{number}"), &container.path(), &[]);
        assert!(added.success, "{added:?}");
    }
    runtime.stop(Component::Agent);
    runtime.stop(Component::OvsVswitchd);
    runtime.stop(Component::OvsdbServer);
    drop(containers);
    for component in [Component::OvsdbServer, Component::OvsVswitchd, Component::Agent] {
        runtime.start(component);
    }
    clean(runtime, "a reboot", before);
    let container = runtime.container("boot-again");
    let added = runtime.call("ADD", "boot-0", &container.path(), &[]);
    assert!(added.success, "after a reboot: {added:?}");
    assert!(container.run("ping -c 1 -W 2 10.244.1.1").status.success(), "no connection after a reboot");
    // Later kubelet deletes what it knows from before.
    for id in ["boot-0", "boot-1"] {
        assert!(runtime.call("DEL", id, Path::new(""), &[]).success);
    }
    clean(runtime, "a reboot's DEL", before);
}

/// Error 5, which names the disk, until there is space again; what ends meanwhile can end.
fn a_full_disk(runtime: &Runtime<'_>, before: &Traces) {
    let state = runtime.lab.layout().agent_state_directory(NODE);
    runtime.stop(Component::Agent);
    let disk = Tmpfs::mount(&state);
    runtime.start(Component::Agent);
    // Until then the switch may still hold what the agent of before put there.
    runtime.until("the controller's view is kept", || state.join("view.pb").exists());
    clean(runtime, "an empty state", before);
    let (old, new) = (runtime.container("disk-1"), runtime.container("disk-2"));
    let ready = || runtime.call("STATUS", "", Path::new(""), &[]);
    runtime.until("the node is ready", || ready().success);
    assert!(runtime.call("ADD", "old", &old.path(), &[]).success);
    disk.fill();
    let refused = runtime.call("ADD", "new", &new.path(), &[]);
    assert_eq!(refused.said["code"], code::IO, "{refused:?}");
    let said = refused.said["msg"].as_str().unwrap();
    assert!(said.contains("No space left") && said.contains("free space"), "{said}");
    let status = ready();
    assert_eq!(status.said["code"], code::NOT_AVAILABLE, "{status:?}");
    assert!(status.said["msg"].as_str().unwrap().contains("No space left"), "{status:?}");
    assert!(runtime.call("DEL", "new", &new.path(), &[]).success);
    assert!(old.run("ping -c 1 -W 2 10.244.1.1").status.success(), "who was there is not disturbed");
    let deleted = runtime.call("DEL", "old", &old.path(), &[]);
    assert!(deleted.success, "{deleted:?}");
    disk.free();
    runtime.until("the node is ready again", || ready().success);
    let added = runtime.call("ADD", "new", &new.path(), &[]);
    assert!(added.success, "{added:?}");
    assert!(runtime.call("DEL", "new", &new.path(), &[]).success);
    // What could not be written down is found when it is looked for.
    runtime.stop(Component::Agent);
    runtime.start(Component::Agent);
    clean(runtime, "a full disk", before);
    runtime.stop(Component::Agent);
    drop(disk);
    runtime.start(Component::Agent);
}

/// A disk of 64 KiB in the place of a folder.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(path: &'a Path) -> Self {
        let words = ["-t", "tmpfs", "-o", "size=64k", "tmpfs"];
        assert!(Command::new("mount").args(words).arg(path).status().unwrap().success());
        Self(path)
    }

    fn fill(&self) {
        // The kernel says when; what fits is written.
        let _ = std::fs::write(self.0.join("filler"), vec![0; 1 << 20]);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
