//! A packet as the simulator sees it, and the connections that were committed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use network::{Mac, Protocol};
use openflow::{Action, Field, Nat, NatKind, Subfield};

use crate::packet::{ETH_IPV4, ETH_IPV6, ct_state, port_field};
use crate::register::{QUESTION, translated_from};

/// Header fields, registers and metadata; what is not there is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    fields: Vec<(Field, u128)>,
    related: Option<Tuple>,
    /// The entry that connection tracking found or made for it, by zone and original tuple.
    entry: Option<(u16, Tuple)>,
}

impl Packet {
    /// The first packet of a connection: for TCP a SYN.
    pub fn first(source: IpAddr, destination: IpAddr, protocol: Protocol, port: u16) -> Self {
        let mut packet = Self::ip(source, destination, protocol.number());
        let source_port = match protocol {
            Protocol::Tcp => Field::TCP_SRC,
            Protocol::Udp => Field::UDP_SRC,
            Protocol::Sctp => Field::SCTP_SRC,
        };
        packet.set(source_port, 40_000);
        packet.set(port_field(protocol), u128::from(port));
        if protocol == Protocol::Tcp {
            packet.set(Field::TCP_FLAGS, 0x002);
        }
        packet
    }

    /// An echo request.
    pub fn echo(source: IpAddr, destination: IpAddr) -> Self {
        let (protocol, field, kind) =
            if source.is_ipv4() { (1, Field::ICMPV4_TYPE, 8) } else { (58, Field::ICMPV6_TYPE, 128) };
        let mut packet = Self::ip(source, destination, protocol);
        packet.set(field, kind);
        packet
    }

    fn ip(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        let mut packet = Self::default();
        let ipv4 = source.is_ipv4();
        let (eth_type, src, dst) = if ipv4 {
            (ETH_IPV4, Field::IPV4_SRC, Field::IPV4_DST)
        } else {
            (ETH_IPV6, Field::IPV6_SRC, Field::IPV6_DST)
        };
        packet.set(Field::ETH_TYPE, u128::from(eth_type));
        packet.set(src, network::address::address_bits(source));
        packet.set(dst, network::address::address_bits(destination));
        packet.set(Field::IP_PROTO, u128::from(protocol));
        packet.set(Field::IP_TTL, 64);
        packet
    }

    /// With Ethernet addresses.
    #[must_use]
    pub fn ethernet(mut self, source: Mac, destination: Mac) -> Self {
        self.set(Field::ETH_SRC, u128::from(source.to_bits()));
        self.set(Field::ETH_DST, u128::from(destination.to_bits()));
        self
    }

    /// A later packet of the connection: for TCP an ACK.
    #[must_use]
    pub fn later(mut self) -> Self {
        if self.get(Field::IP_PROTO) == u128::from(Protocol::Tcp.number()) {
            self.set(Field::TCP_FLAGS, 0x010);
        }
        self
    }

    /// The packet that answers this one.
    #[must_use]
    pub fn reply(&self) -> Self {
        let mut reply = self.clone();
        for (a, b) in [
            (Field::ETH_SRC, Field::ETH_DST),
            (Field::IPV4_SRC, Field::IPV4_DST),
            (Field::IPV6_SRC, Field::IPV6_DST),
            (Field::TCP_SRC, Field::TCP_DST),
            (Field::UDP_SRC, Field::UDP_DST),
            (Field::SCTP_SRC, Field::SCTP_DST),
        ] {
            reply.set(a, self.get(b));
            reply.set(b, self.get(a));
        }
        reply.forget_metadata();
        reply.later()
    }

    /// The agent's question whether policy still allows this packet's connection.
    #[must_use]
    pub fn question(&self) -> Self {
        let mut question = self.clone();
        question.forget_metadata();
        question.set(QUESTION.bits.field, QUESTION.bits.mask());
        question
    }

    /// The same about a connection to a Service, which gave this packet's connection to whom `arrived` is addressed to.
    #[must_use]
    pub fn question_given_to(&self, arrived: &Self) -> Self {
        let (asked, given) = (Tuple::of(self), Tuple::of(arrived));
        let mut question = self.question();
        let (destination, destination_port) = (given.destination, given.destination_port);
        if let Some(address) = self.destination()
            && (asked.destination, asked.destination_port) != (destination, destination_port)
        {
            for action in translated_from((address, asked.destination_port).into()) {
                if let Action::RegLoad { dst, value } = action {
                    question.load(dst, u128::from(value));
                }
            }
            question.rewrite(&Tuple { destination, destination_port, ..asked });
        }
        question
    }

    /// Marks this packet as an ICMP error about another.
    #[must_use]
    pub fn about(mut self, other: &Self) -> Self {
        self.related = Some(Tuple::of(other));
        self
    }

