//! Matches for the headers that the pipeline reads, in both families.

use std::net::IpAddr;

use network::{Cidr, Protocol};
use openflow::{Field, Match};

/// Ethernet types (IEEE 802 numbers).
pub(crate) const ETH_IPV4: u16 = 0x0800;
pub(crate) const ETH_ARP: u16 = 0x0806;
pub(crate) const ETH_IPV6: u16 = 0x86dd;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Every packet of the family.
    pub(crate) fn any(self) -> Match {
        Match::new().with(
            Field::ETH_TYPE,
            match self {
                Self::V4 => ETH_IPV4,
                Self::V6 => ETH_IPV6,
            },
        )
    }
}

/// Which address of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    Source,
    Destination,
}

/// Adds an address to a match of its family.
pub(crate) fn with_address(match_: Match, end: End, address: IpAddr) -> Match {
    with_prefix(match_, end, &Cidr::host(address))
}

/// Adds a prefix to a match of its family.
pub(crate) fn with_prefix(match_: Match, end: End, prefix: &Cidr) -> Match {
    let field = match (end, prefix.is_ipv4()) {
        (End::Source, true) => Field::IPV4_SRC,
        (End::Destination, true) => Field::IPV4_DST,
        (End::Source, false) => Field::IPV6_SRC,
        (End::Destination, false) => Field::IPV6_DST,
    };
    let width = u32::from(field.width_bits());
    let free = width - u32::from(prefix.length());
    let all = u128::MAX >> (128 - width);
    let mask = if free >= 128 { 0 } else { all >> free << free };
    match_.with_masked(field, network::address::address_bits(prefix.address()), mask)
}

/// Packets of one address.
pub(crate) fn address(end: End, address: IpAddr) -> Match {
    with_address(Family::of(address).any(), end, address)
}

/// Packets of one prefix.
pub(crate) fn prefix(end: End, prefix: &Cidr) -> Match {
    with_prefix(Family::of(prefix.address()).any(), end, prefix)
}

/// Packets of a transport protocol.
pub(crate) fn transport(family: Family, protocol: Protocol) -> Match {
    family.any().with(Field::IP_PROTO, protocol.number())
}

/// Tracked fragments of packets of a transport protocol, to be told apart by their connection's tuple. `ct_tp_dst` asks for
/// another flag beside `+trk` (ovs-fields(7)).
pub(crate) fn fragment(family: Family, protocol: Protocol) -> Match {
    let any = family.any().with_masked(Field::IP_FRAG, 1u8, 1u8);
    with_state(any, 0, ct_state::INV).with(Field::CT_NW_PROTO, protocol.number())
}

/// The destination port's field.
pub(crate) fn port_field(protocol: Protocol) -> Field {
    match protocol {
        Protocol::Tcp => Field::TCP_DST,
        Protocol::Udp => Field::UDP_DST,
        Protocol::Sctp => Field::SCTP_DST,
    }
}

/// Bits of `ct_state` (ovs-fields(7)).
pub(crate) mod ct_state {
    pub(crate) const NEW: u32 = 0x01;
    pub(crate) const EST: u32 = 0x02;
    pub(crate) const REL: u32 = 0x04;
    pub(crate) const RPL: u32 = 0x08;
    pub(crate) const INV: u32 = 0x10;
    pub(crate) const TRK: u32 = 0x20;
}

/// Adds flags of the connection: those that must be set, and those that must not.
pub(crate) fn with_state(match_: Match, set: u32, unset: u32) -> Match {
    match_.with_masked(Field::CT_STATE, ct_state::TRK | set, ct_state::TRK | set | unset)
}
