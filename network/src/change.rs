//! What happens to a network, one object at a time: the words in which sources speak to whoever keeps one up to date.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::few::Few;
use crate::labels::Labels;
use crate::model::Network;
use crate::name::{NamespacedName, NodeName};
use crate::node::Node;
use crate::pod::Pod;
use crate::policy::{Peers, Policy, PolicyId};
use crate::selector::{Selector, SetId};
use crate::service::Service;

/// One object that is there now, in place of what it was, or that is gone. Applying one twice is applying it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A node.
    Node(Node),
    /// A node is gone.
    NodeGone(NodeName),
    /// A namespace, with its labels.
    Namespace(String, Labels),
    /// A namespace is gone.
    NamespaceGone(String),
    /// A pod.
    Pod(Pod),
    /// A pod is gone.
    PodGone(NamespacedName),
    /// A policy, with the selector of every set that it names.
    Policy(Policy, Vec<(SetId, Selector)>),
    /// A policy is gone.
    PolicyGone(PolicyId),
    /// A Service.
    Service(Service),
    /// A Service is gone.
    ServiceGone(NamespacedName),
}

impl Change {
    /// A policy as a translation gives it: with selectors that have no ids yet.
    pub fn policy(policy: Policy, selectors: impl IntoIterator<Item = Selector>) -> Self {
        let selectors = selectors.into_iter().map(|selector| (selector.id(), selector)).collect();
        Self::Policy(policy, selectors)
    }
}

impl Policy {
    /// The sets that it names: its subject and the peers of its rules.
    pub fn sets(&self) -> Few<SetId> {
        let peers = self.rules.iter().filter_map(|rule| match &rule.peers {
            Peers::Any => None,
            Peers::Some { sets, .. } => Some(sets.iter().copied()),
        });
        peers.flatten().chain([self.subject]).collect()
    }
}

impl Network {
    /// Does what the change says. Selectors that no policy names any more stay until [`Network::prune`].
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Node(node) => drop(self.nodes.insert(node.name.clone(), node)),
            Change::NodeGone(name) => drop(self.nodes.remove(&name)),
            Change::Namespace(name, labels) => drop(self.namespaces.insert(name, labels)),
            Change::NamespaceGone(name) => drop(self.namespaces.remove(&name)),
            Change::Pod(pod) => drop(self.pods.insert(pod.key.clone(), pod)),
            Change::PodGone(key) => drop(self.pods.remove(&key)),
            Change::Policy(policy, selectors) => {
                self.selectors.extend(selectors);
                self.policies.insert(policy.id.clone(), policy);
            }
            Change::PolicyGone(id) => drop(self.policies.remove(&id)),
            Change::Service(service) => drop(self.services.insert(service.key.clone(), service)),
            Change::ServiceGone(key) => drop(self.services.remove(&key)),
        }
    }

    /// Forgets the selectors that no policy names.
    pub fn prune(&mut self) {
        let named: BTreeSet<SetId> = self.policies.values().flat_map(Policy::sets).collect();
        self.selectors.retain(|id, _| named.contains(id));
    }

    /// What makes this network of an earlier one. An object that goes comes before what may take its place.
    pub fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        let gone = |id: &SetId| earlier.selectors.get(id) != self.selectors.get(id);
        let mut changes: Vec<Change> = Vec::new();
        let keys = earlier.policies.keys().filter(|key| !self.policies.contains_key(key));
        changes.extend(keys.cloned().map(Change::PolicyGone));
        let keys = earlier.services.keys().filter(|key| !self.services.contains_key(key));
        changes.extend(keys.cloned().map(Change::ServiceGone));
        let keys = earlier.pods.keys().filter(|key| !self.pods.contains_key(key));
        changes.extend(keys.cloned().map(Change::PodGone));
        let keys = earlier.namespaces.keys().filter(|key| !self.namespaces.contains_key(*key));
        changes.extend(keys.cloned().map(Change::NamespaceGone));
        let keys = earlier.nodes.keys().filter(|key| !self.nodes.contains_key(key));
        changes.extend(keys.cloned().map(Change::NodeGone));
        let nodes = self.nodes.iter().filter(|(key, node)| earlier.nodes.get(key) != Some(node));
        changes.extend(nodes.map(|(_, node)| Change::Node(node.clone())));
        let namespaces = self.namespaces.iter().filter(|(key, it)| earlier.namespaces.get(*key) != Some(it));
        changes.extend(namespaces.map(|(key, labels)| Change::Namespace(key.clone(), labels.clone())));
        let pods = self.pods.iter().filter(|(key, pod)| earlier.pods.get(key) != Some(pod));
        changes.extend(pods.map(|(_, pod)| Change::Pod(pod.clone())));
        for (key, policy) in &self.policies {
            if earlier.policies.get(key) != Some(policy) || policy.sets().iter().any(gone) {
                let named = policy.sets().into_iter();
                let selectors = named.filter_map(|id| Some((id, self.selectors.get(&id)?.clone())));
                changes.push(Change::Policy(policy.clone(), selectors.collect()));
            }
        }
        let services = self.services.iter().filter(|(key, it)| earlier.services.get(key) != Some(it));
        changes.extend(services.map(|(_, service)| Change::Service(service.clone())));
        changes
    }
}
