//! The semantics of policy: a small evaluator over labels and selectors, written for clarity. Every faster thing is tested
//! against it. It predicts and never explains; it knows nothing of views, address sets or flows.
//!
//! - A connection passes when the destination's ingress and the source's egress both let it pass.
//! - Only pods that are neither host-network nor completed are subjects and pod peers. Traffic of a host-network pod is
//!   traffic of its node: node selectors and address blocks can match it, pod selectors cannot.
//! - The Admin tier decides first: rules in order of priority, then of the policy's name, then of the rule's index; the
//!   first that matches accepts, denies, or passes on to the next tier. Then NetworkPolicy: a pod that a policy isolates
//!   in a direction gets what some rule of those policies allows, and its own node's traffic always; nothing after it is
//!   asked. A pod that none isolates goes on to the Baseline tier, and what that does not decide passes.
//! - A named port is resolved on the destination pod, whatever made the peer match (selector or address block). It can
//!   stand for another number on every pod and for none on nodes and outside addresses, and is never "all ports".
//! - A selector of nodes means the addresses of their objects and gateway ports. By its external addresses a node is meant
//!   and nothing more: they are outside, and nobody's own node.
//! - An address block is compared with the address of the packet, pods' addresses included.
//! - A pod cannot be kept from itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::model::Network;
use crate::name::{NamespacedName, NodeName};
use crate::node::Node;
use crate::pod::Pod;
use crate::policy::{Action, Direction, Peers, Policy, PortMatch, Ports, Rule, Tier};
use crate::protocol::Protocol;
use crate::selector::Selector;

/// One end of a connection, with the address that it uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Endpoint {
    /// A pod.
    Pod {
        /// Which one.
        key: NamespacedName,
        /// The address used, one of its own (or its node's, for a host-network pod).
        address: IpAddr,
    },
    /// A node, by an address of the underlay or of its gateway port.
    Node {
        /// Which one.
        name: NodeName,
        /// The address used.
        address: IpAddr,
    },
    /// Somebody outside the cluster. An address that a pod or node owns stands for that pod or node.
    Outside(IpAddr),
}

impl Endpoint {
    /// The address that it uses.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Pod { address, .. } | Self::Node { address, .. } | Self::Outside(address) => *address,
        }
    }
}

/// What policy says about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// The destination lets it in.
    pub ingress: bool,
    /// The source lets it out.
    pub egress: bool,
}

impl Verdict {
    /// Whether the connection comes about.
    pub fn combined(self) -> bool {
        self.ingress && self.egress
    }
}

/// Judges a new connection to `port` of `to`.
pub fn verdict(network: &Network, from: &Endpoint, to: &Endpoint, protocol: Protocol, port: u16) -> Verdict {
    let connection =
        Connection { from: Party::of(network, from), to: Party::of(network, to), protocol, port };
    if connection.is_loopback() {
        return Verdict { ingress: true, egress: true };
    }
    Verdict {
        ingress: connection.passes(network, Direction::Ingress),
        egress: connection.passes(network, Direction::Egress),
    }
}

/// An endpoint, resolved: who it is for policy.
#[derive(Clone, Copy)]
pub(crate) enum Party<'a> {
    Pod(&'a Pod, IpAddr),
    Node(&'a Node, IpAddr),
    Outside(IpAddr),
}

impl<'a> Party<'a> {
    pub(crate) fn of(network: &'a Network, endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Pod { key, address } => match network.pods.get(key) {
                Some(pod) if pod.is_policed() => Self::Pod(pod, *address),
                Some(pod) if pod.host_network => match pod.node.as_ref().and_then(|n| network.nodes.get(n)) {
                    Some(node) => Self::Node(node, *address),
                    None => Self::Outside(*address),
                },
                _ => Self::by_address(network, *address),
            },
            Endpoint::Node { name, address } => match network.nodes.get(name) {
                Some(node) => Self::Node(node, *address),
                None => Self::Outside(*address),
            },
            Endpoint::Outside(address) => Self::by_address(network, *address),
        }
    }

    fn by_address(network: &'a Network, address: IpAddr) -> Self {
        match (network.pod_at(address), network.node_at(address)) {
            (Some(pod), _) => Self::Pod(pod, address),
            (None, Some(node)) => Self::Node(node, address),
            (None, None) => Self::Outside(address),
        }
    }

    fn address(&self) -> IpAddr {
        match self {
            Self::Pod(_, address) | Self::Node(_, address) | Self::Outside(address) => *address,
        }
    }
}

struct Connection<'a> {
    from: Party<'a>,
    to: Party<'a>,
    protocol: Protocol,
    port: u16,
}

