//! One tier in one direction: its rules become conjunctions, equal rules become one with several owners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::{Action, Direction, PeerMatch, PolicyId, PortRange, Tier, ViewPolicy, ViewRule};
use openflow::{Field, Match};

use super::clause::{self, Clause, TooMany};
use super::{Subjects, conjunction, subject_end, tables, words};
use crate::builder::{Builder, flow};
use crate::packet::End;
use crate::pipeline::Context;
use crate::program::FlowAction;
use crate::provenance::{Owner, Reason};
use crate::table::Table;

/// The priority of rules in the NetworkPolicy tables; all allow, so their order means nothing.
const RULES: u16 = 1_000;
/// The highest priority in the ordered tiers. 1,001 priorities of 25 rules and one place for what does
/// not fit stand below it, two flow priorities each.
const ORDERED: u16 = 52_100;
/// Rules per priority and direction in the ordered tiers: as many as one ClusterNetworkPolicy (v1alpha2) may have, shared by
/// policies of equal priority.
const RULES_PER_PRIORITY: u32 = 25;
/// `conjunction()` actions of one flow: 16 bytes each, and a flow-mod is at most 64 KiB (measured: 4,085 fit).
const CONJUNCTIONS_PER_FLOW: usize = 4_000;

/// What makes two rules the same conjunction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct RuleKey {
    table: u8,
    egress: bool,
    priority: u16,
    next: u8,
    subject: BTreeSet<IpAddr>,
    peers: PeerMatch,
    ports: Option<BTreeSet<PortRange>>,
}

/// Adds the flows of one tier.
pub(super) fn build(
    context: &Context<'_>,
    subjects: &Subjects<'_>,
    direction: Direction,
    tier: Tier,
    policies: &[&ViewPolicy],
    out: &mut Builder,
    refused: &mut BTreeMap<PolicyId, String>,
) {
    let (tiers, pass) = tables(direction);
    let place = tiers.iter().position(|(t, _)| *t == tier).unwrap_or(1);
    let table = tiers[place].1;
    let after = tiers.get(place + 1).map_or(pass, |(_, table)| *table);
    let ranks = ranks(direction, policies);
    let mut rules: BTreeMap<RuleKey, BTreeSet<Owner>> = BTreeMap::new();
    for policy in policies {
        for rule in policy.rules.iter().filter(|rule| rule.direction == direction) {
            let Some(subject) = subjects.addresses.get(&rule.subject) else { continue };
            let next = match rule.action {
                Action::Accept => pass,
                Action::Deny => Table::Block,
                Action::Pass => after,
            };
            let mut key = RuleKey {
                table: table.id(),
                egress: direction == Direction::Egress,
                priority: RULES,
                next: next.id(),
                subject: subject.clone(),
                peers: rule.peers.clone(),
                ports: rule.ports.clone(),
            };
            if tier != Tier::NetworkPolicy {
                let rank = ranks.get(&(policy.priority, &policy.id, rule.index)).copied().unwrap_or(0);
                match ordered(policy.priority, rank) {
                    Ok(priority) => key.priority = priority,
                    Err(NoRoom { lowest }) => {
                        let reason = format!(
                            "more than {RULES_PER_PRIORITY} {direction:?} rules at priority {}, or a priority above 1000: \
                             spread the policies over priorities",
                            policy.priority
                        );
                        refused.insert(policy.id.clone(), reason);
                        key = denial(key, lowest);
                    }
                }
            }
            let owner = Owner::Rule { policy: policy.id.clone(), direction, index: rule.index };
            rules.entry(key).or_default().insert(owner);
        }
    }
    Stage { context, direction, tier, table, refused }.rules(rules, out);
}

/// The place of every rule among those of its priority: by policy, then by index. A policy more renumbers the rules of its
/// own priority and no others.
fn ranks<'p>(direction: Direction, policies: &[&'p ViewPolicy]) -> BTreeMap<(u32, &'p PolicyId, u32), u32> {
    let mut all: BTreeSet<(u32, &PolicyId, u32)> = BTreeSet::new();
    for policy in policies {
        let indexes = policy.rules.iter().filter(|rule| rule.direction == direction).map(|rule| rule.index);
        all.extend(indexes.map(|index| (policy.priority, &policy.id, index)));
    }
    let mut ranks = BTreeMap::new();
    let mut last = None;
    let mut rank = 0;
    for key in all {
        rank = if last == Some(key.0) { rank + 1 } else { 0 };
        last = Some(key.0);
        ranks.insert(key, rank);
    }
    ranks
}

