//! One tier in one direction as flows. From, to and port are clauses of their own: a match stands once per priority and
//! carries every conjunction that it serves. The stage itself is small (rules and parts, never their product), so that what
//! it says about one match can be asked at any time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use network::{Cidr, Direction, IpBlock, PeerMatch, PolicyId, Tier, ViewPolicy};
use openflow::{Field, Match};

use super::parts::{Members, Narrow, Part};
use super::rules::{self, Numbered};
use super::{Refused, subject_end, tables, words};
use crate::program::FlowKey;
use crate::provenance::{Owner, Reason};
use crate::stream::{Draft, Out, flow};
use crate::table::Table;

/// What a stage is made of; it outlives the view that it came from.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    direction: Direction,
    table: Table,
    parts: Vec<Part>,
    conjunctions: Vec<Conjunction>,
}

/// A part of a stage, by its place.
type PartId = u32;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Conjunction {
    print: u64,
    id: u32,
    priority: u16,
    next: Table,
    /// What it decides is to be told.
    audited: bool,
    subject: PartId,
    peers: Option<Box<[PartId]>>,
    ports: Option<PartId>,
}

impl Conjunction {
    fn is_unconditional(&self) -> bool {
        self.peers.is_none() && self.ports.is_none()
    }

    fn n_clauses(&self) -> u8 {
        1 + u8::from(self.peers.is_some()) + u8::from(self.ports.is_some())
    }

    /// Its parts, each with the clause that it belongs to.
    fn clauses(&self) -> impl Iterator<Item = (PartId, u8)> + '_ {
        let peers = self.peers.iter().flat_map(|peers| peers.iter().map(|part| (*part, 1)));
        let ports = self.ports.map(|part| (part, 1 + u8::from(self.peers.is_some())));
        std::iter::once((self.subject, 0)).chain(peers).chain(ports)
    }

    /// What tells it from another version of itself.
    fn identity(&self) -> (u64, u32, u16, bool) {
        (self.print, self.id, self.priority, self.audited)
    }
}

/// Why a stage has its flows: whose each conjunction is. Lives as long as the view.
pub(crate) struct Why<'v> {
    numbered: Vec<Numbered<'v>>,
}

/// The flow of one match at one priority.
struct Group {
    narrow: Narrow,
    priority: u16,
    /// Conjunction, clause, number of clauses; none where the subject alone decides.
    entries: BTreeSet<(u32, u8, u8)>,
    /// Where the packet goes on, where the subject alone decides.
    next: Option<Table>,
    /// The conjunctions, by their places.
    rules: BTreeSet<usize>,
}

