//! The network and what every node needs of it, kept up to date change by change: an event touches what it must. Knows no
//! agents and does no IO.
//!
//! ```text
//!  change ──▶ objects, members, spans (at once)
//!             what that makes stale (noted) ──settle──▶ grants, policies, groups, contents, views
//! ```
//!
//! The policies of one subject are a *group*: they reach the same nodes and come with the same sets, so that ten thousand
//! policies of one subject are one entry in a view. A view is made of shared sections; a set and a policy are encoded once.
//! [`network::NodeView::of`] with [`api::delta::resources`] is the oracle: whatever the changes, the outcome is the same.

mod claims;
mod members;
mod named;
mod oracle;
mod parallel;
mod policies;
mod shared;
mod shelf;
mod slab;
mod sorted;
mod span;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use api::delta::{Entry, Members, Resources, Section};
use network::{
    Change, Labels, NamespacedName, Network, Node, NodeName, Pod, Policy, PolicyId, Selector, Service, SetId,
};

use crate::bindings::Bindings;
use crate::source::Problem;
use named::Named;
use shared::Shared;
use shelf::Shelves;
use slab::{NodePlace, PodPlace, PolicyPlace, SetPlace, Slab};
use sorted::{Counts, Marks, SortedSet};

pub use oracle::Oracle;

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    nodes: Slab<NodePlace, NodeEntry>,
    node_of: HashMap<NodeName, NodePlace>,
    namespaces: HashMap<String, Labels>,
    pods: Slab<PodPlace, PodEntry>,
    pod_of: Named<PodPlace>,
    sets: Slab<SetPlace, SetEntry>,
    set_of: HashMap<SetId, SetPlace>,
    policies: Slab<PolicyPlace, PolicyEntry>,
    policy_of: Named<PolicyPlace>,
    services: BTreeMap<NamespacedName, ServiceEntry>,
    services_of: HashMap<NamespacedName, BTreeSet<NamespacedName>>,
    shelves: Shelves,
    labels: Shared,
    /// Who has an address now, of the pods that policies can select.
    at: HashMap<IpAddr, SortedSet<PodPlace>>,
    /// Whose agents report an address and are believed, whether or not it is theirs.
    reported: HashMap<IpAddr, Vec<PodPlace>>,
    node_sets: BTreeSet<SetPlace>,
    /// Policies with a port name that stands for whoever declares it.
    named_everywhere: BTreeSet<PolicyPlace>,
    refused: BTreeMap<(NamespacedName, NodeName), Problem>,
    contested: BTreeMap<NamespacedName, Problem>,
    all_nodes: Arc<Section>,
    all_services: Arc<Section>,
    stale: Stale,
}

/// A node that is an object, has pods or is attended.
#[derive(Debug)]
struct NodeEntry {
    name: NodeName,
    object: Option<(Node, Entry)>,
    attended: bool,
    /// Its pods that have a port of the switch.
    pods: SortedSet<PodPlace>,
    /// The subjects of policies that select a pod here.
    groups: SortedSet<SetPlace>,
    /// The sets that these policies name, by how many groups.
    peers: Counts<SetPlace>,
    resources: Option<Arc<Resources>>,
}

/// A pod. `pod.addresses` are what its object says.
#[derive(Debug)]
struct PodEntry {
    pod: Pod,
    node: Option<NodePlace>,
    /// What its agent reports and is believed.
    accepted: Option<Vec<IpAddr>>,
    /// It has what was reported; somebody else's claim may stand in the way.
    granted: bool,
    /// The sets that it is in, in order.
    member: Vec<SetPlace>,
    entry: Option<Entry>,
}

impl PodEntry {
    fn addresses(&self) -> &[IpAddr] {
        match &self.accepted {
            Some(accepted) if self.granted => accepted,
            _ => &self.pod.addresses,
        }
    }

    fn has_named_ports(&self) -> bool {
        self.pod.ports.iter().any(|port| port.name.is_some())
    }
}

/// A set that some policy needs.
#[derive(Debug)]
struct SetEntry {
    id: SetId,
    selector: Selector,
    /// How many times policies name it, as objects and resolved.
    uses: u32,
    pods: SortedSet<PodPlace>,
    /// For a set of nodes: its addresses.
    hosts: BTreeSet<IpAddr>,
    /// Of its addresses; `None` until that is asked for, because it is a peer somewhere.
    members: Option<Members>,
    /// How many of its pods are on each node.
    span: Counts<NodePlace>,
    /// How many policies and restricted rules are about it.
    subject_uses: u32,
    /// Policies with a port name that depends on who is in this set.
    named: SortedSet<PolicyPlace>,
    /// Policies that name it as a peer, as objects.
    named_by: SortedSet<PolicyPlace>,
    group: Group,
    /// The nodes whose views contain it.
    peer_of: SortedSet<NodePlace>,
    entry: Option<Entry>,
}

