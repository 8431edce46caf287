//! What a source gives: the network as its objects describe it, and what it could not use. Knows no particular source.

use std::collections::BTreeMap;

use api::insight::ProblemItem;
use network::Network;

/// Something that was read and could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Which object.
    pub object: String,
    /// Where it came from.
    pub source: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl From<Problem> for ProblemItem {
    fn from(problem: Problem) -> Self {
        Self { object: problem.object, source: problem.source, message: problem.message }
    }
}

/// The whole of a source at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the source: greater than that of every earlier snapshot of this run.
    pub revision: u64,
    /// What it says.
    pub network: Network,
    /// What of it could not be used.
    pub problems: Vec<Problem>,
    /// The files it was read from, where there are any, with the SHA-256 of the text that was used.
    pub files: BTreeMap<String, String>,
}
