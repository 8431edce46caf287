//! A trace for people: the model's verdict, then what the switches say of it, then what was counted.

use std::fmt::Write;

use super::Traced;
use super::follow::Followed;
use crate::explain::people;
use crate::paint::Paint;

pub fn text(traced: &Traced, paint: Paint) -> String {
    let mut out = people::text(&traced.explanation, true, paint);
    for (packet, followed) in traced.explanation.packets.iter().zip(&traced.packets) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\n{}", paint.bold(format!("In the switches: {}", packet.sent)));
        one(&mut out, followed, paint);
    }
    out
}

fn one(out: &mut String, followed: &Followed, paint: Paint) {
    for hop in &followed.hops {
        let _ = writeln!(out, "  {}", paint.name(hop.node.as_str()));
        for step in &hop.steps {
            let counted = match (step.before, step.after) {
                (Some(before), Some(after)) => format!("{before} → {after} packets"),
                _ => String::new(),
            };
            let line = format!("    {:<16} {:<60} {counted}", step.flow.table, step.what);
            let line = line.trim_end();
            let _ = match step.agrees {
                true => writeln!(out, "{line}"),
                false => writeln!(out, "{}", paint.error(line)),
            };
        }
    }
    if followed.hops.is_empty() && followed.unknown.is_empty() {
        let _ = writeln!(out, "  {}", paint.dim("no switch of Ferrule's is met"));
        return;
    }
    for note in &followed.notes {
        let _ = writeln!(out, "  {}", paint.dim(note));
    }
    for unknown in &followed.unknown {
        let _ = writeln!(out, "  {} {unknown}", paint.warning("UNKNOWN"));
    }
    for disagreement in &followed.disagreements {
        let _ = writeln!(out, "  {} {disagreement}", paint.error("DISAGREE"));
    }
    if followed.disagreements.is_empty() && followed.unknown.is_empty() {
        let who = if followed.probed {
            "model, program, switch and the probe agree"
        } else {
            "model, program and switch agree"
        };
        let _ = writeln!(out, "  {}", paint.good(who));
    }
}
