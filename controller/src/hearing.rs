//! What an agent says, turned into values, within limits: whoever has a node's token may say anything. Keeps no state but
//! the measure of a flood.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use api::convert;
use api::delta::Versions;
use api::generated::ferrule::v1alpha1 as wire;
use api::role::{self, Holding, Role};
use api::stream::{Binding, Rejection, Version};
use api::watermark::Watermark;
use serde::{Deserialize, Serialize};

use crate::agent::{Held, Hello};
use crate::bindings::MAX_PODS_PER_NODE;

/// The most resources that an agent is believed to hold. What it holds we sent: nodes, its pods, the policies and sets of
/// its span.
pub const MOST_HELD: usize = 500_000;
/// The most resources that it may reject at a time.
const MOST_REJECTED: usize = 10_000;
/// The longest reason or complaint that is kept, in bytes.
const LONGEST_TEXT: usize = 1024;
/// RFC 1123 names and UIDs are shorter.
const LONGEST_NAME: usize = 253;
/// A pod has one address of each family; several interfaces have a few more.
const MOST_ADDRESSES: usize = 16;

/// What an agent says after its Hello.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Said {
    /// It answered a delta.
    Answer {
        /// Which.
        nonce: u64,
        /// What it refused of it.
        rejected: Vec<Rejection>,
    },
    /// Pods plugged and unplugged.
    Bindings {
        /// Plugged.
        bound: Vec<Binding>,
        /// UIDs of those unplugged.
        released: BTreeSet<String>,
        /// Revision of its list, which this makes.
        revision: u64,
    },
    /// What is in force there although we sent nothing, and all that does not stand.
    Progress {
        /// What is held, beyond what was said before.
        holding: Holding,
        /// What of it does not stand.
        rejected: Vec<Rejection>,
        /// What somebody else changed there lately; empty where there was nothing.
        #[serde(default)]
        drifted: String,
    },
    /// We are to lead from now on.
    Lead {
        /// Counts how often we were asked on this stream.
        term: u64,
        /// What is held, beyond what was said before.
        holding: Holding,
    },
    /// Another controller leads.
    StandBy {
        /// What is held, whole.
        held: Held,
        /// Why.
        reason: String,
    },
    /// The answer to a question: it changes nothing, and is not recorded.
    #[serde(skip)]
    Told(wire::Answer),
    /// Something that only newer controllers know: it changes nothing, and is not recorded.
    #[serde(skip)]
    Unknown,
    /// Something that could not be read.
    Garbage(String),
}

/// What can be read of a Hello, and what cannot.
pub fn read_hello(hello: wire::Hello) -> (Hello, Vec<String>) {
    let mut garbage = Vec::new();
    let mut known = Versions::new();
    if hello.known.len() > MOST_HELD {
        garbage
            .push(format!("hello.known: {} resources, which cannot be; none is believed", hello.known.len()));
    }
    for held in hello.known.iter().filter(|_| hello.known.len() <= MOST_HELD) {
        let id = held.id.clone().unwrap_or_default();
        if !convert::knows_kind(&id) {
            continue;
        }
        match convert::decode_id(&id) {
            Ok(id) => {
                known.insert(id, Version(held.version));
            }
            Err(error) => complain(&mut garbage, format!("hello.known: {error}")),
        }
    }
    let acknowledged = convert::decode_watermark(hello.acknowledged.as_ref()).unwrap_or_else(|error| {
        complain(&mut garbage, format!("hello.acknowledged: {error}"));
        Watermark::default()
    });
    let bindings = read_bindings(&hello.bindings, &mut garbage);
    let hello = Hello {
        version: shortened(hello.version),
        known,
        acknowledged,
        bindings,
        bindings_revision: hello.bindings_revision,
        role: Role::decode(hello.role),
        set_changes: hello.set_changes,
        bundles: hello.bundles,
    };
    (hello, garbage)
}

