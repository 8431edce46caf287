//! Nicira's messages (`NXT_*`, nicira-ext.h) that have no counterpart in OpenFlow 1.3.

use std::net::Ipv6Addr;

use super::{AsyncConfig, AsyncConfig2, PacketIn2, put_property, take_property};
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Reader, Wire, Writer, read_all, wire_structs};

/// A message of Nicira's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NiciraMessage {
    /// `NXT_ROLE_REQUEST`: 0 other, 1 master, 2 slave.
    RoleRequest(u32),
    /// `NXT_ROLE_REPLY`.
    RoleReply(u32),
    /// `NXT_FLOW_MOD_TABLE_ID`.
    FlowModTableId(bool),
    /// `NXT_SET_PACKET_IN_FORMAT`.
    SetPacketInFormat(PacketInFormat),
    /// `NXT_FLOW_AGE`.
    FlowAge,
    /// `NXT_SET_ASYNC_CONFIG`.
    SetAsyncConfig(AsyncConfig),
    /// `NXT_SET_CONTROLLER_ID`.
    SetControllerId(u16),
    /// `NXT_TLV_TABLE_MOD`.
    TlvTableMod(TlvTableMod),
    /// `NXT_TLV_TABLE_REQUEST`.
    TlvTableRequest,
    /// `NXT_TLV_TABLE_REPLY`.
    TlvTableReply(TlvTableReply),
    /// `NXT_SET_ASYNC_CONFIG2`.
    SetAsyncConfig2(AsyncConfig2),
    /// `NXT_RESUME`.
    Resume(PacketIn2),
    /// `NXT_CT_FLUSH_ZONE`.
    CtFlushZone(u16),
    /// `NXT_PACKET_IN2`.
    PacketIn2(PacketIn2),
    /// `NXT_CT_FLUSH` (since Open vSwitch 3.1).
    CtFlush(CtFlush),
}

/// `enum ofputil_packet_in_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PacketInFormat(pub u32);

impl PacketInFormat {
    /// `OFPT_PACKET_IN`.
    pub const STANDARD: PacketInFormat = PacketInFormat(0);
    /// `NXT_PACKET_IN`.
    pub const NXT: PacketInFormat = PacketInFormat(1);
    /// `NXT_PACKET_IN2`.
    pub const NXT2: PacketInFormat = PacketInFormat(2);
}

/// `struct nx_tlv_table_mod`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlvTableMod {
    /// What to do.
    pub command: TlvTableCommand,
    /// With which mappings.
    pub maps: Vec<TlvMap>,
}

/// `enum nx_tlv_table_mod_command`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum TlvTableCommand {
    Add = 0,
    Delete = 1,
    Clear = 2,
}

/// `struct nx_tlv_table_reply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlvTableReply {
    /// Bytes of options in all.
    pub max_option_space: u32,
    /// Options in all.
    pub max_fields: u16,
    /// What is mapped.
    pub maps: Vec<TlvMap>,
}

wire_structs! {
    /// `struct nx_tlv_map`: a Geneve option and the `tun_metadata` field that stands for it.
    pub struct TlvMap {
        /// Option class.
        option_class: u16;
        /// Option type.
        option_type: u8;
        /// Bytes.
        option_len: u8;
        /// Number of the field.
        index: u16, pad 2;
    }
}

/// `struct nx_ct_flush`: which connections to forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CtFlush {
    /// Protocol, 0: any.
    pub ip_proto: u8,
    /// In its original direction.
    pub original: Option<CtTuple>,
    /// In its reply direction.
    pub reply: Option<CtTuple>,
    /// Only of this zone.
    pub zone: Option<u16>,
}

/// Properties of a tuple; IPv4 addresses as `::ffff:a.b.c.d`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct CtTuple {
    pub src: Option<Ipv6Addr>,
    pub dst: Option<Ipv6Addr>,
    pub src_port: Option<u16>,
    pub dst_port: Option<u16>,
    pub icmp_id: Option<u16>,
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
}

impl NiciraMessage {
    /// `NXT_*`.
    pub fn kind(&self) -> u32 {
        use NiciraMessage as N;
        match self {
            N::RoleRequest(_) => 10,
            N::RoleReply(_) => 11,
            N::FlowModTableId(_) => 15,
            N::SetPacketInFormat(_) => 16,
            N::FlowAge => 18,
            N::SetAsyncConfig(_) => 19,
            N::SetControllerId(_) => 20,
            N::TlvTableMod(_) => 24,
            N::TlvTableRequest => 25,
            N::TlvTableReply(_) => 26,
            N::SetAsyncConfig2(_) => 27,
            N::Resume(_) => 28,
            N::CtFlushZone(_) => 29,
            N::PacketIn2(_) => 30,
            N::CtFlush(_) => 32,
        }
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        use NiciraMessage as N;
        match self {
            N::RoleRequest(role) | N::RoleReply(role) => out.u32(*role),
            N::FlowModTableId(set) => {
                out.u8(u8::from(*set));
                out.zeros(7);
            }
            N::SetPacketInFormat(format) => out.u32(format.0),
            N::FlowAge | N::TlvTableRequest => {}
            N::SetAsyncConfig(config) => config.write(out),
            N::SetControllerId(number) | N::CtFlushZone(number) => {
                out.zeros(6);
                out.u16(*number);
            }
            N::TlvTableMod(table) => {
                out.u16(table.command as u16);
                out.zeros(6);
                table.maps.iter().for_each(|map| map.write(out));
            }
            N::TlvTableReply(reply) => {
                out.u32(reply.max_option_space);
                out.u16(reply.max_fields);
                out.zeros(10);
                reply.maps.iter().for_each(|map| map.write(out));
            }
            N::SetAsyncConfig2(config) => return config.encode(out),
            N::Resume(packet) | N::PacketIn2(packet) => return packet.encode(out),
            N::CtFlush(flush) => return flush.encode(out),
        }
        Ok(())
    }

