//! The lab's main job on the kernel's datapath, which no other test here has: pods, tunnel, policy, Services, fragments, and
//! what outlives a restart of agent and switch. Needs the module openvswitch: in no tier, `cargo xtask kernel` runs it in an
//! emulated machine, which is slow, so nothing here watches the clock.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::{Component, Datapath, Family, Lab, NodeIndex, Place};
use nix::sys::signal::Signal;
use tests::asking::who;
use tests::lab_up::{LabUp, binaries, flow_mods_sent, is_in_sync, write};
use tests::packet::Trials;
use tests::traffic::{Conversation, Direction};
use tests::{skip, steady};

const MANIFESTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: t, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper, namespace: t, labels: {app: keeper}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: t, labels: {app: stranger}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: t, labels: {app: web, at: near}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: t, labels: {app: web, at: far}}
spec: {nodeName: node-2, containers: [{name: c, image: i, ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: t}
spec:
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.96.0.80, "fd00:10:96::80"]
  selector: {app: web}
  ports: [{name: t, port: 80, targetPort: 8080}, {name: u, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: t}
spec:
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.96.0.81, "fd00:10:96::81"]
  selector: {at: far}
  ports:
  - {name: a, protocol: UDP, port: 7001}
  - {name: b, protocol: UDP, port: 7002}
  - {name: c, port: 7003}
  - {name: d, port: 7004}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: t}
spec:
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.96.0.82, "fd00:10:96::82"]
  selector: {app: nobody}
  ports: [{port: 80}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: t}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [client, keeper]}]}}]}]
"#;

const WEB: [&str; 2] = ["10.96.0.80", "fd00:10:96::80"];
const FAR: [&str; 2] = ["10.96.0.81", "fd00:10:96::81"];
const NOBODY: [&str; 2] = ["10.96.0.82", "fd00:10:96::82"];

/// Far longer than anything takes on an emulated processor.
const LIMIT: Duration = Duration::from_secs(90);
/// How long silence is listened to.
const SILENCE: Duration = Duration::from_secs(3);

const NODES: [NodeIndex; 2] = [NodeIndex(1), NodeIndex(2)];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Tells what comes next, with the time since the first word.
struct Steps(Instant);

impl Steps {
    fn begin(&self, what: &str) {
        eprintln!("[{:>6.1} s] {what}", self.0.elapsed().as_secs_f32());
    }
}

#[test]
fn the_main_job_on_the_kernels_datapath() {
    if let Err(error) = Datapath::System.check() {
        return skip::skip("kernel", "the_main_job_on_the_kernels_datapath", &error.to_string());
    }
    let steps = Steps(Instant::now());
    steps.begin("two nodes, five pods through ferrule-cni, both families");
    let set = |options: &mut lab::Options| {
        options.family = Family::Dual;
        options.datapath = Datapath::System;
    };
    let Some(up) = LabUp::with("kernel-datapath", Some(&[("all.yaml", MANIFESTS)]), set) else { return };
    let problems = up.lab.problems();
    assert!(problems.is_empty(), "{problems:?}");
    is_the_kernels(&up.lab);
    let mut trials = Trials::default();

    steps.begin("the matrix: every pair probed, beside what is predicted");
    let measured = up.lab.measure(&|_, _| {}).unwrap();
    eprintln!("           {} probes, {:?}", measured.probes, measured.remarks);
    if !measured.differences.is_empty() {
        show(&up.lab);
        panic!("the matrix differs: {:?}", measured.differences);
    }

    let pod = |name: &str| up.lab.pod(&format!("t/{name}")).unwrap();
    let (client, keeper, stranger, near, far) =
        (pod("client"), pod("keeper"), pod("stranger"), pod("near"), pod("far"));
    steps.begin("Services: both endpoints, none for who is denied, a refusal where nobody serves");
    services(&client, &stranger, &mut trials);
    steps.begin("explain, trace and audit agree");
    commands_agree(&up.lab, &mut trials);
    steps.begin("what is longer than a frame: a megabyte by TCP, datagrams of 4,000 bytes");
    for (server, name) in [(&near, "near"), (&far, "far")] {
        for ipv4 in [true, false] {
            let to = server.address(ipv4).unwrap();
            trials.check(megabyte(&client, to, 8080), || {
                format!("a megabyte to {name} at {to} does not come back")
            });
            trials.check(long_datagram(&client, to, 5353), || {
                format!("no 4,000 bytes to {name} at {to} and back")
            });
        }
    }
    for to in WEB.map(ip) {
        trials.check(megabyte(&client, to, 80), || {
            format!("a megabyte to the Service {to} does not come back")
        });
        trials
            .check(long_datagram(&client, to, 53), || format!("no 4,000 bytes to the Service {to} and back"));
    }

    let talk = Talk::begin(&client, &keeper, &near, &far);
    steps.begin("agents are killed and start again");
    restart_agents(&up.lab, &talk, &mut trials);
    steps.begin("switches are killed and start again");
    restart_switches(&up.lab, &talk, &stranger, &far, &mut trials);
    steps.begin("a policy that comes later cuts what it denies");
    cut(&up, &talk, HalfClosed::begin(&client, &far, 7020), &mut trials);
    steps.begin("audit, once more");
    audit(&up.lab, &mut trials);
    drop(talk);
    trials.verdict();
    steps.begin("down");
}

