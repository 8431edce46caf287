//! Why a flow exists. The cookie of a flow is a hash of its key, so that it depends on the state and not on history; the
//! program carries the table from cookie to reason.

use std::collections::BTreeSet;
use std::fmt;

use network::{Direction, NamespacedName, NodeName, PolicyId};
use openflow::Cookie;
use openflow::canonical::StableHash;
use serde::{Deserialize, Serialize};

use crate::drops::{COOKIE_DROPS, drops};
use crate::input::PortRef;
use crate::program::{Flow, FlowKey};

/// Something that makes flows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// The pipeline itself: stands whatever the cluster holds.
    Pipeline,
    /// A node.
    Node(NodeName),
    /// A Service.
    Service(NamespacedName),
    /// A pod's port.
    Pod(NamespacedName),
    /// An attachment without a pod's name, by its interface.
    Attachment(String),
    /// A rule of a policy.
    Rule {
        /// Which policy.
        policy: PolicyId,
        /// Which list.
        direction: Direction,
        /// Its place in the list.
        index: u32,
    },
    /// A policy's isolation: what it does not allow is dropped.
    Isolation {
        /// Which policy.
        policy: PolicyId,
        /// In which direction.
        direction: Direction,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipeline => f.write_str("pipeline"),
            Self::Node(name) => write!(f, "Node {name}"),
            Self::Service(key) => write!(f, "Service {key}"),
            Self::Pod(key) => write!(f, "Pod {key}"),
            Self::Attachment(interface) => write!(f, "attachment {interface}"),
            Self::Rule { policy, direction, index } => write!(f, "{policy} {}[{index}]", word(*direction)),
            Self::Isolation { policy, direction } => write!(f, "{policy} {} default-deny", word(*direction)),
        }
    }
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// Why a flow exists: everything that made it, and one sentence on what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// Everything that made it; several own a merged flow.
    pub owners: BTreeSet<Owner>,
    /// What it does.
    pub what: String,
}

impl Reason {
    /// One owner.
    pub fn of(owner: Owner, what: impl Into<String>) -> Self {
        Self { owners: BTreeSet::from([owner]), what: what.into() }
    }
}

/// The cookie of a flow: 0xfe, a bit that says whether it drops, then 55 bits of a hash of what tells the flow apart. It names the flow and not its owners, so
/// that an owner more or less changes no flow; the reason is derived from the state when somebody asks. The first byte tells
/// our flows from others'.
pub fn cookie_of(key: &FlowKey, flow: &Flow) -> Cookie {
    let mut hash = StableHash::new();
    hash.write(&[key.table.id()]);
    hash.write(&key.priority.0.to_be_bytes());
    match &key.in_port {
        None => hash.write(&[0]),
        Some(PortRef::Gateway) => hash.write(&[1]),
        Some(PortRef::Tunnel) => hash.write(&[2]),
        Some(PortRef::Interface(name)) => {
            hash.write(&[3]);
            hash.write(name.as_bytes());
            hash.write(&[0]);
        }
    }
    hash.write(&key.match_.to_bytes());
    let drops = if drops(key, flow) { COOKIE_DROPS } else { 0 };
    Cookie(COOKIE_MARK | drops | hash.finish() >> 9)
}

/// The first byte of all our cookies.
pub const COOKIE_MARK: u64 = 0xfe << 56;

/// The mask that finds them.
pub const COOKIE_MASK: u64 = 0xff << 56;