/// A rule has no flow priority of its own; `lowest` is the last of its slot.
struct NoRoom {
    lowest: u16,
}

fn ordered(priority: u32, rank: u32) -> Result<u16, NoRoom> {
    let at = |place: u32| ORDERED.saturating_sub(u16::try_from(2 * place).unwrap_or(u16::MAX)).max(2);
    let slot = priority.min(1_000) * (RULES_PER_PRIORITY + 1);
    if priority > 1_000 || rank >= RULES_PER_PRIORITY {
        return Err(NoRoom { lowest: at(slot + RULES_PER_PRIORITY) });
    }
    Ok(at(slot + rank))
}

/// What stands for a rule that cannot be expressed: it denies its subject rather than letting pass what it might deny.
fn denial(key: RuleKey, priority: u16) -> RuleKey {
    RuleKey { priority, next: Table::Block.id(), peers: PeerMatch::Any, ports: None, ..key }
}

/// A conjunction's clauses as matches: the subject first.
struct Compiled {
    subject: BTreeSet<Match>,
    others: Vec<(&'static str, BTreeSet<Match>)>,
}

/// A rule on its way into flows.
struct Conjunction<'k> {
    key: &'k RuleKey,
    id: u32,
    owners: &'k BTreeSet<Owner>,
    compiled: Compiled,
}

struct Stage<'a, 'b> {
    context: &'a Context<'b>,
    direction: Direction,
    tier: Tier,
    table: Table,
    refused: &'a mut BTreeMap<PolicyId, String>,
}

/// A clause flow: a match stands once per priority and carries every conjunction that it serves.
#[derive(Default)]
struct ClauseFlow {
    /// Conjunction, clause, number of clauses.
    entries: BTreeSet<(u32, u8, u8)>,
    owners: BTreeSet<Owner>,
    words: BTreeSet<&'static str>,
}

impl Stage<'_, '_> {
    fn rules(&mut self, rules: BTreeMap<RuleKey, BTreeSet<Owner>>, out: &mut Builder) {
        let ids = conjunction::assign(rules.keys().cloned(), 32);
        let mut conjunctions = Vec::new();
        for (key, owners) in &rules {
            let compiled = match self.compile(key) {
                Ok(Some(compiled)) => compiled,
                Ok(None) => continue,
                Err(TooMany { what }) => {
                    let most = clause::MATCHES_PER_RULE;
                    self.refuse(owners, &format!("too many {what}: at most {most} in a rule"));
                    // In the NetworkPolicy tier a rule that is missing allows nothing; in the others it might deny.
                    if self.tier != Tier::NetworkPolicy {
                        let end = subject_end(self.direction);
                        let denied = denial(key.clone(), key.priority);
                        self.unconditional(&denied, owners, clause::subject(end, &key.subject), out);
                    }
                    continue;
                }
            };
            if compiled.others.is_empty() {
                self.unconditional(key, owners, compiled.subject, out);
                continue;
            }
            // Every key was given an id.
            let Some(id) = ids.get(key).copied() else { continue };
            conjunctions.push(Conjunction { key, id, owners, compiled });
        }
        let levels = levels(&conjunctions);
        let mut clauses: BTreeMap<(u16, Match), ClauseFlow> = BTreeMap::new();
        for Conjunction { key, id, owners, compiled } in conjunctions {
            let priority = level(key.priority, id, levels);
            let n_clauses = compiled.others.len() as u8 + 1;
            let all = std::iter::once((self.subject_word(), compiled.subject)).chain(compiled.others);
            for (place, (word, matches)) in all.enumerate() {
                for match_ in matches {
                    let slot = clauses.entry((priority, match_)).or_default();
                    slot.entries.insert((id, place as u8, n_clauses));
                    slot.owners.extend(owners.iter().cloned());
                    slot.words.insert(word);
                }
            }
            let next = next_of(key);
            let draft = flow(self.table, priority, Match::new().with(Field::CONJ_ID, id)).goto(next);
            out.add_for(draft, Reason { owners: owners.clone(), what: sentence(key, next) });
        }
        for ((priority, match_), ClauseFlow { entries, owners, words }) in clauses {
            let what = words::clause(&words, &match_, entries.len());
            let actions = entries.into_iter().map(|(id, clause, n_clauses)| {
                FlowAction::Do(openflow::Action::Conjunction { clause, n_clauses, id })
            });
            let draft = actions.fold(flow(self.table, priority, match_), |draft, action| draft.act(action));
            out.add_for(draft, Reason { owners, what });
        }
    }

