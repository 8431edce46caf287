//! How much of each source a state contains, and which state may follow which. Knows no sources.
//!
//! **The rule.** A watermark is an epoch and a revision per source. Inside an epoch revisions only grow, and an agent
//! refuses a state that does not dominate what it acknowledged: a controller that lags cannot take it back in time. When
//! a source does go back (a store restored from a backup, a counter that was lost) the controllers start a greater epoch:
//! it is admitted whatever its revisions are. A smaller epoch is never admitted.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One line of history of the sources. Grows; on the wire it is the decimal number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The text is not a decimal number of 64 bits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an epoch (a decimal number)")]
pub struct EpochError(pub String);

impl FromStr for Epoch {
    type Err = EpochError;

    fn from_str(text: &str) -> Result<Self, EpochError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.map(Self).ok_or_else(|| EpochError(text.to_owned()))
    }
}

/// How much of each source a state contains. The default contains nothing and every state may follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Which history the revisions count.
    pub epoch: Epoch,
    /// Revision by source: `manifests`, `bindings/NODE`, …; a source that is not listed is at 0.
    pub revisions: BTreeMap<String, u64>,
}

impl Watermark {
    /// The source of a node's bindings.
    pub fn bindings_of(node: &network::NodeName) -> String {
        format!("bindings/{node}")
    }

    /// The revision of a source that the state contains.
    pub fn revision(&self, source: &str) -> u64 {
        self.revisions.get(source).copied().unwrap_or(0)
    }

    /// Everything that either contains; of different epochs only the greater one counts.
    #[must_use]
    pub fn join(&self, mut other: Self) -> Self {
        match self.epoch.cmp(&other.epoch) {
            Ordering::Greater => self.clone(),
            Ordering::Less => other,
            Ordering::Equal => {
                for (source, revision) in &self.revisions {
                    let held = other.revisions.entry(source.clone()).or_default();
                    *held = (*held).max(*revision);
                }
                other
            }
        }
    }

    /// Whether this state is of the same epoch and contains everything that `other` contains.
    pub fn dominates(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && other.revisions.iter().all(|(source, revision)| self.revision(source) >= *revision)
    }

    /// Whether an agent that acknowledged `self` may take a state of the `offered` watermark.
    pub fn admits(&self, offered: &Self) -> Result<(), Outdated> {
        if offered.epoch > self.epoch || offered.dominates(self) {
            return Ok(());
        }
        if offered.epoch < self.epoch {
            return Err(Outdated::Epoch { held: self.epoch, offered: offered.epoch });
        }
        let behind = self.revisions.iter().find(|(source, held)| offered.revision(source) < **held);
        let (source, held) = behind.map_or_else(|| (String::new(), 0), |(s, held)| (s.clone(), *held));
        let offered = offered.revision(&source);
        Err(Outdated::Revision { source_name: source, held, offered })
    }
}

/// Why an agent refuses a state: the controller that offers it is behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    /// It belongs to a history that was replaced.
    #[error(
        "the state offered is of epoch {offered}, the one in force of epoch {held}: the controller lags or was restored"
    )]
    Epoch {
        /// What is in force.
        held: Epoch,
        /// What was offered.
        offered: Epoch,
    },
    /// It lacks something that is in force.
    #[error(
        "the state offered contains {source_name} up to {offered}, the one in force up to {held}: the controller lags"
    )]
    Revision {
        /// Which source.
        source_name: String,
        /// What is in force.
        held: u64,
        /// What was offered.
        offered: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, revisions: &[(&str, u64)]) -> Watermark {
        let revisions = revisions.iter().map(|(s, r)| ((*s).to_owned(), *r)).collect();
        Watermark { epoch: Epoch(epoch), revisions }
    }

    #[test]
    fn dominance_is_per_source_and_inside_an_epoch() {
        let held = at(7, &[("manifests", 4), ("bindings/node-1", 2)]);
        assert!(held.dominates(&held));
        assert!(at(7, &[("manifests", 5), ("bindings/node-1", 2), ("x", 1)]).dominates(&held));
        assert!(!at(7, &[("manifests", 9)]).dominates(&held));
        assert!(!at(8, &[("manifests", 9), ("bindings/node-1", 9)]).dominates(&held));
        assert!(held.dominates(&at(7, &[("x", 0)])));
    }

    #[test]
    fn a_join_is_the_least_that_dominates_both() {
        let (a, b) = (at(7, &[("pods", 4), ("nodes", 9)]), at(7, &[("pods", 5)]));
        assert_eq!(a.join(b.clone()), at(7, &[("nodes", 9), ("pods", 5)]));
        assert!(a.join(b.clone()).dominates(&a) && a.join(b.clone()).dominates(&b));
        assert_eq!(a.join(at(8, &[])), at(8, &[]));
        assert_eq!(at(8, &[]).join(a), at(8, &[]));
    }

    #[test]
    fn an_agent_goes_forward_only_and_a_greater_epoch_is_forward() {
        let held = at(7, &[("manifests", 4)]);
        assert_eq!(Watermark::default().admits(&held), Ok(()));
        assert_eq!(held.admits(&held), Ok(()));
        assert_eq!(held.admits(&at(8, &[])), Ok(()));
        assert_eq!(
            held.admits(&at(6, &[("manifests", 9)])),
            Err(Outdated::Epoch { held: Epoch(7), offered: Epoch(6) })
        );
        let error = held.admits(&at(7, &[("manifests", 3)])).unwrap_err();
        assert_eq!(error, Outdated::Revision { source_name: "manifests".into(), held: 4, offered: 3 });
    }

    #[test]
    fn an_epoch_is_digits() {
        assert_eq!("18446744073709551615".parse(), Ok(Epoch(u64::MAX)));
        for bad in ["", "-1", "+1", "1 ", "18446744073709551616", "a"] {
            assert!(bad.parse::<Epoch>().is_err(), "{bad}");
        }
    }
}
