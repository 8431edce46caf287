//! The actions with a syntax of their own: `ct(…)`, `nat(…)`, `learn(…)`, `multipath(…)`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::lex::{Item, ParseError, Result, integer, items, number, word};
use super::parse_action::{Context, action_list, load, table};
use super::parse_value::{all_ones, subfield, value};
use crate::action::{
    Action, Ct, CtAlg, CtExec, CtZone, HashFields, Learn, LearnDst, LearnSpec, LearnSrc, Multipath,
    MultipathAlgorithm, Nat, NatKind, NatRange,
};
use crate::number::{Cookie, TableId};
use crate::oxm::{Field, Subfield};

pub(super) fn conntrack(text: &str, context: &Context) -> Result<Action> {
    let mut ct = Ct::default();
    for item in items(text)? {
        match item.key {
            "commit" => ct.commit = true,
            "force" => ct.force = true,
            "table" => ct.table = Some(TableId(table(item.value)?)),
            "zone" => {
                ct.zone = match number(item.value).map(u16::try_from) {
                    Some(Ok(zone)) => CtZone::Immediate(zone),
                    _ => CtZone::Field(subfield(item.value)?),
                }
            }
            "alg" => {
                ct.alg = match item.value {
                    "ftp" => CtAlg::FTP,
                    "tftp" => CtAlg::TFTP,
                    other => return Err(ParseError::new(other, "invalid conntrack helper")),
                }
            }
            "nat" => {
                let nat = nat(&item)?;
                match ct.nat {
                    None if ct.exec.is_empty() => ct.nat = Some(nat),
                    _ => ct.exec.push(CtExec::Nat(nat)),
                }
            }
            "exec" => {
                for action in action_list(item.value, &mut context.nested()?)? {
                    let exec = CtExec::try_from(action).map_err(|action| {
                        ParseError::new(action.to_string(), "ct action doesn't support this nested action")
                    })?;
                    ct.exec.push(exec);
                }
            }
            _ => return Err(ParseError::new(item.whole, "invalid argument to \"ct\" action")),
        }
    }
    if ct.force && !ct.commit {
        return Err(ParseError::new(text, "\"force\" flag requires \"commit\" flag."));
    }
    Ok(Action::Ct(Box::new(ct)))
}

fn nat(item: &Item<'_>) -> Result<Nat> {
    let mut nat = Nat::default();
    for part in items(item.value)? {
        match part.key {
            "src" | "dst" => {
                if nat.kind.is_some() {
                    return Err(ParseError::new(item.whole, "May only specify one of \"src\" or \"dst\"."));
                }
                nat.kind = Some(if part.key == "src" { NatKind::Src } else { NatKind::Dst });
                if !part.value.is_empty() {
                    nat.range = nat_range(part.value)?;
                }
            }
            "persistent" => nat.persistent = true,
            "hash" => nat.hash = true,
            "random" => nat.random = true,
            _ => return Err(ParseError::new(part.whole, "unknown key in nat")),
        }
    }
    if nat.hash && nat.random {
        return Err(ParseError::new(item.whole, "Both \"hash\" and \"random\" are not allowed."));
    }
    if nat.kind.is_none() && (nat.persistent || nat.hash || nat.random) {
        return Err(ParseError::new(item.whole, "Flags allowed only with \"src\" or \"dst\"."));
    }
    Ok(nat)
}

