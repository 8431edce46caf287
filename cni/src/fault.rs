//! Fault points: the process kills itself at the step that the environment names, so that a test can try a crash at each of
//! them in the ordinary build. It must not know what the steps do.

use nix::sys::signal::{Signal, raise};

/// The variable that names a step (`docs/contracts.md`).
pub const VARIABLE: &str = "FERRULE_FAULT_POINT";

/// The steps of `ferrule-cni`, in their order.
pub const STEPS: [&str; 10] = [
    "cni.add.begun",
    "cni.add.delegated",
    "cni.add.veth",
    "cni.add.answered",
    "cni.add.configured",
    "cni.add.ended",
    "cni.del.begun",
    "cni.del.forgotten",
    "cni.del.veth",
    "cni.del.delegated",
];

/// Ends the process as SIGKILL does, if this step is the one that the environment names.
pub fn reach(step: &str) {
    if std::env::var_os(VARIABLE).is_some_and(|named| named == step) {
        eprintln!("{VARIABLE}: killed at {step}");
        // Nothing can be done about a failure here, and none is known.
        let _ = raise(Signal::SIGKILL);
    }
}
