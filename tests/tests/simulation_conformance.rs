//! Upstream's conformance suite of ClusterNetworkPolicy, predicted: every subtest by the reference evaluator and by the
//! compiled flows of three nodes, over both families.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use compiler::simulate::matrix::{compile_all, predict_grid};
use network::Network;
use network::matrix::{Cell, Entry, Grid, Participant, ServedPort, pods_of, predict};
use objects::offline::{Families, network, numbered_nodes};
use objects::{SourceText, read};
use tests::conformance::{Subtest, manifests, subtests, world};

fn of(families: Families, policies: &str) -> Network {
    let texts = [SourceText::new("world", world()), SourceText::new("policies", policies)];
    let (objects, problems) = read(&texts);
    assert_eq!(problems, []);
    let (network, problems) = network(&objects, &numbered_nodes(3, families));
    assert_eq!(problems, []);
    network
}

fn play(families: Families, subtest: &Subtest) -> usize {
    let plain = of(families, "");
    let policies = manifests(&subtest.policies, |pod| plain.pods[pod].addresses.clone());
    let network = of(families, &policies);
    assert_eq!(network.policies.len(), subtest.policies.len());
    for site in compile_all(&network) {
        assert!(site.program.refused.is_empty(), "{}: {:?}", subtest.name, site.program.refused);
    }
    // Every pod serves what is probed, so that the matrices say more than the suite asks.
    let ports: BTreeSet<ServedPort> = subtest.probes.iter().map(|probe| probe.port).collect();
    let mut participants: Vec<Participant> = pods_of(&network);
    participants.iter_mut().for_each(|participant| participant.serves.clone_from(&ports));
    let reference = predict(&network, &participants).only(Grid::Combined);
    let flows = predict_grid(&network, &participants, Grid::Combined);
    for probe in &subtest.probes {
        let (from, to) = (Entry::Pod(probe.from.clone()), Entry::Pod(probe.to.clone()));
        let expected = if probe.passes { Cell::Passes } else { Cell::Blocked };
        for (engine, matrix) in [("reference", &reference), ("flows", &flows)] {
            let cell = matrix.cell(probe.port, Grid::Combined, &from, &to);
            assert_eq!(cell, Some(expected), "{families:?} {}: {probe:?} by {engine}", subtest.name);
        }
    }
    let differences = flows.differences(&reference);
    assert!(differences.is_empty(), "{families:?} {}: {differences:?}", subtest.name);
    subtest.probes.len()
}

#[test]
fn every_subtest_of_the_suite() {
    let subtests = subtests();
    assert_eq!(subtests.len(), 92);
    for families in [Families::Ipv4, Families::Ipv6] {
        let probes: usize = subtests.iter().map(|subtest| play(families, subtest)).sum();
        assert_eq!(probes, 289);
    }
}
