//! Programs of upstream, built through the Go module proxy into `target/go/bin`, once. It must not know what they are used
//! for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The least version of Go that builds them.
const LEAST: (u32, u32) = (1, 24);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The path of the program that `go install PACKAGE` makes; why there is none is for the skip report.
///
/// # Panics
/// When it does not build.
pub fn install(package: &str) -> Result<PathBuf, String> {
    let versioned = package.rsplit('/').next().unwrap_or(package);
    let (name, version) = versioned.split_once('@').unwrap_or((versioned, ""));
    // Several versions side by side.
    let bin = bin().join(version);
    build(&bin.join(name), Command::new("go").args(["install", package]).env("GOBIN", &bin).current_dir("/"))
}

/// The path of a program whose source is a folder of `tests/`.
///
/// # Panics
/// When it does not build.
pub fn own(folder: &str) -> Result<PathBuf, String> {
    let path = bin().join(folder);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    build(&path, Command::new("go").args(["build", "-o"]).arg(&path).arg(".").current_dir(source))
}

fn bin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/go/bin")
}

fn build(path: &Path, command: &mut Command) -> Result<PathBuf, String> {
    // A build that failed leaves the turn to the next.
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let version = Command::new("go").args(["env", "GOVERSION"]).current_dir("/").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let numbers = version.as_deref().unwrap_or_default().trim_start_matches("go").split('.');
    let numbers: Vec<u32> = numbers.map_while(|number| number.parse().ok()).collect();
    if numbers.len() < 2 || (numbers[0], numbers[1]) < LEAST {
        return Err(format!("no Go {}.{} or newer", LEAST.0, LEAST.1));
    }
    let output = command.env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", "0").output();
    let output = output.unwrap_or_else(|error| panic!("go cannot be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not build: {said}", path.display());
    path.canonicalize().map_err(|error| format!("go built no {}: {error}", path.display()))
}
