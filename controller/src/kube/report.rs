//! What is told of problems in the API: an Event on the object, once, when the problem has lasted a little; a condition
//! where the kind has them. Pure: it decides what to write, and how fast.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::client::encoded;
use super::kinds::{Kind, WATCHED};
use crate::source::{Problem, Reason};

/// A problem that passes sooner is not told: a pod may be seen before its node.
const LASTS: Duration = Duration::from_secs(5);
/// The API server forgets Events after an hour; what lasts is told again.
const AGAIN: Duration = Duration::from_secs(55 * 60);
/// What could not be written is tried again after this long, twice as long after each further failure, and never later.
const FIRST_WAIT: Duration = LASTS;
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// How many may be written at once, and how long until there is room for one more.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(1);
/// A message in an Event.
const MESSAGE_BYTES: usize = 1024;
/// The name of an Event (RFC 1123 subdomain).
const NAME_BYTES: usize = 253;

/// An object of a watched kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object<'a> {
    kind: &'a str,
    /// Empty for cluster-wide kinds.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Object<'a> {
    /// From `Kind namespace/name` or `Kind name`; `None` when it is no object of a watched kind.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (kind, name) = text.split_once(' ')?;
        WATCHED.iter().find(|watched| watched.name == kind)?;
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        (!name.is_empty()).then_some(Self { kind, namespace, name })
    }

    /// Its kind.
    pub fn kind(&self) -> &'static Kind {
        // Parsed as one of them.
        WATCHED.iter().find(|watched| watched.name == self.kind).unwrap_or(&WATCHED[0])
    }

    /// The path of a list that has this object only: needs no further permission than to list.
    pub fn path(&self) -> String {
        let kind = self.kind();
        let base = kind.path();
        let path = match self.namespace {
            "" => base,
            namespace => {
                let whole = base.trim_end_matches(kind.plural).to_owned();
                format!("{whole}namespaces/{}/{}", encoded(namespace), kind.plural)
            }
        };
        format!("{path}?limit=1&fieldSelector=metadata.name%3D{}", encoded(self.name))
    }

    /// An Event on it. The name follows from object and message: a second one of the same is a conflict, and needless.
    pub fn event(&self, uid: &str, message: &str, reason: Reason, now: &str) -> (String, Value) {
        let namespace = if self.namespace.is_empty() { "default" } else { self.namespace };
        let digest = Sha256::digest(format!("{self:?} {uid} {message}"));
        let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let name = &self.name[..self.name.floor_char_boundary(NAME_BYTES - ".".len() - hash.len())];
        // A part of a name ends with a letter or a digit.
        let name = name.trim_end_matches(['.', '-']);
        let message = &message[..message.floor_char_boundary(MESSAGE_BYTES)];
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("{name}.{hash}"), "namespace": namespace},
            "involvedObject": {"apiVersion": self.kind().api_version(), "kind": self.kind, "name": self.name,
                "namespace": self.namespace, "uid": uid},
            "type": "Warning", "reason": reason.to_string(), "message": message,
            "source": {"component": "ferrule-controller"}, "reportingComponent": "ferrule-controller",
            "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        });
        (format!("/api/v1/namespaces/{}/events", encoded(namespace)), event)
    }
}

/// What to write next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// An Event on the object, with this message and reason.
    Event(String, String, Reason),
    /// The condition of a ClusterNetworkPolicy in this generation: what of it is not in force, nothing when it is.
    Condition(String, u64, Vec<String>),
}

/// When something is to be written, if at all.
#[derive(Clone, Copy, Debug)]
struct Debt {
    due: Option<Instant>,
    /// In a row.
    failures: u32,
}

impl Debt {
    fn since(now: Instant) -> Self {
        Self { due: Some(now + LASTS), failures: 0 }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    fn settle(&mut self, written: bool, again: Option<Instant>, now: Instant) {
        if written {
            *self = Self { due: again, failures: 0 };
        } else {
            let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(10)).min(LONGEST_WAIT);
            *self = Self { due: Some(now + wait), failures: self.failures + 1 };
        }
    }
}

/// What was told, and what is owed.
#[derive(Debug, Default)]
pub struct Report {
    problems: BTreeMap<(String, String, Reason), Debt>,
    /// By policy: its generation and what of it is not in force.
    conditions: BTreeMap<String, (u64, Vec<String>, Debt)>,
    spent: u32,
    refilled: Option<Instant>,
}

impl Report {
    /// These are all problems, and all ClusterNetworkPolicies with their generations, now.
    pub fn look(&mut self, problems: &[Problem], policies: &BTreeMap<String, u64>, now: Instant) {
        let there: BTreeSet<(String, String, Reason)> = problems
            .iter()
            .filter(|problem| Object::parse(&problem.object).is_some())
            .map(|problem| (problem.object.clone(), problem.message.clone(), problem.reason))
            .collect();
        self.problems.retain(|problem, _| there.contains(problem));
        self.conditions.retain(|policy, _| policies.contains_key(policy));
        for (policy, generation) in policies {
            let mine: Vec<String> = there
                .iter()
                .filter(|(object, ..)| object == policy)
                .map(|(_, message, _)| message.clone())
                .collect();
            match self.conditions.get_mut(policy) {
                Some((held, told, debt)) if *told == mine => {
                    if held != generation {
                        *held = *generation;
                        // What is owed already is not put off by further edits.
                        debt.due.get_or_insert(now + LASTS);
                    }
                }
                _ => drop(self.conditions.insert(policy.clone(), (*generation, mine, Debt::since(now)))),
            }
        }
        for problem in there {
            self.problems.entry(problem).or_insert_with(|| Debt::since(now));
        }
    }

