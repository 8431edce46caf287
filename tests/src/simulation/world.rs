//! The cluster: what each step does, and what must hold after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::generated::ferrule::v1alpha1 as wire;
use controller::agent::{Link, QUEUE, SessionId};
use controller::attach;
use network::{Network, NodeName, NodeView};
use ovs_agent::event::{Event, Session};
use ovs_agent::node::Work;
use prost::Message;
use tokio::sync::mpsc;

use super::machine::Machine;
use super::replica::Replica;
use super::step::Step;
use super::stream::{Stream, address};
use super::{check, newer, probe};

/// Whatever must never be so, in words.
pub type Violation = String;

/// A message as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// `FromAgent`.
    Agent(Vec<u8>),
    /// `FromController`.
    Controller(Vec<u8>),
}

/// The cluster.
#[derive(Debug)]
pub struct World {
    /// The objects as they are.
    pub network: Network,
    /// Every state of the objects there ever was, oldest first, without addresses: those come from elsewhere.
    history: Vec<Network>,
    /// Every state of objects and plugged pods since the last rest.
    pub window: Vec<Network>,
    /// The controllers.
    pub replicas: Vec<Replica>,
    /// The nodes.
    pub machines: BTreeMap<NodeName, Machine>,
    /// The streams that somebody uses.
    pub streams: BTreeMap<u64, Stream>,
    /// What happened, in words that are equal when it is.
    pub trace: Vec<String>,
    /// Packets that were walked.
    pub walked: usize,
    /// Of these, the ones that reached their pod.
    pub delivered: usize,
    /// Whatever is sent arrives as from a peer of a later version.
    pub newer: bool,
    /// What was sent on streams, encoded, where somebody wants it kept.
    pub sent: Option<Vec<Sent>>,
    quiet: bool,
    steps: u64,
    next_stream: u64,
    origin: Instant,
    now: Duration,
}

