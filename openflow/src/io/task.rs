//! The task that owns a socket and its `Connection`: it moves bytes, hands answers to those who wait, fills bundles as the
//! switch reads them. It decides nothing about protocol.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::client::ClientError;
use super::target::Transport;
use crate::connection::{BundleCommitted, BundleError, Config, Connection, ConnectionError, Event};
use crate::message::{BundleFlags, ErrorMessage, Message, MultipartReplyBody, MultipartRequestBody};
use crate::number::{BundleId, Xid};

/// What a connection tells beyond the answers to its requests.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// Packet-in, port-status, flow-removed, flow monitor updates.
    Async(Message),
    /// The switch refused a message that was sent without waiting for an answer.
    Error {
        /// The message's xid.
        xid: Xid,
        /// Why.
        error: ErrorMessage,
    },
    /// The last event: connect again.
    Disconnected(ConnectionError),
}

type Answer<T> = oneshot::Sender<Result<T, ClientError>>;
type Part = Result<(MultipartReplyBody, bool), ClientError>;
type Parts = mpsc::Sender<Part>;

#[allow(missing_debug_implementations)]
pub(super) enum Command {
    Request {
        message: Message,
        reply: Answer<Message>,
    },
    Send {
        message: Message,
        sent: Answer<Xid>,
    },
    Multipart {
        body: MultipartRequestBody,
        parts: Parts,
    },
    Bundle {
        messages: Box<dyn Iterator<Item = Message> + Send>,
        flags: BundleFlags,
        reply: Answer<BundleCommitted>,
    },
}

/// What its reader has no room for yet. Until it has, nothing more is read from the socket; all else goes on, for the reader
/// may be waiting for us to take its command.
enum Undelivered {
    Event(ClientEvent),
    Part { xid: Xid, part: Part, more: bool },
}

struct Filling {
    id: BundleId,
    messages: Box<dyn Iterator<Item = Message> + Send>,
}

pub(super) struct Task {
    reader: ReadHalf<Box<dyn Transport>>,
    writer: WriteHalf<Box<dyn Transport>>,
    connection: Connection,
    inbox: mpsc::Receiver<Command>,
    events: mpsc::Sender<ClientEvent>,
    ready: Option<oneshot::Sender<Result<(), ConnectionError>>>,
    replies: HashMap<Xid, Answer<Message>>,
    streams: HashMap<Xid, Parts>,
    bundles: HashMap<BundleId, Answer<BundleCommitted>>,
    filling: Vec<Filling>,
    undelivered: Option<Undelivered>,
    input: Box<[u8]>,
    output: Bytes,
}

/// Why the loop stops.
enum Stop {
    /// Every client is gone.
    Abandoned,
    Failed(ConnectionError),
}

impl From<ConnectionError> for Stop {
    fn from(error: ConnectionError) -> Stop {
        Stop::Failed(error)
    }
}

