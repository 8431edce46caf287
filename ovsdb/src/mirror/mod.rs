//! Keeps a replica true across connections, without IO: synchronises on each connection, carries transactions.
//!
//! It must not know how connections are made; `io` makes them.
//!
//! A connection goes through these phases; whatever fails in one ends the connection, and the next begins anew:
//! - `Schema`: asked for the schema. Refused (the database does not exist yet): end.
//! - `Monitor`: asked for the monitored rows. Their arrival replaces the replica in one step, of which only the
//!   difference is told.
//! - `Live`: updates are applied as they come; transactions are sent.
//!
//! Between connections the replica stays as it was. A transaction that was sent when a connection ended is reported as
//! of unknown outcome; one that was not waits for the next connection until its time is up.

#[cfg(test)]
mod tests;
mod transactions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::atom::Uuid;
use crate::monitor::{Interest, MissingColumn, Monitored};
use crate::outcome::{Outcome, TransactError};
use crate::replica::{Changes, Replica};
use crate::schema::DatabaseSchema;
use crate::session::{
    Event, MonitorId, Monitoring, Refused, Reply, RequestId, Session, SessionConfig, SessionError,
};
use transactions::Waiting;

/// Names a transaction of ours until its outcome is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a mirror tells.
#[derive(Clone, Debug, PartialEq)]
pub enum MirrorEvent {
    /// The replica is that of a live connection now; `changes` is how it differs from what it was before, and may be
    /// empty.
    Synchronized {
        /// The difference.
        changes: Changes,
        /// Wanted columns that this server lacks; they read as their defaults.
        missing: Vec<MissingColumn>,
    },
    /// The replica changed.
    Changed(Changes),
    /// A transaction ended.
    Transaction {
        /// Which.
        ticket: Ticket,
        /// How.
        outcome: Result<Outcome, TransactError>,
    },
    /// Whether we have a lock has changed.
    Lock {
        /// Its name.
        lock: String,
        /// Whether we have it.
        held: bool,
    },
}

/// Why a connection is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// The peer broke the protocol, or is gone.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It refused what we cannot do without.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It ended our monitor: the database went, or changed its schema.
    #[error("database server: the database {0} went or changed its schema")]
    Canceled(String),
    /// It did not let us synchronise in time.
    #[error("database server: no answer to the first requests in time")]
    SlowStart,
}

#[derive(Debug)]
enum Phase {
    Schema {
        request: RequestId,
    },
    Monitor {
        request: RequestId,
        schema: Arc<DatabaseSchema>,
        monitored: Arc<Monitored>,
        missing: Vec<MissingColumn>,
    },
    Live {
        monitor: MonitorId,
        schema: Arc<DatabaseSchema>,
    },
}

#[derive(Debug)]
struct Connection {
    session: Session,
    /// Our `set_db_change_aware`. A server from before 2.9 refuses it; it hangs up instead, which serves as well.
    aware: RequestId,
    phase: Phase,
    /// When it must be live; `None` once it is.
    start_by: Option<Instant>,
    sent: BTreeMap<RequestId, transactions::Sent>,
    locks: BTreeMap<RequestId, String>,
}

/// A replica and what keeps it true.
#[derive(Debug)]
pub struct Mirror {
    database: String,
    interest: Interest,
    config: SessionConfig,
    replica: Replica,
    /// What the replica was monitored as, and up to which transaction: the way to continue it.
    known: Option<(Arc<Monitored>, Option<Uuid>)>,
    connection: Option<Connection>,
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
    locks: BTreeMap<String, bool>,
    events: VecDeque<MirrorEvent>,
    /// Why there is no connection, for transactions that wait for one.
    last_error: String,
}

/// A connection that is not live after this many probe intervals is given up.
const START_INTERVALS: u32 = 4;

