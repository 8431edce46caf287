//! Whole messages (OpenFlow 1.3.5 §7): one enum over all types, and their bytes. It knows no connection.

mod asynchronous;
mod bundle;
mod error_code;
mod error_names;
mod features;
mod hello;
mod meter;
mod monitor;
mod multipart;
mod nicira;
mod packet;
mod port;
mod queue;
mod stats;
mod table_features;

use bytes::{Bytes, BytesMut};

pub use asynchronous::{AsyncConfig, AsyncConfig2, FlowRemoved, Role, RoleMessage};
pub use bundle::{BundleAdd, BundleControl, BundleControlType, BundleFlags};
pub use error_code::{ErrorCode, ErrorMessage};
pub use features::{Features, SwitchConfig, SwitchDesc};
pub use hello::{Hello, HelloElement};
pub use meter::{MeterBand, MeterConfig, MeterFeatures, MeterFlags, MeterMod, MeterModCommand, MeterStats};
pub use monitor::{FlowMonitorRequest, FlowUpdate, FlowUpdateEvent};
pub use multipart::{MultipartReply, MultipartReplyBody, MultipartRequest, MultipartRequestBody};
pub use nicira::{
    CtFlush, CtTuple, NiciraMessage, PacketInFormat, TlvMap, TlvTableCommand, TlvTableMod, TlvTableReply,
};
pub use packet::{PacketIn, PacketIn2, PacketOut, PacketProperty};
pub use port::{Port, PortMod, PortReason, PortStatus};
pub use queue::{PacketQueue, QueueConfig, QueueProperty};
pub use stats::{
    AggregateStats, FlowStatsRequest, GroupFeatures, PortStats, PortStatsRequest, QueueStats,
    QueueStatsRequest, TableMod, TableStats,
};
pub use table_features::{TableFeatureProperty, TableFeatures};

use crate::action::{NICIRA, ONF};
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::flow::FlowMod;
use crate::group::GroupMod;
use crate::number::{PortNo, Xid};
use crate::wire::{Reader, Wire, Writer};

/// OpenFlow 1.3 on the wire.
pub const VERSION: u8 = 4;
/// A message's header: version, type, length, xid.
pub const HEADER_LEN: usize = 8;

/// A message, without its xid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// `OFPT_HELLO`.
    Hello(Hello),
    /// `OFPT_ERROR`.
    Error(ErrorMessage),
    /// `OFPT_ECHO_REQUEST`.
    EchoRequest(Bytes),
    /// `OFPT_ECHO_REPLY`.
    EchoReply(Bytes),
    /// `OFPT_EXPERIMENTER` of a vendor or type that this crate does not know.
    Experimenter {
        /// Whose.
        vendor: u32,
        /// Which.
        kind: u32,
        /// The rest.
        data: Bytes,
    },
    /// `OFPT_FEATURES_REQUEST`.
    FeaturesRequest,
    /// `OFPT_FEATURES_REPLY`.
    FeaturesReply(Features),
    /// `OFPT_GET_CONFIG_REQUEST`.
    GetConfigRequest,
    /// `OFPT_GET_CONFIG_REPLY`.
    GetConfigReply(SwitchConfig),
    /// `OFPT_SET_CONFIG`.
    SetConfig(SwitchConfig),
    /// `OFPT_PACKET_IN`.
    PacketIn(Box<PacketIn>),
    /// `OFPT_FLOW_REMOVED`.
    FlowRemoved(Box<FlowRemoved>),
    /// `OFPT_PORT_STATUS`.
    PortStatus(Box<PortStatus>),
    /// `OFPT_PACKET_OUT`.
    PacketOut(Box<PacketOut>),
    /// `OFPT_FLOW_MOD`.
    FlowMod(Box<FlowMod>),
    /// `OFPT_GROUP_MOD`.
    GroupMod(GroupMod),
    /// `OFPT_PORT_MOD`.
    PortMod(PortMod),
    /// `OFPT_TABLE_MOD`.
    TableMod(TableMod),
    /// `OFPT_MULTIPART_REQUEST`.
    MultipartRequest(MultipartRequest),
    /// `OFPT_MULTIPART_REPLY`.
    MultipartReply(MultipartReply),
    /// `OFPT_BARRIER_REQUEST`.
    BarrierRequest,
    /// `OFPT_BARRIER_REPLY`.
    BarrierReply,
    /// `OFPT_QUEUE_GET_CONFIG_REQUEST`.
    QueueGetConfigRequest(PortNo),
    /// `OFPT_QUEUE_GET_CONFIG_REPLY`.
    QueueGetConfigReply(QueueConfig),
    /// `OFPT_ROLE_REQUEST`.
    RoleRequest(RoleMessage),
    /// `OFPT_ROLE_REPLY`.
    RoleReply(RoleMessage),
    /// `OFPT_GET_ASYNC_REQUEST`.
    GetAsyncRequest,
    /// `OFPT_GET_ASYNC_REPLY`.
    GetAsyncReply(AsyncConfig),
    /// `OFPT_SET_ASYNC`.
    SetAsync(AsyncConfig),
    /// `OFPT_METER_MOD`.
    MeterMod(MeterMod),
    /// `ONFT13_BUNDLE_CONTROL`: ONF extension 230.
    BundleControl(BundleControl),
    /// `ONFT13_BUNDLE_ADD_MESSAGE`: ONF extension 230.
    BundleAdd(Box<BundleAdd>),
    /// `ONFT_FLOW_MONITOR_CANCEL` with the monitor's id.
    FlowMonitorCancel(u32),
    /// `ONFT_FLOW_MONITOR_PAUSED`: this side reads too slowly; updates are left out until it has caught up.
    FlowMonitorPaused,
    /// `ONFT_FLOW_MONITOR_RESUMED`: what was left out has been told.
    FlowMonitorResumed,
    /// A message of Nicira's.
    Nicira(Box<NiciraMessage>),
    /// A type that OpenFlow 1.3 does not have; `data` follows the header.
    Unknown {
        /// `OFPT_*`.
        kind: u8,
        /// The rest.
        data: Bytes,
    },
}

