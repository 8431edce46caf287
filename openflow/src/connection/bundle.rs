//! Bundles on a connection: open, add, confirm, commit; any refused message discards the whole and names the culprit.
//!
//! ```text
//!  open ─▶ Filling ──finish──▶ Confirming ──barrier reply──▶ Committing ──commit reply──▶ Committed
//!             │ error             │ error                       │ error
//!             └───────────────────┴──────▶ Discarding ◀─────────┘ (nothing was changed)  ──▶ Refused
//! ```
//!
//! Open vSwitch 3.1 commits an atomic bundle even after one of its messages was refused, so a barrier stands between the
//! last message and the commit: no error has come by then, or the bundle is discarded.

use std::collections::HashMap;

use super::{Connection, Event, Pending, SendError};
use crate::message::{BundleAdd, BundleControl, BundleControlType, BundleFlags, ErrorMessage, Message};
use crate::number::{BundleId, Xid};

/// How a bundle ended.
pub type BundleOutcome = Result<BundleCommitted, BundleError>;

/// The switch holds all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleCommitted {
    /// Messages in it.
    pub messages: usize,
}

/// The switch holds nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// One message is to blame.
    #[error("message {index} of the bundle was refused: {}; nothing of the bundle is in force", error.code)]
    Message {
        /// Which, counted from 0.
        index: usize,
        /// Why, with the start of the message.
        error: ErrorMessage,
    },
    /// The bundle itself was refused.
    #[error("the switch refused the bundle when it was to {step}: {}", error.code)]
    Bundle {
        /// `open` or `commit`.
        step: &'static str,
        /// Why.
        error: ErrorMessage,
    },
    /// The caller gave up.
    #[error("the bundle was discarded as asked")]
    Discarded,
    /// The connection ended before the switch answered: what the bundle did is unknown until the flows are read back.
    #[error("the connection ended before the switch answered; read the flows back to know what is in force")]
    Lost,
}

#[derive(Debug, Default)]
pub(super) struct Bundles {
    open: HashMap<BundleId, Bundle>,
    last_id: u32,
}

#[derive(Debug)]
struct Bundle {
    flags: BundleFlags,
    step: Step,
    messages: usize,
    /// Runs of consecutive xids: first xid, first index, how many.
    runs: Vec<(Xid, usize, u32)>,
    own_xids: Vec<Xid>,
    refused: Option<BundleError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Filling,
    Confirming,
    Committing,
    Discarding,
}

impl Bundle {
    fn index_of(&self, xid: Xid) -> Option<usize> {
        self.runs.iter().find_map(|(first, index, count)| {
            let distance = xid.0.checked_sub(first.0)?;
            (distance < *count).then(|| index + distance as usize)
        })
    }

    fn note_added(&mut self, xid: Xid) {
        match self.runs.last_mut() {
            Some((first, _, count)) if first.0.checked_add(*count) == Some(xid.0) => *count += 1,
            _ => self.runs.push((xid, self.messages, 1)),
        }
        self.messages += 1;
    }
}

impl Connection {
    /// Opens a bundle. Add messages, then finish it; [`Event::Bundle`] tells how it ended.
    pub fn open_bundle(&mut self, flags: BundleFlags) -> Result<BundleId, SendError> {
        self.check_window()?;
        self.bundles.last_id = self.bundles.last_id.checked_add(1).unwrap_or(1);
        let id = BundleId(self.bundles.last_id);
        let bundle = Bundle {
            flags,
            step: Step::Filling,
            messages: 0,
            runs: Vec::new(),
            own_xids: Vec::new(),
            refused: None,
        };
        self.bundles.open.insert(id, bundle);
        self.control(id, BundleControlType::OpenRequest)?;
        Ok(id)
    }

    /// Adds a message. Once one has been refused the rest goes nowhere, and [`Connection::bundle_is_open`] says so.
    pub fn add_to_bundle(&mut self, id: BundleId, message: Message) -> Result<(), SendError> {
        self.check_ended()?;
        let bundle = self.bundles.open.get(&id).ok_or(SendError::NoSuchBundle(id))?;
        if bundle.step != Step::Filling {
            return Ok(());
        }
        let flags = bundle.flags;
        let xid = self.allocate_xid();
        let add = BundleAdd { bundle: id, flags, xid, message, properties: bytes::Bytes::new() };
        Message::BundleAdd(Box::new(add)).encode(xid, &mut self.transmit)?;
        if let Some(bundle) = self.bundles.open.get_mut(&id) {
            bundle.note_added(xid);
        }
        Ok(())
    }

    /// Still takes messages? False once the switch has refused one, and after the end.
    pub fn bundle_is_open(&self, id: BundleId) -> bool {
        self.bundles.open.get(&id).is_some_and(|bundle| bundle.step == Step::Filling)
    }

