//! Actions and instructions in ovs-ofctl's syntax (`ovs-actions(7)`), into what OpenFlow 1.3 has for them. It knows the
//! match only to tell TCP's ports from UDP's.

use bytes::Bytes;

use super::lex::{Item, ParseError, Result, decimal, hex_bytes, integer, items, number, port, word};
use super::parse_nested::{conntrack, learn, multipath};
use super::parse_opaque::opaque;
use super::parse_value::{all_ones, subfield, value};
use crate::action::{Action, Controller};
use crate::canonical::runs_of_ones;
use crate::flow_match::Match;
use crate::instruction::Instruction;
use crate::number::{GroupId, MeterId, PortNo, QueueId, TableId};
use crate::oxm::{Access, Field, Oxm, Subfield};

/// What an action may depend on.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub match_: Match,
    /// A VLAN header stands on the packet, or is pushed by an earlier action.
    pub vlan: bool,
    /// Actions around these.
    depth: u8,
}

/// Actions inside actions inside actions: deeper than this is refused, as it is when bytes are read.
const MAX_DEPTH: u8 = 16;

impl Context {
    pub(super) fn new(match_: &Match) -> Context {
        let vlan = match_.get(Field::VLAN_VID).is_some_and(|(value, _)| value & 0x1000 != 0);
        Context { match_: match_.clone(), vlan, depth: 0 }
    }

    /// For the actions inside of one of these.
    pub(super) fn nested(&self) -> Result<Context> {
        if self.depth >= MAX_DEPTH {
            return Err(ParseError::new("(", format!("actions nest deeper than {MAX_DEPTH} levels")));
        }
        Ok(Context { depth: self.depth + 1, ..self.clone() })
    }
}

/// Instructions: the actions in front are applied.
pub(super) fn instructions(text: &str, context: &mut Context) -> Result<Vec<Instruction>> {
    let mut actions = Vec::new();
    let mut rest: Vec<Instruction> = Vec::new();
    let mut meter = None;
    let all = items(text)?;
    let drops = all.iter().filter(|item| item.key == "drop").count();
    if drops > 0 && all.len() > 1 {
        return Err(ParseError::new(
            text,
            "\"drop\" must not be accompanied by any other action or instruction",
        ));
    }
    for item in all.iter().filter(|item| item.key != "drop") {
        let instruction = match item.key {
            "goto_table" => Instruction::GotoTable(TableId(decimal("table", item.value)?)),
            "write_metadata" => {
                let (metadata, mask) = metadata(item.value)?;
                Instruction::WriteMetadata { metadata, mask }
            }
            "clear_actions" => Instruction::ClearActions,
            "write_actions" => Instruction::WriteActions(action_list(item.value, &mut context.nested()?)?),
            "meter" => {
                if !actions.is_empty() || !rest.is_empty() {
                    return Err(ParseError::new(
                        item.whole,
                        "invalid instruction ordering: meter must come first",
                    ));
                }
                meter = Some(Instruction::Meter(MeterId(integer("meter", item.value)?)));
                continue;
            }
            "apply_actions" => {
                return Err(ParseError::new(item.whole, "apply_actions is the default instruction"));
            }
            _ => {
                actions.extend(one(item, context)?);
                if let Some(later) = rest.first() {
                    return Err(ParseError::new(
                        later.to_string(),
                        "invalid instruction ordering: actions must come before it",
                    ));
                }
                continue;
            }
        };
        let rank = |instruction: &Instruction| match instruction {
            Instruction::ClearActions => 0,
            Instruction::WriteActions(_) => 1,
            Instruction::WriteMetadata { .. } => 2,
            _ => 3,
        };
        if rest.last().is_some_and(|last| rank(last) >= rank(&instruction)) {
            return Err(ParseError::new(
                item.whole,
                "invalid instruction ordering, or the same instruction twice",
            ));
        }
        rest.push(instruction);
    }
    rest.retain(
        |instruction| !matches!(instruction, Instruction::WriteActions(actions) if actions.is_empty()),
    );
    check_conjunction(&actions)?;
    let apply = (!actions.is_empty()).then_some(Instruction::ApplyActions(actions));
    Ok(meter.into_iter().chain(apply).chain(rest).collect())
}

