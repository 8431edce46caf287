//! Metered copies of packets for the agent: samples of what is dropped, and what audited policies decide; and packets that only
//! the agent can help on their way. The switch makes no more of them than their meters let, whatever arrives, and counts what it
//! left out. It must not know who reads them.

use network::Direction;
use openflow::{Action, Controller, Cookie, MeterId, PortNo, TableId};

use crate::drops::DropClass;
use crate::packet::{Family, ct_state, with_state};
use crate::program::{Flow, FlowAction};
use crate::provenance::Owner;
use crate::register::{CT_UNJUDGED, CT_VERSION, DECIDED_BY};
use crate::stream::{Out, flow};
use crate::table::Table;

/// What a copy is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Copied {
    /// An audited policy denies it.
    Denied,
    /// It begins a connection that an audited policy allows.
    Allowed,
    /// It is dropped, by no audited policy.
    Dropped(DropClass),
    /// Not a copy: a piece of a datagram, which the agent joins with the others (ADR-0045).
    Piece,
    /// Not a copy: a datagram that was joined, and leaves in pieces.
    Joined,
}

/// Meters are ours from here on.
const FIRST_METER: u32 = 0xfe00;
/// Ethernet, IPv6 with an extension header, ports; and a little more. In bytes.
const COPIED_BYTES: u16 = 128;
/// `OFPCML_NO_BUFFER` (OpenFlow 1.3.5 §7.2.5).
const WHOLE: u16 = 0xffff;

impl Copied {
    /// Everything that is copied.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Denied, Self::Allowed]
            .into_iter()
            .chain(DropClass::ALL.into_iter().map(Self::Dropped))
            .chain([Self::Piece, Self::Joined])
    }

    /// As the copy carries it (`userdata`).
    fn code(self) -> u8 {
        match self {
            Self::Denied => 0,
            Self::Allowed => 1,
            Self::Dropped(class) => 2 + class as u8,
            Self::Piece => 100,
            Self::Joined => 101,
        }
    }

    /// What a copy with this `userdata` is of.
    pub fn from_userdata(userdata: &[u8]) -> Option<Self> {
        let [code] = userdata else { return None };
        Self::all().find(|copied| copied.code() == *code)
    }

    /// The meter that limits these. Each class has its own: a flood of one kind hides no other.
    pub fn meter(self) -> MeterId {
        MeterId(FIRST_METER + u32::from(self.code()))
    }

    /// How many there are at most, in packets a second; as many may come at once.
    pub fn packets_per_second(self) -> u32 {
        match self {
            Self::Denied | Self::Allowed => 100,
            Self::Dropped(_) => 10,
            Self::Piece | Self::Joined => 5_000,
        }
    }

    /// Sends one to the agent.
    pub(crate) fn action(self) -> Action {
        Action::Controller(Box::new(Controller {
            max_len: if matches!(self, Self::Piece | Self::Joined) { WHOLE } else { COPIED_BYTES },
            userdata: Some(vec![self.code()].into()),
            meter: Some(self.meter()),
            ..Controller::default()
        }))
    }
}

/// What a flow does beside what it decides: `audited` when it is an audited policy's. `is_drop` and its direction's last table
/// say what it decides.
pub(crate) fn actions(
    class: Option<DropClass>,
    audited: Option<Direction>,
    next: Option<Table>,
    cookie: Cookie,
) -> Vec<Action> {
    match (class, audited) {
        (Some(_), Some(_)) => vec![Copied::Denied.action()],
        (Some(class), None) => vec![Copied::Dropped(class).action()],
        (None, Some(direction)) if next == Some(crate::policy::tables(direction).1) => {
            let audit = Some(TableId(Table::Audit.id()));
            vec![
                DECIDED_BY.load(u64::from(short(cookie))),
                Action::Resubmit { port: PortNo::IN_PORT, table: audit, ct: false },
            ]
        }
        _ => Vec::new(),
    }
}

/// What of a cookie fits [`DECIDED_BY`].
pub fn short(cookie: Cookie) -> u32 {
    cookie.0 as u32
}

/// Whether what a flow decides is audited.
pub fn is_audited(flow: &Flow) -> bool {
    let denied = Copied::Denied.action();
    flow.actions.iter().any(|action| match action {
        FlowAction::Do(action @ Action::Controller(_)) => *action == denied,
        FlowAction::Do(Action::Resubmit { table, .. }) => *table == Some(TableId(Table::Audit.id())),
        _ => false,
    })
}

/// Of a connection that an audited policy allows its first packet is copied; the rest passes by.
pub(crate) fn build(out: &mut Out<'_>) {
    for family in Family::BOTH {
        // One-way streams stay new for ever; but what was committed has a mark. A connection to a Service has one before it is
        // judged.
        let new = CT_VERSION.on(with_state(family.any(), ct_state::NEW, 0), 0);
        let unjudged = CT_UNJUDGED.on(with_state(family.any(), 0, ct_state::RPL), 1);
        for first in [new, unjudged] {
            let draft = flow(Table::Audit, 200, first).act(Copied::Allowed.action());
            out.add(draft, Owner::Pipeline, "tell of a connection that an audited policy allows");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_its_meter_and_comes_back_from_its_copy() {
        let meters: BTreeSet<u32> = Copied::all().map(|copied| copied.meter().0).collect();
        assert_eq!(meters.len(), 14);
        for copied in Copied::all() {
            assert_eq!(Copied::from_userdata(&[copied.code()]), Some(copied));
        }
        assert_eq!((Copied::from_userdata(&[]), Copied::from_userdata(&[200])), (None, None));
    }
}
