//! Drops by class: which flows drop, and for what kind of reason. The reason itself is the flow's own.

use openflow::{Cookie, Field, Match};

use crate::program::{Flow, FlowKey};
use crate::provenance::COOKIE_MARK;
use crate::register::QUESTION;
use crate::table::Table;

/// The bit of a cookie that all flows have that drop, so that a switch can be asked for these alone.
pub const COOKIE_DROPS: u64 = 1 << 55;

/// Whether a flow's cookie says that it drops.
pub fn is_drop(cookie: Cookie) -> bool {
    cookie.0 & (COOKIE_MARK | COOKIE_DROPS) == COOKIE_MARK | COOKIE_DROPS
}

/// Why packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropClass {
    /// It came in by a port that is not ours.
    UnknownPort,
    /// Its sender is not who it says, or may not say this.
    SpoofGuard,
    /// It asks for a neighbour in a way that nobody answers.
    Neighbour,
    /// It is not valid for any connection.
    InvalidConnection,
    /// A later policy blocked its connection.
    BlockedConnection,
    /// TCP in mid-stream, without a known connection, of a pod that a policy isolates.
    MidStream,
    /// A rule denies it.
    PolicyRule,
    /// Policies isolate the pod, and none allows it.
    DefaultDeny,
    /// It goes nowhere.
    NoRoute,
    /// The pipeline has no use for it: not IP, not tracked.
    NotIp,
}

impl DropClass {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::UnknownPort,
        Self::SpoofGuard,
        Self::Neighbour,
        Self::InvalidConnection,
        Self::BlockedConnection,
        Self::MidStream,
        Self::PolicyRule,
        Self::DefaultDeny,
        Self::NoRoute,
        Self::NotIp,
    ];

    /// The class of a flow that drops.
    pub fn of(table: Table, match_: &Match) -> Self {
        let state =
            |bit: u32| match_.get(Field::CT_STATE).is_some_and(|(value, _)| value & u128::from(bit) != 0);
        match table {
            Table::Classifier => Self::UnknownPort,
            Table::SpoofGuard => Self::SpoofGuard,
            Table::ArpResponder | Table::NdResponder | Table::NdAdvertise => Self::Neighbour,
            Table::ConntrackState if state(crate::packet::ct_state::INV) => Self::InvalidConnection,
            Table::ConntrackState if match_.get(Field::CT_MARK).is_some() => Self::BlockedConnection,
            Table::ConntrackState if match_.get(Field::TCP_FLAGS).is_some() => Self::MidStream,
            Table::SctpState => Self::BlockedConnection,
            Table::Egress | Table::Ingress => Self::DefaultDeny,
            Table::EgressAdmin | Table::EgressBaseline | Table::IngressAdmin | Table::IngressBaseline => {
                Self::PolicyRule
            }
            Table::Routing => Self::NoRoute,
            _ => Self::NotIp,
        }
    }

    /// As metrics and the command line call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownPort => "unknown-port",
            Self::SpoofGuard => "spoof-guard",
            Self::Neighbour => "neighbour",
            Self::InvalidConnection => "invalid-connection",
            Self::BlockedConnection => "blocked-connection",
            Self::MidStream => "mid-stream",
            Self::PolicyRule => "policy-rule",
            Self::DefaultDeny => "default-deny",
            Self::NoRoute => "no-route",
            Self::NotIp => "not-ip",
        }
    }
}

/// Whether packets end at this flow. Those that policy denies end at the flow that says so, not in `Block`, where all of them
/// come together; an agent's questions are nobody's packets.
pub(crate) fn drops(key: &FlowKey, flow: &Flow) -> bool {
    let question =
        key.match_.get(QUESTION.bits.field).is_some_and(|(value, _)| value & QUESTION.bits.mask() != 0);
    let ends = flow.goto == Some(Table::Block) || flow.goto.is_none() && flow.actions.is_empty();
    ends && key.table != Table::Block && !question
}
