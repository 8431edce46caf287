//! A packet's headers in one line, as `ovs-ofctl ofp-print` summarises the packets of packet-in and packet-out. It only
//! looks at bytes; it knows no messages.

use std::fmt;
use std::net::Ipv4Addr;

use super::print_match::exact_flags;
use crate::number::MacAddr;
use crate::oxm::{Ipv6Text, TCP_FLAGS};
use crate::wire::Reader;

/// The start of an Ethernet frame.
pub(crate) struct PacketBytes<'a>(pub(crate) &'a [u8]);

/// Its summary.
pub(crate) struct PacketText<'a>(pub(crate) PacketBytes<'a>);

impl fmt::Display for PacketText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut input = Reader::new(self.0.0);
        match Ethernet::read(&mut input) {
            Some(ethernet) => ethernet.write(f, &mut input),
            None => f.write_str(
                "vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x0000",
            ),
        }
    }
}

struct Ethernet {
    dst: MacAddr,
    src: MacAddr,
    tci: Option<u16>,
    eth_type: u16,
}

impl Ethernet {
    fn read(input: &mut Reader<'_>) -> Option<Ethernet> {
        let dst = MacAddr(input.array().ok()?);
        let src = MacAddr(input.array().ok()?);
        let mut eth_type = input.u16().ok()?;
        let mut tci = None;
        if matches!(eth_type, 0x8100 | 0x88a8) && input.len() >= 4 {
            tci = input.u16().ok();
            eth_type = input.u16().ok()?;
        }
        Some(Ethernet { dst, src, tci, eth_type })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, rest: &mut Reader<'_>) -> fmt::Result {
        let ip = if self.eth_type == 0x0800 { Some(Ipv4::read(rest).unwrap_or_default()) } else { None };
        let ip6 = if self.eth_type == 0x86dd { Some(Ipv6::read(rest).unwrap_or_default()) } else { None };
        let proto = ip.as_ref().map(|ip| ip.proto).or(ip6.as_ref().map(|ip| ip.proto)).unwrap_or(0);
        let word = match (self.eth_type, proto) {
            (0x0800, 1) => "icmp,",
            (0x0800, 6) => "tcp,",
            (0x0800, 17) => "udp,",
            (0x0800, 132) => "sctp,",
            (0x0800, _) => "ip,",
            (0x86dd, 58) => "icmp6,",
            (0x86dd, 6) => "tcp6,",
            (0x86dd, 17) => "udp6,",
            (0x86dd, 132) => "sctp6,",
            (0x86dd, _) => "ipv6,",
            (0x0806, _) => "arp,",
            (0x8035, _) => "rarp,",
            (0x8847, _) => "mpls,",
            (0x8848, _) => "mplsm,",
            _ => "",
        };
        f.write_str(word)?;
        match self.tci {
            Some(tci) => write!(f, "dl_vlan={},dl_vlan_pcp={},vlan_tci1=0x0000,", tci & 0xfff, tci >> 13)?,
            None => f.write_str("vlan_tci=0x0000,")?,
        }
        write!(f, "dl_src={},dl_dst={}", self.src, self.dst)?;
        if word.is_empty() {
            return write!(f, ",dl_type={:#06x}", self.eth_type);
        }
        let said = !matches!(word, "ip," | "ipv6,");
        match (&ip, &ip6) {
            (Some(ip), _) => ip.write(f, said)?,
            (_, Some(ip)) => ip.write(f, said)?,
            _ if matches!(self.eth_type, 0x0806 | 0x8035) => {
                return Arp::read(rest).unwrap_or_default().write(f);
            }
            _ => return Ok(()),
        }
        let later_fragment = ip.as_ref().is_some_and(|ip| ip.fragment & 0x1fff != 0);
        let mut transport = if later_fragment { Reader::new(&[]) } else { *rest };
        write_transport(f, self.eth_type, proto, &mut transport)
    }
}

#[derive(Default)]
struct Arp {
    op: u16,
    sha: MacAddr,
    spa: u32,
    tha: MacAddr,
    tpa: u32,
}

impl Arp {
    fn read(input: &mut Reader<'_>) -> Option<Arp> {
        input.skip(6).ok()?;
        let op = input.u16().ok()?;
        let sha = MacAddr(input.array().ok()?);
        let spa = input.u32().ok()?;
        let tha = MacAddr(input.array().ok()?);
        Some(Arp { op, sha, spa, tha, tpa: input.u32().ok()? })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ",arp_spa={},arp_tpa={}", Ipv4Addr::from_bits(self.spa), Ipv4Addr::from_bits(self.tpa))?;
        write!(f, ",arp_op={},arp_sha={},arp_tha={}", self.op, self.sha, self.tha)
    }
}

#[derive(Default)]
struct Ipv4 {
    tos: u8,
    fragment: u16,
    ttl: u8,
    proto: u8,
    src: u32,
    dst: u32,
}

