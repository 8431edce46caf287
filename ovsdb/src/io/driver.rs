//! The one task that owns a client's connection and mirror: bytes, commands and time in, state and outcomes out.
//!
//! ```text
//! Client ── Command ──▶ run ──▶ Mirror ──▶ bytes ──▶ ovsdb-server
//!    ▲                   │        ▲                      │
//!    └── watch<State> ◀──┴────────┴────────── bytes ◀────┘
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};

use super::client::{ClientConfig, State};
use super::remote::{Remote, Stream};
use crate::backoff::Backoff;
use crate::mirror::{Mirror, MirrorEvent, Ticket};
use crate::monitor::Interest;
use crate::outcome::{Outcome, TransactError};
use crate::transaction::Transaction;

type OutcomeSender = oneshot::Sender<Result<Outcome, TransactError>>;

/// What clients ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    Transact { transaction: Arc<Transaction>, deadline: Instant, reply: OutcomeSender },
    Lock(String),
}

/// Why serving a connection ended.
enum End {
    /// The last client is gone.
    Unwanted,
    /// The connection is of no use any more.
    Lost(String),
}

struct Driver {
    remote: Remote,
    config: Arc<ClientConfig>,
    commands: mpsc::Receiver<Command>,
    state: watch::Sender<State>,
    mirror: Mirror,
    replies: BTreeMap<Ticket, OutcomeSender>,
    backoff: Backoff,
    live_since: Option<Instant>,
}

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// Serves clients until the last of them is gone. The first attempt to connect is made at once.
pub(super) async fn run(
    remote: Remote,
    interest: Interest,
    config: Arc<ClientConfig>,
    commands: mpsc::Receiver<Command>,
    state: watch::Sender<State>,
) {
    let mirror = Mirror::new(&config.database, interest, config.session);
    let backoff = Backoff::new(config.backoff_first, config.backoff_limit);
    let mut driver = Driver {
        remote,
        config,
        commands,
        state,
        mirror,
        replies: BTreeMap::new(),
        backoff,
        live_since: None,
    };
    let mut not_before = Instant::now();
    loop {
        let stream = match driver.connect(not_before).await {
            Ok(stream) => stream,
            Err(End::Unwanted) => return,
            Err(End::Lost(reason)) => {
                not_before = driver.lost(&reason);
                continue;
            }
        };
        driver.mirror.handle_connected(Instant::now());
        match driver.serve(stream).await {
            End::Unwanted => return,
            End::Lost(reason) => not_before = driver.lost(&reason),
        }
    }
}

impl Driver {
    /// Notes a failure, and says when to try again.
    fn lost(&mut self, reason: &str) -> Instant {
        let first = self.state.borrow().live || self.state.borrow().error.is_none();
        // A server that lets us in and hangs up at once must not make us spin.
        if self.live_since.take().is_some_and(|since| since.elapsed() >= self.config.backoff_limit) {
            self.backoff.succeeded();
        }
        let wait = self.backoff.failed();
        if first {
            tracing::warn!(remote = %self.remote, error = %reason, "no connection to the database; trying again");
        } else {
            tracing::debug!(remote = %self.remote, error = %reason, ?wait, "still no connection to the database");
        }
        self.mirror.handle_disconnected(reason);
        self.state.send_modify(|state| {
            state.live = false;
            state.error = Some(reason.to_owned());
        });
        self.publish();
        Instant::now() + wait
    }

