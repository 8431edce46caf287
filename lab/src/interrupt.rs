//! Whether the user wants to stop: looked at between steps and in every wait, so that what was begun can be taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

use crate::error::{Context, Error, Result};

/// Set once, from a signal; seen by all clones.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Set by Ctrl-C and termination. Call before any other thread is made: they inherit that these signals wait for ours.
    pub fn on_signals() -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block().context(|| "take over signals".to_owned())?;
        let interrupt = Self::default();
        let flag = interrupt.clone();
        std::thread::spawn(move || {
            while signals.wait().is_ok() {
                flag.set();
            }
        });
        Ok(interrupt)
    }

    /// Asks everybody to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody asked.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// An error when somebody asked.
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
