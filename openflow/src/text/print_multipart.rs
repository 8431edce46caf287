//! Multipart requests and replies as `ovs-ofctl ofp-print` prints them. It only prints.

use std::fmt::{self, Write};

use super::print_action::InstructionsText;
use super::print_flow::{DurationText, MeterIdText, write_meter};
use super::print_match::MatchText;
use super::print_message::{FLOW_REMOVED_REASONS, write_bits, write_port};
use crate::message::{
    FlowMonitorRequest, FlowStatsRequest, FlowUpdate, FlowUpdateEvent, GroupFeatures, MeterFeatures,
    MeterStats, MultipartReply, MultipartReplyBody, MultipartRequest, MultipartRequestBody, PortStats,
    QueueStats, TableFeatures, TableStats,
};
use crate::number::{GroupId, PortNo, QueueId, TableId};

impl MultipartRequestBody {
    pub(super) fn name(&self) -> &'static str {
        use MultipartRequestBody as Body;
        match self {
            Body::Desc => "OFPST_DESC request",
            Body::Flow(_) => "OFPST_FLOW request",
            Body::Aggregate(_) => "OFPST_AGGREGATE request",
            Body::Table => "OFPST_TABLE request",
            Body::PortStats(_) => "OFPST_PORT request",
            Body::Queue(_) => "OFPST_QUEUE request",
            Body::Group(_) => "OFPST_GROUP request",
            Body::GroupDesc => "OFPST_GROUP_DESC request",
            Body::GroupFeatures => "OFPST_GROUP_FEATURES request",
            Body::Meter(_) => "OFPST_METER request",
            Body::MeterConfig(_) => "OFPST_METER_CONFIG request",
            Body::MeterFeatures => "OFPST_METER_FEATURES request",
            Body::TableFeatures(_) => "OFPST_TABLE_FEATURES request",
            Body::PortDesc => "OFPST_PORT_DESC request",
            Body::FlowMonitor(_) => "ONFST_FLOW_MONITOR request",
            Body::Experimenter { .. } => "OFPST_EXPERIMENTER request",
            Body::Unknown { .. } => "OFPST_UNKNOWN request",
        }
    }
}

impl MultipartReplyBody {
    pub(super) fn name(&self) -> &'static str {
        use MultipartReplyBody as Body;
        match self {
            Body::Desc(_) => "OFPST_DESC reply",
            Body::Flow(_) => "OFPST_FLOW reply",
            Body::Aggregate(_) => "OFPST_AGGREGATE reply",
            Body::Table(_) => "OFPST_TABLE reply",
            Body::PortStats(_) => "OFPST_PORT reply",
            Body::Queue(_) => "OFPST_QUEUE reply",
            Body::Group(_) => "OFPST_GROUP reply",
            Body::GroupDesc(_) => "OFPST_GROUP_DESC reply",
            Body::GroupFeatures(_) => "OFPST_GROUP_FEATURES reply",
            Body::Meter(_) => "OFPST_METER reply",
            Body::MeterConfig(_) => "OFPST_METER_CONFIG reply",
            Body::MeterFeatures(_) => "OFPST_METER_FEATURES reply",
            Body::TableFeatures(_) => "OFPST_TABLE_FEATURES reply",
            Body::PortDesc(_) => "OFPST_PORT_DESC reply",
            Body::FlowMonitor(_) => "ONFST_FLOW_MONITOR reply",
            Body::Experimenter { .. } => "OFPST_EXPERIMENTER reply",
            Body::Unknown { .. } => "OFPST_UNKNOWN reply",
        }
    }
}

pub(super) fn write_request(f: &mut fmt::Formatter<'_>, request: &MultipartRequest) -> fmt::Result {
    use MultipartRequestBody as Body;
    if request.more {
        f.write_str(" flags=[more]")?;
    }
    match &request.body {
        Body::Flow(flow) | Body::Aggregate(flow) => write_flow_request(f, flow),
        Body::PortStats(port) => write!(f, " port_no={}", port.port),
        Body::Queue(queue) => write!(f, " port={} queue={}", queue.port, QueueText(queue.queue)),
        Body::Group(group) => write!(f, " group_id={}", GroupText(*group)),
        Body::GroupDesc => f.write_str(" group_id=ALL"),
        Body::Meter(meter) | Body::MeterConfig(meter) => write!(f, " meter={}", MeterIdText(*meter)),
        Body::TableFeatures(tables) => tables.iter().try_for_each(|table| write_table_features(f, table)),
        Body::PortDesc => f.write_str(" port=ANY"),
        Body::FlowMonitor(monitors) => monitors.iter().try_for_each(|monitor| write_monitor(f, monitor)),
        Body::Experimenter { vendor, kind, data } => {
            write!(f, " vendor={vendor:#x} type={kind} ({} bytes)", data.len())
        }
        Body::Unknown { kind, data } => write!(f, " type={kind} ({} bytes)", data.len()),
        Body::Desc | Body::Table | Body::GroupFeatures | Body::MeterFeatures => Ok(()),
    }
}

