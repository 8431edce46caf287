//! What a node says to controllers and takes from them: who it is, what is plugged, which state it accepts, what it answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::cni::AttachmentId;
use api::generated::ferrule::v1alpha1 as wire;
use api::stream::{Binding, Rejection, ResourceId};
use api::watermark::Watermark;

use super::{Node, Owed, Plugged};
use crate::attachment::Attachment;
use crate::event::Session;
use crate::saved::Saved;

impl Node {
    pub(super) fn stream_opened(&mut self, session: Session) {
        self.stream.session = Some(session);
        self.stream.problem = String::new();
        self.acknowledgements.clear();
        let hello = wire::Hello {
            node: self.config.node.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            known: api::delta::versions(&self.view)
                .iter()
                .map(|(id, version)| wire::ResourceVersion {
                    id: Some(api::convert::encode_id(id)),
                    version: version.0,
                })
                .collect(),
            acknowledged: Some(api::convert::encode_watermark(&self.acknowledged)),
            bindings: self.attachments.values().filter_map(binding).collect(),
            bindings_revision: self.stream.revision,
        };
        self.send(wire::from_agent::Body::Hello(hello));
    }

    pub(super) fn report(&mut self, bound: Vec<wire::Binding>, released: Vec<String>) {
        let revision = self.stream.revision;
        self.send(wire::from_agent::Body::Bindings(wire::Bindings { bound, released, revision }));
    }

    pub(super) fn send(&mut self, body: wire::from_agent::Body) {
        if let Some(session) = self.stream.session {
            self.work.messages.push((session, wire::FromAgent { body: Some(body) }));
        }
    }

    pub(super) fn delta(&mut self, session: Session, delta: &wire::Delta) {
        if self.stream.session != Some(session) {
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
        let applied = api::delta::apply(Arc::make_mut(&mut self.view), delta);
        for id in &applied.changed {
            if let ResourceId::Policy(id) = id {
                self.rejected.policies.remove(id);
            }
        }
        // What could not be read stays on record until the controller sends it anew or takes it away.
        let named = delta.changed.iter().filter_map(|resource| resource.id.as_ref()).chain(&delta.removed);
        let named: BTreeSet<_> = named.filter_map(|id| api::convert::decode_id(id).ok()).collect();
        self.malformed.retain(|rejection| rejection.id.as_ref().is_some_and(|id| !named.contains(id)));
        self.malformed.extend(applied.rejected);
        self.watermark = offered;
        self.generation += 1;
        self.acknowledgements.push(Owed { session, nonce: delta.nonce, generation: self.generation });
    }

    pub(super) fn refuse_state(&mut self, session: Session, nonce: u64, reason: String) {
        let rejection = api::convert::encode_rejection(&Rejection { id: None, reason: reason.clone() });
        let answer = wire::Acknowledgement { nonce, rejected: vec![rejection] };
        self.send(wire::from_agent::Body::Acknowledgement(answer));
        self.work.leave = Some((session, reason));
    }

    pub(super) fn plugged(&mut self, attachment: Attachment) {
        self.stream.revision += 1;
        let plugged = Plugged { attachment, revision: self.stream.revision };
        self.report(binding(&plugged).into_iter().collect(), Vec::new());
        self.attachments.insert(plugged.attachment.id.clone(), plugged);
        self.generation += 1;
    }

    pub(super) fn unplugged(&mut self, id: &AttachmentId) {
        let Some(plugged) = self.attachments.remove(id) else { return };
        self.rejected.interfaces.remove(&plugged.attachment.host_interface);
        self.generation += 1;
        let addresses = plugged.attachment.addresses.iter().map(|address| address.address).collect();
        self.departed.push((self.generation, addresses));
        self.stream.revision += 1;
        // A pod with several attachments is plugged as long as one of them is.
        let uid = |plugged: &Plugged| plugged.attachment.pod.as_ref().map(|pod| pod.uid.clone());
        let released = uid(&plugged).filter(|uid| !self.attachments.values().any(|p| uid_is(p, uid)));
        self.report(Vec::new(), released.into_iter().collect());
    }

    /// Answers the deltas that are in force, and has them kept.
    pub(super) fn pay(&mut self) {
        let reached = self.confirmed.generation;
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.acknowledgements)
            .into_iter()
            .partition(|owed| owed.generation <= reached);
        self.acknowledgements = later;
        if due.is_empty() {
            return;
        }
        let unrealized = self.rejected.policies.iter().chain(&self.compiled.refused);
        let unrealized = unrealized.map(|(id, reason)| Rejection {
            id: Some(ResourceId::Policy(id.clone())),
            reason: reason.clone(),
        });
        // Always all of them: what an answer does not list stands.
        let rejected: BTreeSet<_> = unrealized.chain(self.malformed.iter().cloned()).collect();
        let rejected: Vec<_> = rejected.iter().map(api::convert::encode_rejection).collect();
        for owed in due {
            let answer = wire::Acknowledgement { nonce: owed.nonce, rejected: rejected.clone() };
            let body = wire::from_agent::Body::Acknowledgement(answer);
            self.work.messages.push((owed.session, wire::FromAgent { body: Some(body) }));
        }
        self.acknowledged = self.watermark.clone();
        self.work.save = Some(Saved { view: Arc::clone(&self.view), watermark: self.watermark.clone() });
    }
}

fn uid_is(plugged: &Plugged, uid: &str) -> bool {
    plugged.attachment.pod.as_ref().is_some_and(|pod| pod.uid == uid)
}

fn binding(plugged: &Plugged) -> Option<wire::Binding> {
    let attachment = &plugged.attachment;
    let binding = Binding {
        pod: attachment.pod_name()?,
        uid: attachment.pod.as_ref()?.uid.clone(),
        addresses: attachment.addresses.iter().map(|address| address.address).collect(),
        interface: attachment.host_interface.clone(),
    };
    Some(api::convert::encode_binding(&binding))
}
