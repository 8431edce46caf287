//! The whole logical network, and who is a member of which set. The input of views and of the reference evaluator.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::name::{NamespacedName, NodeName};
use crate::node::Node;
use crate::pod::Pod;
use crate::policy::{Policy, PolicyId};
use crate::selector::{Selector, SetId};
use crate::service::Service;

/// The logical network. Two networks made from the same Kubernetes state are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Nodes by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Labels of every namespace.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods by name, those without an address too.
    pub pods: BTreeMap<NamespacedName, Pod>,
    /// Policies by object.
    pub policies: BTreeMap<PolicyId, Policy>,
    /// Services by name; an endpoint may name a pod in place of its addresses.
    pub services: BTreeMap<NamespacedName, Service>,
    /// What each set that a policy names selects.
    pub selectors: BTreeMap<SetId, Selector>,
}

impl Network {
    /// Remembers a selector and gives the id of its set.
    pub fn intern(&mut self, selector: Selector) -> SetId {
        let id = selector.id();
        self.selectors.entry(id).or_insert(selector);
        id
    }

    /// The pods that a selector selects, in their order.
    pub fn select_pods<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a Pod> + 'a {
        self.pods.values().filter(move |pod| {
            let namespace = self.namespaces.get(pod.key.namespace());
            selector.selects_pod(pod, namespace.unwrap_or(&NO_LABELS))
        })
    }

    /// The addresses that a selector stands for: of its pods, or of its nodes (underlay, gateway port and external).
    pub fn addresses_of(&self, selector: &Selector) -> BTreeSet<IpAddr> {
        match selector {
            Selector::Pods { .. } => {
                self.select_pods(selector).flat_map(|pod| pod.addresses.iter().copied()).collect()
            }
            Selector::Nodes(_) => self
                .nodes
                .values()
                .filter(|node| selector.selects_node(node))
                .flat_map(Node::meant_addresses)
                .collect(),
        }
    }

    /// The pod that owns an address now (completed and host-network pods own none).
    pub fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        self.pods.values().find(|pod| pod.is_policed() && pod.addresses.contains(&address))
    }

    /// The node that owns an address.
    pub fn node_at(&self, address: IpAddr) -> Option<&Node> {
        self.nodes.values().find(|node| node.owns(address))
    }

    /// The nodes of which an address is an external one: several behind one translator.
    pub fn known_as(&self, address: IpAddr) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(move |node| node.external.contains(&address))
    }
}

/// A namespace whose object has not been seen has no labels; its pods are still in it by name.
pub(crate) static NO_LABELS: Labels = BTreeMap::new();
