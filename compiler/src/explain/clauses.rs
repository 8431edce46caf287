//! Which rules are about a pod, and what a packet lacks to match each: read from the clauses of the compiled program.

use std::collections::{BTreeMap, BTreeSet};

use network::{Direction, LocalPod, Network, Ports, Rule};
use openflow::{Action, Cookie, Field};

use super::{Clause, Considered, Fit, flow_text, rule_text};
use crate::input::PortRef;
use crate::program::{FlowAction, FlowKey, Program};
use crate::provenance::Owner;
use crate::simulate::matrix::Site;
use crate::simulate::{Packet, matches};
use crate::table::Table;

/// Every rule of a direction whose policy selects a pod, in the order in which they are asked.
pub(super) fn considered(
    network: &Network,
    site: &Site,
    pod: &LocalPod,
    direction: Direction,
    packet: &Packet,
    decided: &dyn Fn(Cookie) -> bool,
) -> Vec<Considered> {
    let selects = |policy: &&network::Policy| {
        let selector = network.selectors.get(&policy.subject);
        selector.is_some_and(|selector| network.select_pods(selector).any(|one| one.key == pod.key))
    };
    let mut policies: Vec<_> = network.policies.values().filter(selects).collect();
    policies.sort_by_key(|policy| (policy.tier, policy.priority, &policy.id));
    let tables = crate::policy::tables(direction).0;
    let stages: BTreeMap<_, _> =
        tables.into_iter().map(|(tier, table)| (tier, Stage::of(&site.program, table, packet))).collect();
    let mut all = Vec::new();
    for policy in policies {
        for rule in policy.rules.iter().filter(|rule| rule.direction == direction) {
            let owner = Owner::Rule { policy: policy.id.clone(), direction, index: rule.index };
            let fit = match site.program.refused.get(&policy.id) {
                Some(why) => Fit::Void(format!("refused: {why}")),
                None => stages
                    .get(&policy.tier)
                    .and_then(|stage| stage.fit(&owner, decided))
                    .unwrap_or_else(|| Fit::Void(void(rule))),
            };
            all.push(Considered {
                policy: policy.id.clone(),
                tier: policy.tier,
                pod: pod.key.clone(),
                direction,
                index: rule.index,
                action: rule.action,
                what: rule_text(network, rule),
                fit,
            });
        }
    }
    all
}

/// Why a rule has no flows.
fn void(rule: &Rule) -> String {
    match &rule.ports {
        Ports::Some(ports) if ports.is_empty() => "its ports match nothing".into(),
        Ports::Some(ports) if ports.iter().all(|port| matches!(port, network::PortMatch::Named { .. })) => {
            "no pod that it is about declares a port of this name".into()
        }
        _ => "nobody is at its other end now".into(),
    }
}

/// The conjunctions of a table, as a packet finds them.
struct Stage {
    conjunctions: BTreeMap<u32, Conjunction>,
    /// Rules whose subject alone decides, by the cookie of their flow.
    unconditional: Vec<(BTreeSet<Owner>, Cookie)>,
}

#[derive(Default)]
struct Conjunction {
    owners: BTreeSet<Owner>,
    cookie: Cookie,
    clauses: BTreeMap<u8, (Clause, bool)>,
}

impl Stage {
    fn of(program: &Program, table: Table, packet: &Packet) -> Self {
        let mut stage = Self { conjunctions: BTreeMap::new(), unconditional: Vec::new() };
        for (key, flow) in program.flows.iter().filter(|(key, _)| key.table == table) {
            let owners = || program.reasons.get(&flow.cookie).map(|reason| reason.owners.clone());
            if let Some(id) = key.match_.exact(Field::CONJ_ID) {
                let one = stage.conjunctions.entry(id as u32).or_default();
                (one.owners, one.cookie) = (owners().unwrap_or_default(), flow.cookie);
                continue;
            }
            let met = matches(key, packet, &PortRef::Gateway);
            let mut is_clause = false;
            for action in &flow.actions {
                let FlowAction::Do(Action::Conjunction { clause, id, .. }) = action else { continue };
                is_clause = true;
                let kind = match clause {
                    0 => Clause::Subject,
                    _ if key.match_.get(Field::IP_PROTO).is_some() => Clause::Port,
                    _ => Clause::Peer,
                };
                let one = stage.conjunctions.entry(*id).or_default();
                one.clauses.entry(*clause).or_insert((kind, false)).1 |= met;
            }
            if !is_clause && met {
                stage.unconditional.push((owners().unwrap_or_default(), flow.cookie));
            }
        }
        stage
    }

    /// What came of a rule; a rule with several named ports has several conjunctions, of which the nearest counts. `None` when
    /// it has no flows.
    fn fit(&self, owner: &Owner, decided: &dyn Fn(Cookie) -> bool) -> Option<Fit> {
        let matched = |cookie: Cookie| if decided(cookie) { Fit::Decides } else { Fit::Matches };
        let whole = self.unconditional.iter().find(|(owners, _)| owners.contains(owner));
        if let Some((_, cookie)) = whole {
            return Some(matched(*cookie));
        }
        let mut nearest: Option<Vec<Clause>> = None;
        for one in self.conjunctions.values().filter(|one| one.owners.contains(owner)) {
            let missing: Vec<Clause> =
                one.clauses.values().filter(|(_, met)| !met).map(|(clause, _)| *clause).collect();
            if missing.is_empty() {
                return Some(matched(one.cookie));
            }
            if nearest.as_ref().is_none_or(|known| missing.len() < known.len()) {
                nearest = Some(missing);
            }
        }
        nearest.map(|missing| Fit::Differs { missing })
    }
}

/// The clauses of a conjunction that a packet matched, when a flow is the verdict of one.
pub(super) fn of_verdict(program: &Program, verdict: &FlowKey, packet: &Packet) -> Vec<String> {
    let Some(id) = verdict.match_.exact(Field::CONJ_ID) else { return Vec::new() };
    let serves = |action: &FlowAction| matches!(action, FlowAction::Do(Action::Conjunction { id: served, .. }) if u128::from(*served) == id);
    program
        .flows
        .iter()
        .filter(|(key, flow)| key.table == verdict.table && flow.actions.iter().any(serves))
        .filter(|(key, _)| matches(key, packet, &PortRef::Gateway))
        .map(|(key, flow)| {
            let mut only = flow.clone();
            only.actions.retain(serves);
            flow_text(key, &only)
        })
        .collect()
}
