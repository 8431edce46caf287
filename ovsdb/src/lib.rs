//! OVSDB, the database protocol of Open vSwitch (RFC 7047, with ovsdb-server(7)'s extensions).
//!
//! This program adds a port to a bridge and waits for its OpenFlow port number:
//!
//! ```no_run
#![doc = include_str!("../examples/add_port.rs")]
//! ```
//!
//! # Layers
//! Each uses only those above it; all but the last do no IO and take time as an argument.
//! - values: [`Atom`], [`Datum`], [`DatabaseSchema`]; rows with Rust types: [`Table`], [`vswitch`];
//! - the stream: [`Splitter`] and [`Incoming`];
//! - what is said: [`Transaction`] and its [`Outcome`], [`Interest`] and its [`Updates`];
//! - [`Session`]: one connection's requests, replies, updates, locks, keepalive;
//! - [`Replica`]: the monitored rows in memory; [`Mirror`]: keeps one true across connections;
//! - [`io::Client`] (feature `io`): the same for tokio.
//!
//! # Limits
//! A peer can make us hold at most [`SplitLimits::message_bytes`] of a message, [`SessionConfig::backlog_bytes`] of
//! replies that it does not read, and the rows that we monitor. Whatever breaks the protocol ends the connection with
//! an error that names the fault; the replica stays as it was until the next connection replaces it in one step.
//!
//! This crate knows nothing of Kubernetes, nor of what the rows are for.

mod atom;
mod backoff;
mod datum;
#[cfg(test)]
mod fake_server;
#[cfg(feature = "io")]
pub mod io;
mod message;
mod mirror;
mod monitor;
mod outcome;
mod replica;
mod schema;
mod session;
mod splitter;
mod transaction;
mod typed;
pub mod vswitch;

pub use atom::{Atom, AtomicType, NotUuid, Real, Uuid};
pub use backoff::Backoff;
pub use datum::{Datum, DatumError};
pub use message::{Incoming, MessageError};
pub use mirror::{Mirror, MirrorError, MirrorEvent, Ticket};
pub use monitor::{Interest, MissingColumn, Monitored, RowUpdate, UpdateError, Updates};
pub use outcome::{Failure, OpResult, Outcome, Place, ServerError, TransactError};
pub use replica::{Change, Changes, Layout, Replica, Row};
pub use schema::{BaseType, ColumnSchema, ColumnType, DatabaseSchema, SchemaError, TableSchema};
pub use session::{
    Event, MonitorId, MonitorMethod, Monitoring, Refused, Reply, RequestId, Session, SessionConfig,
    SessionError,
};
pub use splitter::{SplitError, SplitLimits, Splitter};
pub use transaction::{
    Condition, Function, InvalidOperation, InvalidReason, Mutation, Mutator, NewRow, Operation, Selection,
    Transaction,
};
pub use typed::{Column, ColumnInfo, Fields, Scalar, Table, Value};
