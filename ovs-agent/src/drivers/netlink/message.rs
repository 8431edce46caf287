//! Changes and observations as rtnetlink messages, both ways. It must not know when they are sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use compiler::host::{InterfaceAddress, Neighbour, ROUTE_PROTOCOL, Route};
use network::{Cidr, Mac};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::plan::{Change, Device};

/// The message that makes a change, and its flags. `index` is the device's.
pub(super) fn change(change: &Change, index: u32) -> (RouteNetlinkMessage, u16) {
    match change {
        Change::SetLink { mac, mtu, .. } => (RouteNetlinkMessage::SetLink(link(index, *mac, *mtu)), 0),
        Change::AddAddress(one) => {
            (RouteNetlinkMessage::NewAddress(address(index, one)), NLM_F_CREATE | NLM_F_REPLACE)
        }
        Change::RemoveAddress(one) => (RouteNetlinkMessage::DelAddress(address(index, one)), 0),
        Change::SetNeighbour(one) => {
            (RouteNetlinkMessage::NewNeighbour(neighbour(index, one)), NLM_F_CREATE | NLM_F_REPLACE)
        }
        Change::RemoveNeighbour(one) => (RouteNetlinkMessage::DelNeighbour(neighbour(index, one)), 0),
        // Another's route to the same destination must not be replaced.
        Change::AddRoute(one) => {
            (RouteNetlinkMessage::NewRoute(route(index, one)), NLM_F_CREATE | NLM_F_EXCL)
        }
        Change::ReplaceRoute(one) => {
            (RouteNetlinkMessage::NewRoute(route(index, one)), NLM_F_CREATE | NLM_F_REPLACE)
        }
        Change::RemoveRoute(one) => (RouteNetlinkMessage::DelRoute(route(index, one)), 0),
    }
}

/// The device that a change concerns.
pub(super) fn device_name(change: &Change) -> &str {
    match change {
        Change::SetLink { device, .. } => device,
        Change::AddAddress(one) | Change::RemoveAddress(one) => &one.device,
        Change::SetNeighbour(one) | Change::RemoveNeighbour(one) => &one.device,
        Change::AddRoute(one) | Change::ReplaceRoute(one) | Change::RemoveRoute(one) => &one.device,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn link(index: u32, mac: Option<Mac>, mtu: Option<u32>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message
}

fn address(index: u32, one: &InterfaceAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(one.address);
    message.header.prefix_len = one.length;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Address(one.address));
    if one.address.is_ipv4() {
        message.attributes.push(AddressAttribute::Local(one.address));
    } else {
        // Nobody else can have it: the switch answers for it.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message
}

fn neighbour(index: u32, one: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(one.address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(one.address.into()));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(one.mac.0.to_vec()));
    message
}

fn route(index: u32, one: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let destination = one.destination.address();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = one.destination.length();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    // An IPv4 route without a next hop is only good for the link; IPv6 routes have no scope.
    let on_link = one.via.is_none() && destination.is_ipv4();
    message.header.scope = if on_link { RouteScope::Link } else { RouteScope::Universe };
    if one.destination.length() > 0 {
        message.attributes.push(RouteAttribute::Destination(destination.into()));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    if let Some(via) = one.via {
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Gateway(via.into()));
    }
    message.attributes.extend(one.source.map(|source| RouteAttribute::PrefSource(source.into())));
    message.attributes.extend(one.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    message
}

/// A device and its name.
pub(super) fn read_link(message: &LinkMessage) -> Option<(String, Device)> {
    let (mut name, mut mac, mut mtu) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            _ => {}
        }
    }
    let up = message.header.flags.contains(LinkFlags::Up);
    Some((name?, Device { index: message.header.index, mac, mtu, up }))
}

/// A global address, with the index of its device. The kernel's own link-local ones are none of ours.
pub(super) fn read_address(message: &AddressMessage) -> Option<(u32, IpAddr, u8)> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(one) => local = Some(*one),
            AddressAttribute::Address(one) => address = Some(*one),
            _ => {}
        }
    }
    Some((message.header.index, local.or(address)?, message.header.prefix_len))
}

/// A permanent neighbour, with the index of its device.
pub(super) fn read_neighbour(message: &NeighbourMessage) -> Option<(u32, IpAddr, Mac)> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(one)) => address = Some(IpAddr::V4(*one)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(one)) => address = Some(IpAddr::V6(*one)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some((message.header.ifindex, address?, mac?))
}

/// A route of ours in the main table; the device's name comes from `name`.
pub(super) fn read_route(message: &RouteMessage, name: impl Fn(u32) -> Option<String>) -> Option<Route> {
    let header = &message.header;
    if header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL) || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let everything: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut destination, mut device, mut via, mut source, mut mtu) = (everything, None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(one) => destination = ip(one)?,
            RouteAttribute::Gateway(one) => via = ip(one),
            RouteAttribute::PrefSource(one) => source = ip(one),
            RouteAttribute::Oif(index) => device = name(*index),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let destination = Cidr::new(destination, header.destination_prefix_length).ok()?;
    Some(Route { destination, device: device?, via, source, mtu })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
