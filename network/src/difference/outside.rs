//! Who is outside: one address for all those that no policy tells apart. An external address of a node stands for itself.
//! Knows no pods and no verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::address::{Cidr, address_bits, bits_address};
use crate::model::Network;
use crate::policy::IpBlock;

use super::ends::{End, Party};
use super::{Outside, Who};

/// What is not outside.
pub(super) struct Owned {
    /// Addresses that somebody in the cluster has.
    addresses: BTreeSet<IpAddr>,
    /// The ranges of pods: who has no pod's address in them cannot be reached and cannot speak.
    ranges: BTreeSet<Cidr>,
    /// Addresses outside that policies about nodes mean.
    external: BTreeSet<IpAddr>,
}

impl Owned {
    pub(super) fn of(networks: [&Network; 2]) -> Self {
        let nodes = || networks.into_iter().flat_map(|network| network.nodes.values());
        let pods = networks.into_iter().flat_map(|network| network.pods.values());
        let of_pods = pods.filter(|pod| pod.is_policed()).flat_map(|pod| pod.addresses.iter().copied());
        let of_nodes =
            nodes().flat_map(|node| node.addresses.iter().copied().chain(node.gateway_addresses()));
        let ranges = nodes().flat_map(|node| node.pod_cidrs.iter().copied());
        let external = nodes().flat_map(|node| node.external.iter().copied()).collect();
        Self { addresses: of_pods.chain(of_nodes).collect(), ranges: ranges.collect(), external }
    }
}

/// One end for all addresses that are in the same blocks, that nobody in the cluster has, and that no pod may get.
pub(super) fn outside<'n>(
    blocks: &BTreeSet<&IpBlock>,
    ipv4: bool,
    owned: &Owned,
) -> (Vec<End<'n>>, Vec<Outside>) {
    let hosts: Vec<IpBlock> = owned.external.iter().map(|a| IpBlock::whole(Cidr::host(*a))).collect();
    let all = blocks.iter().copied().chain(&hosts);
    let family: Vec<&IpBlock> = all.filter(|block| block.cidr.is_ipv4() == ipv4).collect();
    let pods = owned.ranges.iter().filter(|range| range.is_ipv4() == ipv4);
    let pods: Vec<IpBlock> = pods.copied().map(IpBlock::whole).collect();
    let most = if ipv4 { u128::from(u32::MAX) } else { u128::MAX };
    // Where the membership of some block changes, and how.
    let mut edges: BTreeMap<u128, Vec<(usize, bool)>> = BTreeMap::from([(0, vec![])]);
    for (index, block) in family.iter().copied().chain(&pods).enumerate() {
        for (first, last) in spans(block) {
            edges.entry(first).or_default().push((index, true));
            if last < most {
                edges.entry(last + 1).or_default().push((index, false));
            }
        }
    }
    let starts: Vec<u128> = edges.keys().copied().collect();
    let mut inside: BTreeSet<usize> = BTreeSet::new();
    // By the blocks: who may stand for them, and the ranges.
    type Class = (Option<(u8, IpAddr)>, Vec<(IpAddr, IpAddr)>);
    let mut classes: BTreeMap<Vec<usize>, Class> = BTreeMap::new();
    for (place, (first, changes)) in edges.iter().enumerate() {
        for (index, enters) in changes {
            if *enters {
                inside.insert(*index);
            } else {
                inside.remove(index);
            }
        }
        if inside.last().is_some_and(|index| *index >= family.len()) {
            continue;
        }
        let last = starts.get(place + 1).map_or(most, |next| next - 1);
        let (best, ranges) = classes.entry(inside.iter().copied().collect()).or_default();
        let found = speaker(*first, last, ipv4, &owned.addresses);
        *best = best.iter().copied().chain(found).min_by_key(|(rank, _)| *rank);
        let width = if ipv4 { 32 } else { 128 };
        ranges.push((bits_address(*first, width), bits_address(last, width)));
    }
    classes
        .into_iter()
        .filter_map(|(members, (best, ranges))| {
            let (_, address) = best?;
            let within = members.iter().map(|index| family[*index].cidr).max_by_key(Cidr::length);
            let who = Who::Outside { address, within };
            let end = End { party: [Party::Outside; 2], address: [address; 2], who: who.clone() };
            Some((end, Outside { who, ranges }))
        })
        .unzip()
}

/// The addresses of a block without its holes, as ranges from the lowest.
fn spans(block: &IpBlock) -> Vec<(u128, u128)> {
    let (mut next, end) = (Some(address_bits(block.cidr.address())), address_bits(block.cidr.last()));
    let mut spans = Vec::new();
    let mut holes: Vec<&Cidr> = block.except.iter().collect();
    holes.sort_by_key(|hole| address_bits(hole.address()));
    for hole in holes {
        let (first, last) = (address_bits(hole.address()), address_bits(hole.last()));
        let Some(from) = next else { break };
        if first > from {
            spans.push((from, first - 1));
        }
        if last >= from {
            next = last.checked_add(1);
        }
    }
    spans.extend(next.filter(|next| *next <= end).map(|next| (next, end)));
    spans
}

/// An address of a range that may stand for it: one of those that documentation uses, else any that a host can have, else
/// any at all; the smaller the rank the better. None when everything in it is somebody's.
fn speaker(first: u128, last: u128, ipv4: bool, owned: &BTreeSet<IpAddr>) -> Option<(u8, IpAddr)> {
    const V4: [[u8; 4]; 3] = [[198, 51, 100, 1], [203, 0, 113, 1], [192, 0, 2, 1]];
    let known: Vec<IpAddr> = match ipv4 {
        true => V4.into_iter().map(IpAddr::from).collect(),
        false => vec![IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])],
    };
    let good = known.into_iter().find(|a| (first..=last).contains(&address_bits(*a)) && !owned.contains(a));
    if let Some(address) = good {
        return Some((0, address));
    }
    let width = if ipv4 { 32 } else { 128 };
    let free = |start: u128| {
        let numbers = std::iter::successors(Some(start), |n| n.checked_add(1)).take_while(|n| *n <= last);
        numbers.map(|bits| bits_address(bits, width)).find(|address| !owned.contains(address))
    };
    // The first address of a prefix is the network's own by custom.
    let beyond = (first < last).then(|| free(first + 1)).flatten().or_else(|| free(first))?;
    // 0.0.0.0/8, loopback and multicast begin the IPv4 space and end it: something between them is better.
    let usable = |address: IpAddr| match address {
        IpAddr::V4(a) => !matches!(a.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(a) => !a.is_loopback() && !a.is_unspecified() && !a.is_multicast(),
    };
    let unicast = [1u128 << (width - 8), 128 << (width - 8), 0x20 << (width - 8)];
    let inner = unicast.into_iter().filter(|start| (first..=last).contains(start)).find_map(free);
    match inner.filter(|address| usable(*address)) {
        Some(address) if !usable(beyond) => Some((1, address)),
        _ => Some((if usable(beyond) { 1 } else { 2 }, beyond)),
    }
}
