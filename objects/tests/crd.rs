//! What the CRD of ClusterNetworkPolicy refuses is a problem here, and what it takes is none: on random policies, against the
//! definition that an API server would have (`deploy/chart/crds`).

use objects::offline::{Families, network, numbered_nodes};
use objects::{Fault, Problem, RuleFault, SourceText, read};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The schema of `spec`.
fn schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/chart/crds/clusternetworkpolicies.yaml");
    let text = std::fs::read_to_string(path).expect("the CRD");
    let crd: Value = serde_saphyr::from_str(&text).expect("YAML");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Structural schemas as an API server checks them, as far as this CRD uses them. A field that the schema does not have is
/// refused too, as `kubectl` does; a known one that is null is not there.
fn refuses(schema: &Value, value: &Value, path: &str) -> Option<String> {
    let refused = |why: &str| Some(format!("{path}: {why}"));
    let number = |key: &str| schema[key].as_i64();
    let has_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        other => panic!("{path}: the schema has type {other:?}"),
    };
    if !has_type {
        return refused("wrong type");
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        return refused("not in enum");
    }
    match value {
        Value::Number(n) => {
            let n = n.as_i64().expect("an integer");
            if number("minimum").is_some_and(|least| n < least)
                || number("maximum").is_some_and(|most| n > most)
            {
                return refused("out of range");
            }
        }
        Value::String(text) => {
            if number("maxLength").is_some_and(|most| text.chars().count() as i64 > most) {
                return refused("too long");
            }
        }
        Value::Array(items) => {
            let length = items.len() as i64;
            if number("minItems").is_some_and(|least| length < least)
                || number("maxItems").is_some_and(|most| length > most)
            {
                return refused("number of items");
            }
            if schema["x-kubernetes-list-type"] == "set"
                && items.iter().enumerate().any(|(index, item)| items[..index].contains(item))
            {
                return refused("twice in a set");
            }
            let mut items = items.iter().enumerate();
            if let Some(why) =
                items.find_map(|(index, item)| refuses(&schema["items"], item, &format!("{path}[{index}]")))
            {
                return Some(why);
            }
        }
        Value::Object(fields) => {
            let known = |name: &str| {
                !schema["properties"][name].is_null() || !schema["additionalProperties"].is_null()
            };
            if let Some(name) = fields.keys().find(|name| !known(name)) {
                return refused(&format!("{name} is unknown"));
            }
            let fields: Map<String, Value> =
                fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
            let count = fields.len() as i64;
            if number("minProperties").is_some_and(|least| count < least)
                || number("maxProperties").is_some_and(|most| count > most)
            {
                return refused("number of fields");
            }
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            if let Some(missing) = required.into_iter().find(|name| !fields.contains_key(*name)) {
                return refused(&format!("{missing} is required"));
            }
            for (name, field) in &fields {
                let below = match &schema["properties"][name] {
                    Value::Null => &schema["additionalProperties"],
                    known => known,
                };
                if let Some(why) = refuses(below, field, &format!("{path}.{name}")) {
                    return Some(why);
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["rule"].as_str()).find(|rule| !holds(rule, value)).and_then(refused)
}

/// The CRD's own rules (CEL), by hand.
fn holds(rule: &str, value: &Value) -> bool {
    match rule {
        "self.start < self.end" => value["start"].as_i64() < value["end"].as_i64(),
        "isCIDR(self)" => {
            let (address, length) = value.as_str().and_then(|text| text.split_once('/')).unwrap_or(("", ""));
            let most = match address.parse() {
                Ok(std::net::IpAddr::V4(_)) => 32,
                Ok(std::net::IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => 128,
                _ => return false,
            };
            length.parse::<u8>().is_ok_and(|n| n <= most && n.to_string() == length)
        }
        named_ports if named_ports.contains("destinationNamedPort") => {
            let any = |list: &str, names: &[&str]| {
                let items = value[list].as_array().into_iter().flatten();
                items.into_iter().any(|item| names.iter().any(|name| !item[*name].is_null()))
            };
            !(any("to", &["networks", "nodes", "domainNames"]) && any("protocols", &["destinationNamedPort"]))
        }
        other => panic!("a rule that this test does not know: {other}"),
    }
}

/// A policy with every form that there is.
fn whole() -> Value {
    json!({
        "tier": "Admin",
        "priority": 10,
        "subject": {"pods": {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {}}},
        "ingress": [
            {"name": "first", "action": "Accept", "from": [{"namespaces": {}}, {"pods": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]}}}],
             "protocols": [{"tcp": {"destinationPort": {"number": 80}}}, {"destinationNamedPort": "web"}]},
            {"action": "Deny", "from": [{"namespaces": {}}]},
        ],
        "egress": [
            {"action": "Pass", "to": [{"nodes": {}}, {"networks": ["10.0.0.0/8", "fd00::/8"]}],
             "protocols": [{"udp": {"destinationPort": {"range": {"start": 1, "end": 9}}}}, {"sctp": {"destinationPort": {"number": 9}}}]},
            {"action": "Accept", "to": [{"domainNames": ["example.org"]}]},
        ],
    })
}

