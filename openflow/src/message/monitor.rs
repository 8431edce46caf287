//! The flow monitor: the switch tells of every change to its flows (`ONFST_FLOW_MONITOR` under OpenFlow 1.3, ONF extension
//! 187, with the updates of nicira-ext.h, `struct nx_flow_update_full`).

use crate::error::{DecodeError, EncodeError};
use crate::flow_match::Match;
use crate::instruction::{Instruction, decode_instructions, encode_instructions};
use crate::number::{Cookie, PortNo, TableId, Xid};
use crate::wire::{Reader, Writer};

/// `ONFST_FLOW_MONITOR`.
pub(super) const ONF_FLOW_MONITOR: u32 = 1870;

/// `ONFT_FLOW_MONITOR_CANCEL`, `_PAUSED`, `_RESUMED` (ONF extension 187).
pub(super) const CANCEL: u32 = 1870;
pub(super) const PAUSED: u32 = 1871;
pub(super) const RESUMED: u32 = 1872;

/// What to tell of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowMonitorRequest {
    /// The monitor's own id, for cancelling it.
    pub id: u32,
    /// Which changes: [`FlowMonitorRequest::INITIAL`] and its kin.
    pub flags: u16,
    /// Only flows that send there.
    pub out_port: PortNo,
    /// Which table.
    pub table: TableId,
    /// Only flows that the match covers.
    pub match_: Match,
}

impl FlowMonitorRequest {
    /// First the flows that are there.
    pub const INITIAL: u16 = 1;
    /// New flows.
    pub const ADD: u16 = 2;
    /// Deleted flows.
    pub const DELETE: u16 = 4;
    /// Changed flows.
    pub const MODIFY: u16 = 8;
    /// With their actions.
    pub const ACTIONS: u16 = 16;
    /// Changes made on this connection in full, instead of abbreviated.
    pub const OWN: u16 = 32;

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.id);
        out.u16(self.flags);
        let length = out.position();
        out.u16(0);
        out.u32(self.out_port.0);
        out.u8(self.table.0);
        out.zeros(3);
        let start = out.position();
        self.match_.encode(out)?;
        out.copy_u16(start + 2, length);
        Ok(())
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<FlowMonitorRequest, DecodeError> {
        let (id, flags) = (body.u32()?, body.u16()?);
        body.skip(2)?;
        let (out_port, table) = (PortNo(body.u32()?), TableId(body.u8()?));
        body.skip(3)?;
        Ok(FlowMonitorRequest { id, flags, out_port, table, match_: Match::decode(body)? })
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FlowUpdate {
    /// `struct nx_flow_update_full`.
    Full {
        /// What happened.
        event: FlowUpdateEvent,
        /// `OFPRR_*`, for deletions.
        reason: u16,
        /// The flow's priority.
        priority: u16,
        /// Seconds.
        idle_timeout: u16,
        /// Seconds.
        hard_timeout: u16,
        /// Its table.
        table: TableId,
        /// Its mark.
        cookie: Cookie,
        /// Which packets.
        match_: Match,
        /// What happens to them, if asked for.
        instructions: Vec<Instruction>,
    },
    /// `struct nx_flow_update_abbrev`: what this connection's own request did.
    Abbreviated {
        /// The request's xid.
        xid: Xid,
    },
}

/// `enum nx_flow_update_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum FlowUpdateEvent {
    Added = 0,
    Deleted = 1,
    Modified = 2,
}

const ABBREV: u16 = 3;

impl FlowUpdate {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.measured("flow update", out.position(), |out| match self {
            FlowUpdate::Abbreviated { xid } => {
                out.u16(ABBREV);
                out.u32(xid.0);
                Ok(())
            }
            FlowUpdate::Full {
                event,
                reason,
                priority,
                idle_timeout,
                hard_timeout,
                table,
                cookie,
                match_,
                instructions,
            } => {
                out.u16(*event as u16);
                out.u16(*reason);
                out.u16(*priority);
                out.u16(*idle_timeout);
                out.u16(*hard_timeout);
                let length = out.position();
                out.u16(0);
                out.u8(table.0);
                out.zeros(1);
                out.u64(cookie.0);
                let start = out.position();
                match_.encode(out)?;
                out.copy_u16(start + 2, length);
                encode_instructions(instructions, out)
            }
        })
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<FlowUpdate, DecodeError> {
        let at = input.offset();
        let length = usize::from(input.u16()?);
        let rest =
            length.checked_sub(2).ok_or_else(|| DecodeError::bad(at, "flow update length", length as u64))?;
        let mut body = input.sub(rest)?;
        let event = match body.u16()? {
            0 => FlowUpdateEvent::Added,
            1 => FlowUpdateEvent::Deleted,
            2 => FlowUpdateEvent::Modified,
            ABBREV => {
                let xid = Xid(body.u32()?);
                body.finish()?;
                return Ok(FlowUpdate::Abbreviated { xid });
            }
            other => return Err(DecodeError::bad(at + 2, "flow update event", other.into())),
        };
        let (reason, priority) = (body.u16()?, body.u16()?);
        let (idle_timeout, hard_timeout) = (body.u16()?, body.u16()?);
        body.skip(2)?;
        let table = TableId(body.u8()?);
        body.skip(1)?;
        let cookie = Cookie(body.u64()?);
        let match_ = Match::decode(&mut body)?;
        let instructions = decode_instructions(&mut body)?;
        Ok(FlowUpdate::Full {
            event,
            reason,
            priority,
            idle_timeout,
            hard_timeout,
            table,
            cookie,
            match_,
            instructions,
        })
    }
}
