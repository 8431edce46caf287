//! Transactions: the operations of RFC 7047 §5.2 as values, checked against the server's schema before they are sent;
//! must not know how the answer comes (see `outcome`).

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::atom::Atom;
use crate::datum::Datum;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::typed::{Column, Fields, Table, Value};

/// `<function>` of a condition (RFC 7047 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `<`, for integers and reals.
    Less,
    /// `<=`, for integers and reals.
    LessOrEqual,
    /// `==`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `>=`, for integers and reals.
    GreaterOrEqual,
    /// `>`, for integers and reals.
    Greater,
    /// Every given element is in the column.
    Includes,
    /// No given element is in the column.
    Excludes,
}

impl Function {
    const fn name(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }
}

/// `<condition>` (RFC 7047 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The column it looks at.
    pub column: String,
    /// How it compares.
    pub function: Function,
    /// What it compares with.
    pub value: Datum,
}

impl Condition {
    /// Its JSON form.
    pub fn to_json(&self) -> Json {
        json!([self.column, self.function.name(), self.value.to_json()])
    }
}

/// `<mutator>` (RFC 7047 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutator {
    /// `+=`.
    Add,
    /// `-=`.
    Subtract,
    /// `*=`.
    Multiply,
    /// `/=`.
    Divide,
    /// `%=`.
    Remainder,
    /// Elements or pairs into a set or map.
    Insert,
    /// Elements, pairs or keys out of a set or map.
    Delete,
}

impl Mutator {
    const fn name(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Subtract => "-=",
            Self::Multiply => "*=",
            Self::Divide => "/=",
            Self::Remainder => "%=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}

/// `<mutation>` (RFC 7047 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The column it changes.
    pub column: String,
    /// How.
    pub mutator: Mutator,
    /// By what.
    pub value: Datum,
}

/// The rows that an operation is about: those of a table that meet every condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The table.
    pub table: String,
    /// `where`; without any, all rows.
    pub conditions: Vec<Condition>,
}

impl Selection {
    /// Every row of a table.
    pub fn all(table: &str) -> Self {
        Self { table: table.to_owned(), conditions: Vec::new() }
    }

    /// Narrowed by a further condition.
    #[must_use]
    pub fn and(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }
}

/// `<operation>` (RFC 7047 §5.2).
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// §5.2.1.
    Insert {
        /// The table.
        table: String,
        /// The columns that do not keep their default.
        row: BTreeMap<String, Datum>,
        /// The name by which other operations of the transaction refer to the row.
        uuid_name: String,
    },
    /// §5.2.2.
    Select {
        /// The rows.
        rows: Selection,
        /// The columns; `None` for all.
        columns: Option<Vec<String>>,
    },
    /// §5.2.3.
    Update {
        /// The rows.
        rows: Selection,
        /// The new values.
        row: BTreeMap<String, Datum>,
    },
    /// §5.2.4.
    Mutate {
        /// The rows.
        rows: Selection,
        /// The changes, in order.
        mutations: Vec<Mutation>,
    },
    /// §5.2.5.
    Delete {
        /// The rows.
        rows: Selection,
    },
    /// §5.2.6.
    Wait {
        /// The rows.
        rows: Selection,
        /// The columns that are compared.
        columns: Vec<String>,
        /// Whether they must be equal to `expected`, or must not.
        equal: bool,
        /// What they are compared with.
        expected: Vec<BTreeMap<String, Datum>>,
        /// How long the server may wait; `None` for ever, zero for not at all.
        timeout: Option<std::time::Duration>,
    },
    /// §5.2.7.
    Commit {
        /// Whether it must be on disk before the reply.
        durable: bool,
    },
    /// §5.2.8.
    Abort,
    /// §5.2.9: a text for the server's log.
    Comment(
        /// The text.
        String,
    ),
    /// §5.2.10: fails unless this session has the lock.
    Assert {
        /// The lock's name.
        lock: String,
    },
}

impl Operation {
    /// `op`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Insert { .. } => "insert",
            Self::Select { .. } => "select",
            Self::Update { .. } => "update",
            Self::Mutate { .. } => "mutate",
            Self::Delete { .. } => "delete",
            Self::Wait { .. } => "wait",
            Self::Commit { .. } => "commit",
            Self::Abort => "abort",
            Self::Comment(_) => "comment",
            Self::Assert { .. } => "assert",
        }
    }

    /// The table that it is about, if it is about one.
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Insert { table, .. } => Some(table),
            Self::Select { rows, .. }
            | Self::Update { rows, .. }
            | Self::Mutate { rows, .. }
            | Self::Delete { rows }
            | Self::Wait { rows, .. } => Some(&rows.table),
            Self::Commit { .. } | Self::Abort | Self::Comment(_) | Self::Assert { .. } => None,
        }
    }
}

/// A row that a transaction inserts, to be referred to by its other operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRow {
    name: String,
    /// The place of its `insert` among the operations, and so of its UUID among the results.
    pub operation: usize,
}

