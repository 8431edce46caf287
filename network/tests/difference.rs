//! The connectivity difference of two networks is that of their matrices, cell by cell.
#![allow(clippy::unwrap_used, reason = "a test")]

mod arbitrary;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use network::difference::warnings::{Warning, warnings};
use network::difference::{Connectivity, Relation, Shift, Who, arrivals, connectivity};
use network::reference::{Endpoint, verdict};
use network::{Cidr, Labels, Network, Peers, PortMatch, Ports, Protocol, Tier};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

const TIERS: &[Tier] = &[Tier::Admin, Tier::NetworkPolicy, Tier::Baseline];

/// Everything about which two networks may differ: ends that both have, with their addresses then and now.
fn ends(before: &Network, after: &Network, difference: &Connectivity) -> Vec<(Who, [Endpoint; 2])> {
    let mut ends = Vec::new();
    for (key, was) in before.pods.iter().filter(|(_, pod)| pod.is_policed()) {
        if let Some(is) = after.pods.get(key).filter(|pod| pod.is_policed()) {
            let at = |address| Endpoint::Pod { key: key.clone(), address };
            ends.push((Who::Pod(key.clone()), [at(was.addresses[0]), at(is.addresses[0])]));
        }
    }
    for (name, was) in &before.nodes {
        let is = &after.nodes[name];
        let at = |address| Endpoint::Node { name: name.clone(), address };
        let gateway = |node: &network::Node| node.gateway_addresses().next().unwrap();
        let who = |gateway| Who::Node { name: name.clone(), gateway };
        ends.push((who(false), [at(was.addresses[0]), at(is.addresses[0])]));
        ends.push((who(true), [at(gateway(was)), at(gateway(is))]));
    }
    let owned = |address| {
        [before, after].iter().any(|n| {
            let mut ranges = n.nodes.values().flat_map(|node| &node.pod_cidrs);
            n.pod_at(address).is_some() || n.node_at(address).is_some() || ranges.any(|r| r.contains(address))
        })
    };
    for address in edges(before).union(&edges(after)).filter(|address| !owned(**address)) {
        let stands = difference
            .outside
            .iter()
            .filter(|outside| outside.ranges.iter().any(|(first, last)| (first..=last).contains(&address)));
        let stands: Vec<_> = stands.collect();
        assert_eq!(stands.len(), 1, "{address} is in one class: {:#?}", difference.outside);
        ends.push((stands[0].who.clone(), [Endpoint::Outside(*address), Endpoint::Outside(*address)]));
    }
    ends
}

/// The addresses at and beside every edge of every block.
fn edges(network: &Network) -> BTreeSet<IpAddr> {
    let mut edges = BTreeSet::from([IpAddr::from([192, 0, 2, 77])]);
    edges.extend(network.nodes.values().flat_map(|node| node.external.iter().copied()));
    for rule in network.policies.values().flat_map(|policy| &policy.rules) {
        let Peers::Some { blocks, .. } = &rule.peers else { continue };
        for cidr in blocks.iter().flat_map(|block| block.except.iter().chain([&block.cidr])) {
            let (IpAddr::V4(first), IpAddr::V4(last)) = (cidr.address(), cidr.last()) else { continue };
            let (first, last) = (u32::from(first), u32::from(last));
            for address in [first.wrapping_sub(1), first, first + 1, last, last.wrapping_add(1)] {
                edges.insert(Ipv4Addr::from(address).into());
            }
        }
    }
    edges
}

/// The ports at and beside every edge of every range, and those that pods declare.
fn ports(networks: [&Network; 2]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::from([7]);
    for network in networks {
        ports.extend(network.pods.values().flat_map(|pod| &pod.ports).map(|port| port.number));
        for rule in network.policies.values().flat_map(|policy| &policy.rules) {
            let Ports::Some(matches) = &rule.ports else { continue };
            for port in matches {
                if let PortMatch::Range(range) = port {
                    ports.extend([range.first.saturating_sub(1), range.first, range.last]);
                    ports.insert(range.last.saturating_add(1));
                }
            }
        }
    }
    ports
}