pub(super) fn write_reply(f: &mut fmt::Formatter<'_>, reply: &MultipartReply) -> fmt::Result {
    use MultipartReplyBody as Body;
    if reply.more {
        f.write_str(" flags=[more]")?;
    }
    match &reply.body {
        Body::Desc(desc) => {
            write!(f, "\nManufacturer: {}", desc.manufacturer.text())?;
            write!(f, "\nHardware: {}", desc.hardware.text())?;
            write!(f, "\nSoftware: {}", desc.software.text())?;
            write!(f, "\nSerial Num: {}", desc.serial.text())?;
            write!(f, "\nDP Description: {}", desc.datapath.text())
        }
        Body::Flow(flows) => flows.iter().try_for_each(|flow| write!(f, "\n {flow}")),
        Body::Aggregate(stats) => write!(
            f,
            " packet_count={} byte_count={} flow_count={}",
            stats.packet_count, stats.byte_count, stats.flow_count
        ),
        Body::Table(tables) => write_tables(f, tables),
        Body::PortStats(ports) => {
            write!(f, " {} ports", ports.len())?;
            ports.iter().try_for_each(|port| write_port_stats(f, port))
        }
        Body::Queue(queues) => {
            write!(f, " {} queues", queues.len())?;
            queues.iter().try_for_each(|queue| write_queue_stats(f, queue))
        }
        Body::Group(groups) => groups.iter().try_for_each(|group| {
            write!(f, "\n group_id={},", group.group)?;
            write!(f, "duration={},", DurationText(group.duration))?;
            write!(
                f,
                "ref_count={},packet_count={},byte_count={}",
                group.ref_count, group.packet_count, group.byte_count
            )?;
            group.buckets.iter().enumerate().try_for_each(|(index, (packets, bytes))| {
                if *packets == u64::MAX {
                    return Ok(());
                }
                write!(f, ",bucket{index}:packet_count={packets},byte_count={bytes}")
            })
        }),
        Body::GroupDesc(groups) => groups.iter().try_for_each(|group| write!(f, "\n {group}")),
        Body::GroupFeatures(features) => write_group_features(f, features),
        Body::Meter(meters) => meters.iter().try_for_each(|meter| write_meter_stats(f, meter)),
        Body::MeterConfig(meters) => meters.iter().enumerate().try_for_each(|(index, meter)| {
            f.write_str(if index == 0 { "\n" } else { "\n\n" })?;
            let mut text = String::new();
            write!(text, "{}", MeterText(meter))?;
            f.write_str(text.trim_end_matches('\n'))
        }),
        Body::MeterFeatures(features) => write_meter_features(f, features),
        Body::TableFeatures(tables) => tables.iter().try_for_each(|table| write_table_features(f, table)),
        Body::PortDesc(ports) => {
            let mut sorted: Vec<_> = ports.iter().collect();
            sorted.sort_by_key(|port| port.port);
            sorted.into_iter().try_for_each(|port| {
                f.write_char('\n')?;
                write_port(f, port)
            })
        }
        Body::FlowMonitor(updates) => updates.iter().try_for_each(|update| write_update(f, update)),
        Body::Experimenter { vendor, kind, data } => {
            write!(f, " vendor={vendor:#x} type={kind} ({} bytes)", data.len())
        }
        Body::Unknown { kind, data } => write!(f, " type={kind} ({} bytes)", data.len()),
    }
}

struct MeterText<'a>(&'a crate::message::MeterConfig);

impl fmt::Display for MeterText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_meter(f, self.0.meter, self.0.flags, &self.0.bands)
    }
}

struct QueueText(QueueId);

impl fmt::Display for QueueText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == QueueId::ALL { f.write_str("ALL") } else { write!(f, "{}", self.0) }
    }
}

struct GroupText(GroupId);

impl fmt::Display for GroupText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            GroupId::ALL => f.write_str("ALL"),
            GroupId::ANY => f.write_str("ANY"),
            other => write!(f, "{other}"),
        }
    }
}

fn write_flow_request(f: &mut fmt::Formatter<'_>, request: &FlowStatsRequest) -> fmt::Result {
    if request.table != TableId::ALL {
        write!(f, " table={}", request.table)?;
    }
    if request.out_port != PortNo::ANY {
        write!(f, " out_port={}", request.out_port)?;
    }
    // Restrictions to cookies and groups are not printed by ofp-print either.
    write!(f, " {}", request.match_)
}