/// What an agent says after its Hello, and what of it cannot be read.
pub fn read(message: wire::FromAgent) -> Vec<Said> {
    use wire::from_agent::Body;
    match message.body {
        Some(Body::Acknowledgement(answer)) => {
            vec![Said::Answer { nonce: answer.nonce, rejected: read_rejections(&answer.rejected) }]
        }
        Some(Body::Bindings(bindings)) => {
            let mut garbage = Vec::new();
            let bound = read_bindings(&bindings.bound, &mut garbage);
            let released = bindings.released.into_iter().take(MAX_PODS_PER_NODE).collect();
            let mut said = vec![Said::Bindings { bound, released, revision: bindings.revision }];
            said.extend(garbage.into_iter().map(Said::Garbage));
            said
        }
        Some(Body::Answer(answer)) => vec![Said::Told(answer)],
        Some(Body::Progress(progress)) => vec![match read_holding(progress.holding.as_ref()) {
            Ok(holding) => Said::Progress {
                holding,
                rejected: read_rejections(&progress.rejected),
                drifted: shortened(progress.drifted),
            },
            Err(error) => Said::Garbage(shortened(format!("progress: {error}"))),
        }],
        Some(Body::Lead(lead)) => vec![match read_holding(lead.holding.as_ref()) {
            Ok(holding) => Said::Lead { term: lead.term, holding },
            Err(error) => Said::Garbage(shortened(format!("lead: {error}"))),
        }],
        Some(Body::StandBy(stand_by)) => vec![match read_held(&stand_by) {
            Ok(held) => Said::StandBy { held, reason: shortened(stand_by.reason) },
            Err(error) => Said::Garbage(shortened(format!("stand_by: {error}"))),
        }],
        Some(Body::Hello(_)) => vec![Said::Garbage("a second Hello".into())],
        None => vec![Said::Unknown],
    }
}

fn read_holding(holding: Option<&wire::Holding>) -> Result<Holding, String> {
    let unset = wire::Holding::default();
    let holding = holding.unwrap_or(&unset);
    if holding.changed.len() + holding.removed.len() > MOST_HELD {
        return Err("more resources than can be".into());
    }
    Holding::decode(holding).map_err(|error| error.to_string())
}

fn read_held(stand_by: &wire::StandBy) -> Result<Held, String> {
    if stand_by.known.len() > MOST_HELD {
        return Err("more resources than can be".into());
    }
    let text = |error: convert::Malformed| error.to_string();
    Ok(Held {
        known: role::decode_versions(&stand_by.known).map_err(text)?,
        acknowledged: convert::decode_watermark(stand_by.acknowledged.as_ref()).map_err(text)?,
        rejected: read_rejections(&stand_by.rejected),
    })
}

fn read_bindings(bindings: &[wire::Binding], garbage: &mut Vec<String>) -> Vec<Binding> {
    let mut read = Vec::new();
    for binding in bindings.iter().take(MAX_PODS_PER_NODE) {
        let names = [&binding.namespace, &binding.name, &binding.uid, &binding.interface];
        if names.iter().any(|name| name.len() > LONGEST_NAME) || binding.addresses.len() > MOST_ADDRESSES {
            complain(garbage, format!("a binding is longer than any can be: pod `{}`", binding.name));
            continue;
        }
        match convert::decode_binding(binding) {
            Ok(binding) => read.push(binding),
            Err(error) => complain(garbage, error.to_string()),
        }
    }
    if bindings.len() > MAX_PODS_PER_NODE {
        complain(garbage, format!("{} bindings at once; {MAX_PODS_PER_NODE} are read", bindings.len()));
    }
    read
}

fn read_rejections(rejected: &[wire::Rejection]) -> Vec<Rejection> {
    let read = rejected.iter().take(MOST_REJECTED).map(convert::decode_rejection);
    read.map(|rejection| Rejection { reason: shortened(rejection.reason), ..rejection }).collect()
}

