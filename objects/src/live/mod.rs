//! The network of objects that come and go one at a time, as an API server's watches tell them. Pure.
//!
//! It holds what objects say by themselves and works out what depends on others: of two nodes or pods with one address the
//! smaller name keeps it, a pod of a node that is not there has no place. An event costs what it touches. The result is
//! always what [`crate::translate`] makes of the same objects at once; tests hold the two together.

pub mod lean;
mod see;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use network::{Labels, NamespacedName, Node, NodeName, Pod, Policy, PolicyId, PolicyKind, Selector, Service};

use crate::place::{Neighbours, admit, problem};
use crate::problem::{ObjectRef, Problem};
use crate::set::Object;
use crate::translate::namespace_labels;
use crate::translate::node::nodes_of;

use see::Content;
pub use see::Seen;
use services::Services;

/// A part of the network that is new, different or (with `None`) gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Changed {
    /// A node.
    Node(NodeName, Option<Node>),
    /// The labels of a namespace.
    Namespace(String, Option<Labels>),
    /// A pod.
    Pod(NamespacedName, Option<Pod>),
    /// A policy and the selectors that its set ids stand for.
    Policy(PolicyId, Option<(Policy, Vec<Selector>)>),
    /// A Service.
    Service(NamespacedName, Option<Service>),
}

/// The objects of an API server.
#[derive(Debug, Default)]
pub struct Live {
    namespaces: BTreeMap<String, Labels>,
    /// How many pods and policies are in a namespace: it exists for them although its object was not seen (yet).
    named: BTreeMap<String, usize>,
    node_objects: BTreeMap<String, Object<core::Node>>,
    nodes: BTreeMap<NodeName, Node>,
    pods: BTreeMap<NamespacedName, Pod>,
    pods_of: BTreeMap<Option<NodeName>, BTreeSet<NamespacedName>>,
    /// Who says that an address is his.
    claims: BTreeMap<IpAddr, BTreeSet<NamespacedName>>,
    /// The addresses of nodes, on the underlay and on their gateway ports.
    taken: BTreeMap<IpAddr, NodeName>,
    policies: BTreeSet<PolicyId>,
    services: Services,
    /// What each object says by itself that is not understood.
    own_problems: BTreeMap<ObjectRef, Vec<Problem>>,
    /// What does not go together with others.
    joint_problems: BTreeMap<ObjectRef, Vec<Problem>>,
    dirty: Dirty,
}

/// What has to be told.
#[derive(Debug, Default)]
struct Dirty {
    nodes: bool,
    namespaces: BTreeSet<String>,
    pods: BTreeSet<NamespacedName>,
    policies: BTreeMap<PolicyId, Option<(Policy, Vec<Selector>)>>,
    problems: bool,
}

impl Live {
    /// An object is there, or different.
    pub fn upsert(&mut self, seen: Seen) {
        let Seen { object, content, problems } = seen;
        self.own(&object, problems);
        let name = object.name.clone();
        let key = NamespacedName::new(object.namespace.clone().unwrap_or_default(), &name);
        match content {
            Content::Namespace(labels) => {
                if self.namespaces.get(&name) != Some(&labels) {
                    self.namespaces.insert(name.clone(), labels);
                    self.dirty.namespaces.insert(name);
                }
            }
            Content::Node(node) => {
                if self.node_objects.get(&name).is_none_or(|held| held.value != node.value) {
                    self.node_objects.insert(name, *node);
                    self.dirty.nodes = true;
                }
            }
            Content::Pod(pod) => {
                if self.pods.get(&key) != Some(&*pod) {
                    self.forget_pod(&key);
                    self.remember_pod(*pod);
                }
            }
            Content::Policy(translated) => {
                let id = translated.policy.id.clone();
                if self.policies.insert(id.clone()) {
                    self.name_namespace(&id.namespace);
                }
                self.dirty.policies.insert(id, Some((translated.policy, translated.selectors)));
            }
            Content::Service(service) => self.services.upsert(key, *service),
            Content::Slice(slice) => self.services.upsert_slice(key, *slice),
            Content::Nothing => self.forget(&object),
        }
    }

