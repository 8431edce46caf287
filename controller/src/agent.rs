//! What the controller knows of one agent: what it holds, what is on its way, what it refused. Never waits for it.
//!
//! At most [`WINDOW`] deltas are unanswered. While the window is full nothing is queued: when an answer comes, the next
//! delta leads from what was sent to the newest state, whatever happened in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::convert;
use api::delta::{self, Difference, Resources, Versions};
use api::generated::ferrule::v1alpha1 as wire;
use api::role::{Holding, Role};
use api::stream::{Rejection, ResourceId, Version};
use api::watermark::{Outdated, Watermark};
use network::NodeName;
use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tonic::Status;

/// Deltas that may be unanswered.
pub const WINDOW: usize = 4;
/// Of what an agent does not hold in any version that it was sent: no set has it.
const NO_VERSION: Version = Version(0);
/// Room in an agent's queue: the window, and questions beside it.
pub const QUEUE: usize = WINDOW + 16;

/// The way to an agent's stream.
pub type Outgoing = mpsc::Sender<Result<wire::FromController, Status>>;

/// Tells the streams of one run apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A live stream.
#[derive(Debug)]
pub struct Link {
    /// Which.
    pub session: SessionId,
    /// Where to send.
    pub out: Outgoing,
}

/// What an agent says first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its version.
    pub version: String,
    /// What it holds.
    #[serde(with = "api::pairs")]
    pub known: Versions,
    /// The watermark of that.
    pub acknowledged: Watermark,
    /// Every pod plugged on its node.
    pub bindings: Vec<api::stream::Binding>,
    /// Revision of that list.
    pub bindings_revision: u64,
    /// What we are to be.
    pub role: Role,
    /// It understands changes of address sets.
    pub set_changes: bool,
    /// It takes bundles of resources.
    #[serde(default)]
    pub bundles: bool,
}

/// What an agent holds, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which versions.
    #[serde(with = "api::pairs")]
    pub known: Versions,
    /// The watermark of that.
    pub acknowledged: Watermark,
    /// What of it does not stand.
    pub rejected: Vec<Rejection>,
}

#[derive(Debug)]
struct Pending {
    nonce: u64,
    sent_at: Instant,
}

/// What came of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The agent has (or will have) it all.
    Nothing,
    /// Too much is unanswered; ask again after the next answer.
    Held,
    /// A delta went out.
    Sent {
        /// Resources in it, changed and removed.
        resources: usize,
        /// Its encoded size in bytes.
        bytes: usize,
    },
}

/// What came of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// From sending to the answer; `None` when nobody asked.
    pub elapsed: Option<Duration>,
}

/// One agent, connected or not.
#[derive(Debug, Default)]
pub struct Agent {
    version: String,
    link: Option<Link>,
    role: Role,
    /// It understands changes of address sets.
    set_changes: bool,
    /// It takes bundles.
    bundles: bool,
    /// The sets that it was sent as a change when they were sent last.
    changed_sets: BTreeSet<ResourceId>,
    /// Counts how often we were asked to lead on this stream.
    term: u64,
    /// What it holds once everything on its way has arrived.
    sent: Versions,
    offered: Option<Arc<Resources>>,
    watermark: Watermark,
    greeted: bool,
    /// It was told that we lack what it acknowledged.
    told_behind: bool,
    /// As a standby: it holds what we would send.
    agrees: bool,
    held: bool,
    nonce: u64,
    pending: VecDeque<Pending>,
    /// It has not said yet that what it had at first is in force.
    unheard: bool,
    unconfirmed: BTreeMap<ResourceId, u64>,
    rejected: BTreeMap<ResourceId, String>,
    /// Rejections that name no resource, of the last answer that had any.
    nameless: Vec<String>,
    /// What somebody else changed on the node lately; empty where there was nothing.
    drifted: String,
}

impl Agent {
    /// A new stream takes the place of the old one, which ends.
    pub fn connect(&mut self, link: Link, hello: Hello) {
        if let Some(old) = self.link.replace(link) {
            let _ = old.out.try_send(Err(Status::aborted("the agent of this node has connected again")));
        }
        *self = Self {
            version: hello.version,
            link: self.link.take(),
            role: hello.role,
            set_changes: hello.set_changes,
            bundles: hello.bundles,
            sent: hello.known,
            watermark: hello.acknowledged,
            nonce: self.nonce,
            unheard: true,
            ..Self::default()
        };
    }