fn check_conjunction(actions: &[Action]) -> Result<()> {
    let is = |action: &&Action| matches!(action, Action::Conjunction { .. });
    let other = actions.iter().find(|action| !is(action) && !matches!(action, Action::Note(_)));
    match (actions.iter().any(|action| is(&action)), other) {
        (true, Some(other)) => Err(ParseError::new(
            other.to_string(),
            "\"conjunction\" actions may be used along with \"note\" but not any other kind of action",
        )),
        _ => Ok(()),
    }
}

/// A list of actions: a bucket's, a clone's, a packet-out's.
pub(super) fn action_list(text: &str, context: &mut Context) -> Result<Vec<Action>> {
    let all = items(text)?;
    if all.iter().any(|item| item.key == "drop") {
        return match all.len() {
            1 => Ok(Vec::new()),
            _ => Err(ParseError::new(text, "\"drop\" must not be accompanied by any other action")),
        };
    }
    let mut actions = Vec::new();
    for item in &all {
        if matches!(item.key, "goto_table" | "write_actions" | "clear_actions") {
            return Err(ParseError::new(item.whole, "an instruction may not stand here"));
        }
        actions.extend(one(item, context)?);
    }
    Ok(actions)
}

pub(super) fn table(text: &str) -> Result<u8> {
    let id: u8 = decimal("table", text)?;
    if id == 0xff { Err(ParseError::new(text, "invalid table 0xff")) } else { Ok(id) }
}

fn metadata(text: &str) -> Result<(u64, u64)> {
    match text.split_once('/') {
        Some((value, mask)) => Ok((word("metadata", value)?, word("metadata mask", mask)?)),
        None => Ok((word("metadata", text)?, u64::MAX)),
    }
}

