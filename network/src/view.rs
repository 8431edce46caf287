//! What one node needs of the network: all nodes, its own pods, the policies that select one of them, and the address
//! sets that these policies name. Named ports are resolved here, so nothing below knows port names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::Cidr;
use crate::few::Few;
use crate::labels::LabelSelector;
use crate::model::Network;
use crate::name::{NamespacedName, NodeName};
use crate::node::Node;
use crate::policy::{
    Action, Direction, IpBlock, Isolation, Peers, Policy, PolicyId, PortMatch, Ports, Rule, Tier,
    asks_for_audit,
};
use crate::protocol::{PortRange, Protocol};
use crate::selector::{DeclaredPort, NamespaceSelector, Selector, SetId};
use crate::service::Service;

/// One node's part of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// All nodes, this one too.
    pub nodes: BTreeMap<NodeName, Node>,
    /// The pods of this node that have (or await) a port of the switch.
    pub pods: BTreeMap<NamespacedName, LocalPod>,
    /// The sets that policies here name as peers.
    pub sets: BTreeMap<SetId, AddressSet>,
    /// The policies that select a pod of this node.
    pub policies: BTreeMap<PolicyId, ViewPolicy>,
    /// The Services that packets are balanced for, their endpoints with addresses.
    pub services: BTreeMap<NamespacedName, Arc<Service>>,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalPod {
    /// `namespace/name`.
    pub key: NamespacedName,
    /// The UID that an ADD waits for.
    pub uid: String,
    /// The addresses that the controller knows of it.
    pub addresses: Vec<IpAddr>,
    /// The subject sets of this view's policies and rules that it is in.
    pub member_of: BTreeSet<SetId>,
}

/// The members of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressSet {
    /// Which set.
    pub id: SetId,
    /// Its addresses.
    pub members: BTreeSet<IpAddr>,
}

/// A policy with its port names resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ViewPolicy {
    /// Which object.
    pub id: PolicyId,
    /// Which version of it.
    pub generation: u64,
    /// When it is asked.
    pub tier: Tier,
    /// Order inside the tier.
    pub priority: u32,
    /// Whom it is about: the local pods whose `member_of` holds this.
    pub subject: SetId,
    /// Where its subject is isolated.
    pub isolates: Isolation,
    /// What it decides is to be logged.
    pub audit: bool,
    /// Its rules.
    pub rules: Vec<ViewRule>,
}

/// A rule, or a part of one: a rule with a named port becomes one part per distinct number, all of the same index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewRule {
    /// Its place in the object's list for its direction.
    pub index: u32,
    /// Which list.
    pub direction: Direction,
    /// What it does.
    pub action: Action,
    /// The policy's subject, or those of it that declare the named port with this part's number.
    pub subject: SetId,
    /// The other end.
    pub peers: PeerMatch,
    /// Destination ports; `None` is every protocol and port.
    pub ports: Option<BTreeSet<PortRange>>,
}

/// The other end of a rule. `Some` without content matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PeerMatch {
    /// Everybody.
    Any,
    /// Members of the sets and addresses of the blocks.
    Some {
        /// Sets, each in the view's `sets`.
        sets: Few<SetId>,
        /// Prefixes.
        blocks: BTreeSet<IpBlock>,
    },
}

impl PeerMatch {
    /// Whether nothing can match.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Some { sets, blocks } if sets.is_empty() && blocks.is_empty())
    }
}

impl NodeView {
    /// The view of `node`, computed whole. The controller's incremental index must agree with it.
    pub fn of(network: &Network, node: &NodeName) -> Self {
        let local: Vec<_> =
            network.pods.values().filter(|pod| pod.node.as_ref() == Some(node) && pod.is_policed()).collect();
        let mut view = Self { nodes: network.nodes.clone(), ..Self::default() };
        // They are in the sets already; nothing on a node is made of them, so no agent is told.
        view.nodes.values_mut().for_each(|node| node.external.clear());
        let mut subjects: BTreeMap<SetId, Selector> = BTreeMap::new();
        let mut peers: BTreeMap<SetId, Selector> = BTreeMap::new();
        for policy in network.policies.values() {
            let Some(subject) = network.selectors.get(&policy.subject) else { continue };
            let selects_local = local.iter().any(|pod| selects(network, subject, pod));
            if !selects_local {
                continue;
            }
            let resolved = Resolved::of(policy, subject, network);
            let whole = |(id, own): (SetId, Option<Selector>)| {
                Some((id, own.or_else(|| network.selectors.get(&id).cloned())?))
            };
            subjects.extend(resolved.subjects.into_iter().filter_map(whole));
            peers.extend(resolved.peers.into_iter().filter_map(whole));
            view.policies.insert(policy.id.clone(), resolved.policy);
        }
        for pod in local {
            let member_of = subjects
                .iter()
                .filter(|(_, selector)| selects(network, selector, pod))
                .map(|(id, _)| *id)
                .collect();
            let local = LocalPod {
                key: pod.key.clone(),
                uid: pod.uid.clone(),
                addresses: pod.addresses.clone(),
                member_of,
            };
            view.pods.insert(pod.key.clone(), local);
        }
        for (id, selector) in peers {
            view.sets.insert(id, AddressSet { id, members: network.addresses_of(&selector) });
        }
        for service in network.services.values().filter(|service| service.is_in_data_path()) {
            view.services.insert(service.key.clone(), Arc::new(service.resolved(network)));
        }
        view
    }
}

