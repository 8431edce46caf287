//! The state of a node and what follows from it: what the switch, the database and the host should hold, what to send next,
//! what to answer to whom. No IO, no clock: events go in, work comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::cni::AttachmentId;
use api::generated::ferrule::v1alpha1 as wire;
use api::stream::Rejection;
use api::watermark::Watermark;
use compiler::host::HostState;
use compiler::switch::SwitchRows;
use compiler::{NodeConfig, Reason};
use network::{NodeView, PolicyId};
use openflow::{Cookie, FlowMod};

use crate::attachment::Attachment;
use crate::event::{AttachmentIds, Database, Event, Session};
use crate::plan::Confirmation;
use crate::saved::Saved;
use crate::shadow::Shadow;

mod flows;
mod report;
mod stream;
#[cfg(test)]
mod tests;

pub use report::{Snapshot, Standing};

/// Why flows exist, by their mark.
pub type Reasons = BTreeMap<Cookie, Reason>;

/// A node's state.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    /// This node as the command line describes it, until the view has it.
    described: network::Node,
    view: Arc<NodeView>,
    watermark: Watermark,
    /// The watermark of the last state that was answered.
    acknowledged: Watermark,
    /// Resources that could not be read.
    malformed: Vec<Rejection>,
    attachments: BTreeMap<AttachmentId, Plugged>,
    stream: Stream,
    database: Option<Database>,
    database_problem: String,
    switch: Switch,
    switch_version: String,
    host: Result<(), String>,
    /// What the switch would not take of policies and ports; it is compiled without them.
    rejected: Rejected,
    compiled: Compiled,
    /// Counts changes of anything that the program depends on.
    generation: u64,
    confirmed: Confirmed,
    acknowledgements: Vec<Owed>,
    /// Addresses whose owner is gone, and the generation in which it was.
    departed: Vec<(u64, Vec<std::net::IpAddr>)>,
    work: Work,
    flow_mods_sent: u64,
}

/// An attachment, and the revision of our bindings that reported it.
#[derive(Clone, Debug)]
struct Plugged {
    attachment: Attachment,
    revision: u64,
}

/// What is known of the controllers.
#[derive(Clone, Debug)]
struct Stream {
    configured: bool,
    session: Option<Session>,
    problem: String,
    revision: u64,
}

#[derive(Debug)]
enum Switch {
    Away { problem: String },
    Here { session: Session, shadow: Shadow, applying: Option<Applying>, problem: Option<String> },
}

/// Flow-mods that were sent and are not confirmed.
#[derive(Debug)]
struct Applying {
    confirmation: Confirmation,
    promise: Confirmed,
}

/// What is in force.
#[derive(Clone, Debug, Default)]
struct Confirmed {
    /// Of which generation the switch holds the program; 0 while it holds none.
    generation: u64,
    /// What that program was compiled from.
    watermark: Watermark,
    /// The attachments that it serves in full.
    served: AttachmentIds,
    /// Ports that the program speaks of and that had no number.
    unbound: usize,
}

#[derive(Debug, Default)]
struct Rejected {
    policies: BTreeMap<PolicyId, String>,
    interfaces: BTreeMap<String, String>,
}

/// What the last compilation left, its flows apart: those are in the switch.
#[derive(Debug, Default)]
struct Compiled {
    generation: u64,
    rows: Arc<SwitchRows>,
    host: Arc<HostState>,
    reasons: Arc<Reasons>,
    refused: BTreeMap<PolicyId, String>,
}

/// A delta whose answer waits for the switch.
#[derive(Debug)]
struct Owed {
    session: Session,
    nonce: u64,
    generation: u64,
}

/// What the drivers have to do now.
#[derive(Debug, Default)]
pub struct Work {
    /// The database should hold this from now on.
    pub rows: Option<Arc<SwitchRows>>,
    /// The host should hold this from now on.
    pub host: Option<Arc<HostState>>,
    /// To be sent to the switch in one bundle; the answer comes as an event before more is asked for.
    pub flows: Option<(Session, Vec<FlowMod>)>,
    /// To be sent to the controller of this session.
    pub messages: Vec<(Session, wire::FromAgent)>,
    /// The stream is to be ended: this controller is behind.
    pub leave: Option<(Session, String)>,
    /// Connections of these addresses are to be forgotten: their owners are gone.
    pub forget: Option<(Session, Vec<std::net::IpAddr>)>,
    /// To be kept on disk.
    pub save: Option<Saved>,
    /// What the switch refused is to be tried again after a while.
    pub retry: bool,
    /// The pod ranges of this node, when they changed.
    pub ranges: Option<Vec<network::Cidr>>,
    /// The switch holds all it should: it may forward from its tables alone.
    pub in_sync: bool,
}

