//! One OVSDB session without IO (RFC 7047 §4): bytes and time go in, bytes and events come out.
//!
//! It must not know how bytes travel, nor reconnect: a session ends with its connection (see `mirror`).
//!
//! - `handle_bytes` takes what was read, `handle_timeout` the time that `poll_timeout` asked for. An error from either
//!   ends the session: close the connection; what was not answered never will be.
//! - `poll_transmit` gives the messages to write, in order, and `poll_event` what happened.

mod replies;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::atom::Uuid;
use crate::message::{self, Incoming, MessageError};
use crate::monitor::{Monitored, UpdateError, Updates};
use crate::outcome::{Outcome, ServerError, TransactError};
use crate::schema::{DatabaseSchema, SchemaError};
use crate::splitter::{SplitError, SplitLimits, Splitter};
use replies::Pending;

/// What a session allows its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The size and depth of its messages.
    pub limits: SplitLimits,
    /// How long it may be silent before we ask whether it lives, and then again before we give up.
    pub probe_interval: Duration,
    /// How many bytes of replies to its own requests may wait for it to read.
    pub backlog_bytes: usize,
}

impl Default for SessionConfig {
    /// Probes every 5 s, as Open vSwitch does; 1 MiB of backlog.
    fn default() -> Self {
        Self {
            limits: SplitLimits::default(),
            probe_interval: Duration::from_secs(5),
            backlog_bytes: 1 << 20,
        }
    }
}

/// One of our requests; its reply carries the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// One of our monitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorId(pub(crate) u64);

/// Which way of monitoring the server took; each falls back to the next on a server that does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MonitorMethod {
    /// `monitor_cond_since` and `update3` (Open vSwitch 2.12).
    ConditionalSince,
    /// `monitor_cond` and `update2` (Open vSwitch 2.6).
    Conditional,
    /// `monitor` and `update` (RFC 7047 §4.1.5).
    Plain,
}

/// A request that the server refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database server refused {method} {object}: {error}")]
pub struct Refused {
    /// The request's method.
    pub method: &'static str,
    /// What it was about: a database, a lock, a monitor.
    pub object: String,
    /// In the server's words.
    pub error: ServerError,
}

/// The good answer to a request other than a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To `list_dbs`.
    Databases(Vec<String>),
    /// To `get_schema`.
    Schema(Arc<DatabaseSchema>),
    /// To `monitor` and its kin.
    Monitoring(Monitoring),
    /// To `monitor_cancel`: no update of it follows.
    MonitorCanceled,
    /// To `monitor_cond_change`: the updates that it caused came before.
    ConditionsChanged,
    /// To `echo`.
    Echoed,
    /// To `set_db_change_aware`.
    ChangeAware,
    /// To `lock` and `steal`: whether we have it now. If not, [`Event::Locked`] follows some time.
    Lock {
        /// Whether we have it.
        held: bool,
    },
    /// To `unlock`.
    Unlocked,
    /// To `get_server_id`.
    ServerId(Uuid),
}

/// What a monitor begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitoring {
    /// Which monitor.
    pub monitor: MonitorId,
    /// Which way of monitoring the server took.
    pub method: MonitorMethod,
    /// Whether `updates` continue from the transaction that the request named; else they are the whole view.
    pub continues: bool,
    /// The last transaction that `updates` include, where the server knows it.
    pub last_transaction: Option<Uuid>,
    /// The rows.
    pub updates: Updates,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request was answered.
    Reply {
        /// Which.
        request: RequestId,
        /// How.
        reply: Result<Reply, Refused>,
    },
    /// A transaction was answered.
    Transaction {
        /// Which.
        request: RequestId,
        /// How.
        outcome: Result<Outcome, TransactError>,
    },
    /// Monitored rows changed, together.
    Update {
        /// Which monitor tells it.
        monitor: MonitorId,
        /// The last transaction that it includes, where the server knows it.
        last_transaction: Option<Uuid>,
        /// The rows.
        updates: Updates,
    },
    /// The server ended a monitor because its database went or changed its schema.
    MonitorCanceled {
        /// Which.
        monitor: MonitorId,
    },
    /// A lock that we asked for is ours now (RFC 7047 §4.1.9).
    Locked {
        /// Its name.
        lock: String,
    },
    /// A lock that we had was stolen (RFC 7047 §4.1.10).
    Stolen {
        /// Its name.
        lock: String,
    },
}

