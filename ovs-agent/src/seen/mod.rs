//! The last tuples of what the switch dropped, by the flow that dropped it. Bounded whatever is dropped. It must not know
//! why flows exist.

mod tuple;

use std::collections::BTreeMap;
use std::time::SystemTime;

use openflow::Cookie;

pub use tuple::Tuple;

/// Flows of which tuples are kept; the one that dropped longest ago is forgotten first.
const MOST_FLOWS: usize = 512;
/// Different tuples of one flow.
const MOST_TUPLES: usize = 5;

/// A tuple that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When it was seen last.
    pub at: SystemTime,
    /// Which.
    pub tuple: Tuple,
}

/// What was dropped last.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeMap<Cookie, Vec<Sighting>>);

impl Seen {
    /// One more.
    pub fn take(&mut self, cookie: Cookie, tuple: Tuple, at: SystemTime) {
        if !self.0.contains_key(&cookie) && self.0.len() >= MOST_FLOWS {
            let oldest = self.0.iter().min_by_key(|(_, tuples)| tuples.first().map(|seen| seen.at));
            if let Some(oldest) = oldest.map(|(cookie, _)| *cookie) {
                self.0.remove(&oldest);
            }
        }
        let tuples = self.0.entry(cookie).or_default();
        tuples.retain(|seen| seen.tuple != tuple);
        tuples.insert(0, Sighting { at, tuple });
        tuples.truncate(MOST_TUPLES);
    }

    /// What this flow dropped last, the newest first.
    pub fn of(&self, cookie: Cookie) -> &[Sighting] {
        self.0.get(&cookie).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tuple(port: u16) -> Tuple {
        Tuple { protocol: "TCP".into(), source: None, destination: None, ports: Some((port, 80)), icmp: None }
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_are_forgotten() {
        let mut seen = Seen::default();
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        for port in 0..7 {
            seen.take(Cookie(1), tuple(port), at(u64::from(port)));
        }
        seen.take(Cookie(1), tuple(4), at(9));
        let ports: Vec<_> = seen.of(Cookie(1)).iter().filter_map(|it| Some(it.tuple.ports?.0)).collect();
        assert_eq!(ports, [4, 6, 5, 3, 2]);
        assert_eq!(seen.of(Cookie(1))[0].at, at(9));
        for cookie in 2..=MOST_FLOWS as u64 + 1 {
            seen.take(Cookie(cookie), tuple(1), at(8));
        }
        assert_eq!((seen.of(Cookie(1)).len(), seen.of(Cookie(2)).len(), seen.0.len()), (5, 0, MOST_FLOWS));
    }
}
