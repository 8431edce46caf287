//! A node of the cluster: its addresses on the underlay and the ranges its pods live in.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::Cidr;
use crate::labels::Labels;
use crate::name::NodeName;

/// A node. Its logical switch is its pod ranges with one logical port per pod and a gateway port.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// The name.
    pub name: NodeName,
    /// Labels, for policies that select nodes.
    pub labels: Labels,
    /// Addresses on the underlay (`InternalIP`), at most one per family, in the order of the object.
    pub addresses: Vec<IpAddr>,
    /// The pod ranges, at most one per family.
    pub pod_cidrs: Vec<Cidr>,
    /// Addresses by which the outside knows it (`ExternalIP`), and what is beyond one `InternalIP` per family: policies that select the node mean them too, and nothing else
    /// does. They may be a translator's that stands before several nodes, so nothing is routed or believed by them, and agents
    /// are told of them as members of sets only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<IpAddr>,
}

impl Node {
    /// The address that other nodes send geneve to: IPv4 where there is one (the shorter outer header).
    pub fn tunnel_address(&self) -> Option<IpAddr> {
        self.addresses.iter().find(|a| a.is_ipv4()).or(self.addresses.first()).copied()
    }

    /// The node's own address of a family.
    pub fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| a.is_ipv4() == ipv4)
    }

    /// The addresses of the gateway port: the first host address of every pod range. They belong to the node, pods never
    /// get them.
    pub fn gateway_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.pod_cidrs.iter().filter_map(gateway_address)
    }

    /// The addresses that policies mean when they select the node.
    pub fn meant_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().copied().chain(self.gateway_addresses()).chain(self.external.iter().copied())
    }

    /// Whether an address is the node's own, on the underlay or on the gateway port.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.gateway_addresses().any(|own| own == address)
    }
}

/// The gateway's address in a pod range: the first after the network address.
pub fn gateway_address(pod_cidr: &Cidr) -> Option<IpAddr> {
    pod_cidr.nth(1)
}
