//! What the switch says unasked, and who shall hear it: flow-removed, roles, asynchronous configuration (OpenFlow 1.3.5
//! §7.3.9, §7.3.10, §7.4.2).

use std::time::Duration;

use bytes::Bytes;

use super::{put_property, rest, take_property};
use crate::error::{DecodeError, EncodeError};
use crate::flow_match::Match;
use crate::group::decode_duration;
use crate::number::{Cookie, TableId};
use crate::wire::{Reader, Writer, wire_structs};

/// `OFPT_FLOW_REMOVED`. It carries no actions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowRemoved {
    /// The flow's mark.
    pub cookie: Cookie,
    /// Its priority.
    pub priority: u16,
    /// `OFPRR_*`: 0 idle, 1 hard, 2 deleted, 3 its group was deleted.
    pub reason: u8,
    /// Its table.
    pub table: TableId,
    /// Its age.
    pub duration: Duration,
    /// Seconds.
    pub idle_timeout: u16,
    /// Seconds.
    pub hard_timeout: u16,
    /// Packets that it saw.
    pub packet_count: u64,
    /// Bytes that it saw.
    pub byte_count: u64,
    /// Which packets.
    pub match_: Match,
}

impl FlowRemoved {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u64(self.cookie.0);
        out.u16(self.priority);
        out.u8(self.reason);
        out.u8(self.table.0);
        out.u32(u32::try_from(self.duration.as_secs()).unwrap_or(u32::MAX));
        out.u32(self.duration.subsec_nanos());
        out.u16(self.idle_timeout);
        out.u16(self.hard_timeout);
        out.u64(self.packet_count);
        out.u64(self.byte_count);
        self.match_.encode(out)
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<FlowRemoved, DecodeError> {
        Ok(FlowRemoved {
            cookie: Cookie(body.u64()?),
            priority: body.u16()?,
            reason: body.u8()?,
            table: TableId(body.u8()?),
            duration: decode_duration(body)?,
            idle_timeout: body.u16()?,
            hard_timeout: body.u16()?,
            packet_count: body.u64()?,
            byte_count: body.u64()?,
            match_: Match::decode(body)?,
        })
    }
}

wire_structs! {
    /// `OFPT_ROLE_REQUEST`, `OFPT_ROLE_REPLY`.
    pub struct RoleMessage {
        /// See [`Role`].
        role: u32, pad 4;
        /// Grows with every election; an older one is refused.
        generation_id: u64;
    }

    /// `OFPT_SET_ASYNC`, `OFPT_GET_ASYNC_REPLY`: masks of reasons, for master or equal first, for slave second.
    pub struct AsyncConfig {
        /// Bits of `OFPR_*`.
        packet_in: [u32; 2];
        /// Bits of `OFPPR_*`.
        port_status: [u32; 2];
        /// Bits of `OFPRR_*`.
        flow_removed: [u32; 2];
    }
}

/// `enum ofp_controller_role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Role {
    /// Change nothing.
    NoChange = 0,
    /// Full access, like others.
    Equal = 1,
    /// Full access, alone.
    Master = 2,
    /// Reading only.
    Slave = 3,
}

/// `NXT_SET_ASYNC_CONFIG2`: properties as of OpenFlow 1.4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AsyncConfig2 {
    /// Type (`OFPACPT_*`) and payload, usually a 32-bit mask.
    pub properties: Vec<(u16, Bytes)>,
}

impl AsyncConfig2 {
    /// The masks that OpenFlow 1.3 knows too; properties count slave first, then master.
    pub fn masks(&self) -> AsyncConfig {
        let mut config = AsyncConfig::default();
        for (kind, data) in &self.properties {
            let (Some(mask), role) = (data.first_chunk(), usize::from(kind % 2 == 0)) else { continue };
            let mask = u32::from_be_bytes(*mask);
            match kind / 2 {
                0 => config.packet_in[role] = mask,
                1 => config.port_status[role] = mask,
                2 => config.flow_removed[role] = mask,
                _ => {}
            }
        }
        config
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        self.properties.iter().try_for_each(|(kind, data)| {
            put_property(out, *kind, |out| {
                out.bytes(data);
                Ok(())
            })
        })
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<AsyncConfig2, DecodeError> {
        let mut properties = Vec::new();
        while !body.is_empty() {
            let (kind, mut value) = take_property(body)?;
            properties.push((kind, rest(&mut value)));
        }
        Ok(AsyncConfig2 { properties })
    }
}
