//! The task that puts together what is heard from the API server and tells the owner: a snapshot when every kind was
//! received, and again when something changed.

use std::time::{Duration, Instant};

use api::watermark::Watermark;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::authority::Trouble;
use super::client::Api;
use super::epoch::{self, Ask, Want};
use super::follow::{self, Stamp};
use super::history::{History, Todo};
use super::kinds::WATCHED;
use super::model::{Model, Outcome};
use super::reflector::Failure;
use crate::owner::{Event, Gone, Owner};
use crate::source::{Changes, Problem, Progress, Reason, Snapshot};

/// What may wait to be taken in.
const QUEUE: usize = 1024;
/// Taken in before the owner hears of it.
const BATCH: usize = 256;
/// How often it is said what is waited for, and how often the epoch is looked at.
const SAY: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_secs(30);

/// How to follow an API server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of our own objects.
    pub namespace: String,
    /// Ask for streams instead of pages where the server has them.
    pub streams: bool,
}

/// Follows the API server until the owner is gone. `ahead` is what agents have acknowledged and the state lacks, `trouble`
/// what is in the way of the authority.
pub async fn run(
    api: Api,
    settings: Settings,
    owner: Owner,
    mut ahead: watch::Receiver<Watermark>,
    mut trouble: watch::Receiver<Option<Trouble>>,
) {
    let (told, mut heard) = mpsc::channel(QUEUE);
    let (ask, asked) = mpsc::channel(16);
    let (epoch_told, mut epochs) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    tasks.spawn(epoch::keep(api.clone(), settings.namespace.clone(), asked, epoch_told));
    let demands: Vec<watch::Sender<Stamp>> =
        WATCHED.iter().map(|_| watch::channel(Stamp::default()).0).collect();
    let mut source = Source {
        owner,
        ask,
        demands,
        model: Model::default(),
        history: History::default(),
        epoch_failing: None,
        trouble: None,
        told: None,
        started: Instant::now(),
    };
    let mut say = tokio::time::interval(SAY);
    let mut look = tokio::time::interval(LOOK);
    let mut following = false;
    loop {
        let wake = source.history.wake_at();
        let wake = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let todo = tokio::select! {
            Some(first) = heard.recv() => {
                let mut todo = source.hear(first);
                for _ in 1..BATCH {
                    // What was heard of the old history is of no more use.
                    if todo != Todo::default() { break }
                    let Ok(next) = heard.try_recv() else { break };
                    todo = source.hear(next);
                }
                todo
            }
            Some(told) = epochs.recv() => source.epoch(told),
            Ok(()) = ahead.changed() => {
                let acknowledged = ahead.borrow_and_update().clone();
                source.history.ahead(&acknowledged, &source.model, Instant::now())
            }
            Ok(()) = trouble.changed() => {
                source.trouble.clone_from(&trouble.borrow_and_update());
                Todo::default()
            }
            () = wake => {
                let deferred = source.history.deferred();
                source.history.ahead(&deferred, &source.model, Instant::now())
            }
            _ = say.tick() => {
                source.say();
                Todo::default()
            }
            _ = look.tick() => Todo { epoch: Some(Want::Any), ..Todo::default() },
            () = source.owner.closed() => return,
        };
        source.act(todo);
        // The epoch is known before anything is listed.
        if !following && source.history.epoch().is_some() {
            following = true;
            for (kind, demand) in source.demands.iter().enumerate() {
                let follow =
                    follow::follow(api.clone(), kind, settings.streams, demand.subscribe(), told.clone());
                tasks.spawn(follow);
            }
        }
        if source.tell().await.is_err() {
            return;
        }
    }
}

struct Source {
    owner: Owner,
    ask: mpsc::Sender<Ask>,
    demands: Vec<watch::Sender<Stamp>>,
    model: Model,
    history: History,
    epoch_failing: Option<(&'static str, Failure)>,
    trouble: Option<Trouble>,
    /// What the owner was told last.
    told: Option<Progress>,
    started: Instant,
}

impl Source {
    fn hear(&mut self, told: follow::Told) -> Todo {
        let follow::Told { kind, stamp, learnt } = told;
        if !self.history.is_current(stamp) {
            return Todo::default();
        }
        let resource = WATCHED[kind].plural;
        let listed = match &learnt {
            super::reflector::Learnt::All(objects, revision) => {
                tracing::info!(resource, objects = objects.len(), revision, "listed");
                true
            }
            super::reflector::Learnt::NoSuchKind => {
                tracing::info!(resource, "the API server does not have this kind; it is looked for again");
                true
            }
            super::reflector::Learnt::Failed(verb, failure, times) if *times == 1 || *times % 10 == 0 => {
                tracing::warn!(resource, verb, times, error = %failure, "a request to the API server failed");
                false
            }
            _ => false,
        };
        match self.model.learn(kind, learnt) {
            Outcome::Taken if listed => self.history.listed(kind, stamp, &self.model),
            Outcome::Taken => Todo::default(),
            Outcome::WentBack { known, found } => {
                tracing::warn!(
                    resource,
                    known,
                    found,
                    "a list is older than what was known: etcd was restored"
                );
                self.history.went_back()
            }
        }
    }

