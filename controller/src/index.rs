//! From the network to what every node needs of it, with content versions. Knows no agents.
//!
//! `apply` takes the new network and says whose resources changed. It recomputes every view whole; the seam is made so
//! that an incremental index can take its place without anybody noticing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::delta::{self, Resources};
use network::{Network, NodeName, NodeView};

/// The network and the resources of each node.
#[derive(Debug, Default)]
pub struct Index {
    network: Network,
    /// Agents that are here without a Node object: they get a view too, and learn that way that they are not in it.
    attended: BTreeSet<NodeName>,
    resources: BTreeMap<NodeName, Arc<Resources>>,
}

impl Index {
    /// The network as it was applied last.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Replaces the network; returns the nodes whose resources changed.
    pub fn apply(&mut self, network: Network) -> BTreeSet<NodeName> {
        if self.network == network {
            return BTreeSet::new();
        }
        self.network = network;
        let wanted: BTreeSet<NodeName> =
            self.network.nodes.keys().chain(self.attended.iter()).cloned().collect();
        self.resources.retain(|node, _| wanted.contains(node));
        wanted.into_iter().filter(|node| self.recompute(node)).collect()
    }

    /// The resources of a node, whether or not the network has it. The same allocation until they change.
    pub fn attend(&mut self, node: &NodeName) -> Arc<Resources> {
        if !self.attended.contains(node) {
            self.attended.insert(node.clone());
        }
        if !self.resources.contains_key(node) {
            self.recompute(node);
        }
        self.resources.get(node).cloned().unwrap_or_default()
    }

    /// Nobody asks for this node any more, unless the network has it.
    pub fn neglect(&mut self, node: &NodeName) {
        self.attended.remove(node);
        if !self.network.nodes.contains_key(node) {
            self.resources.remove(node);
        }
    }

    /// The resources of a node that is in the network or attended.
    pub fn resources(&self, node: &NodeName) -> Option<&Arc<Resources>> {
        self.resources.get(node)
    }

    fn recompute(&mut self, node: &NodeName) -> bool {
        let resources = delta::resources(&NodeView::of(&self.network, node));
        if self.resources.get(node).is_some_and(|held| same(held, &resources)) {
            return false;
        }
        self.resources.insert(node.clone(), Arc::new(resources));
        true
    }
}

/// Versions are hashes of the content: comparing them compares everything.
fn same(a: &Resources, b: &Resources) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((a, (a_version, _)), (b, (b_version, _)))| a == b && a_version == b_version)
}
