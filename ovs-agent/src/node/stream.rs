//! The controllers of a node: who leads, who stands by, who is owed which answer. No IO; it must not know how one dials.
//!
//! Every controller has a stream. One leads: its deltas alone are taken in. When its stream ends, or it says that it is
//! behind, others are *asked* to lead; the first of them whose delta may follow what is held leads from then on, and the
//! rest stand by again. A standby is told what is in force whenever an answer goes to the leader, so that it can take over
//! with the difference alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::generated::ferrule::v1alpha1 as wire;
use api::role::{self, Holding, Role};
use api::stream::{Binding, Rejection, ResourceId};
use api::watermark::Watermark;
use network::NamespacedName;
use wire::from_agent::Body;

use super::{Node, Plugged};
use crate::event::Session;
use crate::saved::Saved;

/// How often a leader may offer what is older than what is held before its stream is left: it is asked anew once.
const REFUSALS: u32 = 2;

/// What a controller is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its deltas are taken in.
    Leads,
    /// It was asked to lead; its first delta decides.
    Asked,
    /// It waits.
    StandsBy,
    /// There is no stream to it.
    Away,
}

/// A controller, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// `HOST:PORT`.
    pub address: String,
    /// What it is to this node.
    pub part: Part,
    /// Why it is away, or behind; empty when all is well.
    pub problem: String,
}

/// What is known of the controllers.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    configured: bool,
    /// Of our bindings: grows with every report.
    pub(super) revision: u64,
    peers: BTreeMap<Session, Peer>,
    /// Why there is no stream to these.
    away: BTreeMap<String, String>,
    /// Deltas that were taken in and are not in force yet.
    owed: Vec<Owed>,
    /// Resources that could not be understood, until they come again.
    unread: BTreeMap<ResourceId, String>,
    /// What was said last of what does not stand.
    told: BTreeSet<Rejection>,
    /// What somebody else changed lately, in words.
    pub(super) drifted: String,
}

#[derive(Clone, Debug)]
struct Peer {
    address: String,
    part: Part,
    /// Why it cannot lead, as it says itself or as its last delta showed.
    behind: Option<String>,
    refusals: u32,
    /// How often it was asked on this stream.
    term: u64,
    /// It has not heard yet that what the Hello listed is in force.
    unconfirmed: bool,
    /// What it was told last of what somebody else changed.
    drifted: String,
}

impl Peer {
    fn may_lead(&self) -> bool {
        matches!(self.part, Part::Leads | Part::Asked) && self.behind.is_none()
    }
}

/// A delta whose answer waits for the switch.
#[derive(Clone, Debug)]
struct Owed {
    session: Session,
    nonce: u64,
    generation: u64,
    holding: Holding,
    /// What could not even be named.
    nameless: Vec<Rejection>,
}

impl Streams {
    pub(super) fn new(configured: bool, revision: u64) -> Self {
        Self {
            configured,
            revision,
            peers: BTreeMap::new(),
            away: BTreeMap::new(),
            owed: Vec::new(),
            unread: BTreeMap::new(),
            told: BTreeSet::new(),
            drifted: String::new(),
        }
    }

    pub(super) fn is_configured(&self) -> bool {
        self.configured
    }

    /// Whether a controller leads, or is about to.
    pub(super) fn is_led(&self) -> bool {
        self.peers.values().any(Peer::may_lead)
    }

    /// Why no controller leads.
    pub(super) fn problem(&self) -> Option<String> {
        if !self.configured || self.is_led() {
            return None;
        }
        let mut all = self.list().into_iter().filter(|controller| !controller.problem.is_empty()).peekable();
        if all.peek().is_none() {
            return Some("not connected yet".into());
        }
        Some(
            all.map(|it| format!("controller {}: {}", it.address, it.problem)).collect::<Vec<_>>().join("; "),
        )
    }

    /// All of them.
    pub(super) fn list(&self) -> Vec<Controller> {
        let open = self.peers.values().map(|peer| Controller {
            address: peer.address.clone(),
            part: peer.part,
            problem: peer.behind.clone().unwrap_or_default(),
        });
        let away = self.away.iter().map(|(address, problem)| Controller {
            address: address.clone(),
            part: Part::Away,
            problem: problem.clone(),
        });
        let mut all: Vec<Controller> = open.chain(away).collect();
        all.sort_by(|a, b| a.address.cmp(&b.address));
        all
    }

