//! The shape of a ClusterNetworkPolicy's parts as its CRD wants it: which fields, how many of them, which numbers. What the
//! fields mean is the translation's.

use serde_json::{Map, Value};

use super::MOST_ITEMS;
use crate::lenient::{Checked, check_selector, join, map_of, wrong_type};
use crate::problem::RuleFault;

/// Checks one part.
pub(super) type Shape = fn(&Value) -> Checked;

type Fields = Map<String, Value>;

fn fault(reason: RuleFault) -> Checked {
    Err((String::new(), reason))
}

fn below(name: &str) -> impl Fn((String, RuleFault)) -> (String, RuleFault) {
    move |(field, reason)| (join(name, &field), reason)
}

pub(super) fn tier(value: &Value) -> Checked {
    one_of(value, "the tier", &["Admin", "Baseline"])
}

/// A number from 0 to 1000.
pub(super) fn priority(value: &Value) -> Checked {
    match value {
        Value::Number(number) if number.as_u64().is_some_and(|n| n <= 1_000) => Ok(()),
        Value::Null => fault(RuleFault::Missing("priority")),
        other => fault(RuleFault::Priority(other.to_string())),
    }
}

fn one_of(value: &Value, what: &'static str, known: &[&str]) -> Checked {
    match value {
        Value::String(text) if known.contains(&text.as_str()) => Ok(()),
        Value::Null => fault(RuleFault::Missing(what)),
        other => fault(RuleFault::NotOneOf { what, found: other.to_string(), known: known.join(", ") }),
    }
}

pub(super) fn subject(value: &Value) -> Checked {
    let fields = exactly_one(value, &["namespaces", "pods"])?;
    pods_of(fields)
}

/// The two ways to select pods, in a subject as in a peer.
fn pods_of(fields: &Fields) -> Checked {
    if let Some(selector) = fields.get("namespaces") {
        check_selector(selector).map_err(below("namespaces"))?;
    }
    let Some(pods) = fields.get("pods").filter(|pods| !pods.is_null()) else { return Ok(()) };
    let inside = below("pods");
    let pods = map_of(pods, &["namespaceSelector", "podSelector"]).map_err(&inside)?;
    for name in ["namespaceSelector", "podSelector"] {
        match pods.get(name).filter(|selector| !selector.is_null()) {
            Some(selector) => check_selector(selector).map_err(below(name)).map_err(&inside)?,
            None if name == "podSelector" => return Err(inside((String::new(), RuleFault::Missing(name)))),
            None => {}
        }
    }
    Ok(())
}

pub(super) fn ingress_rule(value: &Value) -> Checked {
    rule(value, "from", &["namespaces", "pods"])
}

pub(super) fn egress_rule(value: &Value) -> Checked {
    let peers = ["namespaces", "pods", "nodes", "networks", "domainNames"];
    let checked = rule(value, "to", &peers);
    checked?;
    // The CRD's own rule: "networks/nodes/domainNames peer cannot be set with namedPorts".
    let items = |list: &str| value.get(list).and_then(Value::as_array).into_iter().flatten();
    let nameless = |peer: &Value| ["nodes", "networks", "domainNames"].iter().any(|n| peer.get(*n).is_some());
    let named = |entry: &Value| entry.get("destinationNamedPort").is_some();
    if items("to").any(nameless) && items("protocols").any(named) {
        return Err(("protocols".to_owned(), RuleFault::NamedPortWithoutPods));
    }
    Ok(())
}

fn rule(value: &Value, peers: &str, kinds: &[&str]) -> Checked {
    let fields = map_of(value, &["name", "action", peers, "protocols"])?;
    let action = fields.get("action").unwrap_or(&Value::Null);
    one_of(action, "the action", &["Accept", "Deny", "Pass"]).map_err(below("action"))?;
    let list = fields.get(peers).unwrap_or(&Value::Null);
    items(list, "peers", |entry| peer(entry, kinds)).map_err(below(peers))?;
    match fields.get("protocols") {
        None | Some(Value::Null) => Ok(()),
        Some(list) => items(list, "protocols", protocol).map_err(below("protocols")),
    }
}

/// A list of 1 to 25 items.
fn items(list: &Value, what: &'static str, check: impl Fn(&Value) -> Checked) -> Checked {
    let items = match list {
        Value::Array(items) => items,
        Value::Null => return fault(RuleFault::NoItems(what)),
        other => return fault(wrong_type(other, "a list")),
    };
    match items.len() {
        0 => return fault(RuleFault::NoItems(what)),
        found if found > MOST_ITEMS => return fault(RuleFault::TooMany { what, most: MOST_ITEMS, found }),
        _ => {}
    }
    items.iter().enumerate().try_for_each(|(index, item)| check(item).map_err(below(&format!("[{index}]"))))
}

/// The items of a list that is a set.
fn distinct(list: &Value) -> Checked {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    match items.iter().enumerate().find(|(index, item)| items[..*index].contains(item)) {
        Some((index, twice)) => Err((format!("[{index}]"), RuleFault::Twice(twice.to_string()))),
        None => Ok(()),
    }
}

/// A map in which exactly one field is set.
fn exactly_one<'a>(value: &'a Value, known: &[&str]) -> Result<&'a Fields, (String, RuleFault)> {
    if value.is_null() {
        return Err((String::new(), RuleFault::NotOne { found: 0, known: known.join(", ") }));
    }
    let fields = map_of(value, known)?;
    match fields.values().filter(|field| !field.is_null()).count() {
        1 => Ok(fields),
        found => Err((String::new(), RuleFault::NotOne { found, known: known.join(", ") })),
    }
}

fn peer(value: &Value, kinds: &[&str]) -> Checked {
    let fields = exactly_one(value, kinds)?;
    pods_of(fields)?;
    if let Some(selector) = fields.get("nodes") {
        check_selector(selector).map_err(below("nodes"))?;
    }
    let text = |entry: &Value| match entry {
        Value::String(_) => Ok(()),
        other => fault(wrong_type(other, "a text")),
    };
    for (name, what) in [("networks", "networks"), ("domainNames", "domain names")] {
        if let Some(list) = fields.get(name).filter(|list| !list.is_null()) {
            items(list, what, text).and_then(|()| distinct(list)).map_err(below(name))?;
        }
    }
    Ok(())
}

fn protocol(value: &Value) -> Checked {
    let fields = exactly_one(value, &["tcp", "udp", "sctp", "destinationNamedPort"])?;
    for name in ["tcp", "udp", "sctp"] {
        let Some(value) = fields.get(name).filter(|value| !value.is_null()) else { continue };
        let port = exactly_one(value, &["destinationPort"]).and_then(|fields| {
            fields.get("destinationPort").map_or(Ok(()), port).map_err(below("destinationPort"))
        });
        port.map_err(below(name))?;
    }
    Ok(())
}

fn port(value: &Value) -> Checked {
    let fields = exactly_one(value, &["number", "range"])?;
    match fields.get("range").filter(|range| !range.is_null()) {
        Some(range) => map_of(range, &["start", "end"]).map(|_| ()).map_err(below("range")),
        None => Ok(()),
    }
}
