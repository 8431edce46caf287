//! Values of fields as text, the way ovs-ofctl prints them (`ovs-fields(7)`, "Format"). It does not parse.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::field::Format;
use super::value::{Oxm, number_width, ones_of};
use crate::number::{MacAddr, PortNo};

/// `ct_state` bits from the lowest, as `ovs-fields(7)` names them.
pub(crate) const CT_STATE_FLAGS: &[&str] = &["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
/// TCP flags from the lowest.
pub(crate) const TCP_FLAGS: &[&str] =
    &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
/// `tun_flags` bits.
pub(crate) const TUN_FLAGS: &[&str] = &["oam"];

/// A value and its mask, without the field's name.
pub(crate) struct ValueText<'a>(pub &'a Oxm);

impl fmt::Display for ValueText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let oxm = self.0;
        if let Some((value, mask)) = oxm.long_bytes() {
            hex_bytes(f, value)?;
            if let Some(mask) = mask.filter(|mask| mask.iter().any(|byte| *byte != 0xff)) {
                f.write_str("/")?;
                hex_bytes(f, mask)?;
            }
            return Ok(());
        }
        let (Some(spec), Some(value)) = (oxm.field().spec(), oxm.value()) else { return Ok(()) };
        let width = number_width(oxm.field()).unwrap_or(16);
        value_text(f, spec.format, width, value, oxm.mask())
    }
}

fn value_text(
    f: &mut fmt::Formatter<'_>,
    format: Format,
    width: usize,
    value: u128,
    mask: Option<u128>,
) -> fmt::Result {
    match format {
        Format::Decimal => {
            write!(f, "{value}")?;
            mask.map_or(Ok(()), |mask| write!(f, "/{}", Hex(mask)))
        }
        Format::Hexadecimal | Format::PacketType => {
            write!(f, "{}", Hex(value))?;
            mask.map_or(Ok(()), |mask| write!(f, "/{}", Hex(mask)))
        }
        Format::Ethernet => {
            write!(f, "{}", MacAddr::from_u64(value as u64))?;
            mask.map_or(Ok(()), |mask| write!(f, "/{}", MacAddr::from_u64(mask as u64)))
        }
        Format::Ipv4 => ipv4(f, value as u32, mask.map(|mask| mask as u32)),
        Format::Ipv6 => ipv6(f, value, mask),
        Format::Port16 => write!(f, "{}", PortNo::from_16(value as u16)),
        Format::Port => write!(f, "{}", PortNo(value as u32)),
        Format::Fragment => fragment(f, value as u8, mask.map_or(3, |mask| mask as u8 & 3)),
        Format::TunnelFlags => flags(f, TUN_FLAGS, value, mask.unwrap_or(ones_of(width))),
        Format::TcpFlags => match mask {
            None => write!(f, "{}", Hex(value)),
            Some(mask) => flags(f, TCP_FLAGS, value, mask),
        },
        Format::CtState => match mask {
            None => write!(f, "{}", Hex(value)),
            Some(mask) => flags(f, CT_STATE_FLAGS, value, mask),
        },
    }
}

/// Lower-case hex with 0x; zero is `0`, as in Open vSwitch's `ds_put_hex`.
pub(crate) struct Hex(pub u128);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

fn hex_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let Some(first) = bytes.iter().position(|byte| *byte != 0) else { return f.write_str("0") };
    write!(f, "{:#x}", bytes[first])?;
    bytes[first + 1..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

pub(crate) fn ipv4(f: &mut fmt::Formatter<'_>, value: u32, mask: Option<u32>) -> fmt::Result {
    write!(f, "{}", Ipv4Addr::from_bits(value))?;
    match mask {
        None | Some(u32::MAX) => Ok(()),
        Some(mask) if mask.leading_ones() == mask.count_ones() => write!(f, "/{}", mask.count_ones()),
        Some(mask) => write!(f, "/{}", Ipv4Addr::from_bits(mask)),
    }
}

pub(crate) fn ipv6(f: &mut fmt::Formatter<'_>, value: u128, mask: Option<u128>) -> fmt::Result {
    write!(f, "{}", Ipv6Text(value))?;
    match mask {
        None | Some(u128::MAX) => Ok(()),
        Some(mask) if mask.leading_ones() == mask.count_ones() => write!(f, "/{}", mask.count_ones()),
        Some(mask) => write!(f, "/{}", Ipv6Text(mask)),
    }
}

/// As inet_ntop(3) writes it: `::1.2.3.4` where Rust writes `::102:304`.
pub(crate) struct Ipv6Text(pub u128);

impl fmt::Display for Ipv6Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = self.0 as u32;
        if self.0 >> 32 == 0 && low >> 16 != 0 {
            return write!(f, "::{}", Ipv4Addr::from_bits(low));
        }
        write!(f, "{}", Ipv6Addr::from_bits(self.0))
    }
}

fn fragment(f: &mut fmt::Formatter<'_>, value: u8, mask: u8) -> fmt::Result {
    // FLOW_NW_FRAG_ANY is 1, FLOW_NW_FRAG_LATER is 2.
    f.write_str(match (value & mask, mask) {
        (0, 3) => "no",
        (1, 1) => "yes",
        (1, 3) => "first",
        (3, 3) => "later",
        (0, 2) => "not_later",
        _ => "<error>",
    })
}

/// `+set-unset`, Open vSwitch's `format_flags_masked`.
pub(crate) fn flags(f: &mut fmt::Formatter<'_>, names: &[&str], value: u128, mask: u128) -> fmt::Result {
    for bit in 0..128 {
        if mask >> bit & 1 == 0 {
            continue;
        }
        let Some(name) = names.get(bit) else { continue };
        write!(f, "{}{name}", if value >> bit & 1 == 1 { '+' } else { '-' })?;
    }
    Ok(())
}

impl fmt::Display for Oxm {
    /// `ip_src=10.0.0.0/8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.field(), ValueText(self))
    }
}

impl fmt::Debug for Oxm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
