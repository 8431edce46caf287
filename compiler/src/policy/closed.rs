//! What stands for a policy that cannot be realized: it denies what it may have kept out. It must not know why.

use std::collections::BTreeSet;

use network::{Action, Direction, Tier, ViewPolicy};

/// The directions in which a closed policy denies its subject everything. Its rules are gone.
pub(super) fn guarded(policy: &ViewPolicy) -> BTreeSet<Direction> {
    if policy.tier == Tier::NetworkPolicy {
        // It isolates without rules too.
        return BTreeSet::new();
    }
    // Without an Accept later tiers decide, which opens nothing; a Deny, or a Pass that kept a later Accept of the same
    // tier away, would open.
    policy.rules.iter().filter(|rule| rule.action != Action::Accept).map(|rule| rule.direction).collect()
}

#[cfg(test)]
mod tests {
    use network::{Isolation, PeerMatch, PolicyId, PolicyKind, ViewRule};

    use super::*;

    fn closed(tier: Tier, actions: &[(Direction, Action)]) -> Vec<Direction> {
        let rule = |(index, (direction, action)): (usize, &(Direction, Action))| ViewRule {
            index: index as u32,
            direction: *direction,
            action: *action,
            subject: Default::default(),
            peers: PeerMatch::Any,
            ports: Some(BTreeSet::new()),
        };
        let id =
            PolicyId { kind: PolicyKind::ClusterNetworkPolicy, namespace: String::new(), name: "p".into() };
        let policy = ViewPolicy {
            id,
            generation: 1,
            tier,
            priority: 0,
            subject: Default::default(),
            isolates: Isolation::default(),
            audit: false,
            rules: actions.iter().enumerate().map(rule).collect(),
        };
        guarded(&policy).into_iter().collect()
    }

    #[test]
    fn what_a_refused_policy_denied_stays_denied() {
        use Action::{Accept, Deny, Pass};
        use Direction::{Egress, Ingress};
        assert_eq!(closed(Tier::Admin, &[(Egress, Accept), (Egress, Deny)]), [Egress]);
        assert_eq!(closed(Tier::Baseline, &[(Ingress, Pass), (Egress, Accept)]), [Ingress]);
        assert_eq!(closed(Tier::Admin, &[(Ingress, Accept)]), []);
        assert_eq!(closed(Tier::NetworkPolicy, &[(Ingress, Accept)]), []);
    }
}
