//! The veth of an attachment: made with one end in the container, its host's end deaf to everything but the switch, its
//! container's end configured as the agent answered. It must not know where the answers come from.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use api::cni::{Attachment, Failure, code};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use network::Mac;

use crate::ethtool::disable_transmit_checksums;
use crate::netlink::{CREATE, REPLACE, Rtnetlink};
use crate::netns::Namespace;

/// Metrics of the routes of a second interface begin behind this; IPv6 gives 1024 to a route without one.
const SECOND_METRIC: u32 = 2_000;

/// Error 5 for something the kernel refused.
pub(crate) fn refused(what: &str, interface: &str, error: &io::Error) -> Failure {
    let cure = match error.raw_os_error() {
        Some(nix::libc::EPERM | nix::libc::EACCES) => {
            "; run ferrule-cni as root (CAP_NET_ADMIN, CAP_SYS_ADMIN)"
        }
        _ => "",
    };
    Failure {
        code: code::IO,
        msg: format!("cannot {what} of interface {interface}: {error}{cure}"),
        details: String::new(),
    }
}

/// Opens rtnetlink in the namespace of this thread.
pub(crate) fn open() -> Result<Rtnetlink, Failure> {
    Rtnetlink::open().map_err(|error| refused("open rtnetlink for the configuration", "(any)", &error))
}

/// Makes the veth, `host` here and `inside` in the container, both down. What a broken ADD left under the same name goes
/// first.
pub(crate) fn create(
    netlink: &mut Rtnetlink,
    host: &str,
    inside: &str,
    container: &Namespace,
) -> Result<(), Failure> {
    let message = veth(host, inside, container);
    let made = match netlink.change(RouteNetlinkMessage::NewLink(message.clone()), CREATE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            netlink.delete_link(host).map_err(|error| refused("delete the leftover", host, &error))?;
            netlink.change(RouteNetlinkMessage::NewLink(message), CREATE)
        }
        other => other,
    };
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure {
            code: code::INVALID_ENVIRONMENT,
            msg: format!(
                "CNI_IFNAME {inside:?} exists in the container already: DEL it, or choose another name"
            ),
            details: String::new(),
        },
        _ => refused("make the veth pair", host, &error),
    })
}

fn veth(host: &str, inside: &str, container: &Namespace) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(inside.into()));
    peer.attributes.push(LinkAttribute::NetNsFd(container.file().as_raw_fd()));
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(host.into()));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    link
}

/// Sets the host's end up. The host's own network stack must not hear what the container sends: on the userspace
/// datapath the kernel delivers every frame to both, and a container that knows the right Ethernet address would reach
/// the host around the switch.
pub(crate) fn raise_host_end(
    netlink: &mut Rtnetlink,
    host: &str,
    network: &str,
) -> Result<Option<Mac>, Failure> {
    for (path, value) in [
        (format!("/proc/sys/net/ipv6/conf/{host}/disable_ipv6"), "1"),
        // Strict: no route leads to a pod through its veth, so nothing that comes from there has a valid source.
        (format!("/proc/sys/net/ipv4/conf/{host}/rp_filter"), "1"),
        (format!("/proc/sys/net/ipv4/conf/{host}/forwarding"), "0"),
    ] {
        sysctl(&path, value).map_err(|error| refused("close the host's end", host, &error))?;
    }
    let link = find(netlink, host)?;
    let mac = mac(&link);
    let mut up = raised(link.header.index);
    up.header.flags |= LinkFlags::Noarp;
    up.header.change_mask |= LinkFlags::Noarp;
    up.attributes.push(LinkAttribute::IfAlias(alias(network)));
    netlink
        .change(RouteNetlinkMessage::SetLink(up), 0)
        .map_err(|error| refused("raise the host's end", host, &error))?;
    Ok(mac)
}

/// Says on a host's end for which network it was made: `ip link` shows it, and garbage is collected by it.
pub(crate) fn alias(network: &str) -> String {
    // The kernel takes 255 characters; a name is ASCII.
    format!("ferrule {}", &network[..network.len().min(240)])
}

/// Gives an interface its MTU.
pub(crate) fn set_mtu(netlink: &mut Rtnetlink, interface: &str, mtu: u32) -> Result<(), Failure> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(interface.into()));
    link.attributes.push(LinkAttribute::Mtu(mtu));
    netlink
        .change(RouteNetlinkMessage::SetLink(link), 0)
        .map_err(|error| refused(&format!("set the MTU {mtu}"), interface, &error))
}

