//! Whole messages as `ovs-ofctl ofp-print` prints them. It only prints.

use std::fmt::{self, Display, Write};

use super::packet::{PacketBytes, PacketText};
use super::print_action::{ActionsText, Dotted, packet_in_reason};
use super::print_flow::DurationText;
use super::print_match::MatchText;
use crate::action::ONF;
use crate::message::{
    AsyncConfig, BundleControlType, BundleFlags, ErrorMessage, Features, FlowRemoved, Hello, HelloElement,
    Message, PacketIn, PacketOut, Port, PortReason, QueueProperty, RoleMessage, SwitchConfig,
};
use crate::number::{BufferId, Xid};
use crate::oxm::Hex;

/// A message with its xid, as `ovs-ofctl ofp-print` prints it (without the final newline).
#[derive(Debug)]
pub struct MessageText<'a> {
    message: &'a Message,
    xid: Xid,
}

impl Message {
    /// For printing: `OFPT_FLOW_MOD (OF1.3) (xid=0x1): ADD ip actions=drop`.
    pub fn display(&self, xid: Xid) -> MessageText<'_> {
        MessageText { message: self, xid }
    }

    /// The name that Open vSwitch gives the type: `OFPT_FLOW_MOD`, `NXT_CT_FLUSH`, `OFPST_FLOW reply`.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Hello(_) => "OFPT_HELLO",
            Message::Error(_) => "OFPT_ERROR",
            Message::EchoRequest(_) => "OFPT_ECHO_REQUEST",
            Message::EchoReply(_) => "OFPT_ECHO_REPLY",
            Message::Experimenter { .. } => "OFPT_EXPERIMENTER",
            Message::FeaturesRequest => "OFPT_FEATURES_REQUEST",
            Message::FeaturesReply(_) => "OFPT_FEATURES_REPLY",
            Message::GetConfigRequest => "OFPT_GET_CONFIG_REQUEST",
            Message::GetConfigReply(_) => "OFPT_GET_CONFIG_REPLY",
            Message::SetConfig(_) => "OFPT_SET_CONFIG",
            Message::PacketIn(_) => "OFPT_PACKET_IN",
            Message::FlowRemoved(_) => "OFPT_FLOW_REMOVED",
            Message::PortStatus(_) => "OFPT_PORT_STATUS",
            Message::PacketOut(_) => "OFPT_PACKET_OUT",
            Message::FlowMod(_) => "OFPT_FLOW_MOD",
            Message::GroupMod(_) => "OFPT_GROUP_MOD",
            Message::PortMod(_) => "OFPT_PORT_MOD",
            Message::TableMod(_) => "OFPT_TABLE_MOD",
            Message::MultipartRequest(request) => request.body.name(),
            Message::MultipartReply(reply) => reply.body.name(),
            Message::BarrierRequest => "OFPT_BARRIER_REQUEST",
            Message::BarrierReply => "OFPT_BARRIER_REPLY",
            Message::QueueGetConfigRequest(_) => "OFPT_QUEUE_GET_CONFIG_REQUEST",
            Message::QueueGetConfigReply(_) => "OFPT_QUEUE_GET_CONFIG_REPLY",
            Message::RoleRequest(_) => "OFPT_ROLE_REQUEST",
            Message::RoleReply(_) => "OFPT_ROLE_REPLY",
            Message::GetAsyncRequest => "OFPT_GET_ASYNC_REQUEST",
            Message::GetAsyncReply(_) => "OFPT_GET_ASYNC_REPLY",
            Message::SetAsync(_) => "OFPT_SET_ASYNC",
            Message::MeterMod(_) => "OFPT_METER_MOD",
            Message::BundleControl(_) => "ONFT_BUNDLE_CONTROL",
            Message::BundleAdd(_) => "ONFT_BUNDLE_ADD_MESSAGE",
            Message::FlowMonitorCancel(_) => "ONFT_FLOW_MONITOR_CANCEL",
            Message::FlowMonitorPaused => "ONFT_FLOW_MONITOR_PAUSED",
            Message::FlowMonitorResumed => "ONFT_FLOW_MONITOR_RESUMED",
            Message::Nicira(nicira) => nicira.name(),
            Message::Unknown { .. } => "OFPT_UNKNOWN",
        }
    }
}

