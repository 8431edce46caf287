//! The rules of one tier in one direction, without an address in sight: which are the same conjunction, at which priority
//! each stands, which cannot be expressed. Costs what there are of rules, whatever they select.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use network::{Action, Direction, PeerMatch, PolicyId, PortRange, SetId, Tier, ViewPolicy};

use super::parts::{self, Members};
use super::{Refused, closed, conjunction, order, tables, words};
use crate::table::Table;

/// The priority of rules in the NetworkPolicy tables; all allow, so their order means nothing.
const RULES: u16 = 1_000;
/// `conjunction()` actions of one flow: 16 bytes each, and a flow-mod is at most 64 KiB (measured: 4,085 fit).
const CONJUNCTIONS_PER_FLOW: usize = 4_000;
/// How many priorities the rules of one are spread over at most: at 4,000 each a million rules, far past any node's budget.
const LEVELS: u64 = 256;
/// Rules with the same other end stay on one level, so that its addresses stand once; more rules than these are spread.
const TOGETHER: usize = 500;
/// A rule takes at most this many matches; more is refused, naming the policy.
pub(super) const MATCHES_PER_RULE: usize = 200_000;

/// What makes two rules the same conjunction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RuleKey<'v> {
    table: Table,
    pub(super) priority: u16,
    pub(super) next: Table,
    pub(super) subject: SetId,
    /// `None`: everybody.
    pub(super) peers: Option<&'v PeerMatch>,
    /// `None`: every protocol and port.
    pub(super) ports: Option<&'v BTreeSet<PortRange>>,
}

impl RuleKey<'_> {
    /// The subject alone decides.
    pub(super) fn is_unconditional(&self) -> bool {
        self.peers.is_none() && self.ports.is_none()
    }

    /// What its deciding flow does, for people.
    pub(super) fn sentence(&self, direction: Direction) -> String {
        let (ports, peers) = (words::ports(self.ports), words::peers(direction, self.peers));
        format!("{}: {ports} {peers}", words::verdict(self.next))
    }
}

/// One conjunction, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Numbered<'v> {
    pub(super) key: RuleKey<'v>,
    /// Tells keys apart.
    pub(super) print: u64,
    pub(super) id: u32,
    /// Where it stands, levels counted in.
    pub(super) priority: u16,
    /// One of them is of an audited policy.
    pub(super) audited: bool,
    /// The rules that it came from.
    pub(super) owners: Vec<(&'v PolicyId, u32)>,
}

/// A rule as far as it matters here; of a closed policy there is no original.
struct Plain<'v> {
    index: u32,
    action: Action,
    subject: SetId,
    peers: Option<&'v PeerMatch>,
    ports: Option<&'v BTreeSet<PortRange>>,
}

fn plain_rules<'v>(policy: &'v ViewPolicy, direction: Direction, is_closed: bool) -> Vec<Plain<'v>> {
    if is_closed {
        let denial =
            Plain { index: 0, action: Action::Deny, subject: policy.subject, peers: None, ports: None };
        return closed::guarded(policy).contains(&direction).then_some(denial).into_iter().collect();
    }
    let plain = |rule: &'v network::ViewRule| Plain {
        index: rule.index,
        action: rule.action,
        subject: rule.subject,
        peers: Some(&rule.peers).filter(|peers| **peers != PeerMatch::Any),
        ports: rule.ports.as_ref(),
    };
    policy.rules.iter().filter(|rule| rule.direction == direction).map(plain).collect()
}

/// The conjunctions of one tier in one direction, ordered by their keys; and how many matches the largest other end has.
pub(super) fn number<'v>(
    policies: &[(&'v ViewPolicy, bool)],
    direction: Direction,
    tier: Tier,
    members: &dyn Members,
    refused: &mut Refused,
) -> (Vec<Numbered<'v>>, usize) {
    let (tiers, pass) = tables(direction);
    let place = tiers.iter().position(|(t, _)| *t == tier).unwrap_or(1);
    let table = tiers[place].1;
    let after = tiers.get(place + 1).map_or(pass, |(_, table)| *table);
    let rules: Vec<(&ViewPolicy, Vec<Plain<'_>>)> = policies
        .iter()
        .map(|(policy, is_closed)| (*policy, plain_rules(policy, direction, *is_closed)))
        .collect();
    let each = rules
        .iter()
        .flat_map(|(policy, rules)| rules.iter().map(|rule| (policy.priority, &policy.id, rule.index)));
    let order = if tier == Tier::NetworkPolicy { BTreeMap::new() } else { order::of(each) };
    let mut counts = Counts { members, known: HashMap::new() };
    let mut keys: BTreeMap<RuleKey<'v>, Vec<(&'v PolicyId, u32)>> = BTreeMap::new();
    for (policy, rules) in &rules {
        for rule in rules {
            let next = match rule.action {
                Action::Accept => pass,
                Action::Deny => Table::Block,
                Action::Pass => after,
            };
            let (subject, peers, ports) = (rule.subject, rule.peers, rule.ports);
            if members.subject(subject).is_empty() || ports.is_some_and(BTreeSet::is_empty) {
                continue;
            }
            let mut key = RuleKey { table, priority: RULES, next, subject, peers, ports };
            if tier != Tier::NetworkPolicy {
                match order.get(&(policy.priority, &policy.id, rule.index)).copied().flatten() {
                    Some(priority) => key.priority = priority,
                    None => {
                        let most = order::MOST_RULES;
                        let reason = format!("more than {most} {direction:?} rules of one tier on one node");
                        refused.insert(policy.id.clone(), reason);
                        key = denial(key, order::LAST);
                    }
                }
            }
            match counts.peers(key.peers) {
                // It can match nothing.
                Ok(Some(0)) => continue,
                Ok(_) => {}
                Err(TooMany { what }) => {
                    let reason = format!("too many {what}: at most {MATCHES_PER_RULE} in a rule");
                    refused.insert(policy.id.clone(), reason);
                    // In the NetworkPolicy tier a rule that is missing allows nothing; in the others it might deny.
                    if tier == Tier::NetworkPolicy {
                        continue;
                    }
                    key = denial(key, key.priority);
                }
            }
            keys.entry(key).or_default().push((&policy.id, rule.index));
        }
    }
    let audited = policies.iter().filter(|(policy, _)| policy.audit).map(|(policy, _)| &policy.id).collect();
    let largest = counts.known.values().filter_map(|count| count.ok()).max().unwrap_or(0);
    (numbered(keys, &audited, tier), largest)
}

fn numbered<'v>(
    keys: BTreeMap<RuleKey<'v>, Vec<(&'v PolicyId, u32)>>,
    audited: &HashSet<&PolicyId>,
    tier: Tier,
) -> Vec<Numbered<'v>> {
    let prints: Vec<u64> = keys.keys().map(conjunction::print).collect();
    let ids = conjunction::assign(prints.iter().copied(), 32);
    let mut all: Vec<Numbered<'v>> = keys
        .into_iter()
        .zip(prints.into_iter().zip(ids))
        .map(|((key, mut owners), (print, id))| {
            owners.sort_unstable();
            owners.dedup();
            let audited = !audited.is_empty() && owners.iter().any(|(policy, _)| audited.contains(policy));
            Numbered { key, print, id, priority: key.priority, audited, owners }
        })
        .collect();
    // In the ordered tiers every rule has a priority of its own.
    if tier == Tier::NetworkPolicy {
        spread(&mut all);
    }
    all
}

