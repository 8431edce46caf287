//! What crosses crates: see the folders beside this file.