    /// What to write next, if anything. It stays owed until [`Report::done`] says what came of it.
    pub fn next(&mut self, now: Instant) -> Option<Write> {
        let refilled = *self.refilled.get_or_insert(now);
        let earned = u32::try_from(now.saturating_duration_since(refilled).as_secs()).unwrap_or(BURST);
        if earned > 0 {
            self.spent = self.spent.saturating_sub(earned);
            self.refilled = Some(refilled + REFILL * earned);
        }
        if self.spent >= BURST {
            return None;
        }
        let event = self.problems.iter().find(|(_, debt)| debt.is_due(now));
        let event = event
            .map(|((object, message, reason), _)| Write::Event(object.clone(), message.clone(), *reason));
        let write = event.or_else(|| {
            let condition = self.conditions.iter().find(|(_, (.., debt))| debt.is_due(now));
            let (policy, (generation, messages, _)) = condition?;
            Some(Write::Condition(policy.clone(), *generation, messages.clone()))
        })?;
        self.spent += 1;
        Some(write)
    }

    /// Whether this was written: what was not is owed again, later with each failure.
    pub fn done(&mut self, write: Write, written: bool, now: Instant) {
        match write {
            Write::Event(object, message, reason) => {
                if let Some(debt) = self.problems.get_mut(&(object, message, reason)) {
                    debt.settle(written, Some(now + AGAIN), now);
                }
            }
            Write::Condition(policy, ..) => {
                if let Some((.., debt)) = self.conditions.get_mut(&policy) {
                    debt.settle(written, None, now);
                }
            }
        }
    }
}

