//! The streams to the controllers: dials all of them, carries what they say in and what they are told out. It must not know
//! what a delta means, nor which controller leads.
//!
//! ```text
//!   addresses ─▶ one dialler each ─▶ Event ─▶ owner
//!                     ▲ one queue per stream
//!                     └── router ◀── StreamCommand ◀── owner
//! ```
//!
//! The router never waits: a controller that does not take what it is told loses its stream, and the others do not notice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::causes::with_sources;
use api::generated::ferrule::v1alpha1 as wire;
use ovsdb::Backoff;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::event::{Event, Session};
use crate::insight::Insight;
use crate::owner::StreamCommand;

/// How to prove who we are, and whom to believe.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The authorities of the controllers' certificates, one or several; read again at every connection.
    pub authority: Option<PathBuf>,
    /// The name in their certificate.
    pub name: String,
    /// Our token; read again at every connection.
    pub token: Option<PathBuf>,
}

/// Why there is no stream, or no longer.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("no CA for the controllers' certificate; give --controller-ca")]
    NoAuthority,
    #[error("no token to prove this node's identity; give --token-file")]
    NoToken,
    #[error("cannot read {path}: {error}", path = path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Client(#[from] api::client::ClientError),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("refused: {0}")]
    Refused(String),
    #[error("the controller ended the stream: {0}")]
    Ended(String),
    #[error("left: {0}")]
    Left(String),
    #[error("it does not take what it is told; is the controller hanging?")]
    Stalled,
    #[error("the agent ends")]
    Agent,
}

/// How long a session must last for the next failure not to count on top of earlier ones.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// Messages to a controller that wait for the network.
const OUTBOX: usize = 64;
/// Messages to a controller that wait for their turn; with more its stream is given up.
const QUEUE: usize = 1024;

/// What all diallers share.
#[derive(Debug)]
struct Shared {
    credentials: Credentials,
    events: mpsc::Sender<Event>,
    insight: Insight,
    sessions: AtomicU64,
    queues: Mutex<BTreeMap<Session, mpsc::Sender<StreamCommand>>>,
    failed: Arc<Notify>,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, BTreeMap<Session, mpsc::Sender<StreamCommand>>> {
        // What panicked while it held the lock left the map whole: each use is one insertion, look-up or removal.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self, command: StreamCommand) {
        let (StreamCommand::Send(session, _) | StreamCommand::Leave(session, _)) = &command;
        let session = *session;
        let mut queues = self.queues();
        if let Some(queue) = queues.get(&session)
            && queue.try_send(command).is_err()
        {
            queues.remove(&session);
        }
    }
}

/// Runs until the owner is gone. `failed` is told whenever a controller was not reached; `random` gives numbers in 0..1:
/// agents must not dial in step.
pub async fn run(
    credentials: Credentials,
    mut addresses: watch::Receiver<BTreeSet<String>>,
    mut commands: mpsc::Receiver<StreamCommand>,
    events: mpsc::Sender<Event>,
    insight: Insight,
    failed: Arc<Notify>,
    random: fn() -> f64,
) {
    let shared = Arc::new(Shared {
        credentials,
        events,
        insight,
        sessions: AtomicU64::new(1),
        queues: Mutex::default(),
        failed,
    });
    let mut diallers = JoinSet::new();
    let mut dialled = BTreeMap::new();
    addresses.mark_changed();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => shared.route(command),
                None => return,
            },
            changed = addresses.changed() => {
                if changed.is_err() {
                    // Nobody looks for controllers any more: those that are known stay.
                    while let Some(command) = commands.recv().await {
                        shared.route(command);
                    }
                    return;
                }
                let wanted = addresses.borrow_and_update().clone();
                dialled.retain(|_, task: &mut tokio::task::AbortHandle| !task.is_finished());
                for address in &wanted {
                    if !dialled.contains_key(address) {
                        let dial = dial(address.clone(), Arc::clone(&shared), addresses.clone(), random);
                        dialled.insert(address.clone(), diallers.spawn(dial));
                    }
                }
                // The owner may be waiting for us.
                let events = shared.events.clone();
                tokio::spawn(async move { events.send(Event::Controllers(wanted)).await });
            }
            Some(_) = diallers.join_next() => {}
        }
    }
}

