//! The network between the nodes: a bridge in a namespace of its own, and each node's uplink into it. The machine's root
//! namespace stays clean. Knows nothing of switches or pods.

use std::process::Command;

use crate::command;
use crate::error::{Context, Result};
use crate::layout::{Family, Layout, NodeIndex, underlay_prefix};
use crate::{ip, netns};

/// The bridge's name in the underlay's namespace.
pub const BRIDGE: &str = "underlay";

/// A node's end of its uplink.
pub const UPLINK: &str = "uplink";

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

/// Joins a node to it. The node's namespace exists.
pub fn connect(layout: &Layout, node: NodeIndex) -> Result<()> {
    let (underlay, own) = (layout.underlay_namespace(), layout.node_namespace(node));
    let port = node.name();
    ip::batch(
        Some(&underlay),
        &[
            format!("link add {port} type veth peer name {UPLINK} netns {own}"),
            format!("link set {port} master {BRIDGE} up"),
        ],
    )?;
    without_offload(&underlay, port.as_str())?;
    netns::run(&netns::path(&own), leave_to_the_switch)??;
    ip::batch(Some(&own), &[format!("link set {UPLINK} up")])?;
    without_offload(&own, UPLINK)
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