/// Version names as ofp-print has them.
fn version_name(version: u8) -> String {
    match version {
        1 => String::new(),
        2..=6 => format!(" (OF1.{})", version - 1),
        other => format!(" (OF {other:#04x})"),
    }
}

impl Display for MessageText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version =
            if let Message::Hello(hello) = self.message { hello.version } else { crate::message::VERSION };
        write!(f, "{}{} (xid={:#x}):", self.message.name(), version_name(version), self.xid.0)?;
        match self.message {
            Message::Hello(hello) => write_hello(f, hello),
            Message::Error(error) => write_error(f, error),
            Message::EchoRequest(data) | Message::EchoReply(data) => {
                write!(f, " {} bytes of payload", data.len())?;
                hex_dump(f, data)
            }
            Message::FeaturesReply(features) => write_features(f, features),
            Message::GetConfigReply(config) | Message::SetConfig(config) => write_config(f, config),
            Message::PacketIn(packet) => write_packet_in(f, packet),
            Message::FlowRemoved(removed) => write_flow_removed(f, removed),
            Message::PortStatus(status) => {
                f.write_str(match status.reason {
                    PortReason::Add => " ADD:",
                    PortReason::Delete => " DEL:",
                    PortReason::Modify => " MOD:",
                })?;
                write_port(f, &status.port)
            }
            Message::PacketOut(packet) => write_packet_out(f, packet),
            Message::FlowMod(flow) => write!(f, " {flow}"),
            Message::GroupMod(group) => write!(f, "\n {group}"),
            Message::PortMod(port) => write_port_mod(f, port),
            Message::TableMod(table) => {
                match table.table.0 {
                    0xff => f.write_str(" table_id: ALL_TABLES")?,
                    id => write!(f, " table_id={id}")?,
                }
                write_table_config(f, table.config)
            }
            Message::MultipartRequest(request) => super::print_multipart::write_request(f, request),
            Message::MultipartReply(reply) => super::print_multipart::write_reply(f, reply),
            Message::QueueGetConfigRequest(port) => write!(f, " port={port}"),
            Message::QueueGetConfigReply(config) => {
                write!(f, " port={}", config.port)?;
                config.queues.iter().try_for_each(|queue| {
                    write!(f, "\nqueue {}:", queue.queue)?;
                    queue.properties.iter().try_for_each(|property| write_queue_property(f, property))
                })
            }
            Message::RoleRequest(role) | Message::RoleReply(role) => write_role(f, role),
            Message::GetAsyncReply(config) | Message::SetAsync(config) => write_async(f, config),
            Message::MeterMod(meter) => write!(f, " {}", meter.to_string().trim_end_matches('\n')),
            Message::BundleControl(control) => {
                write!(f, "\n bundle_id={} type=", Hex(control.bundle.0.into()))?;
                f.write_str(bundle_type(control.kind))?;
                write_bundle_flags(f, control.flags)
            }
            Message::BundleAdd(add) => {
                write!(f, "\n bundle_id={}", Hex(add.bundle.0.into()))?;
                write_bundle_flags(f, add.flags)?;
                write!(f, "\n{}", add.message.display(add.xid))
            }
            Message::Nicira(nicira) => super::print_nicira::write_nicira(f, nicira),
            Message::Experimenter { vendor, kind, data } => {
                write!(f, " experimenter={vendor:#x} type={kind} data={}", Dotted(data))
            }
            Message::Unknown { kind, data } => write!(f, " type={kind} data={}", Dotted(data)),
            Message::FlowMonitorCancel(id) => write!(f, " id={id}"),
            Message::FeaturesRequest
            | Message::GetConfigRequest
            | Message::BarrierRequest
            | Message::BarrierReply
            | Message::FlowMonitorPaused
            | Message::FlowMonitorResumed
            | Message::GetAsyncRequest => Ok(()),
        }
    }
}

