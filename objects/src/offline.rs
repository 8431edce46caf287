//! What a lab would look like, for predictions without one: numbered nodes, and the addresses that they hand out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network::{Cidr, Labels, Network, Node, NodeName, Pod};

use crate::place::{place_beside, problem};
use crate::problem::{Fault, Problem};
use crate::set::ObjectSet;
use crate::translate::pod::pod;
use crate::translate::translate;

/// Which address families pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    Dual,
}

impl Families {
    /// The families of some addresses; IPv4 of none.
    pub(crate) fn of(addresses: &BTreeSet<IpAddr>) -> Self {
        match (addresses.iter().any(IpAddr::is_ipv4), addresses.iter().any(IpAddr::is_ipv6)) {
            (true, true) => Self::Dual,
            (false, true) => Self::Ipv6,
            _ => Self::Ipv4,
        }
    }

    fn ipv4(self) -> bool {
        self != Self::Ipv6
    }

    fn ipv6(self) -> bool {
        self != Self::Ipv4
    }
}

/// The most nodes that the numbering of the contract has room for.
pub const MOST_NODES: u8 = 254;

/// The pod ranges of node `number` (from 1): 10.244.*k*.0/24 and fd00:10:244:*k*::/64, *k* in decimal in both.
pub fn pod_ranges(number: u8, families: Families) -> Vec<Cidr> {
    ranges(244, number, families)
}

fn ranges(second: u8, number: u8, families: Families) -> Vec<Cidr> {
    let v4 = IpAddr::V4(Ipv4Addr::new(10, second, number, 0));
    let (second, number) = (decimal_as_hex(second), decimal_as_hex(number));
    let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, second, number, 0, 0, 0, 0));
    let v4 = families.ipv4().then(|| Cidr::new(v4, 24).ok()).flatten();
    let v6 = families.ipv6().then(|| Cidr::new(v6, 64).ok()).flatten();
    v4.into_iter().chain(v6).collect()
}

/// 254 becomes 0x254, so that it reads the same in an IPv6 address.
fn decimal_as_hex(number: u8) -> u16 {
    let n = u16::from(number);
    ((n / 100) << 8) | ((n / 10 % 10) << 4) | (n % 10)
}

/// `node-1` … `node-<count>` with their pod ranges and an address on an underlay of their own.
pub fn numbered_nodes(count: u8, families: Families) -> Vec<Node> {
    numbered_nodes_in(244, count, families)
}

fn numbered_nodes_in(second: u8, count: u8, families: Families) -> Vec<Node> {
    (1..=count.min(MOST_NODES))
        .map(|number| {
            let v4 = IpAddr::V4(Ipv4Addr::new(172, 30, second, number));
            let low = decimal_as_hex(number);
            let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x172, 0x30, decimal_as_hex(second), 0, 0, 0, low));
            let name = format!("node-{number}");
            Node {
                labels: Labels::from([
                    ("kubernetes.io/hostname".to_owned(), name.clone()),
                    ("kubernetes.io/os".to_owned(), "linux".to_owned()),
                ]),
                name: NodeName::new(name),
                addresses: [families.ipv4().then_some(v4), families.ipv6().then_some(v6)]
                    .into_iter()
                    .flatten()
                    .collect(),
                pod_cidrs: ranges(second, number, families),
                ..Node::default()
            }
        })
        .collect()
}

/// Numbered nodes none of whose own addresses is in `taken`: in the contract's ranges, or else in the next ones free.
pub(crate) fn numbered_nodes_apart(count: u8, families: Families, taken: &BTreeSet<IpAddr>) -> Vec<Node> {
    let apart = |nodes: &Vec<Node>| nodes.iter().all(|node| !taken.iter().any(|address| node.owns(*address)));
    let contract = numbered_nodes(count, families);
    if apart(&contract) {
        return contract;
    }
    (0..=u8::MAX).map(|second| numbered_nodes_in(second, count, families)).find(apart).unwrap_or(contract)
}

