//! What a client wants to see of a database, and the updates that tell it (RFC 7047 §4.1.5 and §4.1.6,
//! ovsdb-server(7) §4.1.12 to §4.1.16); must not know what the rows are for.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use crate::atom::Uuid;
use crate::datum::{Datum, beginning};
use crate::replica::{Layout, Row};
use crate::schema::{ColumnType, DatabaseSchema};
use crate::transaction::Condition;
use crate::typed::{Column, Table, Value};

/// The tables and columns that a client wants to see, before it knows what the server has.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    tables: BTreeMap<String, TableInterest>,
}

/// Whether a column of this type reads as our Rust type.
type Fits = fn(&ColumnType) -> bool;

#[derive(Clone, Debug, Default)]
struct TableInterest {
    /// By name.
    columns: BTreeMap<String, Fits>,
    every_column: bool,
    conditions: Vec<Condition>,
}

/// A column that a client wants and the server lacks, or holds with another type; it reads as its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingColumn {
    /// The table.
    pub table: String,
    /// The column; `None` when the whole table is missing.
    pub column: Option<String>,
}

impl Interest {
    /// In nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also in every column that the Rust type of `T` knows. Some change every few seconds of themselves: see
    /// [`Interest::without`].
    #[must_use]
    pub fn table<T: Table>(mut self) -> Self {
        let columns = T::COLUMNS.iter().map(|column| (column.name.to_owned(), column.fits));
        self.tables.entry(T::NAME.to_owned()).or_default().columns.extend(columns);
        self
    }

    /// Also in this column.
    #[must_use]
    pub fn column<T: Table, V: Value>(mut self, column: Column<T, V>) -> Self {
        self.tables.entry(T::NAME.to_owned()).or_default().columns.insert(column.name().to_owned(), V::fits);
        self
    }

    /// Not in this column, such as the statistics of an interface, which would wake the client every few seconds.
    #[must_use]
    pub fn without<T: Table, V: Value>(mut self, column: Column<T, V>) -> Self {
        if let Some(table) = self.tables.get_mut(T::NAME) {
            table.columns.remove(column.name());
        }
        self
    }

    /// Also in every column that the server has in the table of this name.
    #[must_use]
    pub fn whole_table(mut self, table: &str) -> Self {
        self.tables.entry(table.to_owned()).or_default().every_column = true;
        self
    }

    /// Only in rows of `T` that meet one of its conditions. A server too old for `monitor_cond` sends all.
    #[must_use]
    pub fn rows<T: Table>(mut self, condition: Condition) -> Self {
        self.tables.entry(T::NAME.to_owned()).or_default().conditions.push(condition);
        self
    }

    /// The part of it that the server can serve, and what it lacks.
    pub fn agree(&self, schema: &DatabaseSchema) -> (Monitored, Vec<MissingColumn>) {
        let mut monitored = Monitored { database: schema.name.clone(), tables: BTreeMap::new() };
        let mut missing = Vec::new();
        for (name, wanted) in &self.tables {
            let Some((name, table)) = schema.tables.get_key_value(name.as_str()) else {
                missing.push(MissingColumn { table: name.clone(), column: None });
                continue;
            };
            let mut columns = BTreeMap::new();
            if wanted.every_column {
                columns.extend(table.columns.iter().map(|(name, column)| (name, &column.column_type)));
            }
            for (column, fits) in &wanted.columns {
                let known = table.columns.get_key_value(column.as_str());
                let known = known.filter(|(_, known)| fits(&known.column_type));
                match known {
                    Some((name, known)) => drop(columns.insert(name, &known.column_type)),
                    None => {
                        missing.push(MissingColumn { table: name.to_string(), column: Some(column.clone()) })
                    }
                }
            }
            let layout =
                Layout::new(columns.into_iter().map(|(name, column)| (Arc::clone(name), column.clone())));
            let conditions = wanted.conditions.clone();
            monitored
                .tables
                .insert(Arc::clone(name), MonitoredTable { layout: Arc::new(layout), conditions });
        }
        (monitored, missing)
    }
}

/// What a monitor covers on a particular server: the shape of everything that it will send.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Monitored {
    pub(crate) database: String,
    pub(crate) tables: BTreeMap<Arc<str>, MonitoredTable>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MonitoredTable {
    pub(crate) layout: Arc<Layout>,
    pub(crate) conditions: Vec<Condition>,
}

impl Monitored {
    /// `<monitor-requests>`, or `<monitor-cond-requests>` if the method is `conditional`.
    pub fn to_json(&self, conditional: bool) -> Json {
        let mut requests = Map::new();
        for (name, table) in &self.tables {
            let columns: Vec<&str> = table.layout.names().collect();
            let mut request = json!({ "columns": columns });
            if conditional && !table.conditions.is_empty() {
                request["where"] = table.conditions.iter().map(Condition::to_json).collect();
            }
            requests.insert(name.to_string(), json!([request]));
        }
        Json::Object(requests)
    }
}

/// What happened to one row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowUpdate {
    /// It came into view, with these values.
    Insert(Row),
    /// Columns, by their place in the layout, changed by these differences (`update2`, `update3`).
    Modify(Vec<(usize, Datum)>),
    /// It has these values now (`update`).
    Replace(Row),
    /// It left the view.
    Delete,
}

/// `<table-updates>` or `<table-updates2>`: what happened to which rows, together.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Updates {
    /// Each row at most once.
    pub rows: Vec<(Arc<str>, Uuid, RowUpdate)>,
}