/// Whether one of two ends is the other's own node.
fn own_node(network: &Network, from: &Who, to: &Who) -> bool {
    let node = |who: &Who| match who {
        Who::Pod(key) => network.pods[key].node.clone(),
        Who::Node { name, .. } => Some(name.clone()),
        Who::Outside { .. } => None,
    };
    matches!(from, Who::Node { .. }) != matches!(to, Who::Node { .. }) && node(from) == node(to)
}

/// Whether a shift is about a pair of ends.
fn covers(shift: &Shift, from: &Who, to: &Who, own: bool) -> bool {
    let is_related = match shift.relation {
        Relation::Any => true,
        Relation::OwnNode => own,
        Relation::OtherNodes => !own,
    };
    is_related && shift.from.contains(from) && shift.to.contains(to)
}

/// Compares every cell.
fn check(before: &Network, after: &Network) -> Result<usize, TestCaseError> {
    let difference = connectivity(before, after);
    let ends = ends(before, after, &difference);
    let ports = ports([before, after]);
    let mut differing = 0;
    for (from, from_at) in &ends {
        for (to, to_at) in &ends {
            if from == to
                || matches!(
                    (from, to),
                    (Who::Node { .. } | Who::Outside { .. }, Who::Node { .. } | Who::Outside { .. })
                )
            {
                continue;
            }
            let own = own_node(before, from, to);
            let shifts: Vec<_> =
                difference.shifts.iter().filter(|shift| covers(shift, from, to, own)).collect();
            for protocol in Protocol::ALL {
                for port in &ports {
                    let [was, is] = [(before, 0), (after, 1)].map(|(network, t)| {
                        verdict(network, &from_at[t], &to_at[t], protocol, *port).combined()
                    });
                    let allowed =
                        shifts.iter().filter(|shift| shift.allowed.contains(protocol, *port)).count();
                    let denied = shifts.iter().filter(|shift| shift.denied.contains(protocol, *port)).count();
                    let expected = (usize::from(!was && is), usize::from(was && !is));
                    prop_assert_eq!(
                        (allowed, denied),
                        expected,
                        "{} → {} {}/{}: {} and {}\n{:#?}",
                        from,
                        to,
                        protocol,
                        port,
                        was,
                        is,
                        &difference
                    );
                    differing += allowed + denied;
                }
            }
        }
    }
    let empty = difference.shifts.iter().any(|shift| shift.allowed.is_empty() && shift.denied.is_empty());
    prop_assert!(!empty, "{:#?}", difference);
    // Who decided then and now explains that it differs.
    for shift in &difference.shifts {
        prop_assert!(shift.before != shift.after || relabelled(before, after), "{:#?}", shift);
    }
    Ok(differing)
}

fn relabelled(before: &Network, after: &Network) -> bool {
    (&before.pods, &before.namespaces, &before.nodes) != (&after.pods, &after.namespaces, &after.nodes)
}

