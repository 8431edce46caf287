//! What became of a transaction: a result per operation, or one error that says which operation failed and how
//! (RFC 7047 §4.1.3, §5.2); must not know how the answer travelled.

use std::fmt;

use serde_json::Value as Json;

use crate::atom::{Uuid, uuid_from_json};
use crate::datum::beginning;
use crate::replica::Row;
use crate::schema::DatabaseSchema;
use crate::transaction::{InvalidOperation, NewRow, Operation, Transaction};

/// The result of one operation of a transaction that took effect.
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// `insert`: the new row's identity.
    Inserted(Uuid),
    /// `select`: the rows, with `_uuid` among their columns if it was asked for.
    Rows(Vec<Row>),
    /// `update`, `mutate`, `delete`: how many rows met the conditions.
    Count(u64),
    /// The others.
    Done,
}

/// The results of a transaction that took effect, in the order of its operations.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Outcome {
    /// One per operation.
    pub results: Vec<OpResult>,
}

impl Outcome {
    /// The identity that a row of the transaction was given.
    pub fn uuid(&self, row: &NewRow) -> Option<Uuid> {
        match self.results.get(row.operation)? {
            OpResult::Inserted(uuid) => Some(*uuid),
            _ => None,
        }
    }

    /// How many rows the operation at this place changed.
    pub fn count(&self, operation: usize) -> Option<u64> {
        match self.results.get(operation)? {
            OpResult::Count(count) => Some(*count),
            _ => None,
        }
    }

    /// The rows that the operation at this place read.
    pub fn rows(&self, operation: usize) -> Option<&[Row]> {
        match self.results.get(operation)? {
            OpResult::Rows(rows) => Some(rows),
            _ => None,
        }
    }
}

/// `<error>` (RFC 7047 §3.1): what a server says when it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The kind, a short fixed text.
    pub error: String,
    /// For people.
    pub details: String,
}

impl ServerError {
    /// Reads `error` of a reply or of an operation: an object, or in some replies of ovsdb-server a bare text.
    pub fn from_json(json: &Json) -> Self {
        let text = |member: &str| json.get(member).and_then(Json::as_str).unwrap_or_default().to_owned();
        match json {
            Json::String(error) => Self { error: error.clone(), details: String::new() },
            Json::Object(_) => {
                let (mut details, syntax) = (text("details"), text("syntax"));
                if !syntax.is_empty() {
                    let shown: String = syntax.chars().take(200).collect();
                    details = format!("{details} (in {shown})");
                }
                Self { error: text("error"), details }
            }
            other => Self { error: beginning(other), details: String::new() },
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.details.is_empty() {
            true => f.write_str(&self.error),
            false => write!(f, "{}: {}", self.error, self.details),
        }
    }
}

/// Where in a transaction a failure lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In one of the operations.
    Operation {
        /// Its place, from 0.
        index: usize,
        /// `op`.
        name: &'static str,
        /// The table, for operations that have one.
        table: Option<String>,
    },
    /// In the whole, when it was about to take effect: constraints between rows are only checked then.
    Commit,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation { index, name, table: Some(table) } => {
                write!(f, "operation {index} ({name} on {table})")
            }
            Self::Operation { index, name, table: None } => write!(f, "operation {index} ({name})"),
            Self::Commit => f.write_str("commit"),
        }
    }
}

/// The ways in which a server refuses a transaction (RFC 7047 §4.1.3 and §5.2, ovsdb-server(7) §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A value, an index or the number of rows breaks the schema.
    ConstraintViolation,
    /// A strong reference to a row that does not exist.
    ReferentialIntegrity,
    /// A `wait` whose condition did not come true in its time.
    TimedOut,
    /// A column that the server's schema lacks.
    UnknownColumn,
    /// An operation that the server cannot parse: an unknown table, a value of the wrong type.
    Syntax,
    /// An `assert` of a lock that this session has not.
    NotOwner,
    /// An `abort`.
    Aborted,
    /// Two rows with the same name in one transaction.
    DuplicateUuidName,
    /// A division by zero.
    Domain,
    /// A number beyond 64 bits, or a real that is infinite.
    Range,
    /// The server could not write to its disk.
    Io,
    /// The server lacks memory or space.
    ResourcesExhausted,
    /// The role of this connection does not allow it.
    Permission,
    /// The server does not take changes, or not this one.
    NotSupported,
    /// The database does not exist, or has gone.
    UnknownDatabase,
    /// The transaction was cancelled before it took effect.
    Canceled,
    /// A text that this crate does not know; it is in the details.
    Other,
}