impl World {
    /// Objects, and as many controllers; nothing runs.
    pub fn new(network: Network, replicas: usize) -> Self {
        let machine = |node: &network::Node| (node.name.clone(), Machine::new(node.clone()));
        Self {
            history: vec![without_addresses(&network)],
            window: vec![network.clone()],
            replicas: (0..replicas).map(|_| Replica::new(network.clone())).collect(),
            machines: network.nodes.values().map(machine).collect(),
            streams: BTreeMap::new(),
            trace: Vec::new(),
            walked: 0,
            delivered: 0,
            newer: false,
            sent: None,
            quiet: false,
            steps: 0,
            next_stream: 1,
            origin: Instant::now(),
            now: Duration::from_secs(1_000),
            network,
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.origin + self.now
    }

    /// Does what the step says. A step that does not fit the state does nothing.
    pub fn step(&mut self, step: &Step) -> Result<(), Violation> {
        self.steps += 1;
        self.now += Duration::from_millis(1);
        match step {
            Step::Policy(policy, selectors) => {
                for selector in selectors {
                    self.network.intern(selector.clone());
                }
                self.network.policies.insert(policy.id.clone(), (**policy).clone());
                self.objects_changed();
            }
            Step::NoPolicy(id) => {
                self.network.policies.remove(id);
                self.objects_changed();
            }
            Step::Pod(pod) => {
                self.network.pods.insert(pod.key.clone(), (**pod).clone());
                self.objects_changed();
            }
            Step::NoPod(key) => {
                self.network.pods.remove(key);
                self.objects_changed();
            }
            Step::Namespace(name, labels) => {
                self.network.namespaces.insert(name.clone(), labels.clone());
                self.objects_changed();
            }
            Step::Node(node) => {
                self.network.nodes.insert(node.name.clone(), (**node).clone());
                self.objects_changed();
            }
            Step::NoNode(name) => {
                self.network.nodes.remove(name);
                self.objects_changed();
            }
            Step::Read(replica) => self.replicas[*replica].read_next(),
            Step::Settle(replica) => self.settle(*replica)?,
            Step::ReplicaDown(replica) => {
                self.replicas[*replica].stop();
                for stream in self.streams.values_mut().filter(|stream| stream.replica == *replica) {
                    stream.cut(0);
                    (stream.replica_end, stream.down) = (false, None);
                }
            }
            Step::ReplicaUp { replica, forgetful } => {
                let replica = &mut self.replicas[*replica];
                if replica.state.is_none() {
                    replica.start(*forgetful);
                }
            }
            Step::Open(node, replica) => self.open(node, *replica)?,
            Step::Up(id) => self.up(*id)?,
            Step::Down(id) => self.down(*id)?,
            Step::Stale(node) => self.stale(node)?,
            Step::Cut(id, keep) => {
                if let Some(stream) = self.streams.get_mut(id) {
                    stream.cut(*keep);
                }
            }
            Step::AgentNotices(id) => self.agent_notices(*id)?,
            Step::ReplicaNotices(id) => self.replica_notices(*id),
            Step::Wait(ms) => {
                self.now += Duration::from_millis(*ms);
                self.replicas.iter_mut().for_each(|replica| replica.dirty |= replica.state.is_some());
            }
            Step::Quiet(quiet) => self.quiet = *quiet,
            Step::Rest => {
                check::at_rest(self)?;
                self.window = vec![check::truth(self)];
            }
            local => self.local(local)?,
        }
        self.streams.retain(|_, stream| !stream.is_over());
        Ok(())
    }

    /// What happens on one node.
    fn local(&mut self, step: &Step) -> Result<(), Violation> {
        let now_us = u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX);
        let node = match step {
            Step::Plug(key) => self.network.pods.get(key).and_then(|pod| pod.node.clone()),
            Step::Unplug(node, _)
            | Step::Busy(node)
            | Step::Work(node)
            | Step::Save(node)
            | Step::AgentDown(node, _)
            | Step::AgentUp { node, .. }
            | Step::Ports(node, _)
            | Step::Database(node)
            | Step::DatabaseLost(node)
            | Step::Bundle(node, _)
            | Step::Answer(node)
            | Step::SwitchLost { node, .. }
            | Step::SwitchBack(node)
            | Step::Retry(node) => Some(node.clone()),
            _ => None,
        };
        let Some(node) = node else { return Ok(()) };
        let Some(machine) = self.machines.get_mut(&node) else { return Ok(()) };
        let runs = machine.agent.is_some();
        let (mut switched, mut plugging) = (false, false);
        let work = match step {
            Step::Plug(key) if runs => match self.network.pods.get(key) {
                Some(pod) if !machine.plugged().any(|held| uid(held) == pod.uid) => {
                    plugging = true;
                    let attachment = machine.attachment(pod);
                    machine.plug(attachment)
                }
                _ => None,
            },
            Step::Unplug(_, id) => {
                plugging = true;
                machine.unplug(id)
            }
            Step::Busy(_) if runs => {
                machine.busy = true;
                None
            }
            Step::Work(_) => machine.work(),
            Step::Save(_) => {
                machine.save();
                None
            }
            Step::AgentDown(_, applied) if runs => {
                switched = machine.bundle.is_some() && *applied;
                machine.stop(*applied)?;
                machine.answer = None;
                machine.in_force.clear();
                for stream in self.streams.values_mut().filter(|stream| stream.node == node) {
                    stream.cut(0);
                    stream.agent_end = false;
                }
                None
            }
            Step::AgentUp { clock_back, .. } if !runs => {
                machine.start(if *clock_back { 0 } else { now_us });
                machine.work()
            }
            Step::Ports(_, slow) => {
                if let Some(rows) = &machine.rows {
                    machine.switch.make_ports(rows.ports.keys().cloned(), *slow);
                }
                None
            }
            Step::Database(_) if runs => machine.read_database(),
            Step::DatabaseLost(_) if runs && machine.database => {
                machine.database = false;
                machine.event(Event::DatabaseLost("the connection broke".into()))
            }
            Step::Bundle(_, refuse) => {
                switched = machine.bundle.is_some();
                machine.take_bundle(*refuse)?;
                None
            }
            Step::Answer(_) => machine.hear_answer(),
            Step::SwitchLost { applied, restart, renumber, .. } if machine.connected || *restart => {
                switched = true;
                machine.lose_switch(*applied, *restart, *renumber)?
            }
            Step::SwitchBack(_) if runs && !machine.connected => machine.regain_switch(),
            Step::Retry(_) if machine.retry || machine.refused => machine.try_again(),
            _ => None,
        };
        if plugging {
            let truth = check::truth(self);
            self.window.push(truth);
        }
        self.hand_out(&node, work)?;
        if switched {
            probe::sample(self, &node, self.steps)?;
        }
        Ok(())
    }

