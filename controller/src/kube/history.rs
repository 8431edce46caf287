//! Which history of etcd we follow, and how we notice that it is another one. Pure: it is told what was heard and says what
//! to do; time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::watermark::{Epoch, Watermark};

use super::epoch::Want;
use super::follow::Stamp;
use super::kinds::WATCHED;
use super::model::Model;

/// Lists that agents ask for, and epochs, come no faster than this: a node cannot keep the API server busy.
const NO_FASTER: Duration = Duration::from_secs(2);

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Todo {
    /// List these kinds anew.
    pub relist: Vec<usize>,
    /// See to it that the API has such an epoch.
    pub epoch: Option<Want>,
    /// All that is known is of another history: begin anew.
    pub restart: bool,
}

/// The history that is followed.
#[derive(Debug, Default)]
pub struct History {
    epoch: Option<Epoch>,
    /// The stamp of the newest demand for each kind.
    stamps: [Stamp; WATCHED.len()],
    /// What came before this is of another history.
    since: Stamp,
    last: Stamp,
    /// What agents have acknowledged beyond what is known, by kind, with the stamp of the list that has to contain it.
    lacking: BTreeMap<usize, (u64, Stamp)>,
    /// An epoch was asked for.
    wanting: Option<Want>,
    asked_at: Option<Instant>,
    deferred: Watermark,
}

impl History {
    /// The epoch, once it is known.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The stamp that is demanded of a kind.
    pub fn stamp(&self, kind: usize) -> Stamp {
        self.stamps[kind]
    }

    /// Whether something that was learnt belongs to this history.
    pub fn is_current(&self, stamp: Stamp) -> bool {
        stamp >= self.since
    }

    /// The API has this epoch, and etcd was at revision `at` when `known` was known already.
    pub fn epoch_is(&mut self, epoch: Epoch, at: u64, known: u64) -> Todo {
        match self.epoch {
            None => {
                self.epoch = Some(epoch);
                Todo::default()
            }
            Some(ours) if epoch > ours => {
                self.epoch = Some(epoch);
                self.wanting = None;
                self.lacking.clear();
                self.restart()
            }
            Some(ours) if epoch < ours || at < known => {
                tracing::warn!(%ours, found = %epoch, known, at, "the history of the API server went back");
                self.want(Want::After(ours))
            }
            Some(_) => Todo::default(),
        }
    }

    /// A consistent list is older than what was known.
    pub fn went_back(&mut self) -> Todo {
        self.want(Want::After(self.epoch.unwrap_or_default()))
    }

    /// Agents have acknowledged this, which we lack.
    pub fn ahead(&mut self, acknowledged: &Watermark, model: &Model, now: Instant) -> Todo {
        let Some(ours) = self.epoch else { return Todo::default() };
        if acknowledged.epoch < ours {
            return Todo::default();
        }
        if self.asked_at.is_some_and(|asked| now < asked + NO_FASTER) {
            self.deferred = acknowledged.join(std::mem::take(&mut self.deferred));
            return Todo::default();
        }
        self.deferred = Watermark::default();
        if acknowledged.epoch > ours {
            self.asked_at = Some(now);
            return self.want(Want::AtLeast(acknowledged.epoch));
        }
        let mut todo = Todo::default();
        for (kind, watched) in WATCHED.iter().enumerate() {
            let wanted = acknowledged.revision(watched.plural);
            if model.contained(kind).is_some_and(|contained| contained < wanted) {
                let stamp = self.next_stamp();
                self.stamps[kind] = stamp;
                self.lacking.insert(kind, (wanted, stamp));
                todo.relist.push(kind);
            }
        }
        if !todo.relist.is_empty() {
            self.asked_at = Some(now);
        }
        todo
    }

    /// When to look again at what was put off.
    pub fn wake_at(&self) -> Option<Instant> {
        (self.deferred != Watermark::default()).then_some(self.asked_at? + NO_FASTER)
    }

    /// What was put off.
    pub fn deferred(&self) -> Watermark {
        self.deferred.clone()
    }

    /// A list of a kind is in the model. One that was made after an agent acknowledged something contains it, or the
    /// history went back.
    pub fn listed(&mut self, kind: usize, stamp: Stamp, model: &Model) -> Todo {
        let Some((wanted, since)) = self.lacking.get(&kind).copied() else { return Todo::default() };
        if stamp < since {
            return Todo::default();
        }
        self.lacking.remove(&kind);
        if model.contained(kind).is_some_and(|contained| contained < wanted) {
            tracing::warn!(
                kind = WATCHED[kind].plural,
                acknowledged = wanted,
                "an agent has acknowledged what is not there (any more)"
            );
            return self.went_back();
        }
        Todo::default()
    }

