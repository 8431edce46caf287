//! The process around [`cni::run`]: environment and standard input in, standard output and exit code out.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::ExitCode;

/// No runtime sends more; an endless input must not eat the node's memory.
const INPUT_LIMIT: u64 = 16 << 20;

fn main() -> ExitCode {
    let environment: BTreeMap<_, _> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value)))
        .filter(|(key, _)| key.starts_with("CNI_"))
        .collect();
    let mut input = Vec::new();
    // What could not be read is missed when it is decoded.
    let read = std::io::stdin().lock().take(INPUT_LIMIT).read_to_end(&mut input);
    if let Err(error) = read {
        eprintln!("ferrule-cni: cannot read standard input: {error}");
    }
    let outcome = cni::run(&environment, &input);
    if let Err(error) = std::io::stdout().lock().write_all(outcome.output.as_bytes()) {
        eprintln!("ferrule-cni: cannot write the result: {error}");
        return ExitCode::FAILURE;
    }
    if outcome.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
