//! OpenFlow 1.3 as Open vSwitch speaks it: messages and their bytes, both ways, with Nicira's and the ONF's extensions.
//!
//! The crate knows nothing of Kubernetes or of networks; sockets exist only in `io` (feature `io`).

pub mod action;
pub mod canonical;
pub mod connection;
pub mod error;
pub mod flow;
pub mod flow_match;
pub mod group;
pub mod instruction;
#[cfg(feature = "io")]
pub mod io;
pub mod message;
pub mod number;
pub mod oxm;
mod prerequisite;
pub mod text;
pub mod wire;

pub use action::{
    Action, Controller, Ct, CtAlg, CtExec, CtZone, HashFields, Learn, LearnDst, LearnSpec, LearnSrc,
    Multipath, MultipathAlgorithm, Nat, NatKind, NatRange,
};
pub use error::{DecodeError, DecodeErrorKind, EncodeError, FieldError};
pub use flow::{FlowFlags, FlowMod, FlowModCommand, FlowStats};
pub use flow_match::Match;
pub use group::{Bucket, GroupMod, GroupModCommand, GroupType};
pub use instruction::Instruction;
pub use message::Message;
pub use number::{BufferId, BundleId, Cookie, GroupId, MacAddr, MeterId, PortNo, QueueId, TableId, Xid};
pub use oxm::{Field, Oxm, Subfield};
