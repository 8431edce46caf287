//! What the policies of this node cost in flows. Pure: from a picture of the node, whatever the switch holds.

use api::insight::{CostItem, RuleCost};

use super::flows::names;
use crate::node::Snapshot;

/// The policies, or those of one name.
pub(super) fn items(node: &Snapshot, policy: Option<&str>) -> Vec<CostItem> {
    let costs = compiler::costs(node.reasons.recipe().input());
    let wanted = costs.policies.iter().filter(|(id, _)| policy.is_none_or(|text| names(id, text)));
    let item = |(id, cost): (&network::PolicyId, &compiler::Cost)| CostItem {
        node: node.config.node.clone(),
        policy: id.to_string(),
        alone: cost.alone,
        adds: cost.adds,
        budget: costs.budget,
        fits: cost.fits,
        rules: (costs.rules.get(id).into_iter().flatten())
            .map(|((direction, index), flows)| RuleCost::new(*direction, *index, *flows))
            .collect(),
    };
    wanted.map(item).collect()
}
