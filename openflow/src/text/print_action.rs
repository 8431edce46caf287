//! Actions and instructions as ovs-ofctl prints them (`ovs-actions(7)`). It only prints.

use std::fmt::{self, Display, Write};

use super::opaque::opaque_action;
use crate::action::{
    Action, Controller, Ct, CtAlg, CtExec, CtZone, HashFields, Learn, LearnDst, LearnSpec, LearnSrc,
    MultipathAlgorithm, Nat, NatKind,
};
use crate::instruction::Instruction;
use crate::number::{PortNo, TableId};
use crate::oxm::{Field, Format, Hex, Ipv6Text, Oxm, ValueText};

/// A list of actions, or `drop`.
pub(crate) struct ActionsText<'a>(pub(crate) &'a [Action]);

/// Instructions in ovs-ofctl's order, or `drop`.
pub(crate) struct InstructionsText<'a>(pub(crate) &'a [Instruction]);

impl Display for ActionsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("drop");
        }
        separated(f, self.0)
    }
}

fn separated<T: Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_char(',')?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

impl Display for InstructionsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Instruction> = self.0.iter().collect();
        sorted.sort_by_key(|instruction| match instruction {
            Instruction::Meter(_) => 0,
            Instruction::ApplyActions(_) => 1,
            Instruction::ClearActions => 2,
            Instruction::WriteActions(_) => 3,
            Instruction::WriteMetadata { .. } => 4,
            Instruction::GotoTable(_) => 5,
            _ => 6,
        });
        sorted
            .retain(|instruction| !matches!(instruction, Instruction::ApplyActions(list) if list.is_empty()));
        if sorted.is_empty() {
            return f.write_str("drop");
        }
        separated(f, &sorted)
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instruction::Meter(meter) => write!(f, "meter:{meter}"),
            Instruction::ApplyActions(actions) => separated(f, actions),
            Instruction::ClearActions => f.write_str("clear_actions"),
            Instruction::WriteActions(actions) => write!(f, "write_actions({})", ActionsText(actions)),
            Instruction::WriteMetadata { metadata, mask } => write_metadata(f, *metadata, *mask),
            Instruction::GotoTable(table) => write!(f, "goto_table:{table}"),
            Instruction::Experimenter { vendor, data } => {
                write!(f, "experimenter({vendor:#x},{} bytes)", data.len())
            }
            Instruction::Unknown { kind, data } => write!(f, "instruction({kind},{} bytes)", data.len()),
        }
    }
}

fn write_metadata(f: &mut fmt::Formatter<'_>, metadata: u64, mask: u64) -> fmt::Result {
    write!(f, "write_metadata:{}", Hex(metadata.into()))?;
    if mask == u64::MAX { Ok(()) } else { write!(f, "/{}", Hex(mask.into())) }
}

