//! Flows as a controller asks for them (`FlowMod`) and as the switch reports them (`FlowStats`). It does not know what they
//! mean to a network.

use std::time::Duration;

use crate::action::Action;
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::flow_match::Match;
use crate::group::decode_duration;
use crate::instruction::{Instruction, decode_instructions, encode_instructions};
use crate::number::{BufferId, Cookie, GroupId, PortNo, TableId};
use crate::wire::{Reader, Writer};

/// `OFPT_FLOW_MOD` (OpenFlow 1.3.5 §7.3.4.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowMod {
    /// Which table; [`TableId::ALL`] in deletions.
    pub table: TableId,
    /// Higher wins.
    pub priority: u16,
    /// The flow's mark; with `cookie_mask`, what a modification or deletion is restricted to.
    pub cookie: Cookie,
    /// Bits of the cookie that must agree (modifications and deletions).
    pub cookie_mask: u64,
    /// What to do.
    pub command: FlowModCommand,
    /// Seconds without a packet until the flow goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds until the flow goes; 0: never.
    pub hard_timeout: u16,
    /// A packet to send through the new flow.
    pub buffer_id: BufferId,
    /// Deletions: only flows that send there.
    pub out_port: PortNo,
    /// Deletions: only flows that use this group.
    pub out_group: GroupId,
    /// `OFPFF_*`.
    pub flags: FlowFlags,
    /// OpenFlow 1.4's importance; under 1.3 these bytes are padding and Open vSwitch drops them.
    pub importance: u16,
    /// Which packets.
    pub match_: Match,
    /// What happens to them.
    pub instructions: Vec<Instruction>,
}

impl Default for FlowMod {
    /// Adds a flow of priority 0x8000 to table 0 that drops everything.
    fn default() -> FlowMod {
        FlowMod {
            table: TableId(0),
            priority: 0x8000,
            cookie: Cookie(0),
            cookie_mask: 0,
            command: FlowModCommand::Add,
            idle_timeout: 0,
            hard_timeout: 0,
            buffer_id: BufferId::NONE,
            out_port: PortNo::ANY,
            out_group: GroupId::ANY,
            flags: FlowFlags::default(),
            importance: 0,
            match_: Match::new(),
            instructions: Vec::new(),
        }
    }
}

impl FlowMod {
    /// Adds a flow: identical match and priority are replaced.
    pub fn add(table: TableId, priority: u16, match_: Match, instructions: Vec<Instruction>) -> FlowMod {
        FlowMod { table, priority, match_, instructions, ..FlowMod::default() }
    }

    /// Deletes exactly one flow.
    pub fn delete_strict(table: TableId, priority: u16, match_: Match) -> FlowMod {
        FlowMod { table, priority, match_, command: FlowModCommand::DeleteStrict, ..FlowMod::default() }
    }

    /// With a cookie.
    #[must_use]
    pub fn with_cookie(mut self, cookie: Cookie) -> FlowMod {
        self.cookie = cookie;
        self
    }

    /// The actions that are applied at once.
    pub fn apply_actions(&self) -> &[Action] {
        apply_actions(&self.instructions)
    }
}

/// `enum ofp_flow_mod_command`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FlowModCommand {
    /// Adds, or replaces the flow of the same match and priority.
    Add = 0,
    /// Changes the actions of every flow that the match covers.
    Modify = 1,
    /// Changes the actions of the flow of the same match and priority.
    ModifyStrict = 2,
    /// Deletes every flow that the match covers.
    Delete = 3,
    /// Deletes the flow of the same match and priority.
    DeleteStrict = 4,
}

/// `enum ofp_flow_mod_flags`, with unknown bits kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowFlags(pub u16);

impl FlowFlags {
    /// Tell when the flow goes.
    pub const SEND_FLOW_REM: FlowFlags = FlowFlags(1);
    /// Refuse when it overlaps another flow of its priority.
    pub const CHECK_OVERLAP: FlowFlags = FlowFlags(2);
    /// Start the counters anew.
    pub const RESET_COUNTS: FlowFlags = FlowFlags(4);
    /// Keep no packet count.
    pub const NO_PACKET_COUNTS: FlowFlags = FlowFlags(8);
    /// Keep no byte count.
    pub const NO_BYTE_COUNTS: FlowFlags = FlowFlags(16);

