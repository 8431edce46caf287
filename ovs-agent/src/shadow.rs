//! What the switch holds, as far as it must be known to compute a difference: which flows, and a fingerprint of what each
//! does. Never the flows themselves. It must not know how flows reach the switch.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use compiler::{FlowKey, Table};
use openflow::canonical::canonical_instructions;
use openflow::{Cookie, Field, FlowFlags, FlowMod, FlowStats, Instruction, Match, TableId};

use crate::recipe::Numbers;

mod packed;

pub use packed::FlowTable;

/// What tells flows of one switch apart (OpenFlow 1.3.5 §6.4): table, priority and match. The match is in its bytes, which
/// take a small part of the memory of the match itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    table: TableId,
    priority: u16,
    match_: MatchBytes,
}

/// The bytes of a match. Those of clauses, which most flows are, fit without an allocation.
#[derive(Clone)]
enum MatchBytes {
    Short { length: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

/// As long as the other variant lets be for nothing.
const SHORT: usize = 22;

impl MatchBytes {
    fn new(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match short.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Self::Short { length: bytes.len() as u8, bytes: short }
            }
            None => Self::Long(bytes.into()),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            // The length is of what was copied.
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for MatchBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl PartialEq for MatchBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for MatchBytes {}

impl PartialOrd for MatchBytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MatchBytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for MatchBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl FlowId {
    /// The identity of a flow to be added.
    pub fn of(flow: &FlowMod) -> Self {
        Self::new(flow.table, flow.priority, &flow.match_)
    }

    /// The identity of a compiled flow in the switch; `None` while its port has no number.
    pub fn of_key(key: &FlowKey, numbers: &Numbers) -> Option<Self> {
        let mut match_ = key.match_.clone();
        if let Some(port) = &key.in_port {
            match_ = match_.with(Field::IN_PORT, numbers.get(port)?.0);
        }
        Some(Self::new(TableId(key.table.id()), key.priority.0, &match_))
    }

    /// The flow of a table with this priority and match.
    pub fn new(table: TableId, priority: u16, match_: &Match) -> Self {
        Self { table, priority, match_: MatchBytes::new(&match_.canonical().to_bytes()) }
    }

    /// Table, priority and match.
    pub fn parts(&self) -> (TableId, u16, Match) {
        // The bytes are a match's own, so they are read back.
        let match_ = Match::from_bytes(self.match_.as_slice()).unwrap_or_default();
        (self.table, self.priority, match_)
    }

    /// The message that deletes it and nothing else.
    pub fn deletion(&self) -> FlowMod {
        let (table, priority, match_) = self.parts();
        FlowMod::delete_strict(table, priority, match_)
    }
}

/// A flow, for people.
pub fn named(table: TableId, priority: u16, match_: &Match) -> String {
    let name = Table::from_id(table.0).map_or_else(|| table.to_string(), |table| table.name().to_owned());
    let match_ = match_.to_string();
    let comma = if match_.is_empty() { "" } else { "," };
    format!("{name} priority={priority}{comma}{match_}")
}

/// What somebody made of a flow, as the switch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowChange {
    /// Which flow.
    pub id: FlowId,
    /// What it is now; `None`: gone.
    pub now: Option<Held>,
}

/// What is known of a flow in the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// A hash of its mark and of everything that it does: instructions, timeouts, flags, in the form that the switch reports
    /// back. The lowest bit is none of it.
    fingerprint: u64,
}

impl Held {
    /// What will be held once this is added.
    pub fn wanted(flow: &FlowMod) -> Self {
        Self::new(flow.cookie, &flow.instructions, (flow.idle_timeout, flow.hard_timeout), flow.flags)
    }

    /// What the switch reports.
    pub fn observed(flow: &FlowStats) -> Self {
        Self::new(flow.cookie, &flow.instructions, (flow.idle_timeout, flow.hard_timeout), flow.flags)
    }

    /// A flow with this mark, these instructions, timeouts (idle and hard, in seconds) and flags.
    pub fn new(cookie: Cookie, instructions: &[Instruction], timeouts: (u16, u16), flags: FlowFlags) -> Self {
        // Of one process only: nothing of it is stored.
        let mut hasher = DefaultHasher::new();
        cookie.hash(&mut hasher);
        canonical_instructions(instructions).hash(&mut hasher);
        timeouts.hash(&mut hasher);
        flags.hash(&mut hasher);
        // The lowest bit is the table's own.
        Self { fingerprint: hasher.finish() & !1 }
    }
}

/// What the switch holds.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    flows: FlowTable,
}

impl PartialEq for Shadow {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(id, held)| other.get(&id) == Some(held))
    }
}

impl Eq for Shadow {}

impl Shadow {
    /// How many flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether the switch holds none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// What is known of a flow.
    pub fn get(&self, id: &FlowId) -> Option<Held> {
        self.flows.get(id)
    }

    /// Notes a flow that the switch reported.
    pub fn observe(&mut self, flow: &FlowStats) {
        let id = FlowId::new(flow.table, flow.priority, &flow.match_);
        self.insert(&id, Held::observed(flow));
    }

    /// Notes a flow that the switch confirmed.
    pub fn insert(&mut self, id: &FlowId, held: Held) {
        self.flows.insert(id, held);
    }

    /// Notes flows that the switch confirmed.
    pub fn extend(&mut self, added: Arc<FlowTable>) {
        if self.is_empty() {
            self.flows = Arc::unwrap_or_clone(added);
            return;
        }
        for (id, held) in added.iter() {
            self.insert(&id, held);
        }
    }

    /// Notes that a flow is gone.
    pub fn remove(&mut self, id: &FlowId) {
        self.flows.remove(id);
    }

    /// Every flow.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, Held)> {
        self.flows.iter()
    }

    /// Begins a comparison with everything that is wanted.
    pub(crate) fn begin_round(&mut self) {
        self.flows.want_nothing();
    }

    /// Notes that a flow is wanted, in this round; tells what is known of it, and whether it was wanted before.
    pub(crate) fn want(&mut self, id: &FlowId) -> Option<(Held, bool)> {
        self.flows.want(id)
    }

    /// What nobody wanted in this round.
    pub(crate) fn unwanted(&self) -> impl Iterator<Item = FlowId> {
        self.flows.unwanted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_costs_few_bytes_and_a_long_match_is_read_back_too() {
        assert_eq!((size_of::<MatchBytes>(), size_of::<FlowId>()), (24, 32));
        for length in [0, 5, SHORT, SHORT + 1, 100] {
            let bytes: Vec<u8> = (0..length as u8).collect();
            assert_eq!(MatchBytes::new(&bytes).as_slice(), bytes);
        }
        let long = Match::new()
            .with(openflow::Field::ETH_TYPE, 0x86ddu16)
            .with(openflow::Field::IPV6_SRC, std::net::Ipv6Addr::LOCALHOST)
            .with(openflow::Field::IPV6_DST, std::net::Ipv6Addr::LOCALHOST);
        let id = FlowId::new(TableId(1), 2, &long);
        assert!(matches!(id.match_, MatchBytes::Long(_)));
        assert_eq!(id.deletion().match_.canonical(), long.canonical());
    }
}