impl Connection<'_> {
    fn is_loopback(&self) -> bool {
        match (&self.from, &self.to) {
            (Party::Pod(from, _), Party::Pod(to, _)) => from.key == to.key,
            (Party::Node(from, _), Party::Node(to, _)) => from.name == to.name,
            _ => false,
        }
    }

    /// The subject's end and the other end of a direction.
    fn ends(&self, direction: Direction) -> (&Party<'_>, &Party<'_>) {
        match direction {
            Direction::Ingress => (&self.to, &self.from),
            Direction::Egress => (&self.from, &self.to),
        }
    }

    fn passes(&self, network: &Network, direction: Direction) -> bool {
        let (subject, peer) = self.ends(direction);
        let Party::Pod(subject, _) = subject else { return true };
        match self.ordered_tier(network, Tier::Admin, subject, direction) {
            Some(Action::Accept) => return true,
            Some(Action::Deny) => return false,
            Some(Action::Pass) | None => {}
        }
        let isolating: Vec<&Policy> = policies(network, Tier::NetworkPolicy, subject)
            .into_iter()
            .filter(|policy| policy.isolates.of(direction))
            .collect();
        if !isolating.is_empty() {
            let own_node = matches!(peer, Party::Node(node, _) if subject.node.as_ref() == Some(&node.name));
            return own_node
                || isolating
                    .iter()
                    .flat_map(|policy| rules(policy, direction))
                    .any(|rule| self.matches(network, rule, peer));
        }
        self.ordered_tier(network, Tier::Baseline, subject, direction) != Some(Action::Deny)
    }

    /// The action of the first rule that matches in a tier of ordered rules.
    fn ordered_tier(
        &self,
        network: &Network,
        tier: Tier,
        subject: &Pod,
        direction: Direction,
    ) -> Option<Action> {
        let (_, peer) = self.ends(direction);
        let mut policies = policies(network, tier, subject);
        policies.sort_by_key(|policy| (policy.priority, &policy.id));
        policies
            .into_iter()
            .flat_map(|policy| rules(policy, direction))
            .find(|rule| self.matches(network, rule, peer))
            .map(|rule| rule.action)
    }

    fn matches(&self, network: &Network, rule: &Rule, peer: &Party<'_>) -> bool {
        self.peer_matches(network, &rule.peers, peer) && self.port_matches(&rule.ports)
    }

    fn peer_matches(&self, network: &Network, peers: &Peers, peer: &Party<'_>) -> bool {
        match peers {
            Peers::Any => true,
            Peers::Some { sets, blocks } => {
                blocks.iter().any(|block| block.contains(peer.address()))
                    || sets.iter().filter_map(|id| network.selectors.get(id)).any(|selector| match selector {
                        Selector::Pods { .. } => {
                            matches!(peer, Party::Pod(pod, _) if selects(network, selector, pod))
                        }
                        Selector::Nodes(_) => {
                            matches!(peer, Party::Node(node, _) if selector.selects_node(node))
                                || network.known_as(peer.address()).any(|node| selector.selects_node(node))
                        }
                    })
            }
        }
    }

    fn port_matches(&self, ports: &Ports) -> bool {
        match ports {
            Ports::Any => true,
            Ports::Some(matches) => matches.iter().any(|wanted| match wanted {
                PortMatch::Range(range) => range.contains(self.protocol, self.port),
                PortMatch::Named { protocol, name } => match &self.to {
                    Party::Pod(pod, _) => {
                        *protocol == self.protocol
                            && pod.port_numbers(name, *protocol).any(|number| number == self.port)
                    }
                    Party::Node(..) | Party::Outside(_) => false,
                },
            }),
        }
    }
}

fn policies<'a>(network: &'a Network, tier: Tier, subject: &Pod) -> Vec<&'a Policy> {
    network
        .policies
        .values()
        .filter(|policy| policy.tier == tier)
        .filter(|policy| {
            network.selectors.get(&policy.subject).is_some_and(|selector| selects(network, selector, subject))
        })
        .collect()
}

fn rules(policy: &Policy, direction: Direction) -> Vec<&Rule> {
    let mut rules: Vec<&Rule> = policy.rules.iter().filter(|rule| rule.direction == direction).collect();
    rules.sort_by_key(|rule| rule.index);
    rules
}

fn selects(network: &Network, selector: &Selector, pod: &Pod) -> bool {
    static NO_LABELS: Labels = BTreeMap::new();
    selector.selects_pod(pod, network.namespaces.get(pod.key.namespace()).unwrap_or(&NO_LABELS))
}
