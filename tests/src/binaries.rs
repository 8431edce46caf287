//! The product's binaries as a test runs them: built by the cargo that runs the test, in the same profile folder.

use std::path::PathBuf;
use std::process::Command;

/// The path of `binary` of `package`, built first; fresh builds are cheap.
///
/// # Panics
/// When it does not build.
pub fn build(package: &str, binary: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", binary, "--message-format=json"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output();
    let output = output.unwrap_or_else(|error| panic!("cannot run cargo to build {binary}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{binary} does not build: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Cargo says where it put the file: `"executable":"…/ferrule-cni"`.
    let path = said.split("\"executable\":\"").skip(1).filter_map(|rest| rest.split('"').next()).last();
    PathBuf::from(path.unwrap_or_else(|| panic!("cargo named no executable for {binary}: {said}")))
}
