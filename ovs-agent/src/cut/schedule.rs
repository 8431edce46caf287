//! When the switch is asked about its connections, and which generations are in force in full: a deny is, once nothing of
//! what it denies passes. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::stream::ResourceId;
use network::{NamespacedName, NodeName, NodeView};

use super::threat::{Journal, Threat};

/// What is known of connections that a policy may have to cut.
#[derive(Debug, Default)]
pub struct Cuts {
    journal: Journal,
    /// Pods that the view held and holds no more, though they are plugged: should they come back, they may have connections.
    absent: BTreeSet<NamespacedName>,
    /// Their flows are in force; nobody asked about their connections yet.
    due: Threat,
    /// What is being asked, and the generation that is in force in full when that is done.
    asking: Option<(Threat, u64)>,
    /// The generation that is in force in full while something is due.
    done: u64,
    problem: Option<String>,
}

impl Cuts {
    /// What is about to change in the view.
    pub fn changing(&mut self, view: &NodeView, own: &NodeName, ids: impl IntoIterator<Item = ResourceId>) {
        self.journal.remember(view, own, ids);
    }

    /// It is not known what was in force.
    pub fn unknown(&mut self) {
        self.journal.forget();
    }

    /// The connection to the switch is a new one, or gone.
    pub fn reset(&mut self) {
        self.journal.forget();
        (self.due, self.asking, self.done, self.problem) = (Threat::default(), None, 0, None);
    }

    /// Whom a program of this view threatens that is now on its way to the switch. `addresses` gives those of a pod's ports.
    pub fn planned(&mut self, now: &NodeView, addresses: impl Fn(&NamespacedName) -> Vec<IpAddr>) -> Threat {
        let journal = std::mem::take(&mut self.journal);
        let threatened = journal.threatened(now, &self.absent);
        self.absent.extend(journal.gone(now).filter(|key| !addresses(key).is_empty()).cloned());
        self.absent.retain(|key| !now.pods.contains_key(key) && !addresses(key).is_empty());
        // Without policies nothing is denied.
        let everyone = threatened.is_none() && !now.policies.is_empty();
        let mut threat = Threat { everyone, ..Threat::default() };
        for (direction, key) in threatened.into_iter().flatten() {
            threat.add(direction, addresses(&key));
        }
        threat
    }

    /// The flows of a generation are in force; before it was `before`.
    pub fn confirmed(&mut self, before: u64, threat: Threat) {
        if threat.is_empty() {
            return;
        }
        if self.due.is_empty() && self.asking.is_none() {
            self.done = before;
        }
        self.due.extend(threat);
    }

    /// What is to be asked now, if anything; `confirmed` is the generation whose flows are in force.
    pub fn order(&mut self, confirmed: u64) -> Option<Threat> {
        if self.due.is_empty() || self.asking.is_some() || self.problem.is_some() {
            return None;
        }
        let threat = std::mem::take(&mut self.due);
        self.asking = Some((threat.clone(), confirmed));
        Some(threat)
    }

    /// What was asked is answered, or could not be asked.
    pub fn answered(&mut self, outcome: Result<(), String>) {
        let Some((threat, generation)) = self.asking.take() else { return };
        match outcome {
            Ok(()) => self.done = generation,
            Err(problem) => {
                self.due.extend(threat);
                self.problem = Some(problem);
            }
        }
    }

    /// Time to ask again what could not be asked; whether there is anything.
    pub fn retry(&mut self) -> bool {
        self.problem.take().is_some()
    }

    /// Why what is due cannot be asked.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The generation that is in force in full, when the flows of `confirmed` are.
    pub fn in_force(&self, confirmed: u64) -> u64 {
        if self.due.is_empty() && self.asking.is_none() { confirmed } else { self.done.min(confirmed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threat(host: u8) -> Threat {
        Threat { sources: [IpAddr::from([10, 0, 0, host])].into(), ..Threat::default() }
    }

    #[test]
    fn a_generation_is_in_force_when_what_it_denies_is_cut() {
        let mut cuts = Cuts::default();
        cuts.confirmed(1, Threat::default());
        assert_eq!((cuts.order(2), cuts.in_force(2)), (None, 2));

        cuts.confirmed(2, threat(1));
        assert_eq!(cuts.in_force(3), 2);
        assert_eq!(cuts.order(3), Some(threat(1)));
        // More comes while the switch is asked.
        cuts.confirmed(3, threat(2));
        cuts.confirmed(4, Threat::default());
        assert_eq!((cuts.order(5), cuts.in_force(5)), (None, 2));
        cuts.answered(Ok(()));
        assert_eq!(cuts.in_force(5), 3);
        assert_eq!(cuts.order(5), Some(threat(2)));
        cuts.answered(Ok(()));
        assert_eq!(cuts.in_force(5), 5);
    }

    #[test]
    fn what_could_not_be_asked_is_asked_again() {
        let mut cuts = Cuts::default();
        cuts.confirmed(1, threat(1));
        assert!(cuts.order(2).is_some());
        cuts.answered(Err("no socket".into()));
        cuts.confirmed(2, threat(2));
        assert_eq!((cuts.order(3), cuts.in_force(3), cuts.problem()), (None, 1, Some("no socket")));
        assert!(cuts.retry());
        let again = cuts.order(3).unwrap();
        assert_eq!(again.sources.len(), 2);
        cuts.answered(Ok(()));
        assert_eq!((cuts.in_force(3), cuts.problem()), (3, None));
    }
}
