//! What happens to pods, namespaces and the programs of a node while forbidden and allowed packets flow without a pause: not
//! one that is forbidden passes from the moment on when a change is reported in force, and none that is allowed is lost. How
//! long an allow takes to follow is printed.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lab::{Component, Family, NodeIndex};
use nix::sys::signal::Signal;
use tests::lab_up::{LabUp, write};
use tests::packet::stage::{Host, SERVICE};
use tests::packet::{Mark, Trials, UDP, ip, udp};
use tests::traffic::Conversation;

/// On each node a pod that may, one that may not, one of a namespace that may not, and a server.
fn pods(mallory: &str) -> String {
    let mut text = String::new();
    for node in 1..=2 {
        for (name, namespace, app) in [
            ("alice", "t", "alice"),
            ("mallory", "t", mallory),
            ("eve", "other", "eve"),
            ("server", "t", "server"),
        ] {
            text += &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}-{node}, namespace: {namespace}, labels: {{app: {app}}}}}\n\
                 spec: {{nodeName: node-{node}, containers: [{{name: c, image: i}}]}}\n---\n"
            );
        }
    }
    text
}

fn namespaces(team: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: other, labels: {{team: {team}}}}}\n")
}

const POLICY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: t}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector: {matchLabels: {app: alice}}
    - namespaceSelector: {matchLabels: {team: friends}}
"#;

/// Whose address another pod gets later.
fn passing(name: &str, uid: &str, app: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: t, uid: {uid}, labels: {{app: {app}}}}}\n\
         spec: {{nodeName: node-1, containers: [{{name: c, image: i}}]}}\nstatus: {{podIP: 10.244.1.77}}\n"
    )
}

/// How long freed addresses rest, and a little more.
const REST: Duration = Duration::from_secs(62);
/// After how many seconds connections expire once that is tried: no busy machine keeps a speaker silent for so long.
const EXPIRY: u64 = 3;
/// How long wrong packets are waited for.
const WATCH: Duration = Duration::from_millis(700);

struct Stage {
    up: LabUp,
    alice: Vec<Conversation>,
    mallory: Vec<Conversation>,
    eve: Vec<Conversation>,
    trials: Trials,
    forbidden: u64,
    /// What alice and her servers had sent when packets found their way: the first one between two nodes may be lost to the
    /// userspace datapath, which must learn the other's Ethernet address.
    begun: Vec<(u64, u64)>,
}

impl Stage {
    fn new() -> Option<Self> {
        let passing = passing("passing", "uid-1", "alice");
        let files = [
            ("pods.yaml", &*pods("mallory")),
            ("namespaces.yaml", &namespaces("strangers")),
            ("policy.yaml", POLICY),
            ("passing.yaml", &passing),
        ];
        let up = LabUp::new("events", Family::Ipv4, Some(&files))?;
        assert!(up.lab.problems().is_empty(), "{:#?}", up.lab.problems());
        let mut port = 5100;
        let mut to_servers = |client: &str| -> Vec<Conversation> {
            let pairs = [(1, 1), (1, 2), (2, 1)];
            pairs
                .map(|(from, to)| {
                    port += 1;
                    let client = up.lab.pod(&format!("{client}-{from}")).unwrap();
                    Conversation::udp(&client, &up.lab.pod(&format!("t/server-{to}")).unwrap(), true, port)
                })
                .into()
        };
        let (alice, mallory, eve) = (to_servers("t/alice"), to_servers("t/mallory"), to_servers("other/eve"));
        // Of those who may, both sides speak; of the others the client, all the time.
        alice.iter().for_each(Conversation::begin);
        let begun = alice.iter().map(|c| (c.client.sent(), c.server.sent())).collect();
        mallory.iter().chain(&eve).for_each(|conversation| conversation.client.talk(true));
        Some(Self { up, alice, mallory, eve, trials: Trials::default(), forbidden: 0, begun })
    }

    fn write(&self, file: &str, text: &str) {
        write(&self.up.manifests, &[(file, text)]);
    }

    fn in_force(&self) -> Duration {
        self.up.in_force(Duration::from_secs(60))
    }

    /// Something happens, and none of these packets may pass from its beginning until a while after its end.
    fn forbidden(&mut self, what: &str, who: fn(&Self) -> &[Conversation], happens: impl FnOnce(&mut Self)) {
        let marks: Vec<_> = who(self).iter().map(|c| c.client.sent()).collect();
        happens(self);
        std::thread::sleep(WATCH);
        let mut wrong = Vec::new();
        for (c, mark) in who(self).iter().zip(marks) {
            let (sent, passed) = (c.client.sent() - mark, c.client.heard_from(mark));
            wrong.push((sent, passed, c.name.clone()));
        }
        for (sent, passed, name) in wrong {
            self.forbidden += sent;
            self.trials.check(sent > 10, || format!("{what}: {name}: {sent} packets only"));
            self.trials.check(passed == 0, || format!("LEAK: {what}: {name}: {passed} of {sent} passed"));
        }
    }

