//! Who spoke to whom, read from the start of a packet. It must not know why anybody looks.

use std::net::IpAddr;

use network::Protocol;

/// What tells a conversation from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// `TCP`, `ICMPv6`, `ARP`, a number where there is no name.
    pub protocol: String,
    /// Who sent it; absent for what is not IP.
    pub source: Option<IpAddr>,
    /// To whom.
    pub destination: Option<IpAddr>,
    /// Ports of the source and of the destination, where there are any.
    pub ports: Option<(u16, u16)>,
    /// Type and code of ICMP.
    pub icmp: Option<(u8, u8)>,
}

impl Tuple {
    /// Of an Ethernet frame; `None` when there is not even a header.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let mut at = 12;
        let mut kind = word(frame, at)?;
        // One tag may stand in between (IEEE 802.1Q).
        if kind == 0x8100 {
            at += 4;
            kind = word(frame, at)?;
        }
        let body = frame.get(at + 2..)?;
        let other =
            |name: String| Self { protocol: name, source: None, destination: None, ports: None, icmp: None };
        Some(match kind {
            0x0800 => v4(body)?,
            0x86dd => v6(body)?,
            0x0806 => Self {
                source: address(body.get(14..18)?),
                destination: address(body.get(24..28)?),
                ..other("ARP".into())
            },
            kind => other(format!("{kind:#06x}")),
        })
    }
}

fn v4(body: &[u8]) -> Option<Tuple> {
    let header = usize::from(body.first()? & 0x0f) * 4;
    // A later fragment has no header of the next protocol (RFC 791 §3.1).
    let first = word(body, 6)? & 0x1fff == 0;
    let rest = body.get(header..).filter(|_| first).unwrap_or_default();
    Some(tuple(*body.get(9)?, address(body.get(12..16)?), address(body.get(16..20)?), rest))
}

fn v6(body: &[u8]) -> Option<Tuple> {
    let (mut next, mut at) = (*body.get(6)?, 40);
    // Hop-by-hop, routing, destination options; a fragment header is as long as they are at least (RFC 8200 §4).
    let mut first = true;
    while matches!(next, 0 | 43 | 44 | 60) && first {
        let Some(header) = body.get(at..at + 8) else { break };
        first = next != 44 || word(header, 2)? & 0xfff8 == 0;
        at += if next == 44 { 8 } else { 8 * (1 + usize::from(header[1])) };
        next = header[0];
    }
    let rest = body.get(at..).filter(|_| first).unwrap_or_default();
    Some(tuple(next, address(body.get(8..24)?), address(body.get(24..40)?), rest))
}

fn tuple(number: u8, source: Option<IpAddr>, destination: Option<IpAddr>, rest: &[u8]) -> Tuple {
    let known = Protocol::ALL.into_iter().find(|protocol| protocol.number() == number);
    let icmp = matches!(number, 1 | 58).then(|| Some((*rest.first()?, *rest.get(1)?))).flatten();
    let protocol = match (known, number) {
        (Some(protocol), _) => protocol.to_string(),
        (None, 1) => "ICMP".into(),
        (None, 58) => "ICMPv6".into(),
        (None, number) => number.to_string(),
    };
    let ports = known.and_then(|_| Some((word(rest, 0)?, word(rest, 2)?)));
    Tuple { protocol, source, destination, ports, icmp }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &kind.to_be_bytes(), body].concat()
    }

    #[test]
    fn tuples_are_read_where_they_are() {
        let mut v4 =
            vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80];
        let tcp = Tuple::of(&frame(0x0800, &v4)).unwrap();
        assert_eq!((tcp.protocol.as_str(), tcp.ports), ("TCP", Some((0x1234, 80))));
        assert_eq!(tcp.source, Some([10, 0, 0, 1].into()));
        let tagged = [&[0; 12][..], &[0x81, 0, 0, 5], &frame(0x0800, &v4)[12..]].concat();
        assert_eq!(Tuple::of(&tagged), Some(tcp));
        // A later fragment.
        v4[7] = 9;
        assert_eq!(Tuple::of(&frame(0x0800, &v4)).unwrap().ports, None);

        let mut v6 = vec![0x60, 0, 0, 0, 0, 16, 0, 64];
        v6.extend([0xfd; 32]);
        v6.extend([58, 0, 5, 2, 0, 0, 0, 0, 135, 0]);
        let nd = Tuple::of(&frame(0x86dd, &v6)).unwrap();
        assert_eq!((nd.protocol.as_str(), nd.icmp), ("ICMPv6", Some((135, 0))));
        let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2; 6], &[10, 0, 0, 1], &[0; 6], &[10, 0, 0, 9]].concat();
        let arp = Tuple::of(&frame(0x0806, &arp)).unwrap();
        assert_eq!((arp.protocol.as_str(), arp.destination), ("ARP", Some([10, 0, 0, 9].into())));
        assert_eq!(Tuple::of(&frame(0x88cc, &[])).unwrap().protocol, "0x88cc");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_not(kind in prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8100]), body: Vec<u8>) {
            let _ = Tuple::of(&frame(kind, &body));
        }
    }
}
