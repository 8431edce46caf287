//! What the node's own network stack must hold: links, addresses, routes, neighbours, sysctls and the nftables table.
//! Plain data; the agent's netlink and nftables drivers make it so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::{Cidr, Mac};
use serde::{Deserialize, Serialize};

/// Everything of the host that is ours. What is not listed and carries our mark (route protocol, nftables table name) is
/// to be removed; what carries no mark of ours is not touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// Devices and what they must be; all up.
    pub links: BTreeSet<Link>,
    /// Addresses on them.
    pub addresses: BTreeSet<InterfaceAddress>,
    /// Routes.
    pub routes: BTreeSet<Route>,
    /// Permanent neighbour entries.
    pub neighbours: BTreeSet<Neighbour>,
    /// Kernel settings, by their name with dots or slashes below `/proc/sys` (`net/ipv4/ip_forward`).
    pub sysctls: BTreeMap<String, String>,
    /// The body of table `inet ferrule`, in nft's syntax, without the table's own braces.
    pub nftables: String,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub device: String,
    /// Ethernet address.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
}

/// An address of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The device.
    pub device: String,
    /// The address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub length: u8,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub destination: Cidr,
    /// Through which device.
    pub device: String,
    /// Next hop, on link (`onlink`) whatever the addresses of the device say.
    pub via: Option<IpAddr>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// MTU of the route in bytes.
    pub mtu: Option<u32>,
}

/// A permanent neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Neighbour {
    /// The device.
    pub device: String,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// The protocol number that marks our routes (`rtm_protocol`; 200 to 255 are free for administrators, rtnetlink(7)).
pub const ROUTE_PROTOCOL: u8 = 0xf5;

/// The name of our nftables table, family `inet`.
pub const NFTABLES_TABLE: &str = "ferrule";