/// Spreads conjunctions over several priorities when there are more than one clause flow can carry, so that none ever does.
/// By their other end, so that its addresses stand on one level only; two steps per level, as the step above each is for
/// rules without clauses.
fn spread(all: &mut [Numbered<'_>]) {
    let conditional = all.iter().filter(|one| !one.key.is_unconditional());
    if conditional.clone().count() <= CONJUNCTIONS_PER_FLOW {
        return;
    }
    let mut together: HashMap<Option<&PeerMatch>, usize> = HashMap::new();
    for one in conditional.clone() {
        *together.entry(one.key.peers).or_default() += 1;
    }
    let places: Vec<u64> = all
        .iter()
        .map(|one| match together.get(&one.key.peers) {
            Some(count) if *count <= TOGETHER => conjunction::print(&one.key.peers),
            _ => one.print,
        })
        .collect();
    let mut levels = 2;
    loop {
        let mut counts = vec![0; levels as usize];
        for (_, place) in all.iter().zip(&places).filter(|(one, _)| !one.key.is_unconditional()) {
            counts[(place % levels) as usize] += 1;
        }
        if levels >= LEVELS || counts.iter().all(|count| *count <= CONJUNCTIONS_PER_FLOW) {
            break;
        }
        levels *= 2;
    }
    for (one, place) in all.iter_mut().zip(places) {
        if !one.key.is_unconditional() {
            one.priority -= 2 * (place % levels) as u16;
        }
    }
}

/// Whether a rule keeps pods out by what they are. Then it also keeps out who speaks for one of them, nobody knows for which
/// (`pipeline::host_ports`): a `Deny` must not be got around.
pub(super) fn keeps_pods_out(direction: Direction, denies: bool, peers: &PeerMatch) -> bool {
    let of_pods = matches!(peers, PeerMatch::Some { sets, .. } if !sets.is_empty());
    direction == Direction::Ingress && denies && of_pods
}

/// What stands for a rule that cannot be expressed: it denies its subject rather than letting pass what it might deny.
fn denial(key: RuleKey<'_>, priority: u16) -> RuleKey<'_> {
    RuleKey { priority, next: Table::Block, peers: None, ports: None, ..key }
}

/// The rule cannot be expressed within the limit.
#[derive(Clone, Copy)]
struct TooMany {
    what: &'static str,
}

/// How many matches other ends come to; many rules name the same.
struct Counts<'m, 'v> {
    members: &'m dyn Members,
    known: HashMap<&'v PeerMatch, Result<usize, TooMany>>,
}

impl<'v> Counts<'_, 'v> {
    /// `None` for everybody.
    fn peers(&mut self, peers: Option<&'v PeerMatch>) -> Result<Option<usize>, TooMany> {
        let Some(peers) = peers else { return Ok(None) };
        if let Some(known) = self.known.get(peers) {
            return (*known).map(Some);
        }
        let count = self.count(peers);
        self.known.insert(peers, count);
        count.map(Some)
    }

    fn count(&self, peers: &PeerMatch) -> Result<usize, TooMany> {
        let PeerMatch::Some { sets, blocks } = peers else { return Ok(0) };
        let mut count: usize = sets.iter().map(|set| self.members.count(*set)).sum();
        for block in blocks {
            let room = MATCHES_PER_RULE.saturating_sub(count);
            count +=
                parts::block_count(block, room).ok_or(TooMany { what: "address blocks with exceptions" })?;
        }
        if count > MATCHES_PER_RULE { Err(TooMany { what: "peers" }) } else { Ok(count) }
    }
}