impl Message {
    /// Appends the message to `out`. On an error nothing is appended.
    pub fn encode(&self, xid: Xid, out: &mut BytesMut) -> Result<(), EncodeError> {
        let start = out.len();
        let result = self.encode_to(xid, &mut Writer::new(out));
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// The message alone.
    pub fn to_bytes(&self, xid: Xid) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::with_capacity(128);
        self.encode(xid, &mut out)?;
        Ok(out.freeze())
    }

    pub(crate) fn encode_to(&self, xid: Xid, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        let start = out.position();
        out.u8(if let Message::Hello(hello) = self { hello.version } else { VERSION });
        out.u8(self.kind());
        out.measured("message", start, |out| {
            xid.write(out);
            self.encode_body(out)
        })
    }

    /// Reads exactly one message.
    pub fn decode(bytes: &[u8]) -> Result<(Xid, Message), DecodeError> {
        let mut input = Reader::new(bytes);
        let decoded = decode_from(&mut input, 0)?;
        input.finish()?;
        Ok(decoded)
    }

    /// How long the message at the start of `bytes` is, once its header is there. A length below the header's is an error.
    pub fn length(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length < HEADER_LEN {
            return Err(DecodeError::bad(2, "message length", length as u64));
        }
        Ok(Some(length))
    }

    /// `OFPT_*`.
    pub fn kind(&self) -> u8 {
        match self {
            Message::Hello(_) => 0,
            Message::Error(_) => 1,
            Message::EchoRequest(_) => 2,
            Message::EchoReply(_) => 3,
            Message::Experimenter { .. }
            | Message::BundleControl(_)
            | Message::BundleAdd(_)
            | Message::FlowMonitorCancel(_)
            | Message::FlowMonitorPaused
            | Message::FlowMonitorResumed
            | Message::Nicira(_) => 4,
            Message::FeaturesRequest => 5,
            Message::FeaturesReply(_) => 6,
            Message::GetConfigRequest => 7,
            Message::GetConfigReply(_) => 8,
            Message::SetConfig(_) => 9,
            Message::PacketIn(_) => 10,
            Message::FlowRemoved(_) => 11,
            Message::PortStatus(_) => 12,
            Message::PacketOut(_) => 13,
            Message::FlowMod(_) => 14,
            Message::GroupMod(_) => 15,
            Message::PortMod(_) => 16,
            Message::TableMod(_) => 17,
            Message::MultipartRequest(_) => 18,
            Message::MultipartReply(_) => 19,
            Message::BarrierRequest => 20,
            Message::BarrierReply => 21,
            Message::QueueGetConfigRequest(_) => 22,
            Message::QueueGetConfigReply(_) => 23,
            Message::RoleRequest(_) => 24,
            Message::RoleReply(_) => 25,
            Message::GetAsyncRequest => 26,
            Message::GetAsyncReply(_) => 27,
            Message::SetAsync(_) => 28,
            Message::MeterMod(_) => 29,
            Message::Unknown { kind, .. } => *kind,
        }
    }

