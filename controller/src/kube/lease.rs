//! Which controller writes to the API: the holder of a Lease. Serving agents needs no lease. Pure; a holder counts as gone
//! when its lease has not changed for its duration as seen here, whatever the clocks say.

use std::time::{Duration, Instant};

/// The Lease.
pub const NAME: &str = "ferrule-status";
/// How long a holder is believed.
pub const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed, and looked at.
pub const RENEW: Duration = Duration::from_secs(5);

/// The Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who holds it; empty for nobody.
    pub holder: String,
    /// The version of the object: it changes with every renewal.
    pub version: String,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// There is none: make it ours.
    Create,
    /// Write our name into this version of it.
    Take(String),
    /// Somebody else has it.
    Wait,
}

/// What is known of the Lease.
#[derive(Debug)]
pub struct Lease {
    us: String,
    seen: Option<(Held, Instant)>,
    /// Until when we may write.
    until: Option<Instant>,
}

impl Lease {
    /// We are called `us`.
    pub fn new(us: String) -> Self {
        Self { us, seen: None, until: None }
    }

    /// What to do about what was read.
    pub fn look(&mut self, found: Option<Held>, now: Instant) -> Act {
        let Some(found) = found else { return Act::Create };
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != found) {
            self.seen = Some((found.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        if found.holder == self.us || found.holder.is_empty() || now >= since + DURATION {
            Act::Take(found.version)
        } else {
            Act::Wait
        }
    }

    /// Our name was written, when it was asked for at `asked`.
    pub fn taken(&mut self, asked: Instant) {
        self.until = Some(asked + DURATION);
    }

    /// Whether we may write now.
    pub fn is_ours(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now + RENEW < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(holder: &str, version: &str) -> Option<Held> {
        Some(Held { holder: holder.into(), version: version.into() })
    }

    #[test]
    fn a_lease_is_taken_when_nobody_renews_it_as_seen_from_here() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lease = Lease::new("us".into());
        assert_eq!(lease.look(None, at(0)), Act::Create);
        assert_eq!(lease.look(held("them", "1"), at(0)), Act::Wait);
        assert_eq!(lease.look(held("them", "2"), at(14)), Act::Wait);
        assert_eq!(lease.look(held("them", "2"), at(28)), Act::Wait);
        assert_eq!(lease.look(held("them", "2"), at(29)), Act::Take("2".into()));
        lease.taken(at(29));
        assert!(lease.is_ours(at(29)) && lease.is_ours(at(38)) && !lease.is_ours(at(39)));
        assert_eq!(lease.look(held("us", "3"), at(34)), Act::Take("3".into()));
        // Somebody took it meanwhile.
        assert_eq!(lease.look(held("them", "4"), at(60)), Act::Wait);
    }
}
