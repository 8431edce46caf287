//! What a change costs the nodes in flows of policies.

use std::collections::BTreeSet;

use compiler::Costs;
use compiler::simulate::matrix::costs_all;
use network::Network;

use super::document::Cost;

/// Nodes times policies times pods up to which flows are counted in passing: a second or so.
const IN_PASSING: usize = 20_000_000;

/// The nodes on which something changes or does not fit; none when that is too much work and nobody insists.
pub fn count(before: &Network, after: &Network, insist: bool) -> Option<Vec<Cost>> {
    let size = |network: &Network| network.nodes.len() * network.policies.len() * network.pods.len();
    if !insist && size(before).max(size(after)) > IN_PASSING {
        return None;
    }
    let (was, is) = (costs_all(before), costs_all(after));
    let flows = |costs: Option<&Costs>| -> usize {
        costs.map_or(0, |it| it.policies.values().filter(|cost| cost.fits).map(|cost| cost.adds).sum())
    };
    let nodes: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    let one = |node| {
        let refused = is.get(node).into_iter().flat_map(|costs| &costs.policies);
        let refused = refused.filter(|(_, cost)| !cost.fits).map(|(id, _)| id.to_string());
        Cost {
            node: node.to_string(),
            before: flows(was.get(node)),
            after: flows(is.get(node)),
            budget: is.get(node).map_or(0, |costs| costs.budget),
            refused: refused.collect(),
        }
    };
    let costs = nodes.into_iter().map(one);
    Some(costs.filter(|cost| cost.before != cost.after || !cost.refused.is_empty()).collect())
}