fn selects(network: &Network, selector: &Selector, pod: &crate::pod::Pod) -> bool {
    static NONE: crate::labels::Labels = BTreeMap::new();
    selector.selects_pod(pod, network.namespaces.get(pod.key.namespace()).unwrap_or(&NONE))
}

/// Who is in the sets and declares which ports: what a policy's port names are resolved against.
pub trait Census {
    /// What a set that a policy names selects.
    fn selector(&self, id: SetId) -> Option<&Selector>;

    /// The distinct numbers that a port name has on the pods of a selector (given with its set where it has one).
    fn numbers(
        &self,
        set: Option<SetId>,
        selector: &Selector,
        name: &str,
        protocol: Protocol,
    ) -> BTreeSet<u16>;

    /// Whether a namespace asks for an audit log of its policies.
    fn is_audited(&self, namespace: &str) -> bool;

    /// The addresses and numbers of every policed pod that declares the port.
    fn declaring(&self, name: &str, protocol: Protocol) -> Vec<(Vec<IpAddr>, BTreeSet<u16>)>;
}

impl Census for Network {
    fn selector(&self, id: SetId) -> Option<&Selector> {
        self.selectors.get(&id)
    }

    fn numbers(
        &self,
        _: Option<SetId>,
        selector: &Selector,
        name: &str,
        protocol: Protocol,
    ) -> BTreeSet<u16> {
        self.select_pods(selector).flat_map(|pod| pod.port_numbers(name, protocol)).collect()
    }

    fn is_audited(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(asks_for_audit)
    }

    fn declaring(&self, name: &str, protocol: Protocol) -> Vec<(Vec<IpAddr>, BTreeSet<u16>)> {
        let policed = self.pods.values().filter(|pod| pod.is_policed());
        policed.map(|pod| (pod.addresses.clone(), pod.port_numbers(name, protocol).collect())).collect()
    }
}

/// A policy with its port names resolved, and the sets that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The policy.
    pub policy: ViewPolicy,
    /// Its subject, and that restricted to the pods that declare a named port; `None`: as the object names it.
    pub subjects: BTreeMap<SetId, Option<Selector>>,
    /// The sets that it names as peers, likewise.
    pub peers: BTreeMap<SetId, Option<Selector>>,
}

impl Resolved {
    /// Resolves a policy whose subject is `subject`.
    pub fn of(policy: &Policy, subject: &Selector, census: &impl Census) -> Self {
        let mut subjects = BTreeMap::from([(policy.subject, None)]);
        let mut peers = BTreeMap::new();
        let mut resolver = Resolver {
            census,
            subject,
            subject_id: policy.subject,
            subjects: &mut subjects,
            peers: &mut peers,
        };
        let policy = resolver.policy(policy);
        Self { policy, subjects, peers }
    }
}

/// Resolves one policy's rules and collects the sets that they need.
struct Resolver<'a, C> {
    census: &'a C,
    subject: &'a Selector,
    subject_id: SetId,
    subjects: &'a mut BTreeMap<SetId, Option<Selector>>,
    peers: &'a mut BTreeMap<SetId, Option<Selector>>,
}

