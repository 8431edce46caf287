//! The sans-IO side of an OpenFlow connection: bytes and time go in, bytes and events come out. It opens no socket, reads
//! no clock and starts no task.
//!
//! ```text
//!   handle_bytes ─▶ ┌────────────┐ ─▶ poll_event      Connected, Reply, Part, Error, Barrier, Bundle, Async
//! handle_timeout ─▶ │ Connection │ ─▶ poll_transmit   bytes for the switch
//!  request, send ─▶ └────────────┘ ─▶ poll_timeout    when to call handle_timeout
//! ```

mod backoff;
mod bundle;
mod keepalive;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

pub use backoff::Backoff;
use bundle::Bundles;
pub use bundle::{BundleCommitted, BundleError, BundleOutcome};
use keepalive::Keepalive;

use crate::error::{DecodeError, EncodeError};
use crate::message::{
    ErrorCode, ErrorMessage, Hello, Message, MultipartReplyBody, MultipartRequest, MultipartRequestBody,
    VERSION,
};
use crate::number::{BundleId, Xid};

/// Limits and times.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long the switch may take for its HELLO.
    pub hello_timeout: Duration,
    /// Silence after which an echo request asks whether the switch is there.
    pub echo_interval: Duration,
    /// Silence after that echo request until the connection counts as dead.
    pub echo_timeout: Duration,
    /// Requests that may wait for a reply at once.
    pub max_pending: usize,
    /// Bytes that may wait for transmission before [`Connection::is_writable`] says no.
    pub transmit_watermark: usize,
    /// Bytes that one multipart reply may take in all.
    pub max_multipart_bytes: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            hello_timeout: Duration::from_secs(5),
            echo_interval: Duration::from_secs(5),
            echo_timeout: Duration::from_secs(10),
            max_pending: 1024,
            transmit_watermark: 256 * 1024,
            max_multipart_bytes: 4 << 30,
        }
    }
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The HELLOs agree on OpenFlow 1.3: requests may go.
    Connected,
    /// The one reply to a request.
    Reply {
        /// The request's xid.
        xid: Xid,
        /// The reply.
        message: Message,
    },
    /// One message of a multipart reply. Nothing is collected here: 100,000 flows never stand in memory together.
    Part {
        /// The request's xid.
        xid: Xid,
        /// What it says.
        body: MultipartReplyBody,
        /// More follows.
        more: bool,
    },
    /// Every message before the barrier has been done or refused.
    Barrier {
        /// The ticket that [`Connection::barrier`] gave.
        xid: Xid,
    },
    /// The switch refused a request; a reply does not follow.
    Error {
        /// The refused request's xid.
        xid: Xid,
        /// Why and what.
        error: ErrorMessage,
        /// The request was one that waited for a reply.
        was_pending: bool,
    },
    /// A reply that cannot be read; the request counts as failed.
    Undecodable {
        /// Its xid.
        xid: Xid,
        /// Where and why.
        error: DecodeError,
    },
    /// A bundle is committed or gone.
    Bundle {
        /// Which.
        bundle: BundleId,
        /// How it ended.
        outcome: BundleOutcome,
    },
    /// What nobody asked for: packet-in, port-status, flow-removed, flow monitor updates.
    Async(Message),
}

/// Why a connection ended. After one of these, nothing works any more: make a new connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// No version in common.
    #[error(
        "the switch offers OpenFlow version {offered:#04x} at most and not 1.3 (0x04); set protocols=OpenFlow13 on the bridge"
    )]
    Version {
        /// The highest version that it offers.
        offered: u8,
    },
    /// The first message was not a HELLO.
    #[error("the peer's first message has type {kind}, not HELLO: this is not an OpenFlow switch")]
    NoHello {
        /// Its type.
        kind: u8,
    },
    /// Bytes that are no message: the stream is out of step.
    #[error("the byte stream is broken: {0}")]
    Framing(DecodeError),
    /// No HELLO in time.
    #[error("no HELLO within {0:?}; is this socket an OpenFlow switch?")]
    HelloTimeout(Duration),
    /// No answer to an echo request.
    #[error("the switch has been silent for {0:?} and does not answer echo requests")]
    Unresponsive(Duration),
    /// The other end closed.
    #[error("the switch closed the connection")]
    Closed,
    /// The transport failed.
    #[error("the transport failed: {0}")]
    Transport(String),
}

/// Why a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Too many requests wait for replies.
    #[error("{0} requests already wait for replies; wait for one of them")]
    WindowFull(usize),
    /// The message does not fit on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The connection has ended.
    #[error("the connection has ended: {0}")]
    Ended(ConnectionError),
    /// Not this message in this place.
    #[error("no bundle {0} is open")]
    NoSuchBundle(BundleId),
}

/// One connection's state.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    state: State,
    keepalive: Keepalive,
    received: BytesMut,
    transmit: BytesMut,
    events: VecDeque<Event>,
    pending: HashMap<Xid, Pending>,
    bundles: Bundles,
    next_xid: u32,
}

