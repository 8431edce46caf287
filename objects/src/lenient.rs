//! Makes a NetworkPolicy that does not decode decodable, so that it denies rather than disappears: a part that is not
//! understood, unknown fields among it, is replaced by one that matches nothing. Knows the shape, not the meaning.
//! (A ClusterNetworkPolicy decodes whatever it says: [`crate::cluster_policy`].)

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::problem::{Fault, RuleFault, RulePart};

/// Something that was not understood.
pub(crate) struct Repair {
    /// The path of the part that was replaced, or of the field that is ignored.
    pub(crate) part: String,
    /// The path of the field that is at fault, in that part.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) fault: Fault,
}

impl Repair {
    fn new(part: impl Into<String>, below: &str, fault: Fault) -> Self {
        let part = part.into();
        Self { field: join(&part, below), part, fault }
    }
}

/// Repairs `spec` in place and tells what was not understood. Fields of `namespace` only name it in messages.
pub(crate) fn repair(policy: &mut Map<String, Value>, namespace: &str) -> Vec<Repair> {
    let mut faults = Vec::new();
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for name in policy.keys().filter(|key| !known.contains(&key.as_str())) {
        faults.push(Repair::new(name, "", Fault::UnknownField { name: name.clone() }));
    }
    let spec = policy.entry("spec").or_insert(Value::Null);
    if spec.is_null() {
        *spec = json!({});
    }
    let subject = |part: &str, below: &str, reason| {
        Repair::new(part, below, Fault::SubjectNotUnderstood { reason, namespace: namespace.to_owned() })
    };
    let Value::Object(fields) = spec else {
        let reason = wrong_type(spec, "a map");
        *spec = json!({"podSelector": nobody(), "policyTypes": both()});
        faults.push(subject("spec", "", reason));
        return faults;
    };
    if let Some(selector) = fields.get_mut("podSelector")
        && let Err((below, reason)) = check_selector(selector)
    {
        *selector = nobody();
        faults.push(subject("spec.podSelector", &below, reason));
    }
    repair_directions(fields, &mut faults);
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        let Some(rules) = fields.get_mut(list).filter(|rules| !rules.is_null()) else { continue };
        let Value::Array(rules) = rules else {
            let reason = wrong_type(rules, "a list of rules");
            *rules = json!([{ peers: [{}] }]);
            faults.push(Repair::new(format!("spec.{list}"), "", nothing(reason, RulePart::Rule)));
            continue;
        };
        for (index, rule) in rules.iter_mut().enumerate() {
            repair_rule(rule, peers, &format!("spec.{list}[{index}]"), &mut faults);
        }
    }
    faults
}

/// A policy isolates in both directions when its own words about it are not understood. Without `policyTypes` an unknown
/// field might have been a list of rules, so it counts as such words.
fn repair_directions(fields: &mut Map<String, Value>, faults: &mut Vec<Repair>) {
    let known = ["podSelector", "policyTypes", "ingress", "egress"];
    let unknown: Vec<String> = fields.keys().filter(|key| !known.contains(&key.as_str())).cloned().collect();
    let stated = match fields.get("policyTypes") {
        Some(Value::Array(types)) => !types.is_empty(),
        Some(Value::Null) | None => false,
        Some(_) => true,
    };
    for name in unknown {
        let path = format!("spec.{name}");
        if stated {
            faults.push(Repair::new(path, "", Fault::UnknownField { name }));
        } else {
            let reason = RuleFault::Field { name, known: known.join(", ") };
            faults.push(Repair::new(path, "", Fault::DirectionsNotUnderstood { reason }));
            fields.insert("policyTypes".into(), both());
        }
    }
    if let Some(types) = fields.get_mut("policyTypes")
        && let Err((below, reason)) = decodes::<Option<Vec<String>>>(types)
    {
        *types = both();
        let fault = Fault::DirectionsNotUnderstood { reason: RuleFault::Type(reason) };
        faults.push(Repair::new("spec.policyTypes", &below, fault));
    }
}

