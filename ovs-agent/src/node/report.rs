//! What a node says of itself: whether an attachment is in force, and a picture of everything for people. Reads only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::cni::{AttachmentId, Failure, code};
use api::watermark::Watermark;
use compiler::{Datapath, NodeConfig};
use network::{Cidr, NodeView};

use super::{Controller, Node, Switch};
use crate::attachment::Attachment;
use crate::event::Database;
use crate::recipe::Reasons;

/// How far an attachment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its port, its flows and its policies are confirmed by the switch.
    InForce,
    /// Its flows and the policies that are known for it are confirmed; the controller has not said yet that it knows of
    /// this attachment.
    Unheard,
    /// Not yet, and why; what to look at.
    Waiting(Failure),
    /// It will not be, and why.
    Failed(Failure),
}

/// A picture of the node.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// How it is set up.
    pub config: NodeConfig,
    /// What the controller gave.
    pub view: Arc<NodeView>,
    /// The node's own addresses.
    pub addresses: Vec<IpAddr>,
    /// The node's own pod ranges.
    pub pod_cidrs: Vec<Cidr>,
    /// MTU of pods, in bytes.
    pub pod_mtu: u32,
    /// What is plugged.
    pub attachments: Vec<Attachment>,
    /// What the database said last.
    pub database: Option<Database>,
    /// Version of Open vSwitch, once it was connected.
    pub switch_version: String,
    /// Why flows exist.
    pub reasons: Arc<Reasons>,
    /// Flows in the switch, as far as known.
    pub flows: usize,
    /// Flow-mods sent since the start.
    pub flow_mods_sent: u64,
    /// The switch holds what it should.
    pub in_sync: bool,
    /// A switch is connected.
    pub switch_connected: bool,
    /// A controller leads, or is about to.
    pub controller_connected: bool,
    /// The controllers, with and without a stream.
    pub controllers: Vec<Controller>,
    /// What is wrong, by what it is wrong with.
    pub problems: BTreeMap<&'static str, String>,
}

impl Node {
    /// How far an attachment is.
    pub fn standing(&self, id: &AttachmentId) -> Standing {
        let Some(plugged) = self.attachments.get(id) else {
            let msg = format!("container {} interface {} is not attached", id.container_id, id.interface);
            return Standing::Failed(failure(code::UNKNOWN_CONTAINER, msg));
        };
        let attachment = &plugged.attachment;
        let (title, interface) = (attachment.title(), &attachment.host_interface);
        if let Some(error) = self.port_error(interface) {
            let msg = format!("{title}: Open vSwitch cannot take interface {interface}: {error}");
            return Standing::Failed(failure(code::SWITCH, msg));
        }
        if let Some(error) = self.rejected.interfaces.get(interface) {
            return Standing::Failed(failure(code::SWITCH, format!("{title}: {error}")));
        }
        if self.is_served(id) {
            let source = Watermark::bindings_of(&self.config.node);
            let heard = !self.stream.is_led()
                || attachment.pod.is_none()
                || self.confirmed.watermark.revision(&source) >= plugged.revision;
            return if heard { Standing::InForce } else { Standing::Unheard };
        }
        Standing::Waiting(self.hindrance(attachment))
    }

    /// Whether the switch serves it in full, whatever it has taken already of the flow-mods under way.
    fn is_served(&self, id: &AttachmentId) -> bool {
        let coming = match &self.switch {
            Switch::Here { applying: Some(applying), .. } => Some(&applying.promise.served),
            _ => None,
        };
        self.confirmed.served.contains(id) && coming.is_none_or(|served| served.contains(id))
    }

    fn hindrance(&self, attachment: &Attachment) -> Failure {
        let title = attachment.title();
        if let Switch::Away { problem } = &self.switch {
            let msg =
                format!("{title}: the switch is out of reach ({problem}); check ovs-vswitchd on this node");
            return failure(code::SWITCH, msg);
        }
        if let Switch::Here { problem: Some(problem), .. } = &self.switch {
            return failure(code::SWITCH, format!("{title}: {problem}"));
        }
        let numbers = self.database.as_ref().map(|database| &database.ports);
        let number = numbers.and_then(|ports| ports.get(&attachment.host_interface)?.ofport);
        if number.is_none() {
            let problem = self.database_trouble().unwrap_or_else(|| "it has given no port number yet".into());
            let msg = format!(
                "{title}: Open vSwitch has not taken interface {} ({problem}); check ovsdb-server and ovs-vswitchd",
                attachment.host_interface
            );
            return failure(code::SWITCH, msg);
        }
        let Some(pod) = &attachment.pod else {
            return failure(code::SWITCH, format!("{title}: the switch has not confirmed its flows yet"));
        };
        let known = self.known_uid(attachment);
        if known.is_some_and(|uid| pod.uid.is_empty() || uid == pod.uid) {
            return failure(code::SWITCH, format!("{title}: the switch has not confirmed its flows yet"));
        }
        let why = match self.stream.problem() {
            _ if !self.stream.is_configured() => {
                "this agent has no controller; start it with --controllers".to_owned()
            }
            Some(problem) => format!("no controller leads ({problem})"),
            None => "the controller has not reported the pod; check that it reads this pod's source \
                                 and that the pod is bound to this node"
                .to_owned(),
        };
        let msg = format!("{title} (UID {}): its policies are not known: {why}", pod.uid);
        failure(code::TRY_AGAIN, msg)
    }

