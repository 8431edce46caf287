//! What policies cost is counted before it is installed; what does not fit a node's budget is refused, closed, and disturbs
//! nobody else.

#![allow(clippy::unwrap_used)]

mod networks;

use std::collections::BTreeSet;

use compiler::provenance::Owner;
use compiler::simulate::matrix::{Site, compile_all};
use compiler::simulate::{Fabric, Packet};
use compiler::{Datapath, Input, LocalPort, NodeConfig, Program};
use network::{Mac, Network, NodeName, NodeView, PolicyId};
use networks::network;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn plugged(view: &NodeView) -> Vec<LocalPort> {
    let addressed = view.pods.values().filter_map(|pod| Some((pod, *pod.addresses.first()?)));
    let port = |(pod, first): (&network::LocalPod, _)| LocalPort {
        interface: format!("fe-{}", pod.key.name()),
        pod: Some((pod.key.clone(), pod.uid.clone())),
        mac: Mac::from_address(first),
        addresses: pod.addresses.clone(),
    };
    addressed.map(port).collect()
}

fn compiled(network: &Network, budget: usize, closed: &BTreeSet<PolicyId>) -> (Program, compiler::Costs) {
    let mut config = NodeConfig::new(NodeName::new("node-1"), Datapath::Netdev, 1500);
    config.flow_budget = budget;
    let view = NodeView::of(network, &config.node);
    let ports = plugged(&view);
    let input = Input { view: &view, described: None, config: &config, ports: &ports, closed };
    (compiler::compile_input(input), compiler::costs(input))
}

fn is_of_another(owner: &Owner, id: &PolicyId) -> bool {
    match owner {
        Owner::Rule { policy, .. } | Owner::Isolation { policy, .. } => policy != id,
        _ => false,
    }
}

const PLENTY: usize = 1_000_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_counted_is_enough_and_what_does_not_fit_is_closed(network in network(), budget in 0usize..200) {
        let open = BTreeSet::new();
        let (whole, costs) = compiled(&network, PLENTY, &open);
        let all: BTreeSet<PolicyId> = costs.policies.keys().cloned().collect();
        let (nothing, _) = compiled(&network, PLENTY, &all);
        prop_assert!(whole.refused.is_empty());
        prop_assert!(costs.policies.values().all(|cost| cost.fits && cost.adds <= cost.alone));
        let adds: usize = costs.policies.values().map(|cost| cost.adds).sum();
        let kept = |program: &Program| program.flows.keys().filter(|key| !nothing.flows.contains_key(*key)).count();
        prop_assert!(kept(&whole) <= adds, "{} flows, {} counted", kept(&whole), adds);
        for (id, rules) in &costs.rules {
            let (alone, sum) = (costs.policies[id].alone, rules.values().sum::<usize>());
            prop_assert!(rules.values().all(|cost| *cost <= alone) && alone <= sum, "{id}: {alone} of {rules:?}");
        }
        // Each for itself, too.
        for (id, cost) in &costs.policies {
            let mut others = all.clone();
            others.remove(id);
            let (alone, _) = compiled(&network, PLENTY, &others);
            // One rule more of an ordered tier moves those of its priority that stand behind it; they are not new.
            let moved = |program: &Program| {
                let new = program.flows.iter().filter(|(key, _)| !nothing.flows.contains_key(*key));
                new.filter(|(_, flow)| program.reasons[&flow.cookie].owners.iter().all(|owner| is_of_another(owner, id)))
                    .count()
            };
            let own = kept(&alone) - moved(&alone);
            prop_assert!(own <= cost.alone, "{id}: {own} flows, {} counted", cost.alone);
        }

        let (tight, costs) = compiled(&network, budget, &open);
        let out: BTreeSet<PolicyId> =
            costs.policies.iter().filter(|(_, cost)| !cost.fits).map(|(id, _)| id.clone()).collect();
        prop_assert!(kept(&tight) <= budget);
        // Nothing is refused that fits; and what is refused is as if it were closed, and nothing else is.
        let refused: BTreeSet<PolicyId> = tight.refused.keys().cloned().collect();
        prop_assert!(refused == out || (refused.is_empty() && kept(&whole) <= budget));
        let closed = tight.refused.keys().cloned().collect();
        prop_assert_eq!(&tight.flows, &compiled(&network, PLENTY, &closed).0.flows);
    }
}

#[test]
fn nothing_opens_for_a_node_without_any_budget() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..50 {
        let network = network().new_tree(&mut runner).unwrap().current();
        let view = NodeView::of(&network, &NodeName::new("node-1"));
        let all: BTreeSet<PolicyId> = view.policies.keys().cloned().collect();
        let (none, costs) = compiled(&network, 0, &BTreeSet::new());
        let refused = costs.policies.iter().filter(|(_, cost)| cost.adds > 0).map(|(id, _)| id.clone());
        assert_eq!(none.refused.keys().cloned().collect::<BTreeSet<_>>(), refused.collect());
        assert_eq!(none.flows, compiled(&network, PLENTY, &all).0.flows);

        // The other node has all its policies; whoever passes with the first one's closed passed before.
        let whole = compile_all(&network);
        let mut closed = compile_all(&network);
        (closed[0].program, closed[0].ports) = (none, plugged(&view));
        let mut whole = fabric(&whole);
        let mut closed = fabric(&closed);
        let pods: Vec<_> = network.pods.values().filter(|pod| pod.is_policed()).collect();
        for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
            let (Some(source), Some(target)) = (from.addresses.first(), to.addresses.first()) else {
                continue;
            };
            if from.key == to.key {
                continue;
            }
            let passes = |fabric: &mut Fabric<'_>| {
                fabric.forget_connections();
                let packet = Packet::first(*source, *target, network::Protocol::Tcp, 80);
                fabric.from_pod(&from.key, packet).unwrap().passed()
            };
            assert!(passes(&mut whole) || !passes(&mut closed), "{} to {} was opened", from.key, to.key);
        }
    }
}

fn fabric(sites: &[Site]) -> Fabric<'_> {
    Fabric::new(sites.iter().map(|site| (&site.node, &site.program, site.ports.as_slice())))
}
