//! What a change of the network does to who reaches whom: the difference of two matrices over every pair of ends and every
//! port, without making either. No IO, no explanations beyond the names of the rules that decide.
//!
//! Ends that the policies concerned cannot tell apart are looked at once, all ports of a pair at a time; what no changed
//! policy, label or address touches is not looked at. It equals the difference of [`crate::reference`]'s verdicts, which is
//! tested. Pods that are only in one of the networks are named and not compared;
//! [`arrivals`] tells of the new ones. What becomes of Services is [`services`].

mod arrivals;
mod bunch;
mod classes;
mod docket;
mod ends;
mod groups;
mod judge;
mod outside;
pub mod services;
pub mod warnings;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::address::Cidr;
use crate::model::Network;
use crate::name::{NamespacedName, NodeName};
use crate::policy::{Direction, IpBlock, Peers, Policy, PolicyId};
use crate::port_set::PortSet;

pub use arrivals::arrivals;
use bunch::Bunch;
use classes::{Class, Classes, Partitions};
use ends::{Ends, Party};
pub use groups::{Group, Shift, Witness};
pub use judge::Decider;
use judge::Question;

/// Before and after, as indexes.
const BOTH: [usize; 2] = [0, 1];
const BEFORE: usize = 0;
const AFTER: usize = 1;

/// One end of connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Who {
    /// A pod.
    Pod(NamespacedName),
    /// A node: its address on the underlay, or that of its gateway port.
    Node {
        /// Which one.
        name: NodeName,
        /// By the gateway port's address.
        gateway: bool,
    },
    /// Everybody outside whom the same blocks of addresses mean.
    Outside {
        /// One of them.
        address: IpAddr,
        /// The narrowest block that means them.
        within: Option<Cidr>,
    },
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => key.fmt(f),
            Self::Node { name, gateway: false } => write!(f, "node:{name}"),
            Self::Node { name, gateway: true } => write!(f, "node:{name} (gateway)"),
            Self::Outside { within: Some(cidr), .. } => write!(f, "outside in {cidr}"),
            Self::Outside { address, within: None } => {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                write!(f, "the rest of the outside ({family})")
            }
        }
    }
}

/// Which pairs of two groups are meant, where one of them has nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Relation {
    /// All.
    Any,
    /// Every pod with its own node.
    OwnNode,
    /// Every pod with nodes other than its own.
    OtherNodes,
}

/// The difference of two networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connectivity {
    /// What passes now and did not, or did and does not any more, by groups that are alike.
    pub shifts: Vec<Shift>,
    /// Who stands for whom outside.
    pub outside: Vec<Outside>,
    /// Pods that have an address only after the change.
    pub appeared: Vec<NamespacedName>,
    /// Pods that had an address only before.
    pub vanished: Vec<NamespacedName>,
}

/// Addresses outside that the policies concerned cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Who stands for them.
    pub who: Who,
    /// First and last address of every range; the nodes' pod ranges are left out. What a pod or node owns in them is that pod
    /// or node.
    pub ranges: Vec<(IpAddr, IpAddr)>,
}

/// The policies that say something else after the change, by direction.
pub(crate) struct Altered<'n> {
    ids: [HashSet<&'n PolicyId>; 2],
}