/// `10.0.0.1-10.0.0.9:80-90`, `[fd00::1]-[fd00::9]:80`, `fd00::1-fd00::9`.
fn nat_range(text: &str) -> Result<NatRange> {
    let bad = || ParseError::new(text, "invalid NAT range");
    let mut range = NatRange::default();
    if text.starts_with(':') && !text.starts_with("::") {
        // Ports without an address say nothing to ovs-ofctl.
        return Ok(range);
    }
    let ports = if text.starts_with('[') {
        let (addresses, ports) = match text.rfind("]:") {
            Some(at) => (&text[..=at], Some(&text[at + 2..])),
            None => (text, None),
        };
        let (min, max) = addresses.split_once("]-[").map_or((addresses, None), |(min, max)| (min, Some(max)));
        let address = |text: &str| text.trim_matches(['[', ']']).parse::<Ipv6Addr>().map_err(|_| bad());
        range.ipv6_min = Some(address(min)?);
        range.ipv6_max = max.map(address).transpose()?;
        ports
    } else if text.matches(':').count() > 1 {
        let (min, max) = text.split_once('-').map_or((text, None), |(min, max)| (min, Some(max)));
        let address = |text: &str| text.parse::<Ipv6Addr>().map_err(|_| bad());
        range.ipv6_min = Some(address(min)?);
        range.ipv6_max = max.map(address).transpose()?;
        None
    } else {
        let (addresses, ports) =
            text.split_once(':').map_or((text, None), |(text, ports)| (text, Some(ports)));
        let (min, max) = addresses.split_once('-').map_or((addresses, None), |(min, max)| (min, Some(max)));
        let address = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| bad());
        range.ipv4_min = Some(address(min)?);
        range.ipv4_max = max.map(address).transpose()?;
        ports
    };
    if let Some(ports) = ports {
        let (min, max) = ports.split_once('-').map_or((ports, None), |(min, max)| (min, Some(max)));
        range.port_min = Some(integer("port", min)?);
        range.port_max = max.map(|max| integer("port", max)).transpose()?;
    }
    range.port_min = range.port_min.filter(|port| *port != 0);
    let descending = range.ipv4_max.is_some_and(|max| Some(max) < range.ipv4_min)
        || range.ipv6_max.is_some_and(|max| Some(max) < range.ipv6_min)
        || range.port_max.is_some_and(|max| Some(max) < range.port_min);
    if descending {
        return Err(bad());
    }
    // A range of one is no range.
    range.ipv4_max = range.ipv4_max.filter(|max| Some(*max) != range.ipv4_min);
    range.ipv6_max = range.ipv6_max.filter(|max| Some(*max) != range.ipv6_min);
    range.port_max = range.port_max.filter(|max| Some(*max) != range.port_min);
    Ok(range)
}

pub(super) fn multipath(text: &str) -> Result<Action> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [fields, basis, algorithm, links, arg, dst] = parts[..] else {
        return Err(ParseError::new(
            text,
            "multipath needs fields, basis, algorithm, links, argument and field",
        ));
    };
    let links: u32 = integer("number of links", links)?;
    if !(1..=0x10000).contains(&links) {
        return Err(ParseError::new(text, "n_links is not in valid range 1 to 65536"));
    }
    let dst = subfield(dst)?;
    if dst.n_bits < 16 && links > 1 << dst.n_bits {
        let reason = format!(
            "{}-bit destination field has {} possible values, less than n_links {links}",
            dst.n_bits,
            1u32 << dst.n_bits
        );
        return Err(ParseError::new(text, reason));
    }
    let algorithm = match algorithm {
        "modulo_n" => MultipathAlgorithm::MODULO_N,
        "hash_threshold" => MultipathAlgorithm::HASH_THRESHOLD,
        "hrw" => MultipathAlgorithm::HRW,
        "iter_hash" => MultipathAlgorithm::ITER_HASH,
        other => return Err(ParseError::new(other, "unknown algorithm")),
    };
    Ok(Action::Multipath(Multipath {
        fields: hash_fields(fields)?,
        basis: integer("basis", basis)?,
        algorithm,
        max_link: (links - 1) as u16,
        arg: integer("argument", arg)?,
        dst,
    }))
}

pub(super) fn hash_fields(text: &str) -> Result<HashFields> {
    (0..=6)
        .map(HashFields)
        .find(|fields| fields.to_string() == text)
        .ok_or_else(|| ParseError::new(text, "unknown fields"))
}

