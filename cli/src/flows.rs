//! How flows look to people: by node, by table in the order a packet meets them, each with what it does, how many packets met
//! it, and the objects that made it.

use std::collections::BTreeMap;
use std::fmt::Write;

use api::insight::{FlowItem, List, Owner};
use compiler::Table;
use network::NodeName;

use crate::paint::{Paint, width, wrap};

/// Room for a packet count and a priority before the sentence.
const MARGIN: usize = 20;

/// What a conjunction's parts do. They count no packets and decide nothing by themselves.
const CLAUSE: &str = "conjunction(";

/// The narrowest and the widest text that is pleasant to read.
const NARROW: usize = 40;
const BROAD: usize = 120;

/// All flows of a list; matches and actions too when wide.
pub fn render(list: &List<FlowItem>, wide: bool, paint: Paint) -> String {
    if list.items.is_empty() {
        return "no flows found\n".to_owned();
    }
    let columns = width().unwrap_or(if wide { 160 } else { BROAD });
    let page = Page { wide, paint, text: columns.saturating_sub(MARGIN).max(NARROW) };
    let mut nodes: BTreeMap<&NodeName, BTreeMap<u8, Vec<&FlowItem>>> = BTreeMap::new();
    for flow in &list.items {
        nodes.entry(&flow.node).or_default().entry(flow.table_id).or_default().push(flow);
    }
    let mut out = String::new();
    for (node, tables) in &nodes {
        let flows: usize = tables.values().map(Vec::len).sum();
        line(&mut out, &format!("{} {}", paint.bold(node), paint.dim(format!("{flows} flows"))));
        for flows in tables.values() {
            page.table(&mut out, flows);
        }
    }
    out
}

struct Page {
    wide: bool,
    paint: Paint,
    text: usize,
}

