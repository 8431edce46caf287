//! The pipeline, stage by stage. Each stage adds the flows of its tables and knows nothing of the others but their names.

mod arrival;
mod connections;
mod departure;
mod neighbours;
mod routing;

use std::net::IpAddr;

use network::{Cidr, Mac, Node, NodeView};

use crate::builder::{Builder, flow};
use crate::input::{LocalPort, NodeConfig};
use crate::provenance::Owner;
use crate::table::Table;

/// What every stage reads.
pub(crate) struct Context<'a> {
    pub(crate) view: &'a NodeView,
    pub(crate) config: &'a NodeConfig,
    /// This node, once the view knows it.
    pub(crate) own: Option<&'a Node>,
    /// All plugged ports.
    pub(crate) ports: &'a [LocalPort],
}

impl<'a> Context<'a> {
    pub(crate) fn new(view: &'a NodeView, config: &'a NodeConfig, ports: &'a [LocalPort]) -> Self {
        Self { view, config, own: view.nodes.get(&config.node), ports }
    }

    /// A port may carry traffic when it has no pod (nobody polices it), or when the view holds exactly this pod: a
    /// successor of the same name has another UID and other policies.
    pub(crate) fn is_admitted(&self, port: &LocalPort) -> bool {
        match &port.pod {
            None => true,
            Some((key, uid)) => self.view.pods.get(key).is_some_and(|pod| pod.uid == *uid),
        }
    }

    /// The ports that may carry traffic.
    pub(crate) fn admitted(&self) -> impl Iterator<Item = &'a LocalPort> + '_ {
        self.ports.iter().filter(|port| self.is_admitted(port))
    }

    /// The other nodes.
    pub(crate) fn others(&self) -> impl Iterator<Item = &'a Node> + '_ {
        self.view.nodes.values().filter(|node| node.name != self.config.node)
    }

    /// This node's addresses: on the underlay and on the gateway port.
    pub(crate) fn own_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.own.into_iter().flat_map(|own| own.addresses.iter().copied().chain(own.gateway_addresses()))
    }

    /// The pod ranges of all nodes.
    pub(crate) fn pod_cidrs(&self) -> impl Iterator<Item = &'a Cidr> + '_ {
        self.view.nodes.values().flat_map(|node| node.pod_cidrs.iter())
    }

    /// The gateway port's Ethernet address: of its first address, so that it depends on the node's range only.
    pub(crate) fn gateway_mac(&self) -> Mac {
        self.own
            .and_then(|own| own.gateway_addresses().next())
            .map_or(Mac([0x0e, 0, 0, 0x0f, 0xe0, 0x02]), Mac::from_address)
    }
}

/// Who a port's flows belong to.
pub(crate) fn owner_of(port: &LocalPort) -> Owner {
    match &port.pod {
        Some((key, _)) => Owner::Pod(key.clone()),
        None => Owner::Attachment(port.interface.clone()),
    }
}

/// How sentences call a port.
pub(crate) fn name_of(port: &LocalPort) -> String {
    match &port.pod {
        Some((key, _)) => key.to_string(),
        None => format!("attachment {}", port.interface),
    }
}

/// Adds every stage but policy.
pub(crate) fn build(context: &Context<'_>, out: &mut Builder) {
    arrival::build(context, out);
    neighbours::build(out);
    connections::build(context, out);
    routing::build(context, out);
    departure::build(out);
    // Tables that later stages fill pass packets on. They stand already, so that their numbers never shift.
    for (table, next) in [
        (Table::UnSnat, Table::Conntrack),
        (Table::ServiceAffinity, Table::ServiceLb),
        (Table::ServiceLb, Table::EndpointDnat),
        (Table::EndpointDnat, Table::EgressAdmin),
        (Table::EgressAdmin, Table::Egress),
        (Table::Egress, Table::EgressBaseline),
        (Table::EgressBaseline, Table::Routing),
        (Table::Snat, Table::Switching),
        (Table::IngressAdmin, Table::Ingress),
        (Table::Ingress, Table::IngressBaseline),
        (Table::IngressBaseline, Table::Commit),
    ] {
        let draft = flow(table, 0, openflow::Match::new()).goto(next);
        out.add(draft, Owner::Pipeline, format!("nothing decided here: on to {next}"));
    }
}
