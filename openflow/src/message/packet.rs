//! Packets to and from the controller: packet-in, packet-out (OpenFlow 1.3.5 §7.3.7, §7.4.1) and Nicira's packet-in 2.

use bytes::Bytes;

use super::{put_property, rest, take_property};
use crate::action::{Action, decode_actions, encode_actions};
use crate::error::{DecodeError, EncodeError};
use crate::flow_match::Match;
use crate::number::{BufferId, Cookie, PortNo, TableId};
use crate::wire::{Reader, Writer};

/// `OFPT_PACKET_IN`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PacketIn {
    /// Where the switch keeps it.
    pub buffer_id: BufferId,
    /// The packet's whole length.
    pub total_len: u16,
    /// `OFPR_*`.
    pub reason: u8,
    /// The table of the flow that sent it.
    pub table: TableId,
    /// That flow's cookie.
    pub cookie: Cookie,
    /// Its metadata: in_port, registers, tunnel.
    pub match_: Match,
    /// The packet's start.
    pub data: Bytes,
}

impl PacketIn {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.buffer_id.0);
        out.u16(self.total_len);
        out.u8(self.reason);
        out.u8(self.table.0);
        out.u64(self.cookie.0);
        self.match_.encode(out)?;
        out.zeros(2);
        out.bytes(&self.data);
        Ok(())
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<PacketIn, DecodeError> {
        let (buffer_id, total_len) = (BufferId(body.u32()?), body.u16()?);
        let (reason, table, cookie) = (body.u8()?, TableId(body.u8()?), Cookie(body.u64()?));
        let match_ = Match::decode(body)?;
        body.skip(2)?;
        Ok(PacketIn { buffer_id, total_len, reason, table, cookie, match_, data: rest(body) })
    }
}

/// `OFPT_PACKET_OUT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PacketOut {
    /// A packet that the switch keeps; [`BufferId::NONE`]: `data`.
    pub buffer_id: BufferId,
    /// Where it shall have come from.
    pub in_port: PortNo,
    /// What happens to it.
    pub actions: Vec<Action>,
    /// The packet.
    pub data: Bytes,
}

impl PacketOut {
    /// Sends a packet through the flow tables as if it had come from `in_port`.
    pub fn through_tables(in_port: PortNo, data: Bytes) -> PacketOut {
        PacketOut { buffer_id: BufferId::NONE, in_port, actions: vec![Action::output(PortNo::TABLE)], data }
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.buffer_id.0);
        out.u32(self.in_port.0);
        // The length counts the actions alone, which begin eight bytes after the slot.
        let actions_start = out.position() + 8;
        out.measured("actions", actions_start, |out| {
            out.zeros(6);
            encode_actions(&self.actions, out)
        })?;
        out.bytes(&self.data);
        Ok(())
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<PacketOut, DecodeError> {
        let (buffer_id, in_port) = (BufferId(body.u32()?), PortNo(body.u32()?));
        let length = usize::from(body.u16()?);
        body.skip(6)?;
        let actions = decode_actions(&mut body.sub(length)?)?;
        Ok(PacketOut { buffer_id, in_port, actions, data: rest(body) })
    }
}

/// `NXT_PACKET_IN2` and `NXT_RESUME`: a packet with properties (nicira-ext.h, `enum nx_packet_in2_prop_type`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PacketIn2 {
    /// In the order they came.
    pub properties: Vec<PacketProperty>,
}

/// A property of [`PacketIn2`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PacketProperty {
    /// `NXPINT_PACKET`: the packet's start.
    Packet(Bytes),
    /// `NXPINT_FULL_LEN`: its whole length.
    FullLen(u32),
    /// `NXPINT_BUFFER_ID`.
    BufferId(BufferId),
    /// `NXPINT_TABLE_ID`.
    TableId(TableId),
    /// `NXPINT_COOKIE`.
    Cookie(Cookie),
    /// `NXPINT_REASON`.
    Reason(u8),
    /// `NXPINT_METADATA`.
    Metadata(Match),
    /// `NXPINT_USERDATA`.
    Userdata(Bytes),
    /// `NXPINT_CONTINUATION`: give it back in `NXT_RESUME`.
    Continuation(Bytes),
    /// Another.
    Unknown {
        /// Its type.
        kind: u16,
        /// Its payload.
        data: Bytes,
    },
}

impl PacketIn2 {
    /// The packet's start.
    pub fn packet(&self) -> Option<&Bytes> {
        self.properties.iter().find_map(|property| match property {
            PacketProperty::Packet(data) => Some(data),
            _ => None,
        })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        self.properties.iter().try_for_each(|property| {
            let put = |out: &mut Writer<'_>, kind, body: &dyn Fn(&mut Writer<'_>)| {
                put_property(out, kind, |out| {
                    body(out);
                    Ok(())
                })
            };
            match property {
                PacketProperty::Packet(data) => put(out, 0, &|out| out.bytes(data)),
                PacketProperty::FullLen(length) => put(out, 1, &|out| out.u32(*length)),
                PacketProperty::BufferId(buffer) => put(out, 2, &|out| out.u32(buffer.0)),
                PacketProperty::TableId(table) => put(out, 3, &|out| out.u8(table.0)),
                PacketProperty::Cookie(cookie) => put(out, 4, &|out| {
                    // 64-bit values are aligned: four bytes of padding stand before them.
                    out.zeros(4);
                    out.u64(cookie.0);
                }),
                PacketProperty::Reason(reason) => put(out, 5, &|out| out.u8(*reason)),
                PacketProperty::Metadata(metadata) => put_property(out, 6, |out| metadata.encode_fields(out)),
                PacketProperty::Userdata(data) => put(out, 7, &|out| out.bytes(data)),
                PacketProperty::Continuation(data) => put(out, 8, &|out| {
                    out.zeros(4);
                    out.bytes(data);
                }),
                PacketProperty::Unknown { kind, data } => put(out, *kind, &|out| out.bytes(data)),
            }
        })
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<PacketIn2, DecodeError> {
        let mut properties = Vec::new();
        while !body.is_empty() {
            let (kind, mut value) = take_property(body)?;
            properties.push(match kind {
                0 => PacketProperty::Packet(rest(&mut value)),
                1 => PacketProperty::FullLen(value.u32()?),
                2 => PacketProperty::BufferId(BufferId(value.u32()?)),
                3 => PacketProperty::TableId(TableId(value.u8()?)),
                4 => {
                    value.skip(4)?;
                    PacketProperty::Cookie(Cookie(value.u64()?))
                }
                5 => PacketProperty::Reason(value.u8()?),
                6 => PacketProperty::Metadata(Match::decode_fields(&mut value)?),
                7 => PacketProperty::Userdata(rest(&mut value)),
                8 => {
                    value.skip(4)?;
                    PacketProperty::Continuation(rest(&mut value))
                }
                _ => PacketProperty::Unknown { kind, data: rest(&mut value) },
            });
            value.finish()?;
        }
        Ok(PacketIn2 { properties })
    }
}