/// The switch itself says that it forwards in the kernel.
fn is_the_kernels(lab: &Lab) {
    for node in NODES {
        let datapaths = lab.ovs(node, "ovs-appctl", ["dpctl/dump-dps"]).unwrap();
        assert_eq!(datapaths.trim(), "system@ovs-system", "{}", node.name());
        let bridges = lab.ovs(node, "ovs-vsctl", ["list-br"]).unwrap();
        assert_eq!(bridges.trim(), "br-int", "{} needs no other bridge", node.name());
        let tunnel = said(&lab.place_of_node(node), &["ip", "-d", "link", "show", "type", "geneve"]);
        assert!(tunnel.contains("genev_sys_6081"), "{}: no tunnel of the kernel's: {tunnel}", node.name());
    }
}

/// What the switches and those who write logs have to say of it: nothing else is left of the machine.
fn show(lab: &Lab) {
    for node in NODES {
        for words in
            [&["dpctl/show", "-s"][..], &["upcall/show"], &["coverage/show"], &["dpctl/dump-flows", "-m"]]
        {
            let told = lab.ovs(node, "ovs-appctl", words.iter().copied());
            eprintln!(
                "===== {}: ovs-appctl {}\n{}",
                node.name(),
                words.join(" "),
                told.unwrap_or_else(|error| error.to_string())
            );
        }
    }
    for entry in std::fs::read_dir(lab.layout().logs()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(6000)..]);
        eprintln!("===== {}\n{text}", path.display());
    }
}

fn said(place: &Place, words: &[&str]) -> String {
    let output = place.exec(words).unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn services(client: &Place, stranger: &Place, trials: &mut Trials) {
    for to in WEB.map(ip) {
        // One that is not answered in time is enough.
        let answers: Result<BTreeSet<_>, _> = (0..24).map(|_| who(client, to, 80, LIMIT)).collect();
        let both = BTreeSet::from(["t/far", "t/near"].map(String::from));
        trials.check(answers == Ok(both), || format!("{to} is answered by {answers:?}"));
        let denied = who(stranger, to, 80, SILENCE);
        trials.check(denied == Err(ErrorKind::TimedOut), || format!("a stranger at {to}: {denied:?}"));
    }
    for to in NOBODY.map(ip) {
        let refused = who(client, to, 80, LIMIT);
        trials.check(refused == Err(ErrorKind::ConnectionRefused), || {
            format!("{to} has no endpoint: {refused:?}")
        });
    }
}

/// Runs `ferrule` beside the lab: its exit code and all that it said.
fn ferrule(lab: &Lab, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binaries().join("ferrule"));
    let output = command.args(words).env("FERRULE_LAB_STATE", lab.layout().state()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), said.concat())
}

fn commands_agree(lab: &Lab, trials: &mut Trials) {
    for command in ["explain", "trace"] {
        for (from, to, code) in [
            ("pod:t/client", "pod:t/far", 0),
            ("pod:t/client", "pod:t/near", 0),
            ("pod:t/stranger", "pod:t/far", 2),
            ("pod:t/stranger", "pod:t/near", 2),
        ] {
            let (ended, said) = ferrule(lab, &[command, from, to, "--port", "tcp/8080"]);
            trials
                .check(ended == Some(code), || format!("{command} {from} {to} ends with {ended:?}:\n{said}"));
        }
    }
    audit(lab, trials);
}

fn audit(lab: &Lab, trials: &mut Trials) {
    let (ended, said) = ferrule(lab, &["audit"]);
    trials.check(ended == Some(0), || format!("audit ends with {ended:?}:\n{said}"));
}

