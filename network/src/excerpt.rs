//! The part of a network that decides about a few ends: small enough to be compiled and asked for one answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{NO_LABELS, Network};
use crate::name::{NamespacedName, NodeName};
use crate::node::Node;
use crate::policy::Policy;
use crate::selector::Selector;

impl Network {
    /// Some pods, their nodes, some more nodes, and the policies that select one of the pods. What it says about connections
    /// between these, or with the outside, is what the whole says.
    #[must_use]
    pub fn excerpt(&self, pods: &BTreeSet<&NamespacedName>, nodes: &BTreeSet<&NodeName>) -> Self {
        let pods: BTreeMap<_, _> = pods.iter().filter_map(|key| self.pods.get_key_value(*key)).collect();
        let homes = pods.values().filter_map(|pod| pod.node.as_ref());
        let nodes: BTreeSet<&NodeName> = homes.chain(nodes.iter().copied()).collect();
        let namespaces = pods.keys().map(|key| key.namespace());
        let selects = |selector: &Selector| {
            pods.values().any(|pod| {
                let labels = self.namespaces.get(pod.key.namespace()).unwrap_or(&NO_LABELS);
                selector.selects_pod(pod, labels)
            })
        };
        let mut selecting: BTreeMap<_, bool> = BTreeMap::new();
        let mut is_asked = |policy: &Policy| {
            let asked = || self.selectors.get(&policy.subject).is_some_and(selects);
            *selecting.entry(policy.subject).or_insert_with(asked)
        };
        let policies: BTreeMap<_, _> = self
            .policies
            .iter()
            .filter(|(_, policy)| is_asked(policy))
            .map(|(id, policy)| (id.clone(), policy.clone()))
            .collect();
        let named: BTreeSet<_> = policies.values().flat_map(Policy::sets).collect();
        let selectors = named.into_iter().filter_map(|id| Some((id, self.selectors.get(&id)?.clone())));
        // By its external addresses a node is meant wherever the packet goes.
        let selectors: BTreeMap<_, _> = selectors.collect();
        let is_meant = |node: &Node| {
            !node.external.is_empty()
                && selectors.values().any(|selector: &Selector| selector.selects_node(node))
        };
        let kept = self.nodes.iter().filter(|(name, node)| nodes.contains(name) || is_meant(node));
        Self {
            nodes: kept.map(|(name, node)| (name.clone(), node.clone())).collect(),
            namespaces: namespaces
                .filter_map(|n| Some((n.to_owned(), self.namespaces.get(n)?.clone())))
                .collect(),
            selectors,
            policies,
            services: BTreeMap::new(),
            pods: pods.into_iter().map(|(key, pod)| (key.clone(), pod.clone())).collect(),
        }
    }
}
