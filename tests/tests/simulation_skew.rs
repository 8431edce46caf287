//! What agents and controllers of the last release said to each other means the same today. The messages are kept as they were on the
//! wire, each with what it meant (`tests/fixtures/protocol.jsonl`); CONTRIBUTING.md says when they are recorded anew.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use api::convert;
use api::generated::ferrule::v1alpha1 as wire;
use api::stream::Resource;
use api::watermark::{Epoch, Watermark};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tests::simulation::{Flavour, Run, Sent};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/protocol.jsonl");

/// Set to anything, the messages of today take the place of the ones that are kept.
const RECORD: &str = "FERRULE_RECORD_PROTOCOL";

/// A message that is kept: a line of the fixture.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    from: From,
    /// The number of its body's field.
    body: u32,
    /// What said it.
    version: String,
    hex: String,
    means: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum From {
    Agent,
    Controller,
}

/// What a message means here, in values that outlive types: a later one may only add to it.
fn meaning(from: From, bytes: &[u8]) -> Value {
    match from {
        From::Agent => of_agent(wire::FromAgent::decode(bytes).unwrap()),
        From::Controller => of_controller(wire::FromController::decode(bytes).unwrap()),
    }
}

fn of_agent(message: wire::FromAgent) -> Value {
    use wire::from_agent::Body;
    match message.body {
        Some(Body::Hello(hello)) => {
            let node = hello.node.clone();
            let (hello, garbage) = controller::attach::read_hello(hello);
            assert_eq!(garbage, Vec::<String>::new());
            json!({"node": node, "hello": hello})
        }
        // No value of ours: it is handed to who asked.
        Some(Body::Answer(answer)) => {
            json!({"id": answer.id, "status": answer.status, "json": String::from_utf8_lossy(&answer.json)})
        }
        _ => json!(controller::attach::read(message)),
    }
}

fn of_controller(message: wire::FromController) -> Value {
    use wire::from_controller::Body;
    match message.body {
        Some(Body::Delta(delta)) => {
            let removed: Vec<_> = delta.removed.iter().map(|id| convert::decode_id(id).unwrap()).collect();
            let resources: Vec<_> =
                api::delta::bodies(&delta).map(|resource| of_resource(&resource)).collect();
            let watermark = api::delta::watermark(&delta).unwrap();
            json!({"nonce": delta.nonce, "term": delta.term, "watermark": watermark,
                   "removed": removed, "resources": resources})
        }
        Some(Body::Query(query)) => json!({"id": query.id, "path": query.path}),
        Some(Body::Behind(behind)) => {
            let watermark = convert::decode_watermark(behind.watermark.as_ref()).unwrap();
            json!({"watermark": watermark, "reason": behind.reason, "term": behind.term})
        }
        None => panic!("not known here"),
    }
}

fn of_resource(resource: &wire::Resource) -> Value {
    let means = match &resource.body {
        Some(wire::resource::Body::AddressSetChange(change)) => {
            json!({"from": change.from, "added": change.added, "removed": change.removed})
        }
        _ => match convert::decode_resource(resource).unwrap() {
            Resource::Node(node) => json!({"node": node}),
            Resource::AddressSet(set) => json!({"set": set}),
            Resource::Policy(policy) => json!({"policy": policy}),
            Resource::LocalPod(pod) => json!({"pod": pod}),
            Resource::Service(service) => json!({"service": service}),
        },
    };
    json!({"version": resource.version, "means": means})
}

/// Whether everything that was meant then is meant today.
fn holds(today: &Value, then: &Value) -> bool {
    match (today, then) {
        (Value::Object(today), Value::Object(then)) => {
            then.iter().all(|(key, then)| today.get(key).is_some_and(|today| holds(today, then)))
        }
        (Value::Array(today), Value::Array(then)) => {
            today.len() == then.len() && today.iter().zip(then).all(|(today, then)| holds(today, then))
        }
        _ => today == then,
    }
}