impl Task {
    pub(super) fn new(
        stream: Box<dyn Transport>,
        config: Config,
        inbox: mpsc::Receiver<Command>,
        events: mpsc::Sender<ClientEvent>,
        ready: oneshot::Sender<Result<(), ConnectionError>>,
    ) -> Task {
        let (reader, writer) = split(stream);
        Task {
            reader,
            writer,
            connection: Connection::new(config, Instant::now()),
            inbox,
            events,
            ready: Some(ready),
            replies: HashMap::new(),
            streams: HashMap::new(),
            bundles: HashMap::new(),
            filling: Vec::new(),
            undelivered: None,
            input: vec![0; 64 * 1024].into(),
            output: Bytes::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let error = loop {
            match self.turn().await {
                Ok(()) => {}
                Err(Stop::Abandoned) => break ConnectionError::Closed,
                Err(Stop::Failed(error)) => break error,
            }
        };
        tracing::debug!(%error, "openflow connection ended");
        // A version error has an explanation for the switch waiting.
        if let Some(last) = self.connection.poll_transmit() {
            let _ = self.writer.write_all(&last).await;
        }
        self.settle(error).await;
    }

    async fn turn(&mut self) -> Result<(), Stop> {
        self.fill_bundles();
        self.deliver();
        if self.output.is_empty() {
            self.output = self.connection.poll_transmit().unwrap_or_default();
        }
        let wake = self.connection.poll_timeout().map(tokio::time::Instant::from_std);
        let is_read = self.undelivered.is_none();
        tokio::select! {
            () = room(self.undelivered.as_ref(), &self.events, &self.streams) => {}
            read = self.reader.read(&mut self.input), if is_read => {
                let count = read.map_err(|error| self.failed(&error))?;
                if count == 0 {
                    return Err(self.connection.handle_close(None).into());
                }
                self.connection.handle_bytes(Instant::now(), &self.input[..count])?;
            }
            written = self.writer.write(&self.output), if !self.output.is_empty() => {
                match written {
                    Ok(0) => return Err(self.connection.handle_close(None).into()),
                    Ok(count) => self.output.advance(count),
                    Err(error) => return Err(self.failed(&error).into()),
                }
            }
            command = self.inbox.recv(), if self.connection.is_connected() && self.output.len() < 1 << 20 => {
                match command {
                    Some(command) => self.obey(command),
                    None => return Err(Stop::Abandoned),
                }
            }
            // Who is not read says nothing.
            () = sleep_until(wake), if is_read => self.connection.handle_timeout(Instant::now())?,
        }
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) -> ConnectionError {
        self.connection.handle_close(Some(error.to_string()))
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Request { message, reply } => match self.connection.request(&message) {
                Ok(xid) => {
                    self.replies.insert(xid, reply);
                }
                Err(error) => answer(reply, Err(error.into())),
            },
            Command::Send { message, sent } => {
                let result = self.connection.send(&message).map_err(ClientError::from);
                answer(sent, result);
            }
            Command::Multipart { body, parts } => match self.connection.multipart(body) {
                Ok(xid) => {
                    self.streams.insert(xid, parts);
                }
                Err(error) => {
                    // The channel is new and has room.
                    let _ = parts.try_send(Err(error.into()));
                }
            },
            Command::Bundle { messages, flags, reply } => match self.connection.open_bundle(flags) {
                Ok(id) => {
                    self.bundles.insert(id, reply);
                    self.filling.push(Filling { id, messages });
                }
                Err(error) => answer(reply, Err(error.into())),
            },
        }
    }

    /// Moves messages from iterators to the connection while the switch keeps up.
    fn fill_bundles(&mut self) {
        while let Some(filling) = self.filling.first_mut() {
            let id = filling.id;
            while self.connection.is_writable() && self.connection.bundle_is_open(id) {
                let Some(message) = filling.messages.next() else {
                    self.filling.remove(0);
                    if self.connection.finish_bundle(id).is_err() {
                        tracing::debug!(bundle = id.0, "the connection ended under a bundle");
                    }
                    break;
                };
                if let Err(error) = self.connection.add_to_bundle(id, message) {
                    if let Some(reply) = self.bundles.remove(&id) {
                        answer(reply, Err(error.into()));
                    }
                    let _ = self.connection.discard_bundle(id);
                }
            }
            match self.filling.first() {
                Some(first) if first.id == id && !self.connection.bundle_is_open(id) => {
                    self.filling.remove(0);
                }
                Some(first) if first.id == id => return,
                _ => {}
            }
        }
    }