fn write_tables(f: &mut fmt::Formatter<'_>, tables: &[TableStats]) -> fmt::Result {
    let mut last: Option<(&TableStats, TableId)> = None;
    let mut skipped = 0;
    for (index, table) in tables.iter().enumerate() {
        let same = last.is_some_and(|(earlier, _)| {
            (earlier.active_count, earlier.lookup_count, earlier.matched_count)
                == (table.active_count, table.lookup_count, table.matched_count)
        });
        if same && index > 0 {
            skipped += 1;
            last = last.map(|(earlier, _)| (earlier, table.table));
            continue;
        }
        flush_same(f, &mut skipped, last)?;
        if index > 0 {
            f.write_char('\n')?;
        }
        write!(f, "\n  table {}:", table.table)?;
        write!(
            f,
            "\n    active={}, lookup={}, matched={}",
            table.active_count, table.lookup_count, table.matched_count
        )?;
        last = Some((table, table.table));
    }
    flush_same(f, &mut skipped, last)
}

fn flush_same(
    f: &mut fmt::Formatter<'_>,
    skipped: &mut u32,
    last: Option<(&TableStats, TableId)>,
) -> fmt::Result {
    let count = std::mem::take(skipped);
    match (count, last) {
        (0, _) | (_, None) => Ok(()),
        (1, Some((_, table))) => write!(f, "\n\n  table {table}: ditto"),
        (_, Some((first, table))) => {
            write!(f, "\n\n  tables {}...{table}: ditto", u32::from(first.table.0) + 1)
        }
    }
}

fn counted(value: u64) -> String {
    if value == u64::MAX { "?".to_owned() } else { value.to_string() }
}

fn write_port_stats(f: &mut fmt::Formatter<'_>, port: &PortStats) -> fmt::Result {
    let name = if port.port.reserved_name().is_some() {
        port.port.to_string()
    } else {
        format!("{:>2}", port.port.0)
    };
    write!(f, "\n  port {name}: rx pkts={}, ", counted(port.rx_packets))?;
    write!(f, "bytes={}, drop={}, ", counted(port.rx_bytes), counted(port.rx_dropped))?;
    write!(f, "errs={}, frame={}, ", counted(port.rx_errors), counted(port.rx_frame_err))?;
    write!(f, "over={}, crc={}", counted(port.rx_over_err), counted(port.rx_crc_err))?;
    write!(f, "\n           tx pkts={}, ", counted(port.tx_packets))?;
    write!(f, "bytes={}, drop={}, ", counted(port.tx_bytes), counted(port.tx_dropped))?;
    write!(f, "errs={}, coll={}", counted(port.tx_errors), counted(port.collisions))?;
    if port.duration_s == u32::MAX {
        return Ok(());
    }
    let duration = std::time::Duration::new(port.duration_s.into(), port.duration_ns.min(999_999_999));
    write!(f, "\n           duration={}", DurationText(duration))
}

fn write_queue_stats(f: &mut fmt::Formatter<'_>, queue: &QueueStats) -> fmt::Result {
    write!(f, "\n  port {} queue {}: ", queue.port, QueueText(queue.queue))?;
    write!(f, "bytes={}, pkts={}, ", counted(queue.tx_bytes), counted(queue.tx_packets))?;
    write!(f, "errors={}, duration=", counted(queue.tx_errors))?;
    if queue.duration_s == u32::MAX {
        return f.write_char('?');
    }
    let duration = std::time::Duration::new(queue.duration_s.into(), queue.duration_ns.min(999_999_999));
    write!(f, "{}", DurationText(duration))
}

const ACTION_NAMES: &[(u32, &str)] = &[
    (0, "output"),
    (22, "group"),
    (25, "set_field"),
    (18, "strip_vlan"),
    (17, "push_vlan"),
    (23, "mod_nw_ttl"),
    (24, "dec_ttl"),
    (15, "set_mpls_ttl"),
    (16, "dec_mpls_ttl"),
    (19, "push_mpls"),
    (20, "pop_mpls"),
    (21, "set_queue"),
];

