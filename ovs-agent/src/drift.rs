//! What somebody else changed of ours, and what is remembered of it. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use api::insight::Difference;
use compiler::Owner;
use network::NodeName;

use crate::shadow::{FlowId, named};

/// Something of ours that somebody else changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// `flow`, `meter`, `group`, `database`, `host`.
    pub place: &'static str,
    /// What became of it.
    pub difference: Difference,
    /// What it is.
    pub thing: Thing,
}

/// What is said of something that nobody of Ferrule's made.
pub const NOT_OURS: &str = "not ours: nobody knows why it is here";

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A flow.
    Flow {
        /// Which.
        id: FlowId,
        /// It was there before; what is there without us has no owner.
        known: bool,
    },
    /// Something else, in words.
    Other {
        /// Which.
        object: String,
        /// What it does.
        what: String,
    },
}

impl Drift {
    /// Something that was there or not, and is there or not.
    pub fn new(place: &'static str, there: (bool, bool), thing: Thing) -> Self {
        let difference = match there {
            (true, false) => Difference::Missing,
            (false, true) => Difference::Extra,
            _ => Difference::Changed,
        };
        Self { place, difference, thing }
    }

    /// Whether it is a flow: one change of somebody's can touch all of them.
    pub fn is_flow(&self) -> bool {
        matches!(self.thing, Thing::Flow { .. })
    }

    /// Something that is not a flow.
    pub fn other(place: &'static str, difference: Difference, object: String, what: &str) -> Self {
        Self { place, difference, thing: Thing::Other { object, what: what.into() } }
    }
}

/// What was put right lately.
#[derive(Clone, Debug, Default)]
pub struct Past {
    all: VecDeque<(SystemTime, Drift)>,
}

/// As many are remembered.
const REMEMBERED: usize = 100;
/// For so long.
const LATELY: Duration = Duration::from_secs(3600);

impl Past {
    /// Remembers these, and forgets what is old: flows first, of which one change can touch all.
    pub fn add(&mut self, drifts: impl IntoIterator<Item = Drift>, now: SystemTime) {
        self.all.extend(drifts.into_iter().map(|drift| (now, drift)));
        while self.all.len() > REMEMBERED {
            let oldest_flow = self.all.iter().position(|(_, drift)| drift.is_flow());
            self.all.remove(oldest_flow.unwrap_or(0));
        }
    }

    /// What there was within the last hour, the oldest first.
    pub fn lately(&self, now: SystemTime) -> impl Iterator<Item = &(SystemTime, Drift)> {
        // After a clock went back nothing is old.
        self.all.iter().filter(move |(at, _)| now.duration_since(*at).is_ok_and(|age| age < LATELY))
    }
}

/// What the controllers are told of it: the first thing of each place, until there was nothing for a while. So a storm of
/// changes is a handful of messages.
#[derive(Clone, Debug, Default)]
pub struct Lately {
    first: BTreeMap<&'static str, String>,
    last: Option<Instant>,
}

/// For so long the controllers are told of the last change.
const TOLD: Duration = Duration::from_secs(600);
/// As many owners of a flow are named.
const OWNERS: usize = 3;
/// The longest that one thing is described, in characters.
const LONGEST: usize = 160;

impl Lately {
    /// Takes these in; `owners` says whose a flow is, and is asked for the first flow alone. Whether there
    /// is something new to be told.
    pub fn add(
        &mut self,
        drifts: &[Drift],
        now: Instant,
        owners: impl Fn(&FlowId) -> BTreeSet<Owner>,
    ) -> bool {
        let before = self.first.len();
        for drift in drifts {
            self.last = Some(now);
            self.first.entry(drift.place).or_insert_with(|| drift.told(&owners));
        }
        self.first.len() > before
    }

    /// When it is all forgotten, unless there is more.
    pub fn until(&self) -> Option<Instant> {
        self.last.map(|last| last + TOLD)
    }

    /// Forgets what is long ago. Whether there was such.
    pub fn pass(&mut self, now: Instant) -> bool {
        let over = self.until().is_some_and(|until| now >= until);
        if over {
            *self = Self::default();
        }
        over
    }