fn write_hello(f: &mut fmt::Formatter<'_>, hello: &Hello) -> fmt::Result {
    let words = hello.elements.iter().find_map(|element| match element {
        HelloElement::VersionBitmap(words) => Some(words),
        HelloElement::Unknown { .. } => None,
    });
    let versions: Vec<u32> = match words {
        Some(words) => (1..32).filter(|bit| words.first().is_some_and(|word| word >> bit & 1 == 1)).collect(),
        None => (1..=u32::from(hello.version)).collect(),
    };
    let versions: Vec<String> = versions.iter().map(|version| format!("{version:#04x}")).collect();
    write!(f, "\n version bitmap: {}", versions.join(", "))
}

fn write_error(f: &mut fmt::Formatter<'_>, error: &ErrorMessage) -> fmt::Result {
    write!(f, " {}", error.code)?;
    if matches!(error.code, crate::message::ErrorCode::Standard { kind: 0, .. }) {
        return write!(f, "\n{}", String::from_utf8_lossy(&error.data).trim_end_matches('\0'));
    }
    match Message::decode(&error.data) {
        Ok((xid, message)) => write!(f, "\n{}", message.display(xid)),
        Err(_) => write_truncated(f, &error.data),
    }
}

/// A message of which only the start is there.
fn write_truncated(f: &mut fmt::Formatter<'_>, data: &[u8]) -> fmt::Result {
    let Some(header) = data.first_chunk::<8>() else {
        return f.write_str("\nOpenFlow message is empty");
    };
    let xid = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let length = u16::from_be_bytes([header[2], header[3]]);
    write!(
        f,
        "\n{}{} (xid={xid:#x}):\n(***truncated to {} bytes from {length}***)",
        type_name(data),
        version_name(header[0]),
        data.len()
    )?;
    hex_dump(f, data)
}

/// The type's name, from the header alone.
fn type_name(data: &[u8]) -> &'static str {
    const NAMES: &[&str] = &[
        "OFPT_HELLO",
        "OFPT_ERROR",
        "OFPT_ECHO_REQUEST",
        "OFPT_ECHO_REPLY",
        "OFPT_EXPERIMENTER",
        "OFPT_FEATURES_REQUEST",
        "OFPT_FEATURES_REPLY",
        "OFPT_GET_CONFIG_REQUEST",
        "OFPT_GET_CONFIG_REPLY",
        "OFPT_SET_CONFIG",
        "OFPT_PACKET_IN",
        "OFPT_FLOW_REMOVED",
        "OFPT_PORT_STATUS",
        "OFPT_PACKET_OUT",
        "OFPT_FLOW_MOD",
        "OFPT_GROUP_MOD",
        "OFPT_PORT_MOD",
        "OFPT_TABLE_MOD",
        "OFPST request",
        "OFPST reply",
        "OFPT_BARRIER_REQUEST",
        "OFPT_BARRIER_REPLY",
        "OFPT_QUEUE_GET_CONFIG_REQUEST",
        "OFPT_QUEUE_GET_CONFIG_REPLY",
        "OFPT_ROLE_REQUEST",
        "OFPT_ROLE_REPLY",
        "OFPT_GET_ASYNC_REQUEST",
        "OFPT_GET_ASYNC_REPLY",
        "OFPT_SET_ASYNC",
        "OFPT_METER_MOD",
    ];
    let word = |at: usize| data.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    match (data.get(1), word(8), word(12)) {
        (Some(4), Some(ONF), Some(2300)) => "ONFT_BUNDLE_CONTROL",
        (Some(4), Some(ONF), Some(2301)) => "ONFT_BUNDLE_ADD_MESSAGE",
        (Some(kind), ..) => NAMES.get(usize::from(*kind)).copied().unwrap_or("OFPT_UNKNOWN"),
        _ => "OFPT_UNKNOWN",
    }
}