/// The first few say enough.
fn complain(garbage: &mut Vec<String>, complaint: String) {
    if garbage.len() < 16 {
        garbage.push(shortened(complaint));
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// How much an agent has said lately. What is beyond the measure is not lost: it is read later, and TCP makes the agent
/// wait, so that the others are heard meanwhile.
#[derive(Debug)]
pub struct Flood {
    /// In units: what one message costs is [`Flood::cost`].
    level: f64,
    at: Instant,
}

/// Units that may be said at once: every pod of a full node anew.
const BURST: f64 = 10_000.0;
/// Units per second for as long as one likes.
const RATE: f64 = 2_000.0;

impl Flood {
    /// Nothing was said yet.
    pub fn new(now: Instant) -> Self {
        Self { level: 0.0, at: now }
    }

    /// What a message costs. Bindings change what other nodes hold; all else concerns the agent's own node.
    pub fn cost(message: &wire::FromAgent) -> f64 {
        match &message.body {
            Some(wire::from_agent::Body::Bindings(_)) => 20.0,
            _ => 1.0,
        }
    }

    /// Takes a message into account; how long to wait before the next one is read.
    pub fn take(&mut self, cost: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at);
        self.at = now;
        self.level = (self.level - passed.as_secs_f64() * RATE).max(0.0) + cost;
        Duration::from_secs_f64((self.level - BURST).max(0.0) / RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_garbage_and_the_rest_is_read() {
        let binding = |name: &str| wire::Binding {
            namespace: "shop".into(),
            name: name.into(),
            uid: "u".into(),
            addresses: vec![vec![10, 244, 1, 7]],
            interface: "fe0".into(),
        };
        let bindings = wire::Bindings {
            bound: vec![binding("a"), binding(&"x".repeat(300)), binding("b")],
            ..wire::Bindings::default()
        };
        let message = wire::FromAgent { body: Some(wire::from_agent::Body::Bindings(bindings)) };
        let [Said::Bindings { bound, .. }, Said::Garbage(why)] = &read(message)[..] else { panic!("unread") };
        assert_eq!((bound.len(), why.contains("longer than any")), (2, true));

        let rejected = wire::Rejection { id: None, reason: "ä".repeat(5000) };
        let answer = wire::Acknowledgement { nonce: 1, rejected: vec![rejected; MOST_REJECTED + 5] };
        let message = wire::FromAgent { body: Some(wire::from_agent::Body::Acknowledgement(answer)) };
        let [Said::Answer { rejected, .. }] = &read(message)[..] else { panic!("unread") };
        assert_eq!(rejected.len(), MOST_REJECTED);
        assert!(rejected.iter().all(|it| it.reason.len() <= LONGEST_TEXT + '…'.len_utf8()));

        let known = vec![wire::ResourceVersion::default(); 40];
        let (hello, garbage) = read_hello(wire::Hello { known, ..wire::Hello::default() });
        assert_eq!((hello.known.len(), garbage.len()), (0, 16));
    }

    #[test]
    fn what_only_newer_controllers_know_is_no_garbage() {
        assert_eq!(read(wire::FromAgent { body: None }), [Said::Unknown]);
        let id = |kind, name: &str| Some(wire::ResourceId { kind, name: name.into() });
        let held = |id| wire::ResourceVersion { id, version: 1 };
        let known = vec![held(id(1, "node-1")), held(id(99, "of a later kind"))];
        let (hello, garbage) = read_hello(wire::Hello { known: known.clone(), ..wire::Hello::default() });
        assert_eq!((hello.known.len(), garbage), (1, Vec::new()));

        let holding =
            wire::Holding { changed: known, removed: id(99, "x").into_iter().collect(), watermark: None };
        let lead = wire::Lead { holding: Some(holding), term: 1 };
        let message = wire::FromAgent { body: Some(wire::from_agent::Body::Lead(lead)) };
        let [Said::Lead { holding, .. }] = &read(message)[..] else { panic!("unread") };
        assert_eq!(holding.changes.len(), 1);
    }

    #[test]
    fn a_flood_is_slowed_down_and_a_burst_is_not() {
        let mut now = Instant::now();
        let mut flood = Flood::new(now);
        for _ in 0..(BURST / 20.0) as usize {
            assert_eq!(flood.take(20.0, now), Duration::ZERO);
        }
        let wait = flood.take(20.0, now);
        assert_eq!(wait, Duration::from_millis(10));
        // Who waits as told keeps the pace.
        let began = now;
        for _ in 0..1000 {
            now += flood.take(20.0, now);
        }
        assert!((now - began).as_secs_f64() > 9.9, "{:?}", now - began);
        now += Duration::from_secs(60);
        assert_eq!(flood.take(20.0, now), Duration::ZERO);
    }
}
