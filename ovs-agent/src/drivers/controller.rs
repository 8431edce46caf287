//! The stream to a controller: dials one after the other until one answers, carries deltas in and answers out. It must not
//! know what a delta means.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use api::generated::ferrule::v1alpha1 as wire;
use ovsdb::Backoff;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::event::{Event, Session};
use crate::insight::Insight;
use crate::owner::StreamCommand;

/// Whom to dial and how to prove who we are.
#[derive(Clone, Debug)]
pub struct Target {
    /// `HOST:PORT` each.
    pub controllers: Vec<String>,
    /// The authority of their certificates; read again at every connection.
    pub authority: Option<PathBuf>,
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
    #[error("the agent ends")]
    Agent,
}

/// How long a session must last for the next failure not to count on top of earlier ones.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// Messages to a controller that wait for the network.
const OUTBOX: usize = 64;

/// Runs until the owner is gone. `random` gives numbers in 0..1; agents must not dial in step.
pub async fn run(
    target: Target,
    mut commands: mpsc::Receiver<StreamCommand>,
    events: mpsc::Sender<Event>,
    insight: Insight,
    mut random: impl FnMut() -> f64,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    for number in 0.. {
        let Some(address) = target.controllers.get(number % target.controllers.len().max(1)) else { return };
        let began = Instant::now();
        let session = Session(number as u64 + 1);
        let link = Link { session, events: &events, insight: &insight };
        let error = match link.serve(&target, address, &mut commands).await {
            Err(StreamError::Agent) => return,
            Err(error) => error,
            Ok(never) => match never {},
        };
        if began.elapsed() > GOOD_SESSION {
            backoff.succeeded();
        }
        let problem = format!("controller {address}: {}", with_sources(&error));
        if events.send(Event::StreamClosed(problem)).await.is_err() {
            return;
        }
        let wait = backoff.failed().mul_f64(0.5 + random().clamp(0.0, 1.0) / 2.0);
        if !idle(wait, &mut commands).await {
            return;
        }
    }
}

/// Waits; what the owner says meanwhile is for a session that is over.
async fn idle(wait: Duration, commands: &mut mpsc::Receiver<StreamCommand>) -> bool {
    let until = tokio::time::Instant::now() + wait;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => return true,
            command = commands.recv() => if command.is_none() { return false },
        }
    }
}

struct Link<'a> {
    session: Session,
    events: &'a mpsc::Sender<Event>,
    insight: &'a Insight,
}

enum Never {}

impl Link<'_> {
    async fn serve(
        &self,
        target: &Target,
        address: &str,
        commands: &mut mpsc::Receiver<StreamCommand>,
    ) -> Result<Never, StreamError> {
        let authority = read(target.authority.as_ref().ok_or(StreamError::NoAuthority)?).await?;
        let token = read(target.token.as_ref().ok_or(StreamError::NoToken)?).await?;
        let token = String::from_utf8_lossy(&token).into_owned();
        let endpoint = api::client::endpoint(address, &authority)?;
        let channel = endpoint.connect().await.map_err(|error| StreamError::Connect(with_sources(&error)))?;
        let mut client = api::client::agents(channel, &token)?;

        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        // The greeting must be on its way before the controller answers the call.
        self.tell(Event::StreamOpened(self.session)).await?;
        let call = client.attach(ReceiverStream::new(outgoing));
        tokio::pin!(call);
        let mut incoming = loop {
            tokio::select! {
                answer = &mut call => {
                    let answer = answer.map_err(|status| StreamError::Refused(said(&status)))?;
                    tracing::info!(controller = address, "connected");
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
            Some(wire::from_controller::Body::Query(query)) => {
                // A question may take long (every flow); the stream goes on.
                let (insight, outbox) = (self.insight.clone(), outbox.clone());
                tokio::spawn(async move {
                    let answer = insight.answer(&query.path).await;
                    let body = wire::Answer { id: query.id, status: answer.status.into(), json: answer.body };
                    let body = Some(wire::from_agent::Body::Answer(body));
                    let _ = outbox.send(wire::FromAgent { body }).await;
                });
                Ok(())
            }
            // Something that a newer controller says: nothing that we are expected to understand.
            None => Ok(()),
        }
    }

    async fn command(
        &self,
        command: Option<StreamCommand>,
        outbox: &mpsc::Sender<wire::FromAgent>,
    ) -> Result<(), StreamError> {
        match command.ok_or(StreamError::Agent)? {
            StreamCommand::Send(session, message) if session == self.session => {
                outbox.send(*message).await.map_err(|_| StreamError::Ended("it stopped listening".into()))
            }
            StreamCommand::Leave(session, reason) if session == self.session => {
                Err(StreamError::Left(reason))
            }
            StreamCommand::Send(..) | StreamCommand::Leave(..) => Ok(()),
        }
    }

    async fn tell(&self, event: Event) -> Result<(), StreamError> {
        self.events.send(event).await.map_err(|_| StreamError::Agent)
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, StreamError> {
    tokio::fs::read(path).await.map_err(|error| StreamError::File { path: path.clone(), error })
}

fn said(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// An error with what lies under it: tonic's own texts say only `transport error`.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
