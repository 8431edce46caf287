//! The monitored part of a database, in memory; must not know how it is kept true.
//!
//! Rows are shared: a clone of a replica is a cheap snapshot, and an update copies only the tables that it touches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::atom::Uuid;
use crate::datum::Datum;
use crate::monitor::{Monitored, RowUpdate, UpdateError, Updates, object};
use crate::schema::{ColumnType, TableSchema};
use crate::typed::Table;

/// The columns that the rows of a table have here, by name.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Layout {
    columns: Vec<(Arc<str>, ColumnType)>,
}

impl Layout {
    pub(crate) fn new(columns: impl IntoIterator<Item = (Arc<str>, ColumnType)>) -> Self {
        let mut columns: Vec<_> = columns.into_iter().collect();
        columns.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        columns.dedup_by(|left, right| left.0 == right.0);
        Self { columns }
    }

    /// The columns' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_ref())
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.columns.binary_search_by(|(candidate, _)| candidate.as_ref().cmp(name)).ok()
    }

    /// The column of this name, in an update for the row at `place`.
    fn expect(&self, name: &str, place: &str) -> Result<(usize, &ColumnType), UpdateError> {
        let index = self.place_of(name);
        index
            .and_then(|index| Some((index, &self.columns.get(index)?.1)))
            .ok_or_else(|| UpdateError::new(place, format!("column {name:?} is not monitored")))
    }

    /// Reads the `<row>` of a "modify".
    pub(crate) fn differences(&self, json: &Json, place: &str) -> Result<Vec<(usize, Datum)>, UpdateError> {
        let mut differences = Vec::new();
        for (name, value) in object(json, place)? {
            let (index, column) = self.expect(name, place)?;
            let datum = Datum::difference_from_json(value, column)
                .map_err(|problem| UpdateError::new(format!("{place} {name}"), problem.to_string()))?;
            differences.push((index, datum));
        }
        Ok(differences)
    }
}

/// One row: a value for each column of its layout.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    layout: Arc<Layout>,
    values: Box<[Datum]>,
}

impl Row {
    /// The value of a column, if the row has it.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.values.get(self.layout.place_of(column)?)
    }

    /// The columns and their values, by name.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.layout.names().zip(&self.values)
    }

    /// The row's identity, if `_uuid` is among its columns, as in the answer to a `select`.
    pub fn uuid(&self) -> Option<Uuid> {
        match self.get("_uuid")?.as_scalar()? {
            crate::atom::Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        }
    }

    /// The row in its Rust type.
    pub fn read<T: Table>(&self) -> T {
        T::from_row(self)
    }

    /// Reads a whole `<row>`; columns that are left out have their default.
    pub(crate) fn from_json(json: &Json, layout: &Arc<Layout>, place: &str) -> Result<Self, UpdateError> {
        let mut values: Box<[Datum]> =
            layout.columns.iter().map(|(_, column)| column.default_datum()).collect();
        for (name, value) in object(json, place)? {
            let (index, column) = layout.expect(name, place)?;
            let datum = Datum::from_json(value, column)
                .map_err(|problem| UpdateError::new(format!("{place} {name}"), problem.to_string()))?;
            if let Some(slot) = values.get_mut(index) {
                *slot = datum;
            }
        }
        Ok(Self { layout: Arc::clone(layout), values })
    }

    /// Reads a row of the answer to a `select`, which has the columns that the server chose to send.
    pub(crate) fn from_selected(json: &Json, table: &TableSchema) -> Result<Self, String> {
        let members = object(json, "a selected row").map_err(|error| error.to_string())?;
        let mut columns = Vec::new();
        for name in members.keys() {
            let column =
                table.column_type(name).ok_or_else(|| format!("column {name:?} is not in the schema"))?;
            columns.push((Arc::from(name.as_str()), column.clone()));
        }
        Self::from_json(json, &Arc::new(Layout::new(columns)), "a selected row")
            .map_err(|error| error.to_string())
    }

    fn with_differences(&self, differences: &[(usize, Datum)]) -> Self {
        let mut row = self.clone();
        for (index, difference) in differences {
            if let (Some(value), Some((_, column))) =
                (row.values.get_mut(*index), self.layout.columns.get(*index))
            {
                *value = value.with_difference(difference, column);
            }
        }
        row
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.columns().map(|(name, datum)| (name, datum.to_json().to_string())))
            .finish()
    }
}

/// What one update, or a synchronisation, changed.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Changes {
    /// By table and row.
    pub rows: Vec<Change>,
}