/// What a node starts from.
#[derive(Debug)]
pub struct Start {
    /// How it is set up.
    pub config: NodeConfig,
    /// This node as the command line describes it.
    pub described: network::Node,
    /// The last state that a controller gave and the switch confirmed.
    pub saved: Saved,
    /// What is plugged.
    pub attachments: BTreeMap<AttachmentId, Attachment>,
    /// Whether there is any controller to wait for.
    pub has_controllers: bool,
    /// Greater than any that this node used before: the controllers count on it.
    pub revision: u64,
}

impl Node {
    /// The state at the start of the agent.
    pub fn new(start: Start) -> Self {
        let plugged = |attachment| Plugged { attachment, revision: 0 };
        Self {
            config: start.config,
            described: start.described,
            view: start.saved.view,
            acknowledged: start.saved.watermark.clone(),
            watermark: start.saved.watermark,
            malformed: Vec::new(),
            attachments: start.attachments.into_iter().map(|(id, a)| (id, plugged(a))).collect(),
            stream: Stream {
                configured: start.has_controllers,
                session: None,
                problem: "not connected yet".into(),
                revision: start.revision,
            },
            database: None,
            database_problem: "not connected yet".into(),
            switch: Switch::Away { problem: "not connected yet".into() },
            switch_version: String::new(),
            host: Err("not made yet".into()),
            rejected: Rejected::default(),
            compiled: Compiled::default(),
            generation: 1,
            confirmed: Confirmed::default(),
            acknowledgements: Vec::new(),
            departed: Vec::new(),
            work: Work { ranges: Some(Vec::new()), ..Work::default() },
            flow_mods_sent: 0,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::StreamOpened(session) => self.stream_opened(session),
            Event::Delta(session, delta) => self.delta(session, &delta),
            Event::StreamClosed(problem) => {
                self.stream.session = None;
                self.stream.problem = problem;
                self.acknowledgements.clear();
            }
            Event::Plugged(attachment) => self.plugged(*attachment),
            Event::Unplugged(id) => self.unplugged(&id),
            Event::Database(database) => self.database_changed(*database),
            Event::DatabaseLost(problem) => {
                // What it said last stays the best guess; the switch works on without it.
                self.database_problem = problem;
                if let Some(database) = &mut self.database {
                    database.realized = false;
                }
            }
            Event::SwitchObserved(observed) => {
                let crate::event::Observed { session, version, shadow } = *observed;
                self.switch_version = version;
                self.switch = Switch::Here { session, shadow, applying: None, problem: None };
                self.confirmed = Confirmed::default();
                self.rejected = Rejected::default();
                self.generation += 1;
            }
            Event::SwitchConfirmed => self.switch_confirmed(),
            Event::SwitchRefused { index, error } => self.switch_refused(index, &error),
            Event::SwitchLost(problem) => {
                self.switch = Switch::Away { problem };
                self.confirmed = Confirmed::default();
            }
            Event::Host(outcome) => self.host = outcome,
            Event::UnderlayMtu(mtu) => {
                if self.config.underlay_mtu != mtu {
                    self.config.underlay_mtu = mtu;
                    self.generation += 1;
                }
            }
            Event::Retry => {
                if let Switch::Here { problem, applying: None, .. } = &mut self.switch {
                    *problem = None;
                    self.rejected = Rejected::default();
                    self.generation += 1;
                }
            }
        }
    }

    /// What is to be done now, each thing once.
    pub fn work(&mut self) -> Work {
        self.reconcile();
        self.pay();
        self.forget();
        let mut work = std::mem::take(&mut self.work);
        work.in_sync = self.in_sync();
        work
    }

    fn database_changed(&mut self, database: Database) {
        let numbers = |database: &Database| -> Vec<_> {
            database.ports.iter().map(|(name, status)| (name.clone(), status.ofport)).collect()
        };
        if self.database.as_ref().map(numbers) != Some(numbers(&database)) {
            self.generation += 1;
        }
        self.database = Some(database);
        self.database_problem = String::new();
    }

    fn known_uid(&self, attachment: &Attachment) -> Option<&str> {
        Some(&self.view.pods.get(&attachment.pod_name()?)?.uid)
    }

    /// This node, as the controller or else the command line describes it.
    fn own(&self) -> &network::Node {
        self.view.nodes.get(&self.config.node).unwrap_or(&self.described)
    }

    fn in_sync(&self) -> bool {
        let applying = matches!(&self.switch, Switch::Here { applying: Some(_), .. });
        !applying
            && self.confirmed.generation == self.generation
            && self.confirmed.unbound == 0
            && self.rejected.policies.is_empty()
            && self.rejected.interfaces.is_empty()
    }
}