impl Page {
    fn table(&self, out: &mut String, flows: &[&FlowItem]) {
        let Some(first) = flows.first() else { return };
        let paint = self.paint;
        let doc = Table::from_id(first.table_id).map_or("", |table| table.doc());
        let head = format!(
            "{} {}",
            paint.bold(paint.name(&first.table)),
            paint.dim(format!("table {}", first.table_id))
        );
        line(out, "");
        line(out, &head);
        for part in wrap(doc, self.text + MARGIN - 2).iter().filter(|part| !part.is_empty()) {
            line(out, &format!("  {}", paint.dim(part)));
        }
        line(out, &paint.dim(format!("  {:>9}  {:>5}", "packets", "prio")));
        let mut flows = flows.to_vec();
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.priority));
        let (clauses, whole): (Vec<_>, Vec<_>) =
            flows.into_iter().partition(|flow| !self.wide && flow.actions.starts_with(CLAUSE));
        for flow in whole {
            self.flow(out, flow);
        }
        if !clauses.is_empty() {
            let text = format!(
                "and {} flows that are the clauses of these rules (-o wide shows them)",
                clauses.len()
            );
            self.indented(out, &paint.dim(text));
        }
    }

    fn flow(&self, out: &mut String, flow: &FlowItem) {
        let paint = self.paint;
        let packets = format!("{:>9}", count(flow.packets));
        let packets = if flow.packets == 0 { paint.dim(packets) } else { packets };
        let mut lines =
            wrap(if flow.what.is_empty() { &flow.r#match } else { &flow.what }, self.text).into_iter();
        let first = lines.next().unwrap_or_default();
        line(out, &format!("  {packets}  {}  {first}", paint.dim(format!("{:>5}", flow.priority))));
        for more in lines {
            self.indented(out, &more);
        }
        let owners = owners(flow);
        if !owners.is_empty() {
            let shared = if flow.owners.len() > 1 { " (counted together)" } else { "" };
            for part in wrap(&format!("by {owners}{shared}"), self.text) {
                self.indented(out, &paint.name(part));
            }
        }
        if self.wide {
            let matches = if flow.r#match.is_empty() { "any" } else { &flow.r#match };
            for (label, text) in [("match", matches), ("actions", &flow.actions), ("cookie", &flow.cookie)] {
                // Commas are where such a line may break.
                for (index, part) in wrap(&text.replace(',', ", "), self.text - 9).iter().enumerate() {
                    let label = if index == 0 { label } else { "" };
                    self.indented(out, &paint.dim(format!("{label:<8} {}", part.replace(", ", ","))));
                }
            }
        }
    }

    fn indented(&self, out: &mut String, text: &str) {
        line(out, &format!("{:MARGIN$}{text}", ""));
    }
}

/// The objects behind a flow, each once with its rules. The pipeline's own flows need no name beside their sentence, and a pod
/// or node that the sentence names already is not repeated.
fn owners(flow: &FlowItem) -> String {
    let named = |owner: &Owner| flow.what.contains(owner.name.as_str());
    let mut shown: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for owner in &flow.owners {
        match owner.kind.as_str() {
            "Pipeline" => {}
            "Pod" | "Node" if owner.rule.is_empty() && named(owner) => {}
            kind => shown.entry((kind, &owner.name)).or_default().push(&owner.rule),
        }
    }
    let one = |((kind, name), rules): (&(&str, &str), &Vec<&str>)| {
        format!("{kind} {name} {}", rules.join(" + ")).trim().to_owned()
    };
    shown.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Digits in groups of three, as people read them.
fn count(packets: u64) -> String {
    let digits = packets.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(table: Table, priority: u16, what: &str, owner: (&str, &str, &str)) -> FlowItem {
        FlowItem {
            node: NodeName::new("node-1"),
            table_id: table.id(),
            table: table.name().to_owned(),
            priority,
            cookie: "0x1".into(),
            r#match: "tcp,nw_dst=10.244.1.2".into(),
            actions: "drop".into(),
            packets: 12_345,
            bytes: 1,
            owners: vec![Owner { kind: owner.0.into(), name: owner.1.into(), rule: owner.2.into() }],
            what: what.to_owned(),
        }
    }

    #[test]
    fn flows_stand_in_the_order_a_packet_meets_them_with_their_reasons() {
        let list = List::new(vec![
            flow(Table::Ingress, 10, "Drops the rest.", ("NetworkPolicy", "shop/cart", "default-deny")),
            flow(Table::Ingress, 200, "Lets the frontend in.", ("NetworkPolicy", "shop/cart", "ingress[0]")),
            flow(Table::Classifier, 100, "From the pod's port.", ("Pipeline", "", "")),
        ]);
        let text = render(&list, false, Paint::plain());
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in\n{text}"));
        assert!(at("Classifier table 0") < at("Ingress table 100"));
        assert!(at("Lets the frontend in.") < at("Drops the rest."));
        assert!(text.contains("by NetworkPolicy shop/cart ingress[0]"));
        assert!(!text.contains("Pipeline") && !text.contains("actions"));
        assert!(text.contains("12\u{202f}345"));
        assert!(render(&list, true, Paint::plain()).contains("actions  drop"));
    }

    #[test]
    fn clauses_are_counted_and_only_the_wide_view_lists_them() {
        let mut clause =
            flow(Table::Ingress, 1000, "clause `port` of one rule", ("NetworkPolicy", "a/b", "ingress[0]"));
        clause.actions = "conjunction(7,2/3)".into();
        let list = List::new(vec![
            flow(Table::Ingress, 1000, "allow: TCP/80 from anybody", ("NetworkPolicy", "a/b", "ingress[0]")),
            clause,
        ]);
        let text = render(&list, false, Paint::plain());
        assert!(
            text.contains("and 1 flows that are the clauses") && !text.contains("clause `port`"),
            "{text}"
        );
        assert!(render(&list, true, Paint::plain()).contains("clause `port`"));
    }
}
