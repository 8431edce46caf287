//! Pods that ask a node for a hostPort, which is a pod's of that node. The host translates (portmap, ahead of us), and the packet
//! comes back through the gateway in a pod's name, which nobody may claim there; nor would the reply go by the host. So the host
//! speaks for the client by an address that nobody has: the first of its pod range. It is in the range, so blocks that leave pods
//! out leave it out too; it is in no set, so no selector lets it in; and it is not the node, whom no NetworkPolicy keeps out.

use std::net::IpAddr;

use network::{Cidr, Node};

use super::Context;
use super::routing::towards;
use crate::input::PortRef;
use crate::packet::{End, address, with_prefix};
use crate::provenance::Owner;
use crate::register::{JUDGED, SOURCE, Side};
use crate::stream::{Out, flow};
use crate::table::Table;

/// Who speaks for pods at a node's hostPorts, of each family that the node has.
pub(crate) fn speakers(own: &Node) -> impl Iterator<Item = IpAddr> + '_ {
    let first = |ipv4| own.pod_cidrs.iter().copied().find(|range| range.is_ipv4() == ipv4);
    let has_gateway = |range: &Cidr| network::node::gateway_address(range).is_some();
    [true, false].into_iter().filter_map(first).filter(has_gateway).map(|range| range.address())
}

pub(super) fn build(context: &Context<'_>, out: &mut Out<'_>) {
    let Some(own) = context.own else { return };
    for speaker in speakers(own) {
        for range in own.pod_cidrs.iter().filter(|range| range.is_ipv4() == speaker.is_ipv4()) {
            let to_a_pod = with_prefix(address(End::Source, speaker), End::Destination, range);
            let draft = flow(Table::SpoofGuard, 196, to_a_pod).on_port(PortRef::Gateway).goto(Table::UnSnat);
            let what = format!("somebody who asks this node for a hostPort, as {speaker}");
            out.add(draft, Owner::Pipeline, what);
        }
        let reply = JUDGED.on(SOURCE.on(address(End::Destination, speaker), Side::Pod as u64), 1);
        let draft = flow(Table::Routing, 205, reply);
        let draft = towards(draft, Side::Gateway, PortRef::Gateway, context.gateway_mac());
        out.add(draft, Owner::Pipeline, "a reply to whoever asked this node for a hostPort");
    }
}
