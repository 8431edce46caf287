//! The mirror against a server in memory, in virtual time.

mod convergence;
mod faults;
mod time;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::atom::Atom;
use crate::datum::Datum;
use crate::fake_server::{Contents, DATABASE, FakeServer, interest, replica_of};
use crate::replica::Change;
use crate::session::MonitorMethod;
use crate::transaction::{Selection, Transaction};

const METHODS: [MonitorMethod; 3] =
    [MonitorMethod::ConditionalSince, MonitorMethod::Conditional, MonitorMethod::Plain];

/// A mirror, a server, and what the mirror told.
struct World {
    now: Instant,
    mirror: Mirror,
    server: FakeServer,
    /// What a listener knows who only applies the changes that are told.
    told: BTreeMap<(String, Uuid), Arc<crate::replica::Row>>,
    outcomes: BTreeMap<Ticket, Result<Outcome, TransactError>>,
    synchronizations: Vec<usize>,
}

impl World {
    fn new(method: MonitorMethod, contents: Contents) -> Self {
        Self {
            now: Instant::now(),
            mirror: Mirror::new(DATABASE, interest(), SessionConfig::default()),
            server: FakeServer::new(method, contents),
            told: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            synchronizations: Vec::new(),
        }
    }

    /// Connected, and all said that both sides have to say.
    fn live(method: MonitorMethod, contents: Contents) -> Self {
        let mut world = Self::new(method, contents);
        world.connect();
        assert_eq!(world.run(), Ok(()));
        assert!(world.mirror.is_live());
        world
    }

    fn connect(&mut self) {
        self.server.reconnected();
        self.mirror.handle_connected(self.now);
        self.listen();
    }

    fn cut(&mut self) {
        self.server.reconnected();
        self.mirror.handle_disconnected("cut");
        self.listen();
    }

    /// Lets both speak until neither has more to say.
    fn run(&mut self) -> Result<(), MirrorError> {
        self.run_for(usize::MAX, usize::MAX).map(drop)
    }

    /// Delivers at most `budget` bytes from the server, at most `chunk` at a time; what is left of the budget.
    fn run_for(&mut self, mut budget: usize, chunk: usize) -> Result<usize, MirrorError> {
        loop {
            while let Some(message) = self.mirror.poll_transmit() {
                self.server.handle_bytes(&message);
            }
            let bytes = self.server.take(budget.min(chunk));
            if bytes.is_empty() {
                return Ok(budget);
            }
            budget -= bytes.len();
            let result = self.mirror.handle_bytes(self.now, &bytes);
            self.listen();
            if let Err(error) = result {
                self.cut();
                return Err(error);
            }
        }
    }

    fn listen(&mut self) {
        while let Some(event) = self.mirror.poll_event() {
            match event {
                MirrorEvent::Synchronized { changes, .. } => {
                    self.synchronizations.push(changes.rows.len());
                    self.hear(changes);
                }
                MirrorEvent::Changed(changes) => {
                    assert!(!changes.is_empty());
                    self.hear(changes);
                }
                MirrorEvent::Transaction { ticket, outcome } => {
                    assert!(self.outcomes.insert(ticket, outcome).is_none(), "one outcome each");
                }
                MirrorEvent::Lock { .. } => {}
            }
        }
    }

    fn hear(&mut self, changes: Changes) {
        for Change { table, uuid, before, after } in changes.rows {
            let key = (table.to_string(), uuid);
            assert_ne!(before, after, "only what differs is told");
            assert_eq!(self.told.get(&key), before.as_ref(), "it follows on what was told before");
            match after {
                Some(row) => self.told.insert(key, row),
                None => self.told.remove(&key),
            };
        }
    }

    /// The replica is what the server has, and what was told adds up to it.
    fn assert_true(&self) {
        assert_eq!(*self.mirror.replica(), replica_of(&self.server.contents));
        let rows: BTreeMap<_, _> = self
            .mirror
            .replica()
            .tables()
            .flat_map(|table| {
                self.mirror.replica().table(table).map(move |(uuid, row)| (table.to_owned(), uuid, row))
            })
            .map(|(table, uuid, row)| ((table, uuid), Arc::new(row.clone())))
            .collect();
        assert_eq!(self.told, rows);
    }

    fn transact(&mut self, limit: Duration) -> Ticket {
        let mut transaction = Transaction::new();
        transaction.delete(Selection::all("Thing"));
        self.mirror.transact(Arc::new(transaction), self.now + limit)
    }
}

fn uuid(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

/// A row of `Thing`.
fn thing(
    name: &str,
    number: Option<i64>,
    tags: &[&str],
    map: &[(&str, i64)],
) -> BTreeMap<&'static str, Datum> {
    BTreeMap::from([
        ("name", Datum::scalar(name)),
        ("number", Datum::set(number)),
        ("tags", Datum::set(tags.iter().copied())),
        ("map", Datum::map(map.iter().map(|&(key, value)| (key, Atom::Integer(value))))),
    ])
}

/// Three contents that differ in every way that an update can tell.
fn story() -> [Contents; 3] {
    let flag = |value: bool| BTreeMap::from([("flag", Datum::scalar(value))]);
    [
        Contents::from([
            (("Thing", uuid(1)), thing("a", None, &["x", "y"], &[("k", 1)])),
            (("Thing", uuid(2)), thing("bé\"}", Some(2), &[], &[])),
        ]),
        Contents::from([
            (("Thing", uuid(1)), thing("a", Some(5), &["y", "z"], &[("k", 2), ("l", 1)])),
            (("Thing", uuid(2)), thing("bé\"}", None, &["w"], &[])),
            (("Other", uuid(3)), flag(true)),
        ]),
        Contents::from([
            (("Thing", uuid(1)), thing("a", Some(6), &[], &[("l", 1)])),
            (("Thing", uuid(4)), thing("d", Some(-1), &["y"], &[])),
            (("Other", uuid(3)), flag(false)),
        ]),
    ]
}