    /// Reads what follows the experimenter header; `None` for types that this crate does not know.
    pub(super) fn decode(kind: u32, body: &mut Reader<'_>) -> Result<Option<NiciraMessage>, DecodeError> {
        use NiciraMessage as N;
        Ok(Some(match kind {
            10 => N::RoleRequest(body.u32()?),
            11 => N::RoleReply(body.u32()?),
            15 => {
                let set = body.u8()? != 0;
                body.skip(7)?;
                N::FlowModTableId(set)
            }
            16 => N::SetPacketInFormat(PacketInFormat(body.u32()?)),
            18 => N::FlowAge,
            19 => N::SetAsyncConfig(AsyncConfig::read(body)?),
            20 | 29 => {
                body.skip(6)?;
                let number = body.u16()?;
                if kind == 20 { N::SetControllerId(number) } else { N::CtFlushZone(number) }
            }
            24 => {
                let at = body.offset();
                let command = match body.u16()? {
                    0 => TlvTableCommand::Add,
                    1 => TlvTableCommand::Delete,
                    2 => TlvTableCommand::Clear,
                    other => return Err(DecodeError::bad(at, "TLV table command", other.into())),
                };
                body.skip(6)?;
                N::TlvTableMod(TlvTableMod { command, maps: decode_maps(body)? })
            }
            25 => N::TlvTableRequest,
            26 => {
                let (max_option_space, max_fields) = (body.u32()?, body.u16()?);
                body.skip(10)?;
                N::TlvTableReply(TlvTableReply { max_option_space, max_fields, maps: read_all(body)? })
            }
            27 => N::SetAsyncConfig2(AsyncConfig2::decode(body)?),
            28 => N::Resume(PacketIn2::decode(body)?),
            30 => N::PacketIn2(PacketIn2::decode(body)?),
            32 => N::CtFlush(CtFlush::decode(body)?),
            _ => return Ok(None),
        }))
    }
}

/// Geneve options are whole words, 124 bytes at most.
fn decode_maps(body: &mut Reader<'_>) -> Result<Vec<TlvMap>, DecodeError> {
    let at = body.offset();
    let maps: Vec<TlvMap> = read_all(body)?;
    match maps.iter().find(|map| map.option_len == 0 || map.option_len > 124 || map.option_len % 4 != 0) {
        Some(map) => Err(DecodeError::bad(at, "length of a tunnel option", map.option_len.into())),
        None => Ok(maps),
    }
}

impl CtFlush {
    fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u8(self.ip_proto);
        out.zeros(7);
        for (kind, tuple) in [(0, &self.original), (1, &self.reply)] {
            if let Some(tuple) = tuple {
                put_property(out, kind, |out| {
                    out.zeros(4);
                    tuple.encode(out)
                })?;
            }
        }
        if let Some(zone) = self.zone {
            put_property(out, 2, |out| {
                out.u16(zone);
                out.zeros(2);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn decode(body: &mut Reader<'_>) -> Result<CtFlush, DecodeError> {
        let ip_proto = body.u8()?;
        body.skip(7)?;
        let mut flush = CtFlush { ip_proto, ..CtFlush::default() };
        while !body.is_empty() {
            let at = body.offset();
            let (kind, mut value) = take_property(body)?;
            match kind {
                0 | 1 => {
                    value.skip(4)?;
                    let tuple = Some(CtTuple::decode(&mut value)?);
                    if kind == 0 { flush.original = tuple } else { flush.reply = tuple }
                }
                2 => {
                    flush.zone = Some(value.u16()?);
                    value.skip(2)?;
                }
                _ => return Err(DecodeError::bad(at, "ct-flush property", kind.into())),
            }
            value.finish()?;
        }
        Ok(flush)
    }
}

impl CtTuple {
    fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        for (kind, address) in [(0, self.src), (1, self.dst)] {
            if let Some(address) = address {
                put_property(out, kind, |out| {
                    out.bytes(&address.octets());
                    Ok(())
                })?;
            }
        }
        let words = [
            self.src_port.map(|port| u32::from(port) << 16),
            self.dst_port.map(|port| u32::from(port) << 16),
            self.icmp_id.map(|id| u32::from(id) << 16),
        ];
        for (kind, word) in (2..).zip(words) {
            if let Some(word) = word {
                put_property(out, kind, |out| {
                    out.u32(word);
                    Ok(())
                })?;
            }
        }
        for (kind, byte) in [(5, self.icmp_type), (6, self.icmp_code)] {
            if let Some(byte) = byte {
                put_property(out, kind, |out| {
                    out.u8(byte);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn decode(body: &mut Reader<'_>) -> Result<CtTuple, DecodeError> {
        let mut tuple = CtTuple::default();
        while !body.is_empty() {
            let at = body.offset();
            let (kind, mut value) = take_property(body)?;
            match kind {
                0 => tuple.src = Some(value.array::<16>()?.into()),
                1 => tuple.dst = Some(value.array::<16>()?.into()),
                2 => tuple.src_port = Some((value.u32()? >> 16) as u16),
                3 => tuple.dst_port = Some((value.u32()? >> 16) as u16),
                4 => tuple.icmp_id = Some((value.u32()? >> 16) as u16),
                5 => tuple.icmp_type = Some(value.u8()?),
                6 => tuple.icmp_code = Some(value.u8()?),
                _ => return Err(DecodeError::bad(at, "ct-flush tuple property", kind.into())),
            }
            value.finish()?;
        }
        Ok(tuple)
    }
}
