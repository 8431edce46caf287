//! Nicira's messages as `ovs-ofctl ofp-print` prints them. It only prints.

use std::fmt;

use super::packet::{PacketBytes, PacketText};
use super::print_action::{Dotted, packet_in_reason};
use super::print_message::{write_async, write_buffer};
use crate::message::{
    CtFlush, CtTuple, NiciraMessage, PacketIn2, PacketInFormat, PacketProperty, TlvMap, TlvTableCommand,
};
use crate::number::BufferId;

impl NiciraMessage {
    pub(super) fn name(&self) -> &'static str {
        use NiciraMessage as N;
        match self {
            N::RoleRequest(_) => "NXT_ROLE_REQUEST",
            N::RoleReply(_) => "NXT_ROLE_REPLY",
            N::FlowModTableId(_) => "NXT_FLOW_MOD_TABLE_ID",
            N::SetPacketInFormat(_) => "NXT_SET_PACKET_IN_FORMAT",
            N::FlowAge => "NXT_FLOW_AGE",
            N::SetAsyncConfig(_) => "NXT_SET_ASYNC_CONFIG",
            N::SetControllerId(_) => "NXT_SET_CONTROLLER_ID",
            N::TlvTableMod(_) => "NXT_TLV_TABLE_MOD",
            N::TlvTableRequest => "NXT_TLV_TABLE_REQUEST",
            N::TlvTableReply(_) => "NXT_TLV_TABLE_REPLY",
            N::SetAsyncConfig2(_) => "NXT_SET_ASYNC_CONFIG2",
            N::Resume(_) => "NXT_RESUME",
            N::CtFlushZone(_) => "NXT_CT_FLUSH_ZONE",
            N::PacketIn2(_) => "NXT_PACKET_IN2",
            N::CtFlush(_) => "NXT_CT_FLUSH",
        }
    }
}

pub(super) fn write_nicira(f: &mut fmt::Formatter<'_>, message: &NiciraMessage) -> fmt::Result {
    use NiciraMessage as N;
    match message {
        N::RoleRequest(role) | N::RoleReply(role) => f.write_str(match role {
            0 => " role=equal",
            1 => " role=primary",
            2 => " role=secondary",
            _ => " role=<unknown>",
        }),
        N::FlowModTableId(set) => f.write_str(if *set { " enable" } else { " disable" }),
        N::SetPacketInFormat(format) => match *format {
            PacketInFormat::STANDARD => f.write_str(" format=standard"),
            PacketInFormat::NXT => f.write_str(" format=nxt_packet_in"),
            PacketInFormat::NXT2 => f.write_str(" format=nxt_packet_in2"),
            PacketInFormat(other) => write!(f, " format={other}"),
        },
        N::FlowAge | N::TlvTableRequest => Ok(()),
        N::SetAsyncConfig(config) => write_async(f, config),
        N::SetControllerId(id) => write!(f, " id={id}"),
        N::TlvTableMod(table) => {
            f.write_str(match table.command {
                TlvTableCommand::Add => "\n ADD",
                TlvTableCommand::Delete => "\n DEL",
                TlvTableCommand::Clear => return f.write_str("\n CLEAR"),
            })?;
            write_maps(f, " mapping table:", &table.maps)
        }
        N::TlvTableReply(reply) => {
            write!(f, "\n max option space={} max fields={}", reply.max_option_space, reply.max_fields)?;
            let allocated: u32 = reply.maps.iter().map(|map| u32::from(map.option_len)).sum();
            write!(f, "\n allocated option space={allocated}\n\n")?;
            write_maps(f, " mapping table:", &reply.maps)
        }
        N::SetAsyncConfig2(config) => write_async(f, &config.masks()),
        N::Resume(packet) | N::PacketIn2(packet) => write_packet_in2(f, packet),
        N::CtFlushZone(zone) => write!(f, " zone_id={zone}"),
        N::CtFlush(flush) => write_ct_flush(f, flush),
    }
}

