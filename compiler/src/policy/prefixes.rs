//! An address block with holes as prefixes, and port ranges as masked ports: exact covers, and the cheapest of their class,
//! which is prefixes of which none lies above another. (Masks with holes could do with fewer, at most half as many for a
//! range; but their matches would overlap, and a switch may then find either.)

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

/// The masked ports that together mean exactly these ranges, of which any may overlap or touch: at most 30 for one range. A
/// mask keeps the leading bits of a port, as a prefix does of an address; there is no smaller list of such.
pub(crate) fn masked_ports(ranges: impl Iterator<Item = (u16, u16)>) -> Vec<MaskedPort> {
    let mut ranges: Vec<(u16, u16)> = ranges.collect();
    ranges.sort_unstable();
    // What touches is one range: masks may span both.
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        let (first, end) = (u32::from(first), u32::from(last) + 1);
        match runs.last_mut() {
            Some(run) if run.1 >= first => run.1 = run.1.max(end),
            _ => runs.push((first, end)),
        }
    }
    let mut ports = Vec::new();
    for (mut next, end) in runs {
        while next < end {
            // The largest aligned block that starts here and does not pass the end.
            let aligned = if next == 0 { 16 } else { next.trailing_zeros() };
            let fits = (end - next).ilog2();
            let size = 1u32 << aligned.min(fits);
            ports.push(MaskedPort { port: next as u16, mask: !(size - 1) as u16 });
            next += size;
        }
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

    /// The fewest prefixes of a universe of 16 that cover exactly the wanted ones: by going through all sets of covered
    /// numbers, one prefix after the other. Knows nothing of tries and alignment.
    fn fewest(wanted: u16) -> usize {
        let prefixes: Vec<u16> = (0..=4)
            .flat_map(|size| {
                (0..16 >> size).map(move |place| (((1u32 << (1 << size)) - 1) << (place << size)) as u16)
            })
            .filter(|prefix| prefix & !wanted == 0)
            .collect();
        let (mut reached, mut seen) = (vec![0u16], std::collections::HashSet::from([0u16]));
        for count in 0.. {
            if reached.contains(&wanted) {
                return count;
            }
            let further =
                reached.iter().flat_map(|covered| prefixes.iter().map(move |prefix| covered | prefix));
            reached = further.filter(|covered| seen.insert(*covered)).collect();
        }
        unreachable!("single numbers are prefixes")
    }

    #[test]
    fn no_range_of_ports_has_a_smaller_cover() {
        for first in 0..16u16 {
            for last in first..16 {
                let fewest = fewest((first..=last).fold(0, |set, number| set | 1 << number));
                // Among the lowest bits of a port, and among the highest.
                let low = masked_ports([(0x1230 + first, 0x1230 + last)].into_iter());
                let high = masked_ports([(first << 12, last << 12 | 0xfff)].into_iter());
                assert_eq!((low.len(), high.len()), (fewest, fewest), "{first} to {last}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_list_of_ranges_and_no_block_with_holes_has_a_smaller_cover(wanted: u16) {
            let numbers: Vec<u16> = (0..16).filter(|number| wanted & 1 << number != 0).collect();
            let singles = numbers.iter().map(|number| (0x1230 + number, 0x1230 + number));
            prop_assert_eq!(masked_ports(singles).len(), fewest(wanted));
            let holes = (0..16u8).filter(|number| wanted & 1 << number == 0);
            let except = holes.map(|number| Cidr::host([10, 0, 0, 16 + number].into())).collect();
            let block = IpBlock { cidr: "10.0.0.16/28".parse().unwrap(), except };
            prop_assert_eq!(cover(&block, 100).unwrap().len(), fewest(wanted));
        }
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
            let ports = masked_ports([(first, last)].into_iter());
            prop_assert!(ports.len() <= 30);
            for port in [probe, first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                let hits = ports.iter().filter(|m| port & m.mask == m.port).count();
                prop_assert_eq!(hits, usize::from((first..=last).contains(&port)), "{}", port);
            }
        }
    }
}
