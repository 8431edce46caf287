//! What the reflectors of all kinds have learnt together: the network, how much of each kind it contains, what is waited
//! for and what is in the way. Pure.

use std::collections::BTreeMap;

use network::{Change, Network};
use objects::live::{Changed, Live, Seen};

use super::kinds::{Kind, WATCHED};
use super::reflector::{Failure, Learnt};
use crate::source::{Problem, Reason, Revision};
use crate::translate::told;

/// A failure that passes by itself is told when it has come so often in a row.
const TELL_AFTER: u32 = 3;

/// One kind.
#[derive(Debug, Default)]
struct Progress {
    listed: bool,
    received: usize,
    total: Option<u64>,
    revision: Revision,
    /// By verb.
    failing: BTreeMap<&'static str, (Failure, u32)>,
}

/// What came of something that was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the model, or will be.
    Taken,
    /// A consistent list is older than what was known: etcd was restored. Nothing of it was taken.
    WentBack {
        /// What was known.
        known: u64,
        /// What the list has.
        found: u64,
    },
}

/// The model of all kinds.
#[derive(Debug)]
pub struct Model {
    live: Live,
    kinds: Vec<Progress>,
    problems: Vec<Problem>,
    changed: bool,
    /// Since something was taken last; before that, everything.
    changes: Vec<Change>,
    /// It was taken whole: nobody but the owner has it from then on.
    told: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            live: Live::default(),
            kinds: WATCHED.iter().map(|_| Progress::default()).collect(),
            problems: Vec::new(),
            changed: false,
            changes: Vec::new(),
            told: false,
        }
    }
}

impl Model {
    /// Takes what the reflector of the `kind`th kind has learnt.
    pub fn learn(&mut self, kind: usize, learnt: Learnt<Seen>) -> Outcome {
        let Some(progress) = self.kinds.get_mut(kind) else { return Outcome::Taken };
        let at = match learnt {
            Learnt::Receiving(received, total) => {
                (progress.received, progress.total) = (received, total);
                return Outcome::Taken;
            }
            Learnt::Failed(verb, failure, times) => {
                progress.failing.insert(verb, (failure, times));
                return Outcome::Taken;
            }
            Learnt::Succeeded(verb) => {
                progress.failing.remove(verb);
                return Outcome::Taken;
            }
            Learnt::UpTo(revision) => {
                progress.revision.contained = progress.revision.contained.max(revision);
                return Outcome::Taken;
            }
            Learnt::All(_, found) if found < progress.revision.contained => {
                return Outcome::WentBack { known: progress.revision.contained, found };
            }
            Learnt::All(objects, revision) => {
                progress.listed = true;
                self.live.replace(WATCHED[kind].name, objects);
                revision
            }
            Learnt::NoSuchKind => {
                progress.listed = true;
                progress.failing.clear();
                self.live.replace(WATCHED[kind].name, Vec::new());
                progress.revision.contained
            }
            Learnt::There(seen, revision) => {
                self.live.upsert(seen);
                revision
            }
            Learnt::Gone(seen, revision) => {
                self.live.remove(&seen.object);
                revision
            }
        };
        let changes = self.live.take();
        let revision = &mut self.kinds[kind].revision;
        revision.contained = revision.contained.max(at);
        if !changes.is_empty() {
            revision.changed = revision.contained;
            self.changed = true;
        }
        self.changes.extend(changes.into_iter().map(change_of));
        if let Some(problems) = self.live.problems() {
            self.problems = problems.iter().map(told).collect();
            self.changed = true;
        }
        Outcome::Taken
    }

    /// Whether every kind was received.
    pub fn is_complete(&self) -> bool {
        self.kinds.iter().all(|kind| kind.listed)
    }

    /// The network, once, when it is complete. From then on there are changes of it.
    pub fn take(&mut self) -> Option<Network> {
        if self.told || !self.is_complete() {
            return None;
        }
        (self.told, self.changed) = (true, false);
        let mut network = Network::default();
        self.changes.drain(..).for_each(|change| network.apply(change));
        network.prune();
        Some(network)
    }