    /// Has every bit of `other`.
    pub const fn contains(self, other: FlowFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for FlowFlags {
    type Output = FlowFlags;

    fn bitor(self, other: FlowFlags) -> FlowFlags {
        FlowFlags(self.0 | other.0)
    }
}

/// One flow of an `OFPMP_FLOW` reply (OpenFlow 1.3.5 §7.3.5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowStats {
    /// Its table.
    pub table: TableId,
    /// Its age, to the nanosecond.
    pub duration: Duration,
    /// Its priority.
    pub priority: u16,
    /// Seconds, 0: never.
    pub idle_timeout: u16,
    /// Seconds, 0: never.
    pub hard_timeout: u16,
    /// `OFPFF_*`.
    pub flags: FlowFlags,
    /// OpenFlow 1.4's importance; padding under 1.3.
    pub importance: u16,
    /// Its mark.
    pub cookie: Cookie,
    /// Packets so far; `u64::MAX`: not counted.
    pub packet_count: u64,
    /// Bytes so far; `u64::MAX`: not counted.
    pub byte_count: u64,
    /// Which packets.
    pub match_: Match,
    /// What happens to them.
    pub instructions: Vec<Instruction>,
}

impl FlowStats {
    /// The actions that are applied at once.
    pub fn apply_actions(&self) -> &[Action] {
        apply_actions(&self.instructions)
    }
}

fn apply_actions(instructions: &[Instruction]) -> &[Action] {
    instructions
        .iter()
        .find_map(|instruction| match instruction {
            Instruction::ApplyActions(actions) => Some(actions.as_slice()),
            _ => None,
        })
        .unwrap_or_default()
}

impl FlowMod {
    pub(crate) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u64(self.cookie.0);
        out.u64(self.cookie_mask);
        out.u8(self.table.0);
        out.u8(self.command as u8);
        out.u16(self.idle_timeout);
        out.u16(self.hard_timeout);
        out.u16(self.priority);
        out.u32(self.buffer_id.0);
        out.u32(self.out_port.0);
        out.u32(self.out_group.0);
        out.u16(self.flags.0);
        out.u16(self.importance);
        self.match_.encode(out)?;
        encode_instructions(&self.instructions, out)
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<FlowMod, DecodeError> {
        let (cookie, cookie_mask) = (Cookie(input.u64()?), input.u64()?);
        let table = TableId(input.u8()?);
        let at = input.offset();
        let command = match input.u8()? {
            0 => FlowModCommand::Add,
            1 => FlowModCommand::Modify,
            2 => FlowModCommand::ModifyStrict,
            3 => FlowModCommand::Delete,
            4 => FlowModCommand::DeleteStrict,
            other => return Err(DecodeError::bad(at, "flow-mod command", other.into())),
        };
        Ok(FlowMod {
            table,
            cookie,
            cookie_mask,
            command,
            idle_timeout: input.u16()?,
            hard_timeout: input.u16()?,
            priority: input.u16()?,
            buffer_id: BufferId(input.u32()?),
            out_port: PortNo(input.u32()?),
            out_group: GroupId(input.u32()?),
            flags: FlowFlags(input.u16()?),
            importance: input.u16()?,
            match_: decode_checked_match(input)?,
            instructions: decode_instructions(input)?,
        })
    }
}

/// What a switch would refuse is refused here.
fn decode_checked_match(input: &mut Reader<'_>) -> Result<Match, DecodeError> {
    let at = input.offset();
    let match_ = Match::decode(input)?;
    match match_.missing_prerequisite() {
        Some(field) => Err(DecodeError::new(at, DecodeErrorKind::Prerequisite(field))),
        None => Ok(match_),
    }
}

impl FlowStats {
    pub(crate) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.measured("flow statistics", out.position(), |out| {
            out.u8(self.table.0);
            out.zeros(1);
            out.u32(u32::try_from(self.duration.as_secs()).unwrap_or(u32::MAX));
            out.u32(self.duration.subsec_nanos());
            out.u16(self.priority);
            out.u16(self.idle_timeout);
            out.u16(self.hard_timeout);
            out.u16(self.flags.0);
            out.u16(self.importance);
            out.zeros(2);
            out.u64(self.cookie.0);
            out.u64(self.packet_count);
            out.u64(self.byte_count);
            self.match_.encode(out)?;
            encode_instructions(&self.instructions, out)
        })
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<FlowStats, DecodeError> {
        let at = input.offset();
        let length = usize::from(input.u16()?);
        let rest = length.checked_sub(2).ok_or_else(|| DecodeError::bad(at, "flow statistics length", 0))?;
        let mut body = input.sub(rest)?;
        let table = TableId(body.u8()?);
        body.skip(1)?;
        let duration = decode_duration(&mut body)?;
        let (priority, idle_timeout, hard_timeout) = (body.u16()?, body.u16()?, body.u16()?);
        let (flags, importance) = (FlowFlags(body.u16()?), body.u16()?);
        body.skip(2)?;
        Ok(FlowStats {
            table,
            duration,
            priority,
            idle_timeout,
            hard_timeout,
            flags,
            importance,
            cookie: Cookie(body.u64()?),
            packet_count: body.u64()?,
            byte_count: body.u64()?,
            match_: Match::decode(&mut body)?,
            instructions: decode_instructions(&mut body)?,
        })
    }
}
