//! What an agent acknowledged beyond what we have: when we may send it something nevertheless. Pure.
//!
//! An agent refuses a state that does not contain all that it acknowledged (`Watermark::admits`). Three kinds of lack are
//! told apart. Of *objects* we may know that nothing changed since, although our revision is smaller: then we contain what
//! it acknowledged and say so. Of the *bindings* of other nodes we wait a bounded while for their agents' reports; after it
//! the objects are the truth, for the agent may never report again. Everything else is *ours to catch up with*: the source
//! looks, and until it has found it nothing is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use api::watermark::{Epoch, Outdated, Watermark};
use network::NodeName;

use crate::index::Index;
use crate::source::Revision;

/// How long an agent that has a state may be kept waiting for reports of other nodes' agents.
pub const SETTLE: Duration = Duration::from_secs(3);
/// How often the source is reminded.
const REMIND: Duration = Duration::from_secs(5);

/// What an agent acknowledged and we lack at face value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    acknowledged: Watermark,
    /// Revisions that are greater than ours were.
    lacking: BTreeMap<String, u64>,
    /// The source has to look again after this demand, whatever the revisions say.
    demand: Option<u64>,
    since: Option<Instant>,
    reminded: Option<Instant>,
}

/// What we have.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// At face value.
    pub watermark: &'a Watermark,
    /// Up to where each kind of objects is known.
    pub contained: &'a BTreeMap<String, Revision>,
    /// The nodes there are.
    pub nodes: &'a dyn NodeNames,
    /// Up to which demand the source has looked.
    pub confirmed: u64,
}

/// The nodes there are.
pub trait NodeNames: std::fmt::Debug {
    /// Whether this is one.
    fn has(&self, name: &str) -> bool;
}

/// What may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// We have all of it.
    Met,
    /// We have it, once these revisions are said.
    Raised(BTreeMap<String, u64>),
    /// Reports, or the source's look, are waited for until then.
    Waits(Instant),
    /// We lag.
    Lags(Outdated),
}

impl Floor {
    /// Of the agent of `node`; `None` when we have everything. `demand` makes the source look again in any case.
    pub fn of(
        node: &NodeName,
        acknowledged: &Watermark,
        ours: &Watermark,
        demand: Option<u64>,
    ) -> Option<Self> {
        let own = Watermark::bindings_of(node);
        let lacking: BTreeMap<String, u64> = acknowledged
            .revisions
            .iter()
            .filter(|(source, revision)| **source != own && ours.revision(source) < **revision)
            .map(|(source, revision)| (source.clone(), *revision))
            .collect();
        let behind = acknowledged.epoch > ours.epoch || !lacking.is_empty();
        (behind || demand.is_some()).then(|| Self {
            acknowledged: acknowledged.clone(),
            lacking,
            demand,
            since: None,
            reminded: None,
        })
    }

    /// All that was acknowledged.
    pub fn acknowledged(&self) -> &Watermark {
        &self.acknowledged
    }

    /// Whether to remind the source now.
    pub fn reminds(&mut self, now: Instant) -> bool {
        let due = self.reminded.is_none_or(|last| now >= last + REMIND);
        if due {
            self.reminded = Some(now);
        }
        due
    }

    /// When to judge again although nothing happens.
    pub fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let settled = self.since.map(|since| since + SETTLE);
        let reminded = self.reminded.map(|reminded| reminded + REMIND);
        settled.into_iter().chain(reminded).filter(|at| *at > now).min()
    }

    /// Judges anew; what is no longer lacking is forgotten.
    pub fn judge(&mut self, ours: Ours<'_>, now: Instant) -> Verdict {
        let (held, offered): (Epoch, Epoch) = (self.acknowledged.epoch, ours.watermark.epoch);
        let settled = *self.since.get_or_insert(now) + SETTLE;
        let looks = self.demand.is_some_and(|demand| ours.confirmed < demand);
        // Looking takes a moment; another controller is not faster.
        if looks && now < settled {
            return Verdict::Waits(settled);
        }
        if offered < held {
            return Verdict::Lags(Outdated::Epoch { held, offered });
        }
        let another = offered > held;
        self.lacking.retain(|source, revision| {
            let of_objects = !source.starts_with(BINDINGS);
            ours.watermark.revision(source) < *revision && !(another && of_objects)
        });
        if looks {
            let (source, held) =
                self.lacking.iter().next().map_or_else(Default::default, |(s, r)| (s.clone(), *r));
            let offered = ours.watermark.revision(&source);
            return Verdict::Lags(Outdated::Revision { source_name: source, held, offered });
        }
        self.demand = None;
        let mut waits = false;
        for (source, revision) in &self.lacking {
            match source.strip_prefix(BINDINGS) {
                Some(node) => waits |= ours.nodes.has(node) && now < settled,
                // A source that we do not have cannot be lacked.
                None => {
                    if let Some(contained) = ours.contained.get(source).map(|revision| revision.contained)
                        && contained < *revision
                    {
                        return Verdict::Lags(Outdated::Revision {
                            source_name: source.clone(),
                            held: *revision,
                            offered: contained,
                        });
                    }
                }
            }
        }
        match (waits, self.lacking.is_empty()) {
            (true, _) => Verdict::Waits(settled),
            (false, true) => Verdict::Met,
            (false, false) => Verdict::Raised(self.lacking.clone()),
        }
    }
}

