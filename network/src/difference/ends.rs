//! Who can be at the end of a connection in both networks: pods, nodes, and one address for all those outside that no policy
//! tells apart. Knows nothing of verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Range;

use crate::address::{Cidr, address_bits, bits_address};
use crate::labels::{LabelSelector, Labels, Operator};
use crate::model::{NO_LABELS, Network};
use crate::name::NodeName;
use crate::node::Node;
use crate::pod::Pod;
use crate::policy::IpBlock;
use crate::protocol::Protocol;
use crate::selector::{NamespaceSelector, Selector};

use super::{BOTH, Outside, Who};

/// All ends, those of IPv4 first.
pub(super) struct Ends<'n> {
    networks: [&'n Network; 2],
    all: Vec<End<'n>>,
    /// How many are of IPv4.
    ipv4: u32,
    /// Per network: who is in a namespace, and who of it has a label.
    namespaces: [HashMap<&'n str, Vec<u32>>; 2],
    labelled: [HashMap<&'n str, Labelled<'n>>; 2],
    /// Per network: by address.
    addresses: [BTreeMap<IpAddr, Vec<u32>>; 2],
    /// Per network: who declares a port of a name.
    declaring: [HashMap<&'n str, [Vec<u32>; 3]>; 2],
    pub(super) nodes: Vec<u32>,
    pub(super) outside: Vec<Outside>,
}

/// Who has a label of a value.
type Labelled<'n> = HashMap<&'n str, HashMap<&'n str, Vec<u32>>>;

/// One end, in both networks.
pub(super) struct End<'n> {
    pub(super) party: [Party<'n>; 2],
    pub(super) address: [IpAddr; 2],
    pub(super) who: Who,
}

#[derive(Clone, Copy)]
pub(super) enum Party<'n> {
    Pod(&'n Pod),
    Node(&'n Node),
    Outside,
}

impl Party<'_> {
    /// The numbers of a port name here.
    pub(super) fn numbers(&self, name: &str, protocol: Protocol) -> BTreeSet<u16> {
        match self {
            Self::Pod(pod) => pod.port_numbers(name, protocol).collect(),
            Self::Node(_) | Self::Outside => BTreeSet::new(),
        }
    }

    pub(super) fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Pod(pod) => pod.node.as_ref(),
            Self::Node(node) => Some(&node.name),
            Self::Outside => None,
        }
    }
}

