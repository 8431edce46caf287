//! An explanation for people: the verdict first, then who said so, then everything that was met.

use std::fmt::Write;

use super::document::{Document, Flow, Packet, Rule, Verdict};
use crate::paint::{Paint, width, wrap};

/// Columns where nobody says how many there are.
const BROAD: usize = 120;

pub fn text(document: &Document, brief: bool, paint: Paint) -> String {
    let mut page = Page { out: String::new(), paint, columns: width().unwrap_or(BROAD) };
    let (allowed, denied): (Vec<&Packet>, Vec<&Packet>) =
        document.packets.iter().partition(|packet| packet.verdict == Verdict::Allowed);
    if document.packets.len() > 1 {
        let (from, to) = (&document.from, &document.to);
        let counts = format!("{} packets pass, {} are denied", allowed.len(), denied.len());
        page.line(0, &paint.bold(format!("{from} → {to} on {}: {counts}", document.port)));
        for packet in &document.packets {
            page.summary(packet);
        }
        page.line(0, "");
    }
    // What is denied is what somebody wants to know.
    if let Some(packet) = denied.first().or(allowed.first()) {
        page.packet(packet, document, brief);
    }
    page.out
}

struct Page {
    out: String,
    paint: Paint,
    columns: usize,
}

impl Page {
    fn line(&mut self, indent: usize, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{}", format!("{:indent$}{text}", "").trim_end());
    }

    fn wrapped(&mut self, indent: usize, text: &str, style: impl Fn(Paint, &str) -> String) {
        for part in wrap(text, self.columns.saturating_sub(indent).max(40)) {
            let styled = style(self.paint, &part);
            self.line(indent, &styled);
        }
    }

    fn word(&self, verdict: Verdict) -> String {
        match verdict {
            Verdict::Allowed => self.paint.good("ALLOWED"),
            Verdict::Denied => self.paint.error("DENIED"),
        }
    }

    fn summary(&mut self, packet: &Packet) {
        let text = format!(
            "{} {} → {} ({})",
            self.word(packet.verdict),
            packet.from.name,
            packet.to.name,
            packet.sent
        );
        self.line(2, &text);
    }

    fn packet(&mut self, packet: &Packet, document: &Document, brief: bool) {
        let paint = self.paint;
        let place = |place: &super::document::Place| match &place.node {
            Some(node) => format!("{} ({} on {node})", paint.bold(&place.name), place.address),
            None => format!("{} ({})", paint.bold(&place.name), place.address),
        };
        self.line(0, &format!("{} → {}", place(&packet.from), place(&packet.to)));
        let phase = match document.phase {
            "established" => ", on a connection that was there before",
            "reply" => ", and what comes back on a connection that was there before",
            _ => "",
        };
        self.line(0, &paint.dim(format!("{}{phase}", packet.sent)));
        self.line(0, "");
        let verdict = self.word(packet.verdict);
        self.line(0, &verdict);
        self.wrapped(2, &packet.reason, |_, part| part.to_owned());
        for translation in &packet.translations {
            self.line(2, &paint.dim(format!("on the way it becomes {translation}")));
        }
        let end = &packet.outcome;
        if let (Some(node), "host") = (&end.node, end.kind) {
            self.line(
                2,
                &paint.dim(format!("it goes to the network of node {node}, and from there by its routes")),
            );
        }
        if !packet.decisions.is_empty() {
            self.heading("Policy");
            for one in &packet.decisions {
                let verdict = match one.verdict {
                    Verdict::Allowed => paint.good("allowed"),
                    Verdict::Denied => paint.error("denied"),
                };
                let node = &one.node;
                self.line(2, &format!("{} of {} on {node}: {verdict}", one.direction, paint.name(&one.pod)));
                self.wrapped(6, &one.what, |_, part| part.to_owned());
                for rule in &one.by {
                    self.line(6, &format!("by {}", paint.name(rule)));
                }
            }
        }
        if !packet.rules.is_empty() {
            self.heading("Rules of the policies that select these pods");
            for rule in &packet.rules {
                self.rule(rule);
            }
        }
        if brief {
            return;
        }
        for hop in &packet.hops {
            self.heading(&format!("Flows met on {}", hop.node));
            for flow in &hop.entries {
                self.flow(flow);
            }
        }
    }

    fn heading(&mut self, text: &str) {
        self.line(0, "");
        let text = self.paint.bold(text);
        self.line(0, &text);
    }

    fn rule(&mut self, rule: &Rule) {
        let paint = self.paint;
        let says = match rule.fit {
            "decides" => paint.good("decides"),
            "matches" => "matches".to_owned(),
            "differs" => format!(
                "does not match: {}",
                rule.missing
                    .iter()
                    .map(|part| match *part {
                        "subject" => "the pod is none of its subjects (a named port narrows them)",
                        "peer" => "the other end",
                        _ => "the port",
                    })
                    .collect::<Vec<_>>()
                    .join(" and ")
            ),
            _ => rule.why.clone().unwrap_or_default(),
        };
        self.line(2, &format!("{}: {says}", paint.name(&rule.name)));
        self.wrapped(6, &format!("{} {} {}", rule.action, rule.pod, rule.what), |paint, part| {
            paint.dim(part)
        });
    }

    fn flow(&mut self, flow: &Flow) {
        let paint = self.paint;
        let counted = match (flow.packets, flow.absent) {
            (_, true) => paint.error("not in the switch"),
            (Some(packets), _) => format!("{packets} packets"),
            (None, _) => String::new(),
        };
        if let Some(packet) = &flow.packet {
            self.line(2, &paint.warning(format!("the packet is now {packet}")));
        }
        self.line(2, &format!("{:<16} {:<60} {counted}", paint.bold(flow.table), flow.what));
        let text = flow.flow.replace(',', ", ");
        for (number, part) in wrap(&text, self.columns.saturating_sub(8).max(40)).iter().enumerate() {
            let indent = if number == 0 { 4 } else { 8 };
            self.line(indent, &paint.dim(part.replace(", ", ",")));
        }
        let owners: Vec<&str> =
            flow.owners.iter().map(String::as_str).filter(|owner| *owner != "pipeline").collect();
        if !owners.is_empty() {
            self.line(4, &paint.dim(format!("made by {}", owners.join(", "))));
        }
        for clause in &flow.clauses {
            self.line(6, &paint.dim(format!("with {clause}")));
        }
    }
}
