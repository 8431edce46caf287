//! What clauses are made of: sets of addresses, address blocks, port lists; and the matches that each of them stands for. A
//! part stands once in a stage however many rules name it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use network::{Cidr, IpBlock, PortRange, Protocol, SetId};
use openflow::Match;

use super::prefixes::{cover, masked_ports};
use crate::packet::{End, Family, port_field, prefix, transport};

/// Something that a clause names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// The local members of a set, as subject.
    Subject(SetId),
    /// The members of a set, at the other end.
    Set(SetId),
    /// An address block, at the other end.
    Block(IpBlock),
    /// Destination ports, in both families.
    Ports(BTreeSet<PortRange>),
}

/// Who is in the sets that parts name.
pub(crate) trait Members {
    /// The local members of a subject set.
    fn subject(&self, set: SetId) -> &BTreeSet<IpAddr>;
    /// The members of a set.
    fn each(&self, set: SetId, take: &mut dyn FnMut(IpAddr));
    /// How many members a set has.
    fn count(&self, set: SetId) -> usize;
    /// Whether an address is in a set.
    fn contains(&self, set: SetId, address: IpAddr) -> bool;
}

/// A match of a clause, small: what the match says, and whether of the subject or of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Narrow {
    what: What,
    /// Prefix length of an address in bits, or number of the protocol.
    detail: u8,
    /// The address, or the port and its mask.
    bits: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum What {
    Subject(Family),
    Other(Family),
    Port(Family),
}

impl Narrow {
    /// A local pod.
    pub(crate) fn subject(address: IpAddr) -> Self {
        Self::prefix(What::Subject(Family::of(address)), &Cidr::host(address))
    }

    /// An address at the other end.
    pub(crate) fn other(address: IpAddr) -> Self {
        Self::prefix(What::Other(Family::of(address)), &Cidr::host(address))
    }

    fn prefix(what: What, prefix: &Cidr) -> Self {
        let bits = network::address::address_bits(prefix.address()).to_be_bytes();
        Self { what, detail: prefix.length(), bits }
    }

    fn port(family: Family, protocol: Protocol, port: u16, mask: u16) -> Self {
        let mut bits = [0; 16];
        bits[..2].copy_from_slice(&port.to_be_bytes());
        bits[2..4].copy_from_slice(&mask.to_be_bytes());
        Self { what: What::Port(family), detail: protocol.number(), bits }
    }

    /// Whether it is about ports.
    pub(crate) fn is_port(&self) -> bool {
        matches!(self.what, What::Port(_))
    }

    /// The address, when this is a single one at the other end.
    pub(crate) fn other_address(&self) -> Option<IpAddr> {
        match (self.what, self.detail) {
            (What::Other(Family::V4), 32) | (What::Other(Family::V6), 128) => Some(self.address()),
            _ => None,
        }
    }

    fn address(&self) -> IpAddr {
        let bits = u128::from_be_bytes(self.bits);
        match self.what {
            What::Subject(Family::V4) | What::Other(Family::V4) => IpAddr::V4((bits as u32).into()),
            _ => IpAddr::V6(bits.into()),
        }
    }

    /// The match, where the subject is at this end of a packet.
    pub(crate) fn to_match(self, subject: End) -> Match {
        let other = if subject == End::Source { End::Destination } else { End::Source };
        let end = match self.what {
            What::Subject(_) => subject,
            What::Other(_) => other,
            What::Port(family) => return self.port_match(family),
        };
        // The length came from a prefix of this family.
        Cidr::new(self.address(), self.detail).map_or_else(|_| Match::new(), |range| prefix(end, &range))
    }

    fn port_match(self, family: Family) -> Match {
        let number = |at: usize| u16::from_be_bytes([self.bits[at], self.bits[at + 1]]);
        let Some(protocol) = Protocol::ALL.into_iter().find(|p| p.number() == self.detail) else {
            return family.any();
        };
        let any = transport(family, protocol);
        any.with_masked(port_field(protocol), number(0), number(2))
    }
}

impl Part {
    /// Every match of this part.
    pub(crate) fn each(&self, members: &dyn Members, mut take: impl FnMut(Narrow)) {
        match self {
            Self::Subject(set) => members.subject(*set).iter().for_each(|own| take(Narrow::subject(*own))),
            Self::Set(set) => members.each(*set, &mut |member| take(Narrow::other(member))),
            Self::Block(block) => {
                for part in cover(block, usize::MAX).unwrap_or_default() {
                    take(Narrow::prefix(What::Other(Family::of(part.address())), &part));
                }
            }
            Self::Ports(ranges) => each_port(ranges, take),
        }
    }

    /// Those of `touched` that are of this part.
    pub(crate) fn each_of(
        &self,
        members: &dyn Members,
        touched: &BTreeSet<Narrow>,
        mut take: impl FnMut(Narrow),
    ) {
        match self {
            // To ask for each is cheaper than to go through all, while few are touched.
            Self::Set(set) if touched.len() < members.count(*set) / 4 => {
                for narrow in touched {
                    if narrow.other_address().is_some_and(|address| members.contains(*set, address)) {
                        take(*narrow);
                    }
                }
            }
            _ => self.each(members, |narrow| {
                if touched.contains(&narrow) {
                    take(narrow);
                }
            }),
        }
    }

    /// How many matches at most; `None` for more than `limit`.
    pub(crate) fn count(&self, members: &dyn Members, limit: usize) -> Option<usize> {
        let count = match self {
            Self::Subject(set) => members.subject(*set).len(),
            Self::Set(set) => members.count(*set),
            Self::Block(block) => block_count(block, limit)?,
            Self::Ports(ranges) => ports_count(ranges),
        };
        (count <= limit).then_some(count)
    }
}

/// How many prefixes a block comes to; `None` for more than `limit`.
pub(super) fn block_count(block: &IpBlock, limit: usize) -> Option<usize> {
    if block.except.is_empty() { Some(1) } else { Some(cover(block, limit)?.len()) }
}

/// How many matches a list of ports comes to.
pub(super) fn ports_count(ranges: &BTreeSet<PortRange>) -> usize {
    let mut count = 0;
    each_port(ranges, |_| count += 1);
    count
}

fn each_port(ranges: &BTreeSet<PortRange>, mut take: impl FnMut(Narrow)) {
    for protocol in Protocol::ALL {
        let own = ranges.iter().filter(|range| range.protocol == protocol);
        for port in masked_ports(own.map(|range| (range.first, range.last))) {
            for family in Family::BOTH {
                take(Narrow::port(family, protocol, port.port, port.mask));
            }
        }
    }
}
