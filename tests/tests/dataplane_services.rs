//! Services through the switch alone: from pods, nodes and outside, to endpoints on either node, with real packets.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lab::{Family, Place};
use tests::lab_up::{LabUp, write};

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: t, labels: {app: web, one: "1"}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: t, labels: {app: web, two: "2"}}
spec: {nodeName: node-2, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8081}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: t, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
"#;

const SERVICES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: t}
spec:
  type: NodePort
  clusterIP: 10.96.0.80
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: local, namespace: t}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  clusterIP: 10.96.0.81
  selector: {two: "2"}
  ports: [{port: 80, targetPort: http, nodePort: 30081}]
---
apiVersion: v1
kind: Service
metadata: {name: itself, namespace: t}
spec: {clusterIP: 10.96.0.82, selector: {app: client}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: t}
spec: {clusterIP: 10.96.0.83, selector: {app: nobody}, ports: [{port: 80}]}
"#;

const CLOSED: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: t}
spec: {podSelector: {matchLabels: {two: "2"}}, policyTypes: [Ingress]}
"#;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Connects and hears something; why not, else.
fn ask(from: &Place, to: IpAddr, port: u16, limit: Duration) -> Result<(), ErrorKind> {
    from.run(|| {
        let mut stream =
            TcpStream::connect_timeout(&SocketAddr::new(to, port), limit).map_err(|error| error.kind())?;
        stream.set_read_timeout(Some(limit)).unwrap();
        let mut answer = [0; 2];
        stream.write_all(b"hi").map_err(|error| error.kind())?;
        stream.read_exact(&mut answer).map_err(|error| error.kind())
    })
    .unwrap()
}

const LIMIT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(700);

#[track_caller]
fn always(from: &Place, to: IpAddr, port: u16) {
    for attempt in 0..12 {
        let outcome = ask(from, to, port, LIMIT);
        assert_eq!(outcome, Ok(()), "attempt {attempt}: from {} to {to} port {port}", from.name());
    }
}

/// Waits until an edit of the manifests is in force on every node.
fn until_in_force(up: &LabUp) {
    let began = Instant::now();
    while !up.lab.is_in_force().unwrap() {
        assert!(began.elapsed() < LIMIT, "not in force after {LIMIT:?}");
    }
}

#[test]
fn services_from_pods_nodes_and_outside() {
    let files = [("pods.yaml", PODS), ("services.yaml", SERVICES)];
    let Some(up) = LabUp::new("services", Family::Ipv4, Some(&files)) else { return };
    let problems = up.lab.problems();
    assert!(problems.is_empty(), "{problems:#?}");
    let place = |name: &str| up.lab.place(name).unwrap();
    let client = place("t/client");
    let nodes = [place("node:node-1"), place("node:node-2")];
    let outside = place("underlay");
    let [one, two] = [0, 1].map(|k: usize| nodes[k].address(true).unwrap());

    for from in [&client, &nodes[0], &nodes[1]] {
        always(from, ip("10.96.0.80"), 80);
        always(from, ip("10.96.0.81"), 80);
    }
    always(&client, ip("10.96.0.82"), 80);
    for node in [one, two] {
        always(&client, node, 30080);
        always(&outside, node, 30080);
        always(&nodes[0], node, 30080);
    }

    // Local: only where an endpoint is, for those outside.
    always(&outside, two, 30081);
    assert_eq!(ask(&outside, one, 30081, SILENCE), Err(ErrorKind::TimedOut));
    always(&client, one, 30081);

    // Nobody serves: refused at once, for pods and for the node.
    for from in [&client, &nodes[1]] {
        let began = Instant::now();
        assert_eq!(ask(from, ip("10.96.0.83"), 80, LIMIT), Err(ErrorKind::ConnectionRefused));
        assert!(began.elapsed() < LIMIT);
    }

    // Policy sees the endpoint.
    write(&up.manifests, &[("closed.yaml", CLOSED)]);
    until_in_force(&up);
    let denied = Err(ErrorKind::TimedOut);
    assert_eq!(ask(&client, ip("10.96.0.81"), 80, SILENCE), denied);
    always(&nodes[1], ip("10.96.0.81"), 80);
    std::fs::remove_file(up.manifests.join("closed.yaml")).unwrap();
    until_in_force(&up);
    always(&client, ip("10.96.0.81"), 80);
}
