//! The policies that are asked about a subject in one direction, laid out for asking: ordered tiers rule by rule, allowing rules
//! that are the same once, with all their owners. Gives no verdicts.

use std::collections::{BTreeSet, HashMap};

use crate::policy::{Direction, Peers, Policy, PortMatch, Ports, Rule, Tier};
use crate::protocol::Protocol;

/// A policy and, where it is one, the rule's place in its list.
pub(super) type Owner<'n> = (&'n Policy, Option<u32>);

/// What is asked, in its order.
pub(super) struct Docket<'n> {
    /// All policies, by tier, priority and name.
    pub(super) policies: Vec<&'n Policy>,
    /// Rules of the Admin tier, the first that matches decides.
    pub(super) admin: Vec<(&'n Policy, &'n Rule)>,
    /// NetworkPolicies that isolate; without any their tier has no say.
    pub(super) isolating: Vec<Owner<'n>>,
    /// What they allow.
    pub(super) allowing: Vec<Allowing<'n>>,
    /// Rules of the Baseline tier.
    pub(super) baseline: Vec<(&'n Policy, &'n Rule)>,
}

/// Rules of NetworkPolicies that say the same.
pub(super) struct Allowing<'n> {
    pub(super) peers: &'n Peers,
    pub(super) ports: &'n Ports,
    pub(super) owners: Vec<Owner<'n>>,
}

impl<'n> Docket<'n> {
    pub(super) fn of(mut policies: Vec<&'n Policy>, direction: Direction) -> Self {
        policies.sort_by_key(|policy| (policy.tier, policy.priority, &policy.id));
        let of_tier = |tier: Tier| policies.iter().copied().filter(move |policy| policy.tier == tier);
        let ordered = |tier| {
            let rules =
                |policy: &'n Policy| rules(policy, direction).into_iter().map(move |rule| (policy, rule));
            of_tier(tier).flat_map(rules).collect()
        };
        let isolating: Vec<Owner<'n>> = of_tier(Tier::NetworkPolicy)
            .filter(|policy| policy.isolates.of(direction))
            .map(|policy| (policy, None))
            .collect();
        let mut allowing: Vec<Allowing<'n>> = Vec::new();
        let mut places: HashMap<(&Peers, &Ports), usize> = HashMap::new();
        for (policy, _) in &isolating {
            for rule in rules(policy, direction) {
                let place = *places.entry((&rule.peers, &rule.ports)).or_insert_with(|| {
                    allowing.push(Allowing { peers: &rule.peers, ports: &rule.ports, owners: Vec::new() });
                    allowing.len() - 1
                });
                allowing[place].owners.push((policy, Some(rule.index)));
            }
        }
        let (admin, baseline) = (ordered(Tier::Admin), ordered(Tier::Baseline));
        Self { policies, admin, isolating, allowing, baseline }
    }

    /// Peers and ports of every rule, of equal ones of NetworkPolicies once.
    pub(super) fn terms(&self) -> impl Iterator<Item = (&'n Peers, &'n Ports)> {
        let ordered = self.admin.iter().chain(&self.baseline).map(|(_, rule)| (&rule.peers, &rule.ports));
        ordered.chain(self.allowing.iter().map(|allowing| (allowing.peers, allowing.ports)))
    }

    /// The port names that rules say.
    pub(super) fn names(&self) -> BTreeSet<(&'n str, Protocol)> {
        let matches = self.terms().filter_map(|(_, ports)| match ports {
            Ports::Any => None,
            Ports::Some(matches) => Some(matches),
        });
        let named = matches.flatten().filter_map(|port| match port {
            PortMatch::Range(_) => None,
            PortMatch::Named { protocol, name } => Some((name.as_str(), *protocol)),
        });
        named.collect()
    }
}

/// The rules of a direction in their order.
fn rules(policy: &Policy, direction: Direction) -> Vec<&Rule> {
    let mut rules: Vec<&Rule> = policy.rules.iter().filter(|rule| rule.direction == direction).collect();
    rules.sort_by_key(|rule| rule.index);
    rules
}