/// Configures the container's end; runs inside the container's namespace.
pub(crate) fn configure(inside: &str, attachment: &Attachment) -> Result<(), Failure> {
    let mut netlink = open()?;
    let link = find(&mut netlink, inside)?;
    let index = link.header.index;
    if attachment.addresses.iter().any(|held| held.address.is_ipv6()) {
        // Runtimes disable IPv6 in containers by default; and a container's addresses come from nobody else.
        for (name, value) in [("disable_ipv6", "0"), ("accept_ra", "0")] {
            sysctl(&format!("/proc/sys/net/ipv6/conf/{inside}/{name}"), value)
                .map_err(|error| refused("enable IPv6", inside, &error))?;
        }
    }
    if !attachment.tx_checksum_offload {
        disable_transmit_checksums(inside)
            .map_err(|error| refused("turn off transmit checksum offload", inside, &error))?;
    }
    let mut change = |what: String, message, flags| {
        netlink.change(message, flags).map_err(|error| refused(&what, inside, &error))
    };
    let mut properties = raised(index);
    properties.attributes.push(LinkAttribute::Address(attachment.mac.0.to_vec()));
    properties.attributes.push(LinkAttribute::Mtu(attachment.mtu));
    change(
        format!("set the Ethernet address {} and the MTU {}", attachment.mac, attachment.mtu),
        RouteNetlinkMessage::SetLink(properties),
        0,
    )?;
    // The loopback is always the first interface of a namespace.
    change("raise the loopback beside it".into(), RouteNetlinkMessage::SetLink(raised(1)), 0)?;
    for held in &attachment.addresses {
        let what = format!("add the address {}", held.address);
        change(what, RouteNetlinkMessage::NewAddress(address(index, held.address)), REPLACE)?;
    }
    for held in &attachment.addresses {
        let what = format!("add the neighbour {}", held.gateway);
        let entry = neighbour(index, held.gateway, attachment.gateway_mac);
        change(what, RouteNetlinkMessage::NewNeighbour(entry), REPLACE)?;
    }
    for held in &attachment.addresses {
        for (what, route) in [
            (format!("add the route to {}", held.gateway), on_link(index, held.gateway)),
            (
                format!("add the default route through {}", held.gateway),
                default(index, held.gateway, attachment.mtu),
            ),
        ] {
            add_route(&mut netlink, route).map_err(|error| refused(&what, inside, &error))?;
        }
    }
    Ok(())
}

/// Adds a route; where another interface of the container has the same one, that stays the preferred one.
fn add_route(netlink: &mut Rtnetlink, mut route: RouteMessage) -> io::Result<()> {
    match netlink.change(RouteNetlinkMessage::NewRoute(route.clone()), CREATE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let through = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
            route.attributes.push(RouteAttribute::Priority(SECOND_METRIC + through.unwrap_or(0)));
            netlink.change(RouteNetlinkMessage::NewRoute(route), CREATE)
        }
        other => other,
    }
}

/// An interface that has to be there.
fn find(netlink: &mut Rtnetlink, name: &str) -> Result<LinkMessage, Failure> {
    netlink.link(name).map_err(|error| refused("read the state", name, &error))?.ok_or_else(|| Failure {
        code: code::IO,
        msg: format!(
            "interface {name} vanished while it was configured: was the container deleted meanwhile?"
        ),
        details: String::new(),
    })
}

/// The Ethernet address of a link.
pub(crate) fn mac(link: &LinkMessage) -> Option<Mac> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}

fn raised(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn host_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn address(index: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = host_length(address);
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Address(address));
    if address.is_ipv4() {
        message.attributes.push(AddressAttribute::Local(address));
    } else {
        // The allocator knows that it is nobody else's; waiting a second for an answer is of no use.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message
}

fn neighbour(index: u32, address: IpAddr, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}

fn route(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

fn on_link(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = route(index, gateway);
    message.header.destination_prefix_length = host_length(gateway);
    // IPv6 routes have no scope.
    message.header.scope = if gateway.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.attributes.push(RouteAttribute::Destination(gateway.into()));
    message
}

fn default(index: u32, gateway: IpAddr, mtu: u32) -> RouteMessage {
    let mut message = route(index, gateway);
    message.header.flags = RouteFlags::Onlink;
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    message
}

/// Writes a kernel setting; one that this kernel does not have is as good as written.
fn sysctl(path: &str, value: &str) -> io::Result<()> {
    match std::fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}"))),
    }
}
