//! Counters of flows in sum, tables, ports, queues, and what groups can do (OpenFlow 1.3.5 §7.3.3, §7.3.5).

use crate::error::{DecodeError, EncodeError};
use crate::flow_match::Match;
use crate::number::{Cookie, GroupId, PortNo, QueueId, TableId};
use crate::wire::{Reader, Writer, wire_structs};

/// `struct ofp_flow_stats_request` and `ofp_aggregate_stats_request`: which flows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowStatsRequest {
    /// Which table.
    pub table: TableId,
    /// Only flows that send there.
    pub out_port: PortNo,
    /// Only flows that use this group.
    pub out_group: GroupId,
    /// Only flows with these cookie bits,
    pub cookie: Cookie,
    /// under this mask.
    pub cookie_mask: u64,
    /// Only flows that the match covers.
    pub match_: Match,
}

impl Default for FlowStatsRequest {
    /// Every flow.
    fn default() -> FlowStatsRequest {
        FlowStatsRequest {
            table: TableId::ALL,
            out_port: PortNo::ANY,
            out_group: GroupId::ANY,
            cookie: Cookie(0),
            cookie_mask: 0,
            match_: Match::new(),
        }
    }
}

impl FlowStatsRequest {
    /// Every flow of one table.
    pub fn table(table: TableId) -> FlowStatsRequest {
        FlowStatsRequest { table, ..FlowStatsRequest::default() }
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u8(self.table.0);
        out.zeros(3);
        out.u32(self.out_port.0);
        out.u32(self.out_group.0);
        out.zeros(4);
        out.u64(self.cookie.0);
        out.u64(self.cookie_mask);
        self.match_.encode(out)
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<FlowStatsRequest, DecodeError> {
        let table = TableId(body.u8()?);
        body.skip(3)?;
        let (out_port, out_group) = (PortNo(body.u32()?), GroupId(body.u32()?));
        body.skip(4)?;
        let (cookie, cookie_mask) = (Cookie(body.u64()?), body.u64()?);
        Ok(FlowStatsRequest { table, out_port, out_group, cookie, cookie_mask, match_: Match::decode(body)? })
    }
}

wire_structs! {
    /// `OFPMP_AGGREGATE` reply.
    pub struct AggregateStats {
        /// Packets.
        packet_count: u64;
        /// Bytes.
        byte_count: u64;
        /// Flows.
        flow_count: u32, pad 4;
    }

    /// `OFPT_TABLE_MOD`.
    pub struct TableMod {
        /// Which table.
        table: TableId, pad 3;
        /// `OFPTC_*`.
        config: u32;
    }

    /// One table of an `OFPMP_TABLE` reply.
    pub struct TableStats {
        /// Which table.
        table: TableId, pad 3;
        /// Flows in it.
        active_count: u32;
        /// Packets looked up.
        lookup_count: u64;
        /// Packets that matched.
        matched_count: u64;
    }

    /// `OFPMP_PORT_STATS` request.
    pub struct PortStatsRequest {
        /// Which port; [`PortNo::ANY`]: all.
        port: PortNo, pad 4;
    }

    /// One port of an `OFPMP_PORT_STATS` reply; `u64::MAX` where nothing is counted.
    pub struct PortStats {
        /// Which port.
        port: PortNo, pad 4;
        /// Packets received.
        rx_packets: u64;
        /// Packets sent.
        tx_packets: u64;
        /// Bytes received.
        rx_bytes: u64;
        /// Bytes sent.
        tx_bytes: u64;
        /// Received and dropped.
        rx_dropped: u64;
        /// Dropped instead of sent.
        tx_dropped: u64;
        /// Errors receiving.
        rx_errors: u64;
        /// Errors sending.
        tx_errors: u64;
        /// Misaligned frames.
        rx_frame_err: u64;
        /// Overruns.
        rx_over_err: u64;
        /// Checksum errors.
        rx_crc_err: u64;
        /// Collisions.
        collisions: u64;
        /// Age in seconds,
        duration_s: u32;
        /// and nanoseconds.
        duration_ns: u32;
    }

    /// `OFPMP_QUEUE` request.
    pub struct QueueStatsRequest {
        /// Which port.
        port: PortNo;
        /// Which queue.
        queue: QueueId;
    }

    /// One queue of an `OFPMP_QUEUE` reply.
    pub struct QueueStats {
        /// Which port.
        port: PortNo;
        /// Which queue.
        queue: QueueId;
        /// Bytes sent.
        tx_bytes: u64;
        /// Packets sent.
        tx_packets: u64;
        /// Packets dropped.
        tx_errors: u64;
        /// Age in seconds,
        duration_s: u32;
        /// and nanoseconds.
        duration_ns: u32;
    }

    /// `OFPMP_GROUP_FEATURES`: per type (all, select, indirect, fast failover).
    pub struct GroupFeatures {
        /// Bits of group types.
        types: u32;
        /// `OFPGFC_*`.
        capabilities: u32;
        /// Groups of each type.
        max_groups: [u32; 4];
        /// Bits of `OFPAT_*` of each type.
        actions: [u32; 4];
    }
}