/// Keeps a stream to one controller, until it is no longer among the addresses and its stream has ended.
async fn dial(
    address: String,
    shared: Arc<Shared>,
    mut addresses: watch::Receiver<BTreeSet<String>>,
    random: fn() -> f64,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while addresses.borrow_and_update().contains(&address) {
        let began = Instant::now();
        let session = Session(shared.sessions.fetch_add(1, Ordering::Relaxed));
        let (queue, commands) = mpsc::channel(QUEUE);
        shared.queues().insert(session, queue);
        let link = Link { session, shared: &shared, address: &address };
        let error = match link.serve(commands).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        shared.queues().remove(&session);
        if matches!(error, StreamError::Agent) {
            return;
        }
        if began.elapsed() > GOOD_SESSION {
            backoff.succeeded();
        }
        let closed = Event::StreamClosed { session, address: address.clone(), problem: with_sources(&error) };
        if shared.events.send(closed).await.is_err() {
            return;
        }
        shared.failed.notify_one();
        let wait = backoff.failed().mul_f64(0.5 + random().clamp(0.0, 1.0) / 2.0);
        tokio::time::sleep(wait).await;
    }
}

struct Link<'a> {
    session: Session,
    shared: &'a Shared,
    address: &'a str,
}

enum Never {}

impl Link<'_> {
    async fn serve(&self, mut commands: mpsc::Receiver<StreamCommand>) -> Result<Never, StreamError> {
        let credentials = &self.shared.credentials;
        let authority = read(credentials.authority.as_ref().ok_or(StreamError::NoAuthority)?).await?;
        let token = read(credentials.token.as_ref().ok_or(StreamError::NoToken)?).await?;
        let token = String::from_utf8_lossy(&token).into_owned();
        let endpoint = api::client::endpoint(self.address, &authority, &credentials.name)?;
        let channel = endpoint.connect().await.map_err(|error| StreamError::Connect(with_sources(&error)))?;
        let mut client = api::client::agents(channel, &token)?;

        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        // The greeting must be on its way before the controller answers the call.
        self.tell(Event::StreamOpened(self.session, self.address.to_owned())).await?;
        let call = client.attach(ReceiverStream::new(outgoing));
        tokio::pin!(call);
        let mut incoming = loop {
            tokio::select! {
                answer = &mut call => {
                    let answer = answer.map_err(|status| StreamError::Refused(said(&status)))?;
                    tracing::info!(controller = self.address, "connected");
                    break answer.into_inner();
                }
                command = commands.recv() => self.command(command, &outbox).await?,
            }
        };
        loop {
            tokio::select! {
                message = incoming.message() => match message {
                    Ok(Some(message)) => self.message(message, &outbox).await?,
                    Ok(None) => return Err(StreamError::Ended("without a reason".into())),
                    Err(status) => return Err(StreamError::Ended(said(&status))),
                },
                command = commands.recv() => self.command(command, &outbox).await?,
            }
        }
    }

    async fn message(
        &self,
        message: wire::FromController,
        outbox: &mpsc::Sender<wire::FromAgent>,
    ) -> Result<(), StreamError> {
        match message.body {
            Some(wire::from_controller::Body::Delta(delta)) => {
                self.tell(Event::Delta(self.session, Box::new(delta))).await
            }
            Some(wire::from_controller::Body::Behind(behind)) => {
                self.tell(Event::Behind(self.session, Box::new(behind))).await
            }
            Some(wire::from_controller::Body::Query(query)) => {
                // A question may take long (every flow); the stream goes on.
                let (insight, outbox) = (self.shared.insight.clone(), outbox.clone());
                tokio::spawn(async move {
                    let answer = insight.answer(&query.path).await;
                    let body = wire::Answer { id: query.id, status: answer.status.into(), json: answer.body };
                    let body = Some(wire::from_agent::Body::Answer(body));
                    let _ = outbox.send(wire::FromAgent { body }).await;
                });
                Ok(())
            }
            // Something that a newer controller says: nothing that we are expected to understand.
            None => {
                self.shared.insight.metrics.messages_unknown.inc();
                Ok(())
            }
        }
    }

    async fn command(
        &self,
        command: Option<StreamCommand>,
        outbox: &mpsc::Sender<wire::FromAgent>,
    ) -> Result<(), StreamError> {
        // Only the router takes a queue away from a stream that is open.
        match command.ok_or(StreamError::Stalled)? {
            StreamCommand::Send(_, message) => {
                outbox.send(*message).await.map_err(|_| StreamError::Ended("it stopped listening".into()))
            }
            StreamCommand::Leave(_, reason) => Err(StreamError::Left(reason)),
        }
    }

    async fn tell(&self, event: Event) -> Result<(), StreamError> {
        self.shared.events.send(event).await.map_err(|_| StreamError::Agent)
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, StreamError> {
    tokio::fs::read(path).await.map_err(|error| StreamError::File { path: path.clone(), error })
}

fn said(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