/// The policies of one subject.
#[derive(Debug, Default)]
struct Group {
    policies: SortedSet<PolicyPlace>,
    /// The sets that they name as peers, by how many of them.
    peers: Counts<SetPlace>,
    /// The nodes that have it.
    nodes: SortedSet<NodePlace>,
    section: Arc<Section>,
}

#[derive(Debug)]
struct PolicyEntry {
    policy: Policy,
    /// What the object names.
    named: Vec<SetPlace>,
    /// `None` until it is settled, and while nobody knows what its subject selects.
    resolved: Option<ResolvedEntry>,
}

#[derive(Debug)]
struct ResolvedEntry {
    subject: SetPlace,
    subjects: Vec<SetPlace>,
    peers: Vec<SetPlace>,
    entry: Entry,
}

#[derive(Debug)]
struct ServiceEntry {
    service: Service,
    entry: Option<Entry>,
}

/// What has to be looked at again. Lists may name something more than once: it is looked at once, in order.
#[derive(Debug, Default)]
struct Stale {
    /// Pods whose reports have to be judged.
    reported: Vec<PodPlace>,
    /// The same by name, of those that may not be there.
    reports: Vec<NamespacedName>,
    /// Nodes whose reports have to be judged.
    reporters: BTreeSet<NodeName>,
    /// Pods that may have won or lost an address.
    claimants: Vec<PodPlace>,
    /// Policies that came, or whose port names may have come to stand for something else.
    policies: BTreeSet<PolicyPlace>,
    /// Groups that may have come to a node, or left it.
    spans: Vec<(SetPlace, NodePlace)>,
    /// Groups with other policies.
    groups: Vec<SetPlace>,
    /// Sets with other members.
    sets: Vec<SetPlace>,
    pods: Vec<PodPlace>,
    services: BTreeSet<NamespacedName>,
    /// Node objects.
    nodes: bool,
    /// Views.
    views: Marks<NodePlace>,
    every_view: bool,
}

/// Takes a list, for each of it once and in order.
fn each_once<T: Ord>(list: &mut Vec<T>) -> Vec<T> {
    let mut taken = std::mem::take(list);
    taken.sort_unstable();
    taken.dedup();
    taken
}