/// Sixteen bytes a line, as Open vSwitch dumps them.
pub(super) fn hex_dump(f: &mut fmt::Formatter<'_>, data: &[u8]) -> fmt::Result {
    for (line, chunk) in data.chunks(16).enumerate() {
        write!(f, "\n{:08x}  ", line * 16)?;
        for at in 0..16 {
            match chunk.get(at) {
                Some(byte) => write!(f, "{byte:02x}{}", if at == 7 { '-' } else { ' ' })?,
                None => f.write_str("   ")?,
            }
        }
        f.write_char('|')?;
        for at in 0..16 {
            let shown = chunk
                .get(at)
                .map_or(' ', |byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' });
            f.write_char(shown)?;
        }
        f.write_char('|')?;
    }
    Ok(())
}

fn write_features(f: &mut fmt::Formatter<'_>, features: &Features) -> fmt::Result {
    writeln!(f, " dpid:{:016x}", features.datapath_id)?;
    write!(f, "n_tables:{}, n_buffers:{}", features.n_tables, features.n_buffers)?;
    if features.auxiliary_id != 0 {
        write!(f, ", auxiliary_id:{}", features.auxiliary_id)?;
    }
    let names = [
        (1, "FLOW_STATS"),
        (2, "TABLE_STATS"),
        (4, "PORT_STATS"),
        (8, "GROUP_STATS"),
        (0x20, "IP_REASM"),
        (0x40, "QUEUE_STATS"),
        (0x100, "PORT_BLOCKED"),
    ];
    f.write_str("\ncapabilities: ")?;
    write_bits(f, features.capabilities, &names, " ")
}

/// Names of bits with something between them; `0` for none, and what has no name in hex.
pub(super) fn write_bits(
    f: &mut fmt::Formatter<'_>,
    bits: u32,
    names: &[(u32, &str)],
    between: &str,
) -> fmt::Result {
    if bits == 0 {
        return f.write_char('0');
    }
    let mut rest = bits;
    let mut shown = Vec::new();
    for (bit, name) in names.iter().filter(|(bit, _)| bits & bit != 0) {
        shown.push((*name).to_owned());
        rest &= !bit;
    }
    if rest != 0 {
        shown.push(format!("{rest:#x}"));
    }
    f.write_str(&shown.join(between))
}

fn write_config(f: &mut fmt::Formatter<'_>, config: &SwitchConfig) -> fmt::Result {
    f.write_str(" frags=")?;
    match config.flags & 3 {
        0 => f.write_str("normal")?,
        1 => f.write_str("drop")?,
        2 => f.write_str("reassemble")?,
        _ => f.write_str("nx-match")?,
    }
    if config.flags & !7 != 0 {
        write!(f, " ***unknown flags 0x{:04x}***", config.flags & !7)?;
    }
    write!(f, " miss_send_len={}", config.miss_send_len)
}

fn write_packet_in(f: &mut fmt::Formatter<'_>, packet: &PacketIn) -> fmt::Result {
    if packet.table.0 != 0 {
        write!(f, " table_id={}", packet.table)?;
    }
    if packet.cookie.0 != u64::MAX {
        write!(f, " cookie={:#x}", packet.cookie.0)?;
    }
    write!(f, " total_len={} {}", packet.total_len, packet.match_)?;
    write!(f, " (via {})", packet_in_reason(packet.reason))?;
    write!(f, " data_len={}", packet.data.len())?;
    write_buffer(f, packet.buffer_id, usize::from(packet.total_len), packet.data.len())?;
    write!(f, "\n{}", PacketText(PacketBytes(&packet.data)))
}

pub(super) fn write_buffer(
    f: &mut fmt::Formatter<'_>,
    buffer: BufferId,
    total: usize,
    data: usize,
) -> fmt::Result {
    if buffer == BufferId::NONE {
        f.write_str(" (unbuffered)")?;
        if total != data {
            f.write_str(" (***total_len != data_len***)")?;
        }
        return Ok(());
    }
    write!(f, " buffer={:#010x}", buffer.0)?;
    if total < data { f.write_str(" (***total_len < data_len***)") } else { Ok(()) }
}

fn write_packet_out(f: &mut fmt::Formatter<'_>, packet: &PacketOut) -> fmt::Result {
    write!(f, " in_port={} actions={}", packet.in_port, ActionsText(&packet.actions))?;
    if packet.buffer_id != BufferId::NONE {
        return write!(f, " buffer={:#010x}", packet.buffer_id.0);
    }
    write!(f, " data_len={}", packet.data.len())?;
    if packet.data.is_empty() { Ok(()) } else { write!(f, "\n{}", PacketText(PacketBytes(&packet.data))) }
}

pub(super) const FLOW_REMOVED_REASONS: &[&str] =
    &["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"];

fn write_flow_removed(f: &mut fmt::Formatter<'_>, removed: &FlowRemoved) -> fmt::Result {
    write!(f, " {}", MatchText { match_: &removed.match_, priority: removed.priority })?;
    match FLOW_REMOVED_REASONS.get(usize::from(removed.reason)) {
        Some(reason) => write!(f, " reason={reason}")?,
        None => write!(f, " reason={}", removed.reason)?,
    }
    if removed.table.0 != 255 {
        write!(f, " table_id={}", removed.table)?;
    }
    if removed.cookie.0 != 0 {
        write!(f, " cookie:{:#x}", removed.cookie.0)?;
    }
    write!(f, " duration{} idle{}", DurationText(removed.duration), removed.idle_timeout)?;
    if removed.hard_timeout != 0 {
        write!(f, " hard{}", removed.hard_timeout)?;
    }
    write!(f, " pkts{} bytes{}", removed.packet_count, removed.byte_count)
}

pub(super) const PORT_CONFIG: &[(u32, &str)] = &[
    (1, "PORT_DOWN"),
    (2, "NO_STP"),
    (4, "NO_RECV"),
    (8, "NO_RECV_STP"),
    (0x10, "NO_FLOOD"),
    (0x20, "NO_FWD"),
    (0x40, "NO_PACKET_IN"),
];
const PORT_STATE: &[(u32, &str)] = &[(1, "LINK_DOWN"), (2, "BLOCKED"), (4, "LIVE")];
const PORT_FEATURES: &[(u32, &str)] = &[
    (1, "10MB-HD"),
    (2, "10MB-FD"),
    (4, "100MB-HD"),
    (8, "100MB-FD"),
    (0x10, "1GB-HD"),
    (0x20, "1GB-FD"),
    (0x40, "10GB-FD"),
    (0x80, "40GB-FD"),
    (0x100, "100GB-FD"),
    (0x200, "1TB-FD"),
    (0x400, "OTHER"),
    (0x800, "COPPER"),
    (0x1000, "FIBER"),
    (0x2000, "AUTO_NEG"),
    (0x4000, "AUTO_PAUSE"),
    (0x8000, "AUTO_PAUSE_ASYM"),
];

pub(super) fn write_port(f: &mut fmt::Formatter<'_>, port: &Port) -> fmt::Result {
    write!(f, " {}({}): addr:{}", port.port, port.name.text(), port.hw_addr)?;
    f.write_str("\n     config:     ")?;
    write_bits(f, port.config, PORT_CONFIG, " ")?;
    f.write_str("\n     state:      ")?;
    write_bits(f, port.state, PORT_STATE, " ")?;
    for (name, features) in [
        ("current:    ", port.current),
        ("advertised: ", port.advertised),
        ("supported:  ", port.supported),
        ("peer:       ", port.peer),
    ] {
        if features != 0 {
            write!(f, "\n     {name}")?;
            write_bits(f, features, PORT_FEATURES, " ")?;
        }
    }
    write!(
        f,
        "\n     speed: {} Mbps now, {} Mbps max",
        port.current_speed_kbps / 1000,
        port.max_speed_kbps / 1000
    )
}

fn write_port_mod(f: &mut fmt::Formatter<'_>, port: &crate::message::PortMod) -> fmt::Result {
    write!(f, " port: {}: addr:{}", port.port, port.hw_addr)?;
    f.write_str("\n     config: ")?;
    write_bits(f, port.config, PORT_CONFIG, " ")?;
    f.write_str("\n     mask:   ")?;
    write_bits(f, port.mask, PORT_CONFIG, " ")?;
    f.write_str("\n     advertise: ")?;
    if port.advertise == 0 {
        return f.write_str("UNCHANGED");
    }
    write_bits(f, port.advertise, PORT_FEATURES, " ")
}

fn write_table_config(f: &mut fmt::Formatter<'_>, _config: u32) -> fmt::Result {
    // OpenFlow 1.3 gives its bits no meaning.
    f.write_str(" ")
}

fn write_queue_property(f: &mut fmt::Formatter<'_>, property: &QueueProperty) -> fmt::Result {
    let rate = |f: &mut fmt::Formatter<'_>, name: &str, rate: u16| match rate {
        0xffff => Ok(()),
        rate if rate <= 1000 => write!(f, " {name}:{}.{}%", rate / 10, rate % 10),
        rate => write!(f, " {name}:(disabled {rate})"),
    };
    match property {
        QueueProperty::MinRate(value) => rate(f, "min_rate", *value),
        QueueProperty::MaxRate(value) => rate(f, "max_rate", *value),
        QueueProperty::Unknown { .. } => Ok(()),
    }
}

