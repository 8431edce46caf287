//! Flows, groups and meters as ovs-ofctl prints them. It only prints.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use super::print_action::{ActionsText, InstructionsText};
use super::print_match::MatchText;
use crate::flow::{FlowFlags, FlowMod, FlowModCommand, FlowStats};
use crate::group::{Bucket, GroupDesc, GroupMod, GroupModCommand, GroupType};
use crate::message::{MeterBand, MeterFlags, MeterMod, MeterModCommand};
use crate::number::{BufferId, GroupId, MeterId, PortNo};

impl Display for FlowMod {
    /// As `ovs-ofctl ofp-print` does: `ADD table:1 priority=5,ip actions=drop`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.command {
            FlowModCommand::Add => "ADD",
            FlowModCommand::Modify => "MOD",
            FlowModCommand::ModifyStrict => "MOD_STRICT",
            FlowModCommand::Delete => "DEL",
            FlowModCommand::DeleteStrict => "DEL_STRICT",
        })?;
        if self.table.0 != 0 {
            write!(f, " table:{}", self.table)?;
        }
        f.write_char(' ')?;
        let text = MatchText { match_: &self.match_, priority: self.priority }.to_string();
        if !text.is_empty() {
            write!(f, "{text} ")?;
        }
        // The cookie of an ADD is the new flow's; elsewhere it restricts, and without a mask it says nothing.
        match self.command {
            FlowModCommand::Add if !matches!(self.cookie.0, 0 | u64::MAX) => {
                write!(f, "cookie:{:#x} ", self.cookie.0)?;
            }
            FlowModCommand::Add => {}
            _ if self.cookie_mask != 0 => write!(f, "cookie:{:#x}/{:#x} ", self.cookie.0, self.cookie_mask)?,
            _ => {}
        }
        if self.idle_timeout != 0 {
            write!(f, "idle:{} ", self.idle_timeout)?;
        }
        if self.hard_timeout != 0 {
            write!(f, "hard:{} ", self.hard_timeout)?;
        }
        if self.buffer_id != BufferId::NONE {
            write!(f, "buf:{:#x} ", self.buffer_id.0)?;
        }
        if self.out_port != PortNo::ANY {
            write!(f, "out_port:{} ", self.out_port)?;
        }
        write_flags(f, self.flags)?;
        write!(f, "actions={}", InstructionsText(&self.instructions))
    }
}

const FLAG_NAMES: &[(FlowFlags, &str)] = &[
    (FlowFlags::SEND_FLOW_REM, "send_flow_rem"),
    (FlowFlags::CHECK_OVERLAP, "check_overlap"),
    (FlowFlags::RESET_COUNTS, "reset_counts"),
    (FlowFlags::NO_PACKET_COUNTS, "no_packet_counts"),
    (FlowFlags::NO_BYTE_COUNTS, "no_byte_counts"),
];

pub(crate) fn write_flags(f: &mut fmt::Formatter<'_>, flags: FlowFlags) -> fmt::Result {
    FLAG_NAMES.iter().filter(|(flag, _)| flags.contains(*flag)).try_for_each(|(_, name)| write!(f, "{name} "))
}

/// `12.340s`: three digits, more only where they say something; whole seconds without a fraction.
pub(crate) struct DurationText(pub(crate) Duration);

impl Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs())?;
        if self.0.subsec_nanos() > 0 {
            let fraction = format!("{:09}", self.0.subsec_nanos());
            let (millis, rest) = fraction.split_at(3);
            write!(f, ".{millis}{}", rest.trim_end_matches('0'))?;
        }
        f.write_char('s')
    }
}

impl Display for FlowStats {
    /// A line of `ovs-ofctl dump-flows`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cookie={:#x}, duration={}, table={}, ",
            self.cookie.0,
            DurationText(self.duration),
            self.table
        )?;
        write!(f, "n_packets={}, n_bytes={}, ", self.packet_count, self.byte_count)?;
        if self.idle_timeout != 0 {
            write!(f, "idle_timeout={}, ", self.idle_timeout)?;
        }
        if self.hard_timeout != 0 {
            write!(f, "hard_timeout={}, ", self.hard_timeout)?;
        }
        write_flags(f, self.flags)?;
        let text = MatchText { match_: &self.match_, priority: self.priority }.to_string();
        if !text.is_empty() {
            write!(f, "{text} ")?;
        }
        write!(f, "actions={}", InstructionsText(&self.instructions))
    }
}

