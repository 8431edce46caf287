//! Ends that policies of one direction treat alike as subjects, and the ends that these policies treat alike as peers. Gives
//! no verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

use crate::model::Network;
use crate::name::NodeName;
use crate::policy::{Direction, IpBlock, Peers, Policy, Tier};
use crate::selector::SetId;

use super::bunch::Bunch;
use super::docket::Docket;
use super::ends::{Ends, Party};

use super::{Altered, BOTH};

/// The subjects of one direction, by what is asked about them.
pub(super) struct Classes<'n> {
    pub(super) direction: Direction,
    pub(super) all: Vec<Class<'n>>,
    /// The class of every end; none for those that are no subjects.
    of: Vec<Option<u32>>,
    /// All that have a class, sorted.
    subjects: Bunch,
}

/// Subjects of one family that are alike before, and alike after.
pub(super) struct Class<'n> {
    /// Sorted.
    pub(super) ends: Bunch,
    /// One of them.
    pub(super) example: u32,
    /// The policies that are asked, before and after.
    pub(super) dockets: Rc<[Docket<'n>; 2]>,
    /// Its nodes before and after, when they are not the same.
    pub(super) moved: Option<[Option<NodeName>; 2]>,
    /// What is asked is not the same.
    pub(super) is_altered: bool,
}

/// Whether a policy says something in a direction to those it selects.
fn speaks(policy: &Policy, direction: Direction) -> bool {
    match policy.tier {
        Tier::NetworkPolicy => policy.isolates.of(direction),
        Tier::Admin | Tier::Baseline => policy.rules.iter().any(|rule| rule.direction == direction),
    }
}

