//! A packet through several nodes: out of one program's tunnel and into the next.

use std::collections::BTreeMap;
use std::net::IpAddr;

use network::{Mac, NamespacedName, Node, NodeName};
use openflow::Field;

use super::{Conntrack, Exit, Packet, Simulator, Trace};
use crate::input::{LocalPort, PortRef};
use crate::program::Program;
use crate::register::HAIRPIN;

/// The programs of a cluster's nodes, joined by their tunnels.
#[derive(Debug)]
pub struct Fabric<'a> {
    sites: BTreeMap<NodeName, Site<'a>>,
}

#[derive(Debug)]
struct Site<'a> {
    node: &'a Node,
    simulator: Simulator<'a>,
    ports: &'a [LocalPort],
    conntrack: Conntrack,
}

/// What one node did with the packet.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Which node.
    pub node: NodeName,
    /// What happened there.
    pub trace: Trace,
}

/// Where it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At a port of a node.
    Delivered {
        /// Which node.
        node: NodeName,
        /// The interface of the pod.
        interface: String,
    },
    /// In a node's own network stack: the node is meant, or the outside.
    Host {
        /// Which node.
        node: NodeName,
    },
    /// Dropped by the last hop's last step.
    Dropped {
        /// Which node.
        node: NodeName,
    },
}

/// The way of one packet.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Node by node.
    pub hops: Vec<Hop>,
    /// The end of it.
    pub outcome: Outcome,
    /// The packet as it arrived, or as it was sent when it was dropped.
    pub packet: Packet,
}

impl Walk {
    /// Whether it arrived somewhere.
    pub fn passed(&self) -> bool {
        !matches!(self.outcome, Outcome::Dropped { .. })
    }

    /// Among how many endpoints of a Service its own was chosen; 0 where none was.
    pub fn links(&self) -> u64 {
        self.hops.iter().map(|hop| hop.trace.links).max().unwrap_or(0)
    }
}