fn write_group_features(f: &mut fmt::Formatter<'_>, features: &GroupFeatures) -> fmt::Result {
    write!(
        f,
        "\n Group table:\n    Types:  {:#x}\n    Capabilities:  {:#x}",
        features.types, features.capabilities
    )?;
    for (index, name) in ["all", "select", "indirect", "fast failover"].iter().enumerate() {
        if features.types >> index & 1 == 0 {
            continue;
        }
        write!(f, "\n    {name} group:\n       max_groups={:#x}", features.max_groups[index])?;
        let names: Vec<&str> = ACTION_NAMES
            .iter()
            .filter(|(bit, _)| features.actions[index] >> bit & 1 == 1)
            .map(|(_, name)| *name)
            .collect();
        write!(
            f,
            "\n       actions: {}",
            if names.is_empty() { "(none)".to_owned() } else { names.join(" ") }
        )?;
    }
    Ok(())
}

fn write_meter_stats(f: &mut fmt::Formatter<'_>, meter: &MeterStats) -> fmt::Result {
    write!(f, "\nmeter:{} flow_count:{} ", MeterIdText(meter.meter), meter.flow_count)?;
    write!(f, "packet_in_count:{} byte_in_count:{} ", meter.packet_in_count, meter.byte_in_count)?;
    write!(f, "duration:{} bands:", DurationText(meter.duration))?;
    for (index, (packets, bytes)) in meter.bands.iter().enumerate() {
        write!(f, "\n{index}: packet_count:{packets} byte_count:{bytes}")?;
    }
    f.write_char('\n')
}

fn write_meter_features(f: &mut fmt::Formatter<'_>, features: &MeterFeatures) -> fmt::Result {
    write!(
        f,
        "\nmax_meter:{} max_bands:{} max_color:{}",
        features.max_meters, features.max_bands, features.max_colors
    )?;
    let or_none = |f: &mut fmt::Formatter<'_>, bits, names: &[(u32, &str)]| {
        if bits == 0 { Ok(()) } else { write_bits(f, bits, names, " ") }
    };
    f.write_str("\nband_types: ")?;
    or_none(f, features.band_types, &[(2, "drop"), (4, "dscp_remark")])?;
    f.write_str("\ncapabilities: ")?;
    or_none(f, features.capabilities, &[(1, "kbps"), (2, "pktps"), (4, "burst"), (8, "stats")])
}

fn write_table_features(f: &mut fmt::Formatter<'_>, table: &TableFeatures) -> fmt::Result {
    write!(f, "\n  table {}", table.table)?;
    let name = table.name.text();
    if !name.is_empty() {
        write!(f, " (\"{name}\")")?;
    }
    write!(
        f,
        ":\n    metadata: match={:#x} write={:#x}\n    max_entries={}",
        table.metadata_match, table.metadata_write, table.max_entries
    )?;
    write!(f, "\n    {} properties", table.properties.len())
}

fn write_monitor(f: &mut fmt::Formatter<'_>, monitor: &FlowMonitorRequest) -> fmt::Result {
    write!(f, "\n id={} flags=", monitor.id)?;
    let names = [(1, "initial"), (2, "add"), (4, "delete"), (8, "modify"), (16, "actions"), (32, "own")];
    write_bits(f, monitor.flags.into(), &names, ",")?;
    if monitor.out_port != PortNo::ANY {
        write!(f, " out_port={}", monitor.out_port)?;
    }
    if monitor.table != TableId::ALL {
        write!(f, " table={}", monitor.table)?;
    }
    let text = monitor.match_.to_string();
    if text.is_empty() { Ok(()) } else { write!(f, " {text}") }
}

fn write_update(f: &mut fmt::Formatter<'_>, update: &FlowUpdate) -> fmt::Result {
    match update {
        FlowUpdate::Abbreviated { xid } => write!(f, "\n event=ABBREV xid={:#x}", xid.0),
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
            f.write_str(match event {
                FlowUpdateEvent::Added => "\n event=ADDED",
                FlowUpdateEvent::Deleted => "\n event=DELETED",
                FlowUpdateEvent::Modified => "\n event=MODIFIED",
            })?;
            if *event == FlowUpdateEvent::Deleted {
                match FLOW_REMOVED_REASONS.get(usize::from(*reason)) {
                    Some(name) => write!(f, " reason={name}")?,
                    None => write!(f, " reason={reason}")?,
                }
            }
            write!(f, " table={table}")?;
            if *idle_timeout != 0 {
                write!(f, " idle_timeout={idle_timeout}")?;
            }
            if *hard_timeout != 0 {
                write!(f, " hard_timeout={hard_timeout}")?;
            }
            if cookie.0 == 0 {
                f.write_str(" cookie=0")?;
            } else {
                write!(f, " cookie={:#x}", cookie.0)?;
            }
            let text = MatchText { match_, priority: *priority }.to_string();
            write!(f, " {text}")?;
            if instructions.is_empty() {
                return Ok(());
            }
            write!(f, "{}actions={}", if text.is_empty() { "" } else { " " }, InstructionsText(instructions))
        }
    }
}