/// What changed in one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The table.
    pub table: Arc<str>,
    /// The row.
    pub uuid: Uuid,
    /// The row before; `None` if it is new.
    pub before: Option<Arc<Row>>,
    /// The row now; `None` if it is gone.
    pub after: Option<Arc<Row>>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The changed rows of one table.
    pub fn of<T: Table>(&self) -> impl Iterator<Item = &Change> {
        self.rows.iter().filter(|change| change.table.as_ref() == T::NAME)
    }
}

type Rows = BTreeMap<Uuid, Arc<Row>>;

/// The monitored tables and their rows.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Replica {
    tables: BTreeMap<Arc<str>, Arc<Rows>>,
}

impl Replica {
    /// The replica that a monitor's first answer describes.
    pub fn initial(monitored: &Monitored, updates: &Updates) -> Result<Self, UpdateError> {
        let tables = monitored.tables.keys().map(|name| (Arc::clone(name), Arc::default())).collect();
        let mut replica = Self { tables };
        replica.apply(updates)?;
        Ok(replica)
    }

    /// Takes an update in whole, or, if it does not fit the rows that are here, not at all.
    pub fn apply(&mut self, updates: &Updates) -> Result<Changes, UpdateError> {
        let mut changes = Changes::default();
        for (table, uuid, update) in &updates.rows {
            let before = self.tables.get(table).and_then(|rows| rows.get(uuid));
            let after = match (update, before) {
                (RowUpdate::Insert(row), None) | (RowUpdate::Replace(row), Some(_)) => {
                    Some(Arc::new(row.clone()))
                }
                (RowUpdate::Modify(differences), Some(row)) => {
                    Some(Arc::new(row.with_differences(differences)))
                }
                (RowUpdate::Delete, Some(_)) => None,
                (RowUpdate::Insert(_), Some(_)) => {
                    return Err(UpdateError::new(format!("{table} {uuid}"), "the row was there before"));
                }
                (RowUpdate::Modify(_) | RowUpdate::Replace(_) | RowUpdate::Delete, None) => {
                    return Err(UpdateError::new(format!("{table} {uuid}"), "there is no such row"));
                }
            };
            if before != after.as_ref() {
                changes.rows.push(Change {
                    table: Arc::clone(table),
                    uuid: *uuid,
                    before: before.cloned(),
                    after,
                });
            }
        }
        for change in &changes.rows {
            let rows = Arc::make_mut(self.tables.entry(Arc::clone(&change.table)).or_default());
            match &change.after {
                Some(row) => drop(rows.insert(change.uuid, Arc::clone(row))),
                None => drop(rows.remove(&change.uuid)),
            }
        }
        Ok(changes)
    }

    /// What makes `newer` of `self`.
    pub fn difference(&self, newer: &Self) -> Changes {
        let mut changes = Changes::default();
        let empty = Arc::default();
        let mut names: Vec<_> = self.tables.keys().chain(newer.tables.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let old: &Arc<Rows> = self.tables.get(name).unwrap_or(&empty);
            let new: &Arc<Rows> = newer.tables.get(name).unwrap_or(&empty);
            if Arc::ptr_eq(old, new) {
                continue;
            }
            let mut note = |uuid: &Uuid, before: Option<&Arc<Row>>, after: Option<&Arc<Row>>| {
                changes.rows.push(Change {
                    table: Arc::clone(name),
                    uuid: *uuid,
                    before: before.cloned(),
                    after: after.cloned(),
                });
            };
            for (uuid, before) in old.iter() {
                match new.get(uuid) {
                    Some(after) if Arc::ptr_eq(before, after) || before == after => {}
                    after => note(uuid, Some(before), after),
                }
            }
            for (uuid, after) in new.iter().filter(|(uuid, _)| !old.contains_key(uuid)) {
                note(uuid, None, Some(after));
            }
        }
        changes
    }

    /// The tables that are here, by name.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(AsRef::as_ref)
    }

    /// The rows of the table of this name.
    pub fn table(&self, name: &str) -> impl Iterator<Item = (Uuid, &Row)> {
        self.tables
            .get(name)
            .into_iter()
            .flat_map(|rows| rows.iter())
            .map(|(uuid, row)| (*uuid, row.as_ref()))
    }

    /// The rows of `T`'s table in their Rust type.
    pub fn rows<T: Table>(&self) -> impl Iterator<Item = (Uuid, T)> {
        self.table(T::NAME).map(|(uuid, row)| (uuid, T::from_row(row)))
    }

    /// The row of `T`'s table with this identity.
    pub fn row<T: Table>(&self, uuid: Uuid) -> Option<T> {
        self.tables.get(T::NAME)?.get(&uuid).map(|row| T::from_row(row))
    }

    /// The first row of `T`'s table that the test holds for.
    pub fn find<T: Table>(&self, test: impl Fn(&T) -> bool) -> Option<(Uuid, T)> {
        self.rows::<T>().find(|(_, row)| test(row))
    }
}
