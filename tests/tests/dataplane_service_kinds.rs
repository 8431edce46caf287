//! Every kind of Service and of endpoint through the switch alone, in both families: load balancers' addresses and their source
//! ranges, external addresses, terminating and near endpoints, the host's own stack and the outside behind a Service; what a
//! load balancer's health check is answered, and a client that keeps its endpoint while the agent restarts.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use api::insight::{List, LostItem, ServiceItem};
use lab::http::Endpoint;
use lab::{Component, Family, NodeIndex, Place};
use nix::sys::signal::Signal;
use tests::asking::who;
use tests::lab_up::{LabUp, is_in_sync, write};
use tests::steady;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: t, labels: {app: web, one: "1"}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.244.1.20, podIPs: [{ip: 10.244.1.20}, {ip: "fd00:10:244:1::20"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: t, labels: {app: web, two: "2"}}
spec: {nodeName: node-2, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.244.2.20, podIPs: [{ip: 10.244.2.20}, {ip: "fd00:10:244:2::20"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: t, labels: {app: host}}
spec: {nodeName: node-2, hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 9090}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: t, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
"#;

const SERVICES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: t}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.1.1
  clusterIPs: [10.96.1.1, "fd00:10:96::101"]
  loadBalancerSourceRanges: [172.30.0.0/16, "fd00:172:30::/48"]
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.10}, {ip: "2001:db8:1::10"}, {ip: 203.0.113.11, ipMode: Proxy}]}}
---
apiVersion: v1
kind: Service
metadata: {name: fenced, namespace: t}
spec:
  type: LoadBalancer
  clusterIP: 10.96.1.2
  loadBalancerSourceRanges: [192.0.2.0/24]
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.12, ipMode: VIP}]}}
---
apiVersion: v1
kind: Service
metadata: {name: external, namespace: t}
spec:
  clusterIP: 10.96.1.3
  externalIPs: [198.51.100.7]
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: local, namespace: t}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 31500
  clusterIP: 10.96.1.4
  selector: {two: "2"}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: near, namespace: t}
spec: {clusterIP: 10.96.1.5, trafficDistribution: PreferSameNode, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: host, namespace: t}
spec: {type: NodePort, clusterIP: 10.96.1.6, selector: {app: host}, ports: [{port: 80, targetPort: 9090, nodePort: 30906}]}
---
apiVersion: v1
kind: Service
metadata: {name: kept, namespace: t}
spec:
  clusterIP: 10.96.1.7
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: t}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: t}
spec: {type: ExternalName, externalName: db.example.org}
"#;

/// Wants the address of `external`.
const RIVAL: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: rival, namespace: t}
spec: {clusterIP: 10.96.1.19, externalIPs: [198.51.100.7], selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"#;

/// Endpoints by hand: `ENDING` serves while it terminates; another is about to come.
const ENDING: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: ending, namespace: t}
spec: {clusterIP: 10.96.1.8, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ending-1, namespace: t, labels: {kubernetes.io/service-name: ending}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
- {addresses: [10.244.1.20], nodeName: node-1, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.244.2.20], nodeName: node-2, conditions: {ready: false, serving: false}}
"#;

const LIMIT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(700);
/// So many connections miss one endpoint of two once in four thousand million times.
const MANY: usize = 32;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Who answers many of them; every one has to be answered.
#[track_caller]
fn all_who(from: &Place, to: IpAddr, port: u16) -> BTreeSet<String> {
    (0..MANY)
        .map(|n| match who(from, to, port, LIMIT) {
            Ok(name) => name,
            Err(error) => panic!("connection {n} from {} to {to} port {port}: {error}", from.name()),
        })
        .collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Leads an address outside to a node, as a router would.
fn lead(outside: &Place, to: IpAddr, node: &Place) {
    let way = node.address(to.is_ipv4()).unwrap();
    let words = ["ip", "route", "add", &to.to_string(), "via", &way.to_string()].map(str::to_owned);
    let output = outside.exec(words).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn http(from: &Place, to: IpAddr, port: u16) -> std::io::Result<String> {
    let asked = || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), LIMIT)?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.to_lowercase())
    };
    from.run(asked).unwrap()
}