/// The condition of a policy, for a server-side apply.
pub fn condition(policy: &Object<'_>, messages: &[String], generation: u64, now: &str) -> Value {
    let (status, reason, message) = match messages {
        [] => ("True", "Understood", "everything of it is understood".to_owned()),
        messages => ("False", "NotUnderstood", messages.join("; ")),
    };
    json!({
        "apiVersion": policy.kind().api_version(), "kind": policy.kind, "metadata": {"name": policy.name},
        "status": {"conditions": [{
            "type": "Accepted", "status": status, "reason": reason,
            "message": message.chars().take(8192).collect::<String>(),
            "observedGeneration": generation, "lastTransitionTime": now,
        }]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(object: &str, message: &str) -> Problem {
        let reason = Reason::NotRealized;
        Problem { object: object.into(), source: String::new(), message: message.into(), reason }
    }

    #[test]
    fn objects_are_found_by_the_permission_to_list() {
        let pod = Object::parse("Pod shop/web").unwrap();
        assert_eq!(pod.path(), "/api/v1/namespaces/shop/pods?limit=1&fieldSelector=metadata.name%3Dweb");
        let node = Object::parse("Node node-1").unwrap();
        assert_eq!(node.path(), "/api/v1/nodes?limit=1&fieldSelector=metadata.name%3Dnode-1");
        assert_eq!(Object::parse("networkpolicies.networking.k8s.io"), None);
        assert_eq!(Object::parse("ConfigMap ferrule-epoch"), None);
        let event = |message: &str, now: &str| node.event("uid", message, Reason::Drifted, now);
        let (path, event_now) = event("no range", "2026-01-01T00:00:00Z");
        assert_eq!(
            (path.as_str(), &event_now["involvedObject"]["uid"], &event_now["reason"]),
            ("/api/v1/namespaces/default/events", &json!("uid"), &json!("Drifted"))
        );
        assert_eq!(event("no range", "later").1["metadata"], event_now["metadata"]);
        assert_ne!(event("other", "later").1["metadata"], event_now["metadata"]);
        // Cut between characters, by bytes.
        assert_eq!(event(&"ä€".repeat(1000), "now").1["message"].as_str().map(str::len), Some(1022));
    }

    #[test]
    fn the_event_of_a_long_name_has_a_name_that_the_server_takes() {
        let named = |name: &str| {
            let text = format!("Pod shop/{name}");
            let pod = Object::parse(&text).unwrap();
            pod.event("uid", "message", Reason::Drifted, "now").1["metadata"]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(named(&"a".repeat(236)).len(), 253);
        assert_eq!(named(&"a".repeat(253)).len(), 253);
        // No part of it ends with anything but a letter or a digit.
        let dotted = named(&format!("{}-.{}", "a".repeat(234), "b".repeat(17)));
        assert!(dotted.starts_with(&format!("{}.", "a".repeat(234))) && !dotted.contains("-."), "{dotted}");
        let (one, other) = (format!("{}1", "a".repeat(252)), format!("{}2", "a".repeat(252)));
        assert_ne!(named(&one), named(&other));
    }

    /// Takes the next write, and says what came of it.
    fn write(report: &mut Report, at: Instant, works: bool) -> Option<Write> {
        let write = report.next(at)?;
        report.done(write.clone(), works, at);
        Some(write)
    }

    fn policy(generation: u64) -> BTreeMap<String, u64> {
        [("ClusterNetworkPolicy p".to_owned(), generation)].into()
    }

    fn understood(generation: u64) -> Option<Write> {
        Some(Write::Condition("ClusterNetworkPolicy p".into(), generation, vec![]))
    }

    #[test]
    fn what_could_not_be_written_is_owed_again_less_and_less_often() {
        let start = Instant::now();
        let mut report = Report::default();
        report.look(&[problem("Node node-1", "no range")], &policy(1), start);
        let event = Some(Write::Event("Node node-1".into(), "no range".into(), Reason::NotRealized));
        let (mut at, mut wait) = (start + LASTS, FIRST_WAIT);
        for _ in 0..12 {
            assert_eq!(write(&mut report, at, false), event);
            assert_eq!(write(&mut report, at, false), understood(1));
            assert_eq!(write(&mut report, at + wait - Duration::from_millis(1), true), None, "{wait:?}");
            at += wait;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        assert_eq!(write(&mut report, at, true), event);
        assert_eq!(write(&mut report, at, true), understood(1));
        assert_eq!(write(&mut report, at + LONGEST_WAIT, true), None);
        // Its next failure is a first one.
        assert_eq!(write(&mut report, at + AGAIN, false), event);
        assert_eq!(write(&mut report, at + AGAIN + FIRST_WAIT, true), event);
    }

    #[test]
    fn an_edit_that_changes_nothing_is_told_with_its_generation() {
        let start = Instant::now();
        let mut report = Report::default();
        report.look(&[], &policy(1), start);
        assert_eq!(write(&mut report, start + LASTS, true), understood(1));
        report.look(&[], &policy(1), start + LASTS * 2);
        assert_eq!(write(&mut report, start + LASTS * 4, true), None);
        let edited = start + LASTS * 5;
        report.look(&[], &policy(2), edited);
        // Who edits all the time is told all the same.
        report.look(&[], &policy(3), edited + LASTS / 2);
        assert_eq!(write(&mut report, edited + LASTS, true), understood(3));
        assert_eq!(write(&mut report, edited + LASTS * 9, true), None);
    }

    #[test]
    fn what_lasts_is_told_once_and_again_when_the_server_has_forgotten() {
        let start = Instant::now();
        let mut report = Report::default();
        let told = |report: &mut Report, at| write(report, start + at, true);
        let all = [problem("Node node-1", "no range"), problem("pods", "forbidden")];
        report.look(&all, &BTreeMap::new(), start);
        assert_eq!(told(&mut report, Duration::ZERO), None);
        let event = Some(Write::Event("Node node-1".into(), "no range".into(), Reason::NotRealized));
        assert_eq!(told(&mut report, LASTS), event);
        report.look(&all, &BTreeMap::new(), start + LASTS);
        assert_eq!(told(&mut report, LASTS), None);
        assert_eq!(told(&mut report, LASTS + AGAIN), event);
        // It went and came.
        report.look(&[], &BTreeMap::new(), start + LASTS);
        report.look(&all, &BTreeMap::new(), start + AGAIN * 3);
        assert_eq!(told(&mut report, AGAIN * 3), None);
        assert_eq!(told(&mut report, AGAIN * 3 + LASTS), event);
    }

    #[test]
    fn many_problems_are_told_slowly() {
        let start = Instant::now();
        let mut report = Report::default();
        let all: Vec<Problem> = (0..100).map(|k| problem(&format!("Node node-{k}"), "no range")).collect();
        report.look(&all, &BTreeMap::new(), start);
        report.next(start);
        let told = |report: &mut Report, at| std::iter::from_fn(|| write(report, start + at, true)).count();
        assert_eq!(told(&mut report, LASTS), BURST as usize);
        assert_eq!(told(&mut report, LASTS), 0);
        assert_eq!(told(&mut report, LASTS + REFILL * 3), 3);
    }

    #[test]
    fn a_condition_follows_what_is_wrong() {
        let start = Instant::now();
        let mut report = Report::default();
        report.look(&[], &policy(1), start);
        assert_eq!(write(&mut report, start + LASTS, true), understood(1));
        report.look(&[problem("ClusterNetworkPolicy p", "names")], &policy(1), start + LASTS);
        let writes: Vec<Write> = std::iter::from_fn(|| write(&mut report, start + LASTS * 2, true)).collect();
        assert_eq!(writes.len(), 2);
        assert_eq!(writes[1], Write::Condition("ClusterNetworkPolicy p".into(), 1, vec!["names".into()]));
        let object = Object::parse("ClusterNetworkPolicy p").unwrap();
        let value = condition(&object, &["names".into()], 3, "now");
        assert_eq!(value["status"]["conditions"][0]["status"], "False");
    }
}
