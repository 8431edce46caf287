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
/// How many may be written at once, and how long until there is room for one more.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(1);
/// A message in an Event.
const MESSAGE_BYTES: usize = 1024;

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
        let message = &message[..message.floor_char_boundary(MESSAGE_BYTES)];
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("{}.{hash}", self.name), "namespace": namespace},
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
    /// The condition of a ClusterNetworkPolicy: what of it is not in force, nothing when it is.
    Condition(String, Vec<String>),
}

/// What was told.
#[derive(Debug, Default)]
pub struct Report {
    /// Since when a problem is there, and when it was told.
    problems: BTreeMap<(String, String, Reason), (Instant, Option<Instant>)>,
    conditions: BTreeMap<String, (Vec<String>, Instant, bool)>,
    spent: u32,
    refilled: Option<Instant>,
}

impl Report {
    /// These are all problems, and all ClusterNetworkPolicies, now.
    pub fn look(&mut self, problems: &[Problem], policies: BTreeSet<String>, now: Instant) {
        let there: BTreeSet<(String, String, Reason)> = problems
            .iter()
            .filter(|problem| Object::parse(&problem.object).is_some())
            .map(|problem| (problem.object.clone(), problem.message.clone(), problem.reason))
            .collect();
        self.problems.retain(|problem, _| there.contains(problem));
        self.conditions.retain(|policy, _| policies.contains(policy));
        for policy in policies {
            let mine: Vec<String> = there
                .iter()
                .filter(|(object, ..)| *object == policy)
                .map(|(_, message, _)| message.clone())
                .collect();
            match self.conditions.get(&policy) {
                Some((told, _, _)) if *told == mine => {}
                _ => drop(self.conditions.insert(policy, (mine, now, false))),
            }
        }
        for problem in there {
            self.problems.entry(problem).or_insert((now, None));
        }
    }

    /// What to write next, if anything; it counts as written.
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
        let lasts = |since: &Instant| now >= *since + LASTS;
        let event = self
            .problems
            .iter_mut()
            .find(|(_, (since, told))| lasts(since) && told.is_none_or(|told| now >= told + AGAIN));
        if let Some(((object, message, reason), (_, told))) = event {
            *told = Some(now);
            self.spent += 1;
            return Some(Write::Event(object.clone(), message.clone(), *reason));
        }
        let condition = self.conditions.iter_mut().find(|(_, (_, since, told))| lasts(since) && !told);
        let (policy, (messages, _, told)) = condition?;
        *told = true;
        self.spent += 1;
        Some(Write::Condition(policy.clone(), messages.clone()))
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
    fn what_lasts_is_told_once_and_again_when_the_server_has_forgotten() {
        let start = Instant::now();
        let mut report = Report::default();
        let told = |report: &mut Report, at| report.next(start + at);
        let all = [problem("Node node-1", "no range"), problem("pods", "forbidden")];
        report.look(&all, BTreeSet::new(), start);
        assert_eq!(told(&mut report, Duration::ZERO), None);
        let event = Some(Write::Event("Node node-1".into(), "no range".into(), Reason::NotRealized));
        assert_eq!(told(&mut report, LASTS), event);
        report.look(&all, BTreeSet::new(), start + LASTS);
        assert_eq!(told(&mut report, LASTS), None);
        assert_eq!(told(&mut report, LASTS + AGAIN), event);
        // It went and came.
        report.look(&[], BTreeSet::new(), start + LASTS);
        report.look(&all, BTreeSet::new(), start + AGAIN * 3);
        assert_eq!(told(&mut report, AGAIN * 3), None);
        assert_eq!(told(&mut report, AGAIN * 3 + LASTS), event);
    }

    #[test]
    fn many_problems_are_told_slowly() {
        let start = Instant::now();
        let mut report = Report::default();
        let all: Vec<Problem> = (0..100).map(|k| problem(&format!("Node node-{k}"), "no range")).collect();
        report.look(&all, BTreeSet::new(), start);
        report.next(start);
        let told = |report: &mut Report, at| std::iter::from_fn(|| report.next(start + at)).count();
        assert_eq!(told(&mut report, LASTS), BURST as usize);
        assert_eq!(told(&mut report, LASTS), 0);
        assert_eq!(told(&mut report, LASTS + REFILL * 3), 3);
    }

    #[test]
    fn a_condition_follows_what_is_wrong() {
        let start = Instant::now();
        let mut report = Report::default();
        let policy = || BTreeSet::from(["ClusterNetworkPolicy p".to_owned()]);
        report.look(&[], policy(), start);
        assert_eq!(
            report.next(start + LASTS),
            Some(Write::Condition("ClusterNetworkPolicy p".into(), vec![]))
        );
        report.look(&[problem("ClusterNetworkPolicy p", "names")], policy(), start + LASTS);
        let writes: Vec<Write> = std::iter::from_fn(|| report.next(start + LASTS * 2)).collect();
        assert_eq!(writes.len(), 2);
        assert_eq!(writes[1], Write::Condition("ClusterNetworkPolicy p".into(), vec!["names".into()]));
        let object = Object::parse("ClusterNetworkPolicy p").unwrap();
        let value = condition(&object, &["names".into()], 3, "now");
        assert_eq!(value["status"]["conditions"][0]["status"], "False");
    }
}
