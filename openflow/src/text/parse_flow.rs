//! Flows, groups and meters in ovs-ofctl's syntax, as its `add-flow`, `add-group` and `add-meter` take them.

use super::lex::{Item, ParseError, Result, decimal, integer, items, port, word};
use super::parse_action::{Context, action_list, instructions};
use super::parse_match::Loose;
use crate::action::Action;
use crate::flow::{FlowFlags, FlowMod, FlowModCommand};
use crate::flow_match::Match;
use crate::group::{Bucket, GroupMod, GroupModCommand, GroupType};
use crate::instruction::Instruction;
use crate::message::{MeterBand, MeterFlags, MeterMod, MeterModCommand};
use crate::number::{Cookie, GroupId, MeterId, PortNo, TableId};

/// Reads a match: `tcp,nw_src=10.0.0.0/8,tp_dst=80`.
pub fn parse_match(text: &str) -> Result<Match> {
    let mut loose = Loose::default();
    for item in items(text)? {
        if !loose.take(&item)? {
            return Err(ParseError::new(item.key, "unknown keyword"));
        }
    }
    Ok(loose.finish())
}

/// Reads actions: `set_field:5->reg0,output:1`, `drop`. The match tells what they apply to.
pub fn parse_actions(text: &str, match_: &Match) -> Result<Vec<Action>> {
    action_list(text, &mut Context::new(match_))
}

/// Reads instructions: actions, then `clear_actions`, `write_actions(…)`, `write_metadata:…`, `goto_table:…`.
pub fn parse_instructions(text: &str, match_: &Match) -> Result<Vec<Instruction>> {
    instructions(text, &mut Context::new(match_))
}