    fn encode_body(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Message::Hello(hello) => return hello.encode(out),
            Message::Error(error) => error.encode(out),
            Message::EchoRequest(data) | Message::EchoReply(data) | Message::Unknown { data, .. } => {
                out.bytes(data)
            }
            Message::Experimenter { vendor, kind, data } => {
                out.u32(*vendor);
                out.u32(*kind);
                out.bytes(data);
            }
            Message::FeaturesRequest
            | Message::GetConfigRequest
            | Message::BarrierRequest
            | Message::BarrierReply
            | Message::GetAsyncRequest => {}
            Message::FeaturesReply(features) => features.write(out),
            Message::GetConfigReply(config) | Message::SetConfig(config) => config.write(out),
            Message::PacketIn(packet) => return packet.encode(out),
            Message::FlowRemoved(removed) => return removed.encode(out),
            Message::PortStatus(status) => status.encode(out),
            Message::PacketOut(packet) => return packet.encode(out),
            Message::FlowMod(flow) => return flow.encode(out),
            Message::GroupMod(group) => return group.encode(out),
            Message::PortMod(port) => port.write(out),
            Message::TableMod(table) => table.write(out),
            Message::MultipartRequest(request) => return request.encode(out),
            Message::MultipartReply(reply) => return reply.encode(out),
            Message::QueueGetConfigRequest(port) => {
                out.u32(port.0);
                out.zeros(4);
            }
            Message::QueueGetConfigReply(config) => return config.encode(out),
            Message::RoleRequest(role) | Message::RoleReply(role) => role.write(out),
            Message::GetAsyncReply(config) | Message::SetAsync(config) => config.write(out),
            Message::MeterMod(meter) => return meter.encode(out),
            Message::BundleControl(control) => {
                out.u32(ONF);
                out.u32(bundle::CONTROL);
                control.encode(out);
            }
            Message::BundleAdd(add) => {
                out.u32(ONF);
                out.u32(bundle::ADD);
                return add.encode(out);
            }
            Message::FlowMonitorCancel(id) => {
                out.u32(ONF);
                out.u32(monitor::CANCEL);
                out.u32(*id);
            }
            Message::FlowMonitorPaused => {
                out.u32(ONF);
                out.u32(monitor::PAUSED);
            }
            Message::FlowMonitorResumed => {
                out.u32(ONF);
                out.u32(monitor::RESUMED);
            }
            Message::Nicira(message) => {
                out.u32(NICIRA);
                out.u32(message.kind());
                return message.encode(out);
            }
        }
        Ok(())
    }
}

/// Reads one message off `input`. `depth` is 1 inside a bundle.
pub(crate) fn decode_from(input: &mut Reader<'_>, depth: u8) -> Result<(Xid, Message), DecodeError> {
    let at = input.offset();
    let (version, kind) = (input.u8()?, input.u8()?);
    let length = usize::from(input.u16()?);
    let xid = Xid(input.u32()?);
    if version != VERSION && kind != 0 {
        return Err(DecodeError::new(at, DecodeErrorKind::Version(version)));
    }
    let body = length.checked_sub(HEADER_LEN);
    let mut body =
        input.sub(body.ok_or_else(|| DecodeError::bad(at + 2, "message length", length as u64))?)?;
    let message = decode_body(version, kind, &mut body, depth)?;
    body.finish()?;
    Ok((xid, message))
}

