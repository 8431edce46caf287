//! In force before the first packet: a pod is attacked, and attacks, from the moment on when its device is up, before its ADD
//! returns. Nothing that its policies forbid passes; what they allow follows.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use network::NamespacedName;
use nix::net::if_::InterfaceFlags;
use tests::lab_up::write;
use tests::packet::stage::{Host, SERVICE, Stage, datagram};
use tests::packet::{Mark, Trials};

/// Comes late, on both nodes: hears alice alone, and may speak to `shut` alone.
const LATE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: late-1, namespace: t, uid: UID-1, labels: {app: late}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
status: {podIP: 10.244.1.7ROUND}
---
apiVersion: v1
kind: Pod
metadata: {name: late-2, namespace: t, uid: UID-2, labels: {app: late}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
status: {podIP: 10.244.2.7ROUND}
"#;

const POLICY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: late, namespace: t}
spec:
  podSelector: {matchLabels: {app: late}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: alice}}}]}]
  egress: [{to: [{podSelector: {matchLabels: {app: alice}}}]}]
"#;

/// How long to go on after the last ADD.
const AFTER: Duration = Duration::from_millis(500);

/// A late pod with what was heard of whom, and when the first allowed packet came.
#[derive(Debug, Default)]
struct Seen {
    sent: [usize; 2],
    wrong: Vec<String>,
    first: [Option<Instant>; 2],
}

/// Opens the device of a pod as soon as it is up.
fn appears(stage_layout: &lab::Layout, pod: &str, address: IpAddr, stop: &AtomicBool) -> Option<Host> {
    let namespace = stage_layout.pod_namespace(&NamespacedName::new("t", pod));
    let path = lab::netns::path(&namespace);
    while !stop.load(Ordering::Relaxed) {
        let is_up = || {
            nix::ifaddrs::getifaddrs().is_ok_and(|mut devices| {
                devices.any(|one| one.interface_name == "eth0" && one.flags.contains(InterfaceFlags::IFF_UP))
            })
        };
        if path.exists() && lab::netns::run(&path, is_up).unwrap_or(false) {
            return Some(Host::new(pod, &path, &[address]));
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    None
}

/// Sends both ways, forbidden and allowed, until told to stop.
fn watch(late: &Host, alice: &Host, mallory: &Host, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut forbidden = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let marks: [Mark; 4] = std::array::from_fn(|_| Mark::new());
        let send = |from: &Host, to: &Host, mark: &Mark| {
            from.send(&datagram(from.ip(true), to.ip(true), SERVICE, mark));
        };
        send(mallory, late, &marks[0]);
        send(late, mallory, &marks[1]);
        send(alice, late, &marks[2]);
        send(late, alice, &marks[3]);
        seen.sent[0] += 2;
        seen.sent[1] += 2;
        std::thread::sleep(Duration::from_millis(2));
        for (place, (ear, mark)) in [(late, &marks[2]), (alice, &marks[3])].into_iter().enumerate() {
            if seen.first[place].is_none() && ear.ear.has(&mark.bytes) {
                seen.first[place] = Some(Instant::now());
            }
        }
        forbidden.push((marks[0].clone(), marks[1].clone()));
    }
    for (to_late, from_late) in forbidden {
        if late.ear.has(&to_late.bytes) {
            seen.wrong.push(format!("mallory reached {}", late.name));
        }
        if mallory.ear.has(&from_late.bytes) {
            seen.wrong.push(format!("{} reached mallory", late.name));
        }
    }
    seen
}

#[test]
fn a_pod_is_policed_before_its_first_packet() {
    let Some(mut stage) = Stage::new("first") else { return };
    let layout = stage.up.lab.layout().clone();
    let mut trials = Trials::default();
    // The second round is of other pods of the same names: freed addresses rest.
    for round in 0..2 {
        let stop = AtomicBool::new(false);
        let returned = Mutex::new(None);
        let pods = LATE.replace("UID", &format!("round-{round}")).replace("ROUND", &round.to_string());
        let seen: Vec<Option<Seen>> = std::thread::scope(|scope| {
            let watchers: Vec<_> =
                [("late-1", [10, 244, 1, 70 + round]), ("late-2", [10, 244, 2, 70 + round])]
                    .into_iter()
                    .map(|(pod, address)| {
                        let (layout, stop) = (&layout, &stop);
                        let (alice, mallory) = (&stage.alice_1, &stage.mallory);
                        scope.spawn(move || {
                            let late = appears(layout, pod, address.into(), stop)?;
                            Some(watch(&late, alice, mallory, stop))
                        })
                    })
                    .collect();
            write(&stage.up.manifests, &[("late.yaml", &pods), ("late-policy.yaml", POLICY)]);
            let synced = stage.up.lab.sync(&|_| {});
            *returned.lock().unwrap() = Some(Instant::now());
            std::thread::sleep(AFTER);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(synced.unwrap().1, 2, "both late pods are plugged");
            watchers.into_iter().map(|watcher| watcher.join().unwrap()).collect()
        });
        let returned = returned.lock().unwrap().unwrap();
        for seen in seen {
            let seen = seen.unwrap();
            trials.check(seen.sent[0] > 100, || format!("only {} forbidden packets were sent", seen.sent[0]));
            trials.check(seen.wrong.is_empty(), || format!("LEAK, round {round}: {:?}", seen.wrong));
            for (way, first) in ["to", "from"].into_iter().zip(seen.first) {
                trials
                    .check(first.is_some(), || format!("round {round}: nothing allowed came {way} the pod"));
                let after = first.map(|first| first.checked_duration_since(returned));
                eprintln!(
                    "measured: the first allowed packet {way} a new pod came {after:?} after its ADD (None: before)"
                );
            }
        }
        std::fs::remove_file(stage.up.manifests.join("late.yaml")).unwrap();
        assert_eq!(stage.up.lab.sync(&|_| {}).unwrap().0, 2, "both are unplugged");
    }
    trials.verdict();
}
