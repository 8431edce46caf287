//! `Routing` and `Switching`: the distributed logical router. A packet is routed once, on the node it starts from or
//! arrives at; nothing that came from a tunnel goes into one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network::{Cidr, Mac, Node, Protocol};
use openflow::{Action, Field, Match};

use super::arrival::GENEVE_PORT;
use super::{Context, name_of, owner_of};
use crate::input::{LocalPort, PortRef};
use crate::packet::{End, Family, address, fragment, prefix, transport, with_address};
use crate::program::FlowAction;
use crate::provenance::Owner;
use crate::register::{
    CT_SERVICE, DESTINATION, HAIRPIN, JUDGED, MASK_SOURCE, OUT_PORT, OWN_NODE, SOURCE, Side, VNI,
};
use crate::stack;
use crate::stream::{Draft, Out, flow};
use crate::table::Table;

/// What stands whatever the cluster holds, and the way to this node.
pub(super) fn own(context: &Context<'_>, out: &mut Out<'_>) {
    to_own_node(context, out);
    of_services(context, out);
    nowhere(context, out);
    to_outside(context, out);
    switching(out);
}

fn route(priority: u16, match_: Match) -> Draft {
    flow(Table::Routing, priority, match_)
}

pub(super) fn towards(draft: Draft, side: Side, port: PortRef, mac: Mac) -> Draft {
    draft
        .act(DESTINATION.load(side as u64))
        .act(FlowAction::LoadPort(port, OUT_PORT.bits))
        .act(Action::set_field(Field::ETH_SRC, Mac::ROUTER.0))
        .act(Action::set_field(Field::ETH_DST, mac.0))
        .goto(Table::Switching)
}

/// The way to a local pod.
pub(super) fn to_pod(port: &LocalPort, out: &mut Out<'_>) {
    for own in &port.addresses {
        let draft = route(200, address(End::Destination, *own));
        let interface = PortRef::Interface(port.interface.clone());
        let draft = towards(draft, Side::Pod, interface, port.mac);
        out.add(draft, owner_of(port), format!("to {} at {own}, on this node", name_of(port)));
        // A pod reaches itself through a Service, and is answered so.
        let interface = PortRef::Interface(port.interface.clone());
        let draft = route(210, address(End::Destination, *own))
            .on_port(interface.clone())
            .act(HAIRPIN.load(1))
            .act(MASK_SOURCE.load(1));
        let what = format!("from {} to itself at {own}", name_of(port));
        out.add(towards(draft, Side::Pod, interface, port.mac), owner_of(port), what);
        let itself = with_address(address(End::Destination, *own), End::Source, *own);
        let draft = flow(Table::EgressAdmin, 65_000, itself).goto(Table::Routing);
        out.add(draft, owner_of(port), format!("{} cannot be kept from itself at {own}", name_of(port)));
    }
}

/// From pods and from other nodes; what the node sends to itself never comes here.
fn to_own_node(context: &Context<'_>, out: &mut Out<'_>) {
    for own in context.own_addresses() {
        for from in [Side::Pod, Side::Tunnel] {
            let match_ = SOURCE.on(address(End::Destination, own), from as u64);
            let draft = towards(route(200, match_), Side::Gateway, PortRef::Gateway, context.gateway_mac());
            out.add(draft, Owner::Node(context.config.node.clone()), format!("to this node at {own}"));
        }
    }
}

/// The way to another node.
pub(super) fn to_other_node(node: &Node, out: &mut Out<'_>) {
    let Some(outer) = node.tunnel_address() else { return };
    let encapsulate = |draft: Draft| {
        let outer = match outer {
            IpAddr::V4(outer) => Action::set_field(Field::TUN_DST, outer),
            IpAddr::V6(outer) => Action::set_field(Field::TUN_IPV6_DST, outer),
        };
        let draft = draft.act(Action::set_field(Field::TUN_ID, VNI)).act(outer);
        towards(draft, Side::Tunnel, PortRef::Tunnel, Mac::ROUTER)
    };
    let owner = Owner::Node(node.name.clone());
    for range in &node.pod_cidrs {
        for from in [Side::Pod, Side::Gateway] {
            let match_ = SOURCE.on(prefix(End::Destination, range), from as u64);
            let what = format!("to node {}'s pods {range}, through the tunnel", node.name);
            out.add(encapsulate(route(190, match_)), owner.clone(), what);
        }
    }
    // The node's own way to another node is the underlay; only pods go through the tunnel, so that replies come back
    // the same way and no underlay packet ever carries a pod's address.
    for target in &node.addresses {
        let match_ = SOURCE.on(address(End::Destination, *target), Side::Pod as u64);
        let what = format!("to node {} at {target}, through the tunnel", node.name);
        out.add(encapsulate(route(190, match_)), owner.clone(), what);
        let match_ = of_service(SOURCE.on(address(End::Destination, *target), Side::Gateway as u64));
        let draft = route(191, match_).act(MASK_SOURCE.load(1));
        let what = format!("to an endpoint on node {} at {target}, through the tunnel", node.name);
        out.add(encapsulate(draft), owner.clone(), what);
    }
    for range in &node.pod_cidrs {
        let outside = OWN_NODE.on(SOURCE.on(prefix(End::Destination, range), Side::Gateway as u64), 0);
        let draft = route(191, of_service(outside)).act(MASK_SOURCE.load(1));
        let what = format!("from outside to an endpoint among node {}'s pods {range}", node.name);
        out.add(encapsulate(draft), owner.clone(), what);
    }
}

