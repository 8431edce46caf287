//! `Client`: what one asks of a switch, as async methods. It owns no socket; it sends commands to the task that does.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::target::Target;
use super::task::{ClientEvent, Command, Task};
use crate::connection::{BundleCommitted, BundleError, Config, ConnectionError, SendError};
use crate::error::DecodeError;
use crate::flow::FlowStats;
use crate::group::GroupDesc;
use crate::message::{
    BundleFlags, ErrorMessage, Features, FlowStatsRequest, Message, MultipartReplyBody, MultipartRequestBody,
    PacketOut, Port, SwitchConfig,
};

/// Parts of multipart replies that may wait for the reader.
const PARTS_AHEAD: usize = 4;
/// Commands that may wait for the task.
const COMMANDS_AHEAD: usize = 64;
/// Events that may wait for the reader; when it does not keep up, nothing is read from the switch meanwhile.
const EVENTS_AHEAD: usize = 256;

/// A connection to a switch. Clones share it; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The socket could not be opened.
    #[error("cannot connect to {target}: {reason}; is ovs-vswitchd running and the bridge there?")]
    Connect {
        /// The address.
        target: Target,
        /// What the system said.
        reason: String,
    },
    /// The connection has ended.
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    /// The switch refused the request.
    #[error("the switch refused the request: {}", .0.code)]
    Refused(ErrorMessage),
    /// The reply cannot be read.
    #[error("the switch's reply cannot be read: {0}")]
    Undecodable(DecodeError),
    /// The request could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The bundle is not in force.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A reply of another type than was asked for.
    #[error("the switch answered with a message of type {0} instead")]
    WrongReply(u8),
}

impl ClientError {
    /// The connection is over: a new one is needed.
    pub fn is_disconnect(&self) -> bool {
        matches!(
            self,
            ClientError::Connect { .. }
                | ClientError::Connection(_)
                | ClientError::Send(SendError::Ended(_))
                | ClientError::Bundle(BundleError::Lost)
        )
    }
}

impl Client {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Client {
        Client { commands }
    }

    /// Connects, says HELLO and waits for the switch's. Events come out of the receiver until the connection ends: read
    /// them (or drop the receiver), also while an answer is waited for: a reader that does not keep up holds answers back
    /// too. What needs no answer is sent meanwhile.
    pub async fn connect(
        target: &Target,
        config: Config,
    ) -> Result<(Client, mpsc::Receiver<ClientEvent>), ClientError> {
        let stream = target
            .open()
            .await
            .map_err(|error| ClientError::Connect { target: target.clone(), reason: error.to_string() })?;
        let (commands, inbox) = mpsc::channel(COMMANDS_AHEAD);
        let (events, outbox) = mpsc::channel(EVENTS_AHEAD);
        let (ready, connected) = oneshot::channel();
        tokio::spawn(Task::new(stream, config, inbox, events, ready).run());
        connected.await.map_err(|_| ConnectionError::Closed)??;
        Ok((Client::new(commands), outbox))
    }

