//! What stands for a policy whose flows the switch refuses: what cannot be realized denies. It must not know why.

use std::collections::BTreeSet;

use network::{Action, Direction, PeerMatch, Tier, ViewPolicy, ViewRule};

/// Takes the rules away, and what they kept out stays out.
pub(super) fn close(policy: &mut ViewPolicy) {
    let rules = std::mem::take(&mut policy.rules);
    if policy.tier == Tier::NetworkPolicy {
        // It isolates without rules too.
        return;
    }
    // Without an Accept later tiers decide, which opens nothing; a Deny, or a Pass that kept a later Accept of the same
    // tier away, would open.
    let guarded: BTreeSet<Direction> =
        rules.iter().filter(|rule| rule.action != Action::Accept).map(|rule| rule.direction).collect();
    policy.rules = guarded
        .into_iter()
        .map(|direction| ViewRule {
            index: 0,
            direction,
            action: Action::Deny,
            subject: policy.subject,
            peers: PeerMatch::Any,
            ports: None,
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use network::{Isolation, PolicyId, PolicyKind};

    use super::*;

    fn closed(tier: Tier, actions: &[(Direction, Action)]) -> Vec<(Direction, Action)> {
        let rule = |(index, (direction, action)): (usize, &(Direction, Action))| ViewRule {
            index: index as u32,
            direction: *direction,
            action: *action,
            subject: Default::default(),
            peers: PeerMatch::Any,
            ports: Some(BTreeSet::new()),
        };
        let mut policy = ViewPolicy {
            id: PolicyId {
                kind: PolicyKind::ClusterNetworkPolicy,
                namespace: String::new(),
                name: "p".into(),
            },
            generation: 1,
            tier,
            priority: 0,
            subject: Default::default(),
            isolates: Isolation::default(),
            rules: actions.iter().enumerate().map(rule).collect(),
        };
        close(&mut policy);
        policy.rules.iter().map(|rule| (rule.direction, rule.action)).collect()
    }

    #[test]
    fn what_a_refused_policy_denied_stays_denied() {
        use Action::{Accept, Deny, Pass};
        use Direction::{Egress, Ingress};
        assert_eq!(closed(Tier::Admin, &[(Egress, Accept), (Egress, Deny)]), [(Egress, Deny)]);
        assert_eq!(closed(Tier::Baseline, &[(Ingress, Pass), (Egress, Accept)]), [(Ingress, Deny)]);
        assert_eq!(closed(Tier::Admin, &[(Ingress, Accept)]), []);
        assert_eq!(closed(Tier::NetworkPolicy, &[(Ingress, Accept)]), []);
    }
}