    fn epoch(&mut self, told: epoch::Told) -> Todo {
        match told {
            epoch::Told::Is { epoch, at, known } => {
                self.epoch_failing = None;
                self.history.epoch_is(epoch, at, known)
            }
            epoch::Told::Failed(verb, failure) => {
                if self.epoch_failing.is_none() {
                    tracing::warn!(verb, error = %failure, "the epoch cannot be kept in the API");
                }
                self.epoch_failing = Some((verb, failure));
                Todo::default()
            }
        }
    }

    fn act(&mut self, todo: Todo) {
        if let Some(want) = todo.epoch {
            // A full queue holds questions enough.
            let _ = self.ask.try_send(Ask { want, known: self.model.newest() });
        }
        if todo.restart {
            tracing::warn!(epoch = %self.history.epoch().unwrap_or_default(), "another history: everything is listed anew");
            self.model = Model::default();
            self.started = Instant::now();
        }
        for kind in todo.relist {
            self.demands[kind].send_replace(self.history.stamp(kind));
        }
    }

    /// Says what is waited for, while the first lists run.
    fn say(&self) {
        if !self.model.is_complete() && self.started.elapsed() >= Duration::from_secs(1) {
            let waiting = self.waiting();
            tracing::info!(
                elapsed_ms = self.started.elapsed().as_millis(),
                "still receiving: {}",
                waiting.join(", ")
            );
        }
    }

    fn waiting(&self) -> Vec<String> {
        match self.history.epoch() {
            Some(_) => self.model.waiting(),
            None => vec![match &self.epoch_failing {
                Some((verb, failure)) => words(verb, failure),
                None => "the epoch: asking the API server".into(),
            }],
        }
    }

    async fn tell(&mut self) -> Result<(), Gone> {
        let Some(epoch) = self.history.epoch() else {
            return self.progress().await;
        };
        let revisions = self.model.revisions();
        let problems = self.model.understood();
        if let Some(changes) = self.model.take_changes() {
            let changes = Changes { epoch: Some(epoch), revisions, changes, problems };
            self.owner.tell(Event::Changes(changes)).await?;
        } else if let Some(network) = self.model.take() {
            let snapshot =
                Snapshot { epoch: Some(epoch), revisions, network, problems, ..Snapshot::default() };
            self.owner.tell(Event::Snapshot(snapshot)).await?;
        }
        self.progress().await
    }

    async fn progress(&mut self) -> Result<(), Gone> {
        let mut problems = self.model.failing();
        if let Some((verb, failure)) = &self.epoch_failing {
            problems.push(Problem {
                object: format!("ConfigMap {}", epoch::NAME),
                source: "the API server".into(),
                message: words(verb, failure),
                reason: Reason::NotRealized,
            });
        }
        problems.extend(self.trouble.iter().map(|trouble| trouble.problem.clone()));
        let unserved = self.trouble.iter().find(|trouble| !trouble.serves);
        let complete = self.history.epoch().is_some() && self.model.is_complete();
        let progress = Progress {
            epoch: self.history.epoch().filter(|_| complete),
            contained: if complete { self.model.revisions() } else { Default::default() },
            waiting: self.waiting(),
            unserved: unserved.map(|trouble| trouble.problem.message.clone()),
            problems,
        };
        if self.told.as_ref() == Some(&progress) {
            return Ok(());
        }
        for problem in &progress.problems {
            if self.told.as_ref().is_none_or(|told| !told.problems.contains(problem)) {
                tracing::error!(object = %problem.object, "{}", problem.message);
            }
        }
        self.told = Some(progress.clone());
        self.owner.tell(Event::Progress(progress)).await
    }
}

fn words(verb: &str, failure: &Failure) -> String {
    let name = epoch::NAME;
    match failure {
        Failure::Forbidden(message) => format!(
            "we may not {verb} the ConfigMap {name} ({message}); grant the verb `{verb}` on configmaps in the controller's \
             namespace, see deploy/chart/rbac/controller.yaml"
        ),
        other => format!("cannot {verb} the ConfigMap {name} ({other}); trying again"),
    }
}
