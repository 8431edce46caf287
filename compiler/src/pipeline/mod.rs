//! The pipeline, stage by stage. Each stage adds the flows of its tables and knows nothing of the others but their names.

mod arrival;
mod connections;
mod departure;
pub(crate) mod fragments;
pub(crate) mod host_ports;
mod neighbours;
mod routing;
pub(crate) mod service;
mod source;

pub use departure::look_again;

use std::collections::BTreeMap;
use std::net::IpAddr;

use network::{Cidr, Mac, Node, NodeName};

use crate::input::{LocalPort, NodeConfig};
use crate::provenance::Owner;
use crate::stream::{Input, Out, flow};
use crate::table::Table;

/// What every stage reads.
pub(crate) struct Context<'a> {
    pub(crate) input: Input<'a>,
    pub(crate) config: &'a NodeConfig,
    /// All nodes, this one too once somebody describes it, by name.
    pub(crate) nodes: BTreeMap<&'a NodeName, &'a Node>,
    /// This node, once it is known.
    pub(crate) own: Option<&'a Node>,
    /// All plugged ports.
    pub(crate) ports: &'a [LocalPort],
}

impl<'a> Context<'a> {
    pub(crate) fn new(input: Input<'a>) -> Self {
        let mut nodes: BTreeMap<_, _> = input.view.nodes.iter().collect();
        if let Some(described) = input.described.filter(|node| node.name == input.config.node) {
            nodes.entry(&described.name).or_insert(described);
        }
        let own = nodes.get(&input.config.node).copied();
        Self { input, config: input.config, nodes, own, ports: input.ports }
    }

    /// A port may carry traffic when it has no pod (nobody polices it), or when the view holds exactly this pod: a
    /// successor of the same name has another UID and other policies.
    pub(crate) fn is_admitted(&self, port: &LocalPort) -> bool {
        match &port.pod {
            None => true,
            Some((key, uid)) => self.input.view.pods.get(key).is_some_and(|pod| pod.uid == *uid),
        }
    }

    /// The ports that may carry traffic.
    pub(crate) fn admitted(&self) -> impl Iterator<Item = &'a LocalPort> + '_ {
        self.ports.iter().filter(|port| self.is_admitted(port))
    }

    /// Whether this is the node that is compiled for.
    pub(crate) fn is_own(&self, node: &Node) -> bool {
        node.name == self.config.node
    }

    /// This node's addresses: on the underlay and on the gateway port.
    pub(crate) fn own_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.own.into_iter().flat_map(|own| own.addresses.iter().copied().chain(own.gateway_addresses()))
    }

    /// The pod ranges of all nodes.
    pub(crate) fn pod_cidrs(&self) -> impl Iterator<Item = &'a Cidr> + '_ {
        self.nodes.values().flat_map(|node| node.pod_cidrs.iter())
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

/// What speaks of one port.
pub(crate) fn port(port: &LocalPort, admitted: bool, out: &mut Out<'_>) {
    arrival::port(port, admitted, out);
    if admitted {
        routing::to_pod(port, out);
    }
}

/// What speaks of one node, this one too.
pub(crate) fn node(context: &Context<'_>, node: &Node, out: &mut Out<'_>) {
    arrival::node(context, node, out);
    if !context.is_own(node) {
        routing::to_other_node(node, out);
    }
    service::node(context, node, out);
}

/// What stands whatever the cluster holds, and what speaks of this node alone.
pub(crate) fn own(context: &Context<'_>, out: &mut Out<'_>) {
    arrival::own(context, out);
    neighbours::build(context, out);
    connections::build(out);
    service::own(out);
    routing::own(context, out);
    host_ports::build(context, out);
    source::build(context, out);
    departure::build(out);
    fragments::build(context, out);
    if context.config.copies {
        crate::copies::build(out);
    }
    // Tables that later stages fill pass packets on. They stand already, so that their numbers never shift.
    for (table, next) in [
        (Table::UnSnat, Table::Conntrack),
        (Table::ServiceAddress, Table::ServiceLb),
        (Table::ServiceLb, Table::EgressAdmin),
        (Table::EgressAdmin, Table::Egress),
        (Table::Egress, Table::EgressBaseline),
        (Table::EgressBaseline, Table::Routing),
        (Table::Snat, Table::Output),
        (Table::IngressAdmin, Table::Ingress),
        (Table::Ingress, Table::IngressBaseline),
        (Table::IngressBaseline, Table::Commit),
    ] {
        let draft = flow(table, 0, openflow::Match::new()).goto(next);
        out.add(draft, Owner::Pipeline, format!("nothing decided here: on to {next}"));
    }
}