    /// No more messages: commit when the switch has taken them all.
    pub fn finish_bundle(&mut self, id: BundleId) -> Result<(), SendError> {
        self.check_ended()?;
        let Some(bundle) = self.bundles.open.get_mut(&id) else { return Err(SendError::NoSuchBundle(id)) };
        if bundle.step == Step::Filling {
            bundle.step = Step::Confirming;
            let xid = self.put(&Message::BarrierRequest)?;
            self.pending.insert(xid, Pending::Bundle(id));
        }
        Ok(())
    }

    /// Forget it all.
    pub fn discard_bundle(&mut self, id: BundleId) -> Result<(), SendError> {
        self.check_ended()?;
        if !self.bundles.open.contains_key(&id) {
            return Err(SendError::NoSuchBundle(id));
        }
        self.fail_bundle(id, BundleError::Discarded);
        Ok(())
    }

    /// The barrier after the last message was answered.
    pub(super) fn bundle_confirmed(&mut self, id: BundleId) {
        let Some(bundle) = self.bundles.open.get_mut(&id) else { return };
        if bundle.step == Step::Confirming {
            bundle.step = Step::Committing;
            // A control message always fits.
            let _ = self.control(id, BundleControlType::CommitRequest);
        }
    }

    /// A bundle control reply came.
    pub(super) fn bundle_answered(&mut self, id: BundleId, answer: Result<BundleControlType, ()>) {
        match answer {
            Ok(BundleControlType::CommitReply) => {
                if let Some(bundle) = self.bundles.open.remove(&id) {
                    let committed = BundleCommitted { messages: bundle.messages };
                    self.events.push_back(Event::Bundle { bundle: id, outcome: Ok(committed) });
                }
            }
            Ok(BundleControlType::DiscardReply) | Err(()) => {
                if let Some(bundle) = self.bundles.open.remove(&id) {
                    let error = bundle.refused.unwrap_or(BundleError::Discarded);
                    self.events.push_back(Event::Bundle { bundle: id, outcome: Err(error) });
                }
            }
            Ok(_) => {}
        }
    }

    /// Does the error belong to a bundle? Then the bundle is as good as gone.
    pub(super) fn bundle_refused(&mut self, xid: Xid, error: &ErrorMessage) -> bool {
        let found = self.bundles.open.iter().find_map(|(id, bundle)| match bundle.index_of(xid) {
            Some(index) => Some((*id, Some(index))),
            None if bundle.own_xids.contains(&xid) => Some((*id, None)),
            None => None,
        });
        let Some((id, index)) = found else { return false };
        self.pending.remove(&xid);
        let step = self.bundles.open.get(&id).map(|bundle| bundle.step);
        match (index, step) {
            (Some(index), _) => self.fail_bundle(id, BundleError::Message { index, error: error.clone() }),
            // A discard that is refused ends it as well: the switch knows no such bundle.
            (None, Some(Step::Discarding)) => self.bundle_answered(id, Err(())),
            (None, Some(Step::Committing)) => {
                // The commit changed nothing, and the bundle is gone with it. The culprit was named before.
                let error = BundleError::Bundle { step: "commit", error: error.clone() };
                if let Some(bundle) = self.bundles.open.get_mut(&id) {
                    bundle.refused.get_or_insert(error);
                }
                self.bundle_answered(id, Err(()));
            }
            (None, _) => self.fail_bundle(id, BundleError::Bundle { step: "open", error: error.clone() }),
        }
        true
    }

    /// Every open bundle is lost with the connection.
    pub fn lost_bundles(&mut self) -> Vec<(BundleId, BundleError)> {
        self.bundles
            .open
            .drain()
            .map(|(id, bundle)| (id, bundle.refused.unwrap_or(BundleError::Lost)))
            .collect()
    }

    /// Remembers the first error and discards, unless the commit is already under way: then its answer ends the bundle.
    fn fail_bundle(&mut self, id: BundleId, error: BundleError) {
        let Some(bundle) = self.bundles.open.get_mut(&id) else { return };
        bundle.refused.get_or_insert(error);
        if matches!(bundle.step, Step::Filling | Step::Confirming) {
            bundle.step = Step::Discarding;
            // A control message always fits.
            let _ = self.control(id, BundleControlType::DiscardRequest);
        }
    }

    fn control(&mut self, id: BundleId, kind: BundleControlType) -> Result<(), SendError> {
        let Some(bundle) = self.bundles.open.get(&id) else { return Err(SendError::NoSuchBundle(id)) };
        let xid = self.put(&Message::BundleControl(BundleControl::new(id, kind, bundle.flags)))?;
        if let Some(bundle) = self.bundles.open.get_mut(&id) {
            bundle.own_xids.push(xid);
        }
        Ok(())
    }
}