/// Whether a megabyte comes back whole.
fn megabyte(from: &Place, to: IpAddr, port: u16) -> bool {
    const SIZE: usize = 1 << 20;
    let echo = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect((to, port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut speaker = stream.try_clone()?;
        let writer = std::thread::spawn(move || {
            speaker.write_all(&vec![b'x'; SIZE])?;
            speaker.shutdown(std::net::Shutdown::Write)
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back)?;
        writer.join().unwrap()?;
        Ok(back.iter().filter(|byte| **byte == b'x').count())
    };
    match from.run(echo).unwrap() {
        Ok(count) => count == SIZE,
        Err(error) => {
            eprintln!("           {to} port {port}: {error}");
            false
        }
    }
}

/// Whether a datagram that needs fragments comes back whole. A few may be lost while the way is found.
fn long_datagram(from: &Place, to: IpAddr, port: u16) -> bool {
    let echo = || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect((to, port)).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let (long, mut back) = ([b'x'; 4000], [0; 8000]);
        (0..3).any(|_| {
            let length = socket.send(&long).and_then(|_| socket.recv(&mut back));
            length.is_ok_and(|length| back[..length].ends_with(&long))
        })
    };
    from.run(echo).unwrap()
}

/// Connections that live through everything, or until a policy denies them.
struct Talk {
    /// The keeper's: nothing of them is ever lost but to a switch that restarts.
    kept: Vec<Conversation>,
    /// The client's: a policy denies them at last.
    cut: Vec<Conversation>,
}

impl Talk {
    fn begin(client: &Place, keeper: &Place, near: &Place, far: &Place) -> Self {
        let (mut kept, mut cut) = (Vec::new(), Vec::new());
        for to in FAR.map(ip) {
            kept.push(Conversation::tcp_by(keeper, far, to, 7004));
            kept.push(Conversation::udp_by(keeper, far, to, 7002));
            cut.push(Conversation::tcp_by(client, far, to, 7003));
            cut.push(Conversation::udp_by(client, far, to, 7001));
        }
        for ipv4 in [true, false] {
            kept.push(Conversation::udp(keeper, near, ipv4, 7010));
            cut.push(Conversation::tcp(client, near, ipv4, 7011));
        }
        let talk = Self { kept, cut };
        talk.all().for_each(Conversation::begin);
        talk
    }

    fn all(&self) -> impl Iterator<Item = &Conversation> {
        self.kept.iter().chain(&self.cut)
    }

    /// Every direction, and what it is.
    fn directions(&self) -> impl Iterator<Item = (String, &Direction)> {
        self.all().flat_map(|c| {
            [("client", &*c.client), ("server", &*c.server)]
                .map(|(who, d)| (format!("{}: the {who}", c.name), d))
        })
    }

    /// What everybody had said by now.
    fn said(&self) -> Vec<u64> {
        self.directions().map(|(_, direction)| direction.sent()).collect()
    }

    /// Waits until everybody was heard anew; those who are not, else.
    fn unheard(&self) -> Vec<String> {
        let marks = self.said();
        let began = Instant::now();
        loop {
            let silent = self.directions().zip(&marks).filter(|((_, d), mark)| d.heard_from(**mark) == 0);
            let silent: Vec<_> = silent.map(|((what, _), _)| what).collect();
            if silent.is_empty() || began.elapsed() > LIMIT {
                return silent;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Messages that have not arrived of those said between two moments, once all that was under way has had the time.
    fn lost(&self, from: &[u64], to: &[u64]) -> Vec<(String, u64)> {
        let missing = || -> Vec<_> {
            let ranges = from.iter().zip(to);
            let each = self.directions().zip(ranges).map(|((what, d), (a, b))| (what, d.missing(*a..*b)));
            each.filter(|(_, count)| *count > 0).collect()
        };
        let began = Instant::now();
        while !missing().is_empty() && began.elapsed() < SILENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        missing()
    }
}

/// A connection that its client has closed, while its server goes on: the kernel calls that CLOSE_WAIT.
struct HalfClosed {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl HalfClosed {
    fn begin(client: &Place, server: &Place, port: u16) -> Self {
        let to = server.address(true).unwrap();
        let listener = server.run(|| TcpListener::bind((to, port)).unwrap()).unwrap();
        let mut near = client.run(|| TcpStream::connect((to, port)).unwrap()).unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        near.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.set_nodelay(true).unwrap();
        // Until it has heard of the end.
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        let (stop, sent, heard): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let (ends, says) = (Arc::clone(&stop), Arc::clone(&sent));
        let speaker = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                says.fetch_add(1, Ordering::SeqCst);
                far.write_all(b"x").unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let (ends, hears) = (Arc::clone(&stop), Arc::clone(&heard));
        let listener = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !ends.load(Ordering::Relaxed) {
                let count = near.read(&mut buffer).unwrap_or(0);
                hears.fetch_add(count as u64, Ordering::SeqCst);
            }
        });
        Self { stop, sent, heard, threads: vec![speaker, listener] }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }
}

impl Drop for HalfClosed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn restart_agents(lab: &Lab, talk: &Talk, trials: &mut Trials) {
    let before = talk.said();
    for node in NODES {
        lab.restart(node, Component::Agent, Signal::SIGKILL).unwrap();
    }
    steady::until("the agents are in sync", LIMIT, || is_in_sync(lab));
    let silent = talk.unheard();
    trials.check(silent.is_empty(), || format!("after the agents' restart nothing is heard of {silent:?}"));
    let after = talk.said();
    let sent = flow_mods_sent(lab);
    trials.check(sent.iter().all(|count| *count == 0), || {
        format!("agents sent {sent:?} flow-mods at their start")
    });
    let lost = talk.lost(&before, &after);
    let count: u64 = before.iter().zip(&after).map(|(a, b)| b - a).sum();
    eprintln!("           {count} messages while agents restarted, {} lost", sum(&lost));
    trials.check(lost.is_empty(), || format!("LOST while agents restarted: {lost:?}"));
}

fn sum(lost: &[(String, u64)]) -> u64 {
    lost.iter().map(|(_, count)| count).sum()
}

/// The kernel remembers connections, whatever becomes of ovs-vswitchd.
fn restart_switches(lab: &Lab, talk: &Talk, stranger: &Place, far: &Place, trials: &mut Trials) {
    let before = talk.said();
    for node in NODES {
        lab.restart(node, Component::OvsVswitchd, Signal::SIGKILL).unwrap();
        let to = far.address(true).unwrap();
        let denied = who(stranger, to, 8080, Duration::from_millis(500));
        trials.check(denied.is_err(), || format!("LEAK while {} restarts: {denied:?}", node.name()));
    }
    steady::until("the switches hold everything", LIMIT, || is_in_sync(lab));
    let silent = talk.unheard();
    trials.check(silent.is_empty(), || format!("connections that a switch's restart cut: {silent:?}"));
    let after = talk.said();
    let lost = talk.lost(&before, &after);
    let count: u64 = before.iter().zip(&after).map(|(a, b)| b - a).sum();
    eprintln!("           {count} messages while switches restarted, {} lost: {lost:?}", sum(&lost));
    for node in NODES {
        let waits = ["--if-exists", "get", "Open_vSwitch", ".", "other_config:flow-restore-wait"];
        let waits = lab.ovs(node, "ovs-vsctl", waits).unwrap();
        trials.check(!waits.contains("true"), || format!("{} still waits for its flows", node.name()));
    }
}

/// Denies the client what it could before: those who say nothing, and those who only hear, too.
const LATE: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: t}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: keeper}}}]}]
"#;

