//! Ctrl-C and termination: a thread waits for them and sets the flag that every wait of the lab looks at.

use lab::Interrupt;
use nix::sys::signal::{SigSet, Signal};

use crate::fail::Fail;

/// Call before any other thread is made: they inherit that these signals wait for ours.
pub fn on_signals() -> Result<Interrupt, Fail> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|error| format!("cannot take over signals: {error}"))?;
    let interrupt = Interrupt::default();
    let flag = interrupt.clone();
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            flag.set();
        }
    });
    Ok(interrupt)
}
