//! Whose connections a change may deny, tried on random changes of random networks: whatever passed before and is dropped
//! after, one of its ends was named to the node that drops it. And a change that only allows names nobody.

#![allow(clippy::unwrap_used)]

#[path = "../../compiler/tests/networks/mod.rs"]
mod networks;

use std::collections::{BTreeMap, BTreeSet};

use compiler::simulate::matrix::compile_all;
use compiler::simulate::{Fabric, Outcome, Packet};
use network::{
    Direction, NamespacedName, Network, NodeName, NodeView, Peers, Pod, Ports, Protocol, Rule, Tier,
};
use networks::network;
use ovs_agent::cut::threat::Journal;
use proptest::prelude::*;

type Threatened = BTreeSet<(Direction, NamespacedName)>;

/// What every node is told.
fn threatened(before: &Network, after: &Network) -> BTreeMap<NodeName, Threatened> {
    let one = |name: &NodeName| {
        let (old, new) = (NodeView::of(before, name), NodeView::of(after, name));
        let delta = api::delta::delta(&api::delta::versions(&old), &api::delta::resources(&new));
        let mut journal = Journal::default();
        journal.remember(&old, name, api::delta::named(&delta));
        journal.threatened(&new, &BTreeSet::new()).unwrap()
    };
    before.nodes.keys().map(|name| (name.clone(), one(name))).collect()
}

/// Some policies go, others come, and some pods are relabelled.
fn change() -> impl Strategy<Value = (Network, Network)> {
    (network(), network(), any::<u8>(), any::<u8>(), any::<u8>()).prop_map(
        |(before, other, gone, come, relabelled)| {
            let mut after = before.clone();
            let bit = |bits: u8, index: usize| bits >> (index % 8) & 1 == 1;
            let mut index = 0;
            after.policies.retain(|_, _| {
                index += 1;
                !bit(gone, index)
            });
            after.selectors.extend(other.selectors.clone());
            let come = other.policies.iter().enumerate().filter(|(index, _)| bit(come, *index));
            after.policies.extend(come.map(|(_, (id, policy))| (id.clone(), policy.clone())));
            for (index, pod) in
                after.pods.values_mut().enumerate().filter(|(index, _)| bit(relabelled, *index))
            {
                pod.labels = other.pods.values().nth(index % other.pods.len()).unwrap().labels.clone();
            }
            (before, after)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn nobody_loses_a_connection_unasked((before, after) in change()) {
        let threatened = threatened(&before, &after);
        let (old, new) = (compile_all(&before), compile_all(&after));
        let mut was = Fabric::new(old.iter().map(|site| (&site.node, &site.program, site.ports.as_slice())));
        let mut is = Fabric::new(new.iter().map(|site| (&site.node, &site.program, site.ports.as_slice())));
        let pods: Vec<&Pod> = before.pods.values().filter(|pod| pod.is_policed()).collect();
        for from in &pods {
            for to in pods.iter().filter(|to| to.key != from.key) {
                for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 81), (Protocol::Sctp, 82)] {
                    was.forget_connections();
                    is.forget_connections();
                    let first = Packet::first(from.addresses[0], to.addresses[0], protocol, port);
                    if !was.from_pod(&from.key, first.clone()).unwrap().passed() {
                        continue;
                    }
                    if let Outcome::Dropped { node } = is.from_pod(&from.key, first).unwrap().outcome {
                        let named = &threatened[&node];
                        let ends = [(Direction::Egress, from.key.clone()), (Direction::Ingress, to.key.clone())];
                        prop_assert!(
                            ends.iter().any(|end| named.contains(end)),
                            "{} loses {} -> {} {protocol}/{port}, and only {named:?} are asked about", node, from.key, to.key
                        );
                    }
                }
            }
        }
    }

    /// Rules that are added to policies, and peers and ports that are widened.
    #[test]
    fn what_only_allows_asks_about_nobody(before in network(), wide: bool) {
        let mut after = before.clone();
        for policy in after.policies.values_mut().filter(|policy| policy.tier == Tier::NetworkPolicy) {
            policy.generation += 1;
            for direction in [Direction::Ingress, Direction::Egress] {
                if policy.isolates.of(direction) {
                    let ports = if wide { Ports::Any } else {
                        let range = network::PortRange::single(Protocol::Tcp, 4711);
                        Ports::Some([network::PortMatch::Range(range)].into())
                    };
                    policy.rules.push(Rule { index: 99, direction, action: network::Action::Accept, peers: Peers::Any, ports });
                }
            }
            for rule in policy.rules.iter_mut().filter(|_| wide) {
                rule.peers = Peers::Any;
            }
        }
        // A port name that is restricted to pods by its number is another set when the peers are others.
        let named = before.policies.values().flat_map(|policy| &policy.rules).any(|rule| match &rule.ports {
            Ports::Any => false,
            Ports::Some(ports) => ports.iter().any(|port| matches!(port, network::PortMatch::Named { .. })),
        });
        prop_assume!(!(wide && named));
        for (node, named) in threatened(&before, &after) {
            prop_assert!(named.is_empty(), "{node} asks about {named:?}");
        }
    }
}
