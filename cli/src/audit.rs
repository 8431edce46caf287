//! `ferrule audit`: what nodes hold against what they should, as their agents see it; and has it put right where that is
//! asked for.

use std::fmt::Write as _;
use std::io::Write;

use api::insight::{AuditItem, Difference, List};

use crate::arguments::{Audit, Output};
use crate::fail::{Fail, Outcome};
use crate::get::{endpoint, json};
use crate::paint::Paint;

pub fn run(audit: &Audit) -> Result<Outcome, Fail> {
    let query: Vec<(&str, &str)> = audit.node.iter().map(|node| ("node", node.as_str())).collect();
    let endpoint = endpoint(&audit.endpoint);
    let list: List<AuditItem> = match audit.repair {
        true => endpoint.post("repair", &query)?,
        false => endpoint.list("audit", &query)?,
    };
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
    let well = list.items.iter().all(|item| item.repaired);
    Ok(match (well, list.warnings.is_empty()) {
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
            Difference::Missing => "missing",
            Difference::Extra => "extra",
            Difference::Changed => "changed",
        };
        let word = match (item.repaired, &item.at) {
            (true, Some(at)) => paint.dim(format!("was {word} at {at}, put right by the agent:")),
            (true, None) => paint.good(format!("was {word}, put right:")),
            (false, _) => paint.error(word),
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
    if items.iter().all(|item| item.repaired) && complete {
        let _ = writeln!(out, "{}", paint.good("everything is as it should be"));
    }
    out
}
