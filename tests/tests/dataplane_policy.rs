//! Policies of every kind by real packets: random ones while traffic runs through every change, and a sample of upstream's
//! conformance suite. A packet that passed although nothing that may have been in force allowed it is a failure; there may be
//! none.

#![allow(clippy::unwrap_used)]

#[path = "policy/mod.rs"]
mod recorded;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::{Family, Lab, Place};
use network::matrix::{Cell, Entry, Grid};
use network::reference::{Endpoint, verdict};
use network::{NamespacedName, Network, Protocol, Verdict};
use tests::conformance;
use tests::lab_up::{LabUp, write};

use recorded::{policies, world};

/// Which of them, by line; every change is from one to the next.
const SAMPLE: [(usize, usize); 10] =
    [(0, 1), (0, 4), (1, 3), (0, 7), (0, 10), (1, 9), (0, 13), (0, 16), (1, 17), (0, 19)];

fn network(lab: &Lab) -> Network {
    lab::manifests::read(lab.layout(), lab.record()).unwrap().network(lab.record())
}

fn assert_no_difference(lab: &Lab, what: &str) -> lab::Measured {
    let measured = lab.measure(&|_, _| {}).unwrap();
    let differences: Vec<_> = measured.differences.iter().map(ToString::to_string).collect();
    assert!(differences.is_empty(), "{what}: {differences:#?}, {:#?}", measured.remarks);
    measured
}

/// Where the traffic goes; no responder of the lab listens there.
const EARS: [u16; 2] = [5_353, 8_080];

/// A datagram on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    from: u8,
    to: u8,
    port: u16,
    ipv4: bool,
}

/// A state of the policies: in force at the latest at `complete`, and not before `begun`.
struct Phase {
    begun: Instant,
    complete: Instant,
    verdicts: BTreeMap<Path, Verdict>,
}

#[derive(Default)]
struct Log {
    sent: Mutex<Vec<(u32, Path, Instant)>>,
    heard: Mutex<BTreeMap<u32, Instant>>,
}

