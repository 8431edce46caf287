//! OVSDB, the database protocol of Open vSwitch (RFC 7047).
//!
//! This crate knows nothing of Kubernetes nor of what the rows are for.

mod atom;
mod datum;
mod message;
mod monitor;
mod outcome;
mod replica;
mod schema;
mod splitter;
mod transaction;
mod typed;
pub mod vswitch;

pub use atom::{Atom, AtomicType, NotUuid, Real, Uuid};
pub use datum::{Datum, DatumError};
pub use message::{Incoming, MessageError};
pub use monitor::{Interest, MissingColumn, Monitored, RowUpdate, UpdateError, Updates};
pub use outcome::{Failure, OpResult, Outcome, Place, ServerError, TransactError};
pub use replica::{Change, Changes, Layout, Replica, Row};
pub use schema::{BaseType, ColumnSchema, ColumnType, DatabaseSchema, SchemaError, TableSchema};
pub use splitter::{SplitError, SplitLimits, Splitter};
pub use transaction::{
    Condition, Function, InvalidOperation, InvalidReason, Mutation, Mutator, NewRow, Operation, Selection,
    Transaction,
};
pub use typed::{Column, ColumnInfo, Fields, Scalar, Table, Value};