fn repair_rule(rule: &mut Value, peers: &str, path: &str, faults: &mut Vec<Repair>) {
    let fault = match &*rule {
        Value::Object(fields) => unknown_field(fields, &[peers, "ports"])
            .map(|name| (name.clone(), field_fault(&name, &[peers, "ports"]))),
        other => Some((String::new(), wrong_type(other, "a map"))),
    };
    if let Some((below, reason)) = fault {
        *rule = json!({ peers: [{}] });
        faults.push(Repair::new(path, &below, nothing(reason, RulePart::Rule)));
        return;
    }
    let Value::Object(fields) = rule else { return };
    match fields.get_mut(peers) {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for (index, peer) in list.iter_mut().enumerate() {
                if let Err((below, reason)) = check_peer(peer) {
                    *peer = json!({});
                    let part = format!("{path}.{peers}[{index}]");
                    faults.push(Repair::new(part, &below, nothing(reason, RulePart::Peer)));
                }
            }
        }
        Some(other) => {
            let reason = wrong_type(other, "a list of peers");
            *other = json!([{}]);
            faults.push(Repair::new(format!("{path}.{peers}"), "", nothing(reason, RulePart::Rule)));
        }
    }
    match fields.get_mut("ports") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for (index, port) in list.iter_mut().enumerate() {
                if let Err((below, reason)) = check_port(port) {
                    *port = no_port();
                    let part = format!("{path}.ports[{index}]");
                    faults.push(Repair::new(part, &below, nothing(reason, RulePart::Port)));
                }
            }
        }
        Some(other) => {
            let reason = wrong_type(other, "a list of ports");
            *other = json!([no_port()]);
            faults.push(Repair::new(format!("{path}.ports"), "", nothing(reason, RulePart::Rule)));
        }
    }
}

/// Understood, or the path of the field at fault and what is wrong with it.
pub(crate) type Checked = Result<(), (String, RuleFault)>;

fn check_peer(peer: &Value) -> Checked {
    let known = ["podSelector", "namespaceSelector", "ipBlock"];
    let fields = map_of(peer, &known)?;
    for name in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = fields.get(name) {
            check_selector(selector).map_err(|(below, reason)| (join(name, &below), reason))?;
        }
    }
    if let Some(block) = fields.get("ipBlock").filter(|block| !block.is_null()) {
        let inside = |(below, reason): (String, RuleFault)| (join("ipBlock", &below), reason);
        map_of(block, &["cidr", "except"]).map_err(inside)?;
        decodes::<IPBlock>(block).map_err(|(below, reason)| inside((below, RuleFault::Type(reason))))?;
    }
    Ok(())
}

fn check_port(port: &Value) -> Checked {
    map_of(port, &["protocol", "port", "endPort"])?;
    decodes::<NetworkPolicyPort>(port).map_err(|(below, reason)| (below, RuleFault::Type(reason)))
}

pub(crate) fn check_selector(selector: &Value) -> Checked {
    if selector.is_null() {
        return Ok(());
    }
    let fields = map_of(selector, &["matchLabels", "matchExpressions"])?;
    if let Some(Value::Array(requirements)) = fields.get("matchExpressions") {
        for (index, requirement) in requirements.iter().enumerate() {
            let inside = |(below, reason): (String, RuleFault)| {
                (join(&format!("matchExpressions[{index}]"), &below), reason)
            };
            map_of(requirement, &["key", "operator", "values"]).map_err(inside)?;
            decodes::<LabelSelectorRequirement>(requirement)
                .map_err(|(below, reason)| inside((below, RuleFault::Type(reason))))?;
        }
    }
    decodes::<LabelSelector>(selector).map_err(|(below, reason)| (below, RuleFault::Type(reason)))
}

pub(crate) fn map_of<'a>(
    value: &'a Value,
    known: &[&str],
) -> Result<&'a Map<String, Value>, (String, RuleFault)> {
    let Value::Object(fields) = value else { return Err((String::new(), wrong_type(value, "a map"))) };
    match unknown_field(fields, known) {
        Some(name) => Err((name.clone(), field_fault(&name, known))),
        None => Ok(fields),
    }
}

fn decodes<T: DeserializeOwned>(value: &Value) -> Result<(), (String, String)> {
    decode::<T>(value.clone()).map(|_| ())
}

/// Decodes a value; the error is the path of the field and the reason.
pub(crate) fn decode<T: DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        (path, error.into_inner().to_string())
    })
}

fn unknown_field(fields: &Map<String, Value>, known: &[&str]) -> Option<String> {
    fields.keys().find(|key| !known.contains(&key.as_str())).cloned()
}

fn field_fault(name: &str, known: &[&str]) -> RuleFault {
    RuleFault::Field { name: name.to_owned(), known: known.join(", ") }
}

pub(crate) fn wrong_type(found: &Value, wanted: &str) -> RuleFault {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    RuleFault::Type(format!("{found} stands where {wanted} belongs"))
}

fn nothing(reason: RuleFault, part: RulePart) -> Fault {
    Fault::NotUnderstood { reason, part }
}

fn both() -> Value {
    json!(["Ingress", "Egress"])
}

/// A selector that no translation accepts.
fn nobody() -> Value {
    json!({"matchExpressions": [{"key": "", "operator": ""}]})
}

/// A port that no translation accepts.
fn no_port() -> Value {
    json!({"port": -1})
}

pub(crate) fn join(path: &str, below: &str) -> String {
    match below {
        "" => path.to_owned(),
        below if path.is_empty() || below.starts_with('[') => format!("{path}{below}"),
        below => format!("{path}.{below}"),
    }
}
