//! What drops and rules have counted. Pure: from the switch's counters and the reasons of the flows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::insight::{DropItem, RuleItem, SightingItem, TupleItem};
use compiler::drops::DropClass;
use compiler::{Owner, Reason, Table};
use network::{Direction, PolicyId};
use openflow::FlowStats;

use super::flows::{shown, word};
use crate::node::Snapshot;
use crate::seen::{Seen, Sighting, Tuple};
use crate::time::rfc3339;

/// Reasons for which packets were dropped, the most frequent first.
pub(super) fn drops(node: &Snapshot, flows: &[FlowStats], seen: &Seen) -> Vec<DropItem> {
    let sighting = |seen: &Sighting| SightingItem { time: rfc3339(seen.at), tuple: tuple_item(&seen.tuple) };
    let mut items: Vec<_> = flows
        .iter()
        .filter_map(|flow| {
            let table = Table::from_id(flow.table.0)?;
            let reason = node.reasons.get(&flow.cookie);
            Some(DropItem {
                node: node.config.node.clone(),
                reason: DropClass::of(table, &flow.match_).name().into(),
                packets: flow.packet_count,
                bytes: flow.byte_count,
                table: table.name().into(),
                owners: reason.into_iter().flat_map(|reason| &reason.owners).map(shown).collect(),
                what: reason.map_or_else(String::new, |reason| reason.what.clone()),
                last: seen.of(flow.cookie).iter().map(sighting).collect(),
            })
        })
        .collect();
    items.sort_by(|a, b| (b.packets, &a.what).cmp(&(a.packets, &b.what)));
    items
}

/// Who spoke to whom, as tools read it.
pub(crate) fn tuple_item(tuple: &Tuple) -> TupleItem {
    TupleItem {
        protocol: tuple.protocol.clone(),
        source: tuple.source,
        source_port: tuple.ports.map(|(source, _)| source),
        destination: tuple.destination,
        destination_port: tuple.ports.map(|(_, destination)| destination),
        icmp_type: tuple.icmp.map(|(kind, _)| kind),
        icmp_code: tuple.icmp.map(|(_, code)| code),
    }
}

/// One rule's place in a policy; `None` is what the policy does not allow.
type Rule = (PolicyId, Direction, Option<u32>);

/// What rules counted so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rules: BTreeMap<Rule, Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    packets: u64,
    bytes: u64,
    flows: u64,
    shared: bool,
}

impl Tally {
    /// For the driver that reads flows.
    pub(super) fn shared() -> Arc<Mutex<Self>> {
        Arc::default()
    }

    /// Takes in a flow.
    pub(super) fn add(shared: &Mutex<Self>, flow: &FlowStats, reason: &Reason) {
        // TCP in mid-stream is no policy's rule, though isolation makes it matter.
        if flow.table.0 == Table::ConntrackState.id() {
            return;
        }
        let mut tally = shared.lock().unwrap_or_else(PoisonError::into_inner);
        for owner in &reason.owners {
            let rule = match owner {
                Owner::Rule { policy, direction, index } => (policy.clone(), *direction, Some(*index)),
                Owner::Isolation { policy, direction } => (policy.clone(), *direction, None),
                _ => continue,
            };
            let counted = tally.rules.entry(rule).or_default();
            counted.packets = counted.packets.saturating_add(flow.packet_count);
            counted.bytes = counted.bytes.saturating_add(flow.byte_count);
            counted.flows += 1;
            counted.shared |= reason.owners.len() > 1;
        }
    }
}

/// What every rule here counted.
pub(super) fn rules(node: &Snapshot, tally: &Mutex<Tally>) -> Vec<RuleItem> {
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let item = |((policy, direction, index), counted): (&Rule, &Counted)| RuleItem {
        node: node.config.node.clone(),
        policy: policy.to_string(),
        generation: node.view.policies.get(policy).map_or(0, |policy| policy.generation),
        rule: match index {
            Some(index) => format!("{}[{index}]", word(*direction)),
            None => format!("{} default-deny", word(*direction)),
        },
        packets: counted.packets,
        bytes: counted.bytes,
        flows: counted.flows,
        shared: counted.shared,
    };
    tally.rules.iter().map(item).collect()
}
