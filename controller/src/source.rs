//! What a source gives: the network as its objects describe it, and what it could not use. Knows no particular source.

use std::collections::BTreeMap;

use api::insight::ProblemItem;
use api::watermark::Epoch;
use network::{Change, Network};
use serde::{Deserialize, Serialize};

/// Something that was read and could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// Which object.
    pub object: String,
    /// Where it came from.
    pub source: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Of which sort it is.
    #[serde(default)]
    pub reason: Reason,
}

/// Of which sort a problem is: the reason of the Event that tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// Something is not in force as it should be.
    #[default]
    NotRealized,
    /// Somebody else changed what is in force; it was put right.
    Drifted,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotRealized => "NotRealized",
            Self::Drifted => "Drifted",
        })
    }
}

impl Revision {
    /// Of a source whose every revision is a change.
    pub fn at(revision: u64) -> Self {
        Self { changed: revision, contained: revision }
    }
}

impl From<Problem> for ProblemItem {
    fn from(problem: Problem) -> Self {
        Self { object: problem.object, source: problem.source, message: problem.message }
    }
}

/// How much of one kind of objects a state contains, in revisions of the source. Between the two nothing changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Where it changed last: what others have to contain too.
    pub changed: u64,
    /// Up to where it is known.
    pub contained: u64,
}

/// The whole of a source at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The epoch, where the source keeps it.
    pub epoch: Option<Epoch>,
    /// How much of each kind of objects it contains, by the name that the kind has in the watermark.
    pub revisions: BTreeMap<String, Revision>,
    /// What it says.
    #[serde(with = "as_changes")]
    pub network: Network,
    /// What of it could not be used.
    pub problems: Vec<Problem>,
    /// The files it was read from, where there are any, with the SHA-256 of the text that was used.
    pub files: BTreeMap<String, String>,
}

/// What of a source is different since it was asked last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The epoch, where the source keeps it.
    pub epoch: Option<Epoch>,
    /// How much of each kind of objects it contains with these changes.
    pub revisions: BTreeMap<String, Revision>,
    /// The changes, in their order.
    pub changes: Vec<Change>,
    /// All that cannot be used now.
    pub problems: Vec<Problem>,
}

/// How a source stands, beside what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The epoch of the snapshots, once there was one.
    pub epoch: Option<Epoch>,
    /// Up to where each kind is known by now.
    pub contained: BTreeMap<String, Revision>,
    /// What is waited for before the first snapshot.
    pub waiting: Vec<String>,
    /// Why no agent can connect yet, where that is so.
    #[serde(default)]
    pub unserved: Option<String>,
    /// What is in the way of knowing more.
    pub problems: Vec<Problem>,
}

/// A network as the changes that make it of nothing. Selectors that nobody names are left out.
mod as_changes {
    use network::{Change, Network};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(network: &Network, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(network.changes_since(&Network::default()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        let mut network = Network::default();
        Vec::<Change>::deserialize(deserializer)?.into_iter().for_each(|change| network.apply(change));
        Ok(network)
    }
}