/// One thing of another network in place of this one's.
fn one_thing(before: &Network, other: &Network, which: u8) -> Network {
    let mut after = before.clone();
    match which % 6 {
        0 => after.policies.clear(),
        1 => {
            if let Some((id, policy)) = other.policies.iter().next() {
                after.policies.insert(id.clone(), policy.clone());
                after.selectors.extend(other.selectors.clone());
            }
        }
        2 => drop(after.policies.pop_first()),
        3 => after.namespaces.clone_from(&other.namespaces),
        4 => {
            if let Some((pod, donor)) = after.pods.values_mut().next().zip(other.pods.values().next()) {
                pod.labels.clone_from(&donor.labels);
                pod.ports.clone_from(&donor.ports);
                pod.node.clone_from(&donor.node);
            }
        }
        _ => {
            if let Some(pod) = after.pods.values_mut().find(|pod| pod.is_policed()) {
                pod.addresses = vec![IpAddr::from([10, 244, 2, 200])];
            }
        }
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_two_networks(before in arbitrary::network(TIERS), mut after in arbitrary::network(TIERS)) {
        check(&before, &after)?;
        // The same pods under other policies: more that is comparable.
        after.pods.clone_from(&before.pods);
        check(&before, &after)?;
    }

    #[test]
    fn one_change(
        before in arbitrary::network(TIERS),
        other in arbitrary::network(TIERS),
        which in any::<u8>(),
    ) {
        check(&before, &one_thing(&before, &other, which))?;
        prop_assert_eq!(connectivity(&before, &before).shifts, vec![]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What new pods reach and who reaches them, and nothing about anybody else.
    #[test]
    fn pods_that_arrive_reach_what_the_matrix_says(after in arbitrary::network(TIERS), new in 1..3usize) {
        let mut before = after.clone();
        (0..new).for_each(|_| drop(before.pods.pop_last()));
        let Some((_, found)) = arrivals(&before, &after) else { return Ok(()) };
        let is_new = |who: &Who| matches!(who, Who::Pod(key) if !before.pods.contains_key(key));
        let ends = ends(&after, &after, &found);
        for ((from, from_at), (to, to_at)) in ends.iter().flat_map(|from| ends.iter().map(move |to| (from, to))) {
            let is_pod = |who: &Who| matches!(who, Who::Pod(_));
            if from == to || !(is_pod(from) || is_pod(to)) {
                continue;
            }
            let own = own_node(&after, from, to);
            let passing: Vec<_> = found.shifts.iter().filter(|shift| covers(shift, from, to, own)).collect();
            for (protocol, port) in
                Protocol::ALL.into_iter().flat_map(|it| ports([&after, &after]).into_iter().map(move |port| (it, port)))
            {
                let told = passing.iter().filter(|shift| shift.allowed.contains(protocol, port)).count();
                let passes = verdict(&after, &from_at[1], &to_at[1], protocol, port).combined();
                let expected = usize::from((is_new(from) || is_new(to)) && passes);
                prop_assert_eq!(told, expected, "{} → {} {}/{}: {:#?}", from, to, protocol, port, &found);
            }
        }
        prop_assert!(found.shifts.iter().all(|shift| shift.denied.is_empty()));
    }

    /// A rule of which a warning says that it has no effect has none: without it nothing differs.
    #[test]
    fn what_is_said_to_have_no_effect_has_none(after in arbitrary::network(TIERS)) {
        let mut before = after.clone();
        before.policies.clear();
        for warning in warnings(&before, &after, &Connectivity::default()) {
            let mut without = after.clone();
            match &warning {
                Warning::SelectsNobody(id) => drop(without.policies.remove(id)),
                Warning::NobodyMeant(rule) | Warning::Shadowed { rule, .. } => {
                    let rules = &mut without.policies.get_mut(&rule.policy).unwrap().rules;
                    rules.retain(|it| (it.direction, it.index) != (rule.direction, rule.index));
                }
                _ => continue,
            }
            prop_assert_eq!(connectivity(&after, &without).shifts, vec![], "{:?}", warning);
        }
    }
}

/// The tests above would pass if nothing ever differed.
#[test]
fn things_differ() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let differing = |_| {
        let mut one = |_| arbitrary::network(TIERS).new_tree(&mut runner).unwrap().current();
        let [before, mut after] = [0, 1].map(&mut one);
        after.pods.clone_from(&before.pods);
        check(&before, &after).unwrap()
    };
    let counts: Vec<usize> = (0..40).map(differing).collect();
    assert!(counts.iter().filter(|count| **count > 0).count() > 10, "{counts:?}");
}

/// A label on a node, and both of a node's addresses.
#[test]
fn nodes_are_told_apart() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..30 {
        let before = arbitrary::network(TIERS).new_tree(&mut runner).unwrap().current();
        let mut after = before.clone();
        let node = after.nodes.values_mut().next().unwrap();
        node.labels = Labels::from([("app".to_owned(), "a".to_owned())]);
        node.pod_cidrs = vec![Cidr::new([10, 244, 9, 0].into(), 24).unwrap()];
        check(&before, &after).unwrap();
    }
}
