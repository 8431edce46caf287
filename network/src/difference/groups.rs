//! What a survey found, put together: pairs with the same change, decided by the same rules, become one shift between two
//! groups.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use crate::policy::Direction;
use crate::port_set::PortSet;
use crate::reference::Endpoint;

use super::bunch::Bunch;
use super::ends::Ends;
use super::judge::Decider;
use super::{AFTER, BEFORE, BOTH, Block, Relation, Who};

/// Ends that behave alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// `listed` are the exceptions of everybody that both networks have.
    pub all_but: bool,
    /// Its members, or those who are not.
    pub listed: Vec<Who>,
    /// How many it has.
    pub count: usize,
}

impl Group {
    /// Whether an end that both networks have is in it.
    pub fn contains(&self, who: &Who) -> bool {
        self.listed.binary_search(who).is_ok() != self.all_but
    }
}

/// One pair of a shift, with the addresses that it had and has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Witness {
    /// Who asks, before and after.
    pub from: [Endpoint; 2],
    /// Who answers, before and after.
    pub to: [Endpoint; 2],
}

/// A change that is the same for every pair of two groups. Nobody is shifted from himself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shift {
    /// Who asks.
    pub from: Group,
    /// Who answers.
    pub to: Group,
    /// Which pairs of them.
    pub relation: Relation,
    /// Over IPv4.
    pub ipv4: bool,
    /// Over IPv6.
    pub ipv6: bool,
    /// What passes now and did not.
    pub allowed: PortSet,
    /// What passed and does not any more. Connections that stand on it are cut.
    pub denied: PortSet,
    /// Who decided about these ports before, and whether it let pass.
    pub before: Vec<(Decider, bool)>,
    /// Who decides now.
    pub after: Vec<(Decider, bool)>,
    /// One of the pairs.
    pub witness: Witness,
}

/// The shape of a change, whoever's it is.
type What = (Relation, PortSet, PortSet, [Vec<(Decider, bool)>; 2]);

/// Blocks of pairs as they are found.
pub(super) struct Collected<'a, 'n> {
    ends: &'a Ends<'n>,
    /// By who answers: who asks, and one pair.
    blocks: Blocks,
}

/// By the family's first end, what, and who is at one end of the pairs: who is at the other, and one pair.
type Blocks = BTreeMap<(u32, What, Bunch), (Bunch, (u32, u32))>;

impl<'a, 'n> Collected<'a, 'n> {
    pub(super) fn new(ends: &'a Ends<'n>) -> Self {
        Self { ends, blocks: Blocks::new() }
    }

    pub(super) fn add(
        &mut self,
        block: &Block<'_>,
        (subject, peer): (u32, u32),
        (allowed, denied): (PortSet, PortSet),
        deciders: [BTreeSet<(Decider, bool)>; 2],
    ) {
        let what = (block.relation, allowed, denied, deciders.map(|them| them.into_iter().collect()));
        let subjects = block.subjects.clone().canonical(&block.universe);
        let peers = block.peers.clone().canonical(&block.universe);
        let (from, to, pair) = match block.direction {
            Direction::Ingress => (peers, subjects, (peer, subject)),
            Direction::Egress => (subjects, peers, (subject, peer)),
        };
        let entry = self.blocks.entry((block.universe.start, what, to));
        entry.and_modify(|known| known.0 = known.0.union(&from)).or_insert((from, pair));
    }

    pub(super) fn into_shifts(self) -> Vec<Shift> {
        let mut merged = Blocks::new();
        for ((family, what, to), (from, pair)) in self.blocks {
            let entry = merged.entry((family, what, from.canonical(&self.ends.family(family))));
            entry.and_modify(|known| known.0 = known.0.union(&to)).or_insert((to, pair));
        }
        let ends = self.ends;
        let mut shifts: BTreeMap<(Group, Group, What), Shift> = BTreeMap::new();
        for ((family, what, from), (to, pair)) in merged {
            let universe = ends.family(family);
            let (from, to) = (group(ends, from, &universe), group(ends, to, &universe));
            let ipv4 = ends.get(universe.start).address[BEFORE].is_ipv4();
            let shift = shifts.entry((from.clone(), to.clone(), what)).or_insert_with_key(|(_, _, what)| {
                let (relation, allowed, denied, [before, after]) = what.clone();
                let witness = Witness {
                    from: BOTH.map(|time| endpoint(ends, pair.0, time)),
                    to: BOTH.map(|time| endpoint(ends, pair.1, time)),
                };
                let (ipv4, ipv6) = (false, false);
                Shift { from, to, relation, ipv4, ipv6, allowed, denied, before, after, witness }
            });
            if ipv4 { shift.ipv4 = true } else { shift.ipv6 = true }
        }
        shifts.into_values().collect()
    }
}

/// Groups of so many members are listed, whatever is shorter.
const SMALL: usize = 16;

fn group(ends: &Ends<'_>, bunch: Bunch, universe: &Range<u32>) -> Group {
    let count = bunch.len(universe);
    let bunch = bunch.canonical(universe);
    let all_but = bunch.complement && count > SMALL;
    let numbers: Vec<u32> = match all_but {
        true => bunch.listed,
        false => bunch.iter(universe).collect(),
    };
    let mut listed: Vec<Who> = numbers.iter().map(|number| ends.get(*number).who.clone()).collect();
    listed.sort();
    Group { all_but, listed, count }
}

fn endpoint(ends: &Ends<'_>, number: u32, time: usize) -> Endpoint {
    debug_assert!(time == BEFORE || time == AFTER);
    let end = ends.get(number);
    let address: IpAddr = end.address[time];
    match &end.who {
        Who::Pod(key) => Endpoint::Pod { key: key.clone(), address },
        Who::Node { name, .. } => Endpoint::Node { name: name.clone(), address },
        Who::Outside { .. } => Endpoint::Outside(address),
    }
}