fn shown(up: &LabUp, parameters: &[(&str, &str)]) -> Vec<ServiceItem> {
    let controller = Endpoint::Unix(up.lab.layout().controller_socket());
    let list: List<ServiceItem> = controller.list("services", parameters).unwrap();
    assert!(list.warnings.is_empty(), "{:?}", list.warnings);
    list.items
}

#[test]
fn every_kind_of_service_and_endpoint() {
    let files = [("pods.yaml", PODS), ("services.yaml", SERVICES), ("ending.yaml", ENDING)];
    let Some(up) = LabUp::new("service-kinds", Family::Dual, Some(&files)) else { return };
    let problems = up.lab.problems();
    assert!(problems.is_empty(), "{problems:#?}");
    let place = |name: &str| up.lab.place(name).unwrap();
    let (client, outside) = (place("t/client"), place("underlay"));
    let nodes = [place("node:node-1"), place("node:node-2")];
    let both = names(&["t/web-1", "t/web-2"]);

    // A load balancer's address, in both families, from everywhere; and who may not.
    for address in ["203.0.113.10", "2001:db8:1::10"].map(ip) {
        lead(&outside, address, &nodes[0]);
        assert_eq!(all_who(&outside, address, 80), both);
        assert_eq!(all_who(&nodes[1], address, 80), both);
    }
    for address in ["10.96.1.1", "fd00:10:96::101"].map(ip) {
        assert_eq!(all_who(&client, address, 80), both);
    }
    lead(&outside, ip("203.0.113.12"), &nodes[0]);
    for from in [&outside, &client] {
        assert_eq!(who(from, ip("203.0.113.12"), 80, SILENCE), Err(ErrorKind::TimedOut), "{}", from.name());
    }
    assert_eq!(all_who(&nodes[0], ip("203.0.113.12"), 80), both);

    // An external address.
    lead(&outside, ip("198.51.100.7"), &nodes[1]);
    for from in [&outside, &client, &nodes[0]] {
        assert_eq!(all_who(from, ip("198.51.100.7"), 80), both);
    }

    // Near endpoints; a host's own stack.
    assert_eq!(all_who(&client, ip("10.96.1.5"), 80), names(&["t/web-1"]));
    assert_eq!(all_who(&nodes[1], ip("10.96.1.5"), 80), names(&["t/web-2"]));
    for from in [&client, &nodes[0], &nodes[1]] {
        assert_eq!(all_who(from, ip("10.96.1.6"), 80), names(&["t/host"]));
    }
    for node in &nodes {
        assert_eq!(all_who(&outside, node.address(true).unwrap(), 30906), names(&["t/host"]));
    }

    ending(&up, &client);
    outward(&up, &client, &nodes, &outside);
    health(&up, &outside, &nodes);
    listed(&up);
    kept(&up, &client);
}

/// What terminates serves while nothing else does, and no longer.
fn ending(up: &LabUp, client: &Place) {
    assert_eq!(all_who(client, ip("10.96.1.8"), 80), names(&["t/web-1"]));
    let ready = ENDING.replace("{ready: false, serving: false}", "{ready: true}");
    write(&up.manifests, &[("ending.yaml", &ready)]);
    up.in_force(LIMIT);
    assert_eq!(all_who(client, ip("10.96.1.8"), 80), names(&["t/web-2"]));
}

