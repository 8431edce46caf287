//! An address block with holes as prefixes, and a port range as masked ports: the cheapest exact covers.

use network::{Cidr, IpBlock};

/// The prefixes that together hold exactly the block's addresses. At most `limit` of them: holes multiply (three IPv6
/// holes are some 380 prefixes), and a caller wants to refuse before memory is gone.
pub(crate) fn cover(block: &IpBlock, limit: usize) -> Option<Vec<Cidr>> {
    let mut cover = Vec::new();
    let holes: Vec<Cidr> = block.except.iter().copied().collect();
    descend(block.cidr, &holes, limit, &mut cover).then_some(cover)
}

fn descend(prefix: Cidr, holes: &[Cidr], limit: usize, cover: &mut Vec<Cidr>) -> bool {
    if holes.iter().any(|hole| hole.covers(&prefix)) {
        return true;
    }
    let inside: Vec<Cidr> = holes.iter().copied().filter(|hole| prefix.covers(hole)).collect();
    if inside.is_empty() {
        cover.push(prefix);
        return cover.len() <= limit;
    }
    // A single address is either covered by a hole or has none inside, so there are halves.
    prefix.halves().is_none_or(|halves| halves.into_iter().all(|half| descend(half, &inside, limit, cover)))
}

/// A port and the bits of it that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MaskedPort {
    pub(crate) port: u16,
    pub(crate) mask: u16,
}

/// The masked ports that together mean exactly `first..=last`; at most 30.
pub(crate) fn masked_ports(first: u16, last: u16) -> Vec<MaskedPort> {
    let mut ports = Vec::new();
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    while next < end {
        // The largest aligned block that starts here and does not pass the end.
        let aligned = if next == 0 { 16 } else { next.trailing_zeros() };
        let fits = (end - next).ilog2();
        let size = 1u32 << aligned.min(fits);
        ports.push(MaskedPort { port: next as u16, mask: !(size - 1) as u16 });
        next += size;
    }
    ports
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn block(cidr: &str, except: &[&str]) -> IpBlock {
        IpBlock { cidr: cidr.parse().unwrap(), except: except.iter().map(|e| e.parse().unwrap()).collect() }
    }

    #[test]
    fn a_hole_costs_one_prefix_per_bit() {
        let cover = cover(&block("10.0.0.0/8", &["10.1.0.0/16"]), 1000).unwrap();
        assert_eq!(cover.len(), 8);
        assert_eq!(super::cover(&block("10.0.0.0/8", &["10.0.0.0/8"]), 9), Some(vec![]));
        assert_eq!(super::cover(&block("::/0", &["::1/128", "ff00::1/128", "8000::1/128"]), 100), None);
    }

    proptest! {
        #[test]
        fn a_cover_holds_exactly_the_block(
            length in 20u8..=32, bits: u32, holes in prop::collection::vec((0u32..4096, 22u8..=32), 0..5), probe in 0u32..4096,
        ) {
            let cidr = Cidr::new(std::net::Ipv4Addr::from(bits).into(), length).unwrap();
            let base = network::address::address_bits(cidr.address()) as u32;
            let except: BTreeSet<Cidr> = holes.iter()
                .map(|(offset, length)| Cidr::new(std::net::Ipv4Addr::from(base | offset).into(), *length).unwrap())
                .filter(|hole| cidr.covers(hole))
                .collect();
            let block = IpBlock { cidr, except };
            let cover = cover(&block, 100_000).unwrap();
            let address = std::net::IpAddr::V4((base.wrapping_add(probe)).into());
            let covered = cover.iter().filter(|prefix| prefix.contains(address)).count();
            prop_assert_eq!(covered, usize::from(block.contains(address)));
        }

        #[test]
        fn masked_ports_mean_exactly_the_range(a: u16, b: u16, probe: u16) {
            let (first, last) = (a.min(b), a.max(b));
            let ports = masked_ports(first, last);
            prop_assert!(ports.len() <= 30);
            for port in [probe, first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                let hits = ports.iter().filter(|m| port & m.mask == m.port).count();
                prop_assert_eq!(hits, usize::from((first..=last).contains(&port)), "{}", port);
            }
        }
    }
}
