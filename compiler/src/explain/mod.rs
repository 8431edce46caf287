//! Why a packet passes or does not: it is sent through the simulated programs of the nodes that it meets, and every flow
//! says why it is there. No engine of its own: what is told here is what the flows do.

mod clauses;
mod describe;
mod journey;

use std::collections::BTreeMap;
use std::net::IpAddr;

use network::{Action, Direction, LocalPod, NamespacedName, Network, NodeName, PolicyId, Protocol, Tier};
use openflow::Cookie;

pub use describe::{flow_text, headers, rule_text};

use crate::input::LocalPort;
use crate::provenance::{Owner, Reason};
use crate::simulate::matrix::Site;
use crate::simulate::{Outcome, Packet, Step};
use crate::table::Table;

/// The nodes of a network, compiled as they are asked about.
#[derive(Debug)]
pub struct Cluster<'a> {
    network: &'a Network,
    /// What is plugged where somebody knows; elsewhere every pod with an address is.
    plugged: BTreeMap<NodeName, Vec<LocalPort>>,
    sites: BTreeMap<NodeName, Site>,
    /// The same nodes without any policy: what connections were made under.
    open: BTreeMap<NodeName, Site>,
}

/// Where a packet starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// In a pod that has a port.
    Pod(NamespacedName),
    /// In a node's own network stack, its host-network pods among it; or outside, and this node gets it.
    Node(NodeName),
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// To a port.
    Port(Protocol, u16),
    /// An ICMP echo request.
    Echo,
}

/// Which packet of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The first.
    #[default]
    New,
    /// A later one of a connection that was there before the policies were.
    Established,
    /// The answer on such a connection.
    Reply,
}

/// A packet to be explained.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where it starts.
    pub start: Start,
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// What it is.
    pub probe: Probe,
    /// Which packet of the connection.
    pub phase: Phase,
}

/// What became of a packet, and why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Where it ended.
    pub outcome: Outcome,
    /// The pod at the port where it was delivered.
    pub delivered_to: Option<NamespacedName>,
    /// The packet as it ended.
    pub packet: Packet,
    /// What policy said, in the order in which it was asked.
    pub decisions: Vec<Decision>,
    /// Every rule of every policy that selects one of the two pods.
    pub rules: Vec<Considered>,
    /// What it met, node by node.
    pub hops: Vec<Met>,
    /// What the simulator does not know; then the answer is not to be trusted.
    pub unknown: Vec<String>,
}

/// What policy said in one direction.
#[derive(Clone, Debug)]
pub struct Decision {
    /// In which direction.
    pub direction: Direction,
    /// Where it was asked.
    pub node: NodeName,
    /// About whom.
    pub pod: NamespacedName,
    /// Whether it lets the packet pass.
    pub passes: bool,
    /// Where the packet left the direction's tables.
    pub table: Table,
    /// Everything that made the deciding flow.
    pub reason: Reason,
}

impl Decision {
    /// Whether any policy had a say.
    pub fn is_by_policy(&self) -> bool {
        self.reason.owners.iter().any(|owner| matches!(owner, Owner::Rule { .. } | Owner::Isolation { .. }))
    }
}

/// A rule of a policy that selects the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Whose.
    pub policy: PolicyId,
    /// When it is asked.
    pub tier: Tier,
    /// The pod that the policy selects.
    pub pod: NamespacedName,
    /// Which list.
    pub direction: Direction,
    /// Its place in the list.
    pub index: u32,
    /// What it does.
    pub action: Action,
    /// What it says.
    pub what: String,
    /// What came of it.
    pub fit: Fit,
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It decided.
    Decides,
    /// It matches the packet, but another one decided, or none was asked.
    Matches,
    /// It does not match.
    Differs {
        /// For these reasons.
        missing: Vec<Clause>,
    },
    /// It has no flows: nothing can match it now, or it was refused.
    Void(String),
}

/// A part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clause {
    /// The pods that the policy selects; a named port narrows them to those that declare it with one number.
    Subject,
    /// The other end.
    Peer,
    /// The port.
    Port,
}

/// What a packet met on one node.
#[derive(Clone, Debug)]
pub struct Met {
    /// Which node.
    pub node: NodeName,
    /// The flows in their order.
    pub entries: Vec<Entry>,
}

/// A flow that a packet met.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where.
    pub table: Table,
    /// Its priority; none where nothing matched.
    pub priority: Option<u16>,
    /// Its cookie.
    pub cookie: Cookie,
    /// Match and actions in ovs-ofctl's words, ports by their names.
    pub text: String,
    /// Why it is there.
    pub reason: Reason,
    /// The packet as it came here.
    pub packet: Packet,
    /// The flows that make up a conjunction's clauses and match too.
    pub clauses: Vec<String>,
}

/// A question that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    /// There is no node of this name.
    #[error("there is no node {0}")]
    NoNode(NodeName),
    /// The pod has no port anywhere.
    #[error(
        "pod {0} has no port on any node: it has no address yet, has ended, or lives in its node's own network"
    )]
    NoPort(NamespacedName),
}

