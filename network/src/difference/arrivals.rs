//! Pods that a change brings: whom they reach, and who reaches them. They are nobody's before, so what they may is the
//! difference to a network that has them and lets nothing pass to them or from them.

use std::sync::Arc;

use crate::labels::LabelSelector;
use crate::model::Network;
use crate::policy::{Action, Direction, Isolation, Peers, Policy, PolicyId, PolicyKind, Ports, Rule, Tier};
use crate::selector::{NamespaceSelector, Selector};

use super::{Connectivity, connectivity, only_in};

/// A label that no object can have: keys do not end so.
const SHUT: &str = "shut/";

/// What passes between pods that only the later network has and everybody; before [`shut`] nothing of it does.
pub fn arrivals(before: &Network, after: &Network) -> Option<(Network, Connectivity)> {
    let shut = shut(before, after)?;
    let found = connectivity(&shut, after);
    Some((shut, found))
}

/// The later network, with nothing passing to or from pods that only it has; none when it has no such pods.
fn shut(before: &Network, after: &Network) -> Option<Network> {
    let new = only_in(after, before);
    if new.is_empty() {
        return None;
    }
    let mut shut = after.clone();
    for key in &new {
        if let Some(pod) = shut.pods.get_mut(key) {
            Arc::make_mut(&mut pod.labels).insert(SHUT.to_owned(), String::new());
        }
    }
    let pods = LabelSelector::from_labels(&[(SHUT.to_owned(), String::new())].into());
    let everywhere = NamespaceSelector::Labels(LabelSelector::everything());
    let subject = shut.intern(Selector::Pods { namespaces: everywhere, pods, port: None });
    let rule =
        |direction| Rule { index: 0, direction, action: Action::Deny, peers: Peers::Any, ports: Ports::Any };
    // First of all: no other is called nothing.
    let id =
        PolicyId { kind: PolicyKind::ClusterNetworkPolicy, namespace: String::new(), name: String::new() };
    let policy = Policy {
        id: id.clone(),
        generation: 0,
        tier: Tier::Admin,
        priority: 0,
        subject,
        isolates: Isolation::default(),
        audit: false,
        rules: vec![rule(Direction::Ingress), rule(Direction::Egress)],
    };
    shut.policies.insert(id, policy);
    Some(shut)
}