impl From<NewRow> for Atom {
    fn from(row: NewRow) -> Self {
        Self::NamedUuid(row.name)
    }
}

impl From<&NewRow> for Atom {
    fn from(row: &NewRow) -> Self {
        Self::NamedUuid(row.name.clone())
    }
}

/// Operations that take effect together or not at all (RFC 7047 §4.1.3).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Transaction {
    operations: Vec<Operation>,
}

/// An operation that the server's schema cannot hold; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operation {index} ({operation} on {table}): {problem}")]
pub struct InvalidOperation {
    /// Its place in the transaction, from 0.
    pub index: usize,
    /// `op`.
    pub operation: &'static str,
    /// The table.
    pub table: String,
    /// What is wrong with it.
    pub problem: InvalidReason,
}

/// Why an operation does not fit the server's schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReason {
    /// No such table.
    #[error("the server's database {database} (schema {version}) has no such table")]
    UnknownTable {
        /// The database.
        database: String,
        /// Its schema's version.
        version: String,
    },
    /// No such column.
    #[error("column {column} is unknown to the server (schema {version})")]
    UnknownColumn {
        /// The column.
        column: String,
        /// The schema's version.
        version: String,
    },
    /// A value that the column cannot hold.
    #[error("column {column} is a {expected}; it cannot hold {value}")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        expected: String,
        /// The value.
        value: String,
    },
    /// A lock whose name the protocol does not allow (RFC 7047 §3.1 `<id>`).
    #[error("{name:?} cannot name a lock: use letters, digits and _, not beginning with a digit")]
    LockName {
        /// The name.
        name: String,
    },
    /// A column that is fixed when the row is inserted.
    #[error("column {column} cannot be changed once the row stands")]
    Immutable {
        /// The column.
        column: String,
    },
}

impl Transaction {
    /// Without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// The operations.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Adds any operation; the place of its result.
    pub fn push(&mut self, operation: Operation) -> usize {
        self.operations.push(operation);
        self.operations.len() - 1
    }

    /// Inserts a row. A row of a table that is not a root needs a reference to it in the same transaction, or the
    /// server collects it at once.
    pub fn insert<T: Table>(&mut self, fields: Fields<T>) -> NewRow {
        self.insert_untyped(T::NAME, fields.values)
    }

    /// Inserts a row into a table without a Rust type.
    pub fn insert_untyped(&mut self, table: &str, row: BTreeMap<String, Datum>) -> NewRow {
        let name = format!("row{}", self.operations.len());
        let operation =
            self.push(Operation::Insert { table: table.to_owned(), row, uuid_name: name.clone() });
        NewRow { name, operation }
    }

    /// Gives the selected rows new values; the place of the count.
    pub fn update<T: Table>(&mut self, rows: Selection, fields: Fields<T>) -> usize {
        self.push(Operation::Update { rows, row: fields.values })
    }

    /// Changes the selected rows in place; the place of the count. That no row met the conditions is no error: see
    /// [`Transaction::require`].
    pub fn mutate(&mut self, rows: Selection, mutations: impl IntoIterator<Item = Mutation>) -> usize {
        self.push(Operation::Mutate { rows, mutations: mutations.into_iter().collect() })
    }

    /// Deletes the selected rows; the place of the count.
    pub fn delete(&mut self, rows: Selection) -> usize {
        self.push(Operation::Delete { rows })
    }

    /// Reads the selected rows, with all columns or some; the place of the rows.
    pub fn select(&mut self, rows: Selection, columns: Option<&[&str]>) -> usize {
        let columns = columns.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        self.push(Operation::Select { rows, columns })
    }

    /// Lets the transaction fail with "timed out" unless the column of the selected rows has this value now.
    pub fn expect<T: Table, V: Value>(&mut self, rows: Selection, column: Column<T, V>, value: &V) -> usize {
        self.push(Operation::Wait {
            rows,
            columns: vec![column.name().to_owned()],
            equal: true,
            expected: vec![BTreeMap::from([(column.name().to_owned(), value.to_datum())])],
            timeout: Some(std::time::Duration::ZERO),
        })
    }

    /// The row that has this value in this column, such as the bridge of a name, which must exist: without it the
    /// transaction fails with "timed out" at this operation, where an update or mutation would pass over it in silence.
    pub fn require<T: Table, V: Value>(&mut self, column: Column<T, V>, value: impl Into<V>) -> Selection {
        let value = value.into();
        let rows = Selection::all(T::NAME).and(Condition {
            column: column.name().to_owned(),
            function: Function::Equal,
            value: value.to_datum(),
        });
        self.expect(rows.clone(), column, &value);
        rows
    }

    /// A text for the server's log.
    pub fn comment(&mut self, text: impl Into<String>) -> usize {
        self.push(Operation::Comment(text.into()))
    }

    /// Asks for the transaction to be on disk before the reply, if `durable`.
    pub fn commit(&mut self, durable: bool) -> usize {
        self.push(Operation::Commit { durable })
    }