impl<'a> Cluster<'a> {
    /// The nodes of a network; `plugged` are the ports that nodes are known to have.
    pub fn new(network: &'a Network, plugged: BTreeMap<NodeName, Vec<LocalPort>>) -> Self {
        Self { network, plugged, sites: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// The program of a node that a packet was explained through.
    pub fn site(&self, node: &NodeName) -> Option<&Site> {
        self.sites.get(node)
    }

    /// Explains a packet.
    pub fn explain(&mut self, question: &Question) -> Result<Explanation, Unanswerable> {
        let walk = self.travel(question)?;
        let hops: Vec<Met> = walk.hops.iter().map(|hop| self.met(hop)).collect();
        let delivered_to = match &walk.outcome {
            Outcome::Delivered { node, interface } => self.sites.get(node).and_then(|site| {
                let port = site.ports.iter().find(|port| port.interface == *interface)?;
                Some(port.pod.as_ref()?.0.clone())
            }),
            _ => None,
        };
        let decisions = self.decisions(question, &hops);
        let rules = self.rules(question, &hops, &walk.packet);
        let unknown = walk.hops.iter().flat_map(|hop| hop.trace.unknown.iter().cloned()).collect();
        Ok(Explanation {
            outcome: walk.outcome,
            delivered_to,
            packet: walk.packet,
            decisions,
            rules,
            hops,
            unknown,
        })
    }

    fn met(&self, hop: &crate::simulate::Hop) -> Met {
        let program = self.sites.get(&hop.node).map(|site| &site.program);
        let entry = |(step, packet): (&Step, &Packet)| {
            let flow = step.flow.as_ref().and_then(|key| Some((key, program?.flows.get(key)?)));
            Entry {
                table: step.table,
                priority: step.flow.as_ref().map(|key| key.priority.0),
                cookie: step.cookie,
                text: flow.map_or_else(|| "no flow matches: drop".into(), |(key, flow)| flow_text(key, flow)),
                reason: program
                    .and_then(|program| program.reasons.get(&step.cookie))
                    .cloned()
                    .unwrap_or_else(|| Reason { what: "no flow matches".into(), ..Reason::default() }),
                clauses: flow
                    .zip(program)
                    .map_or_else(Vec::new, |((key, _), program)| clauses::of_verdict(program, key, packet)),
                packet: packet.clone(),
            }
        };
        let entries = hop.trace.steps.iter().zip(&hop.trace.seen).map(entry).collect();
        Met { node: hop.node.clone(), entries }
    }

    /// Where the packet left the tables of a direction, wherever that was.
    fn decisions(&self, question: &Question, hops: &[Met]) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (number, hop) in hops.iter().enumerate() {
            for direction in [Direction::Egress, Direction::Ingress] {
                // Egress is judged where the packet starts; the next node passes it on.
                if direction == Direction::Egress && number > 0 {
                    continue;
                }
                let tables = crate::policy::tables(direction).0.map(|(_, table)| table);
                let Some(at) = hop.entries.iter().rposition(|entry| tables.contains(&entry.table)) else {
                    continue;
                };
                let entry = &hop.entries[at];
                let Some(pod) = self.subject(question, direction, &entry.packet) else { continue };
                let next = hop.entries.get(at + 1).map(|entry| entry.table);
                decisions.push(Decision {
                    direction,
                    node: hop.node.clone(),
                    pod,
                    passes: next.is_some_and(|next| next != Table::Block),
                    table: entry.table,
                    reason: entry.reason.clone(),
                });
            }
        }
        decisions
    }

    /// The pod whose policies are asked about a packet.
    fn subject(&self, question: &Question, direction: Direction, packet: &Packet) -> Option<NamespacedName> {
        match (direction, &question.start, question.phase) {
            (Direction::Egress, Start::Pod(key), Phase::New | Phase::Established) => Some(key.clone()),
            (Direction::Egress, ..) => None,
            (Direction::Ingress, ..) => self.network.pod_at(packet.destination()?).map(|pod| pod.key.clone()),
        }
    }

    /// Every rule that is about the sender's egress or the receiver's ingress. A reply is not judged by any.
    fn rules(&self, question: &Question, hops: &[Met], last: &Packet) -> Vec<Considered> {
        if question.phase == Phase::Reply {
            return Vec::new();
        }
        let entries = || hops.iter().flat_map(|hop| &hop.entries);
        let mut rules = Vec::new();
        for direction in [Direction::Egress, Direction::Ingress] {
            let tables = crate::policy::tables(direction).0.map(|(_, table)| table);
            // As policy saw it, after the translation of Services; or would have.
            let seen = entries().find(|entry| tables.contains(&entry.table)).map(|entry| &entry.packet);
            let packet = seen.or(entries().last().map(|entry| &entry.packet)).unwrap_or(last);
            let Some(key) = self.subject(question, direction, packet) else { continue };
            let decided = |cookie| entries().any(|entry: &Entry| entry.cookie == cookie);
            if let Some((pod, site)) = self.local(&key) {
                rules.extend(clauses::considered(self.network, site, &pod, direction, packet, &decided));
            }
        }
        rules
    }

    fn local(&self, key: &NamespacedName) -> Option<(LocalPod, &Site)> {
        let pod = self.network.pods.get(key).filter(|pod| pod.is_policed())?;
        let local = LocalPod {
            key: pod.key.clone(),
            uid: pod.uid.clone(),
            addresses: pod.addresses.clone(),
            member_of: Default::default(),
        };
        Some((local, self.sites.get(pod.node.as_ref()?)?))
    }
}