    /// An object is gone.
    pub fn remove(&mut self, object: &ObjectRef) {
        self.own(object, Vec::new());
        self.forget(object);
    }

    /// All objects of a kind: those not among them are gone.
    pub fn replace(&mut self, kind: &str, objects: Vec<Seen>) {
        let there: BTreeSet<ObjectRef> = objects.iter().map(|seen| seen.object.clone()).collect();
        for object in self.objects_of(kind) {
            if !there.contains(&object) {
                self.remove(&object);
            }
        }
        for seen in objects {
            self.upsert(seen);
        }
    }

    /// What is different since this was asked last, in the order in which it has to be applied.
    pub fn take(&mut self) -> Vec<Changed> {
        let mut changed = Vec::new();
        if std::mem::take(&mut self.dirty.nodes) {
            self.renew_nodes(&mut changed);
        }
        for name in std::mem::take(&mut self.dirty.namespaces) {
            let labels = match self.namespaces.get(&name) {
                Some(labels) => Some(labels.clone()),
                None => self.named.contains_key(&name).then(|| namespace_labels(&name, None)),
            };
            changed.push(Changed::Namespace(name, labels));
        }
        for key in std::mem::take(&mut self.dirty.pods) {
            let pod = self.placed(&key);
            changed.push(Changed::Pod(key, pod));
        }
        let policies = std::mem::take(&mut self.dirty.policies);
        changed.extend(policies.into_iter().map(|(id, policy)| Changed::Policy(id, policy)));
        let services = self.services.take();
        if !services.is_empty() {
            self.dirty.problems |= self.services.contest();
        }
        for (key, service, problems) in services {
            let object = ObjectRef::namespaced("Service", key.namespace(), key.name());
            self.dirty.problems |= note(&mut self.joint_problems, &object, problems);
            changed.push(Changed::Service(key, service));
        }
        changed
    }

    /// What is not understood or does not go together, when that has changed since this was asked last. Ask after
    /// [`Live::take`].
    pub fn problems(&mut self) -> Option<Vec<Problem>> {
        std::mem::take(&mut self.dirty.problems).then(|| {
            let noted = self.own_problems.values().chain(self.joint_problems.values()).flatten().cloned();
            noted.chain(self.services.contested().iter().cloned()).collect()
        })
    }

    fn own(&mut self, object: &ObjectRef, problems: Vec<Problem>) {
        self.dirty.problems |= note(&mut self.own_problems, object, problems);
    }

    fn forget(&mut self, object: &ObjectRef) {
        let key = NamespacedName::new(object.namespace.clone().unwrap_or_default(), &object.name);
        match object.kind.as_str() {
            "Namespace" => {
                if self.namespaces.remove(&object.name).is_some() {
                    self.dirty.namespaces.insert(object.name.clone());
                }
            }
            "Node" => self.dirty.nodes |= self.node_objects.remove(&object.name).is_some(),
            "Pod" => self.forget_pod(&key),
            "Service" => self.services.remove(&key),
            "EndpointSlice" => self.services.remove_slice(&key),
            _ => {
                if let Some(id) = policy_id(object).filter(|id| self.policies.remove(id)) {
                    self.unname_namespace(&id.namespace);
                    self.dirty.policies.insert(id, None);
                }
            }
        }
    }

    fn objects_of(&self, kind: &str) -> Vec<ObjectRef> {
        let mut objects: BTreeSet<ObjectRef> =
            self.own_problems.keys().filter(|object| object.kind == kind).cloned().collect();
        match kind {
            "Namespace" => objects.extend(self.namespaces.keys().map(|name| ObjectRef::cluster(kind, name))),
            "Node" => objects.extend(self.node_objects.keys().map(|name| ObjectRef::cluster(kind, name))),
            "Pod" => objects.extend(self.pods.keys().map(|key| namespaced(kind, key))),
            "Service" => objects.extend(self.services.keys().map(|key| namespaced(kind, key))),
            "EndpointSlice" => objects.extend(self.services.slices().map(|key| namespaced(kind, key))),
            _ => objects.extend(self.policies.iter().map(object_of).filter(|object| object.kind == kind)),
        }
        objects.into_iter().collect()
    }

