//! `Classifier` and `SpoofGuard`: where a packet comes from, and that its sender is who it says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network::{Mac, Node};
use openflow::{Field, Match};

use super::{Context, name_of, owner_of};
use crate::input::{LocalPort, PortRef};
use crate::packet::{ETH_ARP, ETH_IPV6, End, address, prefix, with_address};
use crate::provenance::Owner;
use crate::register::{OWN_NODE, SOURCE, Side, VNI};
use crate::stack;
use crate::stream::{Draft, Out, flow};
use crate::table::Table;

/// The IANA port of geneve.
pub(crate) const GENEVE_PORT: u16 = 6081;

/// ICMPv6 types of neighbour discovery (RFC 4861 §4).
const ND_TYPES: [(u8, &str); 5] = [
    (133, "router solicitation"),
    (134, "router advertisement"),
    (135, "neighbour solicitation"),
    (136, "neighbour advertisement"),
    (137, "redirect"),
];
const NEIGHBOUR_SOLICITATION: u8 = 135;
const ICMPV6: u8 = 58;

/// What stands whatever the cluster holds, and what speaks of this node.
pub(super) fn own(context: &Context<'_>, out: &mut Out<'_>) {
    classifier(out);
    gateway(context, out);
    everywhere(out);
}

/// What speaks of one port.
pub(super) fn port(port: &LocalPort, admitted: bool, out: &mut Out<'_>) {
    let draft = from(PortRef::Interface(port.interface.clone()), Side::Pod);
    out.add(draft, owner_of(port), format!("from {}", name_of(port)));
    if admitted {
        pod(port, out);
    }
}

/// What speaks of one node, this one too.
pub(super) fn node(context: &Context<'_>, node: &Node, out: &mut Out<'_>) {
    claims(context, node, out);
    if context.own.is_some() && !context.is_own(node) {
        tunnel(node, out);
    }
}

fn from(port: PortRef, side: Side) -> Draft {
    flow(Table::Classifier, 200, Match::new())
        .on_port(port)
        .act(SOURCE.load(side as u64))
        .goto(Table::SpoofGuard)
}

fn classifier(out: &mut Out<'_>) {
    out.add(
        from(PortRef::Gateway, Side::Gateway),
        Owner::Pipeline,
        "from the node, or through it from outside",
    );
    out.add(from(PortRef::Tunnel, Side::Tunnel), Owner::Pipeline, "from another node");
    out.add(flow(Table::Classifier, 0, Match::new()), Owner::Pipeline, "drop: from a port that is not ours");
}

fn guard(priority: u16, match_: Match) -> Draft {
    flow(Table::SpoofGuard, priority, match_)
}

/// What a pod may say: its own addresses, nothing else.
fn pod(port: &LocalPort, out: &mut Out<'_>) {
    let (owner, name) = (owner_of(port), name_of(port));
    let from = |draft: Draft| draft.on_port(PortRef::Interface(port.interface.clone()));
    let mac = |match_: Match| match_.with(Field::ETH_SRC, port.mac.0);
    for own in &port.addresses {
        let ip = from(guard(200, mac(address(End::Source, *own)))).goto(Table::UnSnat);
        out.add(ip, owner.clone(), format!("{name} speaks as itself, {own}"));
        match own {
            IpAddr::V4(own) => {
                let arp = Match::new().with(Field::ETH_TYPE, ETH_ARP);
                let honest = mac(arp.clone()).with(Field::ARP_SHA, port.mac.0).with(Field::ARP_SPA, *own);
                let draft = from(guard(205, honest)).goto(Table::ArpResponder);
                out.add(draft, owner.clone(), format!("{name} asks by ARP as itself, {own}"));
                let probe = from(guard(210, arp.with(Field::ARP_TPA, *own)));
                let what =
                    format!("drop: {name} asks for its own address; nobody else has it, silence says so");
                out.add(probe, owner.clone(), what);
            }
            IpAddr::V6(_) => {
                for source in [*own, IpAddr::V6(port.mac.link_local())] {
                    for sll in [port.mac, Mac([0; 6])] {
                        let asks = with_address(mac(nd(NEIGHBOUR_SOLICITATION)), End::Source, source)
                            .with(Field::ND_SLL, sll.0);
                        let draft = from(guard(205, asks)).goto(Table::NdResponder);
                        out.add(draft, owner.clone(), format!("{name} asks by ND as itself, {source}"));
                    }
                }
                let probe =
                    nd(NEIGHBOUR_SOLICITATION).with(Field::ND_TARGET, network::address::address_bits(*own));
                let what =
                    format!("drop: {name} asks for its own address; nobody else has it, silence says so");
                out.add(from(guard(210, probe)), owner.clone(), what);
            }
        }
    }
    let what = format!("drop: {name} speaks for somebody else");
    out.add(from(guard(10, Match::new())), owner, what);
}

fn nd(kind: u8) -> Match {
    Match::new().with(Field::ETH_TYPE, ETH_IPV6).with(Field::IP_PROTO, ICMPV6).with(Field::ICMPV6_TYPE, kind)
}

