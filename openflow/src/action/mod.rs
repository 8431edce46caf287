//! Actions: what a flow does with a packet. One enum over the standard actions and the extensions that Open vSwitch speaks
//! under OpenFlow 1.3. It does not know which table or flow they stand in.

mod codec;
mod ct;
mod learn;
mod multipath;
mod nicira;

use bytes::Bytes;

pub(crate) use codec::{decode_actions, encode_actions, put_operand, short_operand};
pub use ct::{Ct, CtAlg, CtExec, CtZone, Nat, NatKind, NatRange};
pub use learn::{Learn, LearnDst, LearnSpec, LearnSrc};
pub use multipath::{HashFields, Multipath, MultipathAlgorithm};

pub(crate) use nicira::{NICIRA, ONF};

use crate::error::FieldError;
use crate::number::{GroupId, MeterId, PortNo, QueueId, TableId};
use crate::oxm::{Field, Oxm, Subfield, Value};

/// An action (OpenFlow 1.3.5 §7.2.5; `ovs-actions(7)` and nicira-ext.h for the Nicira ones).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Action {
    /// `OFPAT_OUTPUT`. `max_len` counts for [`PortNo::CONTROLLER`] only.
    Output {
        /// Where to.
        port: PortNo,
        /// Bytes for the controller; 0xffff is the whole packet.
        max_len: u16,
    },
    /// `OFPAT_GROUP`.
    Group(GroupId),
    /// `OFPAT_SET_QUEUE`.
    SetQueue(QueueId),
    /// `OFPAT_SET_FIELD`: an exact value. See [`Action::set_field`].
    SetField(Oxm),
    /// `OFPAT_PUSH_VLAN` with the tag's Ethernet type.
    PushVlan(u16),
    /// `OFPAT_POP_VLAN`.
    PopVlan,
    /// `OFPAT_PUSH_MPLS` with the new Ethernet type.
    PushMpls(u16),
    /// `OFPAT_POP_MPLS` with the new Ethernet type.
    PopMpls(u16),
    /// `OFPAT_PUSH_PBB` with the Ethernet type.
    PushPbb(u16),
    /// `OFPAT_POP_PBB`.
    PopPbb,
    /// `OFPAT_SET_MPLS_TTL`.
    SetMplsTtl(u8),
    /// `OFPAT_DEC_MPLS_TTL`.
    DecMplsTtl,
    /// `OFPAT_SET_NW_TTL`.
    SetNwTtl(u8),
    /// `OFPAT_DEC_NW_TTL`.
    DecNwTtl,
    /// `OFPAT_COPY_TTL_OUT`.
    CopyTtlOut,
    /// `OFPAT_COPY_TTL_IN`.
    CopyTtlIn,

    /// `NXAST_RESUBMIT` (no table), `NXAST_RESUBMIT_TABLE`, `NXAST_RESUBMIT_TABLE_CT`.
    Resubmit {
        /// The port to look up as in_port.
        port: PortNo,
        /// The table; `None` is the current one.
        table: Option<TableId>,
        /// Look up with conntrack's original tuple.
        ct: bool,
    },
    /// `NXAST_REG_MOVE`: copies bits.
    RegMove {
        /// From.
        src: Subfield,
        /// To, as many bits.
        dst: Subfield,
    },
    /// `NXAST_REG_LOAD`: sets up to 64 bits of a field.
    RegLoad {
        /// Where.
        dst: Subfield,
        /// What, right-aligned.
        value: u64,
    },
    /// `NXAST_REG_LOAD2`: `set_field` under a mask, or for what has no OpenFlow 1.3 form.
    RegLoad2(Oxm),
    /// `ONFACT_RAW13_COPY_FIELD` (ONF extension 320): copies bits.
    CopyField {
        /// From.
        src: Subfield,
        /// To, as many bits.
        dst: Subfield,
    },
    /// `NXAST_OUTPUT_REG(2)`: to the port that a field names.
    OutputReg {
        /// The field.
        src: Subfield,
        /// Bytes for the controller.
        max_len: u16,
    },
    /// `NXAST_OUTPUT_TRUNC`: to a port, cut to `max_len` bytes.
    OutputTrunc {
        /// Where to.
        port: PortNo,
        /// Bytes at most.
        max_len: u32,
    },
    /// `NXAST_STACK_PUSH`.
    StackPush(Subfield),
    /// `NXAST_STACK_POP`.
    StackPop(Subfield),
    /// `NXAST_CT`, with its nested `NXAST_NAT`.
    Ct(Box<Ct>),
    /// `NXAST_CT_CLEAR`.
    CtClear,
    /// `NXAST_CONJUNCTION`: this flow is clause `clause` (from 0) of `n_clauses` of the conjunction `id`.
    Conjunction {
        /// Counted from 0.
        clause: u8,
        /// 2 to 64.
        n_clauses: u8,
        /// What `conj_id` matches when every clause did.
        id: u32,
    },
    /// `NXAST_LEARN(2)`: the packet makes a flow.
    Learn(Box<Learn>),
    /// `NXAST_MULTIPATH`: a hash of the packet, into a field.
    Multipath(Multipath),
    /// `NXAST_CONTROLLER(2)`: to a controller.
    Controller(Box<Controller>),
    /// `NXAST_NOTE`: bytes that do nothing. The wire pads them to 6 + 8n bytes, and they come back padded.
    Note(Bytes),
    /// `NXAST_CLONE`: does the actions on a copy of the packet.
    Clone(Vec<Action>),
    /// `NXAST_CHECK_PKT_LARGER`: one bit says whether the packet is longer than `length`.
    CheckPktLarger {
        /// Bytes.
        length: u16,
        /// One bit.
        dst: Subfield,
    },
    /// `NXAST_DEC_TTL_CNT_IDS`: decrements TTL, and on zero tells these controllers.
    DecTtlCntIds(Vec<u16>),
    /// `NXAST_FIN_TIMEOUT`: shortens the flow's timeouts on TCP FIN or RST.
    FinTimeout {
        /// Seconds.
        idle: u16,
        /// Seconds.
        hard: u16,
    },
    /// `NXAST_WRITE_METADATA` as an action.
    WriteMetadata {
        /// Value.
        metadata: u64,
        /// Mask.
        mask: u64,
    },
    /// `NXAST_DELETE_FIELD`: takes a tunnel metadata option away.
    DeleteField(Field),
    /// `NXAST_SET_TUNNEL`: the low 32 bits of the tunnel id.
    SetTunnel(u32),
    /// `NXAST_SET_TUNNEL64`.
    SetTunnel64(u64),
    /// `NXAST_POP_QUEUE`.
    PopQueue,
    /// `NXAST_EXIT`: nothing after this, in any list.
    Exit,
    /// `OFPAT15_METER` (an action only since OpenFlow 1.5).
    Meter(MeterId),
    /// An action that this crate does not interpret; `data` is all that follows the vendor's id, padding included.
    Experimenter {
        /// For example 0x00002320.
        vendor: u32,
        /// The rest.
        data: Bytes,
    },
    /// A standard type that this crate does not know; `data` follows type and length.
    Unknown {
        /// `OFPAT_*`.
        kind: u16,
        /// The rest.
        data: Bytes,
    },
}