impl Index {
    /// Takes a change in; views and contents follow when it is settled.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Node(node) => self.put_node(node),
            Change::NodeGone(name) => self.drop_node(&name),
            Change::Namespace(name, labels) => {
                if self.namespaces.get(&name) != Some(&labels) {
                    self.audit_changes(&name, &labels);
                    self.shelves.put_namespace(&name, self.namespaces.get(&name), &labels);
                    self.namespaces.insert(name.clone(), labels);
                    self.reconsider(&name);
                }
            }
            Change::NamespaceGone(name) => {
                if let Some(labels) = self.namespaces.remove(&name) {
                    // Without an entry it asks for nothing, so what it asked for is the difference.
                    self.audit_changes(&name, &labels);
                    self.shelves.put_namespace(&name, Some(&labels), &Labels::new());
                    self.reconsider(&name);
                }
            }
            Change::Pod(pod) => self.put_pod(pod),
            Change::PodGone(key) => self.drop_pod(&key),
            Change::Policy(policy, selectors) => self.put_policy(policy, selectors),
            Change::PolicyGone(id) => self.drop_policy(&id),
            Change::Service(service) => self.put_service(service),
            Change::ServiceGone(key) => self.drop_service(&key),
        }
    }

    /// Brings everything up to date with the changes and reports since; returns the nodes whose views changed.
    pub fn settle(&mut self, bindings: &Bindings) -> BTreeSet<NodeName> {
        self.settle_claims(bindings);
        self.settle_policies();
        self.settle_spans();
        self.settle_contents();
        self.settle_views()
    }

    /// Agents report something else than before of these pods.
    pub fn reports_changed(&mut self, pods: impl IntoIterator<Item = NamespacedName>) {
        self.stale.reports.extend(pods);
    }

    /// The resources of a node, whether or not the network has it. The same allocation until they change.
    pub fn attend(&mut self, name: &NodeName) -> Arc<Resources> {
        let node = self.node_place(name);
        self.nodes[node].attended = true;
        if self.nodes[node].resources.is_none() {
            self.nodes[node].resources = Some(Arc::new(self.view(node)));
        }
        self.nodes[node].resources.clone().unwrap_or_default()
    }

    /// Nobody asks for this node any more, unless the network has it.
    pub fn neglect(&mut self, name: &NodeName) {
        let Some(node) = self.node_of.get(name).copied() else { return };
        self.nodes[node].attended = false;
        if self.nodes[node].object.is_none() {
            self.nodes[node].resources = None;
        }
        self.tidy_node(node);
    }

    /// The resources of a node that is in the network or attended, as they were settled last.
    pub fn resources(&self, name: &NodeName) -> Option<&Arc<Resources>> {
        self.nodes[*self.node_of.get(name)?].resources.as_ref()
    }

    /// Every node that is an object.
    pub fn node_names(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.values().filter(|node| node.object.is_some()).map(|node| &node.name)
    }

    /// Every node that somebody asks for.
    pub fn attended(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.values().filter(|node| node.attended).map(|node| &node.name)
    }

    /// Every policy, in order.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        let mut policies: Vec<&Policy> = self.policies.values().map(|held| &held.policy).collect();
        policies.sort_unstable_by_key(|policy| &policy.id);
        policies.into_iter()
    }

    /// A node that is an object.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes[*self.node_of.get(name)?].object.as_ref().map(|(node, _)| node)
    }

    /// Where a pod runs: `None` when there is no such pod.
    pub fn pod_node(&self, key: &NamespacedName) -> Option<Option<&NodeName>> {
        Some(self.pods[self.pod_of.get(&self.pods, key)?].pod.node.as_ref())
    }

    /// Whether there is such a Service in the data path, by `namespace/name` or by name.
    pub fn has_service(&self, name: &str) -> bool {
        let balanced = self.services.iter().filter(|(_, held)| held.service.is_in_data_path());
        balanced.into_iter().any(|(key, _)| key.to_string() == name || key.name() == name)
    }

    /// The Services of which nothing is in the data path, with the addresses that their endpoints have now.
    pub fn beside_the_data_path(&self) -> impl Iterator<Item = Service> + '_ {
        let beside = self.services.values().filter(|held| !held.service.is_in_data_path());
        beside.map(|held| self.resolved_service(&held.service))
    }

    /// How many nodes, pods and policies there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.node_names().count(), self.pods.len(), self.policies.len())
    }

    /// Reports of agents that are not believed.
    pub fn refused(&self) -> impl Iterator<Item = &Problem> {
        self.refused.values().chain(self.contested.values())
    }

    /// The policies that touch a pod: those that select it, and those that name a set with it as peer. In no order that
    /// means something.
    pub fn policies_of(&self, key: &NamespacedName) -> Option<(Vec<&PolicyId>, Vec<&PolicyId>)> {
        let pod = &self.pods[self.pod_of.get(&self.pods, key)?];
        let (mut about, mut naming) = (Vec::new(), Vec::new());
        for set in pod.member.iter().map(|set| &self.sets[*set]) {
            about.extend(set.group.policies.iter().map(|policy| &self.policies[*policy].policy.id));
            naming.extend(set.named_by.iter().map(|policy| &self.policies[*policy].policy.id));
        }
        Some((about, naming))
    }

    /// The whole network, with the addresses that are believed. Made anew: for people and for the oracle.
    pub fn network(&self) -> Network {
        let mut network = self.source();
        for entry in self.pods.values().filter(|entry| entry.granted) {
            if let Some(pod) = network.pods.get_mut(&entry.pod.key) {
                pod.addresses = entry.addresses().to_vec();
            }
        }
        network
    }

    /// The whole network as its source gives it. Made anew.
    pub fn source(&self) -> Network {
        let pods = self.pods.values().map(|entry| (entry.pod.key.clone(), entry.pod.clone()));
        let objects = self.nodes.values().filter_map(|node| node.object.as_ref());
        let named: BTreeSet<SetPlace> =
            self.policies.values().flat_map(|policy| policy.named.iter().copied()).collect();
        Network {
            nodes: objects.map(|(node, _)| (node.name.clone(), node.clone())).collect(),
            namespaces: self.namespaces.iter().map(|(name, labels)| (name.clone(), labels.clone())).collect(),
            pods: pods.collect(),
            policies: self.policies.values().map(|it| (it.policy.id.clone(), it.policy.clone())).collect(),
            services: self.services.iter().map(|(key, it)| (key.clone(), it.service.clone())).collect(),
            selectors: named
                .iter()
                .map(|set| (self.sets[*set].id, self.sets[*set].selector.clone()))
                .collect(),
        }
    }
}