/// What may come in by the gateway port: the node itself, and the outside; never an address that lives elsewhere.
fn gateway(context: &Context<'_>, out: &mut Out<'_>) {
    let from = |draft: Draft| draft.on_port(PortRef::Gateway);
    let arp = Match::new().with(Field::ETH_TYPE, ETH_ARP);
    let draft = from(guard(205, arp)).goto(Table::ArpResponder);
    out.add(draft, Owner::Pipeline, "the node asks by ARP");
    let draft = from(guard(205, nd(NEIGHBOUR_SOLICITATION))).goto(Table::NdResponder);
    out.add(draft, Owner::Pipeline, "the node asks by ND");
    let probe = with_address(nd(NEIGHBOUR_SOLICITATION), End::Source, Ipv6Addr::UNSPECIFIED.into());
    out.add(
        from(guard(210, probe)),
        Owner::Pipeline,
        "drop: the node probes for duplicates of its own address",
    );
    for own in context.own_addresses() {
        let draft = from(guard(200, address(End::Source, own))).act(OWN_NODE.load(1)).goto(Table::UnSnat);
        out.add(draft, Owner::Node(context.config.node.clone()), format!("the node itself, {own}"));
    }
    for family in crate::packet::Family::BOTH {
        let draft = from(guard(190, family.any())).goto(Table::UnSnat);
        out.add(draft, Owner::Pipeline, "from outside, through the node");
    }
}

/// Nobody outside has a node's address or one of its pods', but for a node that asks this one for a node port (ADR-0035); and
/// pods do not speak geneve to nodes.
fn claims(context: &Context<'_>, node: &Node, out: &mut Out<'_>) {
    let from = |draft: Draft| draft.on_port(PortRef::Gateway);
    let owner = Owner::Node(node.name.clone());
    if !context.is_own(node) {
        for other in node.addresses.iter().copied() {
            let draft = from(guard(195, address(End::Source, other)));
            let what = format!("drop: from the underlay, claims node {}'s address {other}", node.name);
            out.add(draft, owner.clone(), what);
            let asks = stack::node_port_address(other.is_ipv4());
            let asking = with_address(address(End::Source, other), End::Destination, asks);
            let what = format!("node {} asks this node for a node port, as {other}", node.name);
            out.add(from(guard(196, asking)).goto(Table::UnSnat), owner.clone(), what);
        }
    }
    for range in &node.pod_cidrs {
        let draft = from(guard(195, prefix(End::Source, range)));
        let what = format!("drop: from the underlay, claims an address of node {}'s pods {range}", node.name);
        out.add(draft, owner.clone(), what);
    }
    for target in &node.addresses {
        let match_ = address(End::Destination, *target)
            .with(Field::IP_PROTO, network::Protocol::Udp.number())
            .with(Field::UDP_DST, GENEVE_PORT);
        let draft = guard(220, SOURCE.on(match_, Side::Pod as u64));
        let what = format!("drop: a pod sends geneve to node {}", node.name);
        out.add(draft, owner.clone(), what);
    }
}

/// What may come out of the tunnel: the outer source is a node, the inner source belongs to it.
fn tunnel(node: &Node, out: &mut Out<'_>) {
    let Some(outer) = node.tunnel_address() else { return };
    let from = |inner: Match| {
        let match_ = match outer {
            IpAddr::V4(outer) => inner.with(Field::TUN_SRC, outer),
            IpAddr::V6(outer) => inner.with(Field::TUN_IPV6_SRC, outer),
        };
        guard(200, match_.with(Field::TUN_ID, VNI)).on_port(PortRef::Tunnel).goto(Table::UnSnat)
    };
    let owner = Owner::Node(node.name.clone());
    for range in &node.pod_cidrs {
        let what = format!("node {} speaks for its pods {range}", node.name);
        out.add(from(prefix(End::Source, range)), owner.clone(), what);
    }
    for own in &node.addresses {
        let what = format!("node {} speaks as itself, {own}", node.name);
        out.add(from(address(End::Source, *own)), owner.clone(), what);
    }
}

/// What nobody may say.
fn everywhere(out: &mut Out<'_>) {
    // OFPVID_PRESENT: with any tag (OpenFlow 1.3.5 §7.2.3.7). Matches look through a tag, so it would ride along to the pod.
    let tagged = Match::new().with_masked(Field::VLAN_VID, 0x1000u16, 0x1000u16);
    out.add(guard(240, tagged), Owner::Pipeline, "drop: a VLAN tag; there are no VLANs here");
    for (kind, name) in ND_TYPES {
        let what = format!("drop: {name} that nobody needs to send");
        out.add(guard(202, nd(kind)), Owner::Pipeline, what);
    }
    for loopback in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let length = if loopback.is_ipv4() { 8 } else { 128 };
        if let Ok(range) = network::Cidr::new(loopback, length) {
            out.add(
                guard(230, prefix(End::Source, &range)),
                Owner::Pipeline,
                "drop: a loopback address on the wire",
            );
        }
    }
    out.add(guard(0, Match::new()), Owner::Pipeline, "drop: spoofed, or not IP");
}
