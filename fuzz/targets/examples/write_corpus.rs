//! Writes every target's seeds to `fuzz/corpus/TARGET/`, one file each, as cargo-fuzz wants them.

use std::path::Path;

use fuzz_targets::{TARGETS, seeds};

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (name, _) in TARGETS {
        let folder = corpus.join(name);
        std::fs::create_dir_all(&folder)?;
        let seeds = seeds::of(name);
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:04}")), seed)?;
        }
        println!("{name}: {} seeds", seeds.len());
    }
    Ok(())
}
