//! Endpoints of a Service come and go under load while agents are killed: no request fails, no connection is cut whose
//! endpoint lives, and no endpoint that is gone gets a new one. `FERRULE_ROLLS=1000` rolls as often as the issue asks.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::insight::{List, NodeItem};
use lab::http::Endpoint;
use lab::{Component, Family, NodeIndex, Place};
use nix::sys::signal::Signal;
use tests::asking::who;
use tests::lab_up::{LabUp, is_in_sync, write};
use tests::steady::{self, StopOnDrop};

/// Longer than anything that only waits its turn on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const PODS: usize = 4;
const ROLLS: usize = 20;
/// Connections that live as long as the test.
const LONG: usize = 8;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn address(pod: usize) -> String {
    format!("10.244.{}.{}", pod % 2 + 1, 20 + pod)
}

fn name(pod: usize) -> String {
    format!("t/web-{pod}")
}

/// Pods on both nodes, and somebody who asks.
fn pods() -> String {
    let mut text = "apiVersion: v1\nkind: Pod\nmetadata: {name: client, namespace: t}\n\
                    spec: {nodeName: node-1, containers: [{name: c, image: i}]}\n---\n"
        .to_owned();
    for pod in 0..PODS {
        text += &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web-{pod}, namespace: t}}\n\
             spec: {{nodeName: node-{}, containers: [{{name: c, image: i, ports: [{{containerPort: 8080}}]}}]}}\n\
             status: {{podIP: {}}}\n---\n",
            pod % 2 + 1,
            address(pod)
        );
    }
    text
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: t}
spec: {type: NodePort, clusterIP: 10.96.2.1, ports: [{port: 80, nodePort: 30082}]}
";

/// Who is about to go, and who is gone, at a roll.
fn leaving(roll: usize) -> [usize; 2] {
    [roll % PODS, (roll + PODS - 1) % PODS]
}

fn slice(roll: usize) -> String {
    let [ending, gone] = leaving(roll);
    let mut text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                    metadata: {name: web-1, namespace: t, labels: {kubernetes.io/service-name: web}}\n\
                    addressType: IPv4\nports: [{port: 8080}]\nendpoints:\n"
        .to_owned();
    for pod in (0..PODS).filter(|pod| *pod != gone) {
        let state = match pod == ending {
            true => "ready: false, serving: true, terminating: true",
            false => "ready: true",
        };
        text += &format!(
            "- {{addresses: [{}], nodeName: node-{}, conditions: {{{state}}}}}\n",
            address(pod),
            pod % 2 + 1
        );
    }
    text
}

/// A reader never sees half a file, which would be half the endpoints.
fn replace(up: &LabUp, text: &str) {
    write(&up.manifests, &[(".slice.yaml", text)]);
    std::fs::rename(up.manifests.join(".slice.yaml"), up.manifests.join("slice.yaml")).unwrap();
}

/// Whether the controller has every agent: of one that is away it cannot say what is in force there.
fn is_connected(up: &LabUp) -> bool {
    let nodes: List<NodeItem> =
        Endpoint::Unix(up.lab.layout().controller_socket()).list("nodes", &[]).unwrap();
    nodes.items.iter().all(|node| node.connected)
}

/// What is in force, and what went wrong.
#[derive(Default)]
struct Watch {
    stop: AtomicBool,
    requests: AtomicUsize,
    /// Counts up with every change; and who must not get a new connection, once that is in force.
    away: Mutex<(usize, Vec<String>)>,
    wrong: Mutex<Vec<String>>,
}

impl Watch {
    fn away(&self) -> (usize, Vec<String>) {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_away(&self, names: Vec<String>) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        *away = (away.0 + 1, names);
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn nothing_wrong(&self) {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Asks again and again, each time over a new connection.
    fn ask(&self, from: &Place, to: &[(IpAddr, u16)]) {
        for (to, port) in to.iter().cycle() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let before = self.away();
            match who(from, *to, *port, LIMIT) {
                Ok(name) if before == self.away() && before.1.contains(&name) => {
                    self.wrong(format!("{name} is gone and was given to {}", from.name()));
                }
                Ok(_) => drop(self.requests.fetch_add(1, Ordering::Relaxed)),
                Err(error) => self.wrong(format!("{} asked {to} port {port}: {error}", from.name())),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Speaks on one connection until the end.
    fn speak(&self, stream: TcpStream) {
        let talk = || -> std::io::Result<()> {
            stream.set_read_timeout(Some(LIMIT))?;
            let (mut out, mut answers) = (&stream, BufReader::new(&stream));
            let (mut name, mut piece) = (String::new(), [0; 10]);
            out.write_all(b"0123456789")?;
            answers.read_line(&mut name)?;
            answers.read_exact(&mut piece)?;
            while !self.stop.load(Ordering::Relaxed) {
                out.write_all(b"0123456789")?;
                answers.read_exact(&mut piece)?;
                if piece != *b"0123456789" {
                    return Err(ErrorKind::InvalidData.into());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        };
        if let Err(error) = talk() {
            self.wrong(format!("a connection was cut: {error}"));
        }
    }
}

#[test]
fn endpoints_roll_under_load_and_nobody_notices() {
    let rolls = std::env::var("FERRULE_ROLLS").ok().map_or(ROLLS, |text| text.parse().unwrap());
    let (pods, first) = (pods(), slice(0));
    let files = [("pods.yaml", pods.as_str()), ("service.yaml", SERVICE), ("slice.yaml", &first)];
    let Some(up) = LabUp::new("rolls", Family::Ipv4, Some(&files)) else { return };
    let place = |name: &str| up.lab.place(name).unwrap();
    let (client, node, outside) = (place("t/client"), place("node:node-1"), place("underlay"));
    let node_ports = ["node:node-1", "node:node-2"].map(|name| (place(name).address(true).unwrap(), 30082));
    let cluster = [(ip("10.96.2.1"), 80)];
    let watch = Arc::new(Watch::default());
    let connect = |from: &Place| {
        let to = SocketAddr::from(cluster[0]);
        from.run(|| TcpStream::connect_timeout(&to, LIMIT)).unwrap().unwrap()
    };
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&watch.stop);
        for k in 0..LONG {
            let stream = connect(if k % 2 == 0 { &client } else { &node });
            scope.spawn(|| watch.speak(stream));
        }
        scope.spawn(|| watch.ask(&client, &cluster));
        scope.spawn(|| watch.ask(&node, &cluster));
        scope.spawn(|| watch.ask(&outside, &node_ports));
        for roll in 1..=rolls {
            watch.set_away(Vec::new());
            replace(&up, &slice(roll));
            // In the middle an agent is killed while the change is under way, first the one, then the other.
            let agent = [NodeIndex(1), NodeIndex(2)].into_iter().nth((roll + 1).wrapping_sub(rolls / 2));
            if let Some(agent) = agent {
                up.lab.restart(agent, Component::Agent, Signal::SIGKILL).unwrap();
                steady::until("the agent is back", LIMIT, || is_connected(&up) && is_in_sync(&up.lab));
            }
            up.in_force(LIMIT);
            watch.set_away(leaving(roll).map(name).into());
            let asked = watch.requests.load(Ordering::Relaxed);
            steady::until("requests go on", LIMIT, || {
                watch.nothing_wrong();
                watch.requests.load(Ordering::Relaxed) >= asked + 15
            });
        }
        drop(stop);
    });
    watch.nothing_wrong();
    println!("{rolls} rolls, {} requests", watch.requests.load(Ordering::Relaxed));
}