    /// Sends a request and waits for its one reply.
    pub async fn request(&self, message: Message) -> Result<Message, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Request { message, reply }).await?;
        answer.await.map_err(|_| ConnectionError::Closed)?
    }

    /// Sends a message without a reply. Errors come as [`ClientEvent::Error`] with the xid that this gives.
    pub async fn send(&self, message: Message) -> Result<crate::number::Xid, ClientError> {
        let (sent, xid) = oneshot::channel();
        self.command(Command::Send { message, sent }).await?;
        xid.await.map_err(|_| ConnectionError::Closed)?
    }

    /// Waits until everything sent so far is done or refused.
    pub async fn barrier(&self) -> Result<(), ClientError> {
        self.request(Message::BarrierRequest).await.map(drop)
    }

    /// What the bridge is.
    pub async fn features(&self) -> Result<Features, ClientError> {
        match self.request(Message::FeaturesRequest).await? {
            Message::FeaturesReply(features) => Ok(features),
            other => Err(ClientError::WrongReply(other.kind())),
        }
    }

    /// Asks for asynchronous messages: on a bridge's management socket Open vSwitch sends none until `miss_send_len` is
    /// above zero.
    pub async fn listen(&self) -> Result<(), ClientError> {
        self.send(Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 0xffff })).await.map(drop)
    }

    /// Starts a multipart request; its parts come one message at a time.
    pub async fn multipart(&self, body: MultipartRequestBody) -> Result<MultipartStream, ClientError> {
        let (parts, stream) = mpsc::channel(PARTS_AHEAD);
        self.command(Command::Multipart { body, parts }).await?;
        Ok(MultipartStream { parts: stream, done: false })
    }

    /// Calls `each` for every flow that the request covers; memory stays bounded however many there are.
    pub async fn dump_flows(
        &self,
        request: FlowStatsRequest,
        mut each: impl FnMut(FlowStats),
    ) -> Result<usize, ClientError> {
        let mut stream = self.multipart(MultipartRequestBody::Flow(request)).await?;
        let mut count = 0;
        while let Some(part) = stream.next().await? {
            let MultipartReplyBody::Flow(flows) = part else { return Err(ClientError::WrongReply(19)) };
            count += flows.len();
            flows.into_iter().for_each(&mut each);
        }
        Ok(count)
    }

    /// Every group with its buckets.
    pub async fn dump_groups(&self) -> Result<Vec<GroupDesc>, ClientError> {
        let mut stream = self.multipart(MultipartRequestBody::GroupDesc).await?;
        let mut all = Vec::new();
        while let Some(part) = stream.next().await? {
            let MultipartReplyBody::GroupDesc(groups) = part else { return Err(ClientError::WrongReply(19)) };
            all.extend(groups);
        }
        Ok(all)
    }

    /// Every port.
    pub async fn ports(&self) -> Result<Vec<Port>, ClientError> {
        let mut stream = self.multipart(MultipartRequestBody::PortDesc).await?;
        let mut all = Vec::new();
        while let Some(part) = stream.next().await? {
            let MultipartReplyBody::PortDesc(ports) = part else { return Err(ClientError::WrongReply(19)) };
            all.extend(ports);
        }
        Ok(all)
    }

    /// Sends a packet.
    pub async fn packet_out(&self, packet: PacketOut) -> Result<(), ClientError> {
        self.send(Message::PacketOut(Box::new(packet))).await.map(drop)
    }

    /// Applies messages (flow-mods, group-mods, packet-outs) as one ordered, atomic bundle and waits for the commit.
    ///
    /// The messages are taken from the iterator as fast as the switch reads them. On [`BundleError::Message`] nothing is
    /// in force, and its index counts the messages from 0. Meters cannot be bundled: send them before.
    pub async fn apply_bundle<I>(&self, messages: I) -> Result<BundleCommitted, ClientError>
    where
        I: IntoIterator<Item = Message>,
        I::IntoIter: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let messages = Box::new(messages.into_iter());
        let flags = BundleFlags::ATOMIC | BundleFlags::ORDERED;
        self.command(Command::Bundle { messages, flags, reply }).await?;
        answer.await.map_err(|_| ClientError::Bundle(BundleError::Lost))?
    }

    /// Applies messages as several bundles of at most `limit` messages, one after the other. Each is atomic; an error says
    /// how many messages of earlier bundles are in force, through `committed`.
    pub async fn apply_in_bundles(
        &self,
        messages: impl IntoIterator<Item = Message>,
        limit: usize,
        committed: &mut usize,
    ) -> Result<(), ClientError> {
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let part: Vec<Message> = messages.by_ref().take(limit.max(1)).collect();
            *committed += self.apply_bundle(part).await?.messages;
        }
        Ok(())
    }

    /// Waits at most so long for anything this client does.
    pub async fn within<T>(
        limit: Duration,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Connection(ConnectionError::Unresponsive(limit))),
        }
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands.send(command).await.map_err(|_| ClientError::Connection(ConnectionError::Closed))
    }
}

/// The parts of a multipart reply.
#[derive(Debug)]
pub struct MultipartStream {
    parts: mpsc::Receiver<Result<(MultipartReplyBody, bool), ClientError>>,
    done: bool,
}

impl MultipartStream {
    /// The next part; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<MultipartReplyBody>, ClientError> {
        if self.done {
            return Ok(None);
        }
        match self.parts.recv().await {
            Some(Ok((body, more))) => {
                self.done = !more;
                Ok(Some(body))
            }
            Some(Err(error)) => {
                self.done = true;
                Err(error)
            }
            None => {
                self.done = true;
                Err(ClientError::Connection(ConnectionError::Closed))
            }
        }
    }
}
