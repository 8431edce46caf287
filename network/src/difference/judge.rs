//! What policies let pass between two ends in one direction, for all ports at once, and which rules decide. The semantics are
//! those of [`crate::reference`], which asks port by port and against which this is tested.

use std::collections::BTreeSet;

use crate::model::{NO_LABELS, Network};
use crate::node::Node;
use crate::policy::{Action, Direction, Peers, Policy, PolicyId, PortMatch, Ports, Rule};
use crate::port_set::PortSet;
use crate::protocol::PortRange;
use crate::selector::Selector;

use super::Altered;
use super::docket::{Docket, Owner};
use super::ends::{End, Party};

/// Deciders that are named of those who decide the same, at most; those that the change is about first.
const MOST_DECIDERS: usize = 32;

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

/// Told of a decision: whose (nobody's when no policy has a say), about which ports, and whether they pass.
type Tell<'t, 'n> = dyn FnMut(&[Owner<'n>], &PortSet, bool) + 't;

/// One direction of a connection between two ends at one time.
pub(super) struct Question<'a, 'n> {
    pub(super) network: &'n Network,
    pub(super) time: usize,
    pub(super) direction: Direction,
    pub(super) docket: &'a Docket<'n>,
    pub(super) subject: &'a End<'n>,
    pub(super) peer: &'a End<'n>,
    /// The nodes of which the peer's address is an external one.
    pub(super) known_as: &'a [&'n Node],
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

    /// Who decides about any of these ports; of very many only some.
    pub(super) fn deciders(
        &self,
        about: &PortSet,
        allowing: bool,
        altered: &Altered<'n>,
    ) -> BTreeSet<Decider> {
        let mut found: Vec<Owner<'n>> = Vec::new();
        self.walk(&mut |owners, ports, allowed| {
            if allowed == allowing && !ports.intersection(about).is_empty() {
                found.extend(owners);
            }
        });
        if found.len() > MOST_DECIDERS {
            found.sort_by_key(|(policy, rule)| {
                (!altered.is_altered(&policy.id, self.direction), &policy.id, *rule)
            });
            found.truncate(MOST_DECIDERS);
        }
        let decider = |(policy, rule): Owner<'n>| Decider {
            policy: policy.id.clone(),
            direction: self.direction,
            rule,
        };
        found.into_iter().map(decider).collect()
    }

    /// Tells of every decision. Ports that several rules of NetworkPolicies allow are told for each.
    fn walk(&self, tell: &mut Tell<'_, 'n>) {
        let rest = self.ordered(&self.docket.admin, PortSet::all(), tell);
        if rest.is_empty() {
            return;
        }
        if self.docket.isolating.is_empty() {
            let rest = self.ordered(&self.docket.baseline, rest, tell);
            return tell(&[], &rest, true);
        }
        if self.own_node {
            return tell(&[], &rest, true);
        }
        let mut denied = rest.clone();
        for rule in &self.docket.allowing {
            if self.is_peer(rule.peers) {
                let allowed = rest.intersection(&self.ports(rule.ports));
                if !allowed.is_empty() {
                    denied = denied.minus(&allowed);
                    tell(&rule.owners, &allowed, true);
                }
            }
        }
        if !denied.is_empty() {
            tell(&self.docket.isolating, &denied, false);
        }
    }

    /// A tier in which the first rule that matches decides; what it leaves to the next.
    fn ordered(&self, rules: &[(&'n Policy, &'n Rule)], of: PortSet, tell: &mut Tell<'_, 'n>) -> PortSet {
        let (mut undecided, mut passed_on) = (of, PortSet::none());
        for (policy, rule) in rules {
            if undecided.is_empty() {
                break;
            }
            if !self.is_peer(&rule.peers) {
                continue;
            }
            let decided = undecided.intersection(&self.ports(&rule.ports));
            if decided.is_empty() {
                continue;
            }
            undecided = undecided.minus(&decided);
            match rule.action {
                Action::Accept => tell(&[(policy, Some(rule.index))], &decided, true),
                Action::Deny => tell(&[(policy, Some(rule.index))], &decided, false),
                Action::Pass => passed_on = passed_on.union(&decided),
            }
        }
        undecided.union(&passed_on)
    }

    fn is_peer(&self, peers: &Peers) -> bool {
        match peers {
            Peers::Any => true,
            Peers::Some { sets, blocks } => {
                blocks.iter().any(|block| block.contains(self.peer.address[self.time]))
                    || sets.iter().filter_map(|id| self.network.selectors.get(id)).any(|set| self.is_in(set))
            }
        }
    }

    fn is_in(&self, selector: &Selector) -> bool {
        let selected = match self.peer.party[self.time] {
            Party::Pod(pod) => {
                let labels = self.network.namespaces.get(pod.key.namespace()).unwrap_or(&NO_LABELS);
                selector.selects_pod(pod, labels)
            }
            Party::Node(node) => selector.selects_node(node),
            Party::Outside => false,
        };
        selected || self.known_as.iter().any(|node| selector.selects_node(node))
    }

    fn ports(&self, ports: &Ports) -> PortSet {
        let Ports::Some(matches) = ports else { return PortSet::all() };
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
