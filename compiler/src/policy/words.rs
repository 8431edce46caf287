//! How a rule's flows describe themselves to people, in one line.

use std::collections::BTreeSet;

use network::{Direction, IpBlock, PeerMatch, PortRange};
use openflow::Match;

use crate::table::Table;

/// What happens to a packet that goes on in `next`.
pub(super) fn verdict(next: Table) -> &'static str {
    match next {
        Table::Block => "deny",
        Table::Routing | Table::Commit => "allow",
        _ => "pass to the next tier",
    }
}

/// Destination ports: `TCP/80`, `UDP/53, UDP/5353`, `everything`.
pub(super) fn ports(ports: Option<&BTreeSet<PortRange>>) -> String {
    let Some(ports) = ports else { return "everything".into() };
    let one = |range: &PortRange| match (range.is_all(), range.first == range.last) {
        (true, _) => format!("any {}", range.protocol),
        (_, true) => format!("{}/{}", range.protocol, range.first),
        _ => format!("{}/{}-{}", range.protocol, range.first, range.last),
    };
    few(ports.iter().map(one), "ports")
}

/// The other end: `from 10.0.0.0/8 except 10.1.0.0/16`, `to 3 sets of pods`, `from anybody`.
pub(super) fn peers(direction: Direction, peers: Option<&PeerMatch>) -> String {
    let word = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let Some(PeerMatch::Some { sets, blocks }) = peers else { return format!("{word} anybody") };
    let selected = match sets.len() {
        0 => None,
        1 => Some("the selected pods".to_owned()),
        many => Some(format!("{many} sets of pods")),
    };
    let blocks = (!blocks.is_empty()).then(|| few(blocks.iter().map(block), "address blocks"));
    format!("{word} {}", selected.into_iter().chain(blocks).collect::<Vec<_>>().join(" and "))
}

fn block(block: &IpBlock) -> String {
    match block.except.len() {
        0 => block.cidr.to_string(),
        _ => format!("{} except {}", block.cidr, few(block.except.iter().map(ToString::to_string), "ranges")),
    }
}

/// Up to three by name, more by number.
fn few(items: impl ExactSizeIterator<Item = String>, what: &str) -> String {
    match items.len() {
        0..=3 => items.collect::<Vec<_>>().join(", "),
        many => format!("{many} {what}"),
    }
}

/// A clause's match, without the words that every match of its kind shares.
pub(super) fn clause(words: &BTreeSet<&str>, match_: &Match, rules: usize) -> String {
    let words = words.iter().copied().collect::<Vec<_>>().join(" and ");
    let rules = if rules == 1 { "one rule".to_owned() } else { format!("{rules} rules") };
    let fields = match_
        .iter()
        .filter(|oxm| ![openflow::Field::ETH_TYPE, openflow::Field::IP_PROTO].contains(&oxm.field()));
    match fields.map(ToString::to_string).collect::<Vec<_>>().join(",") {
        empty if empty.is_empty() => format!("clause `{words}` of {rules}"),
        fields => format!("clause `{words}` of {rules}: {fields}"),
    }
}