impl<'a> Fabric<'a> {
    /// Joins nodes with their programs and ports.
    pub fn new(sites: impl IntoIterator<Item = (&'a Node, &'a Program, &'a [LocalPort])>) -> Self {
        let sites = sites.into_iter().map(|(node, program, ports)| {
            let site =
                Site { node, simulator: Simulator::new(program), ports, conntrack: Conntrack::default() };
            (node.name.clone(), site)
        });
        Self { sites: sites.collect() }
    }

    /// The same nodes, but their traces hold the packet as it came to each step.
    #[must_use]
    pub fn watching(mut self) -> Self {
        self.sites = self
            .sites
            .into_iter()
            .map(|(name, site)| (name, Site { simulator: site.simulator.watching(), ..site }))
            .collect();
        self
    }

    /// From now on every Service gives the endpoint at this place among its own.
    pub fn choose_link(&mut self, link: u64) {
        for site in self.sites.values_mut() {
            site.simulator.link = Some(link);
        }
    }

    /// Takes over the connections of the same nodes under earlier programs: what a change of policy meets.
    pub fn inherit_connections(&mut self, earlier: &Fabric<'_>) {
        for (name, site) in &mut self.sites {
            if let Some(earlier) = earlier.sites.get(name) {
                site.conntrack = earlier.conntrack.clone();
            }
        }
    }

    /// Forgets all connections.
    pub fn forget_connections(&mut self) {
        for site in self.sites.values_mut() {
            site.conntrack = Conntrack::default();
        }
    }

    /// The node and interface of a pod.
    pub fn port_of(&self, pod: &NamespacedName) -> Option<(&NodeName, &str)> {
        self.sites.iter().find_map(|(name, site)| {
            let port = site.ports.iter().find(|port| port.pod.as_ref().is_some_and(|(key, _)| key == pod))?;
            Some((name, port.interface.as_str()))
        })
    }

    /// Sends a packet out of a pod's interface; `None` when no port belongs to the pod.
    pub fn from_pod(&mut self, pod: &NamespacedName, packet: Packet) -> Option<Walk> {
        let found = self.sites.iter().find_map(|(name, site)| {
            let port = site.ports.iter().find(|port| port.pod.as_ref().is_some_and(|(key, _)| key == pod))?;
            Some((name.clone(), port.clone()))
        });
        let (node, port) = found?;
        let packet = packet.ethernet(port.mac, Mac::ROUTER);
        Some(self.walk(node, PortRef::Interface(port.interface), packet))
    }

    /// Sends a packet from a node's own network stack into its gateway port.
    pub fn from_node(&mut self, node: &NodeName, packet: Packet) -> Walk {
        let packet = packet.ethernet(Mac([0x0e, 0, 0, 0, 0, 1]), Mac::ROUTER);
        self.walk(node.clone(), PortRef::Gateway, packet)
    }

    /// Sends a packet out of a pod's interface, by its name; the packet has its sender's Ethernet address where the port is known.
    pub fn from_port(&mut self, node: &NodeName, port: PortRef, packet: Packet) -> Walk {
        let own = self.sites.get(node).and_then(|site| {
            site.ports.iter().find(|known| PortRef::Interface(known.interface.clone()) == port)
        });
        let packet = match own {
            Some(own) => packet.ethernet(own.mac, Mac::ROUTER),
            None => packet,
        };
        self.walk(node.clone(), port, packet)
    }

    /// Sends a packet into one node as it comes from its sender: out of its pod's port, out of the tunnel, or from the host.
    pub fn ask(&mut self, node: &NodeName, mut packet: Packet) -> Walk {
        let address = |ip: IpAddr| network::address::address_bits(ip);
        let source = packet.get(Field::IPV4_SRC) | packet.get(Field::IPV6_SRC);
        let own = self.sites.get(node).and_then(|site| {
            site.ports.iter().find(|port| port.addresses.iter().any(|own| address(*own) == source))
        });
        if let Some(port) = own.cloned() {
            let packet = packet.ethernet(port.mac, Mac::ROUTER);
            return self.walk(node.clone(), PortRef::Interface(port.interface), packet);
        }
        let owner = self.sites.values().find(|site| {
            site.ports.iter().any(|port| port.addresses.iter().any(|own| address(*own) == source))
        });
        let Some(outer) = owner.and_then(|site| site.node.tunnel_address()) else {
            return self.from_node(node, packet);
        };
        let field = if outer.is_ipv4() { Field::TUN_SRC } else { Field::TUN_IPV6_SRC };
        packet.set(field, address(outer));
        packet.set(Field::TUN_ID, u128::from(crate::register::VNI));
        self.walk(node.clone(), PortRef::Tunnel, packet.ethernet(Mac::ROUTER, Mac::ROUTER))
    }

    fn walk(&mut self, start: NodeName, port: PortRef, packet: Packet) -> Walk {
        let mut hops = Vec::new();
        let (mut node, mut port, mut packet) = (start, port, packet);
        // A packet enters at most one tunnel; two more hops would already be a defect.
        for _ in 0..4 {
            let Some(site) = self.sites.get_mut(&node) else { break };
            let trace = site.simulator.run(&port, packet.clone(), &mut site.conntrack);
            let exit = trace.outputs.first().cloned().map(|(exit, out)| match exit {
                // Routed back; what the responders answer is no packet on its way.
                Exit::InPort if out.bits(HAIRPIN.bits) == 1 => (Exit::Port(port.clone()), out),
                exit => (exit, out),
            });
            hops.push(Hop { node: node.clone(), trace });
            match exit {
                Some((Exit::Port(PortRef::Tunnel), out)) => {
                    let Some((next, inner)) = self.through_tunnel(&node, out) else { break };
                    (node, port, packet) = (next, PortRef::Tunnel, inner);
                }
                Some((Exit::Port(PortRef::Gateway), out)) => {
                    return Walk { hops, outcome: Outcome::Host { node }, packet: out };
                }
                Some((Exit::Port(PortRef::Interface(interface)), out)) => {
                    return Walk { hops, outcome: Outcome::Delivered { node, interface }, packet: out };
                }
                Some((Exit::InPort, _)) | None => break,
            }
        }
        Walk { hops, outcome: Outcome::Dropped { node }, packet }
    }

    fn through_tunnel(&self, from: &NodeName, packet: Packet) -> Option<(NodeName, Packet)> {
        let source = self.sites.get(from)?.node.tunnel_address()?;
        let (outer_source, outer_destination) = match source {
            IpAddr::V4(_) => (Field::TUN_SRC, Field::TUN_DST),
            IpAddr::V6(_) => (Field::TUN_IPV6_SRC, Field::TUN_IPV6_DST),
        };
        let destination = packet.get(outer_destination);
        let to = self.sites.values().find(|site| {
            site.node
                .tunnel_address()
                .is_some_and(|address| network::address::address_bits(address) == destination)
        })?;
        let vni = packet.get(Field::TUN_ID);
        let mut inner = packet;
        inner.forget_metadata();
        inner.set(outer_source, network::address::address_bits(source));
        inner.set(outer_destination, destination);
        inner.set(Field::TUN_ID, vni);
        Some((to.node.name.clone(), inner))
    }
}