/// One action of the text is one of the wire, or several.
fn one(item: &Item<'_>, context: &mut Context) -> Result<Vec<Action>> {
    let value = item.value;
    let single = |action: Action| Ok(vec![action]);
    let set = |field: Field, number: u128| exact_field(field, number).map(|action| vec![action]);
    match item.key.to_ascii_lowercase().as_str() {
        "output" => single(output(item)?),
        "controller" => single(controller(item)?),
        "enqueue" => enqueue(value),
        "group" => single(Action::Group(GroupId(integer("group", value)?))),
        "set_queue" => single(Action::SetQueue(QueueId(integer("queue", value)?))),
        "pop_queue" => single(Action::PopQueue),
        "set_field" => set_field(value),
        "load" => single(load(value)?),
        "move" => single(move_bits(value)?),
        "mod_dl_src" | "mod_dl_dst" | "mod_nw_src" | "mod_nw_dst" | "mod_nw_tos" | "mod_nw_ecn"
        | "mod_tp_src" | "mod_tp_dst" => modify(item, context),
        "mod_nw_ttl" => single(Action::SetNwTtl(integer("TTL", value)?)),
        "mod_vlan_vid" | "set_vlan_vid" => {
            let vid: u16 = integer("VLAN VID", value)?;
            if vid > 0xfff {
                return Err(ParseError::new(value, "not a valid VLAN VID"));
            }
            tagged(item, context, Field::VLAN_VID, u128::from(vid | 0x1000))
        }
        "mod_vlan_pcp" | "set_vlan_pcp" => {
            let pcp: u8 = integer("VLAN PCP", value)?;
            if pcp > 7 {
                return Err(ParseError::new(value, "not a valid VLAN PCP"));
            }
            tagged(item, context, Field::VLAN_PCP, pcp.into())
        }
        "pop_vlan" | "strip_vlan" => {
            context.vlan = false;
            single(Action::PopVlan)
        }
        "push_vlan" => {
            let eth_type = integer("Ethernet type", value)?;
            if !matches!(eth_type, 0x8100 | 0x88a8) {
                return Err(ParseError::new(value, "not a valid VLAN Ethernet type"));
            }
            context.vlan = true;
            single(Action::PushVlan(eth_type))
        }
        "push_mpls" => single(Action::PushMpls(integer("Ethernet type", value)?)),
        "pop_mpls" => single(Action::PopMpls(integer("Ethernet type", value)?)),
        "dec_mpls_ttl" => single(Action::DecMplsTtl),
        "set_mpls_ttl" => single(Action::SetMplsTtl(integer("MPLS TTL", value)?)),
        "set_mpls_label" => set(Field::MPLS_LABEL, integer::<u32>("MPLS label", value)?.into()),
        "set_mpls_tc" => set(Field::MPLS_TC, integer::<u8>("MPLS traffic class", value)?.into()),
        "dec_ttl" if value.is_empty() => single(Action::DecNwTtl),
        "dec_ttl" => {
            let ids =
                value.split(',').map(|id| integer("controller id", id.trim())).collect::<Result<_>>()?;
            single(Action::DecTtlCntIds(ids))
        }
        "set_tunnel" | "set_tunnel64" => set(Field::TUN_ID, word("tunnel id", value)?.into()),
        "resubmit" => single(resubmit(item)?),
        "push" => single(Action::StackPush(subfield(value)?)),
        "pop" => single(Action::StackPop(writable(value)?)),
        "ct" => single(conntrack(value, context)?),
        "ct_clear" => single(Action::CtClear),
        "conjunction" => single(conjunction(value)?),
        "note" => single(Action::Note(note(value)?)),
        "multipath" => single(multipath(value)?),
        "learn" => single(learn(value)?),
        "clone" => single(Action::Clone(action_list(value, &mut context.nested()?)?)),
        "check_pkt_larger" => single(check_pkt_larger(item)?),
        "fin_timeout" => single(fin_timeout(value)?),
        "write_metadata" => {
            let (metadata, mask) = metadata(value)?;
            single(Action::WriteMetadata { metadata, mask })
        }
        "delete_field" => match Field::by_name(value).filter(|field| field.wire_bytes() > 16) {
            Some(field) => single(Action::DeleteField(field)),
            None => Err(ParseError::new(value, "only a tun_metadata field can be deleted")),
        },
        "exit" => single(Action::Exit),
        "meter" => {
            Err(ParseError::new(item.whole, "meter is an instruction in OpenFlow 1.3 and must come first"))
        }
        _ => match opaque(item)? {
            Some(action) => single(action),
            None if !item.has_value => match port(item.key) {
                Ok(port) => single(Action::output(port)),
                Err(_) => Err(ParseError::new(item.key, "unknown action")),
            },
            None => Err(ParseError::new(item.key, "unknown action")),
        },
    }
}

fn exact_field(field: Field, number: u128) -> Result<Action> {
    Oxm::exact(field, number)
        .map(Action::SetField)
        .map_err(|error| ParseError::new(field.to_string(), error.to_string()))
}

fn output(item: &Item<'_>) -> Result<Action> {
    if item.whole.starts_with("output(") {
        let (mut to, mut max_len) = (None, None);
        for part in items(item.value)? {
            match part.key {
                "port" => to = Some(port(part.value)?),
                "max_len" => max_len = Some(integer::<u32>("max_len", part.value)?),
                _ => return Err(ParseError::new(part.whole, "unknown key of output")),
            }
        }
        let (Some(port), Some(max_len)) = (to, max_len) else {
            return Err(ParseError::new(item.whole, "output needs port and max_len"));
        };
        if port.reserved_name().is_some() && !matches!(port, PortNo::IN_PORT | PortNo::LOCAL) {
            return Err(ParseError::new(item.whole, "output to unsupported truncate port"));
        }
        if max_len < 14 {
            return Err(ParseError::new(item.whole, "max_len must be at least 14, an Ethernet header"));
        }
        return Ok(Action::OutputTrunc { port, max_len });
    }
    match port(item.value) {
        Ok(port) => Ok(Action::Output { port, max_len: if port == PortNo::CONTROLLER { 0xffff } else { 0 } }),
        Err(_) => match subfield(item.value) {
            Ok(src) => Ok(Action::OutputReg { src, max_len: 0xffff }),
            Err(_) => Err(ParseError::new(item.value, "output to unknown port")),
        },
    }
}

