//! UDP datagrams that are too large for one packet, over real sockets: to Services and node ports, with affinity, to pods whose
//! policies of any tier name ports, on the same node and on another, and their answers; until a later policy cuts them (ADR-0045).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::{Family, Place};
use tests::lab_up::{LabUp, write};
use tests::steady::{StopOnDrop, until};

const MANIFESTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: t, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: t, labels: {app: web}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: ruled, namespace: t, labels: {app: ruled}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: t, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: t}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.0.53
  clusterIPs: [10.96.0.53, "fd00:10:96::53"]
  selector: {app: web}
  ports: [{port: 53, targetPort: 7000, nodePort: 30053, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky, namespace: t}
spec:
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.96.0.54, "fd00:10:96::54"]
  sessionAffinity: ClientIP
  selector: {app: web}
  ports: [{port: 53, targetPort: 7000, protocol: UDP}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: ruled}
spec:
  tier: Admin
  priority: 5
  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: ruled}}}}
  ingress:
  - {name: closed, action: Deny, from: [{namespaces: {}}], protocols: [{udp: {destinationPort: {number: 7001}}}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: t}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{ports: [{port: 7000, protocol: UDP}]}]
"#;

/// The port that the policy allows, and one that it does not.
const OPEN: u16 = 7000;
const CLOSED: u16 = 7001;
const LIMIT: Duration = Duration::from_secs(60);
/// How long an answer may take before the next attempt.
const PATIENCE: Duration = Duration::from_secs(1);

fn bind(place: &Place, address: SocketAddr) -> UdpSocket {
    let socket = place.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

/// Says whatever it hears back, behind its number.
fn echo(socket: &UdpSocket, number: u8, stop: &AtomicBool) {
    let mut buffer = vec![0; 20_000];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let answer = [&[number], &buffer[..length]].concat();
        // Who asked may be gone.
        let _ = socket.send_to(&answer, from);
    }
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// Who answers so large a datagram; nobody in time, or wrongly: none.
fn asked(from: &Place, to: SocketAddr, length: usize) -> Option<u8> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = bind(from, SocketAddr::new(any, 0));
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (said, mut buffer) = (payload(length), vec![0; 20_000]);
    socket.connect(to).and_then(|()| socket.send(&said)).ok()?;
    let length = socket.recv(&mut buffer).ok()?;
    let (number, answer) = buffer[..length].split_first()?;
    assert_eq!(answer, said, "{} asked {to}", from.name());
    Some(*number)
}