/// Sends one datagram after the other, each from a port of its own, so that each is a connection of its own.
fn talk(me: u8, places: &[Place], log: &Log, stop: &AtomicBool) {
    let mut number = u32::from(me) << 24;
    while !stop.load(Ordering::Relaxed) {
        for (to, place) in places.iter().enumerate().filter(|(to, _)| *to != usize::from(me)) {
            for address in place.addresses() {
                for port in EARS {
                    let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
                    let socket = UdpSocket::bind((any, 0)).unwrap();
                    let path = Path { from: me, to: to as u8, port, ipv4: address.is_ipv4() };
                    log.sent.lock().unwrap().push((number, path, Instant::now()));
                    // Where no route is yet, nothing leaves.
                    let _ = socket.send_to(&number.to_be_bytes(), (*address, port));
                    number += 1;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(60));
    }
}

fn listen(log: &Log, stop: &AtomicBool, port: u16) {
    let socket = UdpSocket::bind(("::", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((4, _)) = socket.recv_from(&mut buffer) {
            let number = u32::from_be_bytes(buffer[..4].try_into().unwrap());
            log.heard.lock().unwrap().insert(number, Instant::now());
        }
    }
}

/// What the reference says of every path.
fn verdicts(network: &Network, places: &[Place]) -> BTreeMap<Path, Verdict> {
    let end = |place: &Place, address| Endpoint::Pod { key: place.name().parse().unwrap(), address };
    let mut all = BTreeMap::new();
    for (from, source) in places.iter().enumerate() {
        for (to, target) in places.iter().enumerate().filter(|(to, _)| *to != from) {
            for ipv4 in [true, false] {
                let ends = (source.address(ipv4).unwrap(), target.address(ipv4).unwrap());
                for port in EARS {
                    let (source, target) = (end(source, ends.0), end(target, ends.1));
                    let verdict = verdict(network, &source, &target, Protocol::Udp, port);
                    all.insert(Path { from: from as u8, to: to as u8, port, ipv4 }, verdict);
                }
            }
        }
    }
    all
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn random_policies_by_real_packets_while_traffic_runs_through_every_change() {
    let files = [("world.yaml", world())];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let Some(up) = LabUp::new("random-policies", Family::Dual, Some(&files)) else { return };
    assert!(up.lab.problems().is_empty(), "{:#?}", up.lab.problems());
    let names = ["ns0/a", "ns0/b", "ns1/c", "ns1/d", "ns2/e", "ns2/f"];
    let places: Vec<Place> = names.iter().map(|name| up.lab.pod(name).unwrap()).collect();
    let (log, stop) = (Log::default(), AtomicBool::new(false));
    let begun = Instant::now();
    let first = Phase { begun, complete: begun, verdicts: verdicts(&network(&up.lab), &places) };
    let mut phases = vec![first];
    let mut cells = [0; 2];
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for (me, place) in (0..).zip(&places) {
            let (log, stop, places) = (&log, &stop, &places);
            for port in EARS {
                scope.spawn(move || place.run(|| listen(log, stop, port)).unwrap());
            }
            scope.spawn(move || place.run(|| talk(me, places, log, stop)).unwrap());
        }
        for which in SAMPLE {
            let begun = Instant::now();
            write(&up.manifests, &[("policies.yaml", &policies(which))]);
            // It comes back when every agent has confirmed.
            up.lab.is_behind().unwrap();
            let complete = Instant::now();
            phases.push(Phase { begun, complete, verdicts: verdicts(&network(&up.lab), &places) });
            let measured = assert_no_difference(&up.lab, &format!("{which:?}"));
            let rows = measured.observed.table.values().flat_map(|grids| grids[&Grid::Combined].values());
            for cell in rows.flat_map(|row| row.0.iter()) {
                cells[0] += usize::from(*cell == Cell::Passes);
                cells[1] += usize::from(*cell == Cell::Blocked);
            }
        }
    });
    let (passed, forbidden, wrong) = judge(&phases, &log);
    println!("{passed} datagrams passed, {forbidden} were forbidden throughout; cells {cells:?}");
    assert!(
        wrong.is_empty(),
        "{} datagrams passed wrongly: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
    assert!(
        passed > 1_000 && forbidden > 1_000,
        "the traffic says nothing: {passed} passed, {forbidden} forbidden"
    );
    assert!(cells.iter().all(|count| *count > 100), "the policies say nothing: {cells:?}");
}

/// How many datagrams passed, how many nothing that may have been in force allowed, and which of those passed.
fn judge(phases: &[Phase], log: &Log) -> (usize, usize, Vec<String>) {
    let (sent, heard) = (log.sent.lock().unwrap(), log.heard.lock().unwrap());
    let (mut passed, mut forbidden, mut wrong) = (0, 0, Vec::new());
    for (number, path, at) in sent.iter() {
        let arrived = heard.get(number);
        passed += usize::from(arrived.is_some());
        // One that did not arrive may have been judged until much later.
        let until = arrived.copied().unwrap_or(*at + Duration::from_secs(1));
        let possible: Vec<&Phase> = phases
            .iter()
            .enumerate()
            .filter(|(place, phase)| {
                let replaced = phases.get(place + 1).map(|next| next.complete);
                phase.begun <= until && replaced.is_none_or(|replaced| replaced >= *at)
            })
            .map(|(_, phase)| phase)
            .collect();
        // The two nodes change one after the other, so each end may have judged by another state.
        let ingress = possible.iter().any(|phase| phase.verdicts[path].ingress);
        let egress = possible.iter().any(|phase| phase.verdicts[path].egress);
        if !(ingress && egress) {
            forbidden += 1;
            if let Some(arrived) = arrived {
                let since = phases.iter().map(|phase| at.saturating_duration_since(phase.complete)).min();
                wrong.push(format!(
                    "{path:?} (egress {egress}, ingress {ingress}), on its way for {:?}, sent {since:?} after a change",
                    *arrived - *at
                ));
            }
        }
    }
    (passed, forbidden, wrong)
}

#[test]
fn a_datagram_that_passed_wrongly_is_found() {
    let start = Instant::now();
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let path = Path { from: 0, to: 1, port: EARS[0], ipv4: true };
    let phase = |begun, complete, ingress| Phase {
        begun: at(begun),
        complete: at(complete),
        verdicts: [(path, Verdict { ingress, egress: true })].into(),
    };
    // Shut, open from some time between 100 and 200, shut again from some time between 300 and 400.
    let phases = [phase(0, 0, false), phase(100, 200, true), phase(300, 400, false)];
    let judged = |sent, heard| {
        let log = Log::default();
        log.sent.lock().unwrap().push((7, path, at(sent)));
        log.heard.lock().unwrap().insert(7, at(heard));
        judge(&phases, &log).2.len()
    };
    assert_eq!([judged(10, 20), judged(410, 420)], [1, 1]);
    assert_eq!([judged(90, 110), judged(150, 160), judged(250, 260), judged(390, 500)], [0; 4]);
}

/// Subtests that together have every action, tier, kind of peer and protocol.
const SUBTESTS: [&str; 9] = [
    "CNPAdminTierGress: Should support an 'allow-gress' policy across different protocols at the specified ports",
    "CNPAdminTierGress: Should support a 'pass-gress' policy across different protocols at the specified ports",
    "CNPAdminTierEgressNodePeers: Should support a 'deny-egress' rule policy for egress-node-peer",
    "CNPAdminTierEgressInlineCIDRPeers: Should support an 'allow-egress' rule policy for egress-cidr-peer",
    "CNPAdminTierEgressNamedPort: Should support an 'allow-egress' policy for named port",
    "CNPAdminTierIntegration: Should support a 'pass-ingress' policy for admin CNP and respect the match for network policy",
    "CNPAdminTierIntegration: Should support a 'pass-egress' policy for admin CNP and respect the match for baseline cluster network policy",
    "CNPBaselineTierGress: Should support a 'deny-gress' policy across different protocols at the specified ports",
    "CNPBaselineTierEgressNodePeers: Should support an 'allow-egress' rule policy for egress-node-peer",
];

#[test]
fn upstreams_conformance_by_real_packets() {
    let world = conformance::world();
    let files = [("world.yaml", world.as_str())];
    let Some(up) = LabUp::new("conformance", Family::Dual, Some(&files)) else { return };
    assert!(up.lab.problems().is_empty(), "{:#?}", up.lab.problems());
    let address_of = |pod: &NamespacedName| up.lab.pod(&pod.to_string()).unwrap().addresses().to_vec();
    let all = conformance::subtests();
    for name in SUBTESTS {
        let subtest = all.iter().find(|subtest| subtest.name == name).unwrap();
        let policies = conformance::manifests(&subtest.policies, address_of);
        write(&up.manifests, &[("policies.yaml", &policies)]);
        let measured = assert_no_difference(&up.lab, name);
        for probe in &subtest.probes {
            let (from, to) = (Entry::Pod(probe.from.clone()), Entry::Pod(probe.to.clone()));
            let cell = measured.observed.cell(probe.port, Grid::Combined, &from, &to);
            let expected = if probe.passes { Cell::Passes } else { Cell::Blocked };
            assert_eq!(cell, Some(expected), "{name}: {probe:?}");
        }
        // What is denied meets silence: neither a reset nor an ICMP error.
        let denied =
            subtest.probes.iter().filter(|probe| !probe.passes && probe.port.protocol == Protocol::Tcp);
        let pairs: BTreeSet<_> = denied.map(|probe| (&probe.from, &probe.to, probe.port.port)).collect();
        for (from, to, port) in pairs {
            let (from, to) = (up.lab.pod(&from.to_string()).unwrap(), up.lab.pod(&to.to_string()).unwrap());
            let to = SocketAddr::new(to.address(true).unwrap(), port);
            let outcome = from.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(400))).unwrap();
            assert_eq!(outcome.map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::TimedOut, "{name}: {to}");
        }
    }
}