    /// We lead from now on.
    pub fn lead(&mut self, term: u64, holding: &Holding) {
        holding.update(&mut self.sent);
        *self = Self {
            version: std::mem::take(&mut self.version),
            link: self.link.take(),
            role: Role::Leader,
            set_changes: self.set_changes,
            bundles: self.bundles,
            term,
            sent: std::mem::take(&mut self.sent),
            watermark: holding.watermark.clone(),
            nonce: self.nonce,
            unheard: self.unheard,
            // What was told of since the last progress is in force with our first delta's answer.
            unconfirmed: holding.changes.keys().map(|id| (id.clone(), self.nonce + 1)).collect(),
            rejected: std::mem::take(&mut self.rejected),
            nameless: std::mem::take(&mut self.nameless),
            drifted: std::mem::take(&mut self.drifted),
            ..Self::default()
        };
    }

    /// Another one leads: what we sent is not taken, and this is what the agent holds.
    pub fn stand_by(&mut self, held: Held) {
        *self = Self {
            version: std::mem::take(&mut self.version),
            link: self.link.take(),
            role: Role::Standby,
            set_changes: self.set_changes,
            bundles: self.bundles,
            sent: held.known,
            watermark: held.acknowledged,
            nonce: self.nonce,
            unheard: true,
            drifted: std::mem::take(&mut self.drifted),
            ..Self::default()
        };
        self.reject(held.rejected);
    }

    /// What is in force there by now, although we sent nothing, all that does not stand, and what somebody else changed.
    pub fn progress(&mut self, holding: &Holding, rejected: Vec<Rejection>, drifted: String) {
        if self.role == Role::Standby {
            holding.update(&mut self.sent);
            self.watermark.clone_from(&holding.watermark);
            self.unheard = false;
            self.offered = None;
        }
        self.drifted = drifted;
        self.reject(rejected);
    }

    fn reject(&mut self, rejected: Vec<Rejection>) {
        self.rejected.clear();
        self.nameless.clear();
        for rejection in rejected {
            match rejection.id {
                Some(id) => {
                    // What the change led from was not there: once more, and whole.
                    if self.changed_sets.remove(&id) {
                        self.sent.insert(id.clone(), NO_VERSION);
                        self.offered = None;
                    }
                    self.rejected.insert(id, rejection.reason);
                }
                None => self.nameless.push(rejection.reason),
            }
        }
    }

    /// Tells an agent that asks us to lead, once, that we lack what it acknowledged.
    pub fn tell_behind(&mut self, ours: &Watermark, reason: &Outdated) {
        let Some(link) = self.link.as_ref().filter(|_| !self.told_behind) else { return };
        let behind = wire::Behind {
            watermark: Some(convert::encode_watermark(ours)),
            reason: reason.to_string(),
            term: self.term,
        };
        let message = wire::FromController { body: Some(wire::from_controller::Body::Behind(behind)) };
        self.told_behind = link.out.try_send(Ok(message)).is_ok();
    }

    /// What the agent of this node acknowledged of the cluster: our knowledge of its own bindings may lag and mend itself.
    pub fn acknowledged(&self, node: &NodeName) -> Watermark {
        let mut acknowledged = self.watermark.clone();
        acknowledged.revisions.remove(&Watermark::bindings_of(node));
        acknowledged
    }

    /// Whether we lead, and have not sent anything since we were asked to.
    pub fn is_asking(&self) -> bool {
        self.is_connected() && self.role == Role::Leader && !self.greeted
    }

    /// What we are to the agent.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The stream ended. Returns whether it was the one in use.
    pub fn disconnect(&mut self, session: SessionId) -> bool {
        if self.session() != Some(session) {
            return false;
        }
        self.link = None;
        self.pending.clear();
        self.held = false;
        true
    }

    /// The stream in use.
    pub fn session(&self) -> Option<SessionId> {
        self.link.as_ref().map(|link| link.session)
    }

    /// Whether there is a stream.
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// The agent's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Deltas on their way or being applied.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What the agent refused of what it holds now.
    pub fn rejected(&self) -> impl Iterator<Item = (Option<&ResourceId>, &str)> {
        let named = self.rejected.iter().map(|(id, reason)| (Some(id), reason.as_str()));
        named.chain(self.nameless.iter().map(|reason| (None, reason.as_str())))
    }

    /// What somebody else changed lately on the node, as its agent says while it is here.
    pub fn drifted(&self) -> Option<&str> {
        (self.is_connected() && !self.drifted.is_empty()).then_some(self.drifted.as_str())
    }

    /// The reason why a resource was refused.
    pub fn rejection(&self, id: &ResourceId) -> Option<&str> {
        self.rejected.get(id).map(String::as_str)
    }

    /// Whether this version of the resource is in force.
    pub fn realizes(&self, id: &ResourceId, version: Version) -> bool {
        self.is_connected()
            && !self.unheard
            && self.sent.get(id) == Some(&version)
            && !self.unconfirmed.contains_key(id)
            && !self.rejected.contains_key(id)
    }