    fn want(&mut self, want: Want) -> Todo {
        let want = self.wanting.map_or(want, |held| held.and(want));
        if self.wanting.replace(want) == Some(want) {
            return Todo::default();
        }
        Todo { epoch: Some(want), ..Todo::default() }
    }

    fn restart(&mut self) -> Todo {
        let stamp = self.next_stamp();
        self.since = stamp;
        self.stamps = [stamp; WATCHED.len()];
        Todo { relist: (0..WATCHED.len()).collect(), restart: true, epoch: None }
    }

    fn next_stamp(&mut self) -> Stamp {
        self.last = Stamp(self.last.0 + 1);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Outcome;
    use super::super::reflector::Learnt;
    use super::*;

    fn all_at(revision: u64) -> Model {
        let mut model = Model::default();
        for kind in 0..WATCHED.len() {
            assert_eq!(model.learn(kind, Learnt::All(vec![], revision)), Outcome::Taken);
        }
        model
    }

    fn acknowledged(epoch: u64, pods: u64) -> Watermark {
        Watermark { epoch: Epoch(epoch), revisions: [("pods".to_owned(), pods)].into() }
    }

    fn started() -> History {
        let mut history = History::default();
        assert_eq!(history.epoch_is(Epoch(3), 1, 0), Todo::default());
        history
    }

    #[test]
    fn who_lags_lists_anew_and_needs_no_epoch() {
        let (mut history, mut model, now) = (started(), all_at(100), Instant::now());
        assert_eq!(history.ahead(&acknowledged(3, 100), &model, now), Todo::default());
        let todo = history.ahead(&acknowledged(3, 120), &model, now);
        assert_eq!(todo, Todo { relist: vec![2], ..Todo::default() });
        // A list that was on its way says nothing.
        assert_eq!(history.listed(2, Stamp(0), &model), Todo::default());
        model.learn(2, Learnt::All(vec![], 121));
        assert_eq!(history.listed(2, history.stamp(2), &model), Todo::default());
    }

    #[test]
    fn what_no_list_contains_any_more_is_another_history() {
        let (mut history, mut model, now) = (started(), all_at(100), Instant::now());
        history.ahead(&acknowledged(3, 120), &model, now);
        model.learn(2, Learnt::All(vec![], 101));
        let todo = history.listed(2, history.stamp(2), &model);
        assert_eq!(todo.epoch, Some(Want::After(Epoch(3))));
        // Asked for once.
        assert_eq!(history.went_back(), Todo::default());
        let todo = history.epoch_is(Epoch(4), 101, 100);
        assert!(todo.restart && todo.relist.len() == WATCHED.len());
        assert!(!history.is_current(Stamp(1)) && history.is_current(history.stamp(0)));
        // What was acknowledged in the old one is of no interest.
        assert_eq!(history.ahead(&acknowledged(3, 120), &model, now), Todo::default());
    }

    #[test]
    fn an_epoch_that_others_know_is_looked_for_and_followed() {
        let (mut history, model, now) = (started(), all_at(100), Instant::now());
        let todo = history.ahead(&acknowledged(4, 50), &model, now);
        assert_eq!(todo.epoch, Some(Want::AtLeast(Epoch(4))));
        assert!(history.epoch_is(Epoch(4), 100, 100).restart);
        assert_eq!(history.epoch(), Some(Epoch(4)));
    }

    #[test]
    fn an_epoch_or_a_revision_of_etcd_that_went_back_is_seen_without_agents() {
        let mut history = started();
        assert_eq!(history.epoch_is(Epoch(2), 500, 100).epoch, Some(Want::After(Epoch(3))));
        let mut history = started();
        assert_eq!(history.epoch_is(Epoch(3), 100, 100), Todo::default());
        assert_eq!(history.epoch_is(Epoch(3), 99, 100).epoch, Some(Want::After(Epoch(3))));
    }

    #[test]
    fn agents_cannot_make_us_list_without_end() {
        let (mut history, model, now) = (started(), all_at(100), Instant::now());
        assert!(!history.ahead(&acknowledged(3, 120), &model, now).relist.is_empty());
        assert_eq!(history.ahead(&acknowledged(3, 130), &model, now), Todo::default());
        let later = history.wake_at().unwrap();
        assert_eq!(later, now + NO_FASTER);
        let deferred = history.deferred();
        assert_eq!(history.ahead(&deferred, &model, later).relist, [2]);
        assert_eq!(history.wake_at(), None);
    }
}