fn controller(item: &Item<'_>) -> Result<Action> {
    let to = |max_len| Action::Output { port: PortNo::CONTROLLER, max_len };
    if !item.whole.contains('(') {
        return Ok(to(if item.value.is_empty() { 0xffff } else { integer("max_len", item.value)? }));
    }
    let mut controller = Controller::default();
    for part in items(item.value)? {
        match part.key {
            "reason" => {
                let reasons = super::print_action::PACKET_IN_REASONS;
                let reason = reasons.iter().position(|reason| *reason == part.value);
                let reason = reason.ok_or_else(|| ParseError::new(part.value, "unknown reason"))?;
                controller.reason = reason as u8;
            }
            "max_len" => controller.max_len = integer("max_len", part.value)?,
            "id" => controller.controller_id = integer("id", part.value)?,
            "userdata" => controller.userdata = Some(hex_bytes(part.value)?.into()),
            "pause" => controller.pause = true,
            "meter_id" => controller.meter = Some(MeterId(integer("meter_id", part.value)?)),
            _ => return Err(ParseError::new(part.whole, "unknown key of controller")),
        }
    }
    controller.userdata = controller.userdata.filter(|userdata| !userdata.is_empty());
    let plain = Controller { max_len: controller.max_len, ..Controller::default() };
    Ok(if controller == plain { to(controller.max_len) } else { Action::Controller(Box::new(controller)) })
}

fn enqueue(text: &str) -> Result<Vec<Action>> {
    let (to, queue) = text
        .split_once([':', ','])
        .ok_or_else(|| ParseError::new(text, "\"enqueue\" syntax is \"enqueue:PORT:QUEUE\""))?;
    let queue = QueueId(integer("queue", queue)?);
    let output = Action::Output { port: port(to)?, max_len: 0xffff };
    Ok(vec![Action::SetQueue(queue), output, Action::PopQueue])
}

fn arrow(text: &str) -> Result<(&str, &str)> {
    text.split_once("->").ok_or_else(|| ParseError::new(text, "missing `->'"))
}

/// `set_field:VALUE[/MASK]->FIELD`. OpenFlow 1.3 sets whole fields only: a mask becomes loads of its runs of ones.
fn set_field(text: &str) -> Result<Vec<Action>> {
    let (number, name) = arrow(text)?;
    let name = name.strip_suffix("[]").unwrap_or(name);
    let field = Field::by_name(name).ok_or_else(|| ParseError::new(name, "is not a valid OXM field name"))?;
    if field.spec().is_some_and(|spec| spec.access == Access::ReadOnly) {
        return Err(ParseError::new(name, "is read-only"));
    }
    if field.wire_bytes() > 16 {
        return set_option(field, number);
    }
    let (bits, mask) = value(field, number)?;
    let ones = all_ones(field);
    let valid =
        u128::MAX >> (128 - u32::from(if field == Field::VLAN_VID { 13 } else { field.width_bits() }.max(1)));
    if bits & !valid != 0 {
        return Err(ParseError::new(number, format!("is not a valid value for field {field}")));
    }
    if mask & valid == valid || mask == ones {
        return exact_field(field, bits).map(|action| vec![action]);
    }
    if field.experimenter().is_some() {
        let oxm =
            Oxm::masked_wire(field, bits, mask).map_err(|error| ParseError::new(text, error.to_string()))?;
        return Ok(vec![Action::RegLoad2(oxm)]);
    }
    Ok(runs_of_ones(mask)
        .map(|(start, bits_in_run)| Action::RegLoad {
            dst: Subfield::new(field.operand(), start, bits_in_run),
            value: (bits >> start & (u128::MAX >> (128 - u32::from(bits_in_run)))) as u64,
        })
        .collect())
}