    /// The controller, if it leads or was asked to, and speaks since then.
    fn asked(&mut self, session: Session, term: u64) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(&session)?;
        (peer.part != Part::StandsBy && peer.term == term).then_some(peer)
    }

    /// Everything that was taken in and is not in force: what a standby has not been told.
    fn untold(&self, watermark: &Watermark) -> Holding {
        let mut sum = Holding::default();
        self.owed.iter().for_each(|owed| sum.extend(&owed.holding));
        Holding { watermark: watermark.clone(), ..sum }
    }
}

impl Node {
    /// The addresses of controllers that there are; others are no longer spoken of.
    pub(super) fn controllers_known(&mut self, addresses: &BTreeSet<String>) {
        self.stream.configured |= !addresses.is_empty();
        self.stream.away.retain(|address, _| addresses.contains(address));
    }

    pub(super) fn stream_opened(&mut self, session: Session, address: String) {
        let role = if self.stream.is_led() { Role::Standby } else { Role::Leader };
        self.stream.away.remove(&address);
        let part = if role == Role::Leader { Part::Asked } else { Part::StandsBy };
        let peer = Peer {
            address,
            part,
            behind: None,
            refusals: 0,
            term: 0,
            unconfirmed: true,
            drifted: String::new(),
        };
        self.stream.peers.insert(session, peer);
        let hello = wire::Hello {
            node: self.config.node.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            known: role::encode_versions(&api::delta::versions(&self.view)),
            acknowledged: Some(api::convert::encode_watermark(&self.watermark)),
            bindings: bindings(self.attachments.values()),
            bindings_revision: self.stream.revision,
            role: role.encode().into(),
            set_changes: true,
            bundles: true,
        };
        self.say(session, Body::Hello(hello));
    }

    pub(super) fn stream_closed(&mut self, session: Session, address: String, problem: String) {
        self.stream.peers.remove(&session);
        if !self.stream.peers.values().any(|peer| peer.address == address) {
            self.stream.away.insert(address, problem);
        }
        if self.stream.is_led() {
            return;
        }
        // One that never said that it is behind, the one that has been there longest.
        let standing = |peer: &Peer| peer.part == Part::StandsBy;
        let best = (self.stream.peers.iter().filter(|(_, peer)| standing(peer)))
            .min_by_key(|(session, peer)| (peer.behind.is_some(), **session));
        if let Some(session) = best.map(|(session, _)| *session) {
            self.ask_to_lead(session);
        }
    }

    /// The controller lacks what is in force here. It leads once it has caught up, if no other does before.
    pub(super) fn behind(&mut self, session: Session, said: wire::Behind) {
        let Some(peer) = self.stream.asked(session, said.term) else { return };
        peer.part = Part::Asked;
        peer.behind = Some(said.reason);
        self.ask_all();
    }

    fn ask_all(&mut self) {
        if self.stream.is_led() {
            return;
        }
        let standing = self.stream.peers.iter().filter(|(_, peer)| peer.part == Part::StandsBy);
        for session in standing.map(|(session, _)| *session).collect::<Vec<_>>() {
            self.ask_to_lead(session);
        }
    }

    fn ask_to_lead(&mut self, session: Session) {
        let Some(peer) = self.stream.peers.get_mut(&session) else { return };
        peer.part = Part::Asked;
        peer.behind = None;
        peer.term += 1;
        let term = peer.term;
        let holding = self.stream.untold(&self.watermark).encode();
        self.say(session, Body::Lead(wire::Lead { holding: Some(holding), term }));
    }

    /// What the controller sent is not taken in, whatever it was; it learns what is held.
    fn stand_by(&mut self, session: Session, reason: &str) {
        let Some(peer) = self.stream.peers.get_mut(&session) else { return };
        peer.part = Part::StandsBy;
        peer.unconfirmed = true;
        let rejected = self.standing_rejections();
        let stand_by = wire::StandBy {
            known: role::encode_versions(&api::delta::versions(&self.view)),
            acknowledged: Some(api::convert::encode_watermark(&self.watermark)),
            rejected: rejected.iter().map(api::convert::encode_rejection).collect(),
            reason: reason.to_owned(),
        };
        self.say(session, Body::StandBy(stand_by));
    }