/// Updates that do not fit what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("update of {place}: {problem}")]
pub struct UpdateError {
    /// The table, row and column.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl UpdateError {
    pub(crate) fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

impl Updates {
    /// Reads `<table-updates>` (RFC 7047 §4.1.6).
    pub fn from_json(json: &Json, monitored: &Monitored) -> Result<Self, UpdateError> {
        Self::read(json, monitored, |layout, update, place| {
            let (old, new) = (update.get("old"), update.get("new"));
            match (old, new) {
                (None, Some(new)) => Ok(RowUpdate::Insert(Row::from_json(new, layout, place)?)),
                (Some(_), Some(new)) => Ok(RowUpdate::Replace(Row::from_json(new, layout, place)?)),
                (Some(_), None) => Ok(RowUpdate::Delete),
                (None, None) => Err(UpdateError::new(place, "neither an old nor a new row")),
            }
        })
    }

    /// Reads `<table-updates2>` (ovsdb-server(7) §4.1.14).
    pub fn from_json2(json: &Json, monitored: &Monitored) -> Result<Self, UpdateError> {
        Self::read(json, monitored, |layout, update, place| {
            let mut members = update.iter();
            match (members.next(), members.next()) {
                (Some((kind, row)), None) => match kind.as_str() {
                    "initial" | "insert" => Ok(RowUpdate::Insert(Row::from_json(row, layout, place)?)),
                    "modify" => Ok(RowUpdate::Modify(layout.differences(row, place)?)),
                    "delete" => Ok(RowUpdate::Delete),
                    other => Err(UpdateError::new(place, format!("unknown kind {other:?}"))),
                },
                _ => Err(UpdateError::new(place, "not exactly one of initial, insert, delete and modify")),
            }
        })
    }

    fn read(
        json: &Json,
        monitored: &Monitored,
        row: impl Fn(&Arc<Layout>, &Map<String, Json>, &str) -> Result<RowUpdate, UpdateError>,
    ) -> Result<Self, UpdateError> {
        let mut updates = Self::default();
        for (table, rows) in object(json, "the database")? {
            let Some((name, known)) = monitored.tables.get_key_value(table.as_str()) else {
                return Err(UpdateError::new(table, "this table is not monitored"));
            };
            for (uuid, update) in object(rows, table)? {
                let place = format!("{table} {uuid}");
                let uuid: Uuid = uuid
                    .parse()
                    .map_err(|problem: crate::atom::NotUuid| UpdateError::new(table, problem.to_string()))?;
                let update = row(&known.layout, object(update, &place)?, &place)?;
                updates.rows.push((Arc::clone(name), uuid, update));
            }
        }
        Ok(updates)
    }
}

pub(crate) fn object<'a>(json: &'a Json, place: &str) -> Result<&'a Map<String, Json>, UpdateError> {
    json.as_object()
        .ok_or_else(|| UpdateError::new(place, format!("expected an object, got {}", beginning(json))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vswitch::{Bridge, Interface, Mirror};

    /// A server that is younger in one column, older in another, and has no mirrors.
    fn other_server() -> DatabaseSchema {
        let json = json!({"name": "Open_vSwitch", "version": "99.0.0", "tables": {
            "Bridge": {"columns": {"name": {"type": "string"}, "flavour": {"type": "string"}}},
            "Interface": {"columns": {
                "name": {"type": "string"},
                "ofport": {"type": "string"},
                "options": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
            }},
        }});
        DatabaseSchema::from_json(&json).expect("a schema")
    }

    #[test]
    fn what_a_server_lacks_is_left_out_and_told() {
        let interest = Interest::new()
            .column(Bridge::NAME)
            .column(Interface::NAME)
            .column(Interface::OFPORT)
            .column(Interface::OPTIONS)
            .column(Interface::ERROR)
            .without(Interface::OPTIONS)
            .table::<Mirror>();
        let (monitored, missing) = interest.agree(&other_server());
        assert_eq!(
            monitored.to_json(true),
            json!({"Bridge": [{"columns": ["name"]}], "Interface": [{"columns": ["name"]}]})
        );
        let missing: Vec<_> =
            missing.iter().map(|missing| (missing.table.as_str(), missing.column.as_deref())).collect();
        assert_eq!(
            missing,
            [("Interface", Some("error")), ("Interface", Some("ofport")), ("Mirror", None)],
            "a column of another type is as good as none"
        );
        let uuid = "01020304-0506-0708-090a-0b0c0d0e0f10";
        let update = json!({"Interface": {uuid: {"initial": {"name": "p"}}}});
        let updates = Updates::from_json2(&update, &monitored).expect("it fits");
        let replica = crate::replica::Replica::initial(&monitored, &updates).expect("consistent");
        let row: Interface = replica.rows().next().expect("a row").1;
        assert_eq!(row, Interface { name: "p".to_owned(), ..Interface::default() });
    }

    #[test]
    fn conditions_go_to_servers_that_know_them() {
        let interest = Interest::new().column(Bridge::NAME).rows::<Bridge>(Bridge::NAME.equals("b"));
        let (monitored, _) = interest.agree(&other_server());
        let request = json!({"Bridge": [{"columns": ["name"], "where": [["name", "==", "b"]]}]});
        assert_eq!(monitored.to_json(true), request);
        assert_eq!(monitored.to_json(false), json!({"Bridge": [{"columns": ["name"]}]}));
    }
}
