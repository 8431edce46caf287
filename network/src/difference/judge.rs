//! What policies let pass between two ends in one direction, for all ports at once, and which rules decide. The semantics are
//! those of [`crate::reference`], which asks port by port and against which this is tested.

use std::collections::BTreeSet;

use crate::model::{NO_LABELS, Network};
use crate::policy::{Action, Direction, Peers, Policy, PolicyId, PortMatch, Ports, Rule, Tier};
use crate::port_set::PortSet;
use crate::protocol::PortRange;
use crate::selector::Selector;

use super::ends::{End, Party};

/// The policies that select an end, in the order in which they are asked.
pub(super) type Asked<'n> = Vec<&'n Policy>;

/// A rule or an isolation that decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decider {
    /// Which object.
    pub policy: PolicyId,
    /// In which direction.
    pub direction: Direction,
    /// The rule's place in its list; `None`: the policy isolates, and nothing allows.
    pub rule: Option<u32>,
}

/// Told of a decision: whose (of which rule, or of nobody), about which ports, and whether they pass.
type Tell<'t, 'n> = dyn FnMut((&[&'n Policy], Option<u32>), &PortSet, bool) + 't;

/// One direction of a connection between two ends at one time.
pub(super) struct Question<'a, 'n> {
    pub(super) network: &'n Network,
    pub(super) time: usize,
    pub(super) direction: Direction,
    pub(super) asked: &'a Asked<'n>,
    pub(super) subject: &'a End<'n>,
    pub(super) peer: &'a End<'n>,
    /// The peer is the subject's own node.
    pub(super) own_node: bool,
}

impl<'n> Question<'_, 'n> {
    /// What passes.
    pub(super) fn passes(&self) -> PortSet {
        let mut passes = PortSet::none();
        self.walk(&mut |_, ports, allowed| {
            if allowed {
                passes = passes.union(ports);
            }
        });
        passes
    }

    /// Who decides about any of these ports.
    pub(super) fn deciders(&self, about: &PortSet, allowing: bool) -> BTreeSet<Decider> {
        let mut deciders = BTreeSet::new();
        self.walk(&mut |(policies, rule): (&[&Policy], Option<u32>), ports, allowed| {
            if allowed == allowing && !ports.intersection(about).is_empty() {
                deciders.extend(policies.iter().map(|policy| Decider {
                    policy: policy.id.clone(),
                    direction: self.direction,
                    rule,
                }));
            }
        });
        deciders
    }

    /// Tells of every decision. Ports that several rules of NetworkPolicies allow are told for each.
    fn walk(&self, tell: &mut Tell<'_, 'n>) {
        let rest = self.ordered(Tier::Admin, PortSet::all(), tell);
        if rest.is_empty() {
            return;
        }
        let isolating: Vec<&Policy> = self
            .asked
            .iter()
            .copied()
            .filter(|policy| policy.tier == Tier::NetworkPolicy && policy.isolates.of(self.direction))
            .collect();
        if isolating.is_empty() {
            let rest = self.ordered(Tier::Baseline, rest, tell);
            return tell((&[], None), &rest, true);
        }
        if self.own_node {
            return tell((&[], None), &rest, true);
        }
        let mut denied = rest.clone();
        for policy in &isolating {
            for rule in self.matching(policy) {
                let allowed = rest.intersection(&self.ports(rule));
                if !allowed.is_empty() {
                    denied = denied.minus(&allowed);
                    tell((&[policy], Some(rule.index)), &allowed, true);
                }
            }
        }
        if !denied.is_empty() {
            tell((&isolating, None), &denied, false);
        }
    }

    /// A tier in which the first rule that matches decides; what it leaves to the next.
    fn ordered(&self, tier: Tier, of: PortSet, tell: &mut Tell<'_, 'n>) -> PortSet {
        let (mut undecided, mut passed_on) = (of, PortSet::none());
        for policy in self.asked.iter().filter(|policy| policy.tier == tier) {
            for rule in self.matching(policy) {
                let decided = undecided.intersection(&self.ports(rule));
                if decided.is_empty() {
                    continue;
                }
                undecided = undecided.minus(&decided);
                match rule.action {
                    Action::Accept => tell((&[policy], Some(rule.index)), &decided, true),
                    Action::Deny => tell((&[policy], Some(rule.index)), &decided, false),
                    Action::Pass => passed_on = passed_on.union(&decided),
                }
            }
        }
        undecided.union(&passed_on)
    }

    /// The rules of this direction whose peers the peer is one of, in their order.
    fn matching<'q>(&'q self, policy: &'n Policy) -> impl Iterator<Item = &'n Rule> + 'q {
        let mut rules: Vec<&Rule> =
            policy.rules.iter().filter(|rule| rule.direction == self.direction).collect();
        rules.sort_by_key(|rule| rule.index);
        rules.into_iter().filter(|rule| match &rule.peers {
            Peers::Any => true,
            Peers::Some { sets, blocks } => {
                blocks.iter().any(|block| block.contains(self.peer.address[self.time]))
                    || sets.iter().filter_map(|id| self.network.selectors.get(id)).any(|set| self.is_in(set))
            }
        })
    }

    fn is_in(&self, selector: &Selector) -> bool {
        match self.peer.party[self.time] {
            Party::Pod(pod) => {
                let labels = self.network.namespaces.get(&pod.key.namespace).unwrap_or(&NO_LABELS);
                selector.selects_pod(pod, labels)
            }
            Party::Node(node) => selector.selects_node(node),
            Party::Outside => false,
        }
    }

    fn ports(&self, rule: &Rule) -> PortSet {
        let Ports::Some(matches) = &rule.ports else { return PortSet::all() };
        let destination = match self.direction {
            Direction::Ingress => self.subject,
            Direction::Egress => self.peer,
        };
        let mut ranges = Vec::new();
        for wanted in matches {
            match wanted {
                PortMatch::Range(range) => ranges.push(*range),
                PortMatch::Named { protocol, name } => {
                    let numbers = destination.party[self.time].numbers(name, *protocol);
                    ranges.extend(numbers.into_iter().map(|port| PortRange::single(*protocol, port)));
                }
            }
        }
        PortSet::of(ranges)
    }
}