impl Mirror {
    /// Of the given parts of a database; empty until the first synchronisation.
    pub fn new(database: &str, interest: Interest, config: SessionConfig) -> Self {
        Self {
            database: database.to_owned(),
            interest,
            config,
            replica: Replica::default(),
            known: None,
            connection: None,
            waiting: VecDeque::new(),
            next_ticket: 0,
            locks: BTreeMap::new(),
            events: VecDeque::new(),
            last_error: "no connection was made yet".to_owned(),
        }
    }

    /// The replica as it is now.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether the replica is that of a live connection.
    pub fn is_live(&self) -> bool {
        matches!(self.connection, Some(Connection { phase: Phase::Live { .. }, .. }))
    }

    /// The server's schema, while live.
    pub fn schema(&self) -> Option<&Arc<DatabaseSchema>> {
        match &self.connection.as_ref()?.phase {
            Phase::Live { schema, .. } => Some(schema),
            _ => None,
        }
    }

    /// A connection was made.
    pub fn handle_connected(&mut self, now: Instant) {
        self.handle_disconnected("a new connection was made");
        let mut session = Session::new(self.config, now);
        let aware = session.set_db_change_aware(true);
        let request = session.get_schema(&self.database);
        self.connection = Some(Connection {
            session,
            aware,
            phase: Phase::Schema { request },
            start_by: Some(now + self.config.probe_interval * START_INTERVALS),
            sent: BTreeMap::new(),
            locks: BTreeMap::new(),
        });
    }

    /// The connection ended, or none could be made, for this reason.
    pub fn handle_disconnected(&mut self, reason: &str) {
        reason.clone_into(&mut self.last_error);
        if let Some(connection) = self.connection.take() {
            for sent in connection.sent.into_values() {
                let outcome = Err(TransactError::OutcomeUnknown { reason: reason.to_owned() });
                self.events.push_back(MirrorEvent::Transaction { ticket: sent.ticket, outcome });
            }
        }
        let lost: Vec<String> =
            self.locks.iter().filter(|(_, held)| **held).map(|(lock, _)| lock.clone()).collect();
        for lock in lost {
            self.set_lock(lock, false);
        }
    }

