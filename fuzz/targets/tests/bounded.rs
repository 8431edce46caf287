//! Every target over its seeds and a fixed number of mutations of them: the same bytes in every run. Longer runs are
//! cargo-fuzz's (fuzz/README.md).

use std::panic::{AssertUnwindSafe, catch_unwind};

use fuzz_targets::{Mutator, TARGETS, Target, seeds};

/// Mutations of a target, chosen so that all of them together take some 10 s of a core in a debug build.
fn rounds(name: &str) -> usize {
    match name {
        "stream" | "multipart" => 5_000,
        "text" | "ovsdb_update" => 20_000,
        _ => 100_000,
    }
}

/// Runs a target; a panic tells the bytes.
fn try_one(name: &str, target: Target, data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{name}: {hex}\n{}", String::from_utf8_lossy(data).escape_debug());
    }
}

fn run(wanted: &str) {
    let (name, target) = TARGETS.iter().find(|(name, _)| *name == wanted).expect("a target of this name");
    let seeds = seeds::of(name);
    assert!(seeds.len() >= 3, "{name} has only {} seeds", seeds.len());
    for seed in &seeds {
        try_one(name, *target, seed);
    }
    let mut mutator = Mutator::new(20);
    for _ in 0..rounds(name) {
        try_one(name, *target, &mutator.mutate(&seeds));
    }
}

macro_rules! bounded {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            run(stringify!($name));
        }
    )* };
}

bounded!(message stream match_fields actions multipart text json_splitter ovsdb_update);

#[test]
fn every_target_has_a_bounded_run_and_a_binary() {
    let manifest = include_str!("../../Cargo.toml");
    for (name, _) in TARGETS {
        assert!(include_str!("bounded.rs").contains(name), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no binary in fuzz/Cargo.toml");
    }
}
