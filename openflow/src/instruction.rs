//! Instructions: what a flow's actions are wrapped in. It does not know flows.

use bytes::Bytes;

use crate::action::Action;
use crate::number::{MeterId, TableId};

/// An instruction (OpenFlow 1.3.5 §7.2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Instruction {
    /// `OFPIT_METER`.
    Meter(MeterId),
    /// `OFPIT_APPLY_ACTIONS`: now, in order.
    ApplyActions(Vec<Action>),
    /// `OFPIT_CLEAR_ACTIONS`: forgets the action set.
    ClearActions,
    /// `OFPIT_WRITE_ACTIONS`: into the action set, done when the pipeline ends.
    WriteActions(Vec<Action>),
    /// `OFPIT_WRITE_METADATA`.
    WriteMetadata {
        /// Value.
        metadata: u64,
        /// Mask.
        mask: u64,
    },
    /// `OFPIT_GOTO_TABLE`: forward only.
    GotoTable(TableId),
    /// An experimenter's; `data` follows the id.
    Experimenter {
        /// Whose.
        vendor: u32,
        /// The rest.
        data: Bytes,
    },
    /// A type that this crate does not know; `data` follows type and length.
    Unknown {
        /// `OFPIT_*`.
        kind: u16,
        /// The rest.
        data: Bytes,
    },
}
