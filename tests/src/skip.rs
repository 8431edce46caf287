//! How a test says that it could not run here. `cargo xtask test` prints every such line at its end, and decides by
//! `tests/skips-allowed.txt` whether it may be so; this module only records.

use std::io::Write;

/// Reports that the test `name` of `tier` (`switch`, `simulation`, `dataplane`, `cluster`) did not run, and why.
///
/// The caller returns right after. With CI=true the run fails unless the allow-list names `tier: name: reason`.
/// `FERRULE_SKIP_REPORT` is the file to append to; without it the line only goes to stderr.
///
/// # Panics
/// When the report cannot be written: a skip must never be silent.
pub fn skip(tier: &str, name: &str, reason: &str) {
    let line = format!("{tier}: {name}: {}\n", reason.replace('\n', " "));
    eprint!("SKIPPED {line}");
    let Some(path) = std::env::var_os("FERRULE_SKIP_REPORT") else { return };
    // One write of one line to a file opened for appending: tests of several processes do not mix.
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!("cannot write to FERRULE_SKIP_REPORT={}: {error}", path.to_string_lossy());
    }
}