impl Ipv4 {
    fn read(input: &mut Reader<'_>) -> Option<Ipv4> {
        let words = usize::from(input.peek().first()? & 0xf);
        let mut header = input.sub(words.max(5) * 4).ok()?;
        header.skip(1).ok()?;
        let tos = header.u8().ok()?;
        header.skip(4).ok()?;
        let fragment = header.u16().ok()?;
        let (ttl, proto) = (header.u8().ok()?, header.u8().ok()?);
        header.skip(2).ok()?;
        Some(Ipv4 { tos, fragment, ttl, proto, src: header.u32().ok()?, dst: header.u32().ok()? })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, said: bool) -> fmt::Result {
        write!(f, ",nw_src={},nw_dst={}", Ipv4Addr::from_bits(self.src), Ipv4Addr::from_bits(self.dst))?;
        let fragment = match (self.fragment & 0x1fff, self.fragment & 0x2000) {
            (0, 0) => "no",
            (0, _) => "first",
            _ => "later",
        };
        write_ip_common(f, said.then_some(()), self.proto, self.tos, self.ttl, fragment)
    }
}

#[derive(Default)]
struct Ipv6 {
    class: u8,
    label: u32,
    proto: u8,
    ttl: u8,
    src: u128,
    dst: u128,
}

impl Ipv6 {
    fn read(input: &mut Reader<'_>) -> Option<Ipv6> {
        let first = input.u32().ok()?;
        input.skip(2).ok()?;
        let (proto, ttl) = (input.u8().ok()?, input.u8().ok()?);
        let (src, dst) = (input.u128().ok()?, input.u128().ok()?);
        Some(Ipv6 { class: (first >> 20) as u8, label: first & 0xfffff, proto, ttl, src, dst })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, said: bool) -> fmt::Result {
        write!(f, ",ipv6_src={},ipv6_dst={}", Ipv6Text(self.src), Ipv6Text(self.dst))?;
        write!(f, ",ipv6_label={:#07x}", self.label)?;
        write_ip_common(f, said.then_some(()), self.proto, self.class, self.ttl, "no")
    }
}

fn write_ip_common(
    f: &mut fmt::Formatter<'_>,
    said: Option<()>,
    proto: u8,
    tos: u8,
    ttl: u8,
    fragment: &str,
) -> fmt::Result {
    if said.is_none() {
        write!(f, ",nw_proto={proto}")?;
    }
    write!(f, ",nw_tos={},nw_ecn={},nw_ttl={ttl},nw_frag={fragment}", tos & 0xfc, tos & 3)
}

fn write_transport(
    f: &mut fmt::Formatter<'_>,
    eth_type: u16,
    proto: u8,
    rest: &mut Reader<'_>,
) -> fmt::Result {
    let whole = *rest;
    match (eth_type, proto) {
        (_, 6 | 17 | 132) => {
            let ports = (rest.u16().unwrap_or_default(), rest.u16().unwrap_or_default());
            write!(f, ",tp_src={},tp_dst={}", ports.0, ports.1)?;
            if proto == 6 {
                let _ = rest.skip(8);
                f.write_str(",tcp_flags=")?;
                exact_flags(f, TCP_FLAGS, u128::from(rest.u16().unwrap_or_default() & 0xfff))?;
            }
            let (name, at) = match proto {
                6 => ("tcp_csum", 16),
                17 => ("udp_csum", 6),
                _ => ("sctp_csum", 8),
            };
            write_checksum(f, name, whole.peek(), at, if proto == 132 { 4 } else { 2 })
        }
        (0x0800, 1) | (0x86dd, 58) => {
            let kind = rest.u8().unwrap_or_default();
            write!(f, ",icmp_type={kind},icmp_code={}", rest.u8().unwrap_or_default())?;
            if eth_type == 0x86dd && matches!(kind, 135 | 136) {
                write_neighbour(f, kind, rest)?;
            }
            write_checksum(f, if proto == 1 { "icmp_csum" } else { "icmp6_csum" }, whole.peek(), 2, 2)
        }
        _ => Ok(()),
    }
}

fn write_neighbour(f: &mut fmt::Formatter<'_>, kind: u8, rest: &mut Reader<'_>) -> fmt::Result {
    let _ = rest.skip(6);
    write!(f, ",nd_target={}", Ipv6Text(rest.u128().unwrap_or_default()))?;
    let (mut sll, mut tll) = (MacAddr::default(), MacAddr::default());
    while let (Ok(option), Ok(length)) = (rest.u8(), rest.u8()) {
        let Some(bytes) = (usize::from(length) * 8).checked_sub(2) else { break };
        let Ok(mut body) = rest.sub(bytes) else { break };
        match (option, kind, body.array()) {
            (1, 135, Ok(mac)) => sll = MacAddr(mac),
            (2, 136, Ok(mac)) => tll = MacAddr(mac),
            _ => {}
        }
    }
    write!(f, ",nd_sll={sll},nd_tll={tll}")
}

fn write_checksum(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    bytes: &[u8],
    at: usize,
    width: usize,
) -> fmt::Result {
    let Some(sum) = bytes.get(at..at + width) else { return Ok(()) };
    let number = sum.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    write!(f, " {name}:{number:x}")
}