    pub(super) fn related(&self) -> Option<&Tuple> {
        self.related.as_ref()
    }

    /// The original tuple of its entry in a zone: its own where it has none yet.
    pub(super) fn original(&self, zone: u16) -> Tuple {
        match &self.entry {
            Some((known, tuple)) if *known == zone => tuple.clone(),
            _ => Tuple::of(self),
        }
    }

    pub(super) fn remember(&mut self, zone: u16, original: Tuple) {
        self.entry = Some((zone, original));
    }

    /// Writes a tuple's addresses and ports into the headers.
    pub(super) fn rewrite(&mut self, tuple: &Tuple) {
        let ipv4 = self.get(Field::ETH_TYPE) == u128::from(ETH_IPV4);
        let (source, destination) =
            if ipv4 { (Field::IPV4_SRC, Field::IPV4_DST) } else { (Field::IPV6_SRC, Field::IPV6_DST) };
        self.set(source, tuple.source);
        self.set(destination, tuple.destination);
        let ports = match tuple.protocol {
            6 => (Field::TCP_SRC, Field::TCP_DST),
            17 => (Field::UDP_SRC, Field::UDP_DST),
            _ => return,
        };
        self.set(ports.0, tuple.source_port.into());
        self.set(ports.1, tuple.destination_port.into());
    }

    /// What a packet does not carry over a wire: registers, connection state, tunnel metadata.
    pub(super) fn forget_metadata(&mut self) {
        let keep = [
            Field::ETH_SRC,
            Field::ETH_DST,
            Field::ETH_TYPE,
            Field::IPV4_SRC,
            Field::IPV4_DST,
            Field::IPV6_SRC,
            Field::IPV6_DST,
            Field::IP_PROTO,
            Field::IP_TTL,
            Field::TCP_SRC,
            Field::TCP_DST,
            Field::UDP_SRC,
            Field::UDP_DST,
            Field::SCTP_SRC,
            Field::SCTP_DST,
            Field::TCP_FLAGS,
            Field::ICMPV4_TYPE,
            Field::ICMPV4_CODE,
            Field::ICMPV6_TYPE,
            Field::ICMPV6_CODE,
            Field::ND_TARGET,
            Field::ND_SLL,
            Field::ND_TLL,
            Field::ARP_OP,
            Field::ARP_SPA,
            Field::ARP_TPA,
            Field::ARP_SHA,
            Field::ARP_THA,
        ];
        self.fields.retain(|(field, _)| keep.contains(field));
        self.entry = None;
    }

    /// The source address of an IP packet.
    pub fn source(&self) -> Option<IpAddr> {
        self.address(Field::IPV4_SRC, Field::IPV6_SRC)
    }

    /// The destination address of an IP packet.
    pub fn destination(&self) -> Option<IpAddr> {
        self.address(Field::IPV4_DST, Field::IPV6_DST)
    }

    fn address(&self, ipv4: Field, ipv6: Field) -> Option<IpAddr> {
        match self.get(Field::ETH_TYPE) as u16 {
            ETH_IPV4 => Some(IpAddr::V4((self.get(ipv4) as u32).into())),
            ETH_IPV6 => Some(IpAddr::V6(self.get(ipv6).into())),
            _ => None,
        }
    }

    /// A field's value.
    pub fn get(&self, field: Field) -> u128 {
        self.fields.iter().find(|(known, _)| *known == field).map_or(0, |(_, value)| *value)
    }

    /// Some bits of a field, right-aligned.
    pub(super) fn bits(&self, bits: Subfield) -> u128 {
        (self.get(bits.field) & bits.mask()) >> bits.start_bit
    }

    /// Sets some bits of a field to a value that is right-aligned.
    pub(super) fn load(&mut self, dst: Subfield, value: u128) {
        let old = self.get(dst.field);
        self.set(dst.field, old & !dst.mask() | value << dst.start_bit & dst.mask());
    }

    /// Sets a field.
    pub fn set(&mut self, field: Field, value: u128) {
        match self.fields.iter_mut().find(|(known, _)| *known == field) {
            Some(slot) => slot.1 = value,
            None => self.fields.push((field, value)),
        }
    }
}

/// What tells connections apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    source: u128,
    destination: u128,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

