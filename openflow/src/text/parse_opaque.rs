//! Actions that stay opaque in the types, from text into their bytes: sample, bundle, encap, decap (nicira-ext.h).

use bytes::BytesMut;

use super::lex::{Item, ParseError, Result, hex_bytes, integer, items, port};
use super::parse_nested::hash_fields;
use super::parse_value::subfield;
use crate::action::{Action, NICIRA, put_operand};
use crate::number::PortNo;
use crate::wire::Writer;

/// The action of that name; `None` when there is none.
pub(super) fn opaque(item: &Item<'_>) -> Result<Option<Action>> {
    let mut data = BytesMut::new();
    let mut out = Writer::new(&mut data);
    match item.key {
        "sample" => sample(item.value, &mut out)?,
        "bundle" => bundle(item.value, false, &mut out)?,
        "bundle_load" => bundle(item.value, true, &mut out)?,
        "encap" => encap(item.value, &mut out)?,
        "decap" => {
            out.u16(47);
            out.zeros(2);
            out.u32(packet_type_argument(item.value)?);
        }
        "dec_nsh_ttl" => {
            out.u16(48);
            out.zeros(6);
        }
        "debug_recirc" => {
            out.u16(255);
            out.zeros(6);
        }
        "debug_slow" => {
            out.u16(254);
            out.zeros(6);
        }
        _ => return Ok(None),
    }
    // Header and vendor take eight bytes of the action.
    out.pad_from(0, 8);
    Ok(Some(Action::Experimenter { vendor: NICIRA, data: data.freeze() }))
}

fn packet_type_argument(text: &str) -> Result<u32> {
    if text.is_empty() {
        return Ok(0xfffe);
    }
    let bad = || ParseError::new(text, "decap takes nothing, or packet_type(ns=N,type=N)");
    let [item] = items(text)?[..] else { return Err(bad()) };
    let (mut namespace, mut kind) = (0u32, None);
    for part in items(item.value)? {
        match part.key {
            "ns" => namespace = integer::<u16>("namespace", part.value)?.into(),
            "type" => kind = Some(integer::<u16>("type", part.value)?),
            _ => return Err(bad()),
        }
    }
    Ok(namespace << 16 | u32::from(kind.ok_or_else(bad)?))
}

fn sample(text: &str, out: &mut Writer<'_>) -> Result<()> {
    let (mut probability, mut set, mut domain, mut point) = (0u16, 0u32, 0u32, 0u32);
    let (mut sampling_port, mut direction) = (PortNo::ANY, 0);
    for part in items(text)? {
        match part.key {
            "probability" => probability = integer("probability", part.value)?,
            "collector_set_id" => set = integer("collector_set_id", part.value)?,
            "obs_domain_id" => domain = integer("obs_domain_id", part.value)?,
            "obs_point_id" => point = integer("obs_point_id", part.value)?,
            "sampling_port" => sampling_port = port(part.value)?,
            "ingress" => direction = 1,
            "egress" => direction = 2,
            _ => return Err(ParseError::new(part.whole, "invalid key in \"sample\" argument")),
        }
    }
    if probability == 0 {
        return Err(ParseError::new(text, "non-zero \"probability\" must be specified on sample"));
    }
    let second = sampling_port != PortNo::ANY || direction != 0;
    out.u16(match (direction, second) {
        (1 | 2, _) => 41,
        (_, true) => 38,
        _ => 29,
    });
    out.u16(probability);
    out.u32(set);
    out.u32(domain);
    out.u32(point);
    if second {
        out.u16(sampling_port.to_16().unwrap_or(0xffff));
        out.u8(direction);
        out.zeros(5);
    }
    Ok(())
}

fn bundle(text: &str, load: bool, out: &mut Writer<'_>) -> Result<()> {
    let syntax = || ParseError::new(text, "not enough arguments to bundle action");
    let (head, members) =
        text.split_once("members:").or_else(|| text.split_once("slaves:")).ok_or_else(syntax)?;
    let head: Vec<&str> = head.trim_end_matches([',', ' ']).split(',').map(str::trim).collect();
    let (fields, basis, algorithm, kind, dst) = match (&head[..], load) {
        ([fields, basis, algorithm, kind], false) => (fields, basis, algorithm, kind, None),
        ([fields, basis, algorithm, kind, dst], true) => {
            (fields, basis, algorithm, kind, Some(subfield(dst)?))
        }
        _ => return Err(syntax()),
    };
    if *kind != "ofport" {
        return Err(ParseError::new(*kind, "unknown member type"));
    }
    let algorithm = match *algorithm {
        "active_backup" => 0,
        "hrw" | "highest_random_weight" => 1,
        other => return Err(ParseError::new(other, "unknown algorithm")),
    };
    let members: Vec<PortNo> =
        members.split([',', ' ']).filter(|member| !member.is_empty()).map(port).collect::<Result<_>>()?;
    out.u16(if load { 13 } else { 12 });
    out.u16(algorithm);
    out.u16(hash_fields(fields)?.0);
    out.u16(integer("basis", basis)?);
    // A member is an NXM_OF_IN_PORT.
    out.u32(2);
    out.u16(members.len() as u16);
    put_operand(out, dst).map_err(|error| ParseError::new(text, error.to_string()))?;
    out.zeros(4);
    members.iter().for_each(|member| out.u16(member.to_16().unwrap_or(0xffff)));
    Ok(())
}

fn encap(text: &str, out: &mut Writer<'_>) -> Result<()> {
    let [item] = items(text)?[..] else { return Err(ParseError::new(text, "encap takes one header")) };
    let packet_type = match item.key {
        "ethernet" => 0,
        "nsh" => 0x0001_894f,
        "mpls" => 0x0001_8847,
        "mpls_mc" => 0x0001_8848,
        other => return Err(ParseError::new(other, "Encap hdr not supported")),
    };
    out.u16(46);
    out.zeros(2);
    out.u32(packet_type);
    for part in items(item.value)? {
        let start = out.position();
        out.u16(4);
        match part.key {
            "md_type" => {
                out.bytes(&[1, 5, integer("md_type", part.value)?]);
            }
            "tlv" => {
                let parts: Vec<&str> = part.value.split(',').map(str::trim).collect();
                let [class, kind, value] = parts[..] else {
                    return Err(ParseError::new(part.whole, "a TLV is class, type and value"));
                };
                let value = hex_bytes(value.strip_prefix("0x").unwrap_or(value))?;
                if value.len() > 200 {
                    return Err(ParseError::new(part.whole, "the value is too long"));
                }
                // Its length counts the padding, unlike the other property's.
                out.bytes(&[2, (8 + value.len()).next_multiple_of(8) as u8]);
                out.u16(integer("class", class)?);
                out.bytes(&[integer("type", kind)?, value.len() as u8]);
                out.bytes(&value);
            }
            _ => return Err(ParseError::new(part.whole, "unknown encapsulation property")),
        }
        out.pad_from(start, 8);
    }
    Ok(())
}