fn output(f: &mut fmt::Formatter<'_>, port: PortNo, max_len: u16) -> fmt::Result {
    match port {
        PortNo::CONTROLLER => write!(f, "CONTROLLER:{max_len}"),
        port if port.reserved_name().is_some() => write!(f, "{port}"),
        port => write!(f, "output:{port}"),
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Output { port, max_len } => output(f, *port, *max_len),
            Action::Group(group) => write!(f, "group:{group}"),
            Action::SetQueue(queue) => write!(f, "set_queue:{queue}"),
            Action::SetField(oxm) | Action::RegLoad2(oxm) => set_field(f, oxm),
            Action::PushVlan(eth_type) => write!(f, "push_vlan:{eth_type:#x}"),
            Action::PopVlan => f.write_str("pop_vlan"),
            Action::PushMpls(eth_type) => write!(f, "push_mpls:{eth_type:#06x}"),
            Action::PopMpls(eth_type) => write!(f, "pop_mpls:{eth_type:#06x}"),
            Action::PushPbb(eth_type) => write!(f, "push_pbb:{eth_type:#06x}"),
            Action::PopPbb => f.write_str("pop_pbb"),
            Action::SetMplsTtl(ttl) => write!(f, "set_mpls_ttl({ttl})"),
            Action::DecMplsTtl => f.write_str("dec_mpls_ttl"),
            Action::SetNwTtl(ttl) => write!(f, "mod_nw_ttl:{ttl}"),
            Action::DecNwTtl => f.write_str("dec_ttl"),
            Action::CopyTtlOut => f.write_str("copy_ttl_out"),
            Action::CopyTtlIn => f.write_str("copy_ttl_in"),
            Action::Resubmit { port, table, ct } => resubmit(f, *port, *table, *ct),
            Action::RegMove { src, dst } | Action::CopyField { src, dst } => write!(f, "move:{src}->{dst}"),
            Action::RegLoad { dst, value } => write!(f, "load:{}->{dst}", Hex((*value).into())),
            Action::OutputReg { src, .. } => write!(f, "output:{src}"),
            Action::OutputTrunc { port, max_len } => write!(f, "output(port={port},max_len={max_len})"),
            Action::StackPush(src) => write!(f, "push:{src}"),
            Action::StackPop(dst) => write!(f, "pop:{dst}"),
            Action::Ct(ct) => conntrack(f, ct),
            Action::CtClear => f.write_str("ct_clear"),
            Action::Conjunction { clause, n_clauses, id } => {
                write!(f, "conjunction({id},{}/{n_clauses})", u16::from(*clause) + 1)
            }
            Action::Learn(learn) => write_learn(f, learn),
            Action::Multipath(m) => write!(
                f,
                "multipath({},{},{},{},{},{})",
                m.fields,
                m.basis,
                m.algorithm,
                u32::from(m.max_link) + 1,
                m.arg,
                m.dst
            ),
            Action::Controller(c) => controller(f, c),
            Action::Note(note) => {
                f.write_str("note:")?;
                dotted(f, note)
            }
            Action::Clone(actions) => write!(f, "clone({})", ActionsText(actions)),
            Action::CheckPktLarger { length, dst } => write!(f, "check_pkt_larger({length})->{dst}"),
            Action::DecTtlCntIds(ids) => {
                f.write_str("dec_ttl(")?;
                separated(f, ids)?;
                f.write_char(')')
            }
            Action::FinTimeout { idle, hard } => fin_timeout(f, *idle, *hard),
            Action::WriteMetadata { metadata, mask } => write_metadata(f, *metadata, *mask),
            Action::DeleteField(field) => write!(f, "delete_field:{field}"),
            Action::SetTunnel(id) => write!(f, "set_tunnel:{}", Hex((*id).into())),
            Action::SetTunnel64(id) => write!(f, "set_tunnel64:{}", Hex((*id).into())),
            Action::PopQueue => f.write_str("pop_queue"),
            Action::Exit => f.write_str("exit"),
            Action::Meter(meter) => write!(f, "meter:{meter}"),
            Action::Experimenter { vendor, data } => opaque_action(f, *vendor, data),
            Action::Unknown { kind, data } => write!(f, "action({kind},{} bytes)", data.len()),
        }
    }
}

fn set_field(f: &mut fmt::Formatter<'_>, oxm: &Oxm) -> fmt::Result {
    let field = oxm.field();
    f.write_str("set_field:")?;
    match (field.spec().map(|spec| spec.format), oxm.mask()) {
        // Flags print as names when they are set as a whole.
        (Some(Format::TunnelFlags), None) => {
            super::print_match::exact_flags(f, crate::oxm::TUN_FLAGS, oxm.value().unwrap_or_default())?;
        }
        _ => write!(f, "{}", ValueText(oxm))?,
    }
    write!(f, "->{field}")
}

fn resubmit(f: &mut fmt::Formatter<'_>, port: PortNo, table: Option<TableId>, ct: bool) -> fmt::Result {
    let table = table.filter(|table| *table != TableId::ALL);
    if port != PortNo::IN_PORT && table.is_none() && !ct {
        return write!(f, "resubmit:{port}");
    }
    f.write_str("resubmit(")?;
    if port != PortNo::IN_PORT {
        write!(f, "{port}")?;
    }
    f.write_char(',')?;
    if let Some(table) = table {
        write!(f, "{table}")?;
    }
    f.write_str(if ct { ",ct)" } else { ")" })
}

