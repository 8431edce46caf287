//! Policy scenarios (one JSON object per line, or one alone) into networks: `id`, `namespaces` (name → labels), `pods`
//! (namespace, name, labels, ip, ports, hostNetwork), `policies` (NetworkPolicies and ClusterNetworkPolicies), `order`, and perhaps the
//! expected `table`.
//! The pods stand on two nodes: those at an even place in `order` on `node-1`, those at an odd one on `node-2`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use network::matrix::{Entry, Matrix, MatrixId, Participant, predict};
use network::{Labels, NamedPort, NamespacedName, Network, Node, NodeName, Pod, Protocol};
use serde::Deserialize;
use serde_json::Value;

use crate::lenient;
use crate::offline::{Families, hand_out, numbered_nodes_apart, widened};
use crate::problem::{Fault, Problem, Source};
use crate::read::lone_policies;
use crate::translate::{namespace_labels, translate};
use crate::yaml::SourceText;

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its id, given back as it came.
    pub id: Option<MatrixId>,
    /// Its pods, in the order of rows and columns.
    pub order: Vec<NamespacedName>,
    /// Its network, complete with nodes and addresses.
    pub network: Network,
    /// The expected matrix, where it holds one.
    pub expected: Option<Matrix>,
}

impl Scenario {
    /// The pods, as rows and columns of a prediction.
    pub fn participants(&self) -> Vec<Participant> {
        self.order.iter().filter_map(|key| self.network.pods.get(key)).map(Participant::pod).collect()
    }

    /// What the reference evaluator predicts.
    pub fn predict(&self) -> Matrix {
        let mut matrix = predict(&self.network, &self.participants());
        matrix.id = self.id.clone();
        matrix
    }
}

/// Reads the scenarios of a text; a line that is none is a problem, the others are read.
pub fn scenarios(text: &SourceText) -> (Vec<Scenario>, Vec<Problem>) {
    let file: Arc<str> = text.name.as_str().into();
    let mut problems = Vec::new();
    let source = |line: usize| Source {
        file: file.clone(),
        line: u32::try_from(line + 1).unwrap_or(u32::MAX),
        column: 1,
    };
    // A scenario may also stand alone over several lines.
    if let Ok(whole) = serde_json::from_str::<Value>(&text.text) {
        let scenario = scenario(whole, &source(0), &mut problems);
        return (scenario.into_iter().collect(), problems);
    }
    let mut scenarios = Vec::new();
    for (number, line) in text.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str::<Value>(line) {
            Ok(value) => scenarios.extend(scenario(value, &source(number), &mut problems)),
            Err(error) => problems.push(Problem {
                object: None,
                source: Some(source(number)),
                field: None,
                fault: Fault::Unreadable { reason: error.to_string() },
            }),
        }
    }
    (scenarios, problems)
}

#[derive(Deserialize)]
struct Raw {
    id: Option<MatrixId>,
    #[serde(default)]
    namespaces: BTreeMap<String, Option<Labels>>,
    #[serde(default)]
    pods: Vec<RawPod>,
    #[serde(default)]
    policies: Vec<Value>,
    order: Option<Vec<NamespacedName>>,
    table: Option<Value>,
}

#[derive(Deserialize)]
struct RawPod {
    #[serde(default = "default_namespace")]
    namespace: String,
    name: String,
    labels: Option<Labels>,
    ip: Option<IpAddr>,
    ips: Option<Vec<IpAddr>>,
    ports: Option<Vec<RawPort>>,
    #[serde(default, rename = "hostNetwork")]
    host_network: bool,
}

/// What a scenario has, and what a pod of it has. Other fields are told: who wrote them meant something by them.
const FIELDS: [&str; 6] = ["id", "namespaces", "pods", "policies", "order", "table"];
const POD_FIELDS: [&str; 7] = ["namespace", "name", "labels", "ip", "ips", "ports", "hostNetwork"];

fn unknown_fields(value: &Value, source: &Source) -> Vec<Problem> {
    let mut unknown = Vec::new();
    let mut look = |value: &Value, path: &str, known: &[&str]| {
        for name in value.as_object().into_iter().flat_map(|fields| fields.keys()) {
            if !known.contains(&name.as_str()) {
                let field = Some(lenient::join(path, name));
                let fault = Fault::UnknownField { name: name.clone() };
                unknown.push(Problem { object: None, source: Some(source.clone()), field, fault });
            }
        }
    };
    look(value, "", &FIELDS);
    for (index, pod) in value.get("pods").and_then(Value::as_array).into_iter().flatten().enumerate() {
        look(pod, &format!("pods[{index}]"), &POD_FIELDS);
    }
    unknown
}