    /// Makes a connection, not before the given time, and meanwhile takes commands.
    async fn connect(&mut self, not_before: Instant) -> Result<Box<dyn Stream>, End> {
        let (remote, limit) = (self.remote.clone(), self.config.connect_timeout);
        let attempt = async move {
            sleep_until(not_before.into()).await;
            match timeout(limit, remote.connect()).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(End::Lost(format!("cannot connect to {remote}: {error}"))),
                Err(_) => Err(End::Lost(format!("cannot connect to {remote}: no answer within {limit:?}"))),
            }
        };
        tokio::pin!(attempt);
        loop {
            let due = self.mirror.poll_timeout();
            tokio::select! {
                result = &mut attempt => return result,
                command = self.commands.recv() => self.command(command)?,
                () = until(due) => {
                    // Without a connection only transactions can be over their time.
                    let _ = self.mirror.handle_timeout(Instant::now());
                }
            }
            self.publish();
        }
    }

    /// Moves bytes between a connection and the mirror until one of them fails.
    async fn serve(&mut self, stream: Box<dyn Stream>) -> End {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut incoming = vec![0; READ_BYTES];
        let mut outgoing = Vec::new();
        let mut written = 0;
        loop {
            if written == outgoing.len() {
                written = 0;
                outgoing = self.mirror.poll_transmit().unwrap_or_default();
            }
            let due = self.mirror.poll_timeout();
            let result = tokio::select! {
                read = reader.read(&mut incoming) => self.received(read, &incoming),
                wrote = writer.write(outgoing.get(written..).unwrap_or_default()), if written < outgoing.len() => {
                    match wrote {
                        Ok(0) => Err(End::Lost("the server takes nothing more".to_owned())),
                        Ok(bytes) => {
                            written += bytes;
                            Ok(())
                        }
                        Err(error) => Err(End::Lost(format!("cannot write: {error}"))),
                    }
                }
                command = self.commands.recv() => self.command(command),
                () = until(due) => {
                    // When we were kept from running, what the server said meanwhile is its sign of life.
                    match timeout(std::time::Duration::ZERO, reader.read(&mut incoming)).await {
                        Ok(read) => self.received(read, &incoming),
                        Err(_) => Ok(()),
                    }
                    .and_then(|()| {
                        let result = self.mirror.handle_timeout(Instant::now());
                        result.map_err(|error| End::Lost(error.to_string()))
                    })
                }
            };
            self.publish();
            if let Err(end) = result {
                return end;
            }
        }
    }

    fn received(&mut self, read: std::io::Result<usize>, incoming: &[u8]) -> Result<(), End> {
        match read {
            Ok(0) => Err(End::Lost("the server closed the connection".to_owned())),
            Ok(bytes) => self
                .mirror
                .handle_bytes(Instant::now(), incoming.get(..bytes).unwrap_or_default())
                .map_err(|error| End::Lost(error.to_string())),
            Err(error) => Err(End::Lost(format!("cannot read: {error}"))),
        }
    }

    fn command(&mut self, command: Option<Command>) -> Result<(), End> {
        match command.ok_or(End::Unwanted)? {
            Command::Transact { transaction, deadline, reply } => {
                let ticket = self.mirror.transact(transaction, deadline);
                self.replies.insert(ticket, reply);
            }
            Command::Lock(lock) => {
                self.mirror.lock(&lock);
                self.state.send_modify(|state| state.locks.clone_from(self.mirror.locks()));
            }
        }
        Ok(())
    }

    /// Tells clients what the mirror tells: the state first, so that who gets an outcome sees its effect.
    fn publish(&mut self) {
        let mut outcomes = Vec::new();
        let mut changed = false;
        while let Some(event) = self.mirror.poll_event() {
            match event {
                MirrorEvent::Synchronized { missing, .. } => {
                    self.live_since = Some(Instant::now());
                    for missing in &missing {
                        tracing::warn!(
                            table = %missing.table,
                            column = missing.column.as_deref().unwrap_or("all"),
                            "the database server lacks a column that we would read; it counts as empty",
                        );
                    }
                    self.state.send_modify(|state| {
                        state.replica = self.mirror.replica().clone();
                        state.live = true;
                        state.synchronizations += 1;
                        state.missing = missing;
                        state.error = None;
                    });
                }
                MirrorEvent::Changed(_) => changed = true,
                MirrorEvent::Lock { .. } => {
                    self.state.send_modify(|state| state.locks.clone_from(self.mirror.locks()));
                }
                MirrorEvent::Transaction { ticket, outcome } => outcomes.push((ticket, outcome)),
            }
        }
        if changed {
            self.state.send_modify(|state| state.replica = self.mirror.replica().clone());
        }
        for (ticket, outcome) in outcomes {
            if let Some(reply) = self.replies.remove(&ticket) {
                // Nobody waits for it any more: it took effect all the same, as `transact` says.
                let _ = reply.send(outcome);
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
