//! What somebody else changed of ours, and what is remembered of it. Pure.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use api::insight::Difference;
use openflow::Cookie;

use crate::shadow::FlowId;

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
    /// A flow; and what leads to who made it, where it was ours.
    Flow {
        /// Which.
        id: FlowId,
        /// The mark that it had.
        cookie: Option<Cookie>,
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

#[cfg(test)]
mod tests {
    use openflow::{FlowMod, Match, TableId};

    use super::*;

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
            Drift::new("flow", (true, false), Thing::Flow { id, cookie: None })
        };
        past.add((0..150).map(flow), start);
        assert!(past.lately(start).all(|(_, drift)| drift.place == "host"));
        past.add([drift(7)], start + LATELY);
        assert_eq!(first(&past, start + LATELY), Some(drift(7)));
    }
}
