//! The audit log and the last tuples of what was dropped: packets of known number, and what the agent says of them, with and
//! without a controller. Every decision is a line or is counted as left out.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use api::insight::DropItem;
use lab::http::Endpoint;
use lab::{Component, NodeIndex};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::lab_up::write;
use tests::packet::stage::{POLICY, SERVICE, Stage};
use tests::packet::{Trials, UDP, ip, udp};

/// More than the meter lets pass at once.
const FLOOD: u64 = 3_000;

struct Log {
    path: std::path::PathBuf,
}

impl Log {
    fn of(stage: &Stage, node: u8) -> Self {
        Self { path: stage.up.lab.layout().agent_state_directory(NodeIndex(node)).join("audit.jsonl") }
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Decisions about packets to this port; and how many of this verdict were left out, whatever their port.
    fn count(&self, verdict: &str, port: u16) -> (u64, u64) {
        let of_verdict: Vec<_> = self.lines().into_iter().filter(|line| line["verdict"] == verdict).collect();
        let told = of_verdict.iter().filter(|line| line["destinationPort"] == port).count();
        (told as u64, of_verdict.iter().filter_map(|line| line["suppressed"].as_u64()).sum())
    }

    fn waits(&self, what: &str, ready: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !ready(self) {
            assert!(began.elapsed() < Duration::from_secs(20), "{what}: {:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn audited_policies_write_what_they_decide() {
    let Some(stage) = Stage::new("audit") else { return };
    let mut trials = Trials::default();
    let (log, other) = (Log::of(&stage, 1), Log::of(&stage, 2));
    let send = |from: &tests::packet::stage::Host, ports: (u16, u16)| {
        let (source, destination) = (from.ip(true), stage.shut_1.ip(true));
        from.send(&ip(source, destination, UDP, 64, &udp(source, destination, ports, b"x")));
    };
    // Nobody asked for a log yet.
    send(&stage.mallory, (4000, 4999));
    let policy = POLICY.replace("metadata: {", "metadata: {annotations: {ferrule.io/audit: \"true\"}, ");
    write(&stage.up.manifests, &[("policy.yaml", &policy)]);
    stage.up.in_force(Duration::from_secs(30));

    // Three connections that are allowed, of five packets each, from this node and from the other; and seven packets that are not.
    // (Packets of one connection that come in one batch are all new to the userspace datapath.)
    for _ in 0..5 {
        for port in 0..3 {
            send(&stage.alice_1, (4100 + port, SERVICE));
            send(&stage.alice_2, (4200 + port, SERVICE));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for port in 0..7 {
        send(&stage.mallory, (4300 + port, SERVICE));
    }
    log.waits("what is decided is told", |log| {
        log.count("allowed", SERVICE).0 >= 6 && log.count("denied", SERVICE).0 >= 7
    });
    std::thread::sleep(Duration::from_millis(300));
    trials.check(log.count("allowed", SERVICE) == (6, 0) && log.count("denied", SERVICE) == (7, 0), || {
        format!("{:#?}", log.lines())
    });
    trials.check(log.count("denied", 4999).0 == 0, || "told before anybody asked".into());
    let lines = log.lines();
    let line = |verdict: &str, source: &str| {
        let of = |line: &&Value| line["verdict"] == verdict && line["source"] == source;
        lines.iter().find(of).cloned().unwrap_or_default()
    };
    let denied = line("denied", &stage.mallory.ip(true).to_string());
    let [owner] = &denied["owners"].as_array().cloned().unwrap_or_default()[..] else {
        panic!("{denied:#?}")
    };
    trials.check(
        owner["kind"] == "NetworkPolicy"
            && owner["name"] == "t/shut"
            && owner["rule"] == "ingress default-deny",
        || format!("{denied:#?}"),
    );
    trials.check(
        denied["node"] == "node-1"
            && denied["protocol"] == "UDP"
            && denied["destination"] == stage.shut_1.ip(true).to_string(),
        || format!("{denied:#?}"),
    );
    let allowed = line("allowed", &stage.alice_2.ip(true).to_string());
    trials.check(allowed["owners"][0]["rule"] == "ingress[0]", || format!("{allowed:#?}"));
    // The other node decided nothing: alice has no egress policy.
    trials.check(other.lines().is_empty(), || format!("{:#?}", other.lines()));

    // Without a controller, and more than the log takes: every packet that the switch counted is told of, or counted as left
    // out. (Not every packet that was sent reaches the switch.)
    stage.up.lab.stop(NodeIndex(1), Component::Controller, Signal::SIGKILL).unwrap();
    let agent = Endpoint::Unix(stage.up.lab.layout().agent_socket(NodeIndex(1)));
    let counted = || -> u64 {
        let drops = agent.list::<DropItem>("drops", &[("pod", "t/shut-1")]).unwrap().items;
        drops.iter().filter(|item| item.reason == "default-deny").map(|item| item.packets).sum()
    };
    // Counters follow the packets by up to a second.
    std::thread::sleep(Duration::from_millis(1_500));
    let before = counted();
    for n in 0..FLOOD {
        send(&stage.mallory, (5000 + (n % 1000) as u16, 4998));
        if n % 20 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let settled = || {
        let (told, left_out) = log.count("denied", 4998);
        (told, left_out, counted() - before)
    };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) && {
        let (told, left_out, counted) = settled();
        counted < FLOOD / 2 || told + left_out != counted
    } {
        std::thread::sleep(Duration::from_millis(200));
    }
    let (told, left_out, counted) = settled();
    trials.check(told + left_out == counted && left_out > counted / 2, || {
        format!("{told} told, {left_out} not, of {counted} that were denied")
    });
    eprintln!("audit: of {counted} denied packets at once {told} lines, {left_out} counted");

    // The last tuples, from the agent itself.
    let drops = agent.list::<DropItem>("drops", &[("pod", "t/shut-1")]).unwrap().items;
    let deny = drops.iter().find(|item| item.reason == "default-deny" && !item.last.is_empty());
    let last = deny.map(|item| item.last.clone()).unwrap_or_default();
    trials.check(
        !last.is_empty()
            && last.len() <= 5
            && last.iter().all(|seen| {
                seen.tuple.destination == Some(stage.shut_1.ip(true))
                    && seen.tuple.destination_port == Some(4998)
            })
            && last.is_sorted_by(|a, b| a.time >= b.time),
        || format!("{drops:#?}"),
    );
    trials.verdict();
}
