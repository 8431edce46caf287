//! Values of fields, as text, into numbers and masks (`ovs-fields(7)`, "Format"). It knows one field at a time.

use super::lex::{ParseError, Result, ipv4, ipv6, number, port};
use crate::number::MacAddr;
use crate::oxm::{CT_STATE_FLAGS, Field, Format, Masking, Subfield, TCP_FLAGS, TUN_FLAGS};

/// A value and a mask in the field's wire width; the mask is all ones when the text has none.
pub(super) fn value(field: Field, text: &str) -> Result<(u128, u128)> {
    let Some(spec) = field.spec() else { return Err(ParseError::new(text, "the field is unknown")) };
    let ones = all_ones(field);
    let (value, mask) = match spec.format {
        Format::Decimal | Format::Hexadecimal => integer_and_mask(field, text)?,
        Format::Ethernet => mac_and_mask(text)?,
        Format::Ipv4 => ipv4(text).map(|(value, mask)| (value.into(), mask.into()))?,
        Format::Ipv6 => ipv6(text)?,
        Format::Port16 => {
            let port = port(text)?;
            (port.to_16().ok_or_else(|| ParseError::new(text, "is no 16-bit port"))?.into(), ones)
        }
        Format::Port => (port(text)?.0.into(), ones),
        Format::Fragment => fragment(text)?,
        Format::TunnelFlags => flags(text, TUN_FLAGS, 1, 1, "tun_flags")?,
        Format::TcpFlags => flags(text, TCP_FLAGS, 0xfff, ones, "tcp_flags")?,
        // Open vSwitch keeps ct_state in a byte: "exact" is a mask of eight bits.
        Format::CtState => flags(text, CT_STATE_FLAGS, 0xff, 0xff, "ct_state")?,
        Format::PacketType => (packet_type(text)?, ones),
    };
    if (value | mask) & !ones != 0 {
        let bytes = field.wire_bytes();
        return Err(ParseError::new(text, format!("value too large for {bytes}-byte field {field}")));
    }
    if spec.masking == Masking::Exact && mask != ones {
        return Err(ParseError::new(text, format!("{field} cannot be masked")));
    }
    Ok((value & mask, mask))
}

pub(super) fn all_ones(field: Field) -> u128 {
    u128::MAX >> (128 - 8 * field.wire_bytes().clamp(1, 16))
}

fn integer_and_mask(field: Field, text: &str) -> Result<(u128, u128)> {
    let bad = || ParseError::new(text, format!("is no number for {field}"));
    match text.split_once('/') {
        Some((value, mask)) => {
            let mask = match mask.strip_prefix('-') {
                Some(positive) => number(positive).map(u128::wrapping_neg).map(|mask| mask & all_ones(field)),
                None => number(mask),
            };
            Ok((number(value).ok_or_else(bad)?, mask.ok_or_else(bad)?))
        }
        None => Ok((number(text).ok_or_else(bad)?, all_ones(field))),
    }
}

fn mac_and_mask(text: &str) -> Result<(u128, u128)> {
    let mac = |text: &str| {
        let mac: MacAddr = text.parse().map_err(|_| ParseError::new(text, "invalid Ethernet address"))?;
        Ok(u128::from(mac.to_u64()))
    };
    match text.split_once('/') {
        Some((value, mask)) => Ok((mac(value)?, mac(mask)?)),
        None => Ok((mac(text)?, 0xffff_ffff_ffff)),
    }
}

fn fragment(text: &str) -> Result<(u128, u128)> {
    match text {
        "no" => Ok((0, 0xff)),
        "yes" => Ok((1, 1)),
        "first" => Ok((1, 0xff)),
        "later" => Ok((3, 0xff)),
        "not_later" => Ok((0, 2)),
        _ => Err(ParseError::new(text, "fragment types are no, yes, first, later and not_later")),
    }
}