    pub(super) fn delta(&mut self, session: Session, delta: &wire::Delta) {
        if self.stream.asked(session, delta.term).is_none() {
            return;
        }
        let offered = match api::delta::watermark(delta) {
            Ok(offered) => offered,
            Err(error) => return self.refuse_state(session, delta.nonce, error.to_string()),
        };
        // Our own bindings are no history of the cluster: a controller that has just met us may not have them yet.
        let mut held = self.watermark.clone();
        held.revisions.remove(&Watermark::bindings_of(&self.config.node));
        if let Err(outdated) = held.admits(&offered) {
            return self.refuse_state(session, delta.nonce, outdated.to_string());
        }
        self.take_as_leader(session);
        self.cuts.changing(&self.view, &self.config.node, api::delta::named(delta));
        let applied = api::delta::apply_with(Arc::make_mut(&mut self.view), &mut self.sums, delta);
        self.touch(&applied.changed);
        for id in &applied.changed {
            match id {
                ResourceId::Policy(id) => drop(self.rejected.policies.remove(id)),
                ResourceId::Service(key) => {
                    self.rejected.services.remove(key);
                    // The generation of this delta.
                    self.unserved = Some(self.generation + 1);
                }
                _ => {}
            }
        }
        self.watermark = offered.clone();
        self.generation += 1;
        let holding = role::held_by(delta, &applied.changed, offered);
        for id in api::delta::named(delta) {
            self.stream.unread.remove(&id);
        }
        let mut nameless = Vec::new();
        for rejection in applied.rejected {
            match rejection.id {
                Some(id) => drop(self.stream.unread.insert(id, rejection.reason)),
                None => nameless.push(rejection),
            }
        }
        self.stream.owed.push(Owed {
            session,
            nonce: delta.nonce,
            generation: self.generation,
            holding,
            nameless,
        });
    }

    /// The delta of this one is the first that may follow: the others stand by.
    fn take_as_leader(&mut self, session: Session) {
        if let Some(peer) = self.stream.peers.get_mut(&session) {
            (peer.part, peer.behind, peer.refusals) = (Part::Leads, None, 0);
        }
        let others = (self.stream.peers.iter())
            .filter(|(other, peer)| **other != session && peer.part != Part::StandsBy);
        for other in others.map(|(other, _)| *other).collect::<Vec<_>>() {
            self.stand_by(other, "another controller leads");
        }
    }

    fn refuse_state(&mut self, session: Session, nonce: u64, reason: String) {
        let rejection = api::convert::encode_rejection(&Rejection { id: None, reason: reason.clone() });
        self.say(session, Body::Acknowledgement(wire::Acknowledgement { nonce, rejected: vec![rejection] }));
        let Some(peer) = self.stream.peers.get_mut(&session) else { return };
        peer.refusals += 1;
        if peer.refusals >= REFUSALS {
            self.work.leave.push((session, reason));
            return;
        }
        // Once more from the beginning, beside all the others.
        self.stand_by(session, &reason);
        self.ask_all();
        if let Some(peer) = self.stream.peers.get_mut(&session) {
            peer.behind = Some(reason);
        }
    }

    /// Tells every controller what a pod of this name has now, and which UIDs nothing is plugged for any more.
    pub(super) fn report(&mut self, name: Option<NamespacedName>, released: &[String]) {
        let revision = self.stream.revision;
        let of_it = |plugged: &&Plugged| name.is_some() && plugged.attachment.pod_name() == name;
        let bound = bindings(self.attachments.values().filter(of_it));
        for session in self.stream.peers.keys().copied().collect::<Vec<_>>() {
            let (bound, released) = (bound.clone(), released.to_vec());
            self.say(session, Body::Bindings(wire::Bindings { bound, released, revision }));
        }
    }

    fn say(&mut self, session: Session, body: Body) {
        self.work.messages.push((session, wire::FromAgent { body: Some(body) }));
    }

