//! The pipeline as a page for people: generated from the registries, so it cannot rot (`docs/pipeline.md`).

use std::fmt::Write as _;

use crate::register::SLOTS;
use crate::table::Table;

/// The text of `docs/pipeline.md`.
pub fn pipeline_page() -> String {
    let mut page = String::from(
        "<!-- generated from compiler/src/table.rs and register.rs by `UPDATE_EXPECT=1 cargo test -p compiler --test pipeline_page` -->\n\
         # The pipeline of br-int\n\n\
         Tables in the order a packet meets them. Numbers are fixed; `goto_table` only goes forward.\n\n\
         | table | name | stage | decides |\n|---|---|---|---|\n",
    );
    for table in Table::ALL {
        let _ = writeln!(page, "| {} | {table} | {} | {} |", table.id(), table.stage(), table.doc());
    }
    page.push_str("\n## Registers and connection marks\n\n| name | bits | holds |\n|---|---|---|\n");
    for slot in SLOTS {
        let _ = writeln!(page, "| {} | {} | {} |", slot.name, slot.bits, slot.doc.trim());
    }
    page
}