impl Failure {
    /// The way by the server's text for it.
    pub fn from_error(error: &str) -> Self {
        match error {
            "constraint violation" => Self::ConstraintViolation,
            "referential integrity violation" => Self::ReferentialIntegrity,
            "timed out" => Self::TimedOut,
            "unknown column" => Self::UnknownColumn,
            "syntax error" | "unknown table" => Self::Syntax,
            "not owner" => Self::NotOwner,
            "aborted" => Self::Aborted,
            "duplicate uuid-name" => Self::DuplicateUuidName,
            "domain error" => Self::Domain,
            "range error" => Self::Range,
            "I/O error" => Self::Io,
            "resources exhausted" => Self::ResourcesExhausted,
            "permission error" => Self::Permission,
            "not supported" | "not allowed" => Self::NotSupported,
            "unknown database" => Self::UnknownDatabase,
            "canceled" => Self::Canceled,
            _ => Self::Other,
        }
    }
}

/// Why a transaction did not take effect, or is not known to have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactError {
    /// It does not fit the server's schema; it was not sent.
    #[error("not sent: {0}")]
    Invalid(#[from] InvalidOperation),
    /// The server refused it; nothing of it took effect.
    #[error("{place} failed: {error}")]
    Refused {
        /// Which operation.
        place: Place,
        /// In which way.
        failure: Failure,
        /// In the server's words.
        error: ServerError,
    },
    /// It was never sent, because there was no connection in time.
    #[error("not sent: no connection to the database: {reason}")]
    NotConnected {
        /// Why there is none.
        reason: String,
    },
    /// It was sent, and the connection broke or the time was up before the reply: it may have taken effect. Read the
    /// database after the next synchronisation before trying again.
    #[error("sent, and its outcome is unknown: {reason}")]
    OutcomeUnknown {
        /// What happened to the reply.
        reason: String,
    },
    /// The server cancelled it when its time was up; nothing of it took effect.
    #[error("cancelled because its time was up; nothing of it took effect")]
    Canceled,
    /// The reply does not answer the transaction: it may have taken effect.
    #[error("sent, and the reply makes no sense: {problem}")]
    Malformed {
        /// What is wrong with the reply.
        problem: String,
    },
}

impl TransactError {
    /// The way in which the server refused, if it did.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Refused { failure, .. } => Some(*failure),
            Self::Canceled => Some(Failure::Canceled),
            _ => None,
        }
    }
}

/// Reads the reply to a transaction (RFC 7047 §4.1.3).
pub fn outcome(
    transaction: &Transaction,
    schema: &DatabaseSchema,
    reply: Result<Json, Json>,
) -> Result<Outcome, TransactError> {
    let operations = transaction.operations();
    let results = match reply {
        Ok(Json::Array(results)) => results,
        Ok(other) => return Err(malformed(format!("the result is {}, not an array", beginning(&other)))),
        Err(error) => {
            let error = ServerError::from_json(&error);
            return Err(match Failure::from_error(&error.error) {
                Failure::Canceled => TransactError::Canceled,
                failure => TransactError::Refused { place: Place::Commit, failure, error },
            });
        }
    };
    if let Some((index, failed)) =
        results.iter().enumerate().find(|(_, result)| result.get("error").is_some())
    {
        let place = match operations.get(index) {
            Some(operation) => Place::Operation {
                index,
                name: operation.name(),
                table: operation.table().map(str::to_owned),
            },
            None => Place::Commit,
        };
        let error = ServerError::from_json(failed);
        return Err(TransactError::Refused { place, failure: Failure::from_error(&error.error), error });
    }
    if results.len() != operations.len() {
        return Err(malformed(format!("{} results for {} operations", results.len(), operations.len())));
    }
    let mut outcome = Outcome::default();
    for (index, (operation, result)) in operations.iter().zip(&results).enumerate() {
        let result = one_result(operation, schema, result)
            .map_err(|problem| malformed(format!("operation {index} ({}): {problem}", operation.name())))?;
        outcome.results.push(result);
    }
    Ok(outcome)
}

fn one_result(operation: &Operation, schema: &DatabaseSchema, result: &Json) -> Result<OpResult, String> {
    let member = |name: &str| result.get(name).ok_or_else(|| format!("no {name:?} in {}", beginning(result)));
    Ok(match operation {
        Operation::Insert { .. } => {
            let uuid = member("uuid")?;
            OpResult::Inserted(uuid_from_json(uuid).ok_or_else(|| format!("{} is no UUID", beginning(uuid)))?)
        }
        Operation::Update { .. } | Operation::Mutate { .. } | Operation::Delete { .. } => {
            let count = member("count")?;
            OpResult::Count(count.as_u64().ok_or_else(|| format!("{} is no count", beginning(count)))?)
        }
        Operation::Select { rows: selection, .. } => {
            let table = schema.table(&selection.table).ok_or("its table is not in the schema")?;
            let rows = member("rows")?;
            let rows = rows.as_array().ok_or_else(|| format!("{} are no rows", beginning(rows)))?;
            let rows: Result<_, String> = rows.iter().map(|row| Row::from_selected(row, table)).collect();
            OpResult::Rows(rows?)
        }
        _ => OpResult::Done,
    })
}

fn malformed(problem: String) -> TransactError {
    TransactError::Malformed { problem }
}