fn set_option(field: Field, text: &str) -> Result<Vec<Action>> {
    let bad = || ParseError::new(text, "is no number of at most 124 bytes in hex");
    if text.contains('/') {
        return Err(ParseError::new(
            text,
            "a masked tun_metadata cannot be set without the switch's TLV table",
        ));
    }
    let bytes = long_number(text).ok_or_else(bad)?;
    let bytes = if bytes.is_empty() { vec![0] } else { bytes };
    let oxm = Oxm::from_bytes(field, &bytes, None).map_err(|_| bad())?;
    Ok(vec![Action::SetField(oxm)])
}

/// A number of up to 124 bytes: hex with 0x, or what fits into 128 bits.
pub(super) fn long_number(text: &str) -> Option<Vec<u8>> {
    let bytes = match text.strip_prefix("0x") {
        Some(hex) if hex.len() > 32 => {
            let padded = if hex.len() % 2 == 1 { format!("0{hex}") } else { hex.to_owned() };
            hex_bytes(&padded).ok()?
        }
        _ => number(text)?.to_be_bytes().to_vec(),
    };
    let bytes: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    (bytes.len() <= 124).then_some(bytes)
}

fn writable(text: &str) -> Result<Subfield> {
    let dst = subfield(text)?;
    if dst.field.is_writable() { Ok(dst) } else { Err(ParseError::new(text, "is read-only")) }
}

pub(super) fn load(text: &str) -> Result<Action> {
    let (value, dst) = arrow(text)?;
    let dst = writable(dst)?;
    let number = number(value).ok_or_else(|| ParseError::new(value, "is no number"))?;
    if dst.n_bits < 128 && number >> dst.n_bits != 0 {
        return Err(ParseError::new(
            text,
            format!("value {number:#x} does not fit into {} bits", dst.n_bits),
        ));
    }
    if dst.n_bits > 64 {
        return exact_field(dst.field, number);
    }
    Ok(Action::RegLoad { dst, value: number as u64 })
}

pub(super) fn move_bits(text: &str) -> Result<Action> {
    let (src, dst) = arrow(text)?;
    let (src, dst) = (subfield(src)?, writable(dst)?);
    if src.n_bits != dst.n_bits {
        let reason =
            format!("source field is {} bits wide but destination is {} bits wide", src.n_bits, dst.n_bits);
        return Err(ParseError::new(text, reason));
    }
    Ok(Action::RegMove { src, dst })
}

/// `mod_nw_src` and its kin: OpenFlow 1.0's way of setting a field.
fn modify(item: &Item<'_>, context: &Context) -> Result<Vec<Action>> {
    let ports = match context.match_.exact(Field::IP_PROTO) {
        Some(17) => (Field::UDP_SRC, Field::UDP_DST),
        Some(132) => (Field::SCTP_SRC, Field::SCTP_DST),
        _ => (Field::TCP_SRC, Field::TCP_DST),
    };
    let tos = |text: &str| {
        let tos: u8 = integer("TOS", text)?;
        if tos & 3 == 0 {
            Ok(tos >> 2)
        } else {
            Err(ParseError::new(text, "not a valid TOS: the two lowest bits are ECN"))
        }
    };
    let (field, number) = match item.key {
        "mod_nw_tos" => (Field::IP_DSCP, tos(item.value)?.into()),
        "mod_nw_ecn" => (Field::IP_ECN, integer::<u8>("ECN", item.value)?.into()),
        "mod_tp_src" => (ports.0, integer::<u16>("port", item.value)?.into()),
        "mod_tp_dst" => (ports.1, integer::<u16>("port", item.value)?.into()),
        name => {
            let field = match name {
                "mod_dl_src" => Field::ETH_SRC,
                "mod_dl_dst" => Field::ETH_DST,
                "mod_nw_src" => Field::IPV4_SRC,
                _ => Field::IPV4_DST,
            };
            (field, value(field, item.value)?.0)
        }
    };
    exact_field(field, number).map(|action| vec![action])
}

