//! One node: the real agent, what is on its disk, its switch and its database. It knows neither controllers nor models;
//! it carries the checks' notes along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::cni::{AttachmentId, PodAddress, PodIdentity};
use api::generated::ferrule::v1alpha1 as wire;
use api::watermark::Watermark;
use compiler::switch::SwitchRows;
use compiler::{Datapath, NodeConfig};
use network::{Mac, Network, Pod};
use openflow::FlowMod;
use ovs_agent::attachment::Attachment;
use ovs_agent::cut::Outcome;
use ovs_agent::event::{Database, Event, Observed, PortStatus, Session};
use ovs_agent::node::{Node, Start, Work};
use ovs_agent::saved::Saved;

use super::switch::Switch;

/// Flow-mods under way, and the model that they are made of.
#[derive(Debug)]
pub struct Bundle {
    /// What was sent.
    pub flows: Vec<FlowMod>,
    model: Arc<Network>,
}

/// A node of the cluster.
#[derive(Debug)]
pub struct Machine {
    /// As the agent's command line describes it.
    pub described: network::Node,
    /// How its agent is set up.
    pub config: NodeConfig,
    /// The agent; `None` while it does not run.
    pub agent: Option<Node>,
    /// It takes events in without looking at what follows.
    pub busy: bool,
    /// The switch.
    pub switch: Switch,
    /// The agent is connected to the switch.
    pub connected: bool,
    /// Sent, not yet taken by the switch.
    pub bundle: Option<Bundle>,
    /// What the switch says of the bundle that it took, not yet heard.
    pub answer: Option<Result<(), usize>>,
    /// What the database lists.
    pub rows: Option<Arc<SwitchRows>>,
    /// What the agent heard of the ports.
    pub heard: Option<BTreeMap<String, Option<u32>>>,
    /// The database is in reach.
    pub database: bool,
    /// The agent may think, and flows may speak, of numbers that ports no longer have.
    pub misnumbered: bool,
    /// The agent asked to be told when to try again.
    pub retry: bool,
    /// The switch refused something since the agent tried everything last.
    pub refused: bool,
    /// Everything the agent wants is in force, as it says.
    pub in_sync: bool,
    /// On disk: the state with the model that it is made of, and what is plugged.
    saved: (Saved, Arc<Network>),
    unsaved: Option<(Saved, Arc<Network>)>,
    /// What is plugged.
    pub attachments: BTreeMap<AttachmentId, Attachment>,
    /// Unplugged while the agent was away.
    tombstones: BTreeSet<AttachmentId>,
    /// Attachments whose ADD was answered.
    pub in_force: BTreeSet<AttachmentId>,
    /// What the agent took in last, by the checks' own count.
    pub held: Watermark,
    /// The model that the agent's view is made of.
    pub model: Arc<Network>,
    /// The model by which packets were judged last.
    pub probed: Arc<Network>,
    /// The oldest delta that still has to be refused: what a controller that lags would send.
    pub stale: Option<wire::Delta>,
    /// How many such deltas the agent was sent.
    pub stale_sent: usize,
    /// The agent has been offered a state that it must refuse, by the controller of this stream.
    pub must_refuse: Option<u64>,
    sessions: u64,
    plugs: u16,
}

impl Machine {
    /// A node that was never started.
    pub fn new(described: network::Node) -> Self {
        Self {
            config: NodeConfig::new(described.name.clone(), Datapath::Netdev, 1500),
            described,
            agent: None,
            busy: false,
            switch: Switch::default(),
            connected: false,
            bundle: None,
            answer: None,
            rows: None,
            heard: None,
            database: false,
            misnumbered: false,
            retry: false,
            refused: false,
            in_sync: false,
            saved: Default::default(),
            unsaved: None,
            attachments: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            in_force: BTreeSet::new(),
            held: Watermark::default(),
            model: Arc::default(),
            probed: Arc::default(),
            stale: None,
            stale_sent: 0,
            must_refuse: None,
            sessions: 0,
            plugs: 0,
        }
    }

