//! One tier in one direction: its rules become conjunctions, equal rules become one with several owners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::{Action, Direction, PeerMatch, PolicyId, PortRange, Tier, ViewPolicy, ViewRule};
use openflow::{Field, Match};

use super::clause::{self, Clause, TooMany};
use super::{Subjects, conjunction, subject_end, tables};
use crate::builder::{Builder, flow};
use crate::packet::End;
use crate::pipeline::Context;
use crate::program::FlowAction;
use crate::provenance::{Owner, Reason};
use crate::table::Table;

/// The priority of rules in the NetworkPolicy tables; all allow, so their order means nothing.
const RULES: u16 = 1_000;
/// The highest priority in the ordered tiers. 1,001 priorities of 25 rules fit below it, two priorities each.
const ORDERED: u16 = 50_100;
/// Rules per policy and direction in the ordered tiers (ClusterNetworkPolicy v1alpha2).
const RULES_PER_POLICY: u32 = 25;
/// `conjunction()` actions of one flow: 16 bytes each, and a flow-mod is at most 64 KiB (measured: 4,085 fit).
const CONJUNCTIONS_PER_FLOW: usize = 4_000;

/// What makes two rules the same conjunction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct RuleKey {
    table: u8,
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
    let mut rules: BTreeMap<RuleKey, BTreeSet<Owner>> = BTreeMap::new();
    for policy in policies {
        for rule in policy.rules.iter().filter(|rule| rule.direction == direction) {
            let Some(subject) = subjects.addresses.get(&rule.subject) else { continue };
            let next = match rule.action {
                Action::Accept => pass,
                Action::Deny => Table::Block,
                Action::Pass => after,
            };
            let Some(priority) = priority_of(tier, policy, rule) else {
                refused.insert(policy.id.clone(), format!("rule {} is past the last that fits", rule.index));
                continue;
            };
            let key = RuleKey {
                table: table.id(),
                priority,
                next: next.id(),
                subject: subject.clone(),
                peers: rule.peers.clone(),
                ports: rule.ports.clone(),
            };
            let owner = Owner::Rule { policy: policy.id.clone(), direction, index: rule.index };
            rules.entry(key).or_default().insert(owner);
        }
    }
    Stage { context, direction, table, refused }.rules(rules, out);
}

fn priority_of(tier: Tier, policy: &ViewPolicy, rule: &ViewRule) -> Option<u16> {
    if tier == Tier::NetworkPolicy {
        return Some(RULES);
    }
    let place = policy.priority.checked_mul(RULES_PER_POLICY)?.checked_add(rule.index)?;
    let fits = rule.index < RULES_PER_POLICY && policy.priority <= 1_000;
    fits.then(|| u16::try_from(u32::from(ORDERED) - 2 * place).ok()).flatten()
}

/// A conjunction's clauses as matches.
struct Compiled {
    subject: BTreeSet<Match>,
    others: Vec<(&'static str, BTreeSet<Match>)>,
}

struct Stage<'a, 'b> {
    context: &'a Context<'b>,
    direction: Direction,
    table: Table,
    refused: &'a mut BTreeMap<PolicyId, String>,
}

/// One entry of a clause flow: which conjunction, which clause, of how many.
type Entry = (u32, u8, u8);

impl Stage<'_, '_> {
    fn rules(&mut self, rules: BTreeMap<RuleKey, BTreeSet<Owner>>, out: &mut Builder) {
        let ids = conjunction::assign(rules.keys().cloned(), 32);
        // Clause flows of all conjunctions of one priority: a match stands once and carries every conjunction it serves.
        let mut clauses: BTreeMap<(u16, Match), (Vec<Entry>, BTreeSet<Owner>, &'static str)> =
            BTreeMap::new();
        for (key, owners) in &rules {
            let compiled = match self.compile(key) {
                Ok(Some(compiled)) => compiled,
                Ok(None) => continue,
                Err(TooMany { what }) => {
                    self.refuse(
                        owners,
                        &format!("too many {what}: at most {} in a rule", clause::MATCHES_PER_RULE),
                    );
                    continue;
                }
            };
            let next = Table::from_id(key.next).unwrap_or(Table::Block);
            let verdict = self.verdict(next);
            if compiled.others.is_empty() {
                // The subject alone decides. One step above the clauses, so that no match stands for both.
                for match_ in compiled.subject {
                    let draft = flow(self.table, key.priority + 1, match_).goto(next);
                    out.add_for(
                        draft,
                        Reason { owners: owners.clone(), what: format!("{verdict} whatever it is") },
                    );
                }
                continue;
            }
            let Some(id) = ids.get(key) else { continue };
            let n_clauses = compiled.others.len() as u8 + 1;
            let all = std::iter::once((self.subject_word(), compiled.subject)).chain(compiled.others);
            for (place, (what, matches)) in all.enumerate() {
                for match_ in matches {
                    let slot = clauses
                        .entry((key.priority, match_))
                        .or_insert_with(|| (vec![], BTreeSet::new(), what));
                    slot.0.push((*id, place as u8, n_clauses));
                    slot.1.extend(owners.iter().cloned());
                    if slot.2 != what {
                        slot.2 = "one clause of several";
                    }
                }
            }
            let met = Match::new().with(Field::CONJ_ID, *id);
            let draft = flow(self.table, key.priority, met).goto(next);
            out.add_for(draft, Reason { owners: owners.clone(), what: verdict.to_owned() });
        }
        for ((priority, match_), (mut entries, owners, what)) in clauses {
            entries.sort_unstable();
            entries.dedup();
            if entries.len() > CONJUNCTIONS_PER_FLOW {
                let reason = format!(
                    "one address or port would serve more than {CONJUNCTIONS_PER_FLOW} distinct rules"
                );
                self.refuse(&owners, &reason);
                continue;
            }
            let actions = entries.into_iter().map(|(id, clause, n_clauses)| {
                FlowAction::Do(openflow::Action::Conjunction { clause, n_clauses, id })
            });
            let draft = actions.fold(flow(self.table, priority, match_), |draft, action| draft.act(action));
            out.add_for(draft, Reason { owners, what: what.to_owned() });
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
        let peer_word = if other == End::Source { "clause: from" } else { "clause: to" };
        let others: Vec<_> = [(peer_word, peers), ("clause: port", ports)]
            .into_iter()
            .filter_map(|(w, c)| Some((w, c?)))
            .collect();
        let empty = subject.is_empty() || others.iter().any(|(_, matches)| matches.is_empty());
        Ok((!empty).then_some(Compiled { subject, others }))
    }

    fn subject_word(&self) -> &'static str {
        match self.direction {
            Direction::Ingress => "clause: to",
            Direction::Egress => "clause: from",
        }
    }

    fn verdict(&self, next: Table) -> &'static str {
        match next {
            Table::Block => "deny",
            Table::Routing | Table::Commit => "allow",
            _ => "pass to the next tier",
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