    /// The subject alone decides. One step above the clauses, so that no match stands for both.
    fn unconditional(
        &self,
        key: &RuleKey,
        owners: &BTreeSet<Owner>,
        subject: BTreeSet<Match>,
        out: &mut Builder,
    ) {
        let next = next_of(key);
        for match_ in subject {
            let draft = flow(self.table, key.priority + 1, match_).goto(next);
            out.add_for(draft, Reason { owners: owners.clone(), what: sentence(key, next) });
        }
    }

    /// The clauses of a rule; `None` when it can match nothing.
    fn compile(&self, key: &RuleKey) -> Result<Option<Compiled>, TooMany> {
        let end = subject_end(self.direction);
        let other = if end == End::Source { End::Destination } else { End::Source };
        let subject = clause::subject(end, &key.subject);
        let rule = ViewRule {
            index: 0,
            direction: self.direction,
            action: Action::Accept,
            subject: Default::default(),
            peers: key.peers.clone(),
            ports: None,
        };
        let peers: Clause = clause::peers(self.context, other, &rule)?;
        let ports: Clause = clause::ports(key.ports.as_ref());
        let peer_word = if other == End::Source { "from" } else { "to" };
        let others: Vec<_> =
            [(peer_word, peers), ("port", ports)].into_iter().filter_map(|(w, c)| Some((w, c?))).collect();
        let empty = subject.is_empty() || others.iter().any(|(_, matches)| matches.is_empty());
        Ok((!empty).then_some(Compiled { subject, others }))
    }

    fn subject_word(&self) -> &'static str {
        match self.direction {
            Direction::Ingress => "to",
            Direction::Egress => "from",
        }
    }

    fn refuse(&mut self, owners: &BTreeSet<Owner>, reason: &str) {
        for owner in owners {
            if let Owner::Rule { policy, .. } = owner {
                self.refused.insert(policy.clone(), reason.to_owned());
            }
        }
    }
}

fn next_of(key: &RuleKey) -> Table {
    Table::from_id(key.next).unwrap_or(Table::Block)
}

/// What a rule's deciding flow does.
fn sentence(key: &RuleKey, next: Table) -> String {
    let direction = if key.egress { Direction::Egress } else { Direction::Ingress };
    let (ports, peers) = (words::ports(key.ports.as_ref()), words::peers(direction, &key.peers));
    format!("{}: {ports} {peers}", words::verdict(next))
}

/// How many priorities the rules of one are spread over, so that no clause flow carries more conjunctions than fit. A
/// power of two that depends on the most shared match only: it changes rarely, and a rule's place depends on its id alone.
fn levels(conjunctions: &[Conjunction<'_>]) -> u32 {
    let mut levels = 1;
    loop {
        let mut shares: BTreeMap<(u16, &Match), usize> = BTreeMap::new();
        for Conjunction { key, id, compiled, .. } in conjunctions {
            let others = compiled.others.iter().flat_map(|(_, matches)| matches);
            for match_ in compiled.subject.iter().chain(others) {
                *shares.entry((level(key.priority, *id, levels), match_)).or_default() += 1;
            }
        }
        // 256 levels of 4,000 are a million rules on one port: far past any node's budget.
        if levels >= 256 || shares.values().all(|share| *share <= CONJUNCTIONS_PER_FLOW) {
            return levels;
        }
        levels *= 2;
    }
}

/// The priority of a conjunction: two steps per level, as the step above each is for rules without clauses.
fn level(priority: u16, id: u32, levels: u32) -> u16 {
    priority.saturating_sub(2 * (id % levels) as u16)
}
