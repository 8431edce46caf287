//! `ferrule-codegen [--check]`: what `cargo xtask codegen` runs. Knows the command line only; the work is in the library.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("codegen: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let mut check = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            other => anyhow::bail!("unknown argument {other:?}; the only one is --check"),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .ok_or_else(|| anyhow::anyhow!("the codegen crate has left xtask/codegen"))?;
    let stale = codegen::stale_files(root)?;
    if stale.is_empty() {
        println!("{}: up to date", codegen::GENERATED_DIR);
        return Ok(ExitCode::SUCCESS);
    }
    if check {
        for path in &stale {
            eprintln!("{}: stale; run `cargo xtask codegen` and commit the result", path.display());
        }
        return Ok(ExitCode::from(2));
    }
    for path in codegen::write(root)? {
        println!("wrote {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
