//! Multipart requests and replies: descriptions and statistics that may take several messages (OpenFlow 1.3.5 §7.3.5).

use bytes::Bytes;

use super::monitor::ONF_FLOW_MONITOR;
use super::{
    AggregateStats, FlowMonitorRequest, FlowStatsRequest, FlowUpdate, GroupFeatures, MeterConfig,
    MeterFeatures, MeterStats, Port, PortStats, PortStatsRequest, QueueStats, QueueStatsRequest, SwitchDesc,
    TableFeatures, TableStats, rest,
};
use crate::action::ONF;
use crate::error::{DecodeError, EncodeError};
use crate::flow::FlowStats;
use crate::group::{GroupDesc, GroupStats};
use crate::number::{GroupId, MeterId};
use crate::wire::{Reader, Wire, Writer, read_all};

/// `OFPMPF_REQ_MORE`, `OFPMPF_REPLY_MORE`.
const MORE: u16 = 1;

/// `OFPT_MULTIPART_REQUEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartRequest {
    /// More of the same request follows.
    pub more: bool,
    /// What is asked.
    pub body: MultipartRequestBody,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MultipartRequestBody {
    /// `OFPMP_DESC`.
    Desc,
    /// `OFPMP_FLOW`.
    Flow(FlowStatsRequest),
    /// `OFPMP_AGGREGATE`.
    Aggregate(FlowStatsRequest),
    /// `OFPMP_TABLE`.
    Table,
    /// `OFPMP_PORT_STATS`.
    PortStats(PortStatsRequest),
    /// `OFPMP_QUEUE`.
    Queue(QueueStatsRequest),
    /// `OFPMP_GROUP`; [`GroupId::ALL`]: every group.
    Group(GroupId),
    /// `OFPMP_GROUP_DESC`.
    GroupDesc,
    /// `OFPMP_GROUP_FEATURES`.
    GroupFeatures,
    /// `OFPMP_METER`; [`MeterId::ALL`]: every meter.
    Meter(MeterId),
    /// `OFPMP_METER_CONFIG`; [`MeterId::ALL`]: every meter.
    MeterConfig(MeterId),
    /// `OFPMP_METER_FEATURES`.
    MeterFeatures,
    /// `OFPMP_TABLE_FEATURES`; empty: only tell.
    TableFeatures(Vec<TableFeatures>),
    /// `OFPMP_PORT_DESC`.
    PortDesc,
    /// `ONFST_FLOW_MONITOR`.
    FlowMonitor(Vec<FlowMonitorRequest>),
    /// `OFPMP_EXPERIMENTER`.
    Experimenter {
        /// Whose.
        vendor: u32,
        /// Which.
        kind: u32,
        /// The rest.
        data: Bytes,
    },
    /// A type that OpenFlow 1.3 does not have.
    Unknown {
        /// `OFPMP_*`.
        kind: u16,
        /// The rest.
        data: Bytes,
    },
}

/// `OFPT_MULTIPART_REPLY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartReply {
    /// More of the same reply follows.
    pub more: bool,
    /// What is told.
    pub body: MultipartReplyBody,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MultipartReplyBody {
    /// `OFPMP_DESC`.
    Desc(Box<SwitchDesc>),
    /// `OFPMP_FLOW`.
    Flow(Vec<FlowStats>),
    /// `OFPMP_AGGREGATE`.
    Aggregate(AggregateStats),
    /// `OFPMP_TABLE`.
    Table(Vec<TableStats>),
    /// `OFPMP_PORT_STATS`.
    PortStats(Vec<PortStats>),
    /// `OFPMP_QUEUE`.
    Queue(Vec<QueueStats>),
    /// `OFPMP_GROUP`.
    Group(Vec<GroupStats>),
    /// `OFPMP_GROUP_DESC`.
    GroupDesc(Vec<GroupDesc>),
    /// `OFPMP_GROUP_FEATURES`.
    GroupFeatures(GroupFeatures),
    /// `OFPMP_METER`.
    Meter(Vec<MeterStats>),
    /// `OFPMP_METER_CONFIG`.
    MeterConfig(Vec<MeterConfig>),
    /// `OFPMP_METER_FEATURES`.
    MeterFeatures(MeterFeatures),
    /// `OFPMP_TABLE_FEATURES`.
    TableFeatures(Vec<TableFeatures>),
    /// `OFPMP_PORT_DESC`.
    PortDesc(Vec<Port>),
    /// `ONFST_FLOW_MONITOR`.
    FlowMonitor(Vec<FlowUpdate>),
    /// `OFPMP_EXPERIMENTER`.
    Experimenter {
        /// Whose.
        vendor: u32,
        /// Which.
        kind: u32,
        /// The rest.
        data: Bytes,
    },
    /// A type that OpenFlow 1.3 does not have.
    Unknown {
        /// `OFPMP_*`.
        kind: u16,
        /// The rest.
        data: Bytes,
    },
}

