//! Holds what the engine says against the flows that nodes would have: one pair of every shift, compiled and simulated before
//! and after. An answer that the flows do not give is not shown.

use std::collections::BTreeSet;

use compiler::simulate::matrix::predict_grid;
use network::difference::Shift;
use network::matrix::{Cell, Grid, Participant, ServedPort};
use network::reference::Endpoint;
use network::{Network, PortSet};

use crate::fail::Fail;

/// Rules of policies that are compiled for this at most; the rest of the shifts go unasked.
const MOST_RULES: usize = 50_000;

/// Asks about one pair of every shift, as far as the room goes; how many were asked.
pub fn verify(before: &Network, after: &Network, shifts: &[Shift]) -> Result<usize, Fail> {
    let (mut room, mut asked) = (MOST_RULES, 0);
    for shift in shifts {
        for (time, network) in [before, after].into_iter().enumerate() {
            let (from, to) = (&shift.witness.from[time], &shift.witness.to[time]);
            let part = excerpt(network, from, to);
            let rules: usize = part.policies.values().map(|policy| policy.rules.len()).sum();
            let Some(left) = room.checked_sub(rules) else { return Ok(asked) };
            room = left;
            for (ports, passes) in [(&shift.allowed, time == 1), (&shift.denied, time == 0)] {
                let Some(port) = example(ports) else { continue };
                if arrives(&part, from, to, port) != passes {
                    let when = if time == 0 { "before" } else { "after" };
                    return Err(Fail::Said(format!(
                        "{from:?} → {to:?} {port}: {when} the change the plan and the compiled flows do not agree; \
                         nothing is shown. This is a defect of Ferrule: please report it with the manifests"
                    )));
                }
            }
        }
        asked += 1;
    }
    Ok(asked)
}

fn example(ports: &PortSet) -> Option<ServedPort> {
    let ranges = ports.ranges();
    ranges
        .map(|range| ServedPort { protocol: range.protocol, port: range.first.max(1).min(range.last) })
        .next()
}

fn excerpt(network: &Network, from: &Endpoint, to: &Endpoint) -> Network {
    let (mut pods, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    for end in [from, to] {
        match end {
            Endpoint::Pod { key, .. } => drop(pods.insert(key)),
            Endpoint::Node { name, .. } => drop(nodes.insert(name)),
            Endpoint::Outside(_) => {}
        }
    }
    network.excerpt(&pods, &nodes)
}

fn arrives(part: &Network, from: &Endpoint, to: &Endpoint, port: ServedPort) -> bool {
    let participant = |end: &Endpoint| {
        let serves = BTreeSet::from([port]);
        match end {
            Endpoint::Pod { key, .. } => {
                let entry = network::matrix::Entry::Pod(key.clone());
                let ends = vec![end.clone()];
                Participant { entry, sources: ends.clone(), destinations: ends, serves }
            }
            Endpoint::Node { name, address } => Participant::node(name, &[*address], &[*address], serves),
            Endpoint::Outside(address) => Participant::outside(&[*address], serves),
        }
    };
    let (from, to) = (participant(from), participant(to));
    let matrix = predict_grid(part, &[from.clone(), to.clone()], Grid::Combined);
    matrix.cell(port, Grid::Combined, &from.entry, &to.entry) == Some(Cell::Passes)
}