    /// For people; empty where there was nothing.
    pub fn words(&self, node: &NodeName) -> String {
        if self.first.is_empty() {
            return String::new();
        }
        let what: Vec<&str> = self.first.values().map(String::as_str).collect();
        format!(
            "somebody else changed what is Ferrule's here, and it is put right: {}; `ferrule audit --node {node}` lists \
             what was changed within the last hour",
            what.join("; ")
        )
    }
}

impl Drift {
    fn told(&self, owners: impl Fn(&FlowId) -> BTreeSet<Owner>) -> String {
        let (object, whose) = match &self.thing {
            Thing::Flow { id, known } => {
                let (table, priority, match_) = id.parts();
                let whose = known.then(|| owners(id)).unwrap_or_default();
                (named(table, priority, &match_), whose)
            }
            Thing::Other { object, .. } => (object.clone(), BTreeSet::new()),
        };
        let mut names: Vec<String> = whose.iter().take(OWNERS).map(Owner::to_string).collect();
        if whose.len() > OWNERS {
            names.push(format!("{} more", whose.len() - OWNERS));
        }
        let of = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
        let became = match self.difference {
            Difference::Missing => "taken out",
            Difference::Extra => "added",
            Difference::Changed => "changed",
        };
        let object: String = object.chars().take(LONGEST).collect();
        format!("{} {object}{of} was {became}", self.place)
    }
}

#[cfg(test)]
mod tests {
    use openflow::{FlowMod, Match, TableId};

    use super::*;

    #[test]
    fn a_storm_is_told_once_and_forgotten_when_it_is_over() {
        let (mut lately, start) = (Lately::default(), Instant::now());
        let node = NodeName::new("node-1");
        let nobody = |_: &FlowId| BTreeSet::new();
        assert_eq!((lately.words(&node), lately.pass(start), lately.until()), (String::new(), false, None));
        let flow = |n: u16| {
            let id = FlowId::of(&FlowMod::add(TableId(0), n, Match::new(), Vec::new()));
            Drift::new("flow", (true, false), Thing::Flow { id, known: true })
        };
        let storm: Vec<Drift> = (1..100).map(flow).collect();
        let owner = |id: &FlowId| match id.parts() {
            (_, 1, _) => BTreeSet::from([Owner::Pipeline, Owner::Node(NodeName::new("node-2"))]),
            _ => BTreeSet::new(),
        };
        assert!(lately.add(&storm, start, owner));
        let words = lately.words(&node);
        assert!(
            words.contains("flow Classifier priority=1 of pipeline, Node node-2 was taken out;"),
            "{words}"
        );
        assert!(words.contains("`ferrule audit --node node-1`"), "{words}");
        // More of the same place is nothing new; of another place it is. Each time the wait begins anew.
        let later = start + Duration::from_secs(60);
        assert!(!lately.add(&storm[1..], later, owner));
        assert_eq!(lately.words(&node), words);
        let meter = Drift::other("meter", Difference::Changed, "meter 1".into(), "");
        assert!(lately.add(&[meter], later, nobody));
        assert!(lately.words(&node).contains("; meter meter 1 was changed;"), "{}", lately.words(&node));
        assert!(!lately.pass(start + TOLD));
        assert!(lately.pass(later + TOLD) && lately.words(&node).is_empty() && lately.until().is_none());
    }

    #[test]
    fn the_last_hundred_of_the_last_hour_are_remembered() {
        let (mut past, start) = (Past::default(), SystemTime::UNIX_EPOCH);
        let drift = |n: u32| Drift::other("host", Difference::Changed, n.to_string(), "");
        past.add((0..150).map(drift), start);
        let first = |past: &Past, now| past.lately(now).next().map(|(_, drift)| drift.clone());
        assert_eq!((past.lately(start).count(), first(&past, start)), (100, Some(drift(50))));
        // Flows make way for everything else, and not the other way round.
        let flow = |n: u16| {
            let id = FlowId::of(&FlowMod::add(TableId(3), n, Match::new(), Vec::new()));
            Drift::new("flow", (true, false), Thing::Flow { id, known: false })
        };
        past.add((0..150).map(flow), start);
        assert!(past.lately(start).all(|(_, drift)| drift.place == "host"));
        past.add([drift(7)], start + LATELY);
        assert_eq!(first(&past, start + LATELY), Some(drift(7)));
    }
}
