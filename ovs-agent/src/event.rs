//! Everything that happens to a node, as values: the only way in which its state changes. It must not know where events
//! come from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::cni::AttachmentId;
use api::generated::ferrule::v1alpha1 as wire;
use compiler::host::HostState;
use serde::{Deserialize, Serialize};

use crate::attachment::Attachment;
use crate::drift::Drift;
use crate::shadow::{FlowChange, Shadow};

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The controllers that there are, `HOST:PORT` each; earlier ones that are not among them are gone.
    Controllers(BTreeSet<String>),
    /// A stream to the controller at this address was opened.
    StreamOpened(Session, String),
    /// A controller sent a delta.
    Delta(Session, Box<wire::Delta>),
    /// A controller that was asked to lead lacks what this node acknowledged.
    Behind(Session, Box<wire::Behind>),
    /// A stream ended, or could not be opened.
    StreamClosed {
        /// Which it was, or would have been.
        session: Session,
        /// To which controller.
        address: String,
        /// Why.
        problem: String,
    },
    /// An attachment has its addresses and is recorded.
    Plugged(Box<Attachment>),
    /// An attachment is no longer recorded.
    Unplugged(AttachmentId),
    /// Addresses are about to get another owner, and it is not known whether the last one's connections were forgotten.
    Departed(Vec<std::net::IpAddr>),
    /// What the database says, after it was read or changed.
    Database(Box<Database>),
    /// The database is out of reach, and why.
    DatabaseLost(String),
    /// The switch is connected; this is what it holds.
    SwitchObserved(Box<Observed>),
    /// Somebody else changed flows of the switch, on this connection to it.
    FlowsChanged(Session, Vec<FlowChange>),
    /// Somebody else changed something of ours beside flows; it was put right.
    Drifted(Vec<Drift>),
    /// The switch confirmed the flow-mods that it was sent.
    SwitchConfirmed,
    /// The switch refused a flow-mod, and with it everything that it was sent together with.
    SwitchRefused {
        /// Its place among what was sent.
        index: usize,
        /// In the switch's words.
        error: String,
    },
    /// The connections that were threatened were gone through, or could not be, and why.
    ConnectionsCut(Session, Result<crate::cut::Outcome, String>),
    /// The switch is out of reach, and why. What it holds is unknown from here on.
    SwitchLost(String),
    /// What became of a wanted state of the host; without one, of all that there is until another event says more.
    Host(Option<Arc<HostState>>, Result<(), String>),
    /// MTU of the underlay device in bytes.
    UnderlayMtu(u32),
    /// Time to try again what failed.
    Retry,
}

/// A switch that has just been connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Which connection.
    pub session: Session,
    /// Open vSwitch's version.
    pub version: String,
    /// What it holds.
    pub shadow: Shadow,
    /// It limits what it copies to us, so that copies may be asked for.
    pub copies: bool,
}

/// Which connection to a controller or to the switch: what was meant for an earlier one must not reach a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session(pub u64);

/// What the node needs to know of the Open vSwitch database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// `Bridge.fail_mode` of ours.
    pub fail_mode: String,
    /// `Bridge.datapath_type` of ours.
    pub datapath_type: String,
    /// The ports of our bridge by name.
    pub ports: BTreeMap<String, PortStatus>,
    /// Whether it holds what it should.
    pub realized: bool,
    /// What it refused last, until something is accepted.
    pub problem: Option<String>,
}

/// What Open vSwitch made of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// OpenFlow port number, once there is one.
    pub ofport: Option<u32>,
    /// Why there is none.
    pub error: Option<String>,
}

/// Attachments by id.
pub type AttachmentIds = BTreeSet<AttachmentId>;
