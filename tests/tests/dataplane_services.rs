//! Services through the switch alone: from pods, nodes and outside, to endpoints on either node, with real packets.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use api::insight::{FlowItem, List, ServiceItem};
use lab::http::Endpoint;
use lab::{Family, Place};
use network::matrix::{Entry, Grid};
use tests::asking::who;
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

/// Whether somebody answers; why not, else.
fn ask(from: &Place, to: IpAddr, port: u16, limit: Duration) -> Result<(), ErrorKind> {
    who(from, to, port, limit).map(drop)
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

const NAMES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: dns-1, namespace: t, labels: {app: dns}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: dns-2, namespace: t, labels: {app: dns}}
spec: {nodeName: node-2, containers: [{name: c, image: i, ports: [{containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: t, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: t}
spec: {clusterIP: 10.96.0.10, selector: {app: dns}, ports: [{port: 53, targetPort: 5353, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: late, namespace: t}
spec:
  type: NodePort
  clusterIP: 10.96.0.11
  selector: {app: gone}
  ports: [{port: 53, targetPort: 5353, protocol: UDP, nodePort: 30053}]
"#;

/// Who answers a client that keeps its socket.
fn answerer(socket: &UdpSocket) -> Result<String, ErrorKind> {
    let mut answer = [0; 200];
    socket.send(b"hi").map_err(|error| error.kind())?;
    let length = socket.recv(&mut answer).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned())
}

#[test]
fn a_client_over_udp_is_not_left_with_an_endpoint_that_is_gone() {
    let Some(up) = LabUp::new("udp", Family::Ipv4, Some(&[("names.yaml", NAMES)])) else { return };
    let client = up.lab.place("t/client").unwrap();
    let socket = client
        .run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((ip("10.96.0.10"), 53)).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            socket
        })
        .unwrap();
    // The first packet to another node may be lost while its way is found.
    let mut first = answerer(&socket);
    if first.is_err() {
        first = answerer(&socket);
    }
    let first = first.unwrap();
    assert_eq!(answerer(&socket).as_ref(), Ok(&first), "a connection stays where it is");
    let (gone, stays) = if first == "t/dns-1" { ("dns-1", "t/dns-2") } else { ("dns-2", "t/dns-1") };
    // Somebody outside, and the node itself, ask for what nobody serves yet.
    let node = up.lab.place("node:node-1").unwrap();
    let address = node.address(true).unwrap();
    let knocking = [&up.lab.place("underlay").unwrap(), &node].map(|place| {
        place
            .run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect((address, 30053)).unwrap();
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                socket
            })
            .unwrap()
    });
    for socket in knocking.iter().cycle().take(6) {
        let refused = answerer(socket).unwrap_err();
        // The node itself hears it from its own call.
        assert!(matches!(refused, ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied), "{refused}");
    }
    let before = format!("{{name: {gone}, namespace: t, labels: {{app: dns}}}}");
    let after = format!("{{name: {gone}, namespace: t, labels: {{app: gone}}}}");
    assert!(NAMES.contains(&before));
    write(&up.manifests, &[("names.yaml", &NAMES.replace(&before, &after))]);
    up.in_force(LIMIT);
    let began = Instant::now();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    while answerer(&socket).as_deref() != Ok(stays) {
        assert!(began.elapsed() < LIMIT, "still not answered by {stays}");
    }
    let late = format!("t/{gone}");
    for socket in &knocking {
        while answerer(socket).as_ref() != Ok(&late) {
            assert!(
                began.elapsed() < LIMIT * 2,
                "asked before somebody served, and is not answered by {late} now"
            );
        }
    }
}

/// What the node says of its Services, after clients asked.
fn counted(up: &LabUp) {
    let controller = Endpoint::Unix(up.lab.layout().controller_socket());
    let only = [("node", "node-1"), ("service", "t/web")];
    let services: List<ServiceItem> = controller.list("services", &only).unwrap();
    assert!(services.warnings.is_empty(), "{:?}", services.warnings);
    let [web] = &services.items[..] else { panic!("{services:#?}") };
    assert_eq!((web.kind.as_str(), web.ports[0].node_port), ("NodePort", Some(30080)));
    let endpoints = &web.ports[0].endpoints;
    assert_eq!(endpoints.len(), 2);
    assert!(endpoints.iter().all(|e| e.used && e.state == "ready" && e.connections > 0), "{endpoints:#?}");
    assert!((endpoints.iter().map(|e| e.share).sum::<f64>() - 1.0).abs() < 1e-9);
    let flows: List<FlowItem> = controller.list("flows", &only).unwrap();
    assert!(!flows.items.is_empty());
    assert!(flows.items.iter().all(|flow| flow.owners.iter().any(|owner| owner.name == "t/web")));
}

/// The cells of the Services at TCP/80 by row, after what was observed is what was predicted.
fn matrix(up: &LabUp) -> impl Fn(&str) -> String {
    let measured = up.lab.measure(&|_, _| {}).unwrap();
    let differences: Vec<_> = measured.differences.iter().map(ToString::to_string).collect();
    assert!(differences.is_empty(), "{differences:#?}, {:#?}", measured.remarks);
    let matrix = measured.observed;
    let port = "TCP/80".parse().unwrap();
    move |from: &str| {
        let from: Entry = from.parse().unwrap();
        let services = matrix.order.iter().filter(|entry| !entry.speaks());
        services.map(|to| matrix.cell(port, Grid::Combined, &from, to).unwrap().symbol()).collect()
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

    // Local: only where an endpoint is, for those outside, and for pods and nodes that ask another node; their own they ask
    // from inside.
    always(&outside, two, 30081);
    assert_eq!(ask(&outside, one, 30081, SILENCE), Err(ErrorKind::TimedOut));
    always(&client, one, 30081);
    always(&client, two, 30081);
    assert_eq!(ask(&place("t/web-2"), one, 30081, SILENCE), Err(ErrorKind::TimedOut));
    always(&place("t/web-2"), two, 30081);
    always(&nodes[0], one, 30081);
    always(&nodes[0], two, 30081);
    assert_eq!(ask(&nodes[1], one, 30081, SILENCE), Err(ErrorKind::TimedOut));
    always(&nodes[1], two, 30081);

    counted(&up);
    let agreed = matrix(&up);
    let (client_row, outside_row) = (agreed("t/client"), agreed("outside"));
    // In the order: itself (served by the client alone), local, nobody, web; outside has no node port of two of them.
    assert_eq!((client_row.as_str(), outside_row.as_str()), ("..X.", "-.-."));

    // Nobody serves: refused at once, for pods and for the node.
    for from in [&client, &nodes[1]] {
        let began = Instant::now();
        assert_eq!(ask(from, ip("10.96.0.83"), 80, LIMIT), Err(ErrorKind::ConnectionRefused));
        assert!(began.elapsed() < LIMIT);
    }

    // Policy sees the endpoint.
    write(&up.manifests, &[("closed.yaml", CLOSED)]);
    up.in_force(LIMIT);
    let denied = Err(ErrorKind::TimedOut);
    assert_eq!(ask(&client, ip("10.96.0.81"), 80, SILENCE), denied);
    always(&nodes[1], ip("10.96.0.81"), 80);
    let agreed = matrix(&up);
    // One endpoint of two is closed, but not to its own node, nor to what comes over that node by its own address.
    assert_eq!((agreed("t/client").as_str(), agreed("node:node-1").as_str()), (".XXX", ".XXX"));
    assert_eq!((agreed("node:node-2").as_str(), agreed("outside").as_str()), ("..X.", "-X-X"));
    std::fs::remove_file(up.manifests.join("closed.yaml")).unwrap();
    up.in_force(LIMIT);
    always(&client, ip("10.96.0.81"), 80);
}