#[derive(Debug)]
enum State {
    /// Waits for the switch's HELLO until then.
    Hello { until: Instant },
    /// Both have said HELLO.
    Ready,
    /// Over.
    Ended(ConnectionError),
}

#[derive(Clone, Copy, Debug)]
enum Pending {
    /// One message answers.
    Reply,
    /// A multipart reply answers; so many bytes of it came.
    Multipart {
        bytes: u64,
    },
    Barrier,
    /// A bundle's own messages: `bundle` takes the answer.
    Bundle(BundleId),
}

impl Connection {
    /// A new connection, whose HELLO waits for transmission.
    pub fn new(config: Config, now: Instant) -> Connection {
        let mut connection = Connection {
            state: State::Hello { until: now + config.hello_timeout },
            keepalive: Keepalive::new(now),
            config,
            received: BytesMut::new(),
            transmit: BytesMut::new(),
            events: VecDeque::new(),
            pending: HashMap::new(),
            bundles: Bundles::default(),
            next_xid: 1,
        };
        let hello = connection.put(&Message::Hello(Hello::default()));
        debug_assert!(hello.is_ok(), "a HELLO always fits");
        connection
    }

    /// Are the HELLOs done?
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Why it ended, if it did.
    pub fn ended(&self) -> Option<&ConnectionError> {
        if let State::Ended(error) = &self.state { Some(error) } else { None }
    }

    /// Sends a request that one message answers ([`Event::Reply`]) or several ([`Event::Part`], for multipart requests).
    pub fn request(&mut self, message: &Message) -> Result<Xid, SendError> {
        self.check_window()?;
        let pending = match message {
            Message::MultipartRequest(_) => Pending::Multipart { bytes: 0 },
            Message::BarrierRequest => Pending::Barrier,
            _ => Pending::Reply,
        };
        let xid = self.put(message)?;
        self.pending.insert(xid, pending);
        Ok(xid)
    }

    /// Asks for a multipart reply.
    pub fn multipart(&mut self, body: MultipartRequestBody) -> Result<Xid, SendError> {
        self.request(&Message::MultipartRequest(MultipartRequest::new(body)))
    }

    /// Sends a message that nothing answers unless the switch refuses it ([`Event::Error`] with its xid).
    pub fn send(&mut self, message: &Message) -> Result<Xid, SendError> {
        self.check_ended()?;
        self.put(message)
    }

    /// Asks the switch to say when everything sent so far is done ([`Event::Barrier`] with this ticket).
    pub fn barrier(&mut self) -> Result<Xid, SendError> {
        self.request(&Message::BarrierRequest)
    }

    /// Can more be sent without piling up? A slow switch makes this false; go on when [`Connection::poll_transmit`] has
    /// given its bytes away.
    pub fn is_writable(&self) -> bool {
        self.is_connected() && self.transmit.len() < self.config.transmit_watermark
    }

    /// Requests that wait for replies.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Nobody waits for this reply any more: what still comes of it is dropped.
    pub fn forget(&mut self, xid: Xid) {
        self.pending.remove(&xid);
    }

