//! How fast a change in the Kubernetes API reaches the switch of another node: a pod's binding (with the CNI call that follows it)
//! and a label, with 1,000 pods in the API. The moment at the far end is told by the switch's own flow monitor; what lies between
//! by the daemons' logs.

mod hops;

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hops::{Hop, Logs, Moment};
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
    if let Some(code) = hops::with_logs() {
        std::process::exit(code);
    }
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
    machine();
    bindings(&mut stage, &monitor);
    labels(&stage, &monitor);
    machine();
}

/// Who else wants the processors: without that no figure of milliseconds says anything.
fn machine() {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (load, pressure) = (read("/proc/loadavg"), read("/proc/pressure/cpu"));
    println!(
        "the machine's load: {}; {}",
        load.trim(),
        pressure.lines().next().unwrap_or("no pressure known")
    );
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
    let mut rounds = Vec::new();
    let mut plugging = Vec::new();
    for round in 0..BINDINGS {
        let name = format!("late-{round}");
        let mut pod = stage.unbound("shop", &name, &json!({"app": "web"}), &[]);
        pod["spec"]["nodeName"] = "node-1".into();
        let mut pods = standing.clone();
        let without: [SourceText; 2] = [nodes.clone(), stage.pods_source(&pods)];
        pods.push(pod);
        let objects: [SourceText; 2] = [nodes.clone(), stage.pods_source(&pods)];
        monitor.forget();
        let began = (Moment::now(), Instant::now());
        stage.bind("shop", &name, "node-1");
        let bound = Instant::now();
        stage.lab.run_pods(&objects).unwrap_or_else(|error| panic!("{name}: {error}"));
        plugging.push(bound.elapsed());
        let key = stage.lab.record().pods.iter().find(|(key, _)| key.name() == name);
        let address = key.and_then(|(_, pod)| pod.addresses.first().copied());
        let address = address.unwrap_or_else(|| panic!("{name} has no address: {:#?}", stage.lab.problems()));
        let there = monitor.when("ADDED", &format!("nw_src={address}"));
        rounds.push((began.0, there.0, there.1 - began.1));
        // Gone before the next one comes: nobody measures an end here.
        stage.delete(&format!("/api/v1/namespaces/shop/pods/{name}?gracePeriodSeconds=0"));
        stage.lab.run_pods(&without).unwrap_or_else(|error| panic!("{name} does not end: {error}"));
        monitor.when("DELETED", &format!("nw_src={address}"));
    }
    let what = "a pod's binding and its CNI ADD to the other node's flows";
    report(what, rounds.iter().map(|(_, _, took)| *took).collect(), BINDING_GOAL);
    println!(
        "  of which the pod's network namespace and its CNI ADD until the binary is done: {}",
        percentiles(plugging)
    );
    hops(what, &Logs::read(stage), BINDING_HOPS, &rounds);
}

fn labels(stage: &Stage, monitor: &Monitor) {
    let key = stage.lab.record().pods.iter().find(|(key, _)| key.name() == "near");
    let address = key.and_then(|(_, pod)| pod.addresses.first().copied());
    let address = address.unwrap_or_else(|| panic!("the pod has no address"));
    let flow = format!("nw_src={address}");
    let mut rounds = Vec::new();
    for round in 0..LABELS {
        let (label, event) = if round % 2 == 0 { ("none", "DELETED") } else { ("web", "ADDED") };
        monitor.forget();
        let began = (Moment::now(), Instant::now());
        stage.patch("/api/v1/namespaces/shop/pods/near", &json!({"metadata": {"labels": {"app": label}}}));
        let there = monitor.when(event, &flow);
        rounds.push((began.0, there.0, there.1 - began.1));
    }
    let what = "a label change, from its request to the API, to the other node's flows";
    report(what, rounds.iter().map(|(_, _, took)| *took).collect(), LABEL_GOAL);
    // The barrier is answered after the flow monitor has spoken.
    std::thread::sleep(Duration::from_secs(1));
    let logs = Logs::read(stage);
    hops(what, &logs, LABEL_HOPS, &rounds);
    let late = |(from, to, took): &(Moment, Moment, Duration)| {
        let to = to.later(Duration::from_millis(500));
        let passed = logs.passed(LABEL_HOPS, *from, to).filter(|_| *took < LIMIT)?;
        Some(passed.iter().skip(1).sum())
    };
    report(
        "a label change, from the watch event to the other node's barrier",
        rounds.iter().filter_map(late).collect(),
        LABEL_GOAL,
    );
}

/// The way of a pod's binding. The agent of its own node reports the address while it plugs.
const BINDING_HOPS: &[Hop] = &[
    Hop::of("API to watch event", "controller", "watch event", ("resource", "pods")),
    Hop::of("to the pod's own node", "controller", "delta sent", ("node", "node-1")),
    Hop::of("plugged, reported and settled", "controller", "delta sent", ("node", "node-2")),
    Hop::of("stream", "node-2.agent", "delta received", ("", "")),
    Hop::of("compiled", "node-2.agent", "flow-mods", ("", "")),
    Hop::of("switch, to the barrier", "node-2.agent", "flows", ("", "")),
];

const LABEL_HOPS: &[Hop] = &[
    Hop::of("API to watch event", "controller", "watch event", ("resource", "pods")),
    Hop::of("source to model", "controller", "the source has changed", ("", "")),
    Hop::of("views and delta", "controller", "delta sent", ("node", "node-2")),
    Hop::of("stream", "node-2.agent", "delta received", ("", "")),
    Hop::of("compiled", "node-2.agent", "flow-mods", ("", "")),
    Hop::of("switch, to the barrier", "node-2.agent", "flows", ("", "")),
];

fn hops(what: &str, logs: &Logs, hops: &[Hop], rounds: &[(Moment, Moment, Duration)]) {
    let passed: Vec<Vec<Duration>> = rounds
        .iter()
        .filter_map(|(from, to, _)| logs.passed(hops, *from, to.later(Duration::from_millis(500))))
        .collect();
    println!("hops of {what} ({} of {} found in the logs):", passed.len(), rounds.len());
    for (place, hop) in hops.iter().enumerate() {
        let took = passed.iter().filter_map(|passed| passed.get(place).copied()).collect();
        println!("  {:<30} {}", hop.name, percentiles(took));
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

fn percentiles(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let ms = |percent| percentile(&took, percent).as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms, {:.2} ms at most", ms(50), ms(99), ms(100))
}

fn report(what: &str, mut took: Vec<Duration>, goal: Duration) {
    took.sort_unstable();
    for percent in [50, 99] {
        let measured = percentile(&took, percent);
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
    lines: Receiver<(Moment, Instant, String)>,
}

impl Monitor {
    fn new(stage: &Stage) -> Self {
        let node = stage.lab.place_of_node(NodeIndex(2));
        let child = node.spawn(["ovs-ofctl", "-O", "OpenFlow13", "monitor", "br-int", "watch:"]);
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
                    if send.send((Moment::now(), Instant::now(), line)).is_err() {
                        return;
                    }
                }
            });
        }
        let monitor = Self { child, lines };
        // What it holds already comes first: then it watches.
        monitor.when("ADDED", "");
        monitor
    }

    fn forget(&self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// When the first such event of such a flow came; of any flow when none is named.
    fn when(&self, event: &str, flow: &str) -> (Moment, Instant) {
        let until = Instant::now() + LIMIT;
        let is_it = |line: &str| {
            line.contains(&format!("event={event}"))
                && (flow.is_empty() || line.split([',', ' ']).any(|part| part == flow))
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((at, instant, line)) if is_it(&line) => return (at, instant),
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
