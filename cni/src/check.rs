//! CHECK (CNI 1.1 §"CHECK"): the agent compares its side, this compares the container's with what ADD answered; all
//! differences are named at once.

use std::net::IpAddr;

use api::cni::{Attachment, Command, Failure, Reply, code};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use network::Mac;

use crate::add::request;
use crate::agent::{Agent, AgentError};
use crate::config::Config;
use crate::environment::Container;
use crate::interface::{mac, open, refused};
use crate::netns::Namespace;
use crate::plugin;
use crate::result::{Attached, Interface};

/// Compares an attachment with its `prevResult`.
pub(crate) fn check(config: &Config, container: &Container, agent: Agent<'_>) -> Result<(), Failure> {
    let expected = &config.attached()?;
    let namespace = Namespace::open(&container.netns)?;
    let mut request = request(config, container)?;
    let name = container.id.interface.as_str();
    let mut differences = Vec::new();
    let place = expected.interfaces.iter().position(|one| one.name == name && !one.sandbox.is_empty());
    if place.is_none() {
        differences.push(format!("prevResult has no interface {name} in a sandbox"));
    }
    // Other plugins may have added interfaces and addresses of their own to the result.
    let own = expected.addresses.iter().filter(|one| one.interface.is_none() || one.interface == place);
    request.expected = own.map(|one| one.address).collect();
    let told = match agent.ask(Command::Check(request.clone())) {
        Ok(Reply::Added(attachment)) => Some(attachment),
        Ok(_) => None,
        Err(AgentError::Refused(failure)) if failure.code == code::CHECK_FAILED => {
            differences.push([failure.msg, failure.details].join(" ").trim().to_owned());
            None
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(delegate) = &config.ipam {
        match plugin::check(delegate, &request.id, config.previous.as_ref()) {
            Ok(()) => {}
            // It cannot answer now, or was not found: that is no difference.
            Err(failure) if matches!(failure.code, code::TRY_AGAIN | code::INVALID_CONFIG) => {
                return Err(failure);
            }
            Err(failure) => differences.push([failure.msg, failure.details].join(" ").trim().to_owned()),
        }
    }
    let host = &request.host_interface;
    match open()?.link(host).map_err(|error| refused("read the state", host, &error))? {
        None => differences.push(format!("the host's end {host} is gone")),
        Some(link) if !link.header.flags.contains(LinkFlags::Up) => {
            differences.push(format!("the host's end {host} is down"));
        }
        Some(_) => {}
    }
    let observed = namespace.run(|| observe(name))?;
    match observed {
        None => differences.push(format!("interface {name} is gone from the container")),
        Some(observed) => {
            let interface = place.and_then(|place| expected.interfaces.get(place));
            observed.compare(interface, expected, &request.expected, told.as_ref(), &mut differences);
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure {
        code: code::CHECK_FAILED,
        msg: format!(
            "container {} differs from what ADD gave it: {}; restart the pod",
            container.id.container_id,
            differences.join("; ")
        ),
        details: String::new(),
    })
}

/// What the container's end really is.
#[derive(Debug, Default)]
struct Observed {
    name: String,
    up: bool,
    mac: Option<Mac>,
    mtu: Option<u32>,
    addresses: Vec<IpAddr>,
    routes: Vec<(IpAddr, u8, Option<IpAddr>)>,
    neighbours: Vec<(IpAddr, Mac)>,
}

/// Reads it; runs inside the container's namespace.
fn observe(name: &str) -> Result<Option<Observed>, Failure> {
    let mut netlink = open()?;
    let failed = |what: &'static str| move |error: std::io::Error| refused(what, name, &error);
    let Some(link) = netlink.link(name).map_err(failed("read the state"))? else { return Ok(None) };
    let index = link.header.index;
    let mut observed = Observed::of(name, &link);
    let asked = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for answer in netlink.list(asked).map_err(failed("read the addresses"))? {
        if let RouteNetlinkMessage::NewAddress(address) = answer
            && address.header.index == index
        {
            observed.addresses.extend(address_of(&address));
        }
    }
    let asked = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    for answer in netlink.list(asked).map_err(failed("read the routes"))? {
        if let RouteNetlinkMessage::NewRoute(route) = answer {
            observed.routes.extend(route_of(&route, index));
        }
    }
    let asked = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    for answer in netlink.list(asked).map_err(failed("read the neighbours"))? {
        if let RouteNetlinkMessage::NewNeighbour(neighbour) = answer {
            observed.neighbours.extend(neighbour_of(&neighbour, index));
        }
    }
    Ok(Some(observed))
}

impl Observed {
    fn of(name: &str, link: &LinkMessage) -> Self {
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        Self {
            name: name.to_owned(),
            up: link.header.flags.contains(LinkFlags::Up),
            mac: mac(link),
            mtu,
            ..Self::default()
        }
    }

    /// Adds every difference to the list.
    fn compare(
        &self,
        interface: Option<&Interface>,
        expected: &Attached,
        addresses: &[IpAddr],
        told: Option<&Attachment>,
        differences: &mut Vec<String>,
    ) {
        let name = &self.name;
        if !self.up {
            differences.push(format!("interface {name} is down"));
        }
        let macs = interface.and_then(|one| one.mac).into_iter().chain(told.map(|told| told.mac));
        for mac in macs.filter(|mac| self.mac != Some(*mac)) {
            let has = self.mac.map_or("none".into(), |mac| mac.to_string());
            differences.push(format!("{name} has the Ethernet address {has}, not {mac}"));
        }
        if let Some(mtu) = interface.and_then(|one| one.mtu).filter(|mtu| self.mtu != Some(*mtu)) {
            differences.push(format!("{name} has MTU {}, not {mtu}", self.mtu.unwrap_or_default()));
        }
        for address in addresses.iter().filter(|address| !self.addresses.contains(address)) {
            differences.push(format!("{name} has no address {address}"));
        }
        for route in &expected.routes {
            // A route without a gateway may be another plugin's, through another interface.
            let Some(gateway) = route.gateway else { continue };
            let wanted = (route.destination.address(), route.destination.length(), Some(gateway));
            let ours = expected.addresses.iter().any(|one| one.gateway == Some(gateway));
            if ours && !self.routes.contains(&wanted) {
                differences.push(format!("the route to {} through {gateway} is gone", route.destination));
            }
        }
        let own = expected.addresses.iter().filter(|one| addresses.contains(&one.address));
        for gateway in own.filter_map(|one| one.gateway) {
            match self.neighbours.iter().find(|(address, _)| *address == gateway) {
                None => differences.push(format!("the permanent neighbour {gateway} is gone")),
                Some((_, mac)) => {
                    if let Some(told) = told.filter(|told| told.gateway_mac != *mac) {
                        differences.push(format!(
                            "the neighbour {gateway} has the Ethernet address {mac}, not {}",
                            told.gateway_mac
                        ));
                    }
                }
            }
        }
    }
}

fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn route_of(message: &RouteMessage, index: u32) -> Option<(IpAddr, u8, Option<IpAddr>)> {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    };
    let (mut destination, mut gateway, mut through) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => through = Some(*index),
            _ => {}
        }
    }
    let everything: IpAddr = match message.header.address_family {
        netlink_packet_route::AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        netlink_packet_route::AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let length = message.header.destination_prefix_length;
    (through == Some(index)).then_some((destination.unwrap_or(everything), length, gateway))
}

fn neighbour_of(message: &NeighbourMessage, index: u32) -> Option<(IpAddr, Mac)> {
    if message.header.ifindex != index || message.header.state != NeighbourState::Permanent {
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
    address.zip(mac)
}
