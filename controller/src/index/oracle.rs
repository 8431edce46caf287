//! The whole recompute beside the index: the same changes, the shortest way. Costs what the network costs at every step.

use std::collections::BTreeSet;

use api::delta;
use network::{Change, Network, NodeName, NodeView};

use super::Index;
use crate::bindings::Bindings;
use crate::source::Problem;

/// The network as the sources give it, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    network: Network,
}

impl Oracle {
    /// Takes a change in.
    pub fn apply(&mut self, change: Change) {
        self.network.apply(change);
    }

    /// Whether a settled index says what a whole recompute says; the first difference in words.
    pub fn check(&self, index: &Index, bindings: &Bindings) -> Result<(), String> {
        let mut source = self.network.clone();
        source.prune();
        let (network, problems) = bindings.merge(source);
        let held = index.network();
        if held != network {
            let different = network.changes_since(&held);
            return Err(format!("the index lacks these changes: {different:?}"));
        }
        let refused: BTreeSet<&Problem> = index.refused().collect();
        let expected: BTreeSet<&Problem> = problems.iter().collect();
        let missing = expected.difference(&refused).find(|problem| !problem.object.starts_with("Node "));
        if let Some(problem) = missing.or_else(|| refused.difference(&expected).next()) {
            return Err(format!("the index and a recompute differ about {problem:?}"));
        }
        let names: BTreeSet<NodeName> = index.attended().chain(network.nodes.keys()).cloned().collect();
        for name in names {
            let whole = delta::resources(&NodeView::of(&network, &name));
            let held = index.resources(&name).ok_or_else(|| format!("node {name} has no view"))?;
            if let Some(difference) = held.difference(&whole) {
                return Err(format!("the view of {name} differs from a recompute: {difference}"));
            }
        }
        Ok(())
    }
}
