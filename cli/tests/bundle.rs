//! `ferrule bundle` of a controller that is a thread on a socket, and the commands that ask the file when it is gone.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use api::insight::{FlowItem, List, NetworkItem, Owner, PodItem};
use network::{Network, NodeName};
use objects::SourceText;
use objects::offline::nodes_for;
use serde_json::Value;

const BASE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: c, image: i, ports: [{containerPort: 5432}]}]}
";

/// A Service that selects pods, and one whose endpoints somebody lists.
const SERVICES: &str = "---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: old-1, namespace: shop, labels: {kubernetes.io/service-name: old}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [203.0.113.1]}, {addresses: [203.0.113.2]}]
";

/// One more pod behind the one, another address behind the other.
const MORE: &str = "apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: db}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: old-1, namespace: shop, labels: {kubernetes.io/service-name: old}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [203.0.113.1]}, {addresses: [203.0.113.3]}]
";

const LOCK: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]}
";

fn network() -> Network {
    let (objects, problems) = objects::read(&[SourceText::new("base", BASE.to_owned() + SERVICES)]);
    assert_eq!(problems, []);
    objects::offline::network(&objects, &nodes_for(&objects, 2)).0
}

fn flow(node: &str, pod: &str) -> FlowItem {
    FlowItem {
        node: NodeName::new(node),
        table_id: 120,
        table: "Output".into(),
        priority: 100,
        cookie: format!("0x{}", pod.len()),
        r#match: format!("for {pod}"),
        actions: "drop".into(),
        packets: 3,
        bytes: 4,
        owners: vec![Owner { kind: "Pod".into(), name: pod.into(), rule: String::new() }],
        what: "something".into(),
    }
}

/// What the thread answers to a path.
fn answer(path: &str) -> Option<Value> {
    let (resource, query) = path.strip_prefix("/v1alpha1/")?.split_once('?').unwrap_or((&path[10..], ""));
    let json = |value: Value| Some(value);
    match resource {
        "network" => json(serde_json::to_value(List::new(vec![NetworkItem::from(network())])).unwrap()),
        "pods" => {
            let item = |pod: &network::Pod| PodItem {
                pod: pod.key.clone(),
                uid: pod.uid.clone(),
                node: pod.node.clone(),
                addresses: pod.addresses.clone(),
                host_network: false,
                ingress_policies: vec![],
                egress_policies: vec![],
            };
            let items: Vec<PodItem> = network().pods.values().map(item).collect();
            json(serde_json::to_value(List::new(items)).unwrap())
        }
        "flows" => {
            let mut flows = vec![flow("node-1", "shop/db"), flow("node-2", "shop/web")];
            if let Some(pod) = query.strip_prefix("pod=") {
                flows.retain(|flow| flow.owners[0].name == pod);
                // It counts on between two questions.
                flows.iter_mut().for_each(|flow| flow.packets += 1);
            }
            json(serde_json::to_value(List::new(flows)).unwrap())
        }
        "tunnels" => None,
        _ => json(serde_json::json!({"apiVersion": "x", "kind": "AnyList", "items": []})),
    }
}

/// Answers until it is told to stop.
fn serve(path: &Path) -> (mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let listener = UnixListener::bind(path).unwrap();
    let (stop, stopped) = mpsc::channel();
    let path = path.to_owned();
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if stopped.try_recv().is_ok() {
                break;
            }
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            let asked = line.split(' ').nth(1).unwrap_or_default();
            let text = match answer(asked) {
                Some(value) => format!("HTTP/1.0 200 OK\r\n\r\n{value}"),
                None => "HTTP/1.0 503 Away\r\n\r\n{\"error\":\"the agents are away\"}".to_owned(),
            };
            stream.write_all(text.as_bytes()).unwrap();
        }
        let _ = std::fs::remove_file(path);
    });
    (stop, thread)
}

