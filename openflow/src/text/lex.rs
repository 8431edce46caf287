//! Pieces of ovs-ofctl's syntax: `key=value` lists with parentheses, numbers, ports. It knows no fields and no actions.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::number::PortNo;

/// Text that is not ovs-ofctl's syntax.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}")]
pub struct ParseError {
    /// The piece in question.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ParseError {
    pub(super) fn new(text: impl Into<String>, reason: impl Into<String>) -> ParseError {
        ParseError { text: text.into(), reason: reason.into() }
    }
}

pub(super) type Result<T> = std::result::Result<T, ParseError>;

/// One `key`, `key=value`, `key:value` or `key(value)->more`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item<'a> {
    pub key: &'a str,
    /// Without the outer parentheses when they directly followed the key.
    pub value: &'a str,
    /// What followed the closing parenthesis: `->NXM_NX_REG0[0]`.
    pub after: &'a str,
    /// Was there a value, even an empty one?
    pub has_value: bool,
    pub whole: &'a str,
}

const DELIMITERS: [char; 5] = [',', ' ', '\t', '\r', '\n'];

/// Splits at commas and white space outside parentheses.
pub(super) fn items(text: &str) -> Result<Vec<Item<'_>>> {
    let mut items = Vec::new();
    let mut rest = text.trim_start_matches(DELIMITERS);
    while !rest.is_empty() {
        let key_end = rest.find([':', '=', '(', ',', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
        let (key, tail) = rest.split_at(key_end);
        let mut item = Item { key, value: "", after: "", has_value: false, whole: rest };
        let mut taken = key_end;
        if let Some(value) = tail.strip_prefix([':', '=']) {
            let end = value_end(value, text)?;
            item.value = &value[..end];
            item.has_value = true;
            taken += 1 + end;
        } else if let Some(inside) = tail.strip_prefix('(') {
            let end = closing(inside, text)?;
            item.value = &inside[..end];
            item.has_value = true;
            let after = &inside[end + 1..];
            let after_end = value_end(after, text)?;
            item.after = &after[..after_end];
            taken += 1 + end + 1 + after_end;
        }
        item.whole = &rest[..taken];
        if key.is_empty() && !item.has_value {
            return Err(ParseError::new(text, "a name is missing"));
        }
        items.push(item);
        rest = rest[taken..].trim_start_matches(DELIMITERS);
    }
    Ok(items)
}

/// Where a value ends: at the first delimiter outside parentheses.
fn value_end(text: &str, whole: &str) -> Result<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            ')' => return Err(ParseError::new(whole, "a closing parenthesis too many")),
            c if depth == 0 && DELIMITERS.contains(&c) => return Ok(at),
            _ => {}
        }
    }
    if depth > 0 { Err(ParseError::new(whole, "a closing parenthesis is missing")) } else { Ok(text.len()) }
}

/// Where the parenthesis closes that has just been opened.
fn closing(text: &str, whole: &str) -> Result<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return Ok(at),
            ')' => depth -= 1,
            _ => {}
        }
    }
    Err(ParseError::new(whole, "a closing parenthesis is missing"))
}

/// Decimal, hex with 0x, octal with 0.
pub(super) fn number(text: &str) -> Option<u128> {
    if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        return plain(hex, 16);
    }
    if text.len() > 1 && text.starts_with('0') {
        return plain(&text[1..], 8);
    }
    plain(text, 10)
}

fn plain(digits: &str, radix: u32) -> Option<u128> {
    // from_str_radix also takes a sign.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u128::from_str_radix(digits, radix).ok()
}

/// A number of a certain type.
pub(super) fn integer<T: TryFrom<u128>>(what: &str, text: &str) -> Result<T> {
    number(text)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| ParseError::new(text, format!("invalid {what}")))
}

/// A decimal number: Open vSwitch reads tables, which may also have names, in no other way.
pub(super) fn decimal<T: TryFrom<u128>>(what: &str, text: &str) -> Result<T> {
    plain(text, 10)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| ParseError::new(text, format!("unknown {what}")))
}

