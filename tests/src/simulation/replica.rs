//! One controller: its state, what it saved, and what its source has not read yet. It knows no agents.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use api::watermark::Epoch;
use controller::bindings::NodeBindings;
use controller::metrics::Metrics;
use controller::source::{Revision, Snapshot};
use controller::state::State;
use network::{Network, NodeName};

/// A controller.
#[derive(Debug)]
pub struct Replica {
    /// `None` while it does not run.
    pub state: Option<State>,
    /// Events were taken in that the state was not settled after.
    pub dirty: bool,
    /// What the source has still to read, oldest first.
    pub unread: VecDeque<Network>,
    /// What the source read last; a restart begins with it.
    pub read: Option<Network>,
    revision: u64,
    saved_epoch: Epoch,
    saved_bindings: BTreeMap<NodeName, NodeBindings>,
}

impl Replica {
    /// One that was never started.
    pub fn new(network: Network) -> Self {
        Self {
            state: None,
            dirty: false,
            unread: VecDeque::from([network]),
            read: None,
            revision: 0,
            saved_epoch: Epoch(0),
            saved_bindings: BTreeMap::new(),
        }
    }

    /// Starts, as `controller::store` says: with the epoch and the bindings that were saved.
    pub fn start(&mut self, forgetful: bool) {
        if forgetful {
            self.saved_epoch = Epoch(0);
            self.saved_bindings.clear();
        }
        self.saved_epoch = self.saved_epoch.max(Epoch(1));
        self.revision = 0;
        let mut state = State::new(self.saved_epoch, self.saved_bindings.clone(), Metrics::default());
        state.check_recompute();
        self.state = Some(state);
        // It reads the directory anew.
        if let Some(newest) = self.unread.pop_back().or(self.read.take()) {
            self.unread = VecDeque::from([newest]);
        }
        self.dirty = false;
    }

    /// Ends without a word.
    pub fn stop(&mut self) {
        self.state = None;
    }

    /// The source reads the next thing that happened.
    pub fn read_next(&mut self) {
        let (Some(state), Some(network)) = (&mut self.state, self.unread.pop_front()) else { return };
        if self.read.as_ref() != Some(&network) || self.revision == 0 {
            self.revision += 1;
            state.snapshot(Snapshot {
                revisions: [("manifests".to_owned(), Revision::at(self.revision))].into(),
                network: network.clone(),
                ..Snapshot::default()
            });
            self.dirty = true;
        }
        self.read = Some(network);
    }

    /// Saves, then brings model, views and agents up to date, in the owner's order.
    pub fn settle(&mut self, now: Instant) {
        let Some(state) = &mut self.state else { return };
        let (epoch, bindings) = state.take_unsaved();
        self.saved_epoch = epoch.unwrap_or(self.saved_epoch);
        self.saved_bindings.extend(bindings);
        state.settle(now);
        self.dirty = false;
        let Some(demand) = state.take_demand() else { return };
        // An agent has acknowledged what another controller sent: the directory is read again.
        while !self.unread.is_empty() {
            self.read_next();
        }
        if let Some(state) = &mut self.state {
            state.confirm(&demand);
            self.dirty = true;
        }
    }
}