fn write_maps(f: &mut fmt::Formatter<'_>, title: &str, maps: &[TlvMap]) -> fmt::Result {
    write!(f, "{title}\n  class  type  length  match field\n ------  ----  ------  --------------")?;
    maps.iter().try_for_each(|map| {
        let hex = |number: u16| if number == 0 { "0".to_owned() } else { format!("{number:#x}") };
        write!(
            f,
            "\n {:>6}  {:>4}  {:>6}  tun_metadata{}",
            hex(map.option_class),
            hex(map.option_type.into()),
            map.option_len,
            map.index
        )
    })
}

fn write_ct_flush(f: &mut fmt::Formatter<'_>, flush: &CtFlush) -> fmt::Result {
    write!(f, " zone={}", flush.zone.unwrap_or_default())?;
    let empty = CtTuple::default();
    let original = flush.original.as_ref().unwrap_or(&empty);
    let reply = flush.reply.as_ref().unwrap_or(&empty);
    // A tuple without addresses of its own is of its partner's family.
    let is_v4 = |address: &Option<std::net::Ipv6Addr>| {
        address.is_some_and(|address| address.to_ipv4_mapped().is_some())
    };
    let v4 = [original, reply].iter().any(|tuple| is_v4(&tuple.src) || is_v4(&tuple.dst));
    let icmp = matches!(flush.ip_proto, 1 | 58);
    write!(f, " '{},ct_nw_proto={}'", tuple_text(original, v4, icmp), flush.ip_proto)?;
    write!(f, " '{}'", tuple_text(reply, v4, icmp))
}

fn tuple_text(tuple: &CtTuple, v4: bool, icmp: bool) -> String {
    let address = |address: Option<std::net::Ipv6Addr>| {
        let address = address.unwrap_or(std::net::Ipv6Addr::UNSPECIFIED);
        address.to_ipv4_mapped().map_or_else(|| address.to_string(), |v4| v4.to_string())
    };
    let (src, dst) = if v4 { ("ct_nw_src", "ct_nw_dst") } else { ("ct_ipv6_src", "ct_ipv6_dst") };
    let mut text = format!("{src}={},{dst}={}", address(tuple.src), address(tuple.dst));
    if icmp {
        text += &format!(
            ",icmp_id={},icmp_type={},icmp_code={}",
            tuple.icmp_id.unwrap_or_default(),
            tuple.icmp_type.unwrap_or_default(),
            tuple.icmp_code.unwrap_or_default()
        );
    } else {
        text += &format!(
            ",ct_tp_src={},ct_tp_dst={}",
            tuple.src_port.unwrap_or_default(),
            tuple.dst_port.unwrap_or_default()
        );
    }
    text
}

fn write_packet_in2(f: &mut fmt::Formatter<'_>, packet: &PacketIn2) -> fmt::Result {
    let mut data = None;
    let (mut total, mut buffer, mut reason, mut metadata, mut userdata, mut continuation) =
        (None, None, 0, None, None, None);
    for property in &packet.properties {
        match property {
            PacketProperty::Packet(bytes) => data = Some(bytes),
            PacketProperty::FullLen(length) => total = Some(*length),
            PacketProperty::BufferId(id) => buffer = Some(*id),
            PacketProperty::TableId(table) if table.0 != 0 => write!(f, " table_id={table}")?,
            PacketProperty::Cookie(cookie) if cookie.0 != u64::MAX => write!(f, " cookie={:#x}", cookie.0)?,
            PacketProperty::Reason(number) => reason = *number,
            PacketProperty::Metadata(fields) => metadata = Some(fields),
            PacketProperty::Userdata(bytes) => userdata = Some(bytes),
            PacketProperty::Continuation(bytes) => continuation = Some(bytes),
            _ => {}
        }
    }
    let data = data.map(|data| &data[..]).unwrap_or_default();
    let total = total.map_or(data.len(), |total| total as usize);
    write!(f, " total_len={total} ")?;
    if let Some(metadata) = metadata {
        write!(f, "{metadata}")?;
    }
    write!(f, " (via {}) data_len={}", packet_in_reason(reason), data.len())?;
    write_buffer(f, buffer.unwrap_or(BufferId::NONE), total, data.len())?;
    if let Some(userdata) = userdata {
        write!(f, "\n userdata={}", Dotted(userdata))?;
    }
    if let Some(continuation) = continuation {
        write!(f, "\n continuation={}", Dotted(continuation))?;
    }
    write!(f, "\n{}", PacketText(PacketBytes(data)))
}