    /// What of the state does not stand.
    fn standing_rejections(&self) -> BTreeSet<Rejection> {
        let policies = self.rejected.policies.iter().chain(&self.compiled.refused);
        let policies = policies.map(|(id, reason)| (ResourceId::Policy(id.clone()), reason));
        let services = &self.rejected.services;
        let services = services.iter().map(|(key, reason)| (ResourceId::Service(key.clone()), reason));
        let unread = self.stream.unread.iter().map(|(id, reason)| (id.clone(), reason));
        policies
            .chain(services)
            .chain(unread)
            .map(|(id, reason)| Rejection { id: Some(id), reason: reason.clone() })
            .collect()
    }

    /// Answers the deltas that are in force, has them kept, and tells the standbys. What stands now and did not, or the
    /// reverse, is told although nobody asked.
    pub(super) fn pay(&mut self) {
        // A deny is in force when nothing of what it denies passes any more.
        let reached = self.cuts.in_force(self.confirmed.generation);
        // Nor is anything before the host's own stack has it: it refuses for Services that nobody serves, and routes to pods.
        let host_owed = self.compiled.host_owed.filter(|_| !self.compiled.host_unreachable);
        let reached = host_owed.map_or(reached, |owed| reached.min(owed.saturating_sub(1)));
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.stream.owed).into_iter().partition(|owed| owed.generation <= reached);
        self.stream.owed = later;
        let whole = reached == self.generation;
        if due.is_empty() && !whole {
            return;
        }
        let standing = self.standing_rejections();
        let encode = |rejections: &mut dyn Iterator<Item = &Rejection>| -> Vec<_> {
            rejections.map(api::convert::encode_rejection).collect()
        };
        let mut news = Holding { watermark: self.confirmed.watermark.clone(), ..Holding::default() };
        for owed in &due {
            news.extend(&owed.holding);
            if self.stream.peers.get(&owed.session).is_some_and(|peer| peer.part == Part::Leads) {
                let rejected = encode(&mut owed.nameless.iter().chain(&standing));
                let answer = wire::Acknowledgement { nonce: owed.nonce, rejected };
                self.say(owed.session, Body::Acknowledgement(answer));
            }
        }
        let turned = whole && due.is_empty() && standing != self.stream.told;
        let drifted = &self.stream.drifted;
        let progress = wire::Progress {
            holding: Some(news.encode()),
            rejected: encode(&mut standing.iter()),
            drifted: drifted.clone(),
        };
        let mut hear = Vec::new();
        for (session, peer) in &mut self.stream.peers {
            let first = whole && peer.unconfirmed;
            let news = turned || (whole && due.is_empty() && peer.drifted != *drifted);
            let hears = match peer.part {
                Part::StandsBy => !due.is_empty() || news || first,
                Part::Leads => news,
                Part::Asked | Part::Away => false,
            };
            if hears {
                peer.unconfirmed &= !whole;
                peer.drifted.clone_from(drifted);
                hear.push(*session);
            }
        }
        for session in hear {
            self.say(session, Body::Progress(progress.clone()));
        }
        if turned || !due.is_empty() {
            self.stream.told = standing;
        }
        if !due.is_empty() {
            self.work.save = Some(Saved { view: Arc::clone(&self.view), watermark: self.watermark.clone() });
        }
    }
}

/// What is told of the pods behind these attachments: one binding for a pod, with the addresses of all its attachments.
fn bindings<'a>(attachments: impl Iterator<Item = &'a Plugged>) -> Vec<wire::Binding> {
    let mut pods: BTreeMap<_, Binding> = BTreeMap::new();
    for Plugged { attachment, .. } in attachments {
        let (Some(pod), Some(identity)) = (attachment.pod_name(), &attachment.pod) else { continue };
        let binding = pods.entry((pod.clone(), &identity.uid)).or_insert_with(|| Binding {
            pod,
            uid: identity.uid.clone(),
            addresses: Vec::new(),
            interface: attachment.host_interface.clone(),
        });
        binding.addresses.extend(attachment.addresses.iter().map(|address| address.address));
    }
    pods.values().map(api::convert::encode_binding).collect()
}