fn conntrack(f: &mut fmt::Formatter<'_>, ct: &Ct) -> fmt::Result {
    let mut parts = Vec::new();
    if ct.commit {
        parts.push("commit".to_owned());
    }
    if ct.force {
        parts.push("force".to_owned());
    }
    if let Some(table) = ct.table {
        parts.push(format!("table={table}"));
    }
    match ct.zone {
        CtZone::Immediate(0) => {}
        CtZone::Immediate(zone) => parts.push(format!("zone={zone}")),
        CtZone::Field(field) => parts.push(format!("zone={field}")),
    }
    if let Some(nat) = &ct.nat {
        parts.push(nat.to_string());
    }
    if !ct.exec.is_empty() {
        let exec: Vec<String> = ct.exec.iter().map(CtExec::to_string).collect();
        parts.push(format!("exec({})", exec.join(",")));
    }
    match ct.alg {
        CtAlg::NONE => {}
        CtAlg::FTP => parts.push("alg=ftp".to_owned()),
        CtAlg::TFTP => parts.push("alg=tftp".to_owned()),
        CtAlg(other) => parts.push(format!("alg={other}")),
    }
    write!(f, "ct({})", parts.join(","))
}

impl Display for CtExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.clone().into_action() {
            Ok(action) => action.fmt(f),
            Err(nat) => nat.fmt(f),
        }
    }
}

impl Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nat")?;
        let Some(kind) = self.kind else { return Ok(()) };
        f.write_str(if kind == NatKind::Src { "(src" } else { "(dst" })?;
        let range = &self.range;
        if let Some(min) = range.ipv4_min {
            write!(f, "={min}")?;
            if let Some(max) = range.ipv4_max.filter(|max| *max != min) {
                write!(f, "-{max}")?;
            }
        } else if let Some(min) = range.ipv6_min {
            let bracket = range.port_min.is_some();
            let write_one = |f: &mut fmt::Formatter<'_>, address: std::net::Ipv6Addr| {
                let text = Ipv6Text(address.to_bits());
                if bracket { write!(f, "[{text}]") } else { write!(f, "{text}") }
            };
            f.write_char('=')?;
            write_one(f, min)?;
            if let Some(max) = range.ipv6_max.filter(|max| *max != min) {
                f.write_char('-')?;
                write_one(f, max)?;
            }
        }
        if let Some(min) = range.port_min {
            let address = range.ipv4_min.is_some() || range.ipv6_min.is_some();
            write!(f, "{}:{min}", if address { "" } else { "=" })?;
            if let Some(max) = range.port_max.filter(|max| *max != min) {
                write!(f, "-{max}")?;
            }
        }
        if *range == Default::default() {
            return f.write_char(')');
        }
        for (set, word) in [(self.persistent, ",persistent"), (self.hash, ",hash"), (self.random, ",random")]
        {
            if set {
                f.write_str(word)?;
            }
        }
        f.write_char(')')
    }
}

fn write_learn(f: &mut fmt::Formatter<'_>, learn: &Learn) -> fmt::Result {
    write!(f, "learn(table={}", learn.table)?;
    for (name, seconds) in [
        ("idle_timeout", learn.idle_timeout),
        ("hard_timeout", learn.hard_timeout),
        ("fin_idle_timeout", learn.fin_idle_timeout),
        ("fin_hard_timeout", learn.fin_hard_timeout),
    ] {
        if seconds != 0 {
            write!(f, ",{name}={seconds}")?;
        }
    }
    if learn.priority != 0x8000 {
        write!(f, ",priority={}", learn.priority)?;
    }
    if learn.flags & Learn::SEND_FLOW_REM != 0 {
        f.write_str(",send_flow_rem")?;
    }
    if learn.flags & Learn::DELETE_LEARNED != 0 {
        f.write_str(",delete_learned")?;
    }
    if learn.cookie.0 != 0 {
        write!(f, ",cookie={:#x}", learn.cookie.0)?;
    }
    if learn.limit != 0 {
        write!(f, ",limit={}", learn.limit)?;
    }
    if let Some(result) = learn.result {
        write!(f, ",result_dst={result}")?;
    }
    for spec in &learn.specs {
        f.write_char(',')?;
        write_spec(f, spec)?;
    }
    f.write_char(')')
}