fn ferrule(folder: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ferrule"))
        .args(words)
        .current_dir(folder)
        .env_remove("FERRULE_CONTROLLER")
        .env("FERRULE_LAB_STATE", folder.join("no-lab"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_bundle_answers_when_the_controller_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("lock.yaml"), LOCK).unwrap();
    std::fs::write(at.join("more.yaml"), MORE).unwrap();
    std::fs::create_dir(at.join("logs")).unwrap();
    std::fs::write(at.join("logs/agent.log"), "started\nAuthorization: Bearer topsecret\n").unwrap();
    let socket = at.join("s");
    let (stop, thread) = serve(&socket);
    let controller = format!("unix:{}", socket.display());
    let online = ["--controller", controller.as_str()];

    let (code, out, error) = ferrule(at, &[&["bundle", "b.json", "--logs", "logs"], &online[..]].concat());
    // One resource could not be asked: the rest is kept, and what is missing is said.
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(error.contains("not in the bundle: tunnels") && error.contains("the agents are away"), "{error}");
    let text = std::fs::read_to_string(at.join("b.json")).unwrap();
    assert!(text.contains("started") && !text.contains("topsecret"), "{text}");
    assert_eq!(std::fs::metadata(at.join("b.json")).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, error) = ferrule(at, &[&["bundle", "b.json"], &online[..]].concat());
    assert!(code == Some(1) && error.contains("cannot make b.json"), "{error}");

    let questions: [&[&str]; 6] = [
        &["get", "pods", "-o", "json"],
        &["get", "pods", "--namespace", "none", "-o", "json"],
        &["get", "flows", "--pod", "shop/web", "--node", "node-2"],
        &["plan", "-f", "lock.yaml", "-o", "json"],
        &["plan", "-f", "lock.yaml"],
        &["plan", "-f", "more.yaml", "-o", "json"],
    ];
    let before: BTreeMap<_, _> = questions
        .iter()
        .filter(|words| words[1] != "pods" || words.len() == 4)
        .map(|words| (*words, ferrule(at, &[*words, &online[..]].concat())))
        .collect();
    stop.send(()).unwrap();
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    thread.join().unwrap();
    for (words, online) in &before {
        let offline = ferrule(at, &[*words, &["--bundle", "b.json"]].concat());
        assert_eq!((&offline.0, &offline.2), (&online.0, &online.2), "{words:?}");
        if words[1] != "flows" {
            assert_eq!(offline.1, online.1, "{words:?}");
        } else {
            assert!(offline.1.contains("shop/web") && !offline.1.contains("shop/db"), "{}", offline.1);
        }
    }
    let (code, out, _) =
        ferrule(at, &["get", "pods", "--namespace", "none", "-o", "json", "--bundle", "b.json"]);
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["items"], Value::Array(vec![]));
    // The plan on the bundle is the plan on the manifests, but for the lines of what is there before.
    std::fs::create_dir(at.join("now")).unwrap();
    std::fs::write(at.join("now/base.yaml"), BASE.to_owned() + SERVICES).unwrap();
    for words in [questions[3], questions[5]] {
        let (code, out, _) = ferrule(at, &[words, &["--manifests", "now"]].concat());
        let offline = &before[words];
        assert_eq!((code, &out), (offline.0, &offline.1), "{words:?}");
        assert_eq!(code, Some(2));
    }
    // Endpoints follow the labels of pods, and slices.
    let plan: Value = serde_json::from_str(&before[questions[5]].1).unwrap();
    let endpoints = |service: usize| &plan["services"][service]["ports"][0]["endpoints"][0];
    assert_eq!(
        (&plan["services"][0]["service"], &plan["services"][1]["service"]),
        (&"shop/db".into(), &"shop/old".into())
    );
    let gained = endpoints(0)["gained"].as_array().unwrap();
    assert!(gained.len() == 1 && gained[0].as_str().unwrap().starts_with("shop/web ("), "{plan:#}");
    assert_eq!(endpoints(1)["gained"], serde_json::json!(["203.0.113.3:80"]), "{plan:#}");
    assert_eq!(endpoints(1)["lost"], serde_json::json!(["203.0.113.2:80"]), "{plan:#}");
}

#[test]
fn files_that_are_no_bundle_are_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let whole = r#"{"apiVersion":"ferrule.io/v1alpha1","kind":"Bundle","format":1,"versions":{},"answers":{},"aboutPods":{},"logs":{}}"#;
    for (text, said) in [
        (&whole[..whole.len() / 2], "cut short"),
        (&whole.replace("\"format\":1", "\"format\":9")[..], "use a newer ferrule"),
        ("hello", "is no bundle"),
        (whole, "holds nothing about pods"),
    ] {
        std::fs::write(folder.path().join("b"), text).unwrap();
        let (code, out, error) = ferrule(folder.path(), &["get", "pods", "--bundle", "b"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{text}");
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
    }
    let (code, _, error) = ferrule(folder.path(), &["get", "pods", "--bundle", "nowhere"]);
    assert!(code == Some(1) && error.contains("cannot read nowhere"), "{error}");
}

/// A Deployment that is not there yet: the pods that it would make, and whom they reach.
#[test]
fn workloads_are_planned_by_the_pods_that_they_would_make() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let (stop, thread) = serve(&socket);
    let workload = "apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}
---
";
    std::fs::write(folder.path().join("w.yaml"), workload.to_owned() + LOCK).unwrap();
    let controller = format!("unix:{}", socket.display());
    let ask = |words: &[&str]| {
        let plan = ["plan", "-f", "w.yaml", "--controller", &controller];
        ferrule(folder.path(), &[&plan[..], words].concat())
    };
    let (code, out, error) = ask(&[]);
    assert_eq!((code, error.as_str()), (Some(2), ""), "{out}");
    assert!(out.contains("NEW PODS\n  shop/api-0, shop/api-1, shop/api-2\n"), "{out}");
    assert!(out.contains("shop/api-* (3) → shop/db  TCP/5432\n"), "{out}");
    assert!(
        out.contains("Deployment shop/api: its 3 new pods are taken to run on the nodes in turn"),
        "{out}"
    );
    let (_, out, _) = ask(&["-o", "json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["assumed"][0]["object"], "Deployment shop/api", "{plan:#}");
    let to_db = plan["newPods"].as_array().unwrap().iter().filter(|it| {
        it["from"]["listed"].as_array().unwrap().contains(&"shop/api-0".into())
            && it["to"]["listed"].as_array().unwrap().contains(&"shop/db".into())
    });
    let to_db: Vec<&Value> = to_db.collect();
    assert_eq!(to_db.len(), 1, "{plan:#}");
    assert_eq!(
        (&to_db[0]["ports"]["text"], &to_db[0]["before"]),
        (&"TCP/5432".into(), &Value::Array(vec![]))
    );
    assert_eq!(to_db[0]["after"][0]["rule"], "ingress[0]");
    stop.send(()).unwrap();
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    thread.join().unwrap();
}
