//! The task that owns the node's state: takes in events and questions one by one, hands out work, answers. The only place
//! where the pure state meets the drivers; it must not open, read or write anything itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::cni::{AttachmentId, Failure};
use api::generated::ferrule::v1alpha1 as wire;
use cni::fault;
use compiler::host::HostState;
use tokio::sync::{mpsc, oneshot, watch};

use crate::attachment::Attachment;
use crate::drift::{Lately, Past};
use crate::drivers::beside::Beside;
use crate::drivers::database;
use crate::event::{Event, Session};
use crate::health_check::HealthChecks;
use crate::ipam::BuiltIn;
use crate::metrics::Metrics;
use crate::node::{Node, Snapshot, Standing, Work};
use crate::plan::FlowMods;
use crate::saved::Slot;

/// What other tasks ask of the owner.
#[derive(Debug)]
pub enum Ask {
    /// Takes in a recorded attachment; the answer comes when it is in force or has failed.
    Plug(Box<Attachment>, oneshot::Sender<Standing>),
    /// Forgets an attachment; the answer comes when nothing of it can carry packets any more.
    Unplug(AttachmentId, oneshot::Sender<()>),
    /// Forgets the connections of addresses that are about to get another owner.
    Forget(Vec<std::net::IpAddr>),
    /// How far an attachment is now.
    Standing(AttachmentId, oneshot::Sender<Standing>),
    /// What an ADD must tell its caller: MTU of pods, and whether checksums may be left to the device.
    LinkTraits(oneshot::Sender<LinkTraits>),
    /// Whether an ADD would succeed as far as the switch goes.
    Readiness(oneshot::Sender<Result<(), Failure>>),
    /// Reads everything again and puts right what differs; ports of the bridge that nobody of ours made are taken out.
    Repair(oneshot::Sender<()>),
    /// What somebody else changed lately.
    Past(oneshot::Sender<Past>),
    /// Everything, for people.
    Snapshot(oneshot::Sender<Box<Snapshot>>),
}

/// What every container's link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkTraits {
    /// In bytes.
    pub mtu: u32,
    /// Whether transmit checksums may be left to the device.
    pub tx_checksum_offload: bool,
}

/// To the driver of the switch.
#[derive(Debug)]
pub enum SwitchCommand {
    /// Carry out all of these or none, and say so; if this is still the connection.
    Apply(Session, FlowMods),
    /// Forget the connections of these addresses, in both directions; if this is still the connection.
    Forget(Session, Vec<std::net::IpAddr>),
    /// Ask the switch about connections, and say what came of it; if this is still the connection.
    Cut(Session, Box<crate::cut::Order>),
    /// This is served over UDP from now on; what the switch translates elsewhere is to be forgotten.
    Served(Session, std::sync::Arc<crate::cut::stale::Served>),
    /// Read everything that it holds again, and tell; if this is still the connection.
    Observe(Session, Mend),
    /// Read flows with their counters.
    Dump(Dump),
    /// Send a packet through the switch.
    Probe(Box<openflow::message::PacketOut>, oneshot::Sender<Result<(), String>>),
    /// Say what of meters and groups is not as it should be.
    Beside(oneshot::Sender<Result<Vec<Beside>, String>>),
    /// Say what was dropped last.
    Seen(oneshot::Sender<crate::seen::Seen>),
    /// Read how many audited decisions were not copied, or say why not: denied, allowed.
    Suppressed(oneshot::Sender<Result<[u64; 2], String>>),
}

/// Whether what the switch holds beside flows is put right first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// It is.
    Beside,
    /// It is not.
    Nothing,
}

/// A reading of flows. What is not wanted is never kept: a switch may hold very many.
pub struct Dump {
    /// Only this table's.
    pub table: Option<openflow::TableId>,
    /// Only flows that drop.
    pub drops: bool,
    /// Only those that pass.
    pub wanted: Box<dyn Fn(&openflow::FlowStats) -> bool + Send + Sync>,
    /// Where they go.
    pub reply: oneshot::Sender<Result<Vec<openflow::FlowStats>, String>>,
}

impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dump").field("table", &self.table).finish_non_exhaustive()
    }
}

/// To the driver of the controller stream.
#[derive(Debug)]
pub enum StreamCommand {
    /// Say this, if this is still the session.
    Send(Session, Box<wire::FromAgent>),
    /// End this session, and dial that controller again after a while.
    Leave(Session, String),
}

/// Where the owner's work goes.
#[derive(Debug)]
pub struct Outputs {
    /// The database.
    pub database: watch::Sender<database::Wanted>,
    /// The host.
    pub host: watch::Sender<Option<Arc<HostState>>>,
    /// The switch.
    pub switch: mpsc::Sender<SwitchCommand>,
    /// The controller.
    pub stream: mpsc::Sender<StreamCommand>,
    /// Who answers load balancers.
    pub health_checks: watch::Sender<Arc<HealthChecks>>,
    /// The disk.
    pub save: Arc<Slot>,
    /// The addresses.
    pub ipam: Arc<BuiltIn>,
    /// The counters.
    pub metrics: Arc<Metrics>,
}

/// The wait before what could not be done is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often the wait doubles at most while the switch goes on refusing: everything is compiled for each attempt.
const MOST_DOUBLINGS: u32 = 6;

/// The task's own things beside the node.
struct Owner {
    node: Node,
    outputs: Outputs,
    plugging: Vec<(AttachmentId, oneshot::Sender<Standing>)>,
    unplugging: Vec<(AttachmentId, oneshot::Sender<()>)>,
    ranges: Vec<network::Cidr>,
    applying_since: Option<Instant>,
    retry_at: Option<tokio::time::Instant>,
    /// Attempts in a row at what the switch refused.
    refusals: u32,
    past: Past,
    /// What the controllers are told of it.
    lately: Lately,
    /// Ports that are to be taken out of the bridge.
    foreign: BTreeSet<String>,
}

/// Runs until the events end.
pub async fn run(
    node: Node,
    mut events: mpsc::Receiver<Event>,
    mut asks: mpsc::Receiver<Ask>,
    outputs: Outputs,
) {
    let mut owner = Owner {
        node,
        outputs,
        plugging: Vec::new(),
        unplugging: Vec::new(),
        ranges: Vec::new(),
        applying_since: None,
        retry_at: None,
        refusals: 0,
        past: Past::default(),
        lately: Lately::default(),
        foreign: BTreeSet::new(),
    };
    loop {
        owner.work().await;
        let retry_at = owner.retry_at;
        let quiet_at = owner.lately.until().map(tokio::time::Instant::from_std);
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => owner.happened(event),
                None => return,
            },
            ask = asks.recv() => match ask {
                Some(ask) => owner.asked(ask),
                None => return,
            },
            () = at(quiet_at) => owner.forget_drifts(),
            () = at(retry_at) => {
                owner.retry_at = None;
                owner.node.handle(Event::Retry);
            }
        }
        // Whatever else is here already is taken in before anything is compiled for it.
        while let Ok(event) = events.try_recv() {
            owner.happened(event);
        }
        while let Ok(ask) = asks.try_recv() {
            owner.asked(ask);
        }
    }
}

