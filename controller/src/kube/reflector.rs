//! How one kind is followed: list, watch, and what each failure leads to. Pure: answers come in, the next request and what
//! was learnt come out; it knows no connection and no clock.
//!
//! **Revisions.** A list that asks for no particular version is read through to etcd: its `resourceVersion` says that it
//! contains everything up to it. The events of a watch continue from there, a bookmark says that there was nothing else
//! up to its revision. In one history of etcd revisions only grow; a list that is older than what is known already shows
//! that etcd was restored from a backup.

use std::time::Duration;

/// The first wait after a failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a kind is looked for that the server does not have.
pub const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// A watch that ends sooner than this was no success.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// Where a kind stands.
#[derive(Debug)]
enum State<T> {
    /// One watch sends every object, then a bookmark, then changes. Where the server does not know how (400, 422) or
    /// watching is forbidden: `Listing`. Ended or failed: waits and begins anew.
    Streaming { objects: Vec<T> },
    /// Page after page. A continuation that expired (410): begins anew at once. Failed: waits and begins anew; what was
    /// learnt before stays in force.
    Listing { objects: Vec<T>, revision: Option<u64>, next: Option<String> },
    /// Changes come in. Ended, failed or unavailable: `Resuming`. Expired (410), or an event that cannot be read:
    /// lists anew at once. Forbidden: lists again after a wait, the only way to learn anything.
    Watching { revision: u64 },
    /// The connection was lost; before it watches on from `revision`, a list of one object shows whether the history is
    /// still the same: a server that was restored would be silent until it caught up. Older: lists anew.
    Resuming { revision: u64 },
    /// The server has no such kind; looks again now and then.
    Absent,
}

/// A request to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A page of the list, from the beginning or where the last one ended.
    List(Option<String>),
    /// A watch that begins with every object.
    Stream,
    /// A watch of what changed since.
    Watch(u64),
    /// A list of at most one object, for its revision.
    Probe,
}

impl Request {
    /// The permission that it needs.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::List(_) | Self::Probe => "list",
            Self::Stream | Self::Watch(_) => "watch",
        }
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its objects.
    pub objects: Vec<T>,
    /// The revision of the whole list.
    pub revision: u64,
    /// Where to go on, when there is more.
    pub next: Option<String>,
    /// How many more there are, when the server says so.
    pub remaining: Option<u64>,
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// An object is there, or different.
    There(T, u64),
    /// An object is gone.
    Gone(T, u64),
    /// There was nothing else up to here; the first one of a stream says that everything was sent.
    Bookmark(u64, bool),
    /// The watch cannot go on.
    Failed(Failure),
}

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// 410: the revision or continuation is too old.
    #[error("the revision asked for is too old")]
    Expired,
    /// 401, 403.
    #[error("{0}")]
    Forbidden(String),
    /// 404.
    #[error("the server does not have this kind")]
    NotFound,
    /// 404 for our version, but the server has the kind in these.
    #[error("the server has this kind in other versions only: {0}")]
    OtherVersions(String),
    /// 400, 422: the server does not know what was asked for.
    #[error("the server refuses the request: {0}")]
    Refused(String),
    /// 409: somebody else has written before.
    #[error("somebody else has written before: {0}")]
    Conflict(String),
    /// 429, 503 and the like, with the wait that the server asks for.
    #[error("the server asks to wait: {message}")]
    Busy {
        /// Its words.
        message: String,
        /// From `Retry-After`.
        after: Option<Duration>,
    },
    /// No answer, or one that cannot be read.
    #[error("{0}")]
    Broken(String),
}

