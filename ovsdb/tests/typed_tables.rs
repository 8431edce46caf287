//! Generates `src/vswitch.rs` from `schema/vswitch.ovsschema`, and fails when the two do not agree.
//!
//! After a change of the schema: `OVSDB_REGENERATE=1 cargo test -p ovsdb --test typed_tables`.

use std::fmt::Write as _;
use std::path::Path;

use ovsdb::{Atom, AtomicType, BaseType, ColumnSchema, DatabaseSchema};

#[test]
fn the_typed_tables_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema =
        std::fs::read(root.join("schema/vswitch.ovsschema")).expect("the schema is beside the sources");
    let schema = serde_json::from_slice(&schema).expect("the schema is JSON");
    let schema = DatabaseSchema::from_json(&schema).expect("the schema is one");
    let generated = generate(&schema);
    let path = root.join("src/vswitch.rs");
    if std::env::var_os("OVSDB_REGENERATE").is_some() {
        std::fs::write(&path, &generated).expect("the sources can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "src/vswitch.rs is stale: run OVSDB_REGENERATE=1 cargo test -p ovsdb --test typed_tables"
    );
}

fn generate(schema: &DatabaseSchema) -> String {
    let mut out = format!(
        "//! The tables of the `{}` database, schema {}, as Rust types (ovs-vswitchd.conf.db(5)); must not know who uses them.\n\
         //!\n\
         //! @generated from `schema/vswitch.ovsschema` by `tests/typed_tables.rs`: change that, not this.\n\n\
         use std::collections::{{BTreeMap, BTreeSet}};\n\n\
         use crate::atom::Uuid;\n\
         use crate::typed::typed_tables;\n\n\
         /// The name of the database.\n\
         pub const DATABASE: &str = \"{}\";\n\n\
         /// The version of the schema from which these types were made.\n\
         pub const SCHEMA_VERSION: &str = \"{}\";\n\n\
         typed_tables! {{\n",
        schema.name, schema.version, schema.name, schema.version,
    );
    for (index, (name, table)) in schema.tables.iter().enumerate() {
        let root = match table.is_root {
            true => "its rows stay without a reference to them",
            false => "its rows stay only while another row refers to them",
        };
        let blank = if index == 0 { "" } else { "\n" };
        writeln!(out, "{blank}    /// Table `{name}`; {root}.\n    {name} {name:?} {{")
            .expect("a String takes all");
        for (column, schema) in &table.columns {
            let field = if column.as_ref() == "type" { "type_" } else { column };
            writeln!(
                out,
                "        /// {}\n        {field}: {} = {} {column:?},",
                describe(schema),
                rust_type(schema),
                column.to_uppercase(),
            )
            .expect("a String takes all");
        }
        out.push_str("    }\n");
    }
    out.push_str("}\n");
    out
}

fn rust_type(column: &ColumnSchema) -> String {
    let scalar = |base: &BaseType| match base.atomic {
        AtomicType::Integer => "i64",
        AtomicType::Real => "crate::atom::Real",
        AtomicType::Boolean => "bool",
        AtomicType::String => "String",
        AtomicType::Uuid => "Uuid",
    };
    let column = &column.column_type;
    let key = scalar(&column.key);
    match (&column.value, column.min, column.max) {
        (Some(value), ..) => format!("BTreeMap<{key}, {}>", scalar(value)),
        (None, 1, 1) => key.to_owned(),
        (None, 0, 1) => format!("Option<{key}>"),
        (None, ..) => format!("BTreeSet<{key}>"),
    }
}

fn describe(column: &ColumnSchema) -> String {
    let base = |base: &BaseType| {
        let mut text = match (&base.referenced_table, base.weak_reference) {
            (Some(table), false) => format!("rows of `{table}`"),
            (Some(table), true) => format!("rows of `{table}` (weak)"),
            (None, _) => base.atomic.to_string(),
        };
        match base.integer_range {
            (Some(least), Some(most)) => write!(text, " {least} to {most}").expect("a String takes all"),
            (Some(least), None) => write!(text, " from {least}").expect("a String takes all"),
            (None, Some(most)) => write!(text, " up to {most}").expect("a String takes all"),
            (None, None) => {}
        }
        if !base.allowed.is_empty() {
            let names = base.allowed.iter().map(|atom| match atom {
                Atom::String(name) => format!("`{name}`"),
                other => other.to_json().to_string(),
            });
            write!(text, " ({})", names.collect::<Vec<_>>().join(", ")).expect("a String takes all");
        }
        text
    };
    let kind = &column.column_type;
    let mut text = match (&kind.value, kind.min, kind.max) {
        (Some(value), ..) => format!("Map of {} to {}", base(&kind.key), base(value)),
        (None, 1, 1) => format!("Exactly one: {}", base(&kind.key)),
        (None, 0, 1) => format!("At most one: {}", base(&kind.key)),
        (None, ..) => format!("Set of {}", base(&kind.key)),
    };
    if !column.mutable {
        text.push_str("; fixed when the row is inserted");
    }
    if column.ephemeral {
        text.push_str("; lost when the server restarts");
    }
    text.push('.');
    text
}