    fn objects_changed(&mut self) {
        for replica in &mut self.replicas {
            replica.unread.push_back(self.network.clone());
        }
        self.history.push(without_addresses(&self.network));
        let truth = check::truth(self);
        self.window.push(truth);
    }

    fn settle(&mut self, replica: usize) -> Result<(), Violation> {
        let now = self.now();
        self.replicas[replica].settle(now);
        self.note_models(replica);
        match &self.replicas[replica].state {
            Some(state) => check::index(state),
            None => Ok(()),
        }
    }

    /// Which model the messages that are new in the queues are made of.
    fn note_models(&mut self, replica: usize) {
        let Some(state) = &self.replicas[replica].state else { return };
        let mut model = None;
        for stream in self.streams.values_mut().filter(|stream| stream.replica == replica) {
            let sent = stream.down.as_ref().map_or(0, mpsc::Receiver::len);
            while stream.models.len() < sent {
                let model = model.get_or_insert_with(|| Arc::new(state.network()));
                stream.models.push_back(Arc::clone(model));
            }
        }
    }

    fn open(&mut self, node: &NodeName, replica: usize) -> Result<(), Violation> {
        let Some(machine) = self.machines.get_mut(node) else { return Ok(()) };
        let open = self.streams.values().any(|it| it.node == *node && it.replica == replica && it.agent_end);
        if machine.agent.is_none() || open || self.replicas[replica].state.is_none() {
            return Ok(());
        }
        let id = self.next_stream;
        self.next_stream += 1;
        self.streams.insert(
            id,
            Stream {
                node: node.clone(),
                replica,
                session: Session(id),
                id: SessionId(id),
                up: Default::default(),
                down: None,
                models: Default::default(),
                asked: false,
                term: 0,
                agent_end: true,
                replica_end: true,
                broken: false,
            },
        );
        let work = machine.event(Event::StreamOpened(Session(id), address(replica)));
        self.hand_out(node, work)
    }

