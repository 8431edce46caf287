//! Who can be at the end of a connection in both networks: pods, nodes, and one address for all those outside that no policy
//! tells apart. Knows nothing of verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Range;

use crate::labels::{LabelSelector, Labels, Operator};
use crate::model::{NO_LABELS, Network};
use crate::name::NodeName;
use crate::node::Node;
use crate::pod::Pod;
use crate::policy::IpBlock;
use crate::protocol::Protocol;
use crate::selector::{NamespaceSelector, Selector};

use super::outside::Owned;
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
    /// Per network: the nodes of which an address is an external one.
    external: [HashMap<IpAddr, Vec<&'n Node>>; 2],
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

    /// Whether it is the same pod or node as another.
    pub(super) fn is(&self, other: &Party<'_>) -> bool {
        match (self, other) {
            (Self::Pod(one), Party::Pod(other)) => one.key == other.key,
            (Self::Node(one), Party::Node(other)) => one.name == other.name,
            _ => false,
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
        let owned = Owned::of(networks);
        for ipv4 in [true, false] {
            let (more, theirs) = super::outside::outside(blocks, ipv4, &owned);
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
            external: networks.map(external),
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
                let namespace = pod.key.namespace();
                self.namespaces[time].entry(namespace).or_default().push(number);
                let labelled = self.labelled[time].entry(namespace).or_default();
                for (key, value) in pod.labels.iter() {
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
                let known_as = self.external[time]
                    .iter()
                    .filter(|(_, nodes)| nodes.iter().any(|node| selector.selects_node(node)))
                    .filter_map(|(address, _)| self.addresses[time].get(address));
                let mut members: Vec<u32> = self.nodes.iter().copied().filter(selected).collect();
                members.extend(known_as.flatten());
                members.sort_unstable();
                members.dedup();
                members
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

    /// The nodes of which an end's address is an external one.
    pub(super) fn known_as(&self, time: usize, end: u32) -> &[&'n Node] {
        self.known_at(time, self.get(end).address[time])
    }

    /// The nodes of which this is an external address.
    pub(super) fn known_at(&self, time: usize, address: IpAddr) -> &[&'n Node] {
        self.external[time].get(&address).map_or(&[], Vec::as_slice)
    }

    /// Who declares a port of a name.
    pub(super) fn declaring(&self, time: usize, name: &str, protocol: Protocol) -> &[u32] {
        self.declaring[time].get(name).map_or(&[], |by| by[protocol as usize].as_slice())
    }
}

fn external(network: &Network) -> HashMap<IpAddr, Vec<&Node>> {
    let mut external: HashMap<IpAddr, Vec<&Node>> = HashMap::new();
    for node in network.nodes.values() {
        node.external.iter().for_each(|address| external.entry(*address).or_default().push(node));
    }
    external
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