/// An endpoint outside of the cluster.
fn outward(up: &LabUp, client: &Place, nodes: &[Place], outside: &Place) {
    let address = outside.address(true).unwrap();
    let outward = ENDING.replace("ending", "outward").replace("10.96.1.8", "10.96.1.9");
    let (head, _) = outward.split_once("ports: [{port: 8080}]").unwrap();
    let text = format!("{head}ports: [{{port: 80}}]\nendpoints: [{{addresses: [{address}]}}]\n");
    write(&up.manifests, &[("outward.yaml", &text)]);
    up.in_force(LIMIT);
    for from in [client, &nodes[0], &nodes[1]] {
        assert_eq!(all_who(from, ip("10.96.1.9"), 80), names(&["outside"]));
    }
}

/// What a load balancer hears from each node, and that it hears of a change.
fn health(up: &LabUp, outside: &Place, nodes: &[Place]) {
    let answers = |expected: [&'static str; 2]| {
        let heard = |node: &Place, expected: &str| {
            [true, false].iter().all(|ipv4| {
                let at = node.address(*ipv4).unwrap();
                http(outside, at, 31500).is_ok_and(|answer| answer.contains(expected))
            })
        };
        move || nodes.iter().zip(expected).all(|(node, expected)| heard(node, expected))
    };
    steady::until("the node with the endpoint is healthy", LIMIT, answers(["503", "200 ok"]));
    let answer = http(outside, nodes[1].address(true).unwrap(), 31500).unwrap();
    assert!(answer.contains("x-load-balancing-endpoint-weight: 1"), "{answer}");
    assert!(answer.contains(r#""localendpoints": 1"#), "{answer}");
    write(
        &up.manifests,
        &[("services.yaml", &SERVICES.replace(r#"selector: {two: "2"}"#, r#"selector: {one: "1"}"#))],
    );
    up.in_force(LIMIT);
    steady::until("the endpoint is on the other node", LIMIT, answers(["200 ok", "503"]));
}

/// What is in no data path is shown, and what a proxy answers for is not ours.
fn listed(up: &LabUp) {
    let all = shown(up, &[]);
    let kinds = |kind: &str| {
        all.iter().filter(|item| item.kind == kind).map(|item| item.service.name()).collect::<Vec<_>>()
    };
    assert_eq!((kinds("Headless"), kinds("ExternalName")), (vec!["headless"], vec!["elsewhere"]));
    let [headless] = &shown(up, &[("service", "t/headless")])[..] else { panic!() };
    assert_eq!((&headless.node, headless.ports[0].endpoints.len()), (&None, 2));
    assert!(headless.ports[0].endpoints.iter().all(|endpoint| endpoint.address.is_some()));
    assert!(shown(up, &[("node", "node-1")]).iter().all(|item| item.node.is_some()));
    let on_node = |service: &str| shown(up, &[("service", service), ("node", "node-1")]).swap_remove(0);
    let balanced = on_node("t/balanced");
    assert_eq!(balanced.outside_ips, ["203.0.113.10", "2001:db8:1::10"].map(ip));
    assert_eq!(balanced.lost, []);

    // Nobody says when it was made: of two that ask for one address the smaller name has it.
    write(&up.manifests, &[("rival.yaml", RIVAL)]);
    up.in_force(LIMIT);
    let lost = LostItem { what: "TCP port 80 of 198.51.100.7".into(), owner: on_node("t/external").service };
    assert_eq!((on_node("t/rival").lost, on_node("t/external").lost), (vec![lost], vec![]));
    std::fs::remove_file(up.manifests.join("rival.yaml")).unwrap();
    up.in_force(LIMIT);
}

/// The switch remembers, not the agent.
fn kept(up: &LabUp, client: &Place) {
    let first = all_who(client, ip("10.96.1.7"), 80);
    assert_eq!(first.len(), 1, "{first:?}");
    up.lab.restart(NodeIndex(1), Component::Agent, Signal::SIGKILL).unwrap();
    assert_eq!(all_who(client, ip("10.96.1.7"), 80), first);
    steady::until("the agent is back", LIMIT, || is_in_sync(&up.lab));
    assert_eq!(all_who(client, ip("10.96.1.7"), 80), first);
}
