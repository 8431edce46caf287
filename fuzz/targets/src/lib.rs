//! What is fuzzed: one function per reader of bytes from outside, which panics when the reader breaks a promise. cargo-fuzz
//! and the bounded test run the same functions; nothing here knows where the bytes come from.

mod mutate;
mod openflow_targets;
mod ovsdb_targets;
pub mod seeds;

pub use mutate::Mutator;
pub use openflow_targets::{actions, match_fields, message, multipart, stream, text};
pub use ovsdb_targets::{json_splitter, ovsdb_update};

/// A target: takes any bytes, panics when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by the name of its binary and of its seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("message", message),
    ("stream", stream),
    ("match_fields", match_fields),
    ("actions", actions),
    ("multipart", multipart),
    ("text", text),
    ("json_splitter", json_splitter),
    ("ovsdb_update", ovsdb_update),
];
