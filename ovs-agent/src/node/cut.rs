//! The node's part in cutting connections: when the switch is to be asked, about whom, and where their packets come from.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::cni::AttachmentId;
use compiler::PortRef;
use network::NamespacedName;

use super::{Node, Plugged, Switch};
use crate::cut::{Order, Outcome, Senders};
use crate::event::Session;

impl Node {
    /// Has the switch asked about the connections that the program in force may deny.
    pub(super) fn cut(&mut self) {
        let Switch::Here { session, .. } = &self.switch else { return };
        let session = *session;
        if let Some(threat) = self.cuts.order(self.confirmed.generation) {
            self.work.cut = Some((session, Order { threat, senders: self.senders() }));
        }
    }

    pub(super) fn connections_cut(&mut self, session: Session, outcome: Result<Outcome, String>) {
        if matches!(&self.switch, Switch::Here { session: here, .. } if *here == session) {
            self.work.retry |= outcome.is_err();
            self.cuts.answered(outcome.map(|_| ()));
        }
    }

    fn senders(&self) -> Senders {
        let mut pods = BTreeMap::new();
        for Plugged { attachment, .. } in self.attachments.values() {
            let port = self.port_number(&PortRef::Interface(attachment.host_interface.clone()));
            let addresses = attachment.addresses.iter().map(|address| address.address);
            pods.extend(addresses.filter_map(|address| Some((address, (port?, attachment.mac)))));
        }
        let own = self.own();
        Senders {
            pods,
            own: own.addresses.iter().copied().chain(own.gateway_addresses()).collect(),
            nodes: Senders::others(&self.view, &self.config.node),
            gateway: self.port_number(&PortRef::Gateway),
            tunnel: self.port_number(&PortRef::Tunnel),
        }
    }
}

/// The addresses of a pod's ports.
pub(super) fn addresses_of(
    attachments: &BTreeMap<AttachmentId, Plugged>,
    pod: &NamespacedName,
) -> Vec<IpAddr> {
    let of_pod = attachments.values().filter(|plugged| plugged.attachment.pod_name().as_ref() == Some(pod));
    of_pod.flat_map(|plugged| plugged.attachment.addresses.iter().map(|address| address.address)).collect()
}