    fn up(&mut self, id: u64) -> Result<(), Violation> {
        let now = self.now();
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.replica_end) else {
            return Ok(());
        };
        let Some(mut message) = stream.up.pop_front() else { return Ok(()) };
        let replica = stream.replica;
        let Some(state) = &mut self.replicas[replica].state else { return Ok(()) };
        if let Some(sent) = &mut self.sent {
            sent.push(Sent::Agent(message.encode_to_vec()));
        }
        if self.newer {
            message = newer::from_agent(&message)?;
        }
        let (node, session) = (stream.node.clone(), stream.id);
        self.trace.push(format!("{node} says {}", fingerprint(&message)));
        match message.body {
            Some(wire::from_agent::Body::Hello(hello)) => {
                let (out, incoming) = mpsc::channel(QUEUE);
                stream.down = Some(incoming);
                let (hello, _) = attach::read_hello(hello);
                state.attach(&node, Link { session, out }, hello);
            }
            _ => {
                let unknown = wire::FromAgent::decode(newer::UNKNOWN).map_err(|error| error.to_string())?;
                for message in self.newer.then_some(unknown).into_iter().chain([message]) {
                    for said in attach::read(message) {
                        state.said(&node, session, said, now);
                    }
                }
            }
        }
        self.replicas[replica].dirty = true;
        self.note_models(replica);
        Ok(())
    }

    fn down(&mut self, id: u64) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.agent_end && !stream.broken)
        else {
            return Ok(());
        };
        let Some(Ok(message)) = stream.down.as_mut().map(mpsc::Receiver::try_recv) else { return Ok(()) };
        let model = stream.models.pop_front().ok_or("a message of no model")?;
        let (node, session) = (stream.node.clone(), stream.session);
        let Ok(message) = message else {
            // The controller has ended it: another stream took its place.
            stream.cut(usize::MAX);
            return self.agent_notices(id);
        };
        if let Some(sent) = &mut self.sent {
            sent.push(Sent::Controller(message.encode_to_vec()));
        }
        let message = if self.newer { newer::from_controller(&message)? } else { message };
        match message.body {
            Some(wire::from_controller::Body::Delta(delta)) => {
                self.trace.push(format!("{node} hears {}", fingerprint(&delta)));
                if self.quiet && api::delta::named(&delta).next().is_some() {
                    return Err(format!("nothing changed, and {node} is sent {delta:?}"));
                }
                self.offer(&node, id, delta, &model)
            }
            Some(wire::from_controller::Body::Behind(behind)) => {
                self.trace.push(format!("{node} hears {}", fingerprint(&behind)));
                let Some(machine) = self.machines.get_mut(&node) else { return Ok(()) };
                let work = machine.event(Event::Behind(session, Box::new(behind)));
                self.hand_out(&node, work)
            }
            _ => Ok(()),
        }
    }

    /// What a controller that lags says, as long as it is something that the agent must refuse.
    fn stale(&mut self, node: &NodeName) -> Result<(), Violation> {
        let Some(machine) = self.machines.get_mut(node) else { return Ok(()) };
        let leads = |stream: &&Stream| stream.node == *node && stream.agent_end && stream.asked;
        let stream = self.streams.values().find(leads).filter(|stream| !stream.broken);
        let (Some(stream), Some(mut delta), Some(_)) = (stream, machine.stale.clone(), &machine.agent) else {
            return Ok(());
        };
        delta.term = stream.term;
        if check::admits(machine, &delta)?.is_some() {
            return Ok(());
        }
        machine.stale_sent += 1;
        let model = Arc::clone(&machine.model);
        let id = stream.id.0;
        self.offer(node, id, delta, &model)
    }

    fn offer(
        &mut self,
        node: &NodeName,
        id: u64,
        delta: wire::Delta,
        model: &Arc<Network>,
    ) -> Result<(), Violation> {
        let Some(machine) = self.machines.get_mut(node) else { return Ok(()) };
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        let session = stream.session;
        let before = machine.agent.as_ref().map(|agent| agent.snapshot().view);
        if !stream.asked || stream.term != delta.term {
            // It stands by, or says what was meant for when it did not.
            let work = machine.event(Event::Delta(session, Box::new(delta)));
            if before != machine.agent.as_ref().map(|agent| agent.snapshot().view) {
                return Err(format!("{node} took in what a standby sent"));
            }
            return self.hand_out(node, work);
        }
        let admitted = check::admits(machine, &delta)?;
        if admitted.is_some() && self.is_older(model, &self.machines[node].model) {
            return Err(format!("{node} is taken back to an older state of the objects"));
        }
        let Some(machine) = self.machines.get_mut(node) else { return Ok(()) };
        if let Some(offered) = &admitted {
            machine.held = offered.clone();
            machine.model = Arc::clone(model);
            machine.stale.get_or_insert_with(|| delta.clone());
        } else {
            machine.must_refuse = Some(id);
        }
        let work = machine.event(Event::Delta(session, Box::new(delta)));
        let after = machine.agent.as_ref().map(|agent| agent.snapshot().view);
        if admitted.is_none() && before != after {
            return Err(format!("{node} took in a state that its watermark does not admit"));
        }
        if admitted.is_some() && after.as_deref() != Some(&NodeView::of(model, node)) {
            return Err(format!("{node} holds another view than the whole recomputation gives"));
        }
        self.hand_out(node, work)
    }

    /// Whether no state of the objects that gives the one model comes after some that gives the other.
    fn is_older(&self, model: &Network, than: &Network) -> bool {
        if *than == Network::default() {
            // Nothing was taken in yet.
            return false;
        }
        let (model, than) = (without_addresses(model), without_addresses(than));
        let newest = self.history.iter().rposition(|state| *state == model);
        let oldest = self.history.iter().position(|state| *state == than);
        newest.zip(oldest).is_some_and(|(newest, oldest)| newest < oldest)
    }

    fn agent_notices(&mut self, id: u64) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.broken && stream.agent_end)
        else {
            return Ok(());
        };
        stream.agent_end = false;
        stream.down = None;
        let (node, session, address) = (stream.node.clone(), stream.session, stream.address());
        let Some(machine) = self.machines.get_mut(&node) else { return Ok(()) };
        let work = machine.event(Event::StreamClosed { session, address, problem: "it broke".into() });
        self.hand_out(&node, work)
    }

    fn replica_notices(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.broken && stream.replica_end)
        else {
            return;
        };
        stream.replica_end = false;
        let replica = &mut self.replicas[stream.replica];
        if let Some(state) = &mut replica.state {
            state.detach(&stream.node, stream.id);
            replica.dirty = true;
        }
    }

    /// What an agent wants done that is not on its own node.
    fn hand_out(&mut self, node: &NodeName, work: Option<Work>) -> Result<(), Violation> {
        let Some(work) = work else { return Ok(()) };
        let Some(machine) = self.machines.get_mut(node) else { return Ok(()) };
        if let Some(bundle) = &machine.bundle {
            self.trace.push(format!("{node} sends flows {}", fingerprint(&bundle.flows)));
            if self.quiet {
                return Err(format!("nothing changed, and {node} sends {:?}", bundle.flows));
            }
        }
        // Nothing had to be sent for another model: what is held is judged by that one from now on.
        let changed = !Arc::ptr_eq(&machine.probed, &machine.switch.model);
        machine.probed = Arc::clone(&machine.switch.model);
        if let Some(id) = machine.must_refuse.take() {
            let stands_by = |(session, message): &(Session, wire::FromAgent)| {
                session.0 == id && matches!(message.body, Some(wire::from_agent::Body::StandBy(_)))
            };
            let left = work.leave.iter().any(|(session, _)| session.0 == id);
            if !left && !work.messages.iter().any(stands_by) {
                return Err(format!("{node} lets a controller lead on that is behind"));
            }
        }
        check::after_work(machine)?;
        for (session, message) in work.messages {
            if let Some(stream) = self.streams.get_mut(&session.0).filter(|stream| stream.agent_end) {
                stream.say(message);
            }
        }
        for (session, _) in work.leave {
            if let Some(stream) = self.streams.get_mut(&session.0) {
                stream.cut(usize::MAX);
                self.agent_notices(session.0)?;
            }
        }
        if changed { probe::sample(self, node, self.steps) } else { Ok(()) }
    }
}

fn without_addresses(network: &Network) -> Network {
    let mut network = network.clone();
    network.pods.values_mut().for_each(|pod| pod.addresses.clear());
    network
}

pub(super) fn uid(attachment: &ovs_agent::attachment::Attachment) -> &str {
    attachment.pod.as_ref().map_or("", |pod| &pod.uid)
}

/// Short and equal when the content is.
pub(super) fn fingerprint(content: &impl std::fmt::Debug) -> String {
    let text = format!("{content:?}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{} {hash:016x}", &text.chars().take(40).collect::<String>())
}