/// Reads a flow: `table=1,priority=5,ip,actions=output:2`.
///
/// Deletions need no actions and concern every table unless one is named. Statistics, as `dump-flows` prints them, are
/// ignored.
pub fn parse_flow(text: &str, command: FlowModCommand) -> Result<FlowMod> {
    let deletion = matches!(command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
    let (head, actions) = match find_actions(text) {
        Some((head, actions)) => (head, Some(actions)),
        None => (text, None),
    };
    let mut flow = FlowMod { command, ..FlowMod::default() };
    if deletion {
        flow.table = TableId::ALL;
    }
    let mut loose = Loose::default();
    for item in items(head)? {
        if !attribute(&mut flow, &item)? && !loose.take(&item)? {
            return Err(ParseError::new(item.key, "unknown keyword"));
        }
    }
    if flow.command == FlowModCommand::Add && flow.cookie_mask != 0 {
        return Err(ParseError::new(text, "a flow that is added takes a cookie without a mask"));
    }
    if flow.command != FlowModCommand::Add && flow.cookie_mask == 0 {
        // OpenFlow 1.3 cannot change the cookie of a flow that is there.
        flow.cookie = Cookie(0);
    }
    flow.match_ = loose.finish();
    match (actions, deletion) {
        (Some(_), true) => {}
        (Some(actions), false) => flow.instructions = parse_instructions(actions, &flow.match_)?,
        (None, true) => {}
        (None, false) => return Err(ParseError::new(text, "must specify an action")),
    }
    super::consistency::check(&flow)?;
    Ok(flow)
}

/// Everything after the first `actions=` or `action=`.
fn find_actions(text: &str) -> Option<(&str, &str)> {
    let at = text.find("action")?;
    let rest = text[at + "action".len()..].trim_start_matches('s');
    Some((&text[..at], rest.strip_prefix(['=', ':'])?))
}

/// Takes an item when it is no part of a match.
fn attribute(flow: &mut FlowMod, item: &Item<'_>) -> Result<bool> {
    let deletion = matches!(flow.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
    match item.key {
        "priority" if flow.command == FlowModCommand::Delete => return Ok(false),
        "out_port" | "out_group" if !deletion => return Ok(false),
        "idle_timeout" | "hard_timeout" | "importance" if deletion => return Ok(false),
        "table" => flow.table = TableId(decimal("table", item.value)?),
        "priority" => flow.priority = integer("priority", item.value)?,
        "idle_timeout" => flow.idle_timeout = integer("idle_timeout", item.value)?,
        "hard_timeout" => flow.hard_timeout = integer("hard_timeout", item.value)?,
        // OpenFlow 1.3 has no room for it.
        "importance" => drop(integer::<u16>("importance", item.value)?),
        "out_port" => flow.out_port = port(item.value)?,
        "out_group" => flow.out_group = GroupId(integer("out_group", item.value)?),
        "cookie" => match item.value.split_once('/') {
            Some((cookie, mask)) => {
                flow.cookie_mask = word("cookie mask", mask)?;
                flow.cookie = Cookie(word("cookie", cookie)?);
            }
            None => flow.cookie = Cookie(word("cookie", item.value)?),
        },
        "send_flow_rem" => flow.flags = flow.flags | FlowFlags::SEND_FLOW_REM,
        "check_overlap" => flow.flags = flow.flags | FlowFlags::CHECK_OVERLAP,
        "reset_counts" => flow.flags = flow.flags | FlowFlags::RESET_COUNTS,
        "no_packet_counts" => flow.flags = flow.flags | FlowFlags::NO_PACKET_COUNTS,
        "no_byte_counts" => flow.flags = flow.flags | FlowFlags::NO_BYTE_COUNTS,
        "allow_hidden_fields" | "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

/// Reads a group: `group_id=1,type=select,bucket=weight:5,output:1,bucket=output:2`.
pub fn parse_group(text: &str, command: GroupModCommand) -> Result<GroupMod> {
    let bucket_at = text.find("bucket=").unwrap_or(text.len());
    let (head, buckets) = text.split_at(bucket_at);
    let mut group = None;
    let mut group_type = None;
    for item in items(head)? {
        match item.key {
            "group_id" => group = Some(group_id(item.value, command)?),
            "type" => group_type = Some(group_type_named(item.value)?),
            // OpenFlow 1.3 has no room for these, and ovs-ofctl drops them silently.
            "selection_method" | "selection_method_param" | "fields" => {}
            _ => return Err(ParseError::new(item.key, "unknown keyword")),
        }
    }
    let buckets = split_buckets(buckets).map(parse_bucket).collect::<Result<Vec<_>>>()?;
    if command == GroupModCommand::Delete {
        let group = group.unwrap_or(GroupId::ALL);
        return Ok(GroupMod { command, group_type: GroupType::All, group, buckets: Vec::new() });
    }
    let group = group.ok_or_else(|| ParseError::new(text, "must specify a group_id"))?;
    let group_type = group_type.ok_or_else(|| ParseError::new(text, "must specify a type"))?;
    let mut group = GroupMod { command, group_type, group, buckets };
    check_group(text, &mut group)?;
    Ok(group)
}

fn group_id(text: &str, command: GroupModCommand) -> Result<GroupId> {
    if text.eq_ignore_ascii_case("all") && command == GroupModCommand::Delete {
        return Ok(GroupId::ALL);
    }
    let id: u32 = integer("group_id", text)?;
    if id > GroupId::MAX.0 { Err(ParseError::new(text, "invalid group id")) } else { Ok(GroupId(id)) }
}

fn group_type_named(text: &str) -> Result<GroupType> {
    match text {
        "all" => Ok(GroupType::All),
        "select" => Ok(GroupType::Select),
        "indirect" => Ok(GroupType::Indirect),
        "ff" | "fast_failover" => Ok(GroupType::FastFailover),
        _ => Err(ParseError::new(text, "invalid group type")),
    }
}

fn split_buckets(text: &str) -> impl Iterator<Item = &str> {
    text.split("bucket=").skip(1).map(|bucket| bucket.trim_end_matches([',', ' ']))
}

fn parse_bucket(text: &str) -> Result<Bucket> {
    // Unlike its printed form, a select group's bucket weighs 1 unless it says otherwise; see `check_group`.
    let mut bucket = Bucket { weight: UNSAID, ..Bucket::default() };
    let mut actions = String::new();
    let mut rest = text;
    if let Some((head, tail)) = split_actions(text) {
        rest = head;
        actions.push_str(tail);
    }
    let mut bare = Vec::new();
    for item in items(rest)? {
        match item.key {
            "weight" => bucket.weight = integer("weight", item.value)?,
            "bucket_id" => drop(integer::<u32>("bucket_id", item.value)?),
            "watch_port" => bucket.watch_port = port(item.value)?,
            "watch_group" => {
                bucket.watch_group = GroupId(integer("watch_group", item.value)?);
                if bucket.watch_group > GroupId::MAX {
                    return Err(ParseError::new(item.whole, "invalid watch_group id"));
                }
            }
            _ => bare.push(item.whole),
        }
    }
    if actions.is_empty() {
        actions = bare.join(",");
    } else if let Some(stray) = bare.first() {
        return Err(ParseError::new(*stray, "stands before the bucket's actions"));
    }
    bucket.actions = action_list(&actions, &mut Context::new(&Match::new()))?;
    Ok(bucket)
}

const UNSAID: u16 = u16::MAX;

fn split_actions(text: &str) -> Option<(&str, &str)> {
    let at = text.find("actions=").or_else(|| text.find("action="))?;
    let (_, actions) = text[at..].split_once('=')?;
    Some((&text[..at], actions))
}

fn check_group(text: &str, group: &mut GroupMod) -> Result<()> {
    for bucket in &mut group.buckets {
        let said = bucket.weight != UNSAID;
        if said && group.group_type != GroupType::Select {
            return Err(ParseError::new(text, "Only select groups can have bucket weights."));
        }
        if !said {
            bucket.weight = u16::from(group.group_type == GroupType::Select);
        }
        let watches = bucket.watch_port != PortNo::ANY || bucket.watch_group != GroupId::ANY;
        if group.group_type == GroupType::FastFailover && !watches {
            return Err(ParseError::new(text, "fast failover bucket requires watch_port or watch_group"));
        }
    }
    if group.group_type == GroupType::Indirect && group.buckets.len() != 1 {
        return Err(ParseError::new(text, "Indirect groups can have at most one bucket, and need it."));
    }
    Ok(())
}

/// Reads a meter: `meter=1,kbps,burst,bands=type=drop,rate=1000,burst_size=200`.
pub fn parse_meter(text: &str, command: MeterModCommand) -> Result<MeterMod> {
    let bands_at = text.find("band");
    let (head, bands) = match bands_at.and_then(|at| Some((&text[..at], text[at..].split_once('=')?.1))) {
        Some((head, bands)) => (head, Some(bands)),
        None => (text, None),
    };
    let mut meter = None;
    let mut flags = MeterFlags::default();
    for item in items(head)? {
        match item.key {
            "meter" => meter = Some(meter_id(item.value, command)?),
            "kbps" => flags = flags | MeterFlags::KBPS,
            "pktps" => flags = flags | MeterFlags::PKTPS,
            "burst" => flags = flags | MeterFlags::BURST,
            "stats" => flags = flags | MeterFlags::STATS,
            _ => return Err(ParseError::new(item.key, "unknown keyword of a meter")),
        }
    }
    if command == MeterModCommand::Delete {
        let meter = meter.unwrap_or(MeterId::ALL);
        return Ok(MeterMod { command, flags, meter, bands: Vec::new() });
    }
    let meter = meter.ok_or_else(|| ParseError::new(text, "must specify 'meter'"))?;
    let bands = bands.ok_or_else(|| ParseError::new(text, "must specify bands"))?;
    Ok(MeterMod { command, flags, meter, bands: parse_bands(bands)? })
}

fn meter_id(text: &str, command: MeterModCommand) -> Result<MeterId> {
    match text {
        "all" if command == MeterModCommand::Delete => Ok(MeterId::ALL),
        "controller" => Ok(MeterId::CONTROLLER),
        "slowpath" => Ok(MeterId::SLOWPATH),
        _ => match integer("meter", text)? {
            id @ 1..=0xffff0000 => Ok(MeterId(id)),
            _ => Err(ParseError::new(text, "invalid value for meter")),
        },
    }
}

/// Every `type=` starts a band.
fn parse_bands(text: &str) -> Result<Vec<MeterBand>> {
    let mut bands: Vec<(u16, Option<u32>, u32, u8)> = Vec::new();
    for item in items(text)? {
        if item.key == "type" {
            let kind = match item.value {
                "drop" => 1,
                "dscp_remark" => 2,
                other => return Err(ParseError::new(other, "unknown band type")),
            };
            bands.push((kind, None, 0, 0));
            continue;
        }
        let band = bands.last_mut().ok_or_else(|| ParseError::new(item.whole, "missing band's 'type'"))?;
        match item.key {
            "rate" => band.1 = Some(integer("rate", item.value)?),
            "burst_size" => band.2 = integer("burst_size", item.value)?,
            "prec_level" => band.3 = integer("prec_level", item.value)?,
            _ => return Err(ParseError::new(item.key, "unknown keyword of a band")),
        }
    }
    if bands.is_empty() {
        return Err(ParseError::new(text, "bands must not be empty"));
    }
    bands
        .into_iter()
        .map(|(kind, rate, burst, prec_level)| {
            let rate = rate
                .filter(|rate| *rate > 0)
                .ok_or_else(|| ParseError::new(text, "band must have 'rate'"))?;
            Ok(match kind {
                1 => MeterBand::Drop { rate, burst },
                _ => MeterBand::DscpRemark { rate, burst, prec_level },
            })
        })
        .collect()
}