impl Stage {
    /// The stage of a tier, why it is so, and how many matches its largest other end has. `speakers` stand for pods, nobody knows
    /// for which.
    pub(super) fn new<'v>(
        policies: &[(&'v ViewPolicy, bool)],
        direction: Direction,
        tier: Tier,
        members: &dyn Members,
        speakers: &[IpAddr],
        refused: &mut Refused,
    ) -> (Self, Why<'v>, usize) {
        let (numbered, largest) = rules::number(policies, direction, tier, members, refused);
        let (tiers, _) = tables(direction);
        let table = tiers.iter().find(|(t, _)| *t == tier).map_or(tiers[1].1, |(_, table)| *table);
        let mut parts = Interner::default();
        let conjunctions = numbered
            .iter()
            .map(|Numbered { key, print, id, priority, audited, .. }| Conjunction {
                print: *print,
                id: *id,
                priority: *priority,
                next: key.next,
                audited: *audited,
                subject: parts.place(Part::Subject(key.subject)),
                peers: key.peers.map(|peers| {
                    let keeps_out = rules::keeps_pods_out(direction, key.next == Table::Block, peers);
                    parts.peers(peers, if keeps_out { speakers } else { &[] })
                }),
                ports: key.ports.map(|ports| parts.place(Part::Ports(ports.clone()))),
            })
            .collect();
        (Self { direction, table, parts: parts.parts, conjunctions }, Why { numbered }, largest)
    }

    /// Every flow.
    pub(crate) fn all(&self, why: &Why<'_>, members: &dyn Members, out: &mut Out<'_>) {
        for place in 0..self.conjunctions.len() {
            self.verdict(place, Some(why), out);
        }
        self.groups(members, None, |group| self.group(&group, Some(why), out));
    }

    /// How many flows at most, and on how many priorities the matches of one part stand at most.
    pub(crate) fn flows(&self, members: &dyn Members) -> (usize, usize) {
        let mut places: HashMap<PartId, BTreeSet<u16>> = HashMap::new();
        for one in &self.conjunctions {
            for (part, _) in one.clauses() {
                let priority = one.priority + u16::from(one.is_unconditional());
                places.entry(part).or_default().insert(priority);
            }
        }
        let verdicts = self.conjunctions.iter().filter(|one| !one.is_unconditional()).count();
        let count =
            |part: &PartId| self.parts[*part as usize].count(members, usize::MAX).unwrap_or(usize::MAX);
        let clauses = places.iter().map(|(part, places)| count(part).saturating_mul(places.len()));
        let most = places.values().map(BTreeSet::len).max().unwrap_or(0);
        (clauses.fold(verdicts, usize::saturating_add), most)
    }

    /// How it differs from what it was: the matches about which it may now say something else.
    pub(crate) fn changes(&self, before: &Self) -> StageChanges {
        let versions = |stage: &Self| -> HashMap<(u64, u32, u16, bool), usize> {
            stage.conjunctions.iter().enumerate().map(|(place, one)| (one.identity(), place)).collect()
        };
        let (old, new) = (versions(before), versions(self));
        let only = |a: &HashMap<_, usize>, b: &HashMap<_, usize>| {
            let mut places: Vec<usize> = a
                .iter()
                .filter(|(identity, _)| !b.contains_key(*identity))
                .map(|(_, place)| *place)
                .collect();
            places.sort_unstable();
            places
        };
        StageChanges { gone: only(&old, &new), come: only(&new, &old) }
    }

    /// The matches of some conjunctions.
    pub(crate) fn touch(&self, places: &[usize], members: &dyn Members, touched: &mut BTreeSet<Narrow>) {
        let parts: BTreeSet<PartId> = places
            .iter()
            .flat_map(|place| self.conjunctions[*place].clauses())
            .map(|(part, _)| part)
            .collect();
        for part in parts {
            self.parts[part as usize].each(members, |narrow| {
                touched.insert(narrow);
            });
        }
    }

    /// The flows of what is touched, without their reasons.
    pub(crate) fn some(
        &self,
        members: &dyn Members,
        come: &[usize],
        touched: &BTreeSet<Narrow>,
        out: &mut Out<'_>,
    ) {
        for place in come {
            self.verdict(*place, None, out);
        }
        self.groups(members, Some(touched), |group| self.group(&group, None, out));
    }

    /// The keys of what [`Stage::some`] gave for the same.
    pub(crate) fn keys(
        &self,
        members: &dyn Members,
        places: &[usize],
        touched: &BTreeSet<Narrow>,
        keys: &mut BTreeSet<FlowKey>,
    ) {
        let verdicts = places.iter().map(|place| &self.conjunctions[*place]);
        keys.extend(
            verdicts.filter(|one| !one.is_unconditional()).map(|one| self.verdict_of(one).into_key()),
        );
        self.groups(members, Some(touched), |group| {
            let draft = flow(self.table, group.priority, group.narrow.to_match(subject_end(self.direction)));
            keys.insert(draft.into_key());
        });
    }

    fn verdict_of(&self, one: &Conjunction) -> Draft {
        let draft = flow(self.table, one.priority, Match::new().with(Field::CONJ_ID, one.id)).goto(one.next);
        draft.audited(self.direction, one.audited)
    }

    /// The flow that decides for one conjunction.
    fn verdict(&self, place: usize, why: Option<&Why<'_>>, out: &mut Out<'_>) {
        let one = &self.conjunctions[place];
        if !one.is_unconditional() {
            out.add_for(self.verdict_of(one), &|| {
                why.map_or_else(Reason::default, |why| why.of(place, self))
            });
        }
    }

    fn group(&self, group: &Group, why: Option<&Why<'_>>, out: &mut Out<'_>) {
        let match_ = group.narrow.to_match(subject_end(self.direction));
        let mut draft = flow(self.table, group.priority, match_.clone());
        if let Some(next) = group.next {
            let is_audited = group.rules.iter().any(|place| self.conjunctions[*place].audited);
            draft = draft.goto(next).audited(self.direction, is_audited);
        }
        for (id, clause, n_clauses) in &group.entries {
            draft =
                draft.act(openflow::Action::Conjunction { clause: *clause, n_clauses: *n_clauses, id: *id });
        }
        out.add_for(draft, &|| {
            let Some(why) = why else { return Reason::default() };
            let mut reason = Reason::default();
            for place in &group.rules {
                reason.owners.extend(why.owners(*place, self.direction));
            }
            reason.what = match (group.next, group.rules.first()) {
                (Some(_), Some(place)) => why.of(*place, self).what,
                _ => words::clause(&self.words(group), &match_, group.entries.len()),
            };
            reason
        });
    }

    /// Which clauses a match serves.
    fn words(&self, group: &Group) -> BTreeSet<&'static str> {
        let (subject, other) = match self.direction {
            Direction::Ingress => ("to", "from"),
            Direction::Egress => ("from", "to"),
        };
        let word = |(_, clause, n_clauses): &(u32, u8, u8)| match (clause, n_clauses) {
            (0, _) => subject,
            _ if group.narrow.is_port() => "port",
            _ => other,
        };
        group.entries.iter().map(word).collect()
    }