/// OpenFlow 1.3 pushes a VLAN header before it can be set.
fn tagged(item: &Item<'_>, context: &mut Context, field: Field, number: u128) -> Result<Vec<Action>> {
    let set = exact_field(field, number)?;
    if item.key.starts_with("set_") || std::mem::replace(&mut context.vlan, true) {
        return Ok(vec![set]);
    }
    Ok(vec![Action::PushVlan(0x8100), set])
}

fn resubmit(item: &Item<'_>) -> Result<Action> {
    let none =
        || ParseError::new(item.whole, "at least one \"in_port\" or \"table\" must be specified on resubmit");
    let plain = !item.whole.starts_with("resubmit(");
    let mut parts = item.value.split(',').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let in_port = if first.is_empty() { PortNo::IN_PORT } else { port(first)? };
    let second = parts.next().unwrap_or_default();
    let table = if second.is_empty() {
        None
    } else {
        Some(TableId(
            decimal("table", second).map_err(|_| ParseError::new(second, "resubmit to unknown table"))?,
        ))
    };
    let ct = match parts.next() {
        None | Some("") => false,
        Some("ct") => true,
        Some(other) => return Err(ParseError::new(other, "unknown parameter of resubmit")),
    };
    let table = table.filter(|table| *table != TableId::ALL);
    if in_port == PortNo::IN_PORT && table.is_none() && !ct || plain && item.value.contains(',') {
        return Err(none());
    }
    // The wire's form without a table is what Open vSwitch reads but never writes.
    Ok(Action::Resubmit { port: in_port, table: table.or(Some(TableId::ALL)), ct })
}

fn conjunction(text: &str) -> Result<Action> {
    let syntax = || ParseError::new(text, "\"conjunction\" syntax is \"conjunction(id,i/n)\"");
    let (id, clause) = text.split_once(',').ok_or_else(syntax)?;
    let (clause, count) = clause.split_once('/').ok_or_else(syntax)?;
    let (clause, n_clauses): (u8, u8) = (integer("clause", clause.trim())?, integer("clauses", count)?);
    if n_clauses < 2 {
        return Err(ParseError::new(text, "conjunction must have at least 2 clauses"));
    }
    if n_clauses > 64 {
        return Err(ParseError::new(text, "conjunction must have at most 64 clauses"));
    }
    if clause < 1 {
        return Err(ParseError::new(text, "clause index must be positive"));
    }
    if clause > n_clauses {
        return Err(ParseError::new(text, "clause index must be less than or equal to number of clauses"));
    }
    Ok(Action::Conjunction { clause: clause - 1, n_clauses, id: integer("id", id.trim())? })
}

/// The wire holds 6, 14, 22 … bytes of a note.
fn note(text: &str) -> Result<Bytes> {
    let mut bytes = hex_bytes(text)?;
    bytes.resize((bytes.len() + 2).next_multiple_of(8).max(8) - 2, 0);
    Ok(bytes.into())
}

fn check_pkt_larger(item: &Item<'_>) -> Result<Action> {
    let dst = item.after.strip_prefix("->").ok_or_else(|| ParseError::new(item.whole, "missing `->'"))?;
    let dst = writable(dst)?;
    if dst.n_bits != 1 {
        return Err(ParseError::new(item.whole, "Only 1-bit destination field is allowed"));
    }
    Ok(Action::CheckPktLarger { length: integer("packet length", item.value)?, dst })
}

fn fin_timeout(text: &str) -> Result<Action> {
    let (mut idle, mut hard) = (0, 0);
    for part in items(text)? {
        match part.key {
            "idle_timeout" => idle = integer("idle_timeout", part.value)?,
            "hard_timeout" => hard = integer("hard_timeout", part.value)?,
            _ => return Err(ParseError::new(part.whole, "invalid key in fin_timeout")),
        }
    }
    Ok(Action::FinTimeout { idle, hard })
}
