//! The state of a node and what follows from it: what the switch, the database and the host should hold, what to send next,
//! what to answer to whom. No IO, no clock: events go in, work comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::cni::AttachmentId;
use api::generated::ferrule::v1alpha1 as wire;
use api::watermark::Watermark;
use compiler::host::HostState;
use compiler::incremental::Touched;
use compiler::switch::SwitchRows;
use compiler::{NodeConfig, Owner, PortRef};
use network::{NamespacedName, NodeView, PolicyId};
use openflow::PortNo;

use crate::attachment::Attachment;
use crate::cut::stale::Served;
use crate::cut::{Cuts, Order, Threat};
use crate::event::{AttachmentIds, Database, Event, Session};
use crate::health_check::HealthChecks;
use crate::plan::{Confirmation, FlowMods, Planner};
use crate::recipe::Recipe;
use crate::saved::Saved;
use crate::shadow::Shadow;

mod compile;
mod cut;
mod drift;
mod report;
mod stream;
#[cfg(test)]
mod tests;

pub use report::{Snapshot, Standing};
pub use stream::{Controller, Part};

/// A node's state.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    /// This node as the command line describes it, until the view has it.
    described: network::Node,
    view: Arc<NodeView>,
    /// Of the view's address sets.
    sums: api::delta::Sums,
    watermark: Watermark,
    attachments: BTreeMap<AttachmentId, Plugged>,
    stream: stream::Streams,
    database: Option<Database>,
    database_problem: String,
    switch: Switch,
    switch_version: String,
    host: Result<(), String>,
    /// What the switch would not take of policies and ports; it is compiled without them.
    rejected: Rejected,
    compiled: Compiled,
    planner: Planner,
    /// What deltas brought since the last plan.
    touched: Touched,
    /// Counts changes of anything that the program depends on.
    generation: u64,
    confirmed: Confirmed,
    cuts: Cuts,
    /// What is served over UDP is to be told once this generation is confirmed.
    unserved: Option<u64>,
    /// What load balancers are answered.
    health_checks: Arc<HealthChecks>,
    /// Addresses whose owner is gone, and the generation in which it was.
    departed: Vec<(u64, Vec<std::net::IpAddr>)>,
    work: Work,
    flow_mods_sent: u64,
    drifted: drift::Drifted,
}

/// An attachment, and the revision of our bindings that reported it.
#[derive(Clone, Debug)]
struct Plugged {
    attachment: Attachment,
    revision: u64,
}

#[derive(Debug)]
enum Switch {
    Away { problem: String },
    Here { session: Session, shadow: Shadow, applying: Option<Box<Applying>>, problem: Option<String> },
}

/// Flow-mods that were sent and are not confirmed.
#[derive(Debug)]
struct Applying {
    confirmation: Confirmation,
    promise: Confirmed,
    /// Somebody else changed flows meanwhile, before or after: only reading them again tells what holds.
    doubtful: bool,
    /// What the flow-mods were made from: leads from one that is refused to what made it.
    recipe: Recipe,
    threat: Threat,
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
    services: BTreeMap<NamespacedName, String>,
    interfaces: BTreeMap<String, String>,
}

/// What the last compilation left, its flows apart: those are in the switch.
#[derive(Debug, Default)]
struct Compiled {
    generation: u64,
    rows: Arc<SwitchRows>,
    host: Arc<HostState>,
    /// The first generation with something for the host of which the host has not said what became of it.
    host_owed: Option<u64>,
    /// Nothing can be had from the host now, and nobody waits for it.
    host_unreachable: bool,
    /// As of the last plan.
    refused: BTreeMap<PolicyId, String>,
}