    /// An edit allows these; prints how long that took. Another takes it back.
    fn comes_and_goes(
        &mut self,
        what: &str,
        who: fn(&Self) -> &[Conversation],
        file: &str,
        texts: [&str; 2],
    ) {
        let edited = Instant::now();
        self.write(file, texts[0]);
        for c in who(self) {
            c.heard_within(&c.client, Duration::from_secs(20));
        }
        eprintln!("measured: {what}: an allow has followed everywhere {:?} after the edit", edited.elapsed());
        self.in_force();
        self.write(file, texts[1]);
        eprintln!("measured: {what}: a deny is in force {:?} after the edit", self.in_force());
        self.forbidden(what, who, |_| {});
    }

    /// None of what alice said or was told so far is missing. A busy machine may be late, but not for seconds.
    fn nothing_is_lost(&mut self, what: &str) {
        let marks: Vec<_> = self.alice.iter().map(|c| (c.client.sent(), c.server.sent())).collect();
        let asked = Instant::now();
        for ((c, (client, server)), begun) in self.alice.iter().zip(marks).zip(&self.begun) {
            let missing = || c.client.missing(begun.0..client) + c.server.missing(begun.1..server);
            while missing() > 0 && asked.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(20));
            }
            self.trials.check(missing() == 0, || format!("LOST: {what}: {}: {}", c.name, missing()));
        }
    }
}

