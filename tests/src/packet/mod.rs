//! Packets made by hand, honest ones and lies alike: Ethernet, ARP, IPv4, IPv6, UDP, TCP, neighbour discovery, geneve. Only
//! bytes; who sends them from where is the test's, and `wire` puts them on a device.

pub mod stage;
mod trial;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network::Mac;

pub use trial::{Ear, Mark, Trials};
pub use wire::Wire;

/// EtherTypes (IANA).
pub const IPV4: u16 = 0x0800;
/// IPv6.
pub const IPV6: u16 = 0x86dd;
/// ARP.
pub const ARP: u16 = 0x0806;
/// An 802.1Q tag.
const VLAN: u16 = 0x8100;
/// Transparent Ethernet bridging: what geneve carries (RFC 8926 §3.4).
const ETHERNET: u16 = 0x6558;

/// Protocol numbers (IANA).
pub const UDP: u8 = 17;
/// TCP.
pub const TCP: u8 = 6;
/// ICMPv6.
pub const ICMPV6: u8 = 58;

/// TCP flags (RFC 9293 §3.1).
pub const SYN: u8 = 0x02;
/// ACK.
pub const ACK: u8 = 0x10;

/// Neighbour solicitation and its kin (RFC 4861 §4).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation.
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Redirect.
pub const REDIRECT: u8 = 137;

/// Everybody on a link.
pub const BROADCAST: Mac = Mac([0xff; 6]);

/// An Ethernet frame around a payload, filled up to the 60 bytes that a wire asks for.
pub fn ethernet(src: Mac, dst: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&dst.0[..], &src.0, &kind.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The frame with an 802.1Q tag.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    [&frame[..12], &VLAN.to_be_bytes(), &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// The frame around an IP packet of either family.
pub fn ip_frame(src: Mac, dst: Mac, packet: &[u8]) -> Vec<u8> {
    let kind = if packet.first().is_some_and(|byte| byte >> 4 == 4) { IPV4 } else { IPV6 };
    ethernet(src, dst, kind, packet)
}

/// An ARP packet (RFC 826): operation 1 asks, 2 answers.
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        packet.extend(mac.0);
        packet.extend(address.octets());
    }
    packet
}

/// An IP packet; the family is the addresses'.
///
/// # Panics
/// When the families differ.
pub fn ip(src: IpAddr, dst: IpAddr, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ipv4(src, dst, protocol, hops, payload),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ipv6(src, dst, protocol, hops, payload),
        _ => panic!("{src} and {dst} are of two families"),
    }
}

fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0x12, 0x34, 0, 0]);
    header.extend([hops, protocol, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(payload);
    header
}

fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([protocol, hops]);
    header.extend(src.octets());
    header.extend(dst.octets());
    header.extend(payload);
    header
}

/// A UDP datagram with its checksum.
pub fn udp(src: IpAddr, dst: IpAddr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    with_checksum(src, dst, UDP, datagram, 6)
}

/// A TCP segment with its checksum.
pub fn tcp(src: IpAddr, dst: IpAddr, ports: (u16, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    segment.extend(7_u32.to_be_bytes());
    segment.extend(if flags & ACK == 0 { 0_u32 } else { 9 }.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    with_checksum(src, dst, TCP, segment, 16)
}

/// An ICMPv6 message: type, code 0, checksum, body.
pub fn icmpv6(src: Ipv6Addr, dst: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0], body].concat();
    with_checksum(src.into(), dst.into(), ICMPV6, message, 2)
}

/// The body of a neighbour solicitation or advertisement: flags, target, and a link-layer address as option 1 or 2.
pub fn neighbour(flags: u32, target: Ipv6Addr, option: Option<(u8, Mac)>) -> Vec<u8> {
    let mut body = flags.to_be_bytes().to_vec();
    body.extend(target.octets());
    if let Some((kind, mac)) = option {
        body.extend([kind, 1]);
        body.extend(mac.0);
    }
    body
}

/// The multicast address on which the owner of an address is solicited (RFC 4291 §2.7.1), and its Ethernet address.
pub fn solicited(target: Ipv6Addr) -> (Mac, Ipv6Addr) {
    let [.., a, b, c] = target.octets();
    let low = u16::from_be_bytes([b, c]);
    (Mac([0x33, 0x33, 0xff, a, b, c]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low))
}

/// A geneve header around an Ethernet frame (RFC 8926 §3.4): the payload of the UDP datagram.
pub fn geneve(vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 0];
    packet.extend(ETHERNET.to_be_bytes());
    packet.extend((vni << 8).to_be_bytes());
    packet.extend(inner);
    packet
}

/// Writes the checksum of an upper layer, over the pseudo-header of its family, where it belongs.
fn with_checksum(src: IpAddr, dst: IpAddr, protocol: u8, mut data: Vec<u8>, at: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for address in [src, dst] {
        match address {
            IpAddr::V4(address) => all.extend(address.octets()),
            IpAddr::V6(address) => all.extend(address.octets()),
        }
    }
    all.extend((data.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, protocol]);
    all.extend(&data);
    let sum = checksum(&all);
    data[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    data
}

/// The Internet checksum (RFC 1071).
fn checksum(data: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = data.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // No sum at all is what a zero means in UDP.
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_nothing() {
        let (src, dst) = ([10, 244, 1, 2].into(), [10, 244, 1, 3].into());
        let packet = ipv4(src, dst, UDP, 64, &udp(src.into(), dst.into(), (1, 2), b"odd"));
        assert_eq!(checksum(&packet[..20]), 0xffff);
        assert_eq!(packet.len(), 31);
    }
}
