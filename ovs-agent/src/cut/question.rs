//! The question whether policy still allows a connection, as a packet for the switch: it has the connection's tuple in its
//! original direction, comes from where its sender is, and carries the mark that keeps it from going anywhere. Of a connection
//! to a Service it is addressed to the endpoint, and carries whom the client asked. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::Bytes;
use compiler::register::{QUESTION, VNI, translated_from};
use network::{Cidr, Mac};
use openflow::message::PacketOut;
use openflow::{Action, BufferId, Field, PortNo, TableId};

use super::connection::{Connection, Discriminator};

/// Where packets of an address come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// The pods here.
    pub pods: BTreeMap<IpAddr, (PortNo, Mac)>,
    /// This node's own addresses.
    pub own: BTreeSet<IpAddr>,
    /// The other nodes: their addresses and pod ranges, and the outer source of what they send.
    pub nodes: Vec<(Cidr, IpAddr)>,
    /// The way in from the host, and through it from outside.
    pub gateway: Option<PortNo>,
    /// The tunnel.
    pub tunnel: Option<PortNo>,
}

/// Asks about one connection; `None` when it cannot be asked about: the port that its packets came by is gone, so no more of
/// them come, or the switch tracks the protocol without its ports.
pub fn question(connection: &Connection, senders: &Senders) -> Option<PacketOut> {
    let source = connection.source;
    let local = senders.pods.get(&source).copied();
    let remote = senders.nodes.iter().find(|(range, _)| range.contains(source)).map(|(_, outer)| *outer);
    let mut actions = vec![QUESTION.load(1)];
    let mut judged = *connection;
    if let (Discriminator::Ports { source, destination }, Some(port)) =
        (connection.discriminator, connection.answerer_port)
        && (connection.answerer, port) != (connection.destination, destination)
    {
        actions.extend(translated_from((connection.destination, destination).into()));
        judged.destination = connection.answerer;
        judged.discriminator = Discriminator::Ports { source, destination: port };
    }
    let (in_port, mac) = match (local, remote) {
        (Some(local), _) => local,
        (None, Some(outer)) if !senders.own.contains(&source) => {
            actions.push(match outer {
                IpAddr::V4(outer) => Action::set_field(Field::TUN_SRC, outer),
                IpAddr::V6(outer) => Action::set_field(Field::TUN_IPV6_SRC, outer),
            });
            actions.push(Action::set_field(Field::TUN_ID, VNI));
            (senders.tunnel?, Mac::ROUTER)
        }
        (None, _) => (senders.gateway?, Mac::ROUTER),
    };
    actions.push(Action::Resubmit { port: PortNo::IN_PORT, table: Some(TableId(0)), ct: false });
    let data = frame(mac, &judged, 0)?;
    Some(PacketOut { buffer_id: BufferId::NONE, in_port, actions, data: Bytes::from(data) })
}

/// The first packet of a connection as it comes in by a port, to go wherever the flows send it. UDP is made as long as `length`
/// (of the whole packet in bytes, 0 for as short as can be), not to be fragmented.
pub fn probe(
    (source, destination): (IpAddr, IpAddr),
    protocol: u8,
    discriminator: Discriminator,
    (in_port, mac): (PortNo, Mac),
    length: u16,
) -> Option<PacketOut> {
    let headers = if source.is_ipv4() { 28 } else { 48 };
    let connection = Connection {
        protocol,
        source,
        destination,
        discriminator,
        answerer: destination,
        answerer_port: None,
        zone: 0,
        mark: 0,
        is_over: false,
    };
    let actions = vec![Action::Resubmit { port: PortNo::IN_PORT, table: Some(TableId(0)), ct: false }];
    let data = Bytes::from(frame(mac, &connection, length.saturating_sub(headers))?);
    Some(PacketOut { buffer_id: BufferId::NONE, in_port, actions, data })
}

/// TCP: a SYN, which is valid on both datapaths whatever the connection's state is and changes nothing of it.
const SYN: u8 = 0x02;

/// RFC 791 §3.1.
const DONT_FRAGMENT: u16 = 0x4000;

fn frame(mac: Mac, connection: &Connection, padding: u16) -> Option<Vec<u8>> {
    let (source, destination) = (connection.source, connection.destination);
    let mut payload: Vec<u8> = Vec::new();
    let mut sum_at = None;
    match (connection.protocol, connection.discriminator) {
        (6, Discriminator::Ports { source, destination }) => {
            put(&mut payload, &[source, destination]);
            payload.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0, 0, 0, 0, 0, 0]);
            sum_at = Some(16);
        }
        (17 | 136, Discriminator::Ports { source, destination }) => {
            put(&mut payload, &[source, destination, 8 + padding, 0]);
            payload.resize(8 + usize::from(padding), 0);
            sum_at = Some(6);
        }
        (1 | 58, Discriminator::Echo { id, kind, code }) => {
            payload.extend([kind, code, 0, 0]);
            put(&mut payload, &[id, 0]);
            sum_at = Some(2);
        }
        (_, Discriminator::None) => {}
        _ => return None,
    }
    if let Some(at) = sum_at {
        let pseudo = connection.protocol != 1;
        let sum = checksum(pseudo.then_some((source, destination)), connection.protocol, &payload);
        payload.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    }
    let mut frame = [&Mac::ROUTER.0[..], &mac.0].concat();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            put(&mut frame, &[0x0800]);
            let start = frame.len();
            let whole = if padding > 0 { DONT_FRAGMENT } else { 0 };
            put(&mut frame, &[0x4500, 20 + payload.len() as u16, 0, whole]);
            frame.extend([64, connection.protocol, 0, 0]);
            frame.extend(source.octets().into_iter().chain(destination.octets()));
            let sum = checksum(None, 0, frame.get(start..)?);
            frame.get_mut(start + 10..start + 12)?.copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(&mut frame, &[0x86dd, 0x6000, 0, payload.len() as u16]);
            frame.extend([connection.protocol, 64]);
            frame.extend(source.octets().into_iter().chain(destination.octets()));
        }
        _ => return None,
    }
    frame.extend(payload);
    Some(frame)
}

