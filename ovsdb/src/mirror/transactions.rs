//! The transactions that a mirror carries: waiting for a connection, sent, expired; must not know the replica.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Connection, Mirror, MirrorEvent, Phase, Ticket};
use crate::outcome::TransactError;
use crate::transaction::Transaction;

/// A cancelled transaction is answered at once by a server that lives; after this long its outcome is unknown.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// A transaction that no connection has carried yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    transaction: Arc<Transaction>,
    deadline: Instant,
}

/// A transaction that was sent on the present connection.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) ticket: Ticket,
    deadline: Instant,
    cancelled: bool,
}

impl Mirror {
    /// Sends a transaction, now or when there is a live connection; its outcome is told as a
    /// [`MirrorEvent::Transaction`] at the latest a second after `deadline`.
    pub fn transact(&mut self, transaction: Arc<Transaction>, deadline: Instant) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.push_back(Waiting { ticket, transaction, deadline });
        self.send_waiting();
        ticket
    }

    /// Sends what waits, if the connection is live.
    pub(super) fn send_waiting(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let Phase::Live { schema, .. } = &connection.phase else { return };
        for Waiting { ticket, transaction, deadline } in self.waiting.drain(..) {
            match connection.session.transact(transaction, schema) {
                Ok(request) => {
                    connection.sent.insert(request, Sent { ticket, deadline, cancelled: false });
                }
                Err(invalid) => {
                    self.events.push_back(MirrorEvent::Transaction { ticket, outcome: Err(invalid.into()) });
                }
            }
        }
    }

    /// Ends or cancels what is over its time.
    pub(super) fn expire_transactions(&mut self, now: Instant) {
        let reason = &self.last_error;
        let events = &mut self.events;
        let mut end = |ticket, error| {
            events.push_back(MirrorEvent::Transaction { ticket, outcome: Err(error) });
        };
        self.waiting.retain(|waiting| {
            let stays = now < waiting.deadline;
            if !stays {
                end(waiting.ticket, TransactError::NotConnected { reason: reason.clone() });
            }
            stays
        });
        let Some(Connection { session, sent, .. }) = &mut self.connection else { return };
        sent.retain(|request, sent| {
            if now < sent.deadline {
                return true;
            }
            if sent.cancelled {
                let reason = "the server answered neither it nor its cancellation in time".to_owned();
                end(sent.ticket, TransactError::OutcomeUnknown { reason });
                return false;
            }
            session.cancel(*request);
            sent.cancelled = true;
            sent.deadline = now + CANCEL_GRACE;
            true
        });
    }

    /// When the next transaction is over its time.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let sent =
            self.connection.iter().flat_map(|connection| connection.sent.values().map(|sent| sent.deadline));
        self.waiting.iter().map(|waiting| waiting.deadline).chain(sent).min()
    }
}