    /// Takes what was read from the connection. After an error, close it and call [`Mirror::handle_disconnected`].
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) -> Result<(), MirrorError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        // What came whole before a fault still counts: a reply may be among it.
        let result = connection.session.handle_bytes(now, bytes);
        self.drain()?;
        Ok(result?)
    }

    /// Takes note of the time; call it when [`Mirror::poll_timeout`] is reached, having first read what there is.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), MirrorError> {
        self.expire_transactions(now);
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if connection.start_by.is_some_and(|due| now >= due) {
            return Err(MirrorError::SlowStart);
        }
        Ok(connection.session.handle_timeout(now)?)
    }

    /// When to call [`Mirror::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let connection = self.connection.as_ref();
        let session = connection.and_then(|connection| connection.session.poll_timeout());
        let start = connection.and_then(|connection| connection.start_by);
        [session, start, self.next_expiry()].into_iter().flatten().min()
    }

    /// The next message to write to the connection.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.connection.as_mut()?.session.poll_transmit()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<MirrorEvent> {
        self.events.pop_front()
    }

    /// Asks for a lock, on this connection and every later one (RFC 7047 §4.1.8).
    pub fn lock(&mut self, lock: &str) {
        if self.locks.contains_key(lock) {
            return;
        }
        self.locks.insert(lock.to_owned(), false);
        if let Some(connection) = &mut self.connection
            && matches!(connection.phase, Phase::Live { .. })
        {
            let request = connection.session.lock(lock);
            connection.locks.insert(request, lock.to_owned());
        }
    }

    /// The locks asked for, and whether we have them.
    pub fn locks(&self) -> &BTreeMap<String, bool> {
        &self.locks
    }

    fn set_lock(&mut self, lock: String, held: bool) {
        if let Some(known) = self.locks.get_mut(&lock)
            && *known != held
        {
            *known = held;
            self.events.push_back(MirrorEvent::Lock { lock, held });
        }
    }

    /// Handles the session's events.
    fn drain(&mut self) -> Result<(), MirrorError> {
        while let Some(event) =
            self.connection.as_mut().and_then(|connection| connection.session.poll_event())
        {
            match event {
                Event::Reply { request, reply } => self.handle_reply(request, reply)?,
                Event::Transaction { request, outcome } => {
                    let sent =
                        self.connection.as_mut().and_then(|connection| connection.sent.remove(&request));
                    if let Some(sent) = sent {
                        self.events.push_back(MirrorEvent::Transaction { ticket: sent.ticket, outcome });
                    }
                }
                Event::Update { monitor, last_transaction, updates } => {
                    let Some(Connection { phase: Phase::Live { monitor: ours, .. }, .. }) = &self.connection
                    else {
                        return Err(self.unexpected("update", "it precedes the rows that it changes"));
                    };
                    if *ours != monitor {
                        return Err(self.unexpected("update", "it is not of the monitor that is live"));
                    }
                    let changes = self.replica.apply(&updates).map_err(SessionError::from)?;
                    if let Some((_, last)) = &mut self.known {
                        *last = last_transaction;
                    }
                    if !changes.is_empty() {
                        self.events.push_back(MirrorEvent::Changed(changes));
                    }
                }
                Event::MonitorCanceled { .. } => return Err(MirrorError::Canceled(self.database.clone())),
                Event::Locked { lock } => self.set_lock(lock, true),
                Event::Stolen { lock } => self.set_lock(lock, false),
            }
        }
        Ok(())
    }

    fn handle_reply(&mut self, request: RequestId, reply: Result<Reply, Refused>) -> Result<(), MirrorError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if let Some(lock) = connection.locks.remove(&request) {
            if let Ok(Reply::Lock { held }) = reply {
                self.set_lock(lock, held);
            }
            return Ok(());
        }
        if connection.aware == request {
            return Ok(());
        }
        match (&connection.phase, reply) {
            (Phase::Schema { request: asked }, Ok(Reply::Schema(schema))) if *asked == request => {
                let (monitored, missing) = self.interest.agree(&schema);
                let since =
                    self.known.as_ref().filter(|(known, _)| **known == monitored).and_then(|(_, last)| *last);
                let monitored = Arc::new(monitored);
                let request = connection.session.monitor(Arc::clone(&monitored), since);
                connection.phase = Phase::Monitor { request, schema, monitored, missing };
            }
            (Phase::Monitor { request: asked, .. }, Ok(Reply::Monitoring(start))) if *asked == request => {
                self.synchronize(start)?;
            }
            (Phase::Schema { .. } | Phase::Monitor { .. }, Err(refused)) => return Err(refused.into()),
            (_, _) => {}
        }
        Ok(())
    }

    fn synchronize(&mut self, start: Monitoring) -> Result<(), MirrorError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let Phase::Monitor { schema, monitored, missing, .. } = &mut connection.phase else { return Ok(()) };
        let (schema, monitored, missing) =
            (Arc::clone(schema), Arc::clone(monitored), std::mem::take(missing));
        let changes = if start.continues {
            self.replica.apply(&start.updates).map_err(SessionError::from)?
        } else {
            let newer = Replica::initial(&monitored, &start.updates).map_err(SessionError::from)?;
            let changes = self.replica.difference(&newer);
            self.replica = newer;
            changes
        };
        self.known = Some((monitored, start.last_transaction));
        connection.phase = Phase::Live { monitor: start.monitor, schema };
        connection.start_by = None;
        for lock in self.locks.keys().cloned().collect::<BTreeSet<_>>() {
            let request = connection.session.lock(&lock);
            connection.locks.insert(request, lock);
        }
        self.events.push_back(MirrorEvent::Synchronized { changes, missing });
        self.send_waiting();
        Ok(())
    }

    fn unexpected(&self, method: &str, problem: &str) -> MirrorError {
        let (method, problem) = (method.to_owned(), problem.to_owned());
        SessionError::MalformedNotification { method, problem }.into()
    }
}