    /// Hands out what happened, as far as there is room.
    fn deliver(&mut self) {
        if let Some(undelivered) = self.undelivered.take() {
            self.hand_out(undelivered);
            if self.undelivered.is_none() {
                self.connection.handle_pause(Instant::now());
            }
        }
        while self.undelivered.is_none() {
            let Some(event) = self.connection.poll_event() else { return };
            self.tell(event);
        }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Connected => {
                if let Some(ready) = self.ready.take() {
                    let _ = ready.send(Ok(()));
                }
            }
            Event::Reply { xid, message } => {
                if let Some(reply) = self.replies.remove(&xid) {
                    answer(reply, Ok(message));
                }
            }
            Event::Barrier { xid } => {
                if let Some(reply) = self.replies.remove(&xid) {
                    answer(reply, Ok(Message::BarrierReply));
                }
            }
            Event::Part { xid, body, more } => {
                self.hand_out(Undelivered::Part { xid, part: Ok((body, more)), more });
            }
            Event::Error { xid, error, .. } => {
                if let Some(reply) = self.replies.remove(&xid) {
                    answer(reply, Err(ClientError::Refused(error)));
                } else if self.streams.contains_key(&xid) {
                    let part = Err(ClientError::Refused(error));
                    self.hand_out(Undelivered::Part { xid, part, more: false });
                } else {
                    self.hand_out(Undelivered::Event(ClientEvent::Error { xid, error }));
                }
            }
            Event::Undecodable { xid, error } => {
                tracing::warn!(xid = xid.0, %error, "a message of the switch cannot be read");
                if let Some(reply) = self.replies.remove(&xid) {
                    answer(reply, Err(ClientError::Undecodable(error)));
                } else {
                    let part = Err(ClientError::Undecodable(error));
                    self.hand_out(Undelivered::Part { xid, part, more: false });
                }
            }
            Event::Bundle { bundle, outcome } => {
                if let Some(reply) = self.bundles.remove(&bundle) {
                    answer(reply, outcome.map_err(ClientError::from));
                }
            }
            Event::Async(message) => self.hand_out(Undelivered::Event(ClientEvent::Async(message))),
        }
    }

    /// To its reader, or it waits for room.
    fn hand_out(&mut self, what: Undelivered) {
        match what {
            Undelivered::Event(event) => {
                if let Err(TrySendError::Full(event)) = self.events.try_send(event) {
                    self.undelivered = Some(Undelivered::Event(event));
                }
            }
            Undelivered::Part { xid, part, more } => {
                let Some(parts) = self.streams.get(&xid) else { return };
                match parts.try_send(part) {
                    Ok(()) if more => {}
                    Err(TrySendError::Full(part)) => {
                        self.undelivered = Some(Undelivered::Part { xid, part, more });
                    }
                    Ok(()) | Err(TrySendError::Closed(_)) => {
                        self.streams.remove(&xid);
                        self.connection.forget(xid);
                    }
                }
            }
        }
    }

    /// Everybody who waits hears of the end.
    async fn settle(mut self, error: ConnectionError) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(error.clone()));
        }
        for (_, reply) in self.replies.drain() {
            answer(reply, Err(error.clone().into()));
        }
        for (_, parts) in self.streams.drain() {
            let _ = parts.try_send(Err(error.clone().into()));
        }
        for (id, lost) in self.connection.lost_bundles() {
            if let Some(reply) = self.bundles.remove(&id) {
                answer(reply, Err(lost.into()));
            }
        }
        for (_, reply) in self.bundles.drain() {
            answer(reply, Err(BundleError::Lost.into()));
        }
        if let Some(Undelivered::Event(event)) = self.undelivered.take() {
            let _ = self.events.send(event).await;
        }
        let _ = self.events.send(ClientEvent::Disconnected(error)).await;
    }
}

/// Ends when the reader of what waits has room, or is gone; never when nothing waits.
async fn room(
    undelivered: Option<&Undelivered>,
    events: &mpsc::Sender<ClientEvent>,
    streams: &HashMap<Xid, Parts>,
) {
    match undelivered {
        Some(Undelivered::Event(_)) => drop(events.reserve().await),
        Some(Undelivered::Part { xid, .. }) => {
            if let Some(parts) = streams.get(xid) {
                drop(parts.reserve().await);
            }
        }
        None => std::future::pending().await,
    }
}

/// Whoever asked may have stopped waiting: that is no error.
fn answer<T>(to: Answer<T>, result: Result<T, ClientError>) {
    let _ = to.send(result);
}

async fn sleep_until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