/// Packets of connections to a Service.
fn of_service(match_: Match) -> Match {
    CT_SERVICE.on(match_, 1)
}

/// Connections to Services that come from the host and lead back there (endpoints of the node itself and outside), and
/// replies that leave the cluster through the node that was asked.
fn of_services(context: &Context<'_>, out: &mut Out<'_>) {
    let back = |draft: Draft| {
        let draft = draft.act(HAIRPIN.load(1)).act(MASK_SOURCE.load(1));
        towards(draft, Side::Gateway, PortRef::Gateway, context.gateway_mac())
    };
    for own in context.own_addresses() {
        let match_ = of_service(SOURCE.on(address(End::Destination, own), Side::Gateway as u64));
        let owner = Owner::Node(context.config.node.clone());
        out.add(back(route(200, match_)), owner, format!("to an endpoint of this node at {own}"));
    }
    for family in Family::BOTH {
        let match_ = of_service(SOURCE.on(family.any(), Side::Gateway as u64));
        let reply =
            SOURCE.on(address(End::Source, stack::node_port_address(family == Family::V4)), Side::Pod as u64);
        let draft = towards(route(195, reply), Side::Gateway, PortRef::Gateway, context.gateway_mac());
        out.add(draft, Owner::Pipeline, "a reply to whoever asked for a node port, another node perhaps");
        let what = "to an endpoint or a client outside, through the node";
        out.add(back(route(100, match_)), Owner::Pipeline, what);
        let reply = JUDGED.on(of_service(SOURCE.on(family.any(), Side::Tunnel as u64)), 1);
        let draft = towards(route(100, reply), Side::Gateway, PortRef::Gateway, context.gateway_mac());
        out.add(draft, Owner::Pipeline, "an endpoint's reply to a client outside, through the node");
    }
}

/// Destinations that must not leave by the default route.
fn nowhere(context: &Context<'_>, out: &mut Out<'_>) {
    for range in context.own.into_iter().flat_map(|own| own.pod_cidrs.iter()) {
        let what = format!("drop: no pod of this node has this address ({range})");
        let owner = Owner::Node(context.config.node.clone());
        out.add(route(180, prefix(End::Destination, range)), owner, what);
    }
    // IPv4 link-local is not among them: a cloud's metadata service lives there, behind the node.
    let prefixes: [(IpAddr, u8, &str); 6] = [
        (Ipv4Addr::new(224, 0, 0, 0).into(), 4, "multicast"),
        (Ipv4Addr::new(240, 0, 0, 0).into(), 4, "broadcast and reserved"),
        (Ipv4Addr::new(127, 0, 0, 0).into(), 8, "loopback"),
        (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8, "multicast"),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10, "link-local"),
        (Ipv6Addr::LOCALHOST.into(), 128, "loopback"),
    ];
    for (first, length, name) in prefixes {
        let Ok(range) = Cidr::new(first, length) else { continue };
        let what = format!("drop: {name} destinations are not routed");
        out.add(route(185, prefix(End::Destination, &range)), Owner::Pipeline, what);
    }
}

fn to_outside(context: &Context<'_>, out: &mut Out<'_>) {
    for family in Family::BOTH {
        let match_ = SOURCE.on(family.any(), Side::Pod as u64);
        let draft = towards(route(100, match_), Side::Gateway, PortRef::Gateway, context.gateway_mac());
        out.add(draft, Owner::Pipeline, "to the outside, through the node");
        // Leaving the cluster, it would get the node's own address, and pass for the node's tunnel wherever it arrives: a
        // node may have addresses that nobody here knows of.
        let whole = transport(family, Protocol::Udp).with(Field::UDP_DST, GENEVE_PORT);
        let pieces = fragment(family, Protocol::Udp).with(Field::CT_TP_DST, GENEVE_PORT);
        for geneve in [whole, pieces] {
            let draft = route(101, SOURCE.on(geneve, Side::Pod as u64));
            out.add(
                draft,
                Owner::Pipeline,
                "drop: a pod sends geneve to the outside, where it would pass for its node's",
            );
        }
    }
    out.add(route(0, Match::new()), Owner::Pipeline, "drop: no route");
}

fn switching(out: &mut Out<'_>) {
    let judged = flow(Table::Switching, 200, JUDGED.on(Match::new(), 1)).goto(Table::Output);
    out.add(judged, Owner::Pipeline, "judged already: out");
    let itself = flow(Table::Switching, 195, HAIRPIN.on(Match::new(), 1)).goto(Table::Commit);
    out.add(itself, Owner::Pipeline, "back where it came from: nobody is kept from himself");
    let pod =
        flow(Table::Switching, 190, DESTINATION.on(Match::new(), Side::Pod as u64)).goto(Table::IngressAdmin);
    out.add(pod, Owner::Pipeline, "to a local pod: its ingress policies are asked");
    let rest = flow(Table::Switching, 0, Match::new()).goto(Table::Commit);
    out.add(rest, Owner::Pipeline, "leaves this node: ingress is judged where it arrives");
}