impl MultipartRequest {
    /// A request in one message.
    pub fn new(body: MultipartRequestBody) -> MultipartRequest {
        MultipartRequest { more: false, body }
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        use MultipartRequestBody as Body;
        put_head(out, self.body.kind(), self.more);
        match &self.body {
            Body::Desc
            | Body::Table
            | Body::GroupDesc
            | Body::GroupFeatures
            | Body::MeterFeatures
            | Body::PortDesc => {}
            Body::Flow(request) | Body::Aggregate(request) => return request.encode(out),
            Body::PortStats(request) => request.write(out),
            Body::Queue(request) => request.write(out),
            Body::Group(GroupId(id)) | Body::Meter(MeterId(id)) | Body::MeterConfig(MeterId(id)) => {
                out.u32(*id);
                out.zeros(4);
            }
            Body::TableFeatures(tables) => return tables.iter().try_for_each(|table| table.encode(out)),
            Body::FlowMonitor(monitors) => {
                out.u32(ONF);
                out.u32(ONF_FLOW_MONITOR);
                return monitors.iter().try_for_each(|monitor| monitor.encode(out));
            }
            Body::Experimenter { vendor, kind, data } => {
                out.u32(*vendor);
                out.u32(*kind);
                out.bytes(data);
            }
            Body::Unknown { data, .. } => out.bytes(data),
        }
        Ok(())
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<MultipartRequest, DecodeError> {
        use MultipartRequestBody as Body;
        let (kind, more) = take_head(body)?;
        let body = match kind {
            0 => Body::Desc,
            1 => Body::Flow(FlowStatsRequest::decode(body)?),
            2 => Body::Aggregate(FlowStatsRequest::decode(body)?),
            3 => Body::Table,
            4 => Body::PortStats(PortStatsRequest::read(body)?),
            5 => Body::Queue(QueueStatsRequest::read(body)?),
            6 => Body::Group(GroupId(padded_id(body)?)),
            7 => Body::GroupDesc,
            8 => Body::GroupFeatures,
            9 => Body::Meter(MeterId(padded_id(body)?)),
            10 => Body::MeterConfig(MeterId(padded_id(body)?)),
            11 => Body::MeterFeatures,
            12 => Body::TableFeatures(decode_all(body, TableFeatures::decode)?),
            13 => Body::PortDesc,
            0xffff => match (body.u32()?, body.u32()?) {
                (ONF, ONF_FLOW_MONITOR) => Body::FlowMonitor(decode_all(body, FlowMonitorRequest::decode)?),
                (vendor, kind) => Body::Experimenter { vendor, kind, data: rest(body) },
            },
            _ => Body::Unknown { kind, data: rest(body) },
        };
        Ok(MultipartRequest { more, body })
    }
}

impl MultipartRequestBody {
    /// `OFPMP_*`.
    pub fn kind(&self) -> u16 {
        use MultipartRequestBody as Body;
        match self {
            Body::Desc => 0,
            Body::Flow(_) => 1,
            Body::Aggregate(_) => 2,
            Body::Table => 3,
            Body::PortStats(_) => 4,
            Body::Queue(_) => 5,
            Body::Group(_) => 6,
            Body::GroupDesc => 7,
            Body::GroupFeatures => 8,
            Body::Meter(_) => 9,
            Body::MeterConfig(_) => 10,
            Body::MeterFeatures => 11,
            Body::TableFeatures(_) => 12,
            Body::PortDesc => 13,
            Body::FlowMonitor(_) | Body::Experimenter { .. } => 0xffff,
            Body::Unknown { kind, .. } => *kind,
        }
    }
}

impl MultipartReply {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        use MultipartReplyBody as Body;
        put_head(out, self.body.kind(), self.more);
        match &self.body {
            Body::Desc(desc) => desc.write(out),
            Body::Flow(flows) => return flows.iter().try_for_each(|flow| flow.encode(out)),
            Body::Aggregate(stats) => stats.write(out),
            Body::Table(tables) => tables.iter().for_each(|table| table.write(out)),
            Body::PortStats(ports) => ports.iter().for_each(|port| port.write(out)),
            Body::Queue(queues) => queues.iter().for_each(|queue| queue.write(out)),
            Body::Group(groups) => return groups.iter().try_for_each(|group| group.encode(out)),
            Body::GroupDesc(groups) => return groups.iter().try_for_each(|group| group.encode(out)),
            Body::GroupFeatures(features) => features.write(out),
            Body::Meter(meters) => return meters.iter().try_for_each(|meter| meter.encode(out)),
            Body::MeterConfig(meters) => return meters.iter().try_for_each(|meter| meter.encode(out)),
            Body::MeterFeatures(features) => features.write(out),
            Body::TableFeatures(tables) => return tables.iter().try_for_each(|table| table.encode(out)),
            Body::PortDesc(ports) => ports.iter().for_each(|port| port.write(out)),
            Body::FlowMonitor(updates) => {
                out.u32(ONF);
                out.u32(ONF_FLOW_MONITOR);
                return updates.iter().try_for_each(|update| update.encode(out));
            }
            Body::Experimenter { vendor, kind, data } => {
                out.u32(*vendor);
                out.u32(*kind);
                out.bytes(data);
            }
            Body::Unknown { data, .. } => out.bytes(data),
        }
        Ok(())
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<MultipartReply, DecodeError> {
        use MultipartReplyBody as Body;
        let (kind, more) = take_head(body)?;
        let body = match kind {
            0 => Body::Desc(Box::new(SwitchDesc::read(body)?)),
            1 => Body::Flow(decode_all(body, FlowStats::decode)?),
            2 => Body::Aggregate(AggregateStats::read(body)?),
            3 => Body::Table(read_all(body)?),
            4 => Body::PortStats(read_all(body)?),
            5 => Body::Queue(read_all(body)?),
            6 => Body::Group(decode_all(body, GroupStats::decode)?),
            7 => Body::GroupDesc(decode_all(body, GroupDesc::decode)?),
            8 => Body::GroupFeatures(GroupFeatures::read(body)?),
            9 => Body::Meter(decode_all(body, MeterStats::decode)?),
            10 => Body::MeterConfig(decode_all(body, MeterConfig::decode)?),
            11 => Body::MeterFeatures(MeterFeatures::read(body)?),
            12 => Body::TableFeatures(decode_all(body, TableFeatures::decode)?),
            13 => Body::PortDesc(read_all(body)?),
            0xffff => match (body.u32()?, body.u32()?) {
                (ONF, ONF_FLOW_MONITOR) => Body::FlowMonitor(decode_all(body, FlowUpdate::decode)?),
                (vendor, kind) => Body::Experimenter { vendor, kind, data: rest(body) },
            },
            _ => Body::Unknown { kind, data: rest(body) },
        };
        Ok(MultipartReply { more, body })
    }
}

impl MultipartReplyBody {
    /// `OFPMP_*`.
    pub fn kind(&self) -> u16 {
        use MultipartReplyBody as Body;
        match self {
            Body::Desc(_) => 0,
            Body::Flow(_) => 1,
            Body::Aggregate(_) => 2,
            Body::Table(_) => 3,
            Body::PortStats(_) => 4,
            Body::Queue(_) => 5,
            Body::Group(_) => 6,
            Body::GroupDesc(_) => 7,
            Body::GroupFeatures(_) => 8,
            Body::Meter(_) => 9,
            Body::MeterConfig(_) => 10,
            Body::MeterFeatures(_) => 11,
            Body::TableFeatures(_) => 12,
            Body::PortDesc(_) => 13,
            Body::FlowMonitor(_) | Body::Experimenter { .. } => 0xffff,
            Body::Unknown { kind, .. } => *kind,
        }
    }
}

fn put_head(out: &mut Writer<'_>, kind: u16, more: bool) {
    out.u16(kind);
    out.u16(if more { MORE } else { 0 });
    out.zeros(4);
}

fn take_head(body: &mut Reader<'_>) -> Result<(u16, bool), DecodeError> {
    let kind = body.u16()?;
    let more = body.u16()? & MORE != 0;
    body.skip(4)?;
    Ok((kind, more))
}

fn padded_id(body: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let id = body.u32()?;
    body.skip(4)?;
    Ok(id)
}

fn decode_all<T>(
    body: &mut Reader<'_>,
    one: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::new();
    while !body.is_empty() {
        items.push(one(body)?);
    }
    Ok(items)
}