pub(super) fn learn(text: &str) -> Result<Action> {
    let mut learn = Learn { table: TableId(1), priority: 0x8000, ..Learn::default() };
    for item in items(text)? {
        match item.key {
            "table" => learn.table = TableId(table(item.value)?),
            "priority" => learn.priority = integer("priority", item.value)?,
            "idle_timeout" => learn.idle_timeout = integer("idle_timeout", item.value)?,
            "hard_timeout" => learn.hard_timeout = integer("hard_timeout", item.value)?,
            "fin_idle_timeout" => learn.fin_idle_timeout = integer("fin_idle_timeout", item.value)?,
            "fin_hard_timeout" => learn.fin_hard_timeout = integer("fin_hard_timeout", item.value)?,
            "cookie" => learn.cookie = Cookie(word("cookie", item.value)?),
            "send_flow_rem" => learn.flags |= Learn::SEND_FLOW_REM,
            "delete_learned" => learn.flags |= Learn::DELETE_LEARNED,
            "limit" => learn.limit = integer("limit", item.value)?,
            "result_dst" => {
                let result = subfield(item.value)?;
                if result.n_bits != 1 {
                    return Err(ParseError::new(item.whole, "result_dst must be 1 bit"));
                }
                learn.flags |= Learn::WRITE_RESULT;
                learn.result = Some(result);
            }
            _ => learn.specs.push(learn_spec(&item)?),
        }
    }
    Ok(Action::Learn(Box::new(learn)))
}

fn learn_spec(item: &Item<'_>) -> Result<LearnSpec> {
    match item.key {
        "load" => {
            let (src, dst) =
                item.value.split_once("->").ok_or_else(|| ParseError::new(item.whole, "missing `->'"))?;
            if let Ok(src) = subfield(src) {
                let dst = subfield(dst)?;
                return same_width(item, src, dst, LearnSpec::load_field(src, dst));
            }
            match load(item.value)? {
                Action::RegLoad { dst, value } => Ok(LearnSpec::load_value(value.into(), dst)),
                Action::SetField(oxm) => Ok(LearnSpec::load_value(
                    oxm.value().unwrap_or_default(),
                    Subfield::all(oxm.field().operand()),
                )),
                other => Err(ParseError::new(other.to_string(), "cannot be learned")),
            }
        }
        "output" => Ok(LearnSpec::output(subfield(item.value)?)),
        name => {
            let key = match item.whole.split_once('=') {
                Some((key, _)) => key,
                None => item.whole,
            };
            let dst = if name.len() == key.len() && !key.contains('[') {
                let field = Field::by_name(name).ok_or_else(|| ParseError::new(name, "unknown keyword"))?;
                Subfield::all(field.operand())
            } else {
                subfield(key)?
            };
            let Some((_, source)) = item.whole.split_once('=') else {
                return Ok(LearnSpec::match_field(dst, dst));
            };
            if let Ok(src) = subfield(source) {
                return same_width(item, src, dst, LearnSpec::match_field(dst, src));
            }
            let bits = match value(dst.field, source) {
                Ok((_, mask)) if mask != all_ones(dst.field) && !source.contains(['+', '-', '|']) => {
                    return Err(ParseError::new(item.whole, "a learned match takes no mask"));
                }
                Ok((bits, _)) => bits,
                Err(error) => number(source).ok_or(error)?,
            };
            if dst.n_bits > 128 || dst.n_bits < 128 && bits >> dst.n_bits != 0 {
                return Err(ParseError::new(item.whole, "the value does not fit"));
            }
            Ok(LearnSpec { n_bits: dst.n_bits, src: immediate(bits, dst), dst: LearnDst::Match(dst) })
        }
    }
}

fn immediate(bits: u128, dst: Subfield) -> LearnSrc {
    LearnSrc::immediate(bits, dst.n_bits)
}

fn same_width(item: &Item<'_>, src: Subfield, dst: Subfield, spec: LearnSpec) -> Result<LearnSpec> {
    if src.n_bits == dst.n_bits {
        return Ok(spec);
    }
    let reason = format!("bit widths of {} ({}) and {} ({}) differ", src, src.n_bits, dst, dst.n_bits);
    Err(ParseError::new(item.whole, reason))
}