/// 64 bits; a minus sign means two's complement, as in `0x5/-1`.
pub(super) fn word(what: &str, text: &str) -> Result<u64> {
    match text.strip_prefix('-') {
        Some(positive) => integer::<u64>(what, positive).map(u64::wrapping_neg),
        None => integer(what, text),
    }
}

/// A port's name or number.
pub(super) fn port(text: &str) -> Result<PortNo> {
    if let Some(port) = PortNo::by_name(text) {
        return Ok(port);
    }
    let bad = || ParseError::new(text, "is no port: write a number or a name like LOCAL");
    let raw: u32 = number(text).and_then(|number| number.try_into().ok()).ok_or_else(bad)?;
    match raw {
        0..=0xfeff => Ok(PortNo(raw)),
        0xff00..=0xffff => Ok(PortNo::from_16(raw as u16)),
        0xffffff00.. => Ok(PortNo(raw)),
        _ => Err(bad()),
    }
}

/// `1.2.3.4`, `1.2.3.0/24`, `1.2.3.4/255.0.0.255`.
pub(super) fn ipv4(text: &str) -> Result<(u32, u32)> {
    let bad = |reason: &str| ParseError::new(text, reason);
    let (address, mask) = text.split_once('/').map_or((text, None), |(address, mask)| (address, Some(mask)));
    let address: Ipv4Addr = address.parse().map_err(|_| bad("invalid IP address"))?;
    let mask = match mask {
        None => u32::MAX,
        Some(mask) => match mask.parse::<Ipv4Addr>() {
            Ok(mask) => mask.to_bits(),
            Err(_) => match number(mask) {
                Some(0) => 0,
                Some(bits @ 1..=32) => u32::MAX << (32 - bits as u32),
                _ => return Err(bad("IPv4 network prefix bits not between 0 and 32, inclusive")),
            },
        },
    };
    Ok((address.to_bits(), mask))
}

/// `fd00::1`, `fd00::/64`, `fd00::1/ffff::`.
pub(super) fn ipv6(text: &str) -> Result<(u128, u128)> {
    let bad = |reason: &str| ParseError::new(text, reason);
    let (address, mask) = text.split_once('/').map_or((text, None), |(address, mask)| (address, Some(mask)));
    let address: Ipv6Addr = address.parse().map_err(|_| bad("invalid IPv6 address"))?;
    let mask = match mask {
        None => u128::MAX,
        Some(mask) => match mask.parse::<Ipv6Addr>() {
            Ok(mask) => mask.to_bits(),
            Err(_) => match number(mask) {
                Some(0) => 0,
                Some(bits @ 1..=128) => u128::MAX << (128 - bits as u32),
                _ => return Err(bad("IPv6 network prefix bits not between 0 and 128, inclusive")),
            },
        },
    };
    Ok((address.to_bits(), mask))
}

/// Hex digits, possibly with points or spaces between bytes: `01.02.ff`.
pub(super) fn hex_bytes(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != '.' && !c.is_whitespace())
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()
        .ok_or_else(|| ParseError::new(text, "bad hex digits"))?;
    if !digits.len().is_multiple_of(2) {
        return Err(ParseError::new(text, "an odd number of hex digits"));
    }
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_parentheses_together() {
        let text = "a, b=1,c:x(1,2) d(e,f(g))->h,i()";
        let found: Vec<_> = items(text).unwrap().iter().map(|i| (i.key, i.value, i.after)).collect();
        let wanted =
            [("a", "", ""), ("b", "1", ""), ("c", "x(1,2)", ""), ("d", "e,f(g)", "->h"), ("i", "", "")];
        assert_eq!(found, wanted);
        assert!(items("a(b").is_err());
        assert!(items("a=b)").is_err());
    }

    #[test]
    fn numbers_have_three_radices_and_no_sign() {
        assert_eq!(
            ["10", "0x10", "010", "0", "+1", "0x", "x", ""].map(number),
            [Some(10), Some(16), Some(8), Some(0), None, None, None, None]
        );
    }
}