impl<'n> Classes<'n> {
    /// Those of ingress and those of egress.
    pub(super) fn both(networks: [&'n Network; 2], ends: &Ends<'n>, altered: &Altered<'n>) -> [Self; 2] {
        [Direction::Ingress, Direction::Egress].map(|direction| Self::of(networks, ends, direction, altered))
    }

    fn of(networks: [&'n Network; 2], ends: &Ends<'n>, direction: Direction, altered: &Altered<'n>) -> Self {
        // What speaks to every end: sets of policies by number, before and after.
        let mut sets: Vec<Vec<&Policy>> = Vec::new();
        let mut heard: Vec<[Vec<u32>; 2]> = vec![Default::default(); ends.len()];
        for time in BOTH {
            let mut subjects: BTreeMap<SetId, Vec<&Policy>> = BTreeMap::new();
            for policy in networks[time].policies.values().filter(|policy| speaks(policy, direction)) {
                subjects.entry(policy.subject).or_default().push(policy);
            }
            for (id, policies) in subjects {
                let Some(selector) = networks[time].selectors.get(&id) else { continue };
                for member in ends.select(time, selector) {
                    heard[member as usize][time].push(sets.len() as u32);
                }
                sets.push(policies);
            }
        }
        type Key = ([Vec<u32>; 2], Option<[Option<NodeName>; 2]>, bool);
        let mut alike: HashMap<Key, Vec<u32>> = HashMap::new();
        for (number, heard) in (0u32..).zip(heard) {
            let Party::Pod(was) = ends.get(number).party[0] else { continue };
            let Party::Pod(is) = ends.get(number).party[1] else { continue };
            if heard.iter().all(Vec::is_empty) {
                continue;
            }
            let moved = (was.node != is.node).then(|| [was.node.clone(), is.node.clone()]);
            alike.entry((heard, moved, ends.get(number).address[0].is_ipv4())).or_default().push(number);
        }
        let mut subjects: Vec<u32> = alike.values().flatten().copied().collect();
        subjects.sort_unstable();
        let (of, subjects) = (vec![None; ends.len()], Bunch::only(subjects));
        let mut classes = Self { direction, all: Vec::new(), of, subjects };
        let mut alike: Vec<_> = alike.into_iter().collect();
        alike.sort_by_key(|(_, members)| members[0]);
        for ((heard, moved, _), members) in alike {
            let dockets = heard.map(|heard| {
                let policies = heard.iter().flat_map(|set| sets[*set as usize].iter().copied());
                Docket::of(policies.collect(), direction)
            });
            classes.add(ends, Rc::new(dockets), moved, members, altered);
        }
        classes
    }

    /// Adds subjects that are selected alike; what their own port numbers tell apart comes apart.
    fn add(
        &mut self,
        ends: &Ends<'n>,
        dockets: Rc<[Docket<'n>; 2]>,
        moved: Option<[Option<NodeName>; 2]>,
        members: Vec<u32>,
        altered: &Altered<'n>,
    ) {
        let ids = |time: usize| dockets[time].policies.iter().map(|policy| &policy.id);
        let is_altered = !ids(0).eq(ids(1)) || ids(0).any(|id| altered.is_altered(id, self.direction));
        let names: BTreeSet<_> = match self.direction {
            Direction::Ingress => dockets.iter().flat_map(Docket::names).collect(),
            Direction::Egress => BTreeSet::new(),
        };
        let numbers = |number: u32, time: usize| -> Vec<BTreeSet<u16>> {
            let party = ends.get(number).party[time];
            names.iter().map(|(name, protocol)| party.numbers(name, *protocol)).collect()
        };
        let mut parts: BTreeMap<[Vec<BTreeSet<u16>>; 2], Vec<u32>> = BTreeMap::new();
        for member in members {
            parts.entry(BOTH.map(|time| numbers(member, time))).or_default().push(member);
        }
        for (numbers, members) in parts {
            for member in &members {
                self.of[*member as usize] = Some(self.all.len() as u32);
            }
            let example = members[0];
            self.all.push(Class {
                ends: Bunch::only(members).canonical(&ends.family(example)),
                example,
                dockets: dockets.clone(),
                is_altered: is_altered || numbers[0] != numbers[1] || moved.is_some(),
                moved: moved.clone(),
            });
        }
    }

    pub(super) fn class_of(&self, end: u32) -> Option<usize> {
        self.of[end as usize].map(|class| class as usize)
    }

    /// Takes a bunch of ends to pieces: by class, and those that are no subjects.
    pub(super) fn split(&self, universe: &Range<u32>, bunch: &Bunch) -> Vec<(Option<usize>, Bunch)> {
        let mut parts = Vec::new();
        let rest;
        if bunch.complement {
            for (number, class) in self.all.iter().enumerate() {
                if universe.contains(&class.example) {
                    parts.push((Some(number), bunch.intersection(&class.ends)));
                }
            }
            rest = bunch.minus(&Bunch::within(&self.subjects.listed, universe));
        } else {
            let mut by_class: BTreeMap<Option<usize>, Vec<u32>> = BTreeMap::new();
            for end in &bunch.listed {
                by_class.entry(self.class_of(*end)).or_default().push(*end);
            }
            rest = Bunch::only(by_class.remove(&None).unwrap_or_default());
            parts.extend(by_class.into_iter().map(|(class, ends)| (class, Bunch::only(ends))));
        }
        parts.push((None, rest));
        parts.retain(|(_, bunch)| bunch.len(universe) > 0);
        parts
    }
}

/// The peers of a class, taken to pieces that its policies cannot tell apart. Which they name, and the rest.
pub(super) struct Partition {
    pub(super) parts: Vec<Bunch>,
}

/// Remembers the members of sets and the partitions of classes.
pub(super) struct Partitions<'a, 'n> {
    networks: [&'n Network; 2],
    ends: &'a Ends<'n>,
    members: [HashMap<SetId, Rc<Vec<u32>>>; 2],
    made: HashMap<(Direction, usize), Rc<Partition>>,
}

impl<'a, 'n> Partitions<'a, 'n> {
    pub(super) fn new(networks: [&'n Network; 2], ends: &'a Ends<'n>) -> Self {
        Self { networks, ends, members: Default::default(), made: HashMap::new() }
    }

    /// The partition of the peers of a class.
    pub(super) fn of(&mut self, classes: &Classes<'n>, class: usize) -> Rc<Partition> {
        let key = (classes.direction, class);
        if let Some(made) = self.made.get(&key) {
            return made.clone();
        }
        let partition = Rc::new(self.make(classes.direction, &classes.all[class]));
        self.made.insert(key, partition.clone());
        partition
    }

    fn make(&mut self, direction: Direction, class: &Class<'n>) -> Partition {
        let universe = self.ends.family(class.example);
        let mut marks: HashMap<u32, u128> = HashMap::new();
        let mut criterion = 0;
        let mut mark = |members: &[u32]| {
            criterion += 1;
            let mark = scatter(criterion);
            let members = members.iter().filter(|member| universe.contains(member));
            members.for_each(|member| *marks.entry(*member).or_default() ^= mark);
        };
        for time in BOTH {
            let (mut sets, mut blocks): (BTreeSet<SetId>, BTreeSet<&IpBlock>) = Default::default();
            for (peers, _) in class.dockets[time].terms() {
                if let Peers::Some { sets: named, blocks: prefixes } = peers {
                    sets.extend(named);
                    blocks.extend(prefixes);
                }
            }
            for id in sets {
                mark(&self.members(time, id));
            }
            for block in blocks {
                mark(&self.ends.inside(time, block));
            }
            if direction == Direction::Egress {
                for (name, protocol) in class.dockets[time].names() {
                    let mut by_number: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
                    for end in self.ends.declaring(time, name, protocol) {
                        for number in self.ends.get(*end).party[time].numbers(name, protocol) {
                            by_number.entry(number).or_default().push(*end);
                        }
                    }
                    by_number.into_values().for_each(|members| mark(&members));
                }
            }
        }
        let mut named: Vec<u32> = marks.keys().copied().collect();
        named.sort_unstable();
        let mut alike: BTreeMap<u128, Vec<u32>> = BTreeMap::new();
        for end in &named {
            alike.entry(marks[end]).or_default().push(*end);
        }
        let rest = Bunch::all_but(named);
        let mut parts: Vec<Bunch> = alike.into_values().map(Bunch::only).collect();
        parts.push(rest);
        parts.retain(|part| part.len(&universe) > 0);
        Partition { parts: parts.into_iter().map(|part| part.canonical(&universe)).collect() }
    }

    fn members(&mut self, time: usize, id: SetId) -> Rc<Vec<u32>> {
        let found = self.members[time].entry(id).or_insert_with(|| {
            let selector = self.networks[time].selectors.get(&id);
            Rc::new(selector.map(|selector| self.ends.select(time, selector)).unwrap_or_default())
        });
        found.clone()
    }
}

/// A mark of 128 bits that has nothing to do with those of other numbers (SplitMix64, twice), so that two different sets of
/// marks do not cancel out.
fn scatter(number: u64) -> u128 {
    let half = |start: u64| {
        let mut z = number.wrapping_add(start).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(z ^ z >> 31)
    };
    half(0x5851_f42d_4c95_7f2d) << 64 | half(0x1405_7b7e_f767_814f)
}