fn write_spec(f: &mut fmt::Formatter<'_>, spec: &LearnSpec) -> fmt::Result {
    match (&spec.src, &spec.dst) {
        (LearnSrc::Immediate(bytes), LearnDst::Match(dst)) => {
            let value = bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
            if dst.start_bit == 0 && dst.n_bits == dst.field.width_bits() {
                write!(f, "{}=", learn_name(dst.field))?;
                match Oxm::exact(dst.field, value) {
                    Ok(oxm) => write!(f, "{}", ValueText(&oxm)),
                    Err(_) => write!(f, "{}", Hex(value)),
                }
            } else {
                write!(f, "{dst}={}", Hex(value))
            }
        }
        (LearnSrc::Field(src), LearnDst::Match(dst)) => {
            write!(f, "{dst}")?;
            if src == dst { Ok(()) } else { write!(f, "={src}") }
        }
        (LearnSrc::Immediate(bytes), LearnDst::Load(dst)) => {
            let value = bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
            write!(f, "load:{}->{dst}", Hex(value))
        }
        (LearnSrc::Field(src), LearnDst::Load(dst)) => write!(f, "load:{src}->{dst}"),
        (LearnSrc::Field(src), LearnDst::Output) => write!(f, "output:{src}"),
        (LearnSrc::Immediate(_), LearnDst::Output) => f.write_str("output:<constant>"),
    }
}

fn learn_name(field: Field) -> &'static str {
    field.name().unwrap_or("<unknown>")
}

impl Display for HashFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            HashFields::ETH_SRC => f.write_str("eth_src"),
            HashFields::SYMMETRIC_L4 => f.write_str("symmetric_l4"),
            HashFields::SYMMETRIC_L3L4 => f.write_str("symmetric_l3l4"),
            HashFields::SYMMETRIC_L3L4_UDP => f.write_str("symmetric_l3l4+udp"),
            HashFields::NW_SRC => f.write_str("nw_src"),
            HashFields::NW_DST => f.write_str("nw_dst"),
            HashFields::SYMMETRIC_L3 => f.write_str("symmetric_l3"),
            HashFields(other) => write!(f, "{other}"),
        }
    }
}

impl Display for MultipathAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            MultipathAlgorithm::MODULO_N => f.write_str("modulo_n"),
            MultipathAlgorithm::HASH_THRESHOLD => f.write_str("hash_threshold"),
            MultipathAlgorithm::HRW => f.write_str("hrw"),
            MultipathAlgorithm::ITER_HASH => f.write_str("iter_hash"),
            MultipathAlgorithm(other) => write!(f, "{other}"),
        }
    }
}

pub(crate) const PACKET_IN_REASONS: &[&str] =
    &["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];

pub(crate) fn packet_in_reason(reason: u8) -> String {
    PACKET_IN_REASONS.get(usize::from(reason)).map_or_else(|| reason.to_string(), |name| (*name).to_owned())
}

fn controller(f: &mut fmt::Formatter<'_>, c: &Controller) -> fmt::Result {
    let userdata = c.userdata.as_ref().filter(|userdata| !userdata.is_empty());
    if c.reason == 1 && c.controller_id == 0 && userdata.is_none() && !c.pause && c.meter.is_none() {
        return write!(f, "CONTROLLER:{}", c.max_len);
    }
    let mut parts = Vec::new();
    if c.reason != 1 {
        parts.push(format!("reason={}", packet_in_reason(c.reason)));
    }
    if c.max_len != 0xffff {
        parts.push(format!("max_len={}", c.max_len));
    }
    if c.controller_id != 0 {
        parts.push(format!("id={}", c.controller_id));
    }
    if let Some(userdata) = userdata {
        parts.push(format!("userdata={}", Dotted(userdata)));
    }
    if c.pause {
        parts.push("pause".to_owned());
    }
    if let Some(meter) = c.meter {
        parts.push(format!("meter_id={meter}"));
    }
    write!(f, "controller({})", parts.join(","))
}

/// `01.02.ff`.
pub(crate) struct Dotted<'a>(pub(crate) &'a [u8]);

impl Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dotted(f, self.0)
    }
}

fn dotted(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (i, byte) in bytes.iter().enumerate() {
        write!(f, "{}{byte:02x}", if i == 0 { "" } else { "." })?;
    }
    Ok(())
}

fn fin_timeout(f: &mut fmt::Formatter<'_>, idle: u16, hard: u16) -> fmt::Result {
    let mut parts = Vec::new();
    if idle != 0 {
        parts.push(format!("idle_timeout={idle}"));
    }
    if hard != 0 {
        parts.push(format!("hard_timeout={hard}"));
    }
    write!(f, "fin_timeout({})", parts.join(","))
}
