//! Services in the matrix: the compiled flows, simulated endpoint by endpoint, say what the reference evaluator says, on
//! random networks with random Services, from pods, nodes and outside.

#![allow(clippy::unwrap_used)]

mod networks;

use network::matrix::{Cell, Entry, Grid, Participant, ServedPort, everybody};
use network::{Network, Service};
use networks::network;
use proptest::prelude::*;

/// Who has an address: without one, nobody knows a family.
fn addressed(network: &Network) -> Vec<Participant> {
    let mut all = everybody(network);
    all.retain(|participant| !participant.sources.is_empty() || !participant.entry.speaks());
    all
}

/// Nobody answers at an address of a pod range that no pod has: policy alone cannot know that.
fn without_the_dead(network: &Network, mut service: Service) -> Service {
    let ranges = || network.nodes.values().flat_map(|node| &node.pod_cidrs);
    for port in &mut service.ports {
        port.endpoints.retain(|endpoint| {
            endpoint.addresses.iter().all(|address| {
                network.pod_at(*address).is_some() || ranges().all(|range| !range.contains(*address))
            })
        });
    }
    service
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn flows_and_reference_agree(network in network()) {
        let mut network = network;
        network.services = std::mem::take(&mut network.services)
            .into_iter()
            .map(|(key, service)| (key, without_the_dead(&network, service)))
            .collect();
        let participants = addressed(&network);
        let flows = compiler::simulate::matrix::predict(&network, &participants);
        let reference = network::matrix::predict(&network, &participants);
        let mut differences = flows.differences(&reference);
        differences.retain(|difference| matches!(difference.to, Entry::Service(_)));
        prop_assert!(differences.is_empty(), "{:#?}\n{:#?}", differences, network.services);
    }
}

#[test]
fn a_service_is_a_column_and_never_a_row() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut passes, mut blocked, mut not_served) = (0, 0, 0);
    for _ in 0..40 {
        let network = network().new_tree(&mut runner).unwrap().current();
        let participants = addressed(&network);
        let matrix = network::matrix::predict(&network, &participants);
        let columns: Vec<_> = participants.iter().filter(|p| matches!(p.entry, Entry::Service(_))).collect();
        for (port, grids) in &matrix.table {
            let rows = &grids[&Grid::Combined];
            assert!(rows.keys().all(Entry::speaks));
            for (from, to) in rows.keys().flat_map(|from| columns.iter().map(move |to| (from, *to))) {
                let cell = matrix.cell(*port, Grid::Combined, from, &to.entry).unwrap();
                let serves = |port: &ServedPort| to.serves.contains(port);
                assert!(cell == Cell::NotServed || serves(port));
                match cell {
                    Cell::Passes => passes += 1,
                    Cell::Blocked => blocked += 1,
                    Cell::NotServed => not_served += 1,
                }
            }
        }
    }
    // The property above is about something.
    assert!(passes > 50 && blocked > 50 && not_served > 50, "{passes} {blocked} {not_served}");
}
