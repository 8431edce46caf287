//! Everything that happens to the owner's state, written down, and what came of it: a fault can be carried home and played
//! again without its cluster (`docs/adr/0019-everything-that-happens-can-be-replayed.md`).
//!
//! A recording is JSON, one line each: a beginning (a whole state), then inputs with their times, and after every batch of
//! them what the state was settled to. Every file begins with a state of its own, so each can be replayed alone.

pub mod digest;
pub mod replay;
pub mod report;
pub mod writer;

use network::NodeName;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::agent::{Hello, SessionId};
use crate::hearing::Said;
use crate::owner::Event;
use crate::source::{Changes, Progress, Snapshot};
use crate::state::{Checkpoint, Demand};
use digest::{Digest, Digests};

/// The form of the lines. Another form gets another number, and is refused.
pub const FORMAT: &str = "ferrule.io/record/1";

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begin(Box<Begin>),
    Input { at_us: u64, input: Box<Input> },
    Settled(Box<Settled>),
}

/// What a file begins with.
#[derive(Debug, Serialize, Deserialize)]
struct Begin {
    format: String,
    /// Of the controller that wrote it.
    version: String,
    state: Checkpoint,
}

/// What the inputs since the last of these came to.
#[derive(Debug, Serialize, Deserialize)]
struct Settled {
    at_us: u64,
    /// Of every line before this one, and of the time.
    chain: Digest,
    #[serde(flatten)]
    digests: Digests,
}

/// What happens to the state: [`Event`], without what nobody else can replay and what changes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A source read its objects again.
    Snapshot(Snapshot),
    /// What is different in the source.
    Changes(Changes),
    /// How the source stands.
    Progress(Progress),
    /// The source has looked.
    Confirm(Demand),
    /// An agent connected.
    Attach {
        /// Of which node.
        node: NodeName,
        /// Its stream.
        session: SessionId,
        /// What it said.
        hello: Hello,
    },
    /// It said something else.
    Said {
        /// Of which node.
        node: NodeName,
        /// Its stream.
        session: SessionId,
        /// What.
        said: Said,
    },
    /// Its stream ended.
    Detach {
        /// Of which node.
        node: NodeName,
        /// Its stream.
        session: SessionId,
    },
}

impl Input {
    /// What of an event is recorded.
    fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Snapshot(snapshot) => Self::Snapshot(snapshot.clone()),
            Event::Changes(changes) => Self::Changes(changes.clone()),
            Event::Progress(progress) => Self::Progress(progress.clone()),
            Event::Confirm(demand) => Self::Confirm(demand.clone()),
            Event::Attach(node, link, hello) => {
                Self::Attach { node: node.clone(), session: link.session, hello: (**hello).clone() }
            }
            Event::Said(_, _, Said::Told(_) | Said::Unknown) => return None,
            Event::Said(node, session, said) => {
                Self::Said { node: node.clone(), session: *session, said: said.clone() }
            }
            Event::Detach(node, session) => Self::Detach { node: node.clone(), session: *session },
            Event::Read(_) | Event::Ask { .. } => return None,
        })
    }

    /// In one word, and whom it came from.
    fn title(&self) -> String {
        let said = |said: &Said| match said {
            Said::Answer { .. } => "answer",
            Said::Bindings { .. } => "bindings",
            Said::Progress { .. } => "progress",
            Said::Lead { .. } => "lead",
            Said::StandBy { .. } => "stand-by",
            Said::Told(_) => "told",
            Said::Unknown => "unknown",
            Said::Garbage(_) => "garbage",
        };
        match self {
            Self::Snapshot(snapshot) => format!("snapshot of {} pods", snapshot.network.pods.len()),
            Self::Changes(changes) => format!("{} changes", changes.changes.len()),
            Self::Progress(_) => "progress of the source".to_owned(),
            Self::Confirm(_) => "confirmation".to_owned(),
            Self::Attach { node, .. } => format!("attach {node}"),
            Self::Said { node, said: it, .. } => format!("{} {node}", said(it)),
            Self::Detach { node, .. } => format!("detach {node}"),
        }
    }
}

/// The digest of all lines so far.
#[derive(Clone, Debug, Default)]
struct Chain(Sha256);

impl Chain {
    /// A line, without its end.
    fn take(&mut self, line: &str) {
        self.0.update(line.as_bytes());
        self.0.update(b"\n");
    }

    fn value(&self, at_us: u64) -> Digest {
        let mut hash = self.0.clone();
        hash.update(at_us.to_be_bytes());
        Digest::of(hash)
    }
}
