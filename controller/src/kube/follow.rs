//! Drives one [`Reflector`]: sends its requests, feeds it the answers, passes on what it learnt. Waits here and nowhere else.

use std::time::Instant;

use objects::live::Seen;
use tokio::sync::{mpsc, watch};

use super::client::{Api, Watch};
use super::kinds::WATCHED;
use super::reflector::{Failure, Learnt, Reflector, Request};

/// Which list something was learnt from or after; grows with every demand for a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

/// What was learnt of which kind.
#[derive(Debug)]
pub struct Told {
    /// Its place in [`WATCHED`].
    pub kind: usize,
    /// What it follows.
    pub stamp: Stamp,
    /// What.
    pub learnt: Learnt<Seen>,
}

/// Follows the `kind`th kind until nobody listens. A new stamp on `demands` is a demand for a new list.
pub async fn follow(
    api: Api,
    kind: usize,
    streams: bool,
    mut demands: watch::Receiver<Stamp>,
    told: mpsc::Sender<Told>,
) {
    let watched = &WATCHED[kind];
    let mut reflector: Reflector<Seen> = Reflector::new(watched.optional, streams);
    let mut stamp = *demands.borrow_and_update();
    loop {
        let (wait, request) = reflector.next();
        let learnt = tokio::select! {
            demand = demands.changed() => match demand {
                Ok(()) => {
                    stamp = *demands.borrow_and_update();
                    reflector.relist();
                    continue;
                }
                Err(_) => return,
            },
            answer = async {
                tokio::time::sleep(wait).await;
                ask(&api, kind, &request).await
            } => match answer {
                Answer::Page(Ok(page)) => reflector.page(page),
                Answer::Watch(Ok(watch)) => {
                    let learnt = reflector.opened();
                    if !tell(&told, kind, stamp, learnt).await
                        || !listen(watch, &mut reflector, (kind, stamp), &mut demands, &told).await
                    {
                        return;
                    }
                    continue;
                }
                Answer::Page(Err(failure)) | Answer::Watch(Err(failure)) => {
                    let failure = other_versions(&api, kind, failure).await;
                    tracing::debug!(resource = watched.plural, verb = request.verb(), error = %failure, "a request failed");
                    reflector.failed(failure)
                }
            },
        };
        if !tell(&told, kind, stamp, learnt).await {
            return;
        }
    }
}

enum Answer {
    Page(Result<super::reflector::Page<Seen>, Failure>),
    Watch(Result<Watch, Failure>),
}

async fn ask(api: &Api, kind: usize, request: &Request) -> Answer {
    let kind = &WATCHED[kind];
    match request {
        Request::List(next) => Answer::Page(api.page(kind, next.as_deref()).await),
        Request::Probe => Answer::Page(api.list(kind, None, 1).await),
        Request::Stream => Answer::Watch(api.watch(kind, None).await),
        Request::Watch(from) => Answer::Watch(api.watch(kind, Some(*from)).await),
    }
}

/// A kind that the server does not have may be there in a version that we do not read: then its objects are not in force,
/// and somebody has to hear of it.
async fn other_versions(api: &Api, kind: usize, failure: Failure) -> Failure {
    let kind = &WATCHED[kind];
    if failure != Failure::NotFound || !kind.optional {
        return failure;
    }
    match api.other_versions(kind).await {
        Ok(others) if !others.is_empty() => Failure::OtherVersions(others.join(", ")),
        // No such group at all, or nobody may ask.
        _ => failure,
    }
}

/// Until the watch ends or a new list is demanded (which the caller sees); false when nobody listens.
async fn listen(
    mut watch: Watch,
    reflector: &mut Reflector<Seen>,
    (kind, stamp): (usize, Stamp),
    demands: &mut watch::Receiver<Stamp>,
    told: &mpsc::Sender<Told>,
) -> bool {
    let opened = Instant::now();
    loop {
        let event = tokio::select! {
            event = watch.next() => event,
            demand = demands.changed() => {
                // Left unseen, so that the caller sees it too.
                demands.mark_changed();
                return demand.is_ok();
            }
        };
        let Some(event) = event else {
            reflector.ended(opened.elapsed());
            return true;
        };
        tracing::debug!(resource = WATCHED[kind].plural, "watch event");
        let (learnt, goes_on) = reflector.event(event);
        if !tell(told, kind, stamp, learnt).await {
            return false;
        }
        if !goes_on {
            return true;
        }
    }
}

async fn tell(told: &mpsc::Sender<Told>, kind: usize, stamp: Stamp, learnt: Vec<Learnt<Seen>>) -> bool {
    for learnt in learnt {
        if told.send(Told { kind, stamp, learnt }).await.is_err() {
            return false;
        }
    }
    true
}