/// Numbered nodes for the pods of a set: of the families in which pods ask for addresses (IPv4 when none does), with
/// addresses of their own that no pod asks for.
pub fn nodes_for(objects: &ObjectSet, count: u8) -> Vec<Node> {
    let pods = objects.pods.values().map(|object| pod(&object.value).0);
    let asked: BTreeSet<IpAddr> =
        pods.filter(Pod::is_policed).flat_map(|pod| pod.addresses.into_iter()).collect();
    numbered_nodes_apart(count, Families::of(&asked), &asked)
}

/// Gives every pod without an address one of each of its node's ranges, from the second host address upward in the order
/// of `pods`. Addresses that pods asked for are left out.
pub fn hand_out(pods: &mut [Pod], nodes: &[Node]) -> Vec<Problem> {
    let taken = pods.iter().flat_map(|pod| pod.addresses.iter().copied()).collect();
    hand_out_beside(pods, nodes, taken)
}

/// The same, where others have addresses already.
pub(crate) fn hand_out_beside(pods: &mut [Pod], nodes: &[Node], mut taken: BTreeSet<IpAddr>) -> Vec<Problem> {
    taken.extend(nodes.iter().flat_map(|node| node.addresses.iter().copied()));
    let mut next: BTreeMap<Cidr, u128> = BTreeMap::new();
    let mut problems = Vec::new();
    for pod in pods.iter_mut().filter(|pod| pod.is_policed() && pod.addresses.is_empty()) {
        let Some(node) = nodes.iter().find(|node| pod.node.as_ref() == Some(&node.name)) else { continue };
        for range in &node.pod_cidrs {
            let index = next.entry(*range).or_insert(2);
            loop {
                let candidate = range.nth(*index);
                *index += 1;
                match candidate {
                    Some(address) if range.is_ipv4() && address == range.last() && range.length() < 32 => {}
                    Some(address) if taken.insert(address) => {
                        pod.addresses.push(address);
                        break;
                    }
                    Some(_) => {}
                    None => {
                        let node = node.name.to_string();
                        let fault = Fault::RangeFull { node, range: *range };
                        problems.push(problem(pod, None, ("status.podIPs", fault)));
                        break;
                    }
                }
            }
        }
    }
    problems
}

/// The nodes, each with a prefix of its own for every address that a pod there asked for outside the node's ranges (or
/// inside another's), so that everything that routes by pod range finds it.
pub fn widened(nodes: &[Node], pods: &[Pod]) -> Vec<Node> {
    let home = |address: IpAddr| {
        nodes.iter().find(|node| node.pod_cidrs.iter().any(|range| range.contains(address)))
    };
    let mut wider = nodes.to_vec();
    for node in &mut wider {
        let here = pods.iter().filter(|pod| pod.is_policed() && pod.node.as_ref() == Some(&node.name));
        for address in here.flat_map(|pod| pod.addresses.iter().copied()) {
            if home(address).is_none_or(|home| home.name != node.name) {
                node.pod_cidrs.push(Cidr::host(address));
            }
        }
    }
    wider
}

/// The network that a lab of these nodes would have with these objects.
pub fn network(objects: &ObjectSet, nodes: &[Node]) -> (Network, Vec<Problem>) {
    network_beside(objects, nodes, &Network::default())
}

/// The same, with the pods of an earlier network where they were, so that a change of some objects moves no others.
pub fn network_beside(objects: &ObjectSet, nodes: &[Node], earlier: &Network) -> (Network, Vec<Problem>) {
    let mut placement = place_beside(objects, nodes, &earlier.pods);
    let mut problems = std::mem::take(&mut placement.problems);
    problems.extend(hand_out(&mut placement.pods, nodes));
    let nodes = widened(nodes, &placement.pods);
    let (network, more) = translate(objects, &nodes, &placement.pods);
    problems.extend(more);
    (network, problems)
}