    /// What happened since something was taken last, when something did; nothing before it was taken whole.
    pub fn take_changes(&mut self) -> Option<Vec<Change>> {
        let taken = self.told && self.is_complete() && std::mem::take(&mut self.changed);
        taken.then(|| std::mem::take(&mut self.changes))
    }

    /// How much of each kind is contained.
    pub fn revisions(&self) -> BTreeMap<String, Revision> {
        let kinds = WATCHED.iter().zip(&self.kinds).filter(|(_, kind)| kind.listed);
        kinds.map(|(kind, progress)| (kind.plural.to_owned(), progress.revision)).collect()
    }

    /// The greatest revision of any kind.
    pub fn newest(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.revision.contained).max().unwrap_or(0)
    }

    /// Whether a kind was received, and up to where.
    pub fn contained(&self, kind: usize) -> Option<u64> {
        self.kinds.get(kind).filter(|kind| kind.listed).map(|kind| kind.revision.contained)
    }

    /// What is still waited for, for people.
    pub fn waiting(&self) -> Vec<String> {
        let waiting = WATCHED.iter().zip(&self.kinds).filter(|(_, kind)| !kind.listed);
        waiting
            .map(|(kind, progress)| {
                let resource = kind.resource();
                if let Some((verb, (failure, _))) = progress.failing.iter().next() {
                    return format!("{resource}: {}", words(kind, verb, failure));
                }
                match (progress.received, progress.total) {
                    (0, _) => format!("{resource}: waiting for the list"),
                    (received, None) => format!("{resource}: {received} received"),
                    (received, Some(total)) => format!("{resource}: {received} of {total} received"),
                }
            })
            .collect()
    }

    /// What could not be understood.
    pub fn understood(&self) -> Vec<Problem> {
        self.problems.clone()
    }

    /// The requests that keep failing.
    pub fn failing(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (kind, progress) in WATCHED.iter().zip(&self.kinds) {
            for (verb, (failure, times)) in &progress.failing {
                // A server that starts forbids everything for a moment.
                let waits = !matches!(failure, Failure::Forbidden(_)) || progress.listed;
                let lasts = matches!(failure, Failure::OtherVersions(_));
                if !waits || lasts || *times >= TELL_AFTER {
                    problems.push(Problem {
                        object: kind.resource(),
                        source: "the API server".into(),
                        message: words(kind, verb, failure),
                        reason: Reason::NotRealized,
                    });
                }
            }
        }
        problems
    }
}

fn words(kind: &Kind, verb: &str, failure: &Failure) -> String {
    let resource = kind.resource();
    match failure {
        Failure::Forbidden(message) => format!(
            "we may not {verb} {resource} ({message}); grant the verb `{verb}` on {resource} to the controller's account, \
             see deploy/chart/rbac/controller.yaml; what is known of them stays in force"
        ),
        Failure::OtherVersions(versions) => format!(
            "the API server has {resource} in other versions only ({versions}), and this controller reads {}: none of them is in \
             force; serve {} of it, or install a controller that reads what is served",
            kind.version, kind.version
        ),
        other => {
            format!("cannot {verb} {resource} ({other}); trying again, what is known of them stays in force")
        }
    }
}

fn change_of(changed: Changed) -> Change {
    match changed {
        Changed::Node(_, Some(node)) => Change::Node(node),
        Changed::Node(name, None) => Change::NodeGone(name),
        Changed::Namespace(name, Some(labels)) => Change::Namespace(name, labels),
        Changed::Namespace(name, None) => Change::NamespaceGone(name),
        Changed::Pod(_, Some(pod)) => Change::Pod(pod),
        Changed::Pod(key, None) => Change::PodGone(key),
        Changed::Service(_, Some(service)) => Change::Service(service),
        Changed::Service(key, None) => Change::ServiceGone(key),
        Changed::Policy(_, Some((policy, selectors))) => Change::policy(policy, selectors),
        Changed::Policy(id, None) => Change::PolicyGone(id),
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