impl<C: Census> Resolver<'_, C> {
    fn policy(&mut self, policy: &Policy) -> ViewPolicy {
        let rules = policy.rules.iter().flat_map(|rule| self.rule(policy.subject, rule)).collect();
        ViewPolicy {
            id: policy.id.clone(),
            generation: policy.generation,
            tier: policy.tier,
            priority: policy.priority,
            subject: policy.subject,
            isolates: policy.isolates,
            audit: policy.audit || self.census.is_audited(&policy.id.namespace),
            rules,
        }
    }

    fn rule(&mut self, subject: SetId, rule: &Rule) -> Vec<ViewRule> {
        let part = |subject, peers, ports| ViewRule {
            index: rule.index,
            direction: rule.direction,
            action: rule.action,
            subject,
            peers,
            ports,
        };
        let matches = match &rule.ports {
            Ports::Any => return vec![part(subject, self.peers(&rule.peers), None)],
            Ports::Some(matches) => matches,
        };
        let mut parts = Vec::new();
        let numbers: BTreeSet<PortRange> = matches
            .iter()
            .filter_map(|m| match m {
                PortMatch::Range(range) => Some(*range),
                PortMatch::Named { .. } => None,
            })
            .collect();
        if !numbers.is_empty() {
            parts.push(part(subject, self.peers(&rule.peers), Some(numbers)));
        }
        for m in matches {
            let PortMatch::Named { protocol, name } = m else { continue };
            match rule.direction {
                Direction::Ingress => {
                    for number in self.census.numbers(Some(self.subject_id), self.subject, name, *protocol) {
                        let declared = DeclaredPort { name: name.clone(), protocol: *protocol, number };
                        let Some(restricted) = self.subject.with_port(declared) else { continue };
                        let id = restricted.id();
                        self.subjects.insert(id, Some(restricted));
                        let ports = BTreeSet::from([PortRange::single(*protocol, number)]);
                        parts.push(part(id, self.peers(&rule.peers), Some(ports)));
                    }
                }
                Direction::Egress => {
                    for (number, peers) in self.named_peers(&rule.peers, name, *protocol) {
                        let ports = BTreeSet::from([PortRange::single(*protocol, number)]);
                        parts.push(part(subject, peers.into_match(), Some(ports)));
                    }
                }
            }
        }
        parts
    }

    fn peers(&mut self, peers: &Peers) -> PeerMatch {
        match peers {
            Peers::Any => PeerMatch::Any,
            Peers::Some { sets, blocks } => {
                for id in sets {
                    if self.census.selector(*id).is_some() {
                        self.peers.insert(*id, None);
                    }
                }
                PeerMatch::Some { sets: sets.clone(), blocks: blocks.clone() }
            }
        }
    }

    /// For an egress rule: per number of the named port, the peers restricted to the pods where it has that number. A
    /// block stands for the addresses of such pods inside it: nobody else declares ports.
    fn named_peers(&mut self, peers: &Peers, name: &str, protocol: Protocol) -> BTreeMap<u16, NamedPeers> {
        let everyone = Selector::Pods {
            namespaces: NamespaceSelector::Labels(LabelSelector::everything()),
            pods: LabelSelector::everything(),
            port: None,
        };
        let selectors: Vec<(Option<SetId>, Selector)> = match peers {
            Peers::Any => vec![(None, everyone)],
            Peers::Some { sets, .. } => {
                sets.iter().filter_map(|id| Some((Some(*id), self.census.selector(*id)?.clone()))).collect()
            }
        };
        let mut by_number: BTreeMap<u16, NamedPeers> = BTreeMap::new();
        for (set, selector) in selectors {
            for number in self.census.numbers(set, &selector, name, protocol) {
                let declared = DeclaredPort { name: name.to_owned(), protocol, number };
                let Some(restricted) = selector.with_port(declared) else { continue };
                let id = restricted.id();
                self.peers.insert(id, Some(restricted));
                by_number.entry(number).or_default().sets.insert(id);
            }
        }
        let Peers::Some { blocks, .. } = peers else { return by_number };
        if blocks.is_empty() {
            return by_number;
        }
        for (addresses, numbers) in self.census.declaring(name, protocol) {
            let inside = addresses.iter().filter(|a| blocks.iter().any(|block| block.contains(**a)));
            let hosts: BTreeSet<IpBlock> = inside.map(|a| IpBlock::whole(Cidr::host(*a))).collect();
            if hosts.is_empty() {
                continue;
            }
            for number in numbers {
                by_number.entry(number).or_default().blocks.extend(hosts.iter().cloned());
            }
        }
        by_number
    }
}

/// The peers of an egress rule on which a named port has one number.
#[derive(Default)]
struct NamedPeers {
    sets: BTreeSet<SetId>,
    blocks: BTreeSet<IpBlock>,
}

impl NamedPeers {
    fn into_match(self) -> PeerMatch {
        PeerMatch::Some { sets: self.sets.into(), blocks: self.blocks }
    }
}