    /// Gives the transaction up, after its other operations were tried.
    pub fn abort(&mut self) -> usize {
        self.push(Operation::Abort)
    }

    /// Fails the transaction unless this session has the lock.
    pub fn assert_lock(&mut self, lock: impl Into<String>) -> usize {
        self.push(Operation::Assert { lock: lock.into() })
    }

    /// `params` of `transact`, or the first operation that the schema cannot hold.
    pub fn to_json(&self, schema: &DatabaseSchema) -> Result<Json, InvalidOperation> {
        let mut params = vec![json!(schema.name)];
        for (index, operation) in self.operations.iter().enumerate() {
            let encoded = encode(operation, schema).map_err(|problem| InvalidOperation {
                index,
                operation: operation.name(),
                table: operation.table().unwrap_or("no table").to_owned(),
                problem,
            })?;
            params.push(Json::Object(encoded));
        }
        Ok(Json::Array(params))
    }
}

/// What a value is for, and so what is asked of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Insert,
    Update,
    Compare,
}

fn encode(operation: &Operation, schema: &DatabaseSchema) -> Result<Map<String, Json>, InvalidReason> {
    let mut json = Map::new();
    json.insert("op".to_owned(), json!(operation.name()));
    let mut put = |member: &str, value: Json| json.insert(member.to_owned(), value);
    let Some(table_name) = operation.table() else {
        match operation {
            Operation::Commit { durable } => put("durable", json!(durable)),
            Operation::Comment(text) => put("comment", json!(text)),
            Operation::Assert { lock } if !is_id(lock) => {
                return Err(InvalidReason::LockName { name: lock.clone() });
            }
            Operation::Assert { lock } => put("lock", json!(lock)),
            _ => None,
        };
        return Ok(json);
    };
    let table = schema.table(table_name).ok_or_else(|| InvalidReason::UnknownTable {
        database: schema.name.clone(),
        version: schema.version.clone(),
    })?;
    let known = |column: &String| match table.column_type(column) {
        Some(_) => Ok(()),
        None => Err(unknown_column(column, schema)),
    };
    let row = |values: &BTreeMap<String, Datum>, purpose| row_to_json(values, table, schema, purpose);
    put("table", json!(table_name));
    if let Operation::Select { rows, .. }
    | Operation::Update { rows, .. }
    | Operation::Mutate { rows, .. }
    | Operation::Delete { rows }
    | Operation::Wait { rows, .. } = operation
    {
        rows.conditions.iter().try_for_each(|condition| known(&condition.column))?;
        put("where", rows.conditions.iter().map(Condition::to_json).collect());
    }
    match operation {
        Operation::Insert { row: values, uuid_name, .. } => {
            put("row", row(values, Use::Insert)?);
            put("uuid-name", json!(uuid_name));
        }
        Operation::Update { row: values, .. } => {
            put("row", row(values, Use::Update)?);
        }
        Operation::Select { columns: Some(columns), .. } => {
            columns.iter().try_for_each(known)?;
            put("columns", json!(columns));
        }
        Operation::Mutate { mutations, .. } => {
            mutations.iter().try_for_each(|mutation| known(&mutation.column))?;
            let mutations = mutations
                .iter()
                .map(|mutation| json!([mutation.column, mutation.mutator.name(), mutation.value.to_json()]));
            put("mutations", mutations.collect());
        }
        Operation::Wait { columns, equal, expected, timeout, .. } => {
            columns.iter().try_for_each(known)?;
            let expected: Result<Vec<Json>, _> =
                expected.iter().map(|values| row(values, Use::Compare)).collect();
            put("columns", json!(columns));
            put("until", json!(if *equal { "==" } else { "!=" }));
            put("rows", Json::Array(expected?));
            if let Some(timeout) = timeout {
                put("timeout", json!(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)));
            }
        }
        _ => {}
    }
    Ok(json)
}

fn row_to_json(
    values: &BTreeMap<String, Datum>,
    table: &TableSchema,
    schema: &DatabaseSchema,
    purpose: Use,
) -> Result<Json, InvalidReason> {
    let mut row = Map::new();
    for (column, datum) in values {
        let expected = table.column_type(column).ok_or_else(|| unknown_column(column, schema))?;
        if !expected.accepts(datum) {
            return Err(InvalidReason::WrongType {
                column: column.clone(),
                expected: expected.to_string(),
                value: crate::datum::beginning(&datum.to_json()),
            });
        }
        let mutable = table.columns.get(column.as_str()).is_some_and(|column| column.mutable);
        if purpose == Use::Update && !mutable {
            return Err(InvalidReason::Immutable { column: column.clone() });
        }
        row.insert(column.clone(), datum.to_json());
    }
    Ok(Json::Object(row))
}

fn unknown_column(column: &str, schema: &DatabaseSchema) -> InvalidReason {
    InvalidReason::UnknownColumn { column: column.to_owned(), version: schema.version.clone() }
}

/// Whether it is an `<id>` (RFC 7047 §3.1).
fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}