/// How many pieces of datagrams a pod's stack was given to put together.
fn pieces_heard(pod: &Place, ipv4: bool) -> u64 {
    let read = |path: &str| pod.run(|| std::fs::read_to_string(path).unwrap()).unwrap();
    if ipv4 {
        let text = read("/proc/thread-self/net/snmp");
        let mut lines = text.lines().filter(|line| line.starts_with("Ip: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let place = names.split_whitespace().position(|name| name == "ReasmReqds").unwrap();
        values.split_whitespace().nth(place).unwrap().parse().unwrap()
    } else {
        let text = read("/proc/thread-self/net/snmp6");
        let line = text.lines().find(|line| line.starts_with("Ip6ReasmReqds")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Of what policies deny no piece arrives: the pod hears those of what they allow alone.
fn policies(client: &Place, server: &Place, number: u8, ipv4: bool) {
    let address = server.address(ipv4).unwrap();
    let before = pieces_heard(server, ipv4);
    for length in [3_000, 8_000] {
        let denied = bind(client, SocketAddr::new(client.address(ipv4).unwrap(), 0));
        for _ in 0..10 {
            denied.send_to(&payload(length), (address, CLOSED)).unwrap();
        }
    }
    let mut attempts = 0;
    until("what the policy allows arrives", LIMIT, || {
        attempts += 1;
        asked(client, (address, OPEN).into(), 3_000) == Some(number)
    });
    let heard = pieces_heard(server, ipv4) - before;
    assert!(heard <= 3 * attempts, "{heard} pieces at {}: more than is allowed", server.name());
}

/// Both endpoints answer.
fn service(from: &Place, to: (IpAddr, u16)) {
    for length in [3_000, 8_000] {
        let mut answered = BTreeSet::new();
        let what = format!("{} asks {}:{} with {length} bytes, and both answer", from.name(), to.0, to.1);
        until(&what, LIMIT, || {
            answered.extend(asked(from, to.into(), length));
            answered.len() == 2
        });
    }
}

/// The endpoint that answered first answers always.
fn affinity(client: &Place, to: (IpAddr, u16)) {
    let mut answered = Vec::new();
    until(&format!("{}:{} answers a dozen times", to.0, to.1), LIMIT, || {
        answered.extend(asked(client, to.into(), 3_000));
        answered.len() == 12
    });
    assert!(answered.iter().all(|number| *number == answered[0]), "with affinity: {answered:?}");
}

/// Conversations are cut by a policy that comes later: of what is said from then on no piece arrives.
fn cut(up: &LabUp, client: &Place, servers: &[Place]) {
    let ends = servers.iter().flat_map(|server| [(server, true), (server, false)]);
    let talk = |(server, ipv4): (&Place, bool)| {
        let to = SocketAddr::new(server.address(ipv4).unwrap(), OPEN);
        let socket = bind(client, SocketAddr::new(client.address(ipv4).unwrap(), 0));
        socket.connect(to).unwrap();
        until("a conversation begins", LIMIT, || {
            socket.send(&payload(3_000)).unwrap();
            socket.recv(&mut [0; 4_000]).is_ok()
        });
        socket
    };
    let talks: Vec<_> = ends.clone().map(talk).collect();
    let later = MANIFESTS.replace("ingress: [{ports: [{port: 7000, protocol: UDP}]}]", "ingress: []");
    assert_ne!(later, MANIFESTS);
    write(&up.manifests, &[("all.yaml", &later)]);
    up.in_force(LIMIT);
    for ((server, ipv4), socket) in ends.zip(talks) {
        let before = pieces_heard(server, ipv4);
        for _ in 0..20 {
            socket.send(&payload(3_000)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(PATIENCE);
        let leaked = pieces_heard(server, ipv4) - before;
        assert_eq!(leaked, 0, "LEAK: pieces at {} after the deny (IPv4: {ipv4})", server.name());
    }
}

#[test]
fn large_datagrams_reach_services_and_pods_whose_policies_name_ports() {
    let manifests = [("all.yaml", MANIFESTS)];
    let Some(up) = LabUp::new("fragments", Family::Dual, Some(&manifests)) else { return };
    let place = |name: &str| up.lab.place(name).unwrap();
    let (client, node, outside) = (place("t/client"), place("node:node-1"), place("underlay"));
    let servers = [place("t/web-1"), place("t/web-2"), place("t/ruled")];
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for ipv4 in [true, false] {
            for (number, server) in (1..).zip(&servers) {
                for port in [OPEN, CLOSED] {
                    let socket = bind(server, SocketAddr::new(server.address(ipv4).unwrap(), port));
                    let stop = &stop;
                    scope.spawn(move || echo(&socket, number, stop));
                }
            }
        }
        for ipv4 in [true, false] {
            let of_family = |v4: &str, v6: &str| (if ipv4 { v4 } else { v6 }.parse().unwrap(), 53);
            let web = of_family("10.96.0.53", "fd00:10:96::53");
            let node_port = (node.address(ipv4).unwrap(), 30053);
            for (from, to) in [(&client, web), (&client, node_port), (&node, web), (&outside, node_port)] {
                service(from, to);
            }
            affinity(&client, of_family("10.96.0.54", "fd00:10:96::54"));
            for (number, server) in (1..).zip(&servers) {
                policies(&client, server, number, ipv4);
            }
        }
        cut(&up, &client, &servers[..2]);
    });
}