    /// Bytes for the switch.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.transmit.is_empty() {
            return None;
        }
        Some(self.transmit.split().freeze())
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Connection::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Hello { until } => Some(*until),
            State::Ready => Some(self.keepalive.deadline(&self.config)),
            State::Ended(_) => None,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        match &self.state {
            State::Hello { until } if now >= *until => {
                Err(self.end(ConnectionError::HelloTimeout(self.config.hello_timeout)))
            }
            State::Hello { .. } => Ok(()),
            State::Ready => match self.keepalive.check(&self.config, now) {
                keepalive::Verdict::Alive => Ok(()),
                keepalive::Verdict::Ask => {
                    // An echo request always fits, and its reply is taken by the keepalive alone.
                    let _ = self.put(&Message::EchoRequest(Bytes::new()));
                    Ok(())
                }
                keepalive::Verdict::Dead(silence) => Err(self.end(ConnectionError::Unresponsive(silence))),
            },
            State::Ended(error) => Err(error.clone()),
        }
    }

    /// The transport was not read until now, so its silence meant nothing.
    pub fn handle_pause(&mut self, now: Instant) {
        self.keepalive.heard(now);
    }

    /// The transport gave bytes, in pieces of any size.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.check_ended().map_err(|_| self.ended().cloned().unwrap_or(ConnectionError::Closed))?;
        self.keepalive.heard(now);
        self.received.extend_from_slice(bytes);
        loop {
            let length = match Message::length(&self.received) {
                Ok(Some(length)) if length <= self.received.len() => length,
                Ok(_) => return Ok(()),
                Err(error) => return Err(self.end(ConnectionError::Framing(error))),
            };
            let message = self.received.split_to(length);
            self.handle_message(&message)?;
        }
    }

    /// The transport is gone, with an error or without.
    pub fn handle_close(&mut self, reason: Option<String>) -> ConnectionError {
        match self.ended() {
            Some(error) => error.clone(),
            None => self.end(reason.map_or(ConnectionError::Closed, ConnectionError::Transport)),
        }
    }

    fn handle_message(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let xid = Xid(u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
        let kind = bytes[1];
        if matches!(self.state, State::Hello { .. }) {
            return self.handle_hello(kind, bytes);
        }
        if bytes[0] != VERSION && kind != 0 {
            let error = DecodeError::new(0, crate::error::DecodeErrorKind::Version(bytes[0]));
            return Err(self.end(ConnectionError::Framing(error)));
        }
        let message = match Message::decode(bytes) {
            Ok((_, message)) => message,
            Err(error) => {
                self.pending.remove(&xid);
                self.events.push_back(Event::Undecodable { xid, error });
                return Ok(());
            }
        };
        self.dispatch(xid, message, bytes.len());
        Ok(())
    }

    fn handle_hello(&mut self, kind: u8, bytes: &[u8]) -> Result<(), ConnectionError> {
        let hello = match Message::decode(bytes) {
            Ok((_, Message::Hello(hello))) => hello,
            // Elements that cannot be read do not matter: the header's version counts.
            Err(_) if kind == 0 => Hello { version: bytes[0], elements: Vec::new() },
            _ => return Err(self.end(ConnectionError::NoHello { kind })),
        };
        if !hello.speaks(VERSION) {
            let data = Bytes::from_static(b"only OpenFlow 1.3 is spoken here");
            let _ = self.put(&Message::Error(ErrorMessage { code: ErrorCode::HELLO_INCOMPATIBLE, data }));
            return Err(self.end(ConnectionError::Version { offered: hello.version }));
        }
        self.state = State::Ready;
        self.events.push_back(Event::Connected);
        Ok(())
    }

    fn dispatch(&mut self, xid: Xid, message: Message, length: usize) {
        match message {
            Message::EchoRequest(data) => {
                let reply = Message::EchoReply(data);
                // An echo reply is no longer than the request, which fitted.
                let _ = reply.encode(xid, &mut self.transmit);
            }
            Message::EchoReply(_) if !self.pending.contains_key(&xid) => {}
            Message::Hello(_) => {}
            Message::Error(error) => self.handle_error(xid, error),
            Message::BundleControl(control) => {
                self.pending.remove(&xid);
                self.bundle_answered(control.bundle, Ok(control.kind));
            }
            Message::BarrierReply => match self.pending.remove(&xid) {
                Some(Pending::Bundle(bundle)) => self.bundle_confirmed(bundle),
                Some(_) => self.events.push_back(Event::Barrier { xid }),
                None => {}
            },
            Message::MultipartReply(reply) => self.handle_part(xid, reply.more, reply.body, length),
            reply => match self.pending.remove(&xid) {
                Some(Pending::Reply) => self.events.push_back(Event::Reply { xid, message: reply }),
                Some(other) => {
                    // Its own reply is still to come.
                    self.pending.insert(xid, other);
                    self.events.push_back(Event::Async(reply));
                }
                None => self.events.push_back(Event::Async(reply)),
            },
        }
    }

    fn handle_part(&mut self, xid: Xid, more: bool, body: MultipartReplyBody, length: usize) {
        let limit = self.config.max_multipart_bytes;
        match self.pending.get_mut(&xid) {
            Some(Pending::Multipart { bytes }) => {
                *bytes += length as u64;
                if *bytes > limit {
                    self.pending.remove(&xid);
                    let error = DecodeError::bad(0, "length of a multipart reply that never ends", limit);
                    self.events.push_back(Event::Undecodable { xid, error });
                    return;
                }
                if !more {
                    self.pending.remove(&xid);
                }
                self.events.push_back(Event::Part { xid, body, more });
            }
            // Updates of a flow monitor come unasked; late parts of a forgotten request do too, and those nobody wants.
            _ if matches!(body, MultipartReplyBody::FlowMonitor(_)) => {
                let reply = crate::message::MultipartReply { more, body };
                self.events.push_back(Event::Async(Message::MultipartReply(reply)));
            }
            _ => {}
        }
    }

    fn handle_error(&mut self, xid: Xid, error: ErrorMessage) {
        if self.bundle_refused(xid, &error) {
            return;
        }
        let was_pending = self.pending.remove(&xid).is_some();
        self.events.push_back(Event::Error { xid, error, was_pending });
    }

    fn allocate_xid(&mut self) -> Xid {
        let xid = Xid(self.next_xid);
        self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
        xid
    }

    fn put(&mut self, message: &Message) -> Result<Xid, SendError> {
        let xid = self.allocate_xid();
        message.encode(xid, &mut self.transmit)?;
        Ok(xid)
    }

    fn check_ended(&self) -> Result<(), SendError> {
        self.ended().map_or(Ok(()), |error| Err(SendError::Ended(error.clone())))
    }

    fn check_window(&self) -> Result<(), SendError> {
        self.check_ended()?;
        if self.pending.len() >= self.config.max_pending {
            return Err(SendError::WindowFull(self.pending.len()));
        }
        Ok(())
    }

    fn end(&mut self, error: ConnectionError) -> ConnectionError {
        self.state = State::Ended(error.clone());
        self.received.clear();
        self.received.advance(0);
        error
    }
}