#[test]
fn nothing_forbidden_passes_whatever_happens() {
    let Some(mut stage) = Stage::new() else { return };
    let node = NodeIndex(1);
    stage.forbidden("in force before the first packet", |s| &s.mallory, |_| {});
    stage.forbidden("in force before the first packet", |s| &s.eve, |_| {});

    // Its address rests from here on; its connection was allowed, and its tuple will be its successor's.
    let place = stage.up.lab.pod("t/passing").unwrap();
    let passing_host = Host::new("passing", &place.netns_path(), place.addresses());
    let place = stage.up.lab.pod("t/server-1").unwrap();
    let server = Host::new("server-1", &place.netns_path(), place.addresses());
    let send = |from: &Host, mark: &Mark| {
        let (source, destination) = (from.ip(true), server.ip(true));
        let datagram = udp(source, destination, (4444, SERVICE), &mark.bytes);
        from.send(&ip(source, destination, UDP, 64, &datagram));
    };
    let mark = Mark::new();
    tests::packet::stage::until("the pod reaches the server", || {
        send(&passing_host, &mark);
        server.ear.has(&mark.bytes)
    });
    drop(passing_host);
    std::fs::remove_file(stage.up.manifests.join("passing.yaml")).unwrap();
    assert_eq!(stage.up.lab.sync(&|_| {}).unwrap().0, 1, "the pod is unplugged");
    let resting = Instant::now();

    let (may, may_not) = (pods("alice"), pods("mallory"));
    stage.comes_and_goes("a relabelled pod", |s| &s.mallory, "pods.yaml", [&may, &may_not]);
    let (friends, strangers) = (namespaces("friends"), namespaces("strangers"));
    stage.comes_and_goes("a relabelled namespace", |s| &s.eve, "namespaces.yaml", [&friends, &strangers]);
    stage.nothing_is_lost("pods and namespaces get other labels");

    stage.forbidden(
        "an agent is killed and starts",
        |s| &s.mallory,
        |s| {
            s.up.lab.restart(node, Component::Agent, Signal::SIGKILL).unwrap();
            s.in_force();
        },
    );
    stage.nothing_is_lost("an agent is killed and starts");
    stage.forbidden(
        "the controller is down, an agent starts without it",
        |s| &s.mallory,
        |s| {
            s.up.lab.stop(node, Component::Controller, Signal::SIGKILL).unwrap();
            s.up.lab.restart(node, Component::Agent, Signal::SIGKILL).unwrap();
            std::thread::sleep(Duration::from_secs(2));
            s.up.lab.start(node, Component::Controller).unwrap();
            s.in_force();
        },
    );
    stage.nothing_is_lost("the controller is down");

    stage.expiry();

    std::thread::sleep(REST.saturating_sub(resting.elapsed()));
    stage.write("passing.yaml", &passing("successor", "uid-2", "mallory"));
    assert_eq!(stage.up.lab.sync(&|_| {}).unwrap().1, 1, "the successor is plugged");
    let place = stage.up.lab.pod("t/successor").unwrap();
    assert_eq!(place.address(true).unwrap().to_string(), "10.244.1.77");
    let successor = Host::new("successor", &place.netns_path(), place.addresses());
    let marks: Vec<Mark> = (0..200).map(|_| Mark::new()).collect();
    for mark in &marks {
        send(&successor, mark);
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(WATCH);
    let passed = marks.iter().filter(|mark| server.ear.has(&mark.bytes)).count();
    stage.forbidden += marks.len() as u64;
    stage.trials.check(passed == 0, || format!("LEAK: a pod replaced on the same address: {passed} passed"));

    stage.nothing_is_lost("everything");
    eprintln!("measured: none of {} forbidden packets may have passed", stage.forbidden);
    stage.trials.verdict();
}

impl Stage {
    /// Connections expire, the allowed ones and those that a deny blocked; then either side is the first to speak.
    fn expiry(&mut self) {
        for node in 1..=2 {
            let vsctl = |arguments: &[&str]| {
                self.up.lab.ovs(NodeIndex(node), "ovs-vsctl", arguments.iter().copied()).unwrap();
            };
            vsctl(&[
                "--id=@dp",
                "create",
                "Datapath",
                "datapath_version=0",
                "--",
                "set",
                "Open_vSwitch",
                ".",
                "datapaths:netdev=@dp",
            ]);
            let zone = format!("zone={}", compiler::register::ZONE);
            let all = [
                "udp_first",
                "udp_single",
                "udp_multiple",
                "tcp_established",
                "tcp_syn_sent",
                "tcp_syn_recv",
            ];
            let timeouts: Vec<String> = all.iter().map(|state| format!("{state}={EXPIRY}")).collect();
            let mut arguments = vec!["--may-exist", "add-zone-tp", "netdev", &zone];
            arguments.extend(timeouts.iter().map(String::as_str));
            vsctl(&arguments);
        }
        let pod = |name: &str| self.up.lab.pod(name).unwrap();
        let pairs = [("t/mallory-1", "t/server-1", 5201), ("t/mallory-1", "t/server-2", 5202)];
        let (may, may_not) = (pods("alice"), pods("mallory"));
        self.write("pods.yaml", &may);
        self.in_force();
        let tcp = pairs.map(|(from, to, port)| Conversation::tcp(&pod(from), &pod(to), true, port));
        let udp = pairs.map(|(from, to, port)| Conversation::udp(&pod(from), &pod(to), true, port + 10));
        let all = || tcp.iter().chain(&udp);
        all().for_each(Conversation::begin);
        let silence = || {
            all().for_each(|c| {
                c.client.talk(false);
                c.server.talk(false);
            });
            self.mallory.iter().for_each(|c| c.client.talk(false));
            std::thread::sleep(Duration::from_secs(EXPIRY * 2 + 3));
        };
        // They expire while they are allowed; the deny comes when nobody remembers them. TCP goes on in mid-stream, and the
        // server is the first: its segments must not make the client's replies.
        silence();
        let listed = self.up.lab.ovs(NodeIndex(1), "ovs-appctl", ["dpctl/dump-conntrack"]).unwrap();
        self.trials
            .check(!listed.contains("dport=5201"), || format!("the connection has not expired:\n{listed}"));
        self.write("pods.yaml", &may_not);
        self.in_force();
        let marks: Vec<_> = tcp.iter().map(|c| (c.client.sent(), c.server.sent())).collect();
        tcp.iter().for_each(|c| c.server.talk(true));
        std::thread::sleep(WATCH);
        tcp.iter().for_each(|c| c.client.talk(true));
        std::thread::sleep(WATCH);
        for (c, (client, server)) in tcp.iter().zip(marks) {
            let passed = c.client.heard_from(client) + c.server.heard_from(server);
            self.forbidden += c.client.sent() - client + c.server.sent() - server;
            self.trials.check(passed == 0, || format!("LEAK: {} after it expired: {passed} passed", c.name));
        }
        // UDP is blocked while it is in use, and the block expires with it.
        self.write("pods.yaml", &may);
        self.in_force();
        for c in &udp {
            c.client.talk(true);
            c.server.talk(true);
            c.heard_within(&c.client, Duration::from_secs(20));
        }
        self.write("pods.yaml", &may_not);
        self.in_force();
        silence();
        let marks: Vec<_> = udp.iter().map(|c| c.client.sent()).collect();
        udp.iter().for_each(|c| c.client.talk(true));
        std::thread::sleep(WATCH);
        for (c, mark) in udp.iter().zip(marks) {
            let (sent, passed) = (c.client.sent() - mark, c.client.heard_from(mark));
            self.forbidden += sent;
            self.trials.check(sent > 10 && passed == 0, || {
                format!("LEAK: {} after its block expired: {passed} of {sent} passed", c.name)
            });
        }
        self.mallory.iter().for_each(|c| c.client.talk(true));
        self.nothing_is_lost("connections expire");
    }
}