    /// Whether nothing of an attachment that was unplugged can still carry packets, as far as this node can tell.
    pub fn is_gone(&self, id: &AttachmentId) -> bool {
        if self.attachments.contains_key(id) {
            return false;
        }
        let listed = self.database.as_ref().is_some_and(|d| d.ports.contains_key(&id.host_interface()));
        !listed
            && (self.confirmed.generation == self.generation || matches!(self.switch, Switch::Away { .. }))
    }

    /// Whether an ADD would succeed as far as the switch goes: error 51 where containers that are there suffer too.
    pub fn readiness(&self) -> Result<(), Failure> {
        let limited = |msg: String| Err(failure(code::NOT_AVAILABLE_LIMITED, msg));
        if let Switch::Away { problem } = &self.switch {
            return limited(format!("the switch is out of reach ({problem}); check ovs-vswitchd"));
        }
        if let Some(problem) = self.database_trouble() {
            let msg = format!("the Open vSwitch database: {problem}; check ovsdb-server");
            return Err(failure(code::NOT_AVAILABLE, msg));
        }
        if let Switch::Here { problem: Some(problem), .. } = &self.switch {
            return Err(failure(code::NOT_AVAILABLE, problem.clone()));
        }
        if self.confirmed.generation == 0 {
            return limited("the switch does not hold its flows yet; wait a moment".into());
        }
        Ok(())
    }

    /// Whether the database was out of reach when it was last heard of.
    pub fn is_database_lost(&self) -> bool {
        !self.database_problem.is_empty()
    }

    fn port_error(&self, interface: &str) -> Option<&str> {
        let status = self.database.as_ref()?.ports.get(interface)?;
        if status.ofport.is_some() { None } else { status.error.as_deref() }
    }

    fn database_trouble(&self) -> Option<String> {
        if !self.database_problem.is_empty() {
            return Some(self.database_problem.clone());
        }
        self.database.as_ref()?.problem.clone()
    }

    /// Whether containers may leave transmit checksums to their device.
    pub fn tx_checksum_offload(&self) -> bool {
        self.config.datapath == Datapath::System
    }

    /// MTU of pods in bytes.
    pub fn pod_mtu(&self) -> u32 {
        let gateway = self.compiled.host.links.iter().find(|link| link.device == self.config.gateway);
        gateway.map_or_else(|| compiler::pod_mtu(&self.view, &self.config), |link| link.mtu)
    }

    /// Everything, for people.
    pub fn snapshot(&self) -> Snapshot {
        let own = self.own();
        let (flows, switch_connected) = match &self.switch {
            Switch::Here { shadow, .. } => (shadow.len(), true),
            Switch::Away { .. } => (0, false),
        };
        Snapshot {
            config: self.config.clone(),
            view: Arc::clone(&self.view),
            addresses: own.addresses.clone(),
            pod_cidrs: own.pod_cidrs.clone(),
            pod_mtu: self.pod_mtu(),
            attachments: self.attachments.values().map(|plugged| plugged.attachment.clone()).collect(),
            database: self.database.clone(),
            switch_version: self.switch_version.clone(),
            reasons: Arc::new(Reasons::new(self.recipe())),
            flows,
            flow_mods_sent: self.flow_mods_sent,
            in_sync: self.in_sync(),
            switch_connected,
            controller_connected: self.stream.is_led(),
            controllers: self.stream.list(),
            problems: self.problems(),
        }
    }

    fn problems(&self) -> BTreeMap<&'static str, String> {
        let mut problems = BTreeMap::new();
        match &self.switch {
            Switch::Away { problem } => drop(problems.insert("switch", problem.clone())),
            Switch::Here { problem: Some(problem), .. } => drop(problems.insert("switch", problem.clone())),
            Switch::Here { .. } => {}
        }
        problems.extend(self.database_trouble().map(|problem| ("database", problem)));
        problems.extend(self.cuts.problem().map(|problem| ("connections", problem.to_owned())));
        if let Err(problem) = &self.host {
            problems.insert("host", problem.clone());
        }
        problems.extend(self.stream.problem().map(|problem| ("controller", problem)));
        let texts = |map: &BTreeMap<_, String>| {
            map.iter().map(|(id, why): (&network::PolicyId, _)| format!("{id}: {why}")).collect::<Vec<_>>()
        };
        let mut policies = texts(&self.rejected.policies);
        policies.extend(texts(&self.compiled.refused));
        if !policies.is_empty() {
            problems.insert("policies", policies.join("; "));
        }
        let services = self.rejected.services.iter().map(|(key, why)| format!("{key}: {why}"));
        let services: Vec<_> = services.collect();
        if !services.is_empty() {
            problems.insert("services", services.join("; "));
        }
        let interfaces: Vec<_> =
            self.rejected.interfaces.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        if !interfaces.is_empty() {
            problems.insert("ports", interfaces.join("; "));
        }
        problems
    }
}

fn failure(code: u32, msg: String) -> Failure {
    Failure { code, msg, details: String::new() }
}