impl<'n> Altered<'n> {
    fn of(networks: [&'n Network; 2]) -> Self {
        let [before, after] = networks;
        let ids = [Direction::Ingress, Direction::Egress].map(|direction| {
            let differs = |(id, policy): &(&PolicyId, &Policy)| {
                after.policies.get(*id).is_none_or(|later| !says_the_same(policy, later, direction))
            };
            let gone = before.policies.iter().filter(differs).map(|(id, _)| id);
            let new = after.policies.keys().filter(|id| !before.policies.contains_key(*id));
            gone.chain(new).collect()
        });
        Self { ids }
    }

    pub(crate) fn is_altered(&self, id: &PolicyId, direction: Direction) -> bool {
        self.ids[direction as usize].contains(id)
    }
}

/// Whether two versions of a policy mean the same in a direction.
fn says_the_same(before: &Policy, after: &Policy, direction: Direction) -> bool {
    let rules = |policy: &Policy| {
        policy.rules.iter().filter(|rule| rule.direction == direction).cloned().collect::<Vec<_>>()
    };
    (before.tier, before.priority, before.subject) == (after.tier, after.priority, after.subject)
        && before.isolates.of(direction) == after.isolates.of(direction)
        && rules(before) == rules(after)
}

/// What changes from `before` to `after`.
pub fn connectivity(before: &Network, after: &Network) -> Connectivity {
    let networks = [before, after];
    let altered = Altered::of(networks);
    // Ends are made twice: which blocks matter shows when it is known whose policies are looked at.
    let bare = Ends::of(before, after, &BTreeSet::new());
    let changed = changed(networks, &bare);
    let blocks = blocks(&Classes::both(networks, &bare, &altered), &changed);
    let ends = Ends::of(before, after, &blocks);
    let changed = self::changed(networks, &ends);
    let [ingress, egress] = Classes::both(networks, &ends, &altered);
    let mut survey = Survey {
        networks,
        ends: &ends,
        altered: &altered,
        changed,
        partitions: Partitions::new(networks, &ends),
        collected: groups::Collected::new(&ends),
    };
    survey.look(&ingress, &egress, true);
    survey.look(&egress, &ingress, false);
    let shifts = survey.collected.into_shifts();
    let (appeared, vanished) = (only_in(after, before), only_in(before, after));
    Connectivity { shifts, outside: ends.outside, appeared, vanished }
}

fn only_in(this: &Network, other: &Network) -> Vec<NamespacedName> {
    let takes_part = |network: &Network, key| {
        network.pods.get(key).is_some_and(|p| p.is_policed() && !p.addresses.is_empty())
    };
    this.pods.keys().filter(|key| takes_part(this, key) && !takes_part(other, key)).cloned().collect()
}

/// The ends that are not what they were, sorted: by their labels or their namespace's, address, ports or node.
fn changed(networks: [&Network; 2], ends: &Ends<'_>) -> Vec<u32> {
    let namespace = |time: usize, key: &NamespacedName| networks[time].namespaces.get(key.namespace());
    let relabelled: BTreeMap<&str, bool> = networks[BEFORE]
        .namespaces
        .iter()
        .map(|(name, labels)| (name.as_str(), networks[AFTER].namespaces.get(name) != Some(labels)))
        .collect();
    let is_changed = |number: &u32| {
        let end = ends.get(*number);
        let same = match end.party {
            [Party::Pod(was), Party::Pod(is)] => {
                let known = relabelled.get(was.key.namespace()).copied();
                let relabelled = known.unwrap_or_else(|| namespace(AFTER, &was.key).is_some());
                !relabelled && (&was.labels, &was.ports, &was.node) == (&is.labels, &is.ports, &is.node)
            }
            [Party::Node(was), Party::Node(is)] => was.labels == is.labels,
            _ => true,
        };
        let [was_known_as, is_known_as] = BOTH.map(|time| ends.known_as(time, *number));
        !same || end.address[BEFORE] != end.address[AFTER] || was_known_as != is_known_as
    };
    (0..ends.len() as u32).filter(is_changed).collect()
}

/// The blocks of all policies that are asked about a pair that may differ.
fn blocks<'n>(classes: &[Classes<'n>; 2], changed: &[u32]) -> BTreeSet<&'n IpBlock> {
    let mut blocks = BTreeSet::new();
    let [ingress, egress] = classes;
    // A pair with somebody outside is decided by the policies of its pod: those of altered subjects in either direction.
    let altered = |classes: &Classes<'n>| -> Vec<u32> {
        let altered = classes.all.iter().filter(|class| class.is_altered);
        altered.map(|class| class.example).collect()
    };
    let concerned: BTreeSet<u32> =
        altered(ingress).into_iter().chain(altered(egress)).chain(changed.iter().copied()).collect();
    for classes in [ingress, egress] {
        let asked: BTreeSet<usize> = concerned.iter().filter_map(|end| classes.class_of(*end)).collect();
        let altered = (0..classes.all.len()).filter(|class| classes.all[*class].is_altered);
        for class in altered.chain(asked).collect::<BTreeSet<_>>() {
            for (peers, _) in classes.all[class].dockets.iter().flat_map(|docket| docket.terms()) {
                if let Peers::Some { blocks: named, .. } = peers {
                    blocks.extend(named);
                }
            }
        }
    }
    blocks
}