    /// Every match at every priority, in their order; of `touched` alone where it is given.
    fn groups(&self, members: &dyn Members, touched: Option<&BTreeSet<Narrow>>, mut each: impl FnMut(Group)) {
        if touched.is_some_and(BTreeSet::is_empty) {
            return;
        }
        // Small and flat: this is all that is ever held of a stage's matches at once.
        let mut entries: Vec<(Narrow, PartId)> = Vec::new();
        let mut uses: HashMap<PartId, Vec<(usize, u8)>> = HashMap::new();
        for (part, id) in self.parts.iter().zip(0..) {
            let before = entries.len();
            match touched {
                None => part.each(members, |narrow| entries.push((narrow, id))),
                Some(touched) => part.each_of(members, touched, |narrow| entries.push((narrow, id))),
            }
            if entries.len() > before {
                uses.insert(id, Vec::new());
            }
        }
        for (place, one) in self.conjunctions.iter().enumerate() {
            for (part, clause) in one.clauses() {
                if let Some(uses) = uses.get_mut(&part) {
                    uses.push((place, clause));
                }
            }
        }
        entries.sort_unstable();
        entries.dedup();
        for run in entries.chunk_by(|(a, _), (b, _)| a == b) {
            let narrow = run[0].0;
            let mut groups: BTreeMap<u16, Group> = BTreeMap::new();
            for (place, clause) in run.iter().filter_map(|(_, part)| uses.get(part)).flatten() {
                let one = &self.conjunctions[*place];
                // One step above the clauses, so that no match stands for both.
                let priority = one.priority + u16::from(one.is_unconditional());
                let empty = || Group {
                    narrow,
                    priority,
                    entries: BTreeSet::new(),
                    next: None,
                    rules: BTreeSet::new(),
                };
                let group = groups.entry(priority).or_insert_with(empty);
                group.rules.insert(*place);
                if one.is_unconditional() {
                    group.next.get_or_insert(one.next);
                } else {
                    group.entries.insert((one.id, *clause, one.n_clauses()));
                }
            }
            groups.into_values().for_each(&mut each);
        }
    }
}

/// Conjunctions that are no longer, and that are new, by their places.
#[derive(Debug, Default)]
pub(crate) struct StageChanges {
    pub(crate) gone: Vec<usize>,
    pub(crate) come: Vec<usize>,
}

impl Why<'_> {
    fn of(&self, place: usize, stage: &Stage) -> Reason {
        Reason {
            owners: self.owners(place, stage.direction).collect(),
            what: self.numbered[place].key.sentence(stage.direction),
        }
    }

    fn owners(&self, place: usize, direction: Direction) -> impl Iterator<Item = Owner> + '_ {
        let rule = move |(policy, index): &(&PolicyId, u32)| Owner::Rule {
            policy: (*policy).clone(),
            direction,
            index: *index,
        };
        self.numbered[place].owners.iter().map(rule)
    }
}

/// Gives every part its place.
#[derive(Default)]
struct Interner {
    parts: Vec<Part>,
    places: HashMap<Part, PartId>,
}

impl Interner {
    fn place(&mut self, part: Part) -> PartId {
        if let Some(place) = self.places.get(&part) {
            return *place;
        }
        let place = self.parts.len() as PartId;
        self.parts.push(part.clone());
        self.places.insert(part, place);
        place
    }

    /// The parts of an other end, and of these addresses beside it.
    fn peers(&mut self, peers: &PeerMatch, and: &[IpAddr]) -> Box<[PartId]> {
        let PeerMatch::Some { sets, blocks } = peers else { return Box::default() };
        let sets = sets.iter().map(|set| Part::Set(*set));
        let blocks = blocks.iter().map(|block| Part::Block(block.clone()));
        let and = and.iter().map(|address| Part::Block(IpBlock::whole(Cidr::host(*address))));
        sets.chain(blocks).chain(and).map(|part| self.place(part)).collect()
    }
}