impl<'n> Ends<'n> {
    /// The ends of two networks, with those outside that `blocks` tell apart.
    pub(super) fn of(before: &'n Network, after: &'n Network, blocks: &BTreeSet<&IpBlock>) -> Self {
        let networks = [before, after];
        let mut all = Vec::new();
        for ipv4 in [true, false] {
            pods(networks, ipv4, &mut all);
            nodes(networks, ipv4, &mut all);
        }
        let mut outside = Vec::new();
        let owned: BTreeSet<IpAddr> = networks.into_iter().flat_map(owned).collect();
        for ipv4 in [true, false] {
            let (more, theirs) = self::outside(blocks, ipv4, &owned);
            all.extend(more);
            outside.extend(theirs);
        }
        all.sort_by_key(|end: &End<'_>| !end.address[0].is_ipv4());
        let ipv4 = all.iter().take_while(|end| end.address[0].is_ipv4()).count() as u32;
        let mut ends = Self {
            networks,
            all,
            ipv4,
            namespaces: Default::default(),
            labelled: Default::default(),
            addresses: Default::default(),
            declaring: Default::default(),
            nodes: Vec::new(),
            outside,
        };
        ends.index();
        ends
    }

    fn index(&mut self) {
        for (number, end) in (0..).zip(&self.all) {
            for time in BOTH {
                self.addresses[time].entry(end.address[time]).or_default().push(number);
                let Party::Pod(pod) = end.party[time] else { continue };
                let namespace = pod.key.namespace.as_str();
                self.namespaces[time].entry(namespace).or_default().push(number);
                let labelled = self.labelled[time].entry(namespace).or_default();
                for (key, value) in &pod.labels {
                    labelled.entry(key).or_default().entry(value).or_default().push(number);
                }
                let names = pod.ports.iter().filter_map(|p| Some((p.name.as_deref()?, p.protocol)));
                for (name, protocol) in names.collect::<BTreeSet<_>>() {
                    self.declaring[time].entry(name).or_default()[protocol as usize].push(number);
                }
            }
            if matches!(end.party[0], Party::Node(_)) {
                self.nodes.push(number);
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> &End<'n> {
        &self.all[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The numbers of all ends of the family of one.
    pub(super) fn family(&self, number: u32) -> Range<u32> {
        if number < self.ipv4 { 0..self.ipv4 } else { self.ipv4..self.all.len() as u32 }
    }

    /// The members of a set, sorted.
    pub(super) fn select(&self, time: usize, selector: &Selector) -> Vec<u32> {
        match selector {
            Selector::Nodes(_) => {
                let selected = |number: &u32| match self.get(*number).party[time] {
                    Party::Node(node) => selector.selects_node(node),
                    _ => false,
                };
                self.nodes.iter().copied().filter(selected).collect()
            }
            Selector::Pods { namespaces: NamespaceSelector::Name(name), pods, .. } => {
                self.select_in(time, name, pods, selector)
            }
            Selector::Pods { namespaces: NamespaceSelector::Labels(wanted), pods, .. } => {
                let names = self.namespaces[time].keys();
                let names = names.filter(|name| wanted.matches(self.labels(time, name)));
                let mut members: Vec<u32> =
                    names.flat_map(|name| self.select_in(time, name, pods, selector)).collect();
                members.sort_unstable();
                members
            }
        }
    }

    fn labels(&self, time: usize, namespace: &str) -> &'n Labels {
        self.networks[time].namespaces.get(namespace).unwrap_or(&NO_LABELS)
    }

    /// The members in one namespace; a label that is wanted leads to the few that have it.
    fn select_in(&self, time: usize, name: &str, pods: &LabelSelector, selector: &Selector) -> Vec<u32> {
        let labels = self.labels(time, name);
        let is_member = |number: &u32| match self.get(*number).party[time] {
            Party::Pod(pod) => selector.selects_pod(pod, labels),
            _ => false,
        };
        let wanted = pods.requirements().filter(|r| r.operator == Operator::In);
        match wanted.min_by_key(|r| r.values.len()) {
            None => self.namespaces[time]
                .get(name)
                .map(|all| all.iter().copied().filter(is_member).collect())
                .unwrap_or_default(),
            Some(requirement) => {
                let labelled = self.labelled[time].get(name).and_then(|by| by.get(requirement.key.as_str()));
                let with = |value: &String| labelled.and_then(|by| by.get(value.as_str()));
                let candidates = requirement.values.iter().filter_map(with).flatten().copied();
                let mut members: Vec<u32> = candidates.filter(is_member).collect();
                members.sort_unstable();
                members
            }
        }
    }

    /// Whose addresses are in a block, sorted.
    pub(super) fn inside(&self, time: usize, block: &IpBlock) -> Vec<u32> {
        let range = self.addresses[time].range(block.cidr.address()..=block.cidr.last());
        let inside = range.filter(|(address, _)| block.contains(**address));
        let mut members: Vec<u32> = inside.flat_map(|(_, numbers)| numbers.iter().copied()).collect();
        members.sort_unstable();
        members
    }

    /// Who declares a port of a name.
    pub(super) fn declaring(&self, time: usize, name: &str, protocol: Protocol) -> &[u32] {
        self.declaring[time].get(name).map_or(&[], |by| by[protocol as usize].as_slice())
    }
}

fn pods<'n>(networks: [&'n Network; 2], ipv4: bool, all: &mut Vec<End<'n>>) {
    let [before, after] = networks;
    for (key, earlier) in before.pods.iter().filter(|(_, pod)| pod.is_policed()) {
        let Some(later) = after.pods.get(key).filter(|pod| pod.is_policed()) else { continue };
        let address = |pod: &Pod| pod.addresses.iter().copied().find(|address| address.is_ipv4() == ipv4);
        if let (Some(was), Some(is)) = (address(earlier), address(later)) {
            let who = Who::Pod(key.clone());
            all.push(End { party: [Party::Pod(earlier), Party::Pod(later)], address: [was, is], who });
        }
    }
}

fn nodes<'n>(networks: [&'n Network; 2], ipv4: bool, all: &mut Vec<End<'n>>) {
    let [before, after] = networks;
    for (name, earlier) in &before.nodes {
        let Some(later) = after.nodes.get(name) else { continue };
        let own = |node: &Node| node.address(ipv4);
        let gateway = |node: &Node| node.gateway_addresses().find(|address| address.is_ipv4() == ipv4);
        let pairs = [(own(earlier), own(later), false), (gateway(earlier), gateway(later), true)];
        for (was, is, gateway) in pairs {
            if let (Some(was), Some(is)) = (was, is) {
                let who = Who::Node { name: name.clone(), gateway };
                all.push(End { party: [Party::Node(earlier), Party::Node(later)], address: [was, is], who });
            }
        }
    }
}

/// The addresses that somebody in the cluster has.
fn owned(network: &Network) -> impl Iterator<Item = IpAddr> + '_ {
    let pods = network.pods.values().filter(|pod| pod.is_policed()).flat_map(|pod| pod.addresses.clone());
    let nodes = network.nodes.values();
    pods.chain(nodes.flat_map(|node| node.addresses.iter().copied().chain(node.gateway_addresses())))
}

/// One end for all addresses that are in the same blocks and that nobody in the cluster has.
fn outside<'n>(
    blocks: &BTreeSet<&IpBlock>,
    ipv4: bool,
    owned: &BTreeSet<IpAddr>,
) -> (Vec<End<'n>>, Vec<Outside>) {
    let family: Vec<&IpBlock> = blocks.iter().copied().filter(|block| block.cidr.is_ipv4() == ipv4).collect();
    let most = if ipv4 { u128::from(u32::MAX) } else { u128::MAX };
    // Where the membership of some block changes, and how.
    let mut edges: BTreeMap<u128, Vec<(usize, bool)>> = BTreeMap::from([(0, vec![])]);
    for (index, block) in family.iter().enumerate() {
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
        let last = starts.get(place + 1).map_or(most, |next| next - 1);
        let (best, ranges) = classes.entry(inside.iter().copied().collect()).or_default();
        let found = speaker(*first, last, ipv4, owned);
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