/// Looks at all pairs that may differ.
struct Survey<'a, 'n> {
    networks: [&'n Network; 2],
    ends: &'a Ends<'n>,
    altered: &'a Altered<'n>,
    changed: Vec<u32>,
    partitions: Partitions<'a, 'n>,
    collected: groups::Collected<'a, 'n>,
}

/// What one direction lets pass, before and after.
type Passing = [PortSet; 2];

impl<'a, 'n> Survey<'a, 'n> {
    /// Every pair for which `own` gives another answer than before: with what `other` says about it. `is_first`: pairs for
    /// which both give another answer are told; else they were.
    fn look(&mut self, own: &Classes<'n>, other: &Classes<'n>, is_first: bool) {
        for number in 0..own.all.len() {
            let class = &own.all[number];
            let universe = self.ends.family(class.example);
            let changed = Bunch::within(&self.changed, &universe);
            if !class.is_altered && changed.listed.is_empty() {
                continue;
            }
            let partition = self.partitions.of(own, number);
            for part in &partition.parts {
                // Of subjects that are asked the same as ever only peers that changed can give another answer.
                let peers = if class.is_altered { part.clone() } else { part.intersection(&changed) };
                for (peers, relation, passing) in self.answers(own.direction, class, &peers) {
                    if passing[BEFORE] != passing[AFTER] {
                        let (direction, subjects) = (own.direction, &class.ends);
                        let universe = universe.clone();
                        let block = Block { direction, universe, subjects, peers, relation };
                        self.join(block, &passing, (own, number), other, is_first);
                    }
                }
            }
        }
    }

    /// What a class lets pass to or from peers that it cannot tell apart, but for its own node.
    fn answers(
        &self,
        direction: Direction,
        class: &Class<'n>,
        peers: &Bunch,
    ) -> Vec<(Bunch, Relation, Passing)> {
        let universe = self.ends.family(class.example);
        let Some(example) = peers.iter(&universe).next() else { return Vec::new() };
        let ask = |peer, own: [bool; 2]| self.ask(direction, class, (class.example, peer), own);
        let all = ask(example, [false; 2]);
        let nodes = peers.intersection(&Bunch::within(&self.ends.nodes, &universe));
        let special: Vec<(Bunch, Relation, Passing)> = match &class.moved {
            None => {
                let own = if nodes.listed.is_empty() { all.clone() } else { ask(example, [true; 2]) };
                if own == all {
                    Vec::new()
                } else {
                    vec![
                        (nodes.clone(), Relation::OwnNode, own),
                        (nodes.clone(), Relation::OtherNodes, all.clone()),
                    ]
                }
            }
            Some(homes) => {
                let one = |node: u32| {
                    let name = self.ends.get(node).party[BEFORE].node();
                    let own = BOTH.map(|time| homes[time].as_ref() == name);
                    own.contains(&true).then(|| (Bunch::only(vec![node]), Relation::Any, ask(node, own)))
                };
                nodes.iter(&universe).filter_map(one).collect()
            }
        };
        let apart = special.iter().fold(Bunch::only(vec![]), |all, (nodes, ..)| all.union(nodes));
        let rest = peers.minus(&apart);
        let rest = (rest.len(&universe) > 0).then_some((rest, Relation::Any, all));
        special.into_iter().chain(rest).collect()
    }

    fn ask(&self, direction: Direction, class: &Class<'n>, pair: (u32, u32), own: [bool; 2]) -> Passing {
        BOTH.map(|time| self.question(direction, class, pair, (time, own[time])).passes())
    }