fn decode_body(version: u8, kind: u8, body: &mut Reader<'_>, depth: u8) -> Result<Message, DecodeError> {
    Ok(match kind {
        0 => Message::Hello(Hello::decode(version, body)?),
        1 => Message::Error(ErrorMessage::decode(body)?),
        2 => Message::EchoRequest(rest(body)),
        3 => Message::EchoReply(rest(body)),
        4 => return decode_experimenter(body, depth),
        5 => Message::FeaturesRequest,
        6 => Message::FeaturesReply(Features::read(body)?),
        7 => Message::GetConfigRequest,
        8 => Message::GetConfigReply(SwitchConfig::read(body)?),
        9 => Message::SetConfig(SwitchConfig::read(body)?),
        10 => Message::PacketIn(Box::new(PacketIn::decode(body)?)),
        11 => Message::FlowRemoved(Box::new(FlowRemoved::decode(body)?)),
        12 => Message::PortStatus(Box::new(PortStatus::decode(body)?)),
        13 => Message::PacketOut(Box::new(PacketOut::decode(body)?)),
        14 => Message::FlowMod(Box::new(FlowMod::decode(body)?)),
        15 => Message::GroupMod(GroupMod::decode(body)?),
        16 => Message::PortMod(PortMod::read(body)?),
        17 => Message::TableMod(TableMod::read(body)?),
        18 => Message::MultipartRequest(MultipartRequest::decode(body)?),
        19 => Message::MultipartReply(MultipartReply::decode(body)?),
        20 => Message::BarrierRequest,
        21 => Message::BarrierReply,
        22 => {
            let port = PortNo(body.u32()?);
            body.skip(4)?;
            Message::QueueGetConfigRequest(port)
        }
        23 => Message::QueueGetConfigReply(QueueConfig::decode(body)?),
        24 => Message::RoleRequest(RoleMessage::read(body)?),
        25 => Message::RoleReply(RoleMessage::read(body)?),
        26 => Message::GetAsyncRequest,
        27 => Message::GetAsyncReply(AsyncConfig::read(body)?),
        28 => Message::SetAsync(AsyncConfig::read(body)?),
        29 => Message::MeterMod(MeterMod::decode(body)?),
        _ => Message::Unknown { kind, data: rest(body) },
    })
}

fn decode_experimenter(body: &mut Reader<'_>, depth: u8) -> Result<Message, DecodeError> {
    let (vendor, kind) = (body.u32()?, body.u32()?);
    Ok(match (vendor, kind) {
        (ONF, bundle::CONTROL) => Message::BundleControl(BundleControl::decode(body)?),
        (ONF, bundle::ADD) => Message::BundleAdd(Box::new(BundleAdd::decode(body, depth)?)),
        (ONF, monitor::CANCEL) => Message::FlowMonitorCancel(body.u32()?),
        (ONF, monitor::PAUSED) => Message::FlowMonitorPaused,
        (ONF, monitor::RESUMED) => Message::FlowMonitorResumed,
        (NICIRA, _) => match NiciraMessage::decode(kind, body)? {
            Some(message) => Message::Nicira(Box::new(message)),
            None => Message::Experimenter { vendor, kind, data: rest(body) },
        },
        _ => Message::Experimenter { vendor, kind, data: rest(body) },
    })
}

pub(crate) fn rest(input: &mut Reader<'_>) -> Bytes {
    Bytes::copy_from_slice(input.rest())
}

/// A property: type, length (without padding), payload, zeros up to a multiple of eight.
pub(crate) fn put_property(
    out: &mut Writer<'_>,
    kind: u16,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.position();
    out.u16(kind);
    out.measured("property", start, body)?;
    out.pad_from(start, 8);
    Ok(())
}

/// Takes a property: its type and payload.
pub(crate) fn take_property<'a>(input: &mut Reader<'a>) -> Result<(u16, Reader<'a>), DecodeError> {
    let kind = input.u16()?;
    let at = input.offset();
    let length = usize::from(input.u16()?);
    let payload =
        length.checked_sub(4).ok_or_else(|| DecodeError::bad(at, "property length", length as u64))?;
    let body = input.sub(payload)?;
    // The last property of a message may come without its padding.
    input.skip((length.next_multiple_of(8) - length).min(input.len()))?;
    Ok((kind, body))
}
