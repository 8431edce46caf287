//! How fast a change in the Kubernetes API reaches the switch of another node: a pod's binding (with the CNI call that follows it)
//! and a label, with 1,000 pods in the API. The moment at the far end is told by the switch's own flow monitor.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lab::NodeIndex;
use objects::SourceText;
use serde_json::{Value, json};
use tests::cluster::Stage;

/// Pods in the API, most of them on nodes that are only objects.
const PODS: usize = 1000;
const PODS_PER_NODE: usize = 100;
const BINDINGS: usize = 40;
const LABELS: usize = 100;
const BINDING_GOAL: Duration = Duration::from_millis(100);
const LABEL_GOAL: Duration = Duration::from_millis(20);
/// A change that takes longer is lost.
const LIMIT: Duration = Duration::from_secs(20);

fn main() {
    let Some(mut stage) = Stage::new("bench cluster") else { return };
    furnish(&stage);
    stage.pod("shop", "near", &json!({"app": "web"}), "node-1", &[80]);
    stage.pod("shop", "far", &json!({"app": "web"}), "node-2", &[80]);
    stage.kubelets();
    stage.create(
        "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies",
        &tests::cluster::only("web", "web", "web"),
    );
    stage.agrees(&format!("{PODS} pods and a policy that selects and allows them all"));
    let monitor = Monitor::new(&stage);
    bindings(&mut stage, &monitor);
    labels(&stage, &monitor);
}

/// Nodes that are only objects, and pods on them that have addresses.
fn furnish(stage: &Stage) {
    stage.namespace("shop", &json!({}));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for node in 0..PODS / PODS_PER_NODE {
            scope.spawn(move || {
                let name = format!("object-{node}");
                stage.create(
                    "/api/v1/nodes",
                    &json!({
                        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                        "spec": {"podCIDR": format!("10.244.{}.0/24", 100 + node)},
                        "status": {"addresses": [{"type": "InternalIP", "address": format!("172.28.0.{}", node + 1)}]},
                    }),
                );
                for pod in 0..PODS_PER_NODE {
                    let (pod, ip) = (format!("{name}-{pod}"), format!("10.244.{}.{}", 100 + node, pod + 2));
                    stage.pod("shop", &pod, &json!({"app": "web"}), &name, &[80]);
                    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
                    stage.patch(&format!("/api/v1/namespaces/shop/pods/{pod}/status"), &status);
                }
            });
        }
    });
    eprintln!("{:>8.2?}  {PODS} pods are in the API", began.elapsed());
}

fn bindings(stage: &mut Stage, monitor: &Monitor) {
    let standing: Vec<Value> = ["near", "far"].iter().map(|name| stage.get_pod("shop", name)).collect();
    let nodes = stage.nodes();
    let mut took = Vec::new();
    for round in 0..BINDINGS {
        let name = format!("late-{round}");
        let mut pod = stage.unbound("shop", &name, &json!({"app": "web"}), &[80]);
        pod["spec"]["nodeName"] = "node-1".into();
        let mut pods = standing.clone();
        pods.push(pod);
        let objects: [SourceText; 2] = [nodes.clone(), stage.pods_source(&pods)];
        monitor.forget();
        let began = Instant::now();
        stage.bind("shop", &name, "node-1");
        stage.lab.run_pods(&objects).unwrap_or_else(|error| panic!("{name}: {error}"));
        let key = stage.lab.record().pods.iter().find(|(key, _)| key.name == name);
        let address = key.and_then(|(_, pod)| pod.addresses.first().copied());
        let address = address.unwrap_or_else(|| panic!("{name} has no address: {:#?}", stage.lab.problems()));
        took.push(monitor.when("ADDED", &format!("nw_src={address}")) - began);
        stage.delete(&format!("/api/v1/namespaces/shop/pods/{name}?gracePeriodSeconds=0"));
    }
    report("a pod's binding and its CNI ADD to the other node's flows", took, BINDING_GOAL);
}

fn labels(stage: &Stage, monitor: &Monitor) {
    let key = stage.lab.record().pods.iter().find(|(key, _)| key.name == "near");
    let address = key.and_then(|(_, pod)| pod.addresses.first().copied());
    let address = address.unwrap_or_else(|| panic!("the pod has no address"));
    let flow = format!("nw_src={address}");
    let (mut from_request, mut from_answer) = (Vec::new(), Vec::new());
    for round in 0..LABELS {
        let (label, event) = if round % 2 == 0 { ("none", "DELETED") } else { ("web", "ADDED") };
        monitor.forget();
        let began = Instant::now();
        stage.patch("/api/v1/namespaces/shop/pods/near", &json!({"metadata": {"labels": {"app": label}}}));
        let answered = Instant::now();
        let there = monitor.when(event, &flow);
        from_request.push(there - began);
        from_answer.push(there.saturating_duration_since(answered));
    }
    report(
        "a label change, from its request to the API, to the other node's flows",
        from_request,
        LABEL_GOAL,
    );
    report(
        "a label change, from the API's answer (about when the watch event is sent), to the other node's flows",
        from_answer,
        LABEL_GOAL,
    );
}

fn report(what: &str, mut took: Vec<Duration>, goal: Duration) {
    took.sort_unstable();
    for percent in [50, 99] {
        let at = (took.len() * percent).div_ceil(100).max(1) - 1;
        let measured = took[at];
        println!(
            "ratio: {what}, {PODS} pods, p{percent} of {}: {:.1} ms, {:.2} of the goal of {:.0} ms",
            took.len(),
            measured.as_secs_f64() * 1e3,
            measured.as_secs_f64() / goal.as_secs_f64(),
            goal.as_secs_f64() * 1e3
        );
    }
}

/// `ovs-ofctl monitor` on the other node: each line with the moment at which it came.
struct Monitor {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Monitor {
    fn new(stage: &Stage) -> Self {
        let node = stage.lab.place_of_node(NodeIndex(2));
        let child = node.spawn(["ovs-ofctl", "-O", "OpenFlow13", "monitor", "br-int", "watch:!initial"]);
        let mut child = child.unwrap_or_else(|error| panic!("cannot watch the switch: {error}"));
        // ovs-ofctl prints what it was told on standard error.
        let streams = [
            child.stdout.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>),
            child.stderr.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>),
        ];
        let (send, lines) = channel();
        for stream in streams.into_iter().flatten() {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if send.send((Instant::now(), line)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines }
    }

    fn forget(&self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// When the first such event of such a flow came.
    fn when(&self, event: &str, flow: &str) -> Instant {
        let until = Instant::now() + LIMIT;
        let is_it = |line: &str| {
            line.contains(&format!("event={event}")) && line.split([',', ' ']).any(|part| part == flow)
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((at, line)) if is_it(&line) => return at,
                Ok(_) => {}
                Err(_) => panic!("no {event} of {flow} within {LIMIT:?}"),
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