    /// Something that differs from start to start.
    pub fn sessions_odd(&self) -> bool {
        self.sessions % 4 == 3
    }

    /// Starts the agent from its disk.
    pub fn start(&mut self, now_us: u64) {
        let (saved, model) = self.saved.clone();
        let own = saved.watermark.revision(&Watermark::bindings_of(&self.config.node));
        self.held = saved.watermark.clone();
        self.model = model;
        let mut agent = Node::new(Start {
            config: self.config.clone(),
            described: self.described.clone(),
            saved,
            attachments: self.attachments.clone(),
            has_controllers: true,
            revision: now_us.max(own + 1),
        });
        for id in std::mem::take(&mut self.tombstones) {
            self.attachments.remove(&id);
            agent.handle(Event::Unplugged(id));
        }
        self.agent = Some(agent);
    }

    /// The agent ends.
    pub fn stop(&mut self, applied: bool) -> Result<(), String> {
        self.carry_out(applied)?;
        self.agent = None;
        (self.busy, self.connected, self.database) = (false, false, false);
        (self.retry, self.refused, self.in_sync, self.must_refuse) = (false, false, false, None);
        self.heard = None;
        self.unsaved = None;
        Ok(())
    }

    /// The state reaches the disk.
    pub fn save(&mut self) {
        if let Some(state) = self.unsaved.take() {
            self.saved = state;
        }
    }

    /// Whether a state has not reached the disk yet.
    pub fn is_unsaved(&self) -> bool {
        self.unsaved.is_some()
    }

    /// An attachment of a pod, with addresses that nobody had before.
    pub fn attachment(&mut self, pod: &Pod) -> Attachment {
        self.plugs += 1;
        let id = AttachmentId {
            // Not in the order in which they come.
            container_id: format!("{:02x}-{}-{}", (self.plugs * 37) % 251, self.described.name, self.plugs),
            interface: "eth0".into(),
        };
        let addresses: Vec<PodAddress> = (self.described.pod_cidrs.iter())
            .filter_map(|range| {
                let address = range.nth(u128::from(self.plugs) + 9)?;
                Some(PodAddress { address, gateway: range.nth(1)?, range: Some(*range) })
            })
            .collect();
        Attachment {
            host_interface: id.host_interface(),
            id,
            network: "ferrule".into(),
            netns: String::new(),
            pod: Some(PodIdentity {
                namespace: pod.key.namespace().to_owned(),
                name: pod.key.name().to_owned(),
                uid: pod.uid.clone(),
            }),
            mac: Mac::from_address(addresses[0].address),
            addresses,
            ipam: None,
        }
    }

    /// Plugs.
    pub fn plug(&mut self, attachment: Attachment) -> Option<Work> {
        self.attachments.insert(attachment.id.clone(), attachment.clone());
        self.event(Event::Plugged(Box::new(attachment)))
    }

    /// Unplugs, or leaves a note for the agent.
    pub fn unplug(&mut self, id: &AttachmentId) -> Option<Work> {
        self.in_force.remove(id);
        if self.agent.is_none() {
            self.tombstones.insert(id.clone());
            return None;
        }
        self.attachments.remove(id);
        self.event(Event::Unplugged(id.clone()))
    }

    /// What is plugged and not about to be unplugged.
    pub fn plugged(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.values().filter(|attachment| !self.tombstones.contains(&attachment.id))
    }

    /// The agent hears what the database says.
    pub fn read_database(&mut self) -> Option<Work> {
        self.database = true;
        self.heard = Some(self.switch.ports.clone());
        let ports = self.switch.ports.iter();
        let ports = ports.map(|(name, number)| (name.clone(), PortStatus { ofport: *number, error: None }));
        let database = Database { ports: ports.collect(), realized: true, ..Database::default() };
        self.event(Event::Database(Box::new(database)))
    }