const BINDINGS: &str = "bindings/";

impl NodeNames for Index {
    fn has(&self, name: &str) -> bool {
        self.node(&NodeName::new(name)).is_some()
    }
}

impl NodeNames for BTreeSet<NodeName> {
    fn has(&self, name: &str) -> bool {
        self.contains(&NodeName::new(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, revisions: &[(&str, u64)]) -> Watermark {
        let revisions =
            revisions.iter().map(|(source, revision)| ((*source).to_owned(), *revision)).collect();
        Watermark { epoch: Epoch(epoch), revisions }
    }

    struct Have {
        watermark: Watermark,
        contained: BTreeMap<String, Revision>,
        nodes: BTreeSet<NodeName>,
        confirmed: u64,
    }

    impl Have {
        fn new(watermark: Watermark, contained: u64) -> Self {
            let contained = [("pods".to_owned(), Revision { changed: 0, contained })].into();
            let nodes = ["node-1", "node-2"].map(NodeName::new).into();
            Self { watermark, contained, nodes, confirmed: 0 }
        }

        fn ours(&self) -> Ours<'_> {
            let (watermark, contained) = (&self.watermark, &self.contained);
            Ours { watermark, contained, nodes: &self.nodes, confirmed: self.confirmed }
        }
    }

    fn floor(acknowledged: &Watermark, have: &Have, demand: Option<u64>) -> Option<Floor> {
        Floor::of(&NodeName::new("node-1"), acknowledged, &have.watermark, demand)
    }

    #[test]
    fn who_has_all_has_no_floor_and_its_own_bindings_do_not_count() {
        let have = Have::new(at(3, &[("pods", 10)]), 10);
        assert_eq!(floor(&at(3, &[("pods", 10), ("bindings/node-1", 99)]), &have, None), None);
        assert_eq!(floor(&at(2, &[("pods", 10)]), &have, None), None);
        assert!(floor(&at(3, &[("pods", 11)]), &have, None).is_some());
    }

    #[test]
    fn what_is_contained_is_raised_and_what_is_not_lags() {
        let now = Instant::now();
        let mut have = Have::new(at(3, &[("pods", 10)]), 15);
        let mut held = floor(&at(3, &[("pods", 20)]), &have, None).unwrap();
        let lags = Outdated::Revision { source_name: "pods".into(), held: 20, offered: 15 };
        assert_eq!(held.judge(have.ours(), now), Verdict::Lags(lags));
        have.contained.insert("pods".into(), Revision { changed: 10, contained: 21 });
        assert_eq!(held.judge(have.ours(), now), Verdict::Raised([("pods".to_owned(), 20)].into()));
        have.watermark = at(3, &[("pods", 22)]);
        assert_eq!(held.judge(have.ours(), now), Verdict::Met);
    }

    #[test]
    fn reports_of_others_are_waited_for_a_while_and_those_of_nodes_that_left_not_at_all() {
        let now = Instant::now();
        let have = Have::new(at(3, &[]), 0);
        let acknowledged = at(3, &[("bindings/node-2", 7), ("bindings/gone", 9)]);
        let mut held = floor(&acknowledged, &have, None).unwrap();
        assert_eq!(held.judge(have.ours(), now), Verdict::Waits(now + SETTLE));
        let raised = [("bindings/node-2".to_owned(), 7), ("bindings/gone".to_owned(), 9)].into();
        assert_eq!(held.judge(have.ours(), now + SETTLE), Verdict::Raised(raised));
        // Reported in time.
        let have = Have::new(at(3, &[("bindings/node-2", 7)]), 0);
        assert_eq!(held.judge(have.ours(), now), Verdict::Raised([("bindings/gone".to_owned(), 9)].into()));
    }

    #[test]
    fn a_greater_epoch_of_ours_ends_it_and_a_smaller_one_lags() {
        let now = Instant::now();
        let mut have = Have::new(at(3, &[]), 0);
        let mut held = floor(&at(4, &[("pods", 20)]), &have, None).unwrap();
        let lags = Outdated::Epoch { held: Epoch(4), offered: Epoch(3) };
        assert_eq!(held.judge(have.ours(), now), Verdict::Lags(lags));
        have.watermark.epoch = Epoch(5);
        assert_eq!(held.judge(have.ours(), now), Verdict::Met);
    }

    #[test]
    fn a_demand_has_to_be_met_even_if_the_revisions_agree() {
        let now = Instant::now();
        let mut have = Have::new(at(3, &[("pods", 10)]), 10);
        let mut held = floor(&at(3, &[("pods", 10)]), &have, Some(2)).unwrap();
        assert_eq!(held.judge(have.ours(), now), Verdict::Waits(now + SETTLE));
        assert!(matches!(held.judge(have.ours(), now + SETTLE), Verdict::Lags(_)));
        have.confirmed = 2;
        assert_eq!(held.judge(have.ours(), now), Verdict::Met);
    }
}
