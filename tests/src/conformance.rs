//! The conformance suite of ClusterNetworkPolicy (sigs.k8s.io/network-policy-api v0.2.0, `conformance/tests`), recorded: what
//! is in force in every subtest, after the changes that it makes, and who must reach whom. Knows no engine.

use network::NamespacedName;
use network::matrix::ServedPort;
use serde::Deserialize;
use serde_json::Value;

/// Every subtest in a line: its policies (left out when the subtest before it had the same) and its probes.
const RECORDED: &str = include_str!("../tests/policy/conformance.jsonl");

/// The suite's namespaces, without their common prefix, and the StatefulSet of two in each.
const HOUSES: [(&str, &str); 5] = [
    ("gryffindor", "harry-potter"),
    ("slytherin", "draco-malfoy"),
    ("hufflepuff", "cedric-diggory"),
    ("ravenclaw", "luna-lovegood"),
    ("forbidden-forrest", "centaur"),
];
const PREFIX: &str = "network-policy-conformance-";

/// A subtest.
#[derive(Clone, Debug)]
pub struct Subtest {
    /// The test's short name and the subtest's sentence.
    pub name: String,
    /// What is in force.
    pub policies: Vec<Value>,
    /// Who tries to reach whom.
    pub probes: Vec<Probe>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The client.
    pub from: NamespacedName,
    /// The server.
    pub to: NamespacedName,
    /// Where.
    pub port: ServedPort,
    /// Whether it must come through.
    pub passes: bool,
}

#[derive(Deserialize)]
struct Line {
    test: String,
    subtest: String,
    policies: Option<Vec<Value>>,
    pokes: Vec<(String, String, ServedPort, bool)>,
}

/// All subtests in their order.
///
/// # Panics
/// When the record is not what it should be.
pub fn subtests() -> Vec<Subtest> {
    let mut policies = Vec::new();
    let subtest = |line: &str| {
        let line: Line = serde_json::from_str(line).unwrap_or_else(|error| panic!("the record: {error}"));
        if let Some(changed) = line.policies {
            policies = changed;
        }
        let pod = |text: &str| {
            let (house, name) = text.split_once('/').unwrap_or_else(|| panic!("no pod: {text}"));
            NamespacedName::new(format!("{PREFIX}{house}"), name)
        };
        let probe = |(from, to, port, passes): (String, String, ServedPort, bool)| Probe {
            from: pod(&from),
            to: pod(&to),
            port,
            passes,
        };
        Subtest {
            name: format!("{}: {}", line.test, line.subtest),
            policies: policies.clone(),
            probes: line.pokes.into_iter().map(probe).collect(),
        }
    };
    RECORDED.lines().map(subtest).collect()
}

/// The suite's namespaces and pods as manifests. Those of the forbidden forrest live on their nodes' network.
pub fn world() -> String {
    let mut text = String::new();
    for (house, name) in HOUSES {
        let host = house == "forbidden-forrest";
        // The suite's containers listen on more ports than they declare; for a policy a port without a name is none.
        let ports = match host {
            false => {
                "[{containerPort: 80, name: web}, {containerPort: 8080}, {containerPort: 53, protocol: UDP, name: dns}, \
                 {containerPort: 5353, protocol: UDP}, {containerPort: 9003, protocol: SCTP}, {containerPort: 9005, protocol: SCTP}]"
            }
            true => {
                "[{containerPort: 34340}, {containerPort: 34341}, {containerPort: 34342, protocol: UDP}, \
                 {containerPort: 34344, protocol: UDP}, {containerPort: 34346, protocol: SCTP}]"
            }
        };
        text.push_str(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {PREFIX}{house}\n  labels: {{conformance-house: {house}}}\n---\n\
             apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: {name}, namespace: {PREFIX}{house}}}\nspec:\n  replicas: 2\n  \
             selector: {{matchLabels: {{conformance-house: {house}}}}}\n  template:\n    metadata:\n      labels: \
             {{conformance-house: {house}}}\n    spec:\n      hostNetwork: {host}\n      containers:\n      - name: server\n        ports: {ports}\n---\n"
        ));
    }
    text
}

/// The policies as manifests, with the addresses that pods have by now where the suite writes them into a rule.
pub fn manifests(
    policies: &[Value],
    address_of: impl Fn(&NamespacedName) -> Vec<std::net::IpAddr>,
) -> String {
    let documents = policies.iter().cloned().map(|mut policy| {
        fill_in(&mut policy, &address_of);
        policy.to_string()
    });
    documents.collect::<Vec<_>>().join("\n---\n")
}

/// `address of HOUSE/POD` in a list becomes the prefixes of that pod's addresses.
fn fill_in(value: &mut Value, address_of: &impl Fn(&NamespacedName) -> Vec<std::net::IpAddr>) {
    match value {
        Value::Array(items) => {
            let filled = std::mem::take(items).into_iter().flat_map(|mut item| {
                let pod = item.as_str().and_then(|text| text.strip_prefix("address of ")?.split_once('/'));
                let Some((house, name)) = pod else {
                    fill_in(&mut item, address_of);
                    return vec![item];
                };
                let addresses = address_of(&NamespacedName::new(format!("{PREFIX}{house}"), name));
                let prefix = |address: std::net::IpAddr| {
                    Value::String(format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }))
                };
                addresses.into_iter().map(prefix).collect()
            });
            *items = filled.collect();
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| fill_in(field, address_of)),
        _ => {}
    }
}