/// Operands of [`Action::Controller`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Controller {
    /// Bytes to send; 0xffff is all.
    pub max_len: u16,
    /// Which controllers (`NXT_SET_CONTROLLER_ID`).
    pub controller_id: u16,
    /// `OFPR_*`.
    pub reason: u8,
    /// Comes back in the packet-in (needs `NXAST_CONTROLLER2`).
    pub userdata: Option<Bytes>,
    /// Stop until `NXT_RESUME` (needs `NXAST_CONTROLLER2`).
    pub pause: bool,
    /// Meter to limit with (needs `NXAST_CONTROLLER2`).
    pub meter: Option<MeterId>,
}

impl Default for Controller {
    /// The whole packet to controller 0, reason `action`.
    fn default() -> Controller {
        Controller { max_len: 0xffff, controller_id: 0, reason: 1, userdata: None, pause: false, meter: None }
    }
}

impl Action {
    /// Sends to a port.
    pub const fn output(port: PortNo) -> Action {
        Action::Output { port, max_len: 0 }
    }

    /// Sets a whole field. Panics when the value has more bits than the field; see [`Oxm::exact`] for values from outside.
    pub fn set_field(field: Field, value: impl Into<Value>) -> Action {
        match Oxm::exact(field, value) {
            Ok(oxm) => Action::SetField(oxm),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets some bits of a field.
    pub fn set_field_masked(
        field: Field,
        value: impl Into<Value>,
        mask: impl Into<Value>,
    ) -> Result<Action, FieldError> {
        Oxm::masked(field, value, mask).map(Action::RegLoad2)
    }

    /// Loads a number into part of a field.
    pub const fn load(dst: Subfield, value: u64) -> Action {
        Action::RegLoad { dst, value }
    }

    /// Copies part of a field.
    pub const fn move_bits(src: Subfield, dst: Subfield) -> Action {
        Action::RegMove { src, dst }
    }

    /// Continues in a table, with the packet's own port.
    pub const fn resubmit(table: TableId) -> Action {
        Action::Resubmit { port: PortNo::IN_PORT, table: Some(table), ct: false }
    }
}