    fn remember_pod(&mut self, pod: Pod) {
        let key = pod.key.clone();
        self.pods_of.entry(pod.node.clone()).or_default().insert(key.clone());
        for address in pod.addresses.iter().filter(|_| pod.is_policed()) {
            let claims = self.claims.entry(*address).or_default();
            claims.insert(key.clone());
            self.dirty.pods.extend(claims.iter().cloned());
        }
        self.name_namespace(key.namespace());
        self.dirty.pods.insert(key.clone());
        self.pods.insert(key, pod);
    }

    fn forget_pod(&mut self, key: &NamespacedName) {
        let Some(pod) = self.pods.remove(key) else { return };
        if let Some(pods) = self.pods_of.get_mut(&pod.node) {
            pods.remove(key);
            if pods.is_empty() {
                self.pods_of.remove(&pod.node);
            }
        }
        for address in &pod.addresses {
            let Some(claims) = self.claims.get_mut(address) else { continue };
            claims.remove(key);
            self.dirty.pods.extend(claims.iter().cloned());
            if claims.is_empty() {
                self.claims.remove(address);
            }
        }
        self.unname_namespace(key.namespace());
        self.dirty.pods.insert(key.clone());
    }

    /// A namespace that nothing names and nobody saw is not there; those of cluster-wide policies are none.
    fn name_namespace(&mut self, name: &str) {
        if name.is_empty() {
            return;
        }
        let count = self.named.entry(name.to_owned()).or_default();
        *count += 1;
        if *count == 1 && !self.namespaces.contains_key(name) {
            self.dirty.namespaces.insert(name.to_owned());
        }
    }

    fn unname_namespace(&mut self, name: &str) {
        let Some(count) = self.named.get_mut(name) else { return };
        *count -= 1;
        if *count == 0 {
            self.named.remove(name);
            if !self.namespaces.contains_key(name) {
                self.dirty.namespaces.insert(name.to_owned());
            }
        }
    }

    /// All nodes anew (each may be in another's way), and the pods that this concerns.
    fn renew_nodes(&mut self, changed: &mut Vec<Changed>) {
        let (nodes, problems) = nodes_of(&self.node_objects);
        self.dirty.problems |= self.joint_problems.keys().any(|object| object.kind == "Node");
        self.joint_problems.retain(|object, _| object.kind != "Node");
        for problem in problems {
            let Some(object) = problem.object.clone() else { continue };
            self.dirty.problems = true;
            self.joint_problems.entry(object).or_default().push(problem);
        }
        let nodes: BTreeMap<NodeName, Node> =
            nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
        let mut taken = BTreeMap::new();
        for node in nodes.values() {
            for address in node.addresses.iter().copied().chain(node.gateway_addresses()) {
                taken.entry(address).or_insert_with(|| node.name.clone());
            }
        }
        for address in self.taken.keys().chain(taken.keys()) {
            if self.taken.get(address) != taken.get(address)
                && let Some(claims) = self.claims.get(address)
            {
                self.dirty.pods.extend(claims.iter().cloned());
            }
        }
        let held = std::mem::replace(&mut self.nodes, nodes);
        self.taken = taken;
        if held.is_empty() != self.nodes.is_empty() {
            self.dirty.pods.extend(self.pods_of.get(&None).into_iter().flatten().cloned());
        }
        for (name, before) in &held {
            let now = self.nodes.get(name);
            if now.is_none() {
                changed.push(Changed::Node(name.clone(), None));
            }
            if now.is_none_or(|now| now.addresses != before.addresses) {
                self.concerns_pods_of(name);
            }
        }
        for (name, node) in &self.nodes {
            if held.get(name) != Some(node) {
                changed.push(Changed::Node(name.clone(), Some(node.clone())));
            }
        }
        let new: Vec<NodeName> =
            self.nodes.keys().filter(|name| !held.contains_key(*name)).cloned().collect();
        for name in new {
            self.concerns_pods_of(&name);
        }
    }

