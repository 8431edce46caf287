//! OpenFlow 1.3 as Open vSwitch speaks it: messages and their bytes, both ways, with Nicira's and the ONF's extensions; the
//! state of a connection without a socket; ovs-ofctl's language, both ways.
//!
//! | module | what it holds |
//! |---|---|
//! | [`message`] | every message of OpenFlow 1.3.5, encode and decode; unknown types survive |
//! | [`oxm`], [`Match`], [`Action`], [`Instruction`] | what flows are made of; one declarative table of fields |
//! | [`text`] | prints what `ovs-ofctl ofp-print` prints, reads what `ovs-ofctl add-flow` reads |
//! | [`canonical`] | one form for flows that mean the same, and stable fingerprints of it |
//! | [`connection`] | hello, keepalive, xids, barriers, bundles; time and bytes are arguments |
//! | `io` (feature `io`) | tokio: a socket and a client |
//!
//! The crate knows nothing of Kubernetes or of networks, and only `io` knows sockets.
//!
//! ```no_run
//! # #[cfg(feature = "io")]
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use openflow::io::Client;
//! use openflow::{FlowModCommand, Message, message::FlowStatsRequest, text::parse_flow};
//!
//! let bridge = "unix:/run/openvswitch/br-int.mgmt".parse()?;
//! let (client, _events) = Client::connect(&bridge, Default::default()).await?;
//! let flow = parse_flow("table=1,priority=7,tcp,tp_dst=80,actions=ct(commit),output:2", FlowModCommand::Add)?;
//! client.apply_bundle([Message::FlowMod(Box::new(flow))]).await?;
//! client.dump_flows(FlowStatsRequest::default(), |flow| println!("{flow}")).await?;
//! # Ok(())
//! # }
//! ```

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
