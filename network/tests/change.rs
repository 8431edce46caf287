//! Networks one change at a time.

mod arbitrary;

use network::Tier;
use proptest::prelude::*;

const TIERS: &[Tier] = &[Tier::Admin, Tier::NetworkPolicy, Tier::Baseline];

proptest! {
    /// The changes between two networks make the one of the other, and there are none where nothing differs.
    #[test]
    fn changes_lead_from_any_network_to_any_other(
        mut from in arbitrary::network(TIERS),
        mut to in arbitrary::network(TIERS),
    ) {
        to.prune();
        let changes = to.changes_since(&from);
        for change in changes.iter().cloned() {
            from.apply(change);
        }
        // Once more: a change that was made already changes nothing.
        changes.into_iter().for_each(|change| from.apply(change));
        from.prune();
        prop_assert_eq!(&from, &to);
        prop_assert_eq!(to.changes_since(&from), vec![]);
    }

    /// What a policy names is kept, nothing else.
    #[test]
    fn pruning_keeps_what_policies_name(mut network in arbitrary::network(TIERS)) {
        let whole: Vec<_> = network.policies.values().flat_map(|policy| policy.sets()).collect();
        network.prune();
        prop_assert!(whole.iter().all(|id| network.selectors.contains_key(id)));
        network.policies.clear();
        network.prune();
        prop_assert_eq!(network.selectors.len(), 0);
    }
}
