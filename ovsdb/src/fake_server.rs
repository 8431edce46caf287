//! A database server in memory for the tests of session and mirror: honest, and as old as a test wants it.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::atom::Uuid;
use crate::datum::Datum;
use crate::message::Incoming;
use crate::monitor::{Interest, Monitored, Updates};
use crate::replica::Replica;
use crate::schema::DatabaseSchema;
use crate::session::MonitorMethod;
use crate::splitter::{SplitLimits, Splitter};

/// Table, row, column: values that are not the default.
pub type Contents = BTreeMap<(&'static str, Uuid), BTreeMap<&'static str, Datum>>;

pub const DATABASE: &str = "Fake";

pub fn schema_json() -> Json {
    let map = json!({"key": "string", "value": "integer", "min": 0, "max": "unlimited"});
    json!({"name": DATABASE, "version": "1.0.0", "tables": {
        "Thing": {"isRoot": true, "columns": {
            "name": {"type": "string", "mutable": false},
            "number": {"type": {"key": "integer", "min": 0, "max": 1}},
            "tags": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
            "map": {"type": map},
        }},
        "Other": {"isRoot": true, "columns": {"flag": {"type": "boolean"}}},
    }})
}

pub fn interest() -> Interest {
    Interest::new().whole_table("Thing").whole_table("Other")
}

pub fn monitored() -> Monitored {
    interest().agree(&schema()).0
}

pub fn schema() -> DatabaseSchema {
    DatabaseSchema::from_json(&schema_json()).expect("a schema")
}

/// The replica that a client has after a dump of these contents.
pub fn replica_of(contents: &Contents) -> Replica {
    let updates = Updates::from_json2(&FakeServer::initial(contents), &monitored()).expect("updates");
    Replica::initial(&monitored(), &updates).expect("consistent")
}

#[derive(Debug)]
pub struct FakeServer {
    pub contents: Contents,
    /// The newest way of monitoring that it knows.
    pub method: MonitorMethod,
    /// The transaction that made the present contents; zero for a server without history.
    pub last_transaction: u8,
    /// Every transaction since which it can tell the changes, with the contents of then.
    pub history: BTreeMap<u8, Contents>,
    /// Whether transactions are answered.
    pub answers: bool,
    /// Methods of the requests and notifications received.
    pub received: Vec<String>,
    connection: Splitter,
    monitor: Option<(Json, MonitorMethod)>,
    out: Vec<u8>,
}

impl FakeServer {
    pub fn new(method: MonitorMethod, contents: Contents) -> Self {
        Self {
            contents,
            method,
            last_transaction: 0,
            history: BTreeMap::new(),
            answers: true,
            received: Vec::new(),
            connection: Splitter::new(SplitLimits::default()),
            monitor: None,
            out: Vec::new(),
        }
    }

    /// A new connection; what was on its way over the old one is lost.
    pub fn reconnected(&mut self) {
        self.connection = Splitter::new(SplitLimits::default());
        self.monitor = None;
        self.out.clear();
    }

    /// At most this many of the bytes that it sent.
    pub fn take(&mut self, most: usize) -> Vec<u8> {
        self.out.drain(..most.min(self.out.len())).collect()
    }

    pub fn say(&mut self, json: &Json) {
        self.out.extend_from_slice(json.to_string().as_bytes());
    }

    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.connection.push(bytes);
        let mut messages = Vec::new();
        while let Some(message) = self.connection.next_message().expect("clients send messages") {
            messages.push(Incoming::parse(message).expect("of JSON-RPC"));
        }
        for message in messages {
            match message {
                Incoming::Request { method, params, id } => {
                    self.received.push(method.clone());
                    self.request(&method, &params, &id);
                }
                Incoming::Notification { method, .. } => self.received.push(method),
                Incoming::Reply { .. } => self.received.push("reply".to_owned()),
            }
        }
    }

    fn request(&mut self, method: &str, params: &Json, id: &Json) {
        let asked = match method {
            "monitor_cond_since" => Some(MonitorMethod::ConditionalSince),
            "monitor_cond" => Some(MonitorMethod::Conditional),
            "monitor" => Some(MonitorMethod::Plain),
            _ => None,
        };
        let result = match (method, asked) {
            ("echo", _) => params.clone(),
            ("set_db_change_aware", _) => json!({}),
            ("get_schema", _) => schema_json(),
            ("transact", _) if !self.answers => return,
            ("transact", _) => {
                let operations = params.as_array().map_or(0, Vec::len) - 1;
                json!(vec![
                    json!({"count": 1, "uuid": ["uuid", Uuid::ZERO.to_string()], "rows": []});
                    operations
                ])
            }
            ("lock", _) => json!({"locked": true}),
            (_, Some(asked)) if asked >= self.method => {
                self.monitor = Some((params[1].clone(), asked));
                match asked {
                    MonitorMethod::Plain => Self::plain(&Contents::new(), &self.contents),
                    MonitorMethod::Conditional => Self::initial(&self.contents),
                    MonitorMethod::ConditionalSince => self.since(&params[3]),
                }
            }
            _ => return self.say(&json!({"id": id, "error": "unknown method"})),
        };
        self.say(&json!({"id": id, "result": result, "error": null}));
    }

    fn since(&self, last: &Json) -> Json {
        let known =
            self.history.iter().find(|(transaction, _)| *last == json!(transaction_id(**transaction)));
        let now = transaction_id(self.last_transaction);
        match known {
            Some((_, then)) => json!([true, now, Self::differences(then, &self.contents)]),
            None => json!([false, now, Self::initial(&self.contents)]),
        }
    }

    /// Changes the contents, and tells a monitoring client.
    pub fn change(&mut self, contents: Contents) {
        let old = std::mem::replace(&mut self.contents, contents);
        if self.last_transaction > 0 {
            self.last_transaction += 1;
            self.history.insert(self.last_transaction, self.contents.clone());
        }
        let Some((id, method)) = &self.monitor else { return };
        let (method, params) = match method {
            MonitorMethod::Plain => ("update", json!([id, Self::plain(&old, &self.contents)])),
            MonitorMethod::Conditional => ("update2", json!([id, Self::differences(&old, &self.contents)])),
            MonitorMethod::ConditionalSince => {
                let now = transaction_id(self.last_transaction);
                ("update3", json!([id, now, Self::differences(&old, &self.contents)]))
            }
        };
        self.say(&json!({"method": method, "params": params, "id": null}));
    }

    /// `<table-updates2>` of everything.
    fn initial(contents: &Contents) -> Json {
        table_updates(
            contents.iter().map(|((table, uuid), row)| (*table, *uuid, json!({"initial": row_json(row)}))),
        )
    }

    /// `<table-updates2>`.
    fn differences(old: &Contents, new: &Contents) -> Json {
        let schema = schema();
        let gone = old.keys().filter(|key| !new.contains_key(*key));
        let gone = gone.map(|(table, uuid)| (*table, *uuid, json!({"delete": null})));
        let come = new.iter().filter_map(|(key @ (table, uuid), row)| {
            let Some(before) = old.get(key) else {
                return Some((*table, *uuid, json!({"insert": row_json(row)})));
            };
            let mut modified = Map::new();
            for (column, known) in &schema.table(table).expect("a table").columns {
                let default = known.column_type.default_datum();
                let value =
                    |row: &BTreeMap<&str, Datum>| row.get(column.as_ref()).unwrap_or(&default).clone();
                let (before, after) = (value(before), value(row));
                if before != after {
                    let difference = before.difference_to(&after, &known.column_type);
                    modified.insert(column.to_string(), difference.to_json());
                }
            }
            (!modified.is_empty()).then(|| (*table, *uuid, json!({"modify": modified})))
        });
        table_updates(gone.chain(come).collect::<Vec<_>>())
    }

    /// `<table-updates>`, with every column in "new".
    fn plain(old: &Contents, new: &Contents) -> Json {
        let schema = schema();
        let whole = |table: &str, row: &BTreeMap<&str, Datum>| {
            let columns = schema.table(table).expect("a table").columns.iter().map(|(name, column)| {
                let value =
                    row.get(name.as_ref()).cloned().unwrap_or_else(|| column.column_type.default_datum());
                (name.to_string(), value.to_json())
            });
            Json::Object(columns.collect())
        };
        let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
        let gone = gone.map(|((table, uuid), row)| (*table, *uuid, json!({"old": whole(table, row)})));
        let come = new.iter().filter_map(|(key @ (table, uuid), row)| match old.get(key) {
            None => Some((*table, *uuid, json!({"new": whole(table, row)}))),
            Some(before) if before == row => None,
            Some(before) => Some((*table, *uuid, json!({"old": row_json(before), "new": whole(table, row)}))),
        });
        table_updates(gone.chain(come).collect::<Vec<_>>())
    }
}

/// The id of the transaction of this number.
pub fn transaction_id(number: u8) -> String {
    let mut bytes = [0; 16];
    bytes[15] = number;
    Uuid::from_bytes(bytes).to_string()
}

fn row_json(row: &BTreeMap<&str, Datum>) -> Json {
    Json::Object(row.iter().map(|(column, datum)| ((*column).to_owned(), datum.to_json())).collect())
}

fn table_updates(rows: impl IntoIterator<Item = (&'static str, Uuid, Json)>) -> Json {
    let mut tables: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
    for (table, uuid, update) in rows {
        tables.entry(table).or_default().insert(uuid.to_string(), update);
    }
    json!(tables)
}