    /// Whether everything that there was to send was sent (by whoever leads), answered and not refused.
    pub fn is_realized(&self) -> bool {
        let in_step = match self.role {
            Role::Leader => self.greeted && !self.held && self.pending.is_empty(),
            Role::Standby => self.agrees && !self.unheard,
        };
        self.is_connected() && in_step && self.rejected.is_empty() && self.nameless.is_empty()
    }

    /// Brings the agent to this state, or notes that it must wait. An agent whose view is unchanged still hears that its
    /// own bindings are contained, and of a new epoch.
    pub fn offer(
        &mut self,
        node: &NodeName,
        resources: &Arc<Resources>,
        watermark: &Watermark,
        now: Instant,
    ) -> Offer {
        let Some(link) = &self.link else { return Offer::Nothing };
        if self.role == Role::Standby {
            if self.offered.as_ref().is_none_or(|offered| !Arc::ptr_eq(offered, resources)) {
                self.agrees = holds(&self.sent, resources);
                self.offered = Some(Arc::clone(resources));
            }
            return Offer::Nothing;
        }
        let own = Watermark::bindings_of(node);
        let news = !self.greeted
            || watermark.epoch != self.watermark.epoch
            || watermark.revision(&own) > self.watermark.revision(&own);
        let unchanged = self.offered.as_ref().is_some_and(|offered| Arc::ptr_eq(offered, resources));
        if unchanged && !news {
            self.held = false;
            return Offer::Nothing;
        }
        if self.pending.len() >= WINDOW {
            self.held = true;
            return Offer::Held;
        }
        let may_change = |id: &ResourceId| self.set_changes && !self.rejected.contains_key(id);
        let Difference { mut delta, resources: count, as_changes } =
            delta::delta_where(&self.sent, resources, self.bundles, may_change);
        self.offered = Some(Arc::clone(resources));
        self.held = false;
        if count == 0 && !news {
            return Offer::Nothing;
        }
        delta.nonce = self.nonce + 1;
        delta.term = self.term;
        delta.watermark = Some(convert::encode_watermark(watermark));
        let gone: Vec<ResourceId> =
            delta.removed.iter().filter_map(|id| convert::decode_id(id).ok()).collect();
        let bytes = delta.encoded_len();
        let message = wire::FromController { body: Some(wire::from_controller::Body::Delta(delta)) };
        if link.out.try_send(Ok(message)).is_err() {
            // Full cannot be (the window is smaller than the queue, questions leave room); closed is about to be told.
            self.offered = None;
            self.held = true;
            return Offer::Held;
        }
        self.nonce += 1;
        self.greeted = true;
        self.watermark = watermark.clone();
        for id in gone {
            self.sent.remove(&id);
            self.unconfirmed.remove(&id);
            self.changed_sets.remove(&id);
        }
        self.rejected.retain(|id, _| resources.contains(id));
        for entry in resources.iter() {
            if self.sent.get(&entry.id) != Some(&entry.version) {
                self.sent.insert(entry.id.clone(), entry.version);
                self.unconfirmed.insert(entry.id.clone(), self.nonce);
                self.changed_sets.remove(&entry.id);
            }
        }
        self.changed_sets.extend(as_changes);
        self.pending.push_back(Pending { nonce: self.nonce, sent_at: now });
        Offer::Sent { resources: count, bytes }
    }

    /// The answer to a delta, and so to every delta before it. `rejected` is all of the agent's state that does not stand.
    pub fn answer(&mut self, nonce: u64, rejected: Vec<Rejection>, now: Instant) -> Answered {
        let asked = self.pending.iter().find(|pending| pending.nonce == nonce);
        let Some(elapsed) = asked.map(|pending| now.saturating_duration_since(pending.sent_at)) else {
            return Answered::default();
        };
        self.pending.retain(|pending| pending.nonce > nonce);
        self.unconfirmed.retain(|_, carried_by| *carried_by > nonce);
        self.unheard = false;
        // An answer lists everything that does not stand: a policy that was over budget fits once another is gone.
        self.reject(rejected);
        Answered { elapsed: Some(elapsed) }
    }

    /// Passes a question on, unless the agent has too many already.
    pub fn ask(&self, id: u64, path: &str) -> Result<SessionId, &'static str> {
        let link = self.link.as_ref().ok_or("its agent is not connected")?;
        if link.out.capacity() <= WINDOW {
            return Err("its agent has too many unanswered questions");
        }
        let query = wire::Query { id, path: path.to_owned() };
        let message = wire::FromController { body: Some(wire::from_controller::Body::Query(query)) };
        link.out.try_send(Ok(message)).map_err(|_| "its agent is going away")?;
        Ok(link.session)
    }
}

fn holds(known: &Versions, resources: &Resources) -> bool {
    known.len() == resources.len() && resources.iter().all(|it| known.get(&it.id) == Some(&it.version))
}