/// Why a session cannot go on: the peer broke the protocol, or is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The stream is not one of messages.
    #[error("database server: {0}")]
    Split(#[from] SplitError),
    /// A message is not one of JSON-RPC.
    #[error("database server: {0}")]
    Message(#[from] MessageError),
    /// A reply to nothing that we asked.
    #[error("database server: a reply to request {id}, which was not made or was answered before")]
    UnexpectedReply {
        /// Its id.
        id: String,
    },
    /// A reply that does not answer its request.
    #[error("database server: the reply to {method} makes no sense: {problem}")]
    MalformedReply {
        /// The request's method.
        method: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A notification whose parameters are not those of its method.
    #[error("database server: the notification {method} makes no sense: {problem}")]
    MalformedNotification {
        /// Its method.
        method: String,
        /// What is wrong.
        problem: String,
    },
    /// A schema that is none.
    #[error("database server: {0}")]
    Schema(#[from] SchemaError),
    /// An update that does not fit what is monitored.
    #[error("database server: {0}")]
    Update(#[from] UpdateError),
    /// It did not answer our probe.
    #[error("database server: silent for {0:?}, and no answer to a probe")]
    Silent(Duration),
    /// It asks and does not read our answers.
    #[error("database server: it asks without reading the answers; {0} bytes wait for it")]
    Backlog(usize),
}

/// A message to write.
#[derive(Debug)]
enum Outgoing {
    /// A request or a notification.
    Ours(Vec<u8>),
    /// An answer to the peer's request.
    Reply(Vec<u8>),
}

/// One session, from connection to its end.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    splitter: Splitter,
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
    monitors: BTreeMap<u64, Arc<Monitored>>,
    transmit: VecDeque<Outgoing>,
    /// Bytes of replies in `transmit`: what the peer can make us hold.
    reply_bytes: usize,
    events: VecDeque<Event>,
    last_received: Instant,
    probed: Option<Instant>,
}

impl Session {
    /// On a connection that was made `now`.
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        Self {
            config,
            splitter: Splitter::new(config.limits),
            next_id: 1,
            pending: BTreeMap::new(),
            monitors: BTreeMap::new(),
            transmit: VecDeque::new(),
            reply_bytes: 0,
            events: VecDeque::new(),
            last_received: now,
            probed: None,
        }
    }

    /// Takes what was read from the connection.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) -> Result<(), SessionError> {
        self.last_received = now;
        self.probed = None;
        self.splitter.push(bytes);
        while let Some(message) = self.splitter.next_message()? {
            let incoming = Incoming::parse(message)?;
            self.handle_message(incoming)?;
        }
        Ok(())
    }

    /// Takes note of the time; call it when [`Session::poll_timeout`] is reached, having first read what there is.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.poll_timeout().is_some_and(|due| now < due) {
            return Ok(());
        }
        if self.probed.is_some() {
            return Err(SessionError::Silent(now.saturating_duration_since(self.last_received)));
        }
        self.request("echo", &json!([]), Pending::Probe);
        self.probed = Some(now);
        Ok(())
    }

    /// When to call [`Session::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.probed.unwrap_or(self.last_received) + self.config.probe_interval)
    }

    /// The next message to write.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        Some(match self.transmit.pop_front()? {
            Outgoing::Ours(message) => message,
            Outgoing::Reply(message) => {
                self.reply_bytes -= message.len();
                message
            }
        })
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many requests wait for their replies.
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    fn handle_message(&mut self, incoming: Incoming) -> Result<(), SessionError> {
        match incoming {
            Incoming::Request { method, params, id } => {
                let reply = match method.as_str() {
                    "echo" => message::reply(&params, &id),
                    _ => message::unknown_method(&id),
                };
                self.reply_bytes += reply.len();
                self.transmit.push_back(Outgoing::Reply(reply));
                if self.reply_bytes > self.config.backlog_bytes {
                    return Err(SessionError::Backlog(self.reply_bytes));
                }
                Ok(())
            }
            Incoming::Reply { id, result } => {
                let pending = id.as_u64().and_then(|id| Some((id, self.pending.remove(&id)?)));
                match pending {
                    Some((id, pending)) => self.handle_reply(RequestId(id), pending, result),
                    None => Err(SessionError::UnexpectedReply { id: crate::datum::beginning(&id) }),
                }
            }
            Incoming::Notification { method, params } => self.handle_notification(&method, &params),
        }
    }

    fn handle_notification(&mut self, method: &str, params: &Json) -> Result<(), SessionError> {
        let malformed = |problem: &str| SessionError::MalformedNotification {
            method: method.to_owned(),
            problem: format!("{problem} in {}", crate::datum::beginning(params)),
        };
        let params = params.as_array().map(Vec::as_slice).unwrap_or_default();
        let lock = |params: &[Json]| match params {
            [Json::String(lock)] => Ok(lock.clone()),
            _ => Err(malformed("no lock")),
        };
        let monitor = |id: &Json| {
            let known = id.as_u64().and_then(|id| Some((MonitorId(id), self.monitors.get(&id)?)));
            known.ok_or_else(|| malformed("no monitor of ours"))
        };
        let event = match (method, params) {
            ("update", [id, updates]) => {
                let (monitor, monitored) = monitor(id)?;
                let updates = Updates::from_json(updates, monitored)?;
                Event::Update { monitor, last_transaction: None, updates }
            }
            ("update2", [id, updates]) => {
                let (monitor, monitored) = monitor(id)?;
                let updates = Updates::from_json2(updates, monitored)?;
                Event::Update { monitor, last_transaction: None, updates }
            }
            ("update3", [id, last, updates]) => {
                let (monitor, monitored) = monitor(id)?;
                let last = last.as_str().and_then(|text| text.parse::<Uuid>().ok());
                let last = last.ok_or_else(|| malformed("no transaction id"))?;
                let updates = Updates::from_json2(updates, monitored)?;
                Event::Update { monitor, last_transaction: known_transaction(last), updates }
            }
            ("update" | "update2" | "update3", _) => return Err(malformed("wrong parameters")),
            ("monitor_canceled", [id]) => {
                let (monitor, _) = monitor(id)?;
                self.monitors.remove(&monitor.0);
                Event::MonitorCanceled { monitor }
            }
            ("locked", params) => Event::Locked { lock: lock(params)? },
            ("stolen", params) => Event::Stolen { lock: lock(params)? },
            // Servers to come may tell more; what we do not know we did not ask for.
            _ => return Ok(()),
        };
        self.events.push_back(event);
        Ok(())
    }

    fn send(&mut self, message: Vec<u8>) {
        self.transmit.push_back(Outgoing::Ours(message));
    }

    fn request(&mut self, method: &'static str, params: &Json, pending: Pending) -> RequestId {
        let id = self.next_id;
        self.next_id += 1;
        self.send(message::request(method, params, id));
        self.pending.insert(id, pending);
        RequestId(id)
    }
}

/// A server without transaction history says zero.
pub(crate) fn known_transaction(uuid: Uuid) -> Option<Uuid> {
    (uuid != Uuid::ZERO).then_some(uuid)
}