/// What a mistake puts somewhere.
fn anything() -> impl Strategy<Value = Value> {
    let long = "n".repeat(101);
    let many: Vec<Value> =
        (0..26).map(|n| json!({"namespaces": {"matchLabels": {"n": n.to_string()}}})).collect();
    prop::sample::select(vec![
        Value::Null,
        json!({}),
        json!([]),
        json!(0),
        json!(1),
        json!(1000),
        json!(1001),
        json!(65535),
        json!(65536),
        json!(-1),
        json!(true),
        json!(""),
        json!("Admin"),
        json!("Baseline"),
        json!("Deny"),
        json!("web"),
        json!(long),
        json!("10.0.0.0/8"),
        json!("10.0.0.1"),
        json!("10.0.0.0/33"),
        json!("::ffff:10.0.0.0/104"),
        json!(["10.1.0.0/16", "10.1.0.0/16"]),
        json!([{}]),
        json!([{"namespaces": {}}]),
        json!([{"networks": ["192.0.2.0/24"]}]),
        json!(many),
        json!({"number": 7}),
        json!({"range": {"start": 7, "end": 7}}),
        json!({"range": {"start": 7, "end": 8}}),
        json!({"namespaces": {}}),
        json!({"matchLabels": {"a": "b"}}),
    ])
}

/// Puts something at a place, takes it away, or adds a field; the place is the nth in order.
fn mutate(value: &mut Value, place: &mut usize, kind: u8, what: &Value) {
    let count_down = |place: &mut usize| {
        *place = place.wrapping_sub(1);
        *place == usize::MAX
    };
    match value {
        Value::Object(fields) => {
            for name in fields.keys().cloned().collect::<Vec<_>>() {
                if count_down(place) {
                    match kind {
                        0 => drop(fields.remove(&name)),
                        1 => drop(fields.insert("somethingElse".into(), what.clone())),
                        _ => drop(fields.insert(name, what.clone())),
                    }
                    return;
                }
                mutate(&mut fields[&name], place, kind, what);
                if *place == usize::MAX {
                    return;
                }
            }
        }
        Value::Array(items) => {
            for index in 0..items.len() {
                if count_down(place) {
                    match kind {
                        0 => drop(items.remove(index)),
                        1 => items.push(what.clone()),
                        _ => items[index] = what.clone(),
                    }
                    return;
                }
                mutate(&mut items[index], place, kind, what);
                if *place == usize::MAX {
                    return;
                }
            }
        }
        _ => {}
    }
}

/// Everything but that names are not supported, which is no mistake.
fn problems(spec: &Value) -> Vec<Problem> {
    let object = json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
                        "metadata": {"name": "p"}, "spec": spec});
    let (objects, mut problems) = read(&[SourceText::new("p.json", object.to_string())]);
    let (_, more) = network(&objects, &numbered_nodes(1, Families::Dual));
    problems.extend(more);
    problems.retain(|problem| problem.fault != Fault::DomainNames);
    problems
}

/// A CRD does not look into label selectors: that is left to whoever uses them. A label without a value an API server takes
/// away, silently; in a file it is told, and closes.
fn is_about_a_selector(problem: &Problem) -> bool {
    let (Fault::RuleFailsClosed { reason, .. } | Fault::PolicyInDoubt { reason, .. }) = &problem.fault else {
        return false;
    };
    let is_in_labels = problem.field.as_ref().is_some_and(|field| field.contains(".matchLabels."));
    let is_without_value = is_in_labels && matches!(reason, RuleFault::Type(text) if text.contains("null"));
    is_without_value
        || matches!(
            reason,
            RuleFault::Operator(_)
                | RuleFault::NoValues(_)
                | RuleFault::Values(_)
                | RuleFault::Key(_)
                | RuleFault::Value(_)
        )
}

#[test]
fn a_label_without_a_value_is_told() {
    let mut spec = whole();
    spec["subject"] = json!({"namespaces": {"matchLabels": {"team": null}}});
    assert_eq!(refuses(&schema(), &spec, "spec"), None);
    let problems = problems(&spec);
    assert!(!problems.is_empty() && problems.iter().all(is_about_a_selector), "{problems:?}");
}

#[test]
fn the_whole_policy_is_right() {
    assert_eq!(refuses(&schema(), &whole(), "spec"), None);
    assert_eq!(problems(&whole()), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn as_the_crd(mistakes in prop::collection::vec((0usize..90, 0u8..5, anything()), 1..4)) {
        thread_local!(static SCHEMA: Value = schema());
        let mut spec = whole();
        for (mut place, kind, what) in mistakes {
            mutate(&mut spec, &mut place, kind, &what);
        }
        // The CRD takes an empty name. In the API's own types that is no name, so the protocol has no field at all.
        prop_assume!(!spec.to_string().contains(r#""destinationNamedPort":"""#));
        let refused = SCHEMA.with(|schema| refuses(schema, &spec, "spec"));
        let problems = problems(&spec);
        let agrees = match &refused {
            Some(_) => !problems.is_empty(),
            None => problems.iter().all(is_about_a_selector),
        };
        prop_assert!(agrees, "{:?}\n{:?}\n{:#}", refused, problems, spec);
    }
}
