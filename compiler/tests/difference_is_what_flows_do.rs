//! What the connectivity difference of two random networks says is what their compiled flows, simulated, do.

#![allow(clippy::unwrap_used)]

mod networks;

use std::collections::BTreeSet;
use std::net::IpAddr;

use compiler::simulate::matrix::predict_grid;
use network::difference::{Relation, Shift, Who, connectivity};
use network::matrix::{Cell, Entry, Grid, Participant, ServedPort};
use network::reference::{Endpoint, verdict};
use network::{Network, Pod, PortSet, Protocol};
use networks::network;
use proptest::prelude::*;

fn example(ports: &PortSet) -> Option<ServedPort> {
    ports.ranges().next().map(|range| ServedPort { protocol: range.protocol, port: range.last })
}

fn participant(end: &Endpoint, port: ServedPort) -> Participant {
    let serves = BTreeSet::from([port]);
    match end {
        Endpoint::Pod { key, .. } => {
            let ends = vec![end.clone()];
            let entry = Entry::Pod(key.clone());
            Participant { entry, sources: ends.clone(), destinations: ends, serves }
        }
        Endpoint::Node { name, address } => Participant::node(name, &[*address], &[*address], serves),
        Endpoint::Outside(address) => Participant::outside(&[*address], serves),
    }
}

/// Whether the flows let the witness of a shift through: those of its excerpt and, the same, those of the whole.
fn flows(network: &Network, shift: &Shift, time: usize, port: ServedPort) -> bool {
    let ends = [&shift.witness.from[time], &shift.witness.to[time]];
    let (mut pods, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    for end in ends {
        match end {
            Endpoint::Pod { key, .. } => drop(pods.insert(key)),
            Endpoint::Node { name, .. } => drop(nodes.insert(name)),
            Endpoint::Outside(_) => {}
        }
    }
    let participants = ends.map(|end| participant(end, port));
    let cell = |network: &Network| {
        let matrix = predict_grid(network, &participants, Grid::Combined);
        matrix.cell(port, Grid::Combined, &participants[0].entry, &participants[1].entry)
    };
    let whole = cell(network);
    assert_eq!(cell(&network.excerpt(&pods, &nodes)), whole, "an excerpt says what the whole says");
    whole == Some(Cell::Passes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn shifts_are_in_the_flows(before in network(), mut after in network()) {
        after.pods.clone_from(&before.pods);
        let difference = connectivity(&before, &after);
        for shift in difference.shifts.iter().take(12) {
            for (ports, passes) in [(&shift.allowed, [false, true]), (&shift.denied, [true, false])] {
                let Some(port) = example(ports) else { continue };
                prop_assert_eq!(flows(&before, shift, 0, port), passes[0], "before: {:#?}", shift);
                prop_assert_eq!(flows(&after, shift, 1, port), passes[1], "after: {:#?}", shift);
            }
        }
        // Both families of every two pods, by the reference.
        let living: Vec<&Pod> = before.pods.values().filter(|pod| pod.is_policed()).collect();
        for (from, to) in living.iter().flat_map(|from| living.iter().map(move |to| (from, to))) {
            for (ipv4, port) in [true, false].into_iter().flat_map(|family| (77..90).map(move |p| (family, p))) {
                let address = |pod: &Pod| -> IpAddr { *pod.addresses.iter().find(|a| a.is_ipv4() == ipv4).unwrap() };
                let end = |pod: &Pod| Endpoint::Pod { key: pod.key.clone(), address: address(pod) };
                let passes = |network| verdict(network, &end(from), &end(to), Protocol::Tcp, port).combined();
                let covering = difference.shifts.iter().filter(|shift| {
                    from.key != to.key
                        && (if ipv4 { shift.ipv4 } else { shift.ipv6 })
                        && shift.relation == Relation::Any
                        && shift.from.contains(&Who::Pod(from.key.clone()))
                        && shift.to.contains(&Who::Pod(to.key.clone()))
                });
                let (mut allowed, mut denied) = (0, 0);
                for shift in covering {
                    allowed += usize::from(shift.allowed.contains(Protocol::Tcp, port));
                    denied += usize::from(shift.denied.contains(Protocol::Tcp, port));
                }
                let (was, is) = (passes(&before), passes(&after));
                prop_assert_eq!(
                    (allowed, denied), (usize::from(!was && is), usize::from(was && !is)),
                    "{} → {} {} {}", from.key, to.key, ipv4, port
                );
            }
        }
    }
}
