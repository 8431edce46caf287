//! The network between the nodes: a bridge in a namespace of its own, and each node's uplink into it. The machine's root
//! namespace stays clean. Knows nothing of switches or pods.

use std::net::IpAddr;
use std::process::Command;

use network::Cidr;

use crate::command;
use crate::datapath::Datapath;
use crate::error::{Context, Result};
use crate::layout::{Family, Layout, NodeIndex, pod_cidrs, underlay_prefix};
use crate::record::Record;
use crate::{ip, netns};

/// The bridge's name in the underlay's namespace.
pub const BRIDGE: &str = "underlay";

/// A node's end of its uplink.
pub const UPLINK: &str = "uplink";

/// The end in the underlay's namespace of the cable to an API server.
const CABLE: &str = "api-server";

/// Makes the bridge, with the addresses that nodes use as their way out. The namespace exists.
pub fn up(layout: &Layout, family: Family) -> Result<()> {
    let namespace = layout.underlay_namespace();
    // No learning delays, no multicast snooping: neighbour discovery between nodes must work from the first packet.
    let mut lines = vec![format!("link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0")];
    for address in layout.gateway_addresses(family) {
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        lines.push(format!("addr add {address}/{} dev {BRIDGE}{nodad}", underlay_prefix(address)));
    }
    lines.push(format!("link set {BRIDGE} up"));
    ip::batch(Some(&namespace), &lines)?;
    without_offload(&namespace, BRIDGE)
}

/// Joins a node to it, and leads to its pods through it: so the outside reaches them as a routed network does. The node's
/// namespace exists.
pub fn connect(layout: &Layout, record: &Record, node: NodeIndex) -> Result<()> {
    let family = record.family;
    let (underlay, own) = (layout.underlay_namespace(), layout.node_namespace(node));
    let port = node.name();
    let mut lines = vec![
        format!("link add {port} type veth peer name {UPLINK} netns {own}"),
        format!("link set {port} master {BRIDGE} up"),
    ];
    // Both come in the order of the families.
    let ways = pod_cidrs(node, family).into_iter().zip(layout.node_addresses(node, family));
    lines.extend(ways.map(|(range, way)| format!("route add {range} via {way} dev {BRIDGE}")));
    ip::batch(Some(&underlay), &lines)?;
    match record.datapath {
        Datapath::Netdev => {
            without_offload(&underlay, port.as_str())?;
            netns::run(&netns::path(&own), leave_to_the_switch)??;
            ip::batch(Some(&own), &[format!("link set {UPLINK} up")])?;
            without_offload(&own, UPLINK)
        }
        Datapath::System => hold_addresses(layout, family, node, UPLINK),
    }
}

/// Gives a node's addresses to a device of it, and through that its way out; the same again changes nothing.
pub(crate) fn hold_addresses(layout: &Layout, family: Family, node: NodeIndex, device: &str) -> Result<()> {
    let mut lines = vec![format!("link set {device} up")];
    for address in layout.node_addresses(node, family) {
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        lines.push(format!("addr replace {address}/{} dev {device}{nodad}", underlay_prefix(address)));
    }
    for gateway in layout.gateway_addresses(family) {
        // ip(8) takes the family from the addresses.
        let default = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        lines.push(format!("route replace {default} via {gateway} dev {device}"));
    }
    ip::batch(Some(&layout.node_namespace(node)), &lines)
}

/// Joins the bridge's namespace to another one, in which an API server listens: everything that has no place in the lab goes
/// there, and the other namespace finds the underlay. The cable goes with either namespace.
pub fn join(layout: &Layout, family: Family, peer: &str) -> Result<()> {
    let own = layout.underlay_namespace();
    let far = format!("lab-{}", layout.id());
    // The kernel takes a namespace's devices away some time after it is gone: the cable of a lab that just went down.
    let _ = ip::batch(Some(peer), &[format!("link delete {far}")]);
    ip::batch(
        Some(&own),
        &[
            format!("link add {CABLE} type veth peer name {far} netns {peer}"),
            format!("link set {CABLE} up"),
            format!("route add default dev {CABLE}"),
        ],
    )?;
    let mut lines = vec![format!("link set {far} up")];
    let own_addresses = layout.gateway_addresses(family).into_iter().filter(IpAddr::is_ipv4);
    let ranges = own_addresses.flat_map(|address| Cidr::new(address, underlay_prefix(address)));
    lines.extend(ranges.map(|range| format!("route add {range} dev {far}")));
    ip::batch(Some(peer), &lines)?;
    netns::run(&netns::path(&own), || {
        let path = "/proc/sys/net/ipv4/ip_forward";
        std::fs::write(path, "1").context(|| format!("write {path}"))
    })?
}

/// A userspace switch only listens to the uplink: the kernel sees every frame too. It must neither answer ARP for the node's
/// address with the uplink's own (which it would, most of all while no switch runs), nor speak IPv6 there.
fn leave_to_the_switch() -> Result<()> {
    [("ipv4", "arp_ignore"), ("ipv6", "disable_ipv6")].into_iter().try_for_each(|(family, name)| {
        let path = format!("/proc/sys/net/{family}/conf/{UPLINK}/{name}");
        std::fs::write(&path, "1").context(|| format!("write {path}"))
    })
}

/// A userspace switch reads frames as they are: a checksum left to the device would never be made.
fn without_offload(namespace: &str, device: &str) -> Result<()> {
    let mut ethtool = Command::new("ethtool");
    ethtool.args(["-K", device, "tx", "off"]);
    command::run_in(&netns::path(namespace), &mut ethtool).map(drop)
}