fn packet_type(text: &str) -> Result<u128> {
    let bad = || ParseError::new(text, "a packet type is written (namespace,type)");
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).ok_or_else(bad)?;
    let (namespace, kind) = inner.split_once(',').ok_or_else(bad)?;
    match (number(namespace), number(kind)) {
        (Some(namespace @ 0..=0xffff), Some(kind @ 0..=0xffff)) => Ok(namespace << 16 | kind),
        _ => Err(bad()),
    }
}

/// `+set-unset`, `a|b` (everything else unset), a number, a number under a mask. `all` are the bits that have a meaning,
/// `exact` is the mask when the text names a whole value.
fn flags(text: &str, names: &[&str], all: u128, exact: u128, what: &str) -> Result<(u128, u128)> {
    let unknown = |name: &str| ParseError::new(name, format!("unknown {what} flag(s)"));
    let bit_of = |name: &str| {
        names.iter().position(|known| *known == name).map(|bit| 1u128 << bit).ok_or_else(|| unknown(name))
    };
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (number(value), number(mask)),
            None => (number(text), Some(exact)),
        };
        let (Some(value), Some(mask)) = (value, mask) else { return Err(unknown(text)) };
        if (value & !all) != 0 || (mask != exact && mask & !all != 0) {
            return Err(ParseError::new(text, format!("{what} value or mask has unknown bits")));
        }
        return Ok((value, mask));
    }
    if !text.starts_with(['+', '-']) {
        let value = text.split('|').map(bit_of).try_fold(0, |bits, bit| Ok(bits | bit?))?;
        return Ok((value, exact));
    }
    let (mut value, mut mask) = (0, 0);
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        if !matches!(sign, '+' | '-') {
            return Err(ParseError::new(text, "every flag needs a + or a -"));
        }
        let end = rest[1..].find(['+', '-']).map_or(rest.len(), |at| at + 1);
        let bit = bit_of(&rest[1..end])?;
        if mask & bit != 0 {
            return Err(ParseError::new(text, "the same flag twice"));
        }
        mask |= bit;
        if sign == '+' {
            value |= bit;
        }
        rest = &rest[end..];
    }
    Ok((value, mask))
}

/// `NXM_NX_REG0[0..15]`, `reg0[3]`, `reg0[]`, `reg0`.
pub(super) fn subfield(text: &str) -> Result<Subfield> {
    let (found, rest) = subfield_prefix(text)?;
    if rest.is_empty() { Ok(found) } else { Err(ParseError::new(text, "something follows the field")) }
}

/// A place at the start of `text`, and what follows it.
pub(super) fn subfield_prefix(text: &str) -> Result<(Subfield, &str)> {
    let name_end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let field = Field::by_name(name).ok_or_else(|| ParseError::new(name, "unknown field"))?.operand();
    let Some(bits) = rest.strip_prefix('[') else { return Ok((Subfield::all(field), rest)) };
    let end = bits.find(']').ok_or_else(|| ParseError::new(text, "a bracket is missing"))?;
    let (bits, rest) = (&bits[..end], &bits[end + 1..]);
    let width = field.width_bits();
    let bit = |text: &str| number(text).and_then(|bit| u16::try_from(bit).ok()).filter(|bit| *bit < 2000);
    let (start, last) = match bits.split_once("..") {
        _ if bits.is_empty() => (Some(0), width.checked_sub(1)),
        Some((start, last)) => (bit(start), bit(last)),
        None => (bit(bits), bit(bits)),
    };
    let (Some(start), Some(last)) = (start, last) else {
        return Err(ParseError::new(text, "bits are written [], [N] or [FIRST..LAST]"));
    };
    if start > last {
        return Err(ParseError::new(text, "the first bit is after the last"));
    }
    if last >= width {
        return Err(ParseError::new(text, format!("{field} has only {width} bits")));
    }
    Ok((Subfield::new(field, start, last - start + 1), rest))
}