impl Display for GroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GroupType::All => "all",
            GroupType::Select => "select",
            GroupType::Indirect => "indirect",
            GroupType::FastFailover => "ff",
        })
    }
}

impl Display for GroupMod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.command {
            GroupModCommand::Add => "ADD ",
            GroupModCommand::Modify => "MOD ",
            GroupModCommand::Delete => "DEL ",
            GroupModCommand::AddOrModify => "ADD_OR_MOD ",
        })?;
        write_group(f, self.group, self.group_type, &self.buckets)
    }
}

impl Display for GroupDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_group(f, self.group, self.group_type, &self.buckets)
    }
}

fn write_group(
    f: &mut fmt::Formatter<'_>,
    group: GroupId,
    group_type: GroupType,
    buckets: &[Bucket],
) -> fmt::Result {
    write!(f, "group_id={group}")?;
    write!(f, ",type={group_type}")?;
    for bucket in buckets {
        f.write_str(",bucket=")?;
        if group_type == GroupType::Select && bucket.weight != 1 {
            write!(f, "weight:{},", bucket.weight)?;
        }
        if bucket.watch_port != PortNo::ANY {
            write!(f, "watch_port:{},", bucket.watch_port)?;
        }
        if bucket.watch_group != GroupId::ANY {
            write!(f, "watch_group:{},", bucket.watch_group)?;
        }
        write!(f, "actions={}", ActionsText(&bucket.actions))?;
    }
    Ok(())
}

impl Display for MeterMod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.command {
            MeterModCommand::Add => "ADD ",
            MeterModCommand::Modify => "MOD ",
            MeterModCommand::Delete => "DEL ",
        })?;
        write_meter(f, self.meter, self.flags, &self.bands)
    }
}

pub(crate) struct MeterIdText(pub(crate) MeterId);

impl Display for MeterIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            MeterId::ALL => f.write_str("all"),
            MeterId::CONTROLLER => f.write_str("controller"),
            MeterId::SLOWPATH => f.write_str("slowpath"),
            other => write!(f, "{other}"),
        }
    }
}

pub(crate) fn write_meter(
    f: &mut fmt::Formatter<'_>,
    meter: MeterId,
    flags: MeterFlags,
    bands: &[MeterBand],
) -> fmt::Result {
    write!(f, "meter={} ", MeterIdText(meter))?;
    write_meter_flags(f, flags)?;
    f.write_str("bands=")?;
    for band in bands {
        f.write_char('\n')?;
        write_band(f, flags, band)?;
    }
    f.write_char('\n')
}

fn write_meter_flags(f: &mut fmt::Formatter<'_>, flags: MeterFlags) -> fmt::Result {
    let names = [
        (MeterFlags::KBPS, "kbps "),
        (MeterFlags::PKTPS, "pktps "),
        (MeterFlags::BURST, "burst "),
        (MeterFlags::STATS, "stats "),
    ];
    for (flag, name) in names {
        if flags.0 & flag.0 != 0 {
            f.write_str(name)?;
        }
    }
    if flags.0 & !0xf != 0 { write!(f, "flags:{:#x} ", flags.0 & !0xf) } else { Ok(()) }
}

fn write_band(f: &mut fmt::Formatter<'_>, flags: MeterFlags, band: &MeterBand) -> fmt::Result {
    let bursts = flags.0 & MeterFlags::BURST.0 != 0;
    match band {
        MeterBand::Drop { rate, burst } => write!(f, "type=drop rate={rate}{}", Burst(*burst, bursts)),
        MeterBand::DscpRemark { rate, burst, prec_level } => {
            write!(f, "type=dscp_remark rate={rate}{} prec_level={prec_level}", Burst(*burst, bursts))
        }
        MeterBand::Unknown { kind, rate, burst, .. } => {
            write!(f, "type={kind} rate={rate}{}", Burst(*burst, bursts))
        }
    }
}

/// Bursts count only where the meter's flags say so.
struct Burst(u32, bool);

impl Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1 { write!(f, " burst_size={}", self.0) } else { Ok(()) }
    }
}