fn write_role(f: &mut fmt::Formatter<'_>, role: &RoleMessage) -> fmt::Result {
    f.write_str(match role.role {
        0 => " role=nochange",
        1 => " role=equal",
        2 => " role=primary",
        3 => " role=secondary",
        _ => " role=<unknown>",
    })?;
    if role.generation_id != u64::MAX { write!(f, " generation_id={}", role.generation_id) } else { Ok(()) }
}

pub(super) fn write_async(f: &mut fmt::Formatter<'_>, config: &AsyncConfig) -> fmt::Result {
    let packet_in = super::print_action::PACKET_IN_REASONS;
    let port_status = &["add", "delete", "modify"][..];
    for (index, role) in ["primary", "secondary"].iter().enumerate() {
        write!(f, "{}\n {role}:", if index > 0 { "\n" } else { "" })?;
        for (name, bits, names) in [
            ("       PACKET_IN:", config.packet_in[index], packet_in),
            ("     PORT_STATUS:", config.port_status[index], port_status),
            ("    FLOW_REMOVED:", config.flow_removed[index], FLOW_REMOVED_REASONS),
        ] {
            write!(f, "\n{name}")?;
            if bits == 0 {
                f.write_str(" (off)")?;
            }
            for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
                match names.get(bit) {
                    Some(word) => write!(f, " {word}")?,
                    None => write!(f, " {bit}")?,
                }
            }
        }
        // Later versions' messages, which 1.3 cannot set.
        for name in ["     ROLE_STATUS:", "    TABLE_STATUS:", "  REQUESTFORWARD:"] {
            write!(f, "\n{name} (off)")?;
        }
    }
    Ok(())
}

fn bundle_type(kind: BundleControlType) -> &'static str {
    match kind {
        BundleControlType::OpenRequest => "OPEN_REQUEST",
        BundleControlType::OpenReply => "OPEN_REPLY",
        BundleControlType::CloseRequest => "CLOSE_REQUEST",
        BundleControlType::CloseReply => "CLOSE_REPLY",
        BundleControlType::CommitRequest => "COMMIT_REQUEST",
        BundleControlType::CommitReply => "COMMIT_REPLY",
        BundleControlType::DiscardRequest => "DISCARD_REQUEST",
        BundleControlType::DiscardReply => "DISCARD_REPLY",
        BundleControlType::Other(_) => "",
    }
}

fn write_bundle_flags(f: &mut fmt::Formatter<'_>, flags: BundleFlags) -> fmt::Result {
    f.write_str(" flags=")?;
    write_bits(f, flags.0.into(), &[(1, "atomic"), (2, "ordered")], " ")
}