    fn question<'q>(
        &'q self,
        direction: Direction,
        class: &'q Class<'n>,
        (subject, peer): (u32, u32),
        (time, own_node): (usize, bool),
    ) -> Question<'q, 'n> {
        Question {
            network: self.networks[time],
            time,
            direction,
            docket: &class.dockets[time],
            subject: self.ends.get(subject),
            peer: self.ends.get(peer),
            known_as: self.ends.known_as(time, peer),
            own_node,
        }
    }

    /// Asks the other direction about a block of pairs, in pieces that it cannot tell apart, and keeps what differs.
    fn join(
        &mut self,
        block: Block<'_>,
        passing: &Passing,
        own: (&Classes<'n>, usize),
        other: &Classes<'n>,
        is_first: bool,
    ) {
        let universe = block.universe.clone();
        for (class, peers) in other.split(&universe, &block.peers) {
            let Some(class) = class else {
                self.keep(&Block { peers, ..block.clone() }, passing, own, None);
                continue;
            };
            let partition = self.partitions.of(other, class);
            for part in &partition.parts {
                let subjects = block.subjects.intersection(part);
                // The peer of this direction is a pod: nobody's own node.
                let Some(example) = subjects.iter(&universe).next() else { continue };
                let it = &other.all[class];
                let answer = self.ask(other.direction, it, (it.example, example), [false; 2]);
                if !is_first && answer[BEFORE] != answer[AFTER] {
                    continue;
                }
                let both = BOTH.map(|time| passing[time].intersection(&answer[time]));
                let block = Block { subjects: &subjects, peers: peers.clone(), ..block.clone() };
                self.keep(&block, &both, own, Some((other, class)));
            }
        }
    }

    /// Keeps a block of pairs that are alike, with who decides about what differs.
    fn keep(
        &mut self,
        block: &Block<'_>,
        passing: &Passing,
        own: (&Classes<'n>, usize),
        other: Option<(&Classes<'n>, usize)>,
    ) {
        let allowed = passing[AFTER].minus(&passing[BEFORE]);
        let denied = passing[BEFORE].minus(&passing[AFTER]);
        let Some((subject, peer)) = self.pair(block) else { return };
        if allowed.is_empty() && denied.is_empty() {
            return;
        }
        let mut deciders: [BTreeSet<(Decider, bool)>; 2] = Default::default();
        let about = allowed.union(&denied);
        let sides = std::iter::once((own, (subject, peer))).chain(other.map(|it| (it, (peer, subject))));
        for ((classes, class), pair) in sides {
            let class = &classes.all[class];
            for time in BOTH {
                let nodes = [pair.0, pair.1].map(|end| self.ends.get(end).party[time].node());
                let is_node = matches!(self.ends.get(pair.1).party[time], Party::Node(_));
                let question =
                    self.question(classes.direction, class, pair, (time, is_node && nodes[0] == nodes[1]));
                for allows in [true, false] {
                    let found = question.deciders(&about, allows, self.altered);
                    deciders[time].extend(found.into_iter().map(|decider| (decider, allows)));
                }
            }
        }
        self.collected.add(block, (subject, peer), (allowed, denied), deciders);
    }

    /// A pair of the block that is no pod with itself; none when there is no other.
    fn pair(&self, block: &Block<'_>) -> Option<(u32, u32)> {
        let universe = &block.universe;
        block.subjects.iter(universe).find_map(|subject| {
            let home = self.ends.get(subject).party[BEFORE].node();
            let fits = |peer: &u32| match block.relation {
                Relation::Any => *peer != subject,
                Relation::OwnNode => home == self.ends.get(*peer).party[BEFORE].node(),
                Relation::OtherNodes => home != self.ends.get(*peer).party[BEFORE].node(),
            };
            block.peers.iter(universe).find(fits).map(|peer| (subject, peer))
        })
    }
}

/// Pairs of subjects and peers of one direction.
#[derive(Clone)]
pub(crate) struct Block<'b> {
    direction: Direction,
    /// All ends of their family.
    universe: Range<u32>,
    subjects: &'b Bunch,
    peers: Bunch,
    relation: Relation,
}
