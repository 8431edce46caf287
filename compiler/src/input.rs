//! What the compiler reads beside the node's view: how this node is set up, and the ports that are plugged.

use std::net::IpAddr;

use network::{Cidr, Mac, NamespacedName, NodeName};
use serde::{Deserialize, Serialize};

/// How a node is set up. Constant while an agent runs, but for the underlay's MTU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Which node.
    pub node: NodeName,
    /// Which datapath the bridge uses.
    pub datapath: Datapath,
    /// MTU of the device that holds the node's address, in bytes.
    pub underlay_mtu: u32,
    /// Name of the integration bridge.
    pub bridge: String,
    /// Name of the gateway port, the node's own way in.
    pub gateway: String,
    /// Name of the geneve port.
    pub tunnel: String,
    /// Whether traffic that leaves the cluster takes the node's address.
    pub masquerade: bool,
    /// Flows that the rules of policies may take at most; what does not fit is refused.
    pub flow_budget: usize,
    /// Whether the switch balances Services; somebody else does when not.
    pub services: bool,
    /// The node addresses that answer for node ports, by prefix; none: all of them.
    pub node_port_addresses: Vec<Cidr>,
    /// The switch limits what it copies to the agent, so copies are made: of what is dropped, and of what audited policies
    /// decide. On the userspace datapath datagrams in pieces are handed over, too.
    pub copies: bool,
}

/// Flows of policies that a node takes unless it is told otherwise.
pub const FLOW_BUDGET: usize = 500_000;

impl NodeConfig {
    /// The defaults for a node.
    pub fn new(node: NodeName, datapath: Datapath, underlay_mtu: u32) -> Self {
        Self {
            node,
            datapath,
            underlay_mtu,
            bridge: "br-int".into(),
            gateway: "ferrule-gw0".into(),
            tunnel: "ferrule-gnv0".into(),
            masquerade: true,
            flow_budget: FLOW_BUDGET,
            services: true,
            node_port_addresses: Vec::new(),
            copies: true,
        }
    }

    /// Whether the agent joins datagrams that come in pieces: the kernel's tracking does so itself.
    pub(crate) fn joins(&self) -> bool {
        self.datapath == Datapath::Netdev && self.copies
    }

    /// Whether an address of a node answers for node ports.
    pub fn has_node_ports(&self, address: IpAddr) -> bool {
        let listed = &self.node_port_addresses;
        listed.is_empty() || listed.iter().any(|range| range.contains(address))
    }
}

/// `Bridge.datapath_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// The kernel's.
    System,
    /// Userspace.
    Netdev,
}

impl Datapath {
    /// As OVSDB spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Netdev => "netdev",
        }
    }
}

/// A plugged port: one end of a veth pair whose other end is in a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalPort {
    /// Name of the host's end, which is the port's name.
    pub interface: String,
    /// The pod and its UID; absent for an attachment without a pod's name (cnitool), which is connected and
    /// spoof-guarded but never policed.
    pub pod: Option<(NamespacedName, String)>,
    /// The container's Ethernet address.
    pub mac: Mac,
    /// Its addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
}

/// A port of the bridge by its meaning; the agent binds port numbers last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PortRef {
    /// A pod's port, by the name of its interface.
    Interface(String),
    /// The gateway port.
    Gateway,
    /// The geneve port.
    Tunnel,
}

/// Outer headers of geneve in bytes: Ethernet is not counted, as MTUs do not count it. IPv4 20 + UDP 8 + geneve 8 +
/// inner Ethernet 14; IPv6 has 20 more (RFC 8926 §3). We use no options.
pub fn tunnel_overhead(outer: IpAddr) -> u32 {
    if outer.is_ipv4() { 50 } else { 70 }
}
