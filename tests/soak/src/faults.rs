//! What is killed, one after the other, and for how long a node had no datapath.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster::Component;
use cluster::NodeIndex;
use nix::sys::signal::Signal;

use crate::latency::{self, Latencies};
use crate::place::{Place, uptime};
use crate::say;

/// Between the end of one and the next.
const PAUSE: Duration = Duration::from_secs(15);
/// kubelet waits longer and longer before it starts what is killed often: 10 s, 20 s, at most 5 minutes.
const LIMIT: Duration = Duration::from_secs(360);

/// What is killed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Agent(NodeIndex),
    Switch(NodeIndex),
    Controller(NodeIndex),
    ApiServer,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(node) => write!(f, "ferrule-agent on {}", node.name()),
            Self::Switch(node) => write!(f, "ovs-vswitchd on {}", node.name()),
            Self::Controller(node) => write!(f, "ferrule-controller on {}", node.name()),
            Self::ApiServer => f.write_str("kube-apiserver"),
        }
    }
}

/// One that happened; times are seconds since boot.
#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: Kind,
    pub killed: f64,
    /// It serves again.
    pub back: f64,
}

/// How often each was killed.
pub fn counted(faults: &[Fault]) -> BTreeMap<&Kind, usize> {
    let mut counts = BTreeMap::new();
    for fault in faults {
        *counts.entry(&fault.kind).or_default() += 1;
    }
    counts
}

/// Kills one after the other until it is told to stop.
pub fn until(place: &Place, stop: &AtomicBool, latencies: &Mutex<Latencies>) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for kind in order(place).iter().cycle() {
        let paused = uptime();
        while uptime() - paused < PAUSE.as_secs_f64() {
            if stop.load(Ordering::Relaxed) {
                return Ok(faults);
            }
            place.pause(Duration::from_millis(200))?;
        }
        // What an agent has logged goes with the second container after it.
        if matches!(kind, Kind::Agent(_)) {
            latency::gather(place, latencies);
        }
        let killed = uptime();
        kill(place, kind).with_context(|| format!("cannot kill {kind}"))?;
        let back = uptime();
        say(&format!("killed {kind}: back after {:.1} s", back - killed));
        faults.push(Fault { kind: kind.clone(), killed, back });
    }
    bail!("the cluster has nothing to kill")
}

/// Every switch and controller, and the API server between them; every agent but the last, whose memory then says whether one grows.
fn order(place: &Place) -> Vec<Kind> {
    let mut order = Vec::new();
    let last = place.nodes().last();
    for node in place.nodes() {
        if Some(node) != last {
            order.push(Kind::Agent(node));
        }
        order.push(Kind::Switch(node));
        if pid(place, node, "ferrule-controller").is_some() {
            order.push(Kind::Controller(node));
        }
        order.push(Kind::ApiServer);
    }
    order
}

/// Kills it and waits until it is back.
fn kill(place: &Place, kind: &Kind) -> Result<()> {
    let (node, program) = match kind {
        Kind::ApiServer => return Ok(place.cluster.restart(Component::ApiServer, Signal::SIGKILL)?),
        Kind::Agent(node) => (*node, "ferrule-agent"),
        Kind::Switch(node) => (*node, "ovs-vswitchd"),
        Kind::Controller(node) => (*node, "ferrule-controller"),
    };
    let old = pid(place, node, program).with_context(|| format!("{program} does not run"))?;
    place.shell(node, &format!("kill -KILL {old}"))?;
    place.until(&format!("{kind} is there again"), LIMIT, || {
        pid(place, node, program).is_some_and(|new| new != old)
    })?;
    if program == "ovs-vswitchd" {
        // The agent clears it when everything is in.
        const WAITS: &str =
            "ovs-vsctl --timeout=5 --no-wait get Open_vSwitch . other_config:flow-restore-wait";
        place.until("its agent has given it its flows", LIMIT, || {
            let waits = place.shell(node, &format!("{WAITS} 2>&1 || true"));
            waits.is_ok_and(|said| said.contains("no key") || said.contains("false"))
        })?;
    }
    Ok(())
}

/// The process id of a program in its node.
pub fn pid(place: &Place, node: NodeIndex, program: &str) -> Option<u32> {
    place.shell(node, &format!("pidof -s {program} || true")).ok()?.trim().parse().ok()
}