/// One message of each kind, and a delta for each kind of resource, as the real state machines say them. Nobody asks questions there,
/// and no controller is so far behind that it says so: those are made here.
fn record() -> Vec<Kept> {
    let mut kept: BTreeMap<String, (From, Vec<u8>)> = BTreeMap::new();
    for seed in 0..24 {
        let flavour = Flavour { tiers: true, replicas: 2, refusals: true, newer: false };
        let mut run = Run::new(seed, flavour);
        run.world.sent = Some(Vec::new());
        run.play(2, 60);
        for sent in run.world.sent.take().unwrap() {
            let (from, bytes) = match sent {
                Sent::Agent(bytes) => (From::Agent, bytes),
                Sent::Controller(bytes) => (From::Controller, bytes),
            };
            for what in contents(from, &bytes) {
                // The shortest: longer ones tell nothing more.
                if kept.get(&what).is_none_or(|(_, shortest)| bytes.len() < shortest.len()) {
                    kept.insert(what, (from, bytes.clone()));
                }
            }
        }
    }
    let query = wire::Query { id: 7, path: "/v1alpha1/flows?table=Egress".into() };
    let query = wire::FromController { body: Some(wire::from_controller::Body::Query(query)) };
    let revisions = [("pods".to_owned(), 41), ("policies".to_owned(), 7)].into();
    let behind = wire::Behind {
        watermark: Some(convert::encode_watermark(&Watermark { epoch: Epoch(2), revisions })),
        reason: "revision 41 of pods is older than 42".into(),
        term: 3,
    };
    let behind = wire::FromController { body: Some(wire::from_controller::Body::Behind(behind)) };
    let answer = wire::Answer { id: 7, status: 200, json: br#"{"kind": "FlowList"}"#.to_vec() };
    let answer = wire::FromAgent { body: Some(wire::from_agent::Body::Answer(answer)) };
    let mut messages: Vec<_> = kept.into_values().collect();
    messages.extend([&query, &behind].map(|message| (From::Controller, message.encode_to_vec())));
    messages.push((From::Agent, answer.encode_to_vec()));
    messages.sort();
    messages.dedup();
    let keep = |(from, bytes): (From, Vec<u8>)| Kept {
        from,
        body: body(&bytes),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        means: meaning(from, &bytes),
    };
    messages.into_iter().map(keep).collect()
}

/// What is to be in the fixture: each kind of message with something in it, each kind of resource, set changes, bundles, removals.
fn contents(from: From, bytes: &[u8]) -> Vec<String> {
    let mut contents = Vec::new();
    let said = meaning(from, bytes);
    if from == From::Controller
        && let Some(wire::from_controller::Body::Delta(delta)) =
            wire::FromController::decode(bytes).unwrap().body
    {
        let parts = [("bundle", !delta.bundles.is_empty()), ("removed", !delta.removed.is_empty())];
        contents.extend(parts.iter().filter(|(_, there)| *there).map(|(name, _)| (*name).to_owned()));
        let resources = said["resources"].as_array().unwrap().iter();
        let kinds = resources.filter_map(|resource| resource["means"].as_object()?.keys().next().cloned());
        contents.extend(kinds.map(|kind| format!("resource {kind}")));
    }
    // What holds nothing says nothing.
    let full = bytes.len() > 40;
    contents.push(format!("{from:?} {} {full}", body(bytes)));
    contents
}

/// The number of the only field.
fn body(mut bytes: &[u8]) -> u32 {
    prost::encoding::decode_key(&mut bytes).unwrap().0
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn what_the_last_release_said_means_the_same_today() {
    if std::env::var_os(RECORD).is_some() {
        let lines: Vec<_> = record().iter().map(|kept| json!(kept).to_string() + "\n").collect();
        std::fs::create_dir_all(Path::new(FIXTURE).parent().unwrap()).unwrap();
        std::fs::write(FIXTURE, lines.concat()).unwrap();
    }
    let text = std::fs::read_to_string(FIXTURE).unwrap();
    let kept: Vec<Kept> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kept in &kept {
        let today = meaning(kept.from, &bytes(&kept.hex));
        assert!(holds(&today, &kept.means), "{:?} {}: {}\nnow: {today}", kept.from, kept.body, kept.means);
    }
    // All seven and all three, with every kind of resource in them.
    let bodies = |from: From| {
        kept.iter()
            .filter(|kept| kept.from == from)
            .map(|kept| kept.body)
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert!(bodies(From::Agent).is_superset(&(1..=7).collect()), "{:?}", bodies(From::Agent));
    assert!(bodies(From::Controller).is_superset(&(1..=3).collect()), "{:?}", bodies(From::Controller));
    for kind in ["node", "set", "policy", "pod", "service", "from"] {
        let there = |kept: &Kept| {
            let resources = kept.means["resources"].as_array().into_iter().flatten();
            resources.into_iter().any(|resource| resource["means"].get(kind).is_some())
        };
        assert!(kept.iter().any(there), "no resource of the kind {kind}");
    }
}

#[test]
fn what_is_meant_may_grow_and_nothing_may_go() {
    let then = json!({"a": [1, {"b": 2}]});
    assert!(holds(&json!({"a": [1, {"b": 2, "later": 0}], "later": null}), &then));
    for other in [json!({"a": [1]}), json!({"a": [1, {"b": 3}]}), json!({"a": [1, {}]}), json!({})] {
        assert!(!holds(&other, &then), "{other}");
    }
}