fn default_namespace() -> String {
    "default".into()
}

#[derive(Deserialize)]
struct RawPort {
    name: Option<String>,
    #[serde(default)]
    protocol: Protocol,
    #[serde(alias = "containerPort", alias = "number")]
    port: u16,
}

fn scenario(value: Value, source: &Source, problems: &mut Vec<Problem>) -> Option<Scenario> {
    problems.extend(unknown_fields(&value, source));
    let decoded = match value {
        Value::Object(_) => lenient::decode(value),
        _ => Err((String::new(), "a scenario is a JSON object".to_owned())),
    };
    let raw: Raw = match decoded {
        Ok(raw) => raw,
        Err((field, reason)) => {
            let fault = Fault::Unreadable { reason };
            let field = (!field.is_empty()).then_some(field);
            problems.push(Problem { object: None, source: Some(source.clone()), field, fault });
            return None;
        }
    };
    let mut pods: BTreeMap<NamespacedName, Pod> = BTreeMap::new();
    let mut listed = Vec::new();
    for pod in raw.pods {
        let pod = pod.into_pod();
        listed.push(pod.key.clone());
        pods.insert(pod.key.clone(), pod);
    }
    let order = order(raw.order, listed, &pods);
    let addresses: BTreeSet<IpAddr> = pods.values().flat_map(|pod| pod.addresses.iter().copied()).collect();
    let nodes: Vec<Node> = numbered_nodes_apart(2, Families::of(&addresses), &addresses);
    for (index, key) in order.iter().enumerate() {
        if let Some(pod) = pods.get_mut(key) {
            pod.node = Some(NodeName::new(if index % 2 == 0 { "node-1" } else { "node-2" }));
        }
    }
    let mut pods: Vec<Pod> = pods.into_values().collect();
    problems.extend(hand_out(&mut pods, &nodes).into_iter().map(|mut p| {
        p.source = Some(source.clone());
        p
    }));
    let nodes = widened(&nodes, &pods);
    let (objects, more) = lone_policies(raw.policies, source);
    problems.extend(more);
    let (mut network, more) = translate(&objects, &nodes, &pods);
    problems.extend(more.into_iter().map(|p| Problem { source: Some(source.clone()), ..p }));
    for (name, labels) in raw.namespaces {
        let mut all = namespace_labels(&name, None);
        all.extend(labels.unwrap_or_default());
        network.namespaces.insert(name, all);
    }
    let entries = || order.iter().cloned().map(Entry::Pod).collect();
    let expected = match raw.table.map(lenient::decode) {
        None => None,
        Some(Ok(table)) => Some(Matrix { id: raw.id.clone(), order: entries(), table }),
        Some(Err((below, reason))) => {
            let field = Some(lenient::join("table", &below));
            let fault = Fault::Unreadable { reason };
            problems.push(Problem { object: None, source: Some(source.clone()), field, fault });
            None
        }
    };
    Some(Scenario { id: raw.id, order, network, expected })
}

/// The order that the scenario gives, then the pods that it leaves out; without one, the order of its pods.
fn order(
    given: Option<Vec<NamespacedName>>,
    listed: Vec<NamespacedName>,
    pods: &BTreeMap<NamespacedName, Pod>,
) -> Vec<NamespacedName> {
    let mut seen = BTreeSet::new();
    let all = given.into_iter().flatten().chain(listed);
    all.filter(|key| pods.contains_key(key) && seen.insert(key.clone())).collect()
}

impl RawPod {
    fn into_pod(self) -> Pod {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in self.ip.into_iter().chain(self.ips.into_iter().flatten()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let ports = self.ports.into_iter().flatten();
        let key = NamespacedName::new(self.namespace, self.name);
        Pod {
            uid: format!("scenario {key}"),
            node: None,
            labels: self.labels.unwrap_or_default().into(),
            addresses,
            host_network: self.host_network,
            completed: false,
            ports: ports.map(|p| NamedPort { name: p.name, protocol: p.protocol, number: p.port }).collect(),
            key,
        }
    }
}