    /// A pod without a place claims nothing: that its node comes or goes concerns who else claims its addresses.
    fn concerns_pods_of(&mut self, node: &NodeName) {
        for key in self.pods_of.get(&Some(node.clone())).into_iter().flatten() {
            self.dirty.pods.insert(key.clone());
            for address in self.pods.get(key).into_iter().flat_map(|pod| &pod.addresses) {
                self.dirty.pods.extend(self.claims.get(address).into_iter().flatten().cloned());
            }
        }
    }

    /// A pod as it is among the others.
    fn placed(&mut self, key: &NamespacedName) -> Option<Pod> {
        let object = ObjectRef::namespaced("Pod", key.namespace(), key.name());
        let Some(pod) = self.pods.get(key) else {
            self.dirty.problems |= note(&mut self.joint_problems, &object, Vec::new());
            return None;
        };
        let mut pod = pod.clone();
        let faults = admit(&mut pod, self, "the pod goes without it");
        let placed = !faults.iter().any(|(field, _)| *field == "spec.nodeName");
        let problems = faults.into_iter().map(|fault| problem(&pod, None, fault)).collect();
        self.dirty.problems |= note(&mut self.joint_problems, &object, problems);
        placed.then_some(pod)
    }
}

impl Neighbours for Live {
    fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(name)
    }

    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn names(&self) -> Vec<&NodeName> {
        self.nodes.keys().collect()
    }

    fn owner(&self, address: IpAddr, pod: &NamespacedName) -> Option<ObjectRef> {
        if let Some(node) = self.taken.get(&address) {
            return Some(ObjectRef::cluster("Node", node.as_str()));
        }
        let has_a_place = |key: &&NamespacedName| match self.pods.get(*key).map(|pod| &pod.node) {
            Some(Some(node)) => self.nodes.contains_key(node),
            Some(None) => !self.nodes.is_empty(),
            None => false,
        };
        let owner = self.claims.get(&address)?.iter().find(has_a_place)?;
        (owner != pod).then(|| ObjectRef::namespaced("Pod", owner.namespace(), owner.name()))
    }
}

/// Replaces what is noted of an object; whether that is something else than before.
fn note(all: &mut BTreeMap<ObjectRef, Vec<Problem>>, object: &ObjectRef, problems: Vec<Problem>) -> bool {
    if problems.is_empty() {
        return all.remove(object).is_some();
    }
    if all.get(object) == Some(&problems) {
        return false;
    }
    all.insert(object.clone(), problems);
    true
}

fn namespaced(kind: &str, key: &NamespacedName) -> ObjectRef {
    ObjectRef::namespaced(kind, key.namespace(), key.name())
}

fn object_of(id: &PolicyId) -> ObjectRef {
    match id.kind {
        PolicyKind::NetworkPolicy => ObjectRef::namespaced("NetworkPolicy", &id.namespace, &id.name),
        PolicyKind::ClusterNetworkPolicy => ObjectRef::cluster("ClusterNetworkPolicy", &id.name),
    }
}

fn policy_id(object: &ObjectRef) -> Option<PolicyId> {
    let kind = match object.kind.as_str() {
        "NetworkPolicy" => PolicyKind::NetworkPolicy,
        "ClusterNetworkPolicy" => PolicyKind::ClusterNetworkPolicy,
        _ => return None,
    };
    let namespace = object.namespace.clone().unwrap_or_default();
    Some(PolicyId { kind, namespace, name: object.name.clone() })
}

#[cfg(test)]
mod tests;