/// Waits until then, or for ever.
async fn at(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

impl Owner {
    fn happened(&mut self, event: Event) {
        match &event {
            Event::Delta(_, delta) => {
                tracing::debug!(
                    nonce = delta.nonce,
                    changed = delta.changed.len(),
                    bundles = delta.bundles.len(),
                    removed = delta.removed.len(),
                    "delta received"
                );
            }
            Event::SwitchConfirmed => {
                self.reach("agent.add.flows", "agent.del.flows");
                self.applied("confirmed");
            }
            Event::SwitchRefused { error, .. } => {
                tracing::warn!(error, "the switch refused a flow; what made it is left out");
                self.applied("refused");
            }
            Event::SwitchObserved(seen) => {
                self.applying_since = None;
                tracing::info!(flows = seen.shadow.len(), version = seen.version, "the switch is connected");
            }
            Event::SwitchLost(error) => {
                self.applying_since = None;
                tracing::warn!(error, "the switch is out of reach");
            }
            Event::Database(database) if !self.foreign.is_empty() => {
                self.foreign.retain(|port| database.ports.contains_key(port));
            }
            Event::DatabaseLost(error) => tracing::warn!(error, "the database is out of reach"),
            Event::Database(_) if self.node.is_database_lost() => tracing::info!("the database is connected"),
            Event::StreamClosed { address, problem, .. } => {
                tracing::warn!(controller = address, error = problem, "no stream to this controller");
            }
            Event::Behind(_, behind) => {
                tracing::warn!(error = behind.reason, "a controller lacks what is in force here");
            }
            Event::ConnectionsCut(_, Err(error)) => {
                tracing::warn!(error, "connections that a policy denies are not cut yet; trying again");
            }
            Event::Host(_, Err(error)) => {
                tracing::warn!(error, "the host's network state is not as it should be")
            }
            _ => {}
        }
        let before = self.node.drifted();
        self.node.handle(event);
        let drifted = self.node.drifted() - before;
        if drifted > 0 {
            tracing::warn!(flows = drifted, "somebody else changed flows of the switch; they are put right");
            self.outputs.metrics.flows_drifted.inc_by(drifted);
        }
        let drifts = self.node.take_drifts();
        if !drifts.is_empty() {
            for drift in drifts.iter().filter(|drift| !drift.is_flow()) {
                self.outputs.metrics.drifted(drift.place);
                tracing::warn!(?drift, "somebody else changed what is ours; it was put right");
            }
            if self.lately.add(&drifts, Instant::now(), |id| self.node.owners(id)) {
                self.tell_drifts();
            }
            self.past.add(drifts, SystemTime::now());
        }
    }

    fn forget_drifts(&mut self) {
        if self.lately.pass(Instant::now()) {
            self.tell_drifts();
        }
    }

    fn tell_drifts(&mut self) {
        self.node.tell_drifted(&self.lately);
    }

    /// A fault point of whatever is under way.
    fn reach(&self, plugging: &str, unplugging: &str) {
        if !self.plugging.is_empty() {
            fault::reach(plugging);
        }
        if !self.unplugging.is_empty() {
            fault::reach(unplugging);
        }
    }

    fn applied(&mut self, outcome: &'static str) {
        let Some(since) = self.applying_since.take() else { return };
        let elapsed = since.elapsed();
        self.outputs.metrics.apply_seconds.observe(elapsed.as_secs_f64());
        tracing::debug!(elapsed_ms = elapsed.as_micros() as f64 / 1e3, outcome, "flows");
    }

    fn asked(&mut self, ask: Ask) {
        // An asker that is gone needs no answer.
        match ask {
            Ask::Plug(attachment, reply) => {
                let id = attachment.id.clone();
                self.node.handle(Event::Plugged(attachment));
                self.plugging.push((id, reply));
            }
            Ask::Unplug(id, reply) => {
                self.node.handle(Event::Unplugged(id.clone()));
                self.unplugging.push((id, reply));
            }
            Ask::Forget(addresses) => self.node.handle(Event::Departed(addresses)),
            Ask::Standing(id, reply) => drop(reply.send(self.node.standing(&id))),
            Ask::LinkTraits(reply) => {
                let traits = LinkTraits {
                    mtu: self.node.pod_mtu(),
                    tx_checksum_offload: self.node.tx_checksum_offload(),
                };
                let _ = reply.send(traits);
            }
            Ask::Readiness(reply) => drop(reply.send(self.node.readiness())),
            Ask::Repair(reply) => {
                self.node.repair();
                self.foreign = self.node.foreign_ports();
                let _ = reply.send(());
            }
            Ask::Past(reply) => drop(reply.send(self.past.clone())),
            Ask::Snapshot(reply) => drop(reply.send(Box::new(self.node.snapshot()))),
        }
    }

    async fn work(&mut self) {
        let began = Instant::now();
        let work = self.node.work();
        let elapsed = began.elapsed();
        if elapsed > Duration::from_millis(100) {
            tracing::info!(elapsed_ms = elapsed.as_millis() as u64, "compiled");
        }
        self.hand_out(work).await;
        self.answer();
    }

    /// The channels hold what the drivers have not taken up yet; a driver that has ended ends the agent with it.
    async fn hand_out(&mut self, work: Work) {
        let Outputs { database, host, switch, stream, health_checks, save, ipam, metrics } = &self.outputs;
        if let Some(ranges) = work.ranges.filter(|ranges| *ranges != self.ranges) {
            ipam.set_ranges(ranges.clone());
            self.ranges = ranges;
        }
        database.send_if_modified(|wanted| {
            let next = database::Wanted {
                rows: work.rows.or_else(|| wanted.rows.clone()),
                flows_restored: work.restored,
                foreign: self.foreign.clone(),
            };
            let differs = *wanted != next;
            *wanted = next;
            differs
        });
        if let Some(state) = work.host {
            host.send_replace(Some(state));
        }
        if let Some((session, flows)) = work.flows {
            self.reach("agent.add.port", "agent.del.port");
            metrics.flow_mods_sent.inc_by(flows.len() as u64);
            tracing::debug!(flow_mods = flows.len(), "flow-mods");
            self.applying_since = Some(Instant::now());
            let _ = switch.send(SwitchCommand::Apply(session, flows)).await;
        }
        if let Some((session, served)) = work.served {
            let _ = switch.send(SwitchCommand::Served(session, served)).await;
        }
        if let Some((session, order)) = work.cut {
            let _ = switch.send(SwitchCommand::Cut(session, Box::new(order))).await;
        }
        if let Some(session) = work.observe {
            let mend = if work.mend { Mend::Beside } else { Mend::Nothing };
            let _ = switch.send(SwitchCommand::Observe(session, mend)).await;
        }
        if let Some((session, addresses)) = work.forget {
            let _ = switch.send(SwitchCommand::Forget(session, addresses)).await;
        }
        for (session, message) in work.messages {
            let _ = stream.send(StreamCommand::Send(session, Box::new(message))).await;
        }
        for (session, reason) in work.leave {
            let _ = stream.send(StreamCommand::Leave(session, reason)).await;
        }
        if let Some(answers) = work.health_checks {
            health_checks.send_replace(answers);
        }
        if let Some(saved) = work.save {
            save.put(saved);
        }
        if work.in_sync {
            self.refusals = 0;
        }
        if work.retry_refused {
            // Once for all that is refused: one flow after the other is.
            let wait = RETRY * 2u32.pow(self.refusals.min(MOST_DOUBLINGS));
            if self.retry_at.is_none() {
                self.refusals += 1;
            }
            self.retry_at = Some(tokio::time::Instant::now() + wait);
        }
        if work.retry {
            self.retry_at = Some(tokio::time::Instant::now() + RETRY);
        }
    }

    fn answer(&mut self) {
        let node = &self.node;
        answer_ready(&mut self.plugging, |id| match node.standing(id) {
            standing @ (Standing::InForce | Standing::Failed(_)) => Some(standing),
            Standing::Waiting(_) | Standing::Unheard => None,
        });
        answer_ready(&mut self.unplugging, |id| node.is_gone(id).then_some(()));
    }
}

fn answer_ready<T>(
    waiting: &mut Vec<(AttachmentId, oneshot::Sender<T>)>,
    ready: impl Fn(&AttachmentId) -> Option<T>,
) {
    for (id, reply) in std::mem::take(waiting) {
        if reply.is_closed() {
            continue;
        }
        match ready(&id) {
            Some(answer) => drop(reply.send(answer)),
            None => waiting.push((id, reply)),
        }
    }
}

/// Asks, and waits for the answer; `None` when the owner has ended.
pub async fn ask<T>(asks: &mpsc::Sender<Ask>, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    asks.send(question(reply)).await.ok()?;
    answer.await.ok()
}
