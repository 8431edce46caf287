//! What policies cost a node in flows, counted before anything is installed, and which of them do not fit its budget. It
//! must not know how flows look, only how many matches the parts of a rule stand for.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use network::{
    Action, Direction, IpBlock, PeerMatch, PolicyId, PortRange, SetId, Tier, ViewPolicy, ViewRule,
};

use super::parts::{self, Members};
use super::rules::{MATCHES_PER_RULE, keeps_pods_out};

/// What one policy costs a node, in flows. Upper bounds: addresses that two sets or blocks share are counted in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// If it were the only one.
    pub alone: usize,
    /// Beside the policies that are cheaper: clauses and rules that they have too are counted there.
    pub adds: usize,
    /// Whether it is within the node's budget.
    pub fits: bool,
}

/// Something that flows are made for once, however many rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Unit<'v> {
    direction: Direction,
    tier: Tier,
    /// In the ordered tiers every rule stands for itself.
    rule: Option<(&'v PolicyId, u32)>,
    what: What<'v>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What<'v> {
    Verdict(Action, SetId, &'v PeerMatch, Option<&'v BTreeSet<PortRange>>),
    Subject(SetId),
    Set(SetId),
    Block(&'v IpBlock),
    /// Who speaks for pods at hostPorts, in both families.
    Speakers,
    Ports(&'v BTreeSet<PortRange>),
}

/// The costs of policies. The cheapest come first: so one that does not fit is the dearest, and takes no room from others.
/// Of equal ones the order is that of their tiers and names.
pub(super) fn costs<'v>(
    policies: impl Iterator<Item = &'v ViewPolicy>,
    members: &dyn Members,
    budget: usize,
) -> BTreeMap<&'v PolicyId, Cost> {
    let counted = |policy: &'v ViewPolicy| {
        let units = units(policy, members);
        let alone: usize = units.iter().map(|(_, flows)| flows).sum();
        (alone, policy.tier, &policy.id, units)
    };
    let mut all: Vec<_> = policies.map(counted).collect();
    all.sort_unstable_by_key(|(alone, tier, id, _)| (*alone, *tier, *id));
    let (mut standing, mut used) = (HashSet::new(), 0);
    let mut costs = BTreeMap::new();
    for (alone, _, id, units) in all {
        let adds = units.iter().filter(|(unit, _)| !standing.contains(unit)).map(|(_, flows)| flows).sum();
        let fits = used + adds <= budget;
        if fits {
            used += adds;
            standing.extend(units.into_iter().map(|(unit, _)| unit));
        }
        costs.insert(id, Cost { alone, adds, fits });
    }
    costs
}

/// What each rule costs if it were the only one; a rule with named ports is several of one index.
pub(super) fn by_rule(policy: &ViewPolicy, members: &dyn Members) -> BTreeMap<(Direction, u32), usize> {
    let mut rules: BTreeMap<(Direction, u32), Vec<&ViewRule>> = BTreeMap::new();
    for rule in &policy.rules {
        rules.entry((rule.direction, rule.index)).or_default().push(rule);
    }
    let cost = |rules: Vec<&ViewRule>| {
        units_of(policy, rules.into_iter(), members).iter().map(|(_, flows)| flows).sum()
    };
    rules.into_iter().map(|(place, rules)| (place, cost(rules))).collect()
}

/// What a policy's rules consist of, each once, with its flows.
fn units<'v>(policy: &'v ViewPolicy, members: &dyn Members) -> Vec<(Unit<'v>, usize)> {
    units_of(policy, policy.rules.iter(), members)
}

fn units_of<'v>(
    policy: &'v ViewPolicy,
    rules: impl Iterator<Item = &'v ViewRule>,
    members: &dyn Members,
) -> Vec<(Unit<'v>, usize)> {
    let mut seen = HashSet::new();
    let mut units = Vec::new();
    for rule in rules {
        let subject = members.subject(rule.subject).len();
        let parts = parts_of(&rule.peers, members);
        let ports = rule.ports.as_ref().map(|ports| (What::Ports(ports), parts::ports_count(ports)));
        let peers: usize = parts.iter().map(|(_, flows)| flows).sum();
        let empty = rule.peers != PeerMatch::Any && peers == 0 || ports.is_some_and(|(_, flows)| flows == 0);
        // It has no flows, or is refused for itself.
        if subject == 0 || empty || peers > MATCHES_PER_RULE {
            continue;
        }
        let unconditional = rule.peers == PeerMatch::Any && rule.ports.is_none();
        let verdict = What::Verdict(rule.action, rule.subject, &rule.peers, rule.ports.as_ref());
        let deciding = if unconditional { subject } else { 1 };
        let clauses = (!unconditional).then_some((What::Subject(rule.subject), subject));
        let keeps_out = keeps_pods_out(rule.direction, rule.action == Action::Deny, &rule.peers);
        let parts = parts.into_iter().chain(keeps_out.then_some((What::Speakers, 2)));
        let whats = std::iter::once((verdict, deciding)).chain(clauses).chain(parts).chain(ports);
        for (what, flows) in whats {
            let place = (policy.tier != Tier::NetworkPolicy).then_some((&policy.id, rule.index));
            let unit = Unit { direction: rule.direction, tier: policy.tier, rule: place, what };
            if seen.insert(unit) {
                units.push((unit, flows));
            }
        }
    }
    units
}

fn parts_of<'v>(peers: &'v PeerMatch, members: &dyn Members) -> Vec<(What<'v>, usize)> {
    let PeerMatch::Some { sets, blocks } = peers else { return Vec::new() };
    let sets = sets.iter().map(|set| (What::Set(*set), members.count(*set)));
    let blocks = blocks.iter().map(|block| {
        (What::Block(block), parts::block_count(block, MATCHES_PER_RULE).unwrap_or(MATCHES_PER_RULE + 1))
    });
    sets.chain(blocks).collect()
}