fn put(out: &mut Vec<u8>, words: &[u16]) {
    out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// The Internet checksum (RFC 1071), over a pseudo-header too where there is one.
fn checksum(pseudo: Option<(IpAddr, IpAddr)>, protocol: u8, data: &[u8]) -> u16 {
    let mut all = Vec::with_capacity(40 + data.len());
    if let Some((source, destination)) = pseudo {
        for address in [source, destination] {
            match address {
                IpAddr::V4(address) => all.extend(address.octets()),
                IpAddr::V6(address) => all.extend(address.octets()),
            }
        }
        put(&mut all, &[u16::from(protocol), data.len() as u16]);
    }
    all.extend(data);
    let word = |pair: &[u8]| pair.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    let mut sum: u32 = all.chunks(2).map(|pair| word(pair) << (8 * (2 - pair.len()))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        // No sum at all is what a zero means in UDP.
        0 if protocol == 17 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use compiler::register::TRANSLATED;

    use super::*;

    fn senders() -> Senders {
        Senders {
            pods: BTreeMap::from([([10, 244, 1, 2].into(), (PortNo(7), Mac([2; 6])))]),
            own: BTreeSet::from([[192, 168, 0, 1].into()]),
            nodes: vec![("10.244.2.0/24".parse().unwrap(), [192, 168, 0, 2].into())],
            gateway: Some(PortNo(1)),
            tunnel: Some(PortNo(2)),
        }
    }

    fn connection(source: [u8; 4], protocol: u8, discriminator: Discriminator) -> Connection {
        Connection {
            protocol,
            source: source.into(),
            destination: [10, 244, 1, 3].into(),
            discriminator,
            answerer: [10, 244, 1, 3].into(),
            answerer_port: None,
            zone: 1,
            mark: 0,
            is_over: false,
        }
    }

    #[test]
    fn it_comes_in_where_its_sender_is() {
        let ports = Discriminator::Ports { source: 1, destination: 2 };
        let asked = |source| question(&connection(source, 17, ports), &senders()).unwrap();
        assert_eq!(asked([10, 244, 1, 2]).in_port, PortNo(7));
        assert_eq!(asked([192, 168, 0, 1]).in_port, PortNo(1));
        assert_eq!(asked([8, 8, 8, 8]).in_port, PortNo(1));
        let remote = asked([10, 244, 2, 9]);
        assert_eq!(remote.in_port, PortNo(2));
        assert!(remote.actions.contains(&Action::set_field(Field::TUN_ID, VNI)));
        let service = Connection {
            destination: [10, 96, 0, 1].into(),
            answerer_port: Some(8080),
            ..connection([10, 244, 1, 2], 6, ports)
        };
        let translated = question(&service, &senders()).unwrap();
        for carried in translated_from(([10, 96, 0, 1], 2).into()) {
            assert!(translated.actions.contains(&carried));
        }
        assert_eq!(translated.data[30..34], [10, 244, 1, 3], "policy is asked about the endpoint");
        assert_eq!(translated.data[36..38], 8080u16.to_be_bytes());
        let plain = Connection { answerer_port: Some(2), ..connection([10, 244, 1, 2], 6, ports) };
        assert!(!question(&plain, &senders()).unwrap().actions.contains(&TRANSLATED.load(1)));
        let gone = Senders { tunnel: None, ..senders() };
        assert_eq!(question(&connection([10, 244, 2, 9], 17, ports), &gone), None);
    }

    #[test]
    fn it_has_the_tuple_and_sums_that_are_right() {
        let ports = Discriminator::Ports { source: 0x1234, destination: 80 };
        let echo = Discriminator::Echo { id: 9, kind: 8, code: 0 };
        for (protocol, discriminator, length) in
            [(6, ports, 20), (17, ports, 8), (1, echo, 8), (47, Discriminator::None, 0)]
        {
            let asked = question(&connection([10, 244, 1, 2], protocol, discriminator), &senders()).unwrap();
            let packet = &asked.data[14..];
            assert_eq!((packet.len(), packet[9]), (20 + length, protocol));
            assert_eq!(checksum(None, 0, &packet[..20]), 0);
            let (source, destination) = (IpAddr::from([10, 244, 1, 2]), IpAddr::from([10, 244, 1, 3]));
            match protocol {
                // A sum over what holds its own sum is nothing, which UDP writes as all ones.
                6 => assert_eq!(checksum(Some((source, destination)), 6, &packet[20..]), 0),
                17 => assert_eq!(checksum(Some((source, destination)), 17, &packet[20..]), 0xffff),
                1 => assert_eq!(checksum(None, 1, &packet[20..]), 0),
                _ => {}
            }
        }
        assert_eq!(question(&connection([10, 244, 1, 2], 132, ports), &senders()), None);
        let ends = (IpAddr::from([10, 244, 1, 2]), IpAddr::from([10, 244, 1, 3]));
        let long = probe(ends, 17, ports, (PortNo(7), Mac([2; 6])), 1450).unwrap();
        let packet = &long.data[14..];
        assert_eq!((packet.len(), packet[6]), (1450, 0x40));
        assert_eq!(checksum(Some(ends), 17, &packet[20..]), 0xffff);
    }
}
