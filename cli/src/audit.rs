//! `ferrule audit`: what nodes hold against what they should, as their agents see it.

use std::fmt::Write as _;
use std::io::Write;

use api::insight::{AuditItem, Difference, List};

use crate::arguments::{Audit, Output};
use crate::fail::{Fail, Outcome};
use crate::get::{endpoint, json};
use crate::paint::Paint;

pub fn run(audit: &Audit) -> Result<Outcome, Fail> {
    let query: Vec<(&str, &str)> = audit.node.iter().map(|node| ("node", node.as_str())).collect();
    let list: List<AuditItem> = endpoint(&audit.endpoint).list("audit", &query)?;
    let text = match audit.output {
        Output::Json => json(&list)?,
        Output::Table => text(&list.items, list.warnings.is_empty(), Paint::stdout()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    if audit.output == Output::Table {
        let paint = Paint::stderr();
        for warning in &list.warnings {
            eprintln!("{} {warning}", paint.warning("warning:"));
        }
    }
    Ok(match (list.items.is_empty(), list.warnings.is_empty()) {
        (false, _) => Outcome::Differences,
        // What was not looked at is not known to be well.
        (true, false) => Outcome::Failed,
        (true, true) => Outcome::Expected,
    })
}

fn text(items: &[AuditItem], complete: bool, paint: Paint) -> String {
    let mut out = String::new();
    for item in items {
        let word = match item.difference {
            Difference::Missing => paint.error("missing"),
            Difference::Extra => paint.error("extra"),
            Difference::Changed => paint.error("changed"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} {word} {}: {}", paint.bold(&item.node), item.place, item.object);
        let _ = writeln!(out, "  {}", item.what);
        let owners: Vec<String> = item
            .owners
            .iter()
            .filter(|owner| owner.kind != "Pipeline")
            .map(|owner| format!("{} {} {}", owner.kind, owner.name, owner.rule).trim().to_owned())
            .collect();
        if !owners.is_empty() {
            let _ = writeln!(out, "  made by {}", paint.name(owners.join(", ")));
        }
        for (label, value) in [("should be", &item.wanted), ("is", &item.found)] {
            if let Some(value) = value {
                let _ = writeln!(out, "  {}", paint.dim(format!("{label} {value}")));
            }
        }
    }
    if items.is_empty() && complete {
        let _ = writeln!(out, "{}", paint.good("everything is as it should be"));
    }
    out
}