impl Tuple {
    /// A packet's tuple. SCTP has no ports here: the userspace datapath tracks it without them.
    pub fn of(packet: &Packet) -> Self {
        let protocol = packet.get(Field::IP_PROTO) as u8;
        let (source_port, destination_port) = match protocol {
            6 => (packet.get(Field::TCP_SRC), packet.get(Field::TCP_DST)),
            17 => (packet.get(Field::UDP_SRC), packet.get(Field::UDP_DST)),
            _ => (0, 0),
        };
        let ipv4 = packet.get(Field::ETH_TYPE) == u128::from(ETH_IPV4);
        let (source, destination) =
            if ipv4 { (Field::IPV4_SRC, Field::IPV4_DST) } else { (Field::IPV6_SRC, Field::IPV6_DST) };
        Self {
            source: packet.get(source),
            destination: packet.get(destination),
            protocol,
            source_port: source_port as u16,
            destination_port: destination_port as u16,
        }
    }

    /// With another end.
    pub(super) fn translated(&self, nat: &Nat) -> Self {
        let range = &nat.range;
        let address = range.ipv4_min.map(IpAddr::V4).or(range.ipv6_min.map(IpAddr::V6));
        let mut tuple = self.clone();
        let source = nat.kind == Some(NatKind::Src);
        if let Some(address) = address.map(network::address::address_bits) {
            *(if source { &mut tuple.source } else { &mut tuple.destination }) = address;
        }
        if let Some(port) = range.port_min {
            *(if source { &mut tuple.source_port } else { &mut tuple.destination_port }) = port;
        }
        tuple
    }

    fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

/// What one node's switch remembers: committed connections by zone and original tuple, and learned flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    entries: BTreeMap<(u16, Tuple), Entry>,
    /// From the tuple that replies have to the original one.
    replies: BTreeMap<(u16, Tuple), Tuple>,
    pub(super) learned: Vec<Learned>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mark: u32,
    /// Its packets in the original direction as they leave: the tuple itself where nothing is translated.
    translated: Tuple,
}

/// What was found of a packet.
pub(super) struct Found {
    /// Flags of `ct_state`.
    pub(super) state: u32,
    /// The entry's mark.
    pub(super) mark: u32,
    /// The entry, where there is one.
    pub(super) original: Option<Tuple>,
    /// What the packet's tuple becomes when the zone translates.
    pub(super) becomes: Option<Tuple>,
}

/// A flow that a packet made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Learned {
    pub(super) table: u8,
    pub(super) match_: Vec<(Subfield, u128)>,
    pub(super) loads: Vec<(Subfield, u128)>,
}

impl Learned {
    pub(super) fn matches(&self, packet: &Packet) -> bool {
        self.match_.iter().all(|(bits, value)| packet.bits(*bits) == *value)
    }
}

impl Conntrack {
    /// How many connections.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn look_up(&self, zone: u16, tuple: &Tuple, about: Option<&Tuple>) -> Found {
        let found = |state, mark, original: Option<&Tuple>, becomes| Found {
            state,
            mark,
            original: original.cloned(),
            becomes,
        };
        if let Some(about) = about {
            let key = |tuple: &Tuple| (zone, tuple.clone());
            let original = [about.clone(), about.reversed()].into_iter().find_map(|tuple| {
                if self.entries.contains_key(&key(&tuple)) {
                    return Some(tuple);
                }
                self.replies.get(&key(&tuple)).cloned()
            });
            if let Some((original, entry)) =
                original.and_then(|original| Some((original.clone(), self.entries.get(&key(&original))?)))
            {
                return found(ct_state::REL, entry.mark, Some(&original), None);
            }
        }
        if let Some(entry) = self.entries.get(&(zone, tuple.clone())) {
            let becomes = Some(entry.translated.clone());
            return found(ct_state::EST, entry.mark, Some(tuple), becomes);
        }
        let original = self.replies.get(&(zone, tuple.clone()));
        match original.and_then(|original| Some((original, self.entries.get(&(zone, original.clone()))?))) {
            Some((original, entry)) => {
                let state = ct_state::EST | ct_state::RPL;
                found(state, entry.mark, Some(original), Some(original.reversed()))
            }
            None => found(ct_state::NEW, 0, None, None),
        }
    }

    pub(super) fn mark(&self, zone: u16, tuple: &Tuple) -> u32 {
        self.entries.get(&(zone, tuple.clone())).map_or(0, |entry| entry.mark)
    }

    /// Enters a connection, or changes the mark of one; gives its translation. Only a new one is translated anew.
    pub(super) fn commit(&mut self, zone: u16, tuple: Tuple, mark: u32, translated: Tuple) -> Tuple {
        match self.entries.get_mut(&(zone, tuple.clone())) {
            Some(entry) => {
                entry.mark = mark;
                entry.translated.clone()
            }
            None => {
                self.replies.insert((zone, translated.reversed()), tuple.clone());
                self.entries.insert((zone, tuple), Entry { mark, translated: translated.clone() });
                translated
            }
        }
    }
}