fn cut(up: &LabUp, talk: &Talk, half: HalfClosed, trials: &mut Trials) {
    let kept = talk.said();
    steady::until("a client that has closed hears its server", LIMIT, || half.heard() > 10);
    // UDP: the server alone speaks. TCP: nobody does.
    for conversation in &talk.cut {
        conversation.client.talk(false);
        conversation.server.talk(conversation.name.starts_with("UDP"));
    }
    let (pods, _) = MANIFESTS.split_once("---\napiVersion: networking").unwrap();
    write(&up.manifests, &[("all.yaml", &format!("{pods}---{LATE}"))]);
    eprintln!("           in force {:?} after the edit", up.in_force(LIMIT));
    let marks: Vec<_> = talk.cut.iter().map(|c| (c.client.sent(), c.server.sent())).collect();
    let mark = half.sent();
    talk.cut.iter().for_each(|c| c.server.talk(true));
    std::thread::sleep(SILENCE);
    talk.cut.iter().for_each(|c| c.client.talk(true));
    std::thread::sleep(SILENCE);
    for (c, (client, server)) in talk.cut.iter().zip(marks) {
        for (who, says, mark) in [("client", &c.client, client), ("server", &c.server, server)] {
            let (sent, passed) = (says.sent() - mark, says.heard_from(mark));
            trials.check(sent > 0, || format!("{}: the {who} said nothing", c.name));
            trials.check(passed == 0, || format!("LEAK: {}: {passed} of {sent} of the {who} passed", c.name));
        }
    }
    let (sent, heard) = (half.sent(), half.heard());
    trials.check(sent > mark, || "the server of a connection that its client closed said nothing".to_owned());
    trials.check(heard <= mark, || {
        format!("LEAK: whoever has closed its end heard {heard} bytes, of {mark} said before the deny was in force")
    });
    let lost = talk.lost(&kept, &talk.said());
    let lost: Vec<_> =
        lost.into_iter().filter(|(what, _)| talk.kept.iter().any(|c| what.starts_with(&c.name))).collect();
    trials.check(lost.is_empty(), || format!("LOST of what stays allowed: {lost:?}"));
}
