//! Nicira actions that stay opaque in the types, in words: sample, bundle, encap, decap and their kin. It only prints.

use std::fmt;

use super::print_action::Dotted;
use crate::action::{HashFields, NICIRA};
use crate::number::PortNo;
use crate::oxm::Hex;
use crate::wire::Reader;

/// Prints an experimenter action from its bytes (those after the vendor's id).
pub(crate) fn opaque_action(f: &mut fmt::Formatter<'_>, vendor: u32, data: &[u8]) -> fmt::Result {
    let known = if vendor == NICIRA { words(data) } else { None };
    match known {
        Some(words) => f.write_str(&words),
        None => write!(f, "experimenter({vendor:#x},{})", Dotted(data)),
    }
}

fn words(data: &[u8]) -> Option<String> {
    let mut input = Reader::new(data);
    let subtype = input.u16().ok()?;
    match subtype {
        12 | 13 => bundle(&mut input, subtype == 13),
        29 | 38 | 41 => sample(&mut input, subtype),
        46 => encap(&mut input),
        47 => {
            input.skip(2).ok()?;
            match input.u32().ok()? {
                0xfffe => Some("decap()".to_owned()),
                packet_type => Some(format!(
                    "decap(packet_type(ns={},type={}))",
                    packet_type >> 16,
                    Hex((packet_type & 0xffff).into())
                )),
            }
        }
        48 => Some("dec_nsh_ttl".to_owned()),
        254 => Some("debug_slow".to_owned()),
        255 => Some("debug_recirc".to_owned()),
        _ => None,
    }
}

fn sample(input: &mut Reader<'_>, subtype: u16) -> Option<String> {
    let probability = input.u16().ok()?;
    let (set, domain, point) = (input.u32().ok()?, input.u32().ok()?, input.u32().ok()?);
    let mut text = format!(
        "sample(probability={probability},collector_set_id={set},obs_domain_id={domain},obs_point_id={point}"
    );
    if subtype != 29 {
        let (port, direction) = (input.u16().ok()?, input.u8().ok()?);
        if PortNo::from_16(port) != PortNo::ANY {
            text += &format!(",sampling_port={}", PortNo::from_16(port));
        }
        match direction {
            1 => text += ",ingress",
            2 => text += ",egress",
            _ => {}
        }
    }
    Some(text + ")")
}

fn bundle(input: &mut Reader<'_>, load: bool) -> Option<String> {
    let (algorithm, fields, basis) = (input.u16().ok()?, HashFields(input.u16().ok()?), input.u16().ok()?);
    let member_type = input.u32().ok()?;
    let count = input.u16().ok()?;
    let ofs_nbits = input.u16().ok()?;
    let dst = crate::action::short_operand(input.u32().ok()?, ofs_nbits);
    input.skip(4).ok()?;
    let algorithm = match algorithm {
        0 => "active_backup",
        1 => "hrw",
        _ => return None,
    };
    if member_type >> 9 != 0 {
        return None;
    }
    let mut text =
        format!("{}({fields},{basis},{algorithm},ofport,", if load { "bundle_load" } else { "bundle" });
    if load {
        text += &format!("{},", dst?);
    }
    text += "members:";
    for i in 0..count {
        let port = PortNo::from_16(input.u16().ok()?);
        text += &format!("{}{port}", if i == 0 { "" } else { "," });
    }
    Some(text + ")")
}

fn encap(input: &mut Reader<'_>) -> Option<String> {
    input.skip(2).ok()?;
    let name = match input.u32().ok()? {
        0 => "ethernet".to_owned(),
        0x0001_894f => "nsh".to_owned(),
        0x0001_8847 => "mpls".to_owned(),
        0x0001_8848 => "mpls_mc".to_owned(),
        other => format!("packet_type(ns={},type={:#x})", other >> 16, other & 0xffff),
    };
    let mut properties = Vec::new();
    while input.len() >= 4 {
        let (class, kind, length) = (input.u16().ok()?, input.u8().ok()?, input.u8().ok()?);
        let mut body = input.sub(usize::from(length).checked_sub(4)?).ok()?;
        input.skip((usize::from(length).next_multiple_of(8) - usize::from(length)).min(input.len())).ok()?;
        match (class, kind) {
            (4, 1) => properties.push(format!("md_type={}", body.u8().ok()?)),
            (4, 2) => {
                let (class, kind) = (body.u16().ok()?, body.u8().ok()?);
                let bytes = usize::from(body.u8().ok()?);
                let hex: String = body.bytes(bytes).ok()?.iter().map(|byte| format!("{byte:02x}")).collect();
                properties.push(format!("tlv({class:#06x},{kind},0x{hex})"));
            }
            _ => return None,
        }
    }
    if properties.is_empty() {
        return Some(format!("encap({name})"));
    }
    Some(format!("encap({name}({}))", properties.join(",")))
}
