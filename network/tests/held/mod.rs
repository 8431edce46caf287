//! Holds what is said of Services against the matrices of the two networks, cell by cell.

use std::collections::{BTreeMap, BTreeSet};

use network::difference::services::{Reach, ServiceChange};
use network::matrix::{Cell, Choice, Entry, Grid, Participant, Services, everybody, predict};
use network::{NamespacedName, Network};
use proptest::prelude::*;

fn clients(networks: [&Network; 2]) -> Vec<[Participant; 2]> {
    let speaks = |one: &Participant| one.entry.speaks() && !one.sources.is_empty();
    let [before, after] = networks.map(|network| everybody(network).into_iter().filter(speaks));
    let after: BTreeMap<Entry, Participant> = after.map(|one| (one.entry.clone(), one)).collect();
    before.filter_map(|was| after.get(&was.entry).cloned().map(|is| [was, is])).collect()
}

fn folded(reach: Reach) -> Cell {
    match reach {
        Reach::NotServed => Cell::NotServed,
        Reach::Passes => Cell::Passes,
        Reach::Blocked | Reach::Partly => Cell::Blocked,
    }
}

/// Holds every cell of a Service's column against what is said of it. `alone`: nothing but Services differs.
pub fn hold(told: &[ServiceChange], networks: [&Network; 2], alone: bool) -> Result<(), TestCaseError> {
    let told: BTreeMap<&str, &ServiceChange> =
        told.iter().map(|change| (change.service.as_str(), change)).collect();
    let matrices = networks.map(|network| predict(network, &everybody(network)).only(Grid::Combined));
    let services = networks.map(Services::of);
    let all: BTreeSet<&NamespacedName> =
        networks.iter().flat_map(|network| network.services.keys()).collect();
    for key in all {
        let change = told.get(key.to_string().as_str());
        let held = networks.iter().filter_map(|network| network.services.get(key));
        let ports: BTreeSet<_> =
            held.filter_map(Participant::service).flat_map(|service| service.serves).collect();
        for (port, [was, is]) in
            ports.iter().flat_map(|port| clients(networks).into_iter().map(move |both| (*port, both)))
        {
            let to = Entry::Service(key.clone());
            let cells = matrices
                .each_ref()
                .map(|matrix| matrix.cell(port, Grid::Combined, &was.entry, &to).unwrap_or(Cell::NotServed));
            let at = change.and_then(|change| change.ports.iter().find(|it| it.port == port));
            let said = at.and_then(|it| it.clients.iter().find(|it| it.listed.contains(&was.entry)));
            match said {
                Some(said) => {
                    prop_assert_ne!(said.before, said.after);
                    prop_assert_eq!(
                        [folded(said.before), folded(said.after)],
                        cells,
                        "{} {}",
                        was.entry,
                        key
                    );
                }
                None if alone || change.is_some() => {
                    prop_assert_eq!(cells[0], cells[1], "{} → {} {}: not told", was.entry, key, port);
                }
                None => {}
            }
            if moved(networks, &was.entry) {
                continue;
            }
            // Another endpoint is told even where nobody reaches more or less by it.
            let [old, new] = [(0, &was), (1, &is)].map(|(time, client): (usize, &Participant)| {
                let ways = services[time].ways(client, key, port);
                let choices = ways.iter().flat_map(|way| {
                    let of = |choice: &Choice| {
                        (way.at, way.port, way.node.clone(), format!("{:?}", choice.to), choice.port)
                    };
                    way.choices.iter().map(of).collect::<Vec<_>>()
                });
                choices.collect::<BTreeSet<_>>()
            });
            prop_assert!(old == new || change.is_some(), "{}: other endpoints, and nothing is told", key);
        }
    }
    Ok(())
}

/// Whether a client is on another node than before, which may choose among other endpoints.
fn moved(networks: [&Network; 2], entry: &Entry) -> bool {
    let Entry::Pod(key) = entry else { return false };
    let [was, is] = networks.map(|network| network.pods.get(key).and_then(|pod| pod.node.as_ref()));
    was != is
}