    /// The switch takes the bundle, or refuses one flow-mod of it and so the whole.
    pub fn take_bundle(&mut self, refuse: Option<usize>) -> Result<(), String> {
        let Some(bundle) = &self.bundle else { return Ok(()) };
        self.answer = Some(match refuse {
            Some(index) => Err(index % bundle.flows.len().max(1)),
            None => Ok(()),
        });
        self.carry_out(refuse.is_none())
    }

    /// What became of the bundle under way.
    fn carry_out(&mut self, applied: bool) -> Result<(), String> {
        let Some(bundle) = self.bundle.take() else { return Ok(()) };
        if applied {
            self.switch.apply(&bundle.flows)?;
            self.switch.model = bundle.model;
        }
        Ok(())
    }

    /// The switch's answer is heard.
    pub fn hear_answer(&mut self) -> Option<Work> {
        match self.answer.take()? {
            Ok(()) => self.event(Event::SwitchConfirmed),
            Err(index) => {
                self.refused = true;
                self.event(Event::SwitchRefused { index, error: "OFPBMC_BAD_FIELD".into() })
            }
        }
    }

    /// The connection to the switch breaks.
    pub fn lose_switch(
        &mut self,
        applied: bool,
        restart: bool,
        renumber: bool,
    ) -> Result<Option<Work>, String> {
        self.carry_out(applied)?;
        self.answer = None;
        self.connected = false;
        self.in_force.clear();
        if restart {
            self.switch.restart(renumber);
            self.misnumbered |= renumber;
        }
        Ok(self.event(Event::SwitchLost("the connection broke".into())))
    }

    /// The switch is connected again.
    pub fn regain_switch(&mut self) -> Option<Work> {
        self.sessions += 1;
        self.connected = true;
        (self.retry, self.refused) = (false, false);
        let observed = Observed {
            session: Session(self.sessions),
            version: "3.1.0".into(),
            shadow: self.switch.report(),
            copies: true,
        };
        self.event(Event::SwitchObserved(Box::new(observed)))
    }

    /// Time to try again.
    pub fn try_again(&mut self) -> Option<Work> {
        (self.retry, self.refused) = (false, false);
        self.event(Event::Retry)
    }

    /// The agent takes an event in; what follows, unless it is busy.
    pub fn event(&mut self, event: Event) -> Option<Work> {
        self.agent.as_mut()?.handle(event);
        if self.busy { None } else { self.work() }
    }

    /// What the agent wants done. Keeps what concerns this node, gives the rest.
    pub fn work(&mut self) -> Option<Work> {
        self.busy = false;
        let agent = self.agent.as_mut()?;
        let mut work = agent.work();
        if let Some((session, _)) = work.cut.take() {
            // This switch has no connections.
            agent.handle(Event::ConnectionsCut(session, Ok(Outcome::default())));
            let more = agent.work();
            work.messages.extend(more.messages);
            work.save = more.save.or(work.save);
        }
        if let Some(host) = work.host.take() {
            // This host takes everything at once.
            agent.handle(Event::Host(Some(host), Ok(())));
            let more = agent.work();
            work.messages.extend(more.messages);
            work.save = more.save.or(work.save);
        }
        if let Some(rows) = work.rows.take() {
            self.rows = Some(rows);
        }
        if let Some((_, flows)) = work.flows.take() {
            self.bundle = Some(Bundle { flows: flows.into_iter().collect(), model: Arc::clone(&self.model) });
        }
        self.retry |= work.retry;
        self.in_sync = work.in_sync;
        let planned = self.connected && self.heard.is_some() && !self.retry;
        if planned && self.bundle.is_none() && self.answer.is_none() {
            // Nothing differs: what the switch holds is what this model makes.
            self.switch.model = Arc::clone(&self.model);
            self.misnumbered &= self.heard.as_ref() != Some(&self.switch.ports);
        }
        if let Some(saved) = work.save.take() {
            // Deltas may have come since; the saved one is the newest that was taken in.
            self.unsaved = Some((saved, Arc::clone(&self.model)));
        }
        Some(work)
    }
}