/// What was learnt of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learnt<T> {
    /// So many objects were received, of so many where that is known.
    Receiving(usize, Option<u64>),
    /// These are all objects, at this revision.
    All(Vec<T>, u64),
    /// An object is there, or different.
    There(T, u64),
    /// An object is gone.
    Gone(T, u64),
    /// There was nothing else up to here.
    UpTo(u64),
    /// The kind is not there, and so none of its objects.
    NoSuchKind,
    /// A request with this verb failed, so many times in a row.
    Failed(&'static str, Failure, u32),
    /// A request with this verb succeeded.
    Succeeded(&'static str),
}

/// Follows one kind.
#[derive(Debug)]
pub struct Reflector<T> {
    state: State<T>,
    optional: bool,
    streams: bool,
    failures: u32,
    /// How often in a row a watch was forbidden or refused: lists in between succeed, and must not follow one another.
    unwatched: u32,
    wait: Duration,
}

impl<T> Reflector<T> {
    /// Begins with a list; a stream if `streams` and the server knows how.
    pub fn new(optional: bool, streams: bool) -> Self {
        let mut reflector =
            Self { state: State::Absent, optional, streams, failures: 0, unwatched: 0, wait: Duration::ZERO };
        reflector.relist();
        reflector
    }

    /// What to ask the server for, and how long to wait before.
    pub fn next(&self) -> (Duration, Request) {
        let request = match &self.state {
            State::Streaming { .. } => Request::Stream,
            State::Listing { next, .. } => Request::List(next.clone()),
            State::Watching { revision } => Request::Watch(*revision),
            State::Resuming { .. } => Request::Probe,
            State::Absent => Request::List(None),
        };
        (self.wait, request)
    }

    /// Lists anew, now.
    pub fn relist(&mut self) {
        self.begin();
        self.wait = Duration::ZERO;
    }

    fn begin(&mut self) {
        self.state = if self.streams {
            State::Streaming { objects: Vec::new() }
        } else {
            State::Listing { objects: Vec::new(), revision: None, next: None }
        };
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.wait = Duration::ZERO;
    }

    /// The answer to `List` or `Probe`.
    pub fn page(&mut self, page: Page<T>) -> Vec<Learnt<T>> {
        self.succeeded();
        let mut learnt = vec![Learnt::Succeeded("list")];
        match &mut self.state {
            State::Resuming { revision } if page.revision >= *revision => {
                self.state = State::Watching { revision: *revision };
            }
            State::Resuming { .. } | State::Watching { .. } | State::Streaming { .. } => self.relist(),
            State::Absent => {
                self.state = State::Listing { objects: Vec::new(), revision: None, next: None };
                return self.page(page);
            }
            State::Listing { objects, revision, next } => {
                objects.extend(page.objects);
                let revision = *revision.get_or_insert(page.revision);
                *next = page.next;
                if next.is_some() {
                    let total = page.remaining.map(|remaining| remaining + objects.len() as u64);
                    learnt.push(Learnt::Receiving(objects.len(), total));
                } else {
                    learnt.push(Learnt::All(std::mem::take(objects), revision));
                    self.state = State::Watching { revision };
                }
            }
        }
        learnt
    }

    /// The server accepted `Stream` or `Watch`.
    pub fn opened(&mut self) -> Vec<Learnt<T>> {
        self.unwatched = 0;
        vec![Learnt::Succeeded("watch")]
    }

    /// An event of the watch. After `false` the watch is of no more use.
    pub fn event(&mut self, event: Event<T>) -> (Vec<Learnt<T>>, bool) {
        if !matches!(event, Event::Failed(_)) {
            self.succeeded();
        }
        let learnt = match (&mut self.state, event) {
            (_, Event::Failed(failure)) => return (self.failed(failure), false),
            (State::Streaming { objects }, Event::There(object, _)) => {
                objects.push(object);
                if objects.len() % 500 == 0 { Some(Learnt::Receiving(objects.len(), None)) } else { None }
            }
            // Cannot be before the bookmark; what follows is not understood either.
            (State::Streaming { .. }, Event::Gone(..)) => {
                self.relist();
                return (Vec::new(), false);
            }
            (State::Streaming { objects }, Event::Bookmark(revision, true)) => {
                let all = std::mem::take(objects);
                self.state = State::Watching { revision };
                Some(Learnt::All(all, revision))
            }
            (State::Streaming { .. }, Event::Bookmark(_, false)) => None,
            (State::Watching { revision }, Event::There(object, at)) => {
                *revision = at.max(*revision);
                Some(Learnt::There(object, at))
            }
            (State::Watching { revision }, Event::Gone(object, at)) => {
                *revision = at.max(*revision);
                Some(Learnt::Gone(object, at))
            }
            (State::Watching { revision }, Event::Bookmark(at, _)) => {
                *revision = at.max(*revision);
                Some(Learnt::UpTo(at))
            }
            (State::Listing { .. } | State::Resuming { .. } | State::Absent, _) => None,
        };
        (learnt.into_iter().collect(), true)
    }

    /// The watch ended after `lived`, as all do.
    pub fn ended(&mut self, lived: Duration) {
        if lived < SHORT_LIVED {
            self.back_off(None);
        }
        match self.state {
            State::Watching { revision } => self.state = State::Resuming { revision },
            State::Streaming { .. } => self.begin(),
            State::Listing { .. } | State::Resuming { .. } | State::Absent => {}
        }
    }

    /// A request came to nothing, or the watch broke.
    pub fn failed(&mut self, failure: Failure) -> Vec<Learnt<T>> {
        let verb = self.next().1.verb();
        let mut learnt = Vec::new();
        match (&self.state, &failure) {
            (_, Failure::Expired) => {
                // At once; but a server for which every revision is too old is not asked without end.
                self.begin();
                if self.failures == 0 {
                    self.wait = Duration::ZERO;
                    self.failures = 1;
                    return learnt;
                }
                self.back_off(None);
            }
            (_, Failure::NotFound) if self.optional => {
                if !matches!(self.state, State::Absent) || self.failures > 0 {
                    learnt.push(Learnt::NoSuchKind);
                }
                self.absent(0);
                return learnt;
            }
            (_, Failure::OtherVersions(_)) if self.optional => {
                if !matches!(self.state, State::Absent) {
                    learnt.push(Learnt::NoSuchKind);
                    self.failures = 0;
                }
                self.absent(self.failures.saturating_add(1));
            }
            (State::Streaming { .. }, Failure::Refused(_)) => {
                self.streams = false;
                self.relist();
                return learnt;
            }
            (State::Streaming { .. }, Failure::Forbidden(_)) => {
                self.streams = false;
                self.begin();
                self.back_off(None);
            }
            (State::Watching { .. }, Failure::Forbidden(_) | Failure::Refused(_)) => {
                self.begin();
                self.failures = self.unwatched;
                self.back_off(None);
                self.unwatched = self.failures;
            }
            (State::Watching { revision } | State::Resuming { revision }, _) => {
                self.state = State::Resuming { revision: *revision };
                self.back_off(after(&failure));
            }
            (State::Streaming { .. } | State::Listing { .. } | State::Absent, _) => {
                self.begin();
                self.back_off(after(&failure));
            }
        }
        learnt.push(Learnt::Failed(verb, failure, self.failures));
        learnt
    }

    fn absent(&mut self, failures: u32) {
        (self.state, self.failures, self.wait) = (State::Absent, failures, LOOK_AGAIN);
    }

    fn back_off(&mut self, after: Option<Duration>) {
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.wait = after.unwrap_or_default().max(wait).min(LONGEST_WAIT);
    }
}

fn after(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::Busy { after, .. } => *after,
        _ => None,
    }
}

#[cfg(test)]
#[path = "reflector_tests.rs"]
mod tests;
