//! Where the workspace is and how cargo is called in it.

use std::path::Path;
use std::process::Command;

/// The root of the workspace, whatever directory the command was called from.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The cargo that runs us (so the pinned toolchain stays the one in use), in the root of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
