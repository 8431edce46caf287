//! The task that owns the state: takes events, a batch at a time, settles, hands what must be saved to the store.

use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use network::NodeName;
use tokio::sync::{mpsc, oneshot};

use crate::agent::{Hello, Link, SessionId};
use crate::hearing::Said;
use crate::record::writer::Recorder;
use crate::source::{Changes, Progress, Snapshot};
use crate::state::{Asked, Demand, State};
use crate::store::{Saving, Store};

/// Events that may wait for the owner; whoever has more to say waits.
pub const QUEUE: usize = 1024;
/// Events taken before the state is settled.
const BATCH: usize = 256;
/// When to try again to save what the store was too busy for.
const SAVE_AGAIN: Duration = Duration::from_millis(500);

/// Somebody's look at the state.
pub type Reading = Box<dyn FnOnce(&State) + Send>;

/// What happens to the state.
pub enum Event {
    /// A source read its objects again.
    Snapshot(Snapshot),
    /// What is different in the source.
    Changes(Changes),
    /// How the source stands.
    Progress(Progress),
    /// The source has looked for what was demanded, and told what it found.
    Confirm(Demand),
    /// An agent connected and said Hello.
    Attach(NodeName, Link, Box<Hello>),
    /// It said something else.
    Said(NodeName, SessionId, Said),
    /// Its stream ended.
    Detach(NodeName, SessionId),
    /// Somebody reads the state, settled.
    Read(Reading),
    /// Somebody asks agents.
    Ask {
        /// Only this node.
        node: Option<NodeName>,
        /// Path and query for the agent.
        path: String,
        /// Where the shares go.
        reply: oneshot::Sender<Option<Vec<(NodeName, Asked)>>>,
    },
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot(snapshot) => write!(f, "Snapshot({:?})", snapshot.revisions),
            Self::Changes(changes) => write!(f, "Changes({})", changes.changes.len()),
            Self::Progress(progress) => write!(f, "Progress({progress:?})"),
            Self::Confirm(demand) => write!(f, "Confirm({demand:?})"),
            Self::Attach(node, link, _) => write!(f, "Attach({node}, {:?})", link.session),
            Self::Said(node, session, said) => write!(f, "Said({node}, {session:?}, {said:?})"),
            Self::Detach(node, session) => write!(f, "Detach({node}, {session:?})"),
            Self::Read(_) => f.write_str("Read"),
            Self::Ask { node, path, .. } => write!(f, "Ask({node:?}, {path})"),
        }
    }
}

/// The way to the owner.
#[derive(Clone, Debug)]
pub struct Owner(mpsc::Sender<Event>);

/// The owner is gone: the controller is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller is shutting down")]
pub struct Gone;

impl Owner {
    /// A queue for an owner that [`run`] will be.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Tells it.
    pub async fn tell(&self, event: Event) -> Result<(), Gone> {
        self.0.send(event).await.map_err(|_| Gone)
    }

    /// The same from a thread outside of tokio.
    pub fn tell_blocking(&self, event: Event) -> Result<(), Gone> {
        self.0.blocking_send(event).map_err(|_| Gone)
    }

    /// Resolves when it is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// Whether it is gone.
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }

    /// Reads the state.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        let read: Reading = Box::new(move |state: &State| {
            let _ = reply.send(read(state));
        });
        self.tell(Event::Read(read)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// Asks agents; `None` when there is no such node.
    pub async fn ask(
        &self,
        node: Option<NodeName>,
        path: String,
    ) -> Result<Option<Vec<(NodeName, Asked)>>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(Event::Ask { node, path, reply }).await?;
        answer.await.map_err(|_| Gone)
    }
}

/// Where the owner saves; none in tests.
#[derive(Debug)]
pub struct Saver {
    /// For the epoch, which has to be saved before anybody sees it.
    pub store: Store,
    /// For bindings.
    pub writer: blocking::SyncSender<Saving>,
}

/// Where the source hears of what agents have acknowledged and we lack.
pub type Demands = Box<dyn Fn(Demand) + Send>;

/// What the owner works with beside its state.
pub struct Surroundings {
    /// Where it saves; none in tests.
    pub saver: Option<Saver>,
    /// Who writes down what happens, if anybody.
    pub recorder: Option<Recorder>,
    /// Where the source hears of demands.
    pub demands: Demands,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("saver", &self.saver)
            .field("recorder", &self.recorder)
            .finish_non_exhaustive()
    }
}

/// Owns the state until `stop` is sent (or its sender is gone), then drops it: every agent's stream ends with it.
pub async fn run(
    mut state: State,
    mut events: mpsc::Receiver<Event>,
    surroundings: Surroundings,
    mut stop: oneshot::Receiver<()>,
) {
    let Surroundings { saver, mut recorder, demands } = surroundings;
    let mut reads: Vec<Reading> = Vec::new();
    let mut saving_late = false;
    loop {
        let now = Instant::now();
        let mut wake = state.wake_at(now);
        if saving_late {
            wake = Some(wake.map_or(now + SAVE_AGAIN, |at| at.min(now + SAVE_AGAIN)));
        }
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut woke = false;
        tokio::select! {
            _ = &mut stop => break,
            first = events.recv() => {
                let Some(first) = first else { break };
                take(&mut state, first, &mut recorder, &mut reads);
                for _ in 1..BATCH {
                    let Ok(next) = events.try_recv() else { break };
                    take(&mut state, next, &mut recorder, &mut reads);
                }
            }
            () = sleep => woke = true,
        }
        saving_late = save(&mut state, saver.as_ref());
        let now = Instant::now();
        state.settle(now);
        if let Some(recorder) = &mut recorder {
            recorder.settled(&state, now, woke);
        }
        if let Some(demand) = state.take_demand() {
            demands(demand);
        }
        for read in reads.drain(..) {
            read(&state);
        }
    }
    if let Some(saver) = saver {
        for saving in state.take_unsaved().1 {
            // The store's thread lives as long as we hold its sender.
            let _ = saver.writer.send(saving);
        }
    }
}

fn take(state: &mut State, event: Event, recorder: &mut Option<Recorder>, reads: &mut Vec<Reading>) {
    let now = Instant::now();
    if let Some(recorder) = recorder {
        recorder.input(&event, now);
    }
    match event {
        Event::Snapshot(snapshot) => state.snapshot(snapshot),
        Event::Changes(changes) => state.changes(changes),
        Event::Progress(progress) => state.progress(progress),
        Event::Confirm(demand) => state.confirm(&demand),
        Event::Attach(node, link, hello) => state.attach(&node, link, *hello),
        Event::Said(node, session, said) => state.said(&node, session, said, now),
        Event::Detach(node, session) => state.detach(&node, session),
        Event::Read(read) => reads.push(read),
        Event::Ask { node, path, reply } => {
            let _ = reply.send(state.ask(node.as_ref(), &path));
        }
    }
}

/// Hands over what is unsaved; returns whether some of it has to wait.
fn save(state: &mut State, saver: Option<&Saver>) -> bool {
    let (epoch, bindings) = state.take_unsaved();
    let Some(saver) = saver else { return false };
    if let Some(epoch) = epoch
        && let Err(error) = saver.store.save_epoch(epoch)
    {
        tracing::error!(%error, %epoch, "the epoch is not saved; after a restart the agents tell it");
    }
    let mut late = false;
    for saving in bindings {
        if let Err(blocking::TrySendError::Full((node, _))) = saver.writer.try_send(saving) {
            state.keep_unsaved(node);
            late = true;
        }
    }
    late
}