/// What the drivers have to do now.
#[derive(Debug, Default)]
pub struct Work {
    /// The database should hold this from now on.
    pub rows: Option<Arc<SwitchRows>>,
    /// The host should hold this from now on.
    pub host: Option<Arc<HostState>>,
    /// To be sent to the switch in one bundle; the answer comes as an event before more is asked for.
    pub flows: Option<(Session, FlowMods)>,
    /// To be sent to the controllers of these sessions.
    pub messages: Vec<(Session, wire::FromAgent)>,
    /// Streams to be ended: these controllers offer what is older than what is held.
    pub leave: Vec<(Session, String)>,
    /// What the switch of this session holds is to be read again.
    pub observe: Option<Session>,
    /// Before that, what it holds beside flows is to be put right.
    pub mend: bool,
    /// Connections of these addresses are to be forgotten: their owners are gone.
    pub forget: Option<(Session, Vec<std::net::IpAddr>)>,
    /// The switch is to be asked about connections; the answer comes as an event.
    pub cut: Option<(Session, Order)>,
    /// What Services are served by over UDP, when that changed or the switch is another.
    pub served: Option<(Session, Arc<Served>)>,
    /// What load balancers are to be answered, when that changed.
    pub health_checks: Option<Arc<HealthChecks>>,
    /// To be kept on disk.
    pub save: Option<Saved>,
    /// What could not be done is to be tried again after a while.
    pub retry: bool,
    /// The switch refused what a policy or a port needs, and has the rest: that is tried again ever more rarely.
    pub retry_refused: bool,
    /// The pod ranges of this node, when they changed.
    pub ranges: Option<Vec<network::Cidr>>,
    /// The switch holds all it should.
    pub in_sync: bool,
    /// It holds all that it takes: it may forward from its tables alone.
    pub restored: bool,
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
            sums: api::delta::Sums::default(),
            watermark: start.saved.watermark,
            attachments: start.attachments.into_iter().map(|(id, a)| (id, plugged(a))).collect(),
            stream: stream::Streams::new(start.has_controllers, start.revision),
            database: None,
            database_problem: "not connected yet".into(),
            switch: Switch::Away { problem: "not connected yet".into() },
            switch_version: String::new(),
            host: Err("not made yet".into()),
            rejected: Rejected::default(),
            compiled: Compiled::default(),
            planner: Planner::default(),
            touched: Touched::everything(),
            generation: 1,
            confirmed: Confirmed::default(),
            cuts: Cuts::default(),
            unserved: None,
            health_checks: Arc::default(),
            departed: Vec::new(),
            work: Work { ranges: Some(Vec::new()), ..Work::default() },
            flow_mods_sent: 0,
            drifted: drift::Drifted::default(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Controllers(addresses) => self.controllers_known(&addresses),
            Event::StreamOpened(session, address) => self.stream_opened(session, address),
            Event::Delta(session, delta) => self.delta(session, &delta),
            Event::Behind(session, behind) => self.behind(session, *behind),
            Event::StreamClosed { session, address, problem } => {
                self.stream_closed(session, address, problem);
            }
            Event::Plugged(attachment) => self.plugged(*attachment),
            Event::Unplugged(id) => self.unplugged(&id),
            Event::Departed(addresses) => self.departed.push((0, addresses)),
            Event::Database(database) => self.database_changed(*database),
            Event::DatabaseLost(problem) => {
                // What it said last stays the best guess; the switch works on without it.
                self.database_problem = problem;
                if let Some(database) = &mut self.database {
                    database.realized = false;
                }
            }
            Event::SwitchObserved(observed) => {
                let crate::event::Observed { session, version, shadow, copies } = *observed;
                self.compare_with_shadow(session, &shadow);
                self.config.copies = copies;
                self.switch_version = version;
                self.switch = Switch::Here { session, shadow, applying: None, problem: None };
                self.confirmed = Confirmed::default();
                self.cuts.reset();
                self.rejected = Rejected::default();
                self.planner.forget();
                self.generation += 1;
                self.unserved = Some(self.generation);
            }
            Event::ConnectionsCut(session, outcome) => self.connections_cut(session, outcome),
            Event::FlowsChanged(session, changes) => self.flows_changed(session, changes),
            Event::Drifted(drifts) => drifts.into_iter().for_each(|drift| self.drifted.note(drift)),
            Event::SwitchConfirmed => self.switch_confirmed(),
            Event::SwitchRefused { index, error } => self.switch_refused(index, &error),
            Event::SwitchLost(problem) => {
                self.switch = Switch::Away { problem };
                self.confirmed = Confirmed::default();
                self.cuts.reset();
            }
            Event::Host(state, outcome) => {
                self.compiled.host_unreachable = state.is_none() && outcome.is_err();
                if state.is_none_or(|state| *state == *self.compiled.host) {
                    self.compiled.host_owed = None;
                }
                self.host = outcome;
            }
            Event::UnderlayMtu(mtu) => {
                if self.config.underlay_mtu != mtu {
                    self.config.underlay_mtu = mtu;
                    self.generation += 1;
                }
            }
            Event::Retry => {
                self.cuts.retry();
                if let Switch::Here { problem, applying: None, .. } = &mut self.switch {
                    if problem.take().is_none() && self.rejected.is_empty() {
                        return;
                    }
                    self.rejected = Rejected::default();
                    self.cuts.unknown();
                    self.generation += 1;
                }
            }
        }
    }

    /// What is to be done now, each thing once.
    pub fn work(&mut self) -> Work {
        self.reconcile();
        self.cut();
        self.pay();
        self.forget();
        self.served();
        self.answer_health_checks();
        let mut work = std::mem::take(&mut self.work);
        work.in_sync = self.in_sync();
        work.restored = self.restored();
        work.mend = work.observe.is_some() && std::mem::take(&mut self.drifted.mend);
        work
    }

    fn plugged(&mut self, attachment: Attachment) {
        self.stream.revision += 1;
        let name = attachment.pod_name();
        let plugged = Plugged { attachment, revision: self.stream.revision };
        self.attachments.insert(plugged.attachment.id.clone(), plugged);
        self.report(name, &[]);
        self.generation += 1;
    }

    fn unplugged(&mut self, id: &AttachmentId) {
        let Some(plugged) = self.attachments.remove(id) else { return };
        self.rejected.interfaces.remove(&plugged.attachment.host_interface);
        self.generation += 1;
        let addresses = plugged.attachment.addresses.iter().map(|address| address.address).collect();
        self.departed.push((self.generation, addresses));
        self.stream.revision += 1;
        // A pod with several attachments is plugged as long as one of them is.
        let uid = |plugged: &Plugged| plugged.attachment.pod.as_ref().map(|pod| pod.uid.clone());
        let released = uid(&plugged).filter(|uid| !self.attachments.values().any(|p| uid_is(p, uid)));
        self.report(plugged.attachment.pod_name(), released.as_slice());
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

    fn switch_confirmed(&mut self) {
        if let Switch::Here { session, shadow, applying, problem } = &mut self.switch
            && let Some(applying) = applying.take()
        {
            *problem = None;
            applying.confirmation.apply(shadow);
            if applying.doubtful {
                *problem = Some("somebody else changes flows of the switch".into());
                self.work.observe = Some(*session);
                self.cuts.unknown();
                return;
            }
            let before = std::mem::replace(&mut self.confirmed, applying.promise);
            self.cuts.confirmed(before.generation, applying.threat);
        }
    }

    /// The whole bundle was discarded. What made the bad flow is left out from now on, the rest is sent again.
    fn switch_refused(&mut self, index: usize, error: &str) {
        let Switch::Here { applying, problem, .. } = &mut self.switch else { return };
        let Some(applying) = applying.take() else { return };
        // What was discarded is not there, so the next plan compares everything.
        self.planner.forget();
        self.cuts.unknown();
        let cookie = applying.confirmation.cookie(index);
        let reason = cookie.and_then(|cookie| applying.recipe.reason(cookie));
        let what = reason.as_ref().map_or("the deletion of a flow", |reason| &reason.what);
        let text = format!("the switch refused a flow ({what}): {error}");
        let before = self.rejected.len();
        for owner in reason.iter().flat_map(|reason| &reason.owners) {
            match owner {
                Owner::Rule { policy, .. } | Owner::Isolation { policy, .. } => {
                    self.rejected.policies.insert(policy.clone(), text.clone());
                }
                Owner::Pod(name) => {
                    let interfaces = self
                        .attachments
                        .values()
                        .filter(|plugged| plugged.attachment.pod_name().as_ref() == Some(name))
                        .map(|plugged| (plugged.attachment.host_interface.clone(), text.clone()));
                    self.rejected.interfaces.extend(interfaces);
                }
                Owner::Attachment(interface) => {
                    self.rejected.interfaces.insert(interface.clone(), text.clone());
                }
                Owner::Service(name) => drop(self.rejected.services.insert(name.clone(), text.clone())),
                Owner::Pipeline | Owner::Node(_) => {}
            }
        }
        if before == self.rejected.len() {
            // Nobody to leave out: wait, or the same would be refused at once.
            *problem = Some(text);
            self.work.retry = true;
        }
        self.work.retry_refused = !self.rejected.is_empty();
        self.generation += 1;
    }

    fn port_number(&self, port: &PortRef) -> Option<PortNo> {
        let name = match port {
            PortRef::Interface(name) => name,
            PortRef::Gateway => &self.config.gateway,
            PortRef::Tunnel => &self.config.tunnel,
        };
        self.database.as_ref()?.ports.get(name)?.ofport.map(PortNo)
    }

    /// The attachments that a program made now serves in full: the port has a number, and the view carries the pod.
    fn servable(&self) -> AttachmentIds {
        let served = |attachment: &Attachment| {
            let port = PortRef::Interface(attachment.host_interface.clone());
            let known = match &attachment.pod {
                None => true,
                Some(pod) => {
                    self.known_uid(attachment).is_some_and(|uid| pod.uid.is_empty() || uid == pod.uid)
                }
            };
            known
                && self.port_number(&port).is_some()
                && !self.rejected.interfaces.contains_key(&attachment.host_interface)
        };
        self.attachments.iter().filter(|(_, p)| served(&p.attachment)).map(|(id, _)| id.clone()).collect()
    }

    /// Once no flow speaks of an address any more, its connections can be forgotten: nothing makes new ones.
    fn forget(&mut self) {
        let Switch::Here { session, .. } = &self.switch else { return };
        let reached = self.confirmed.generation;
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.departed)
            .into_iter()
            .partition(|(generation, _)| *generation <= reached);
        self.departed = later;
        if !due.is_empty() {
            self.work.forget =
                Some((*session, due.into_iter().flat_map(|(_, addresses)| addresses).collect()));
        }
    }

    /// Once no new connection goes to an endpoint that is gone, the old ones over UDP can be forgotten.
    fn served(&mut self) {
        let Switch::Here { session, .. } = &self.switch else { return };
        if self.config.services && self.unserved.is_some_and(|since| since <= self.confirmed.generation) {
            self.unserved = None;
            self.work.served = Some((*session, Arc::new(Served::of(&self.view))));
        }
    }

    fn answer_health_checks(&mut self) {
        if !self.config.services {
            return;
        }
        let has_node_ports = |address: &std::net::IpAddr| self.config.has_node_ports(*address);
        let addresses = self.own().addresses.iter().copied().filter(has_node_ports).collect();
        let is_serving = matches!(self.switch, Switch::Here { .. }) && self.confirmed.generation > 0;
        let now = HealthChecks::of(&self.view, &self.config.node, addresses, is_serving);
        if *self.health_checks != now {
            self.health_checks = Arc::new(now);
            self.work.health_checks = Some(Arc::clone(&self.health_checks));
        }
    }

    /// This node, as the controller or else the command line describes it.
    fn own(&self) -> &network::Node {
        self.view.nodes.get(&self.config.node).unwrap_or(&self.described)
    }

    fn in_sync(&self) -> bool {
        self.settled() && self.confirmed.unbound == 0 && self.rejected.is_empty()
    }

    /// What the switch refuses is left out, and a port that it cannot make gets no number: neither may keep the others waiting.
    fn restored(&self) -> bool {
        let pods = self.attachments.values().map(|plugged| &plugged.attachment.host_interface);
        let ours = pods.chain([&self.config.gateway, &self.config.tunnel]);
        let failed = |name: &&String| {
            let status = self.database.as_ref().and_then(|database| database.ports.get(*name));
            status.is_some_and(|status| status.ofport.is_none() && status.error.is_some())
        };
        let unbound = self.confirmed.unbound;
        self.settled() && (unbound == 0 || unbound <= ours.filter(failed).count())
    }

    fn settled(&self) -> bool {
        let applying = matches!(&self.switch, Switch::Here { applying: Some(_), .. });
        !applying && self.confirmed.generation == self.generation
    }
}

impl Rejected {
    fn len(&self) -> usize {
        self.policies.len() + self.services.len() + self.interfaces.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn uid_is(plugged: &Plugged, uid: &str) -> bool {
    plugged.attachment.pod.as_ref().is_some_and(|pod| pod.uid == uid)
}
