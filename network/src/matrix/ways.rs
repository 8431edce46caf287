//! Services in a matrix (docs/adr/0021-a-cell-of-a-service.md): by which ways a participant reaches a port of a Service, and
//! between whom policy then judges. Knows nothing of how a way is probed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Cell, Entry, Grid, Participant, ServedPort};
use crate::model::Network;
use crate::name::{NamespacedName, NodeName};
use crate::node::Node;
use crate::protocol::Protocol;
use crate::reference::{Endpoint, verdict};
use crate::service::{Claim, Frontend, Service, ServicePort, TrafficPolicy, claims};

/// The Services of a network, their endpoints with addresses, and who owns which frontend.
#[derive(Clone, Debug)]
pub struct Services<'a> {
    network: &'a Network,
    services: BTreeMap<NamespacedName, Service>,
    owners: BTreeMap<Claim, NamespacedName>,
}

/// One way from a participant to a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Who asks, by the address that it asks from.
    pub from: Endpoint,
    /// Where it sends to.
    pub at: IpAddr,
    /// The number that it sends to.
    pub port: u16,
    /// The node that chooses the endpoint.
    pub node: NodeName,
    /// It asks for a port of that node.
    pub is_node_port: bool,
    /// The endpoints among which it chooses.
    pub choices: Vec<Choice>,
}

/// An endpoint that a connection may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Who asks, as policy sees it: another than the client where its source is masked.
    pub from: Endpoint,
    /// The endpoint.
    pub to: Endpoint,
    /// The number that it listens on.
    pub port: u16,
}

impl Participant {
    /// A Service with the ports that are balanced; `None` when nothing of it is in the data path.
    pub fn service(service: &Service) -> Option<Self> {
        let balanced = service.ports.iter().filter(|port| port.protocol != Protocol::Sctp);
        let serves = balanced.map(|port| ServedPort { protocol: port.protocol, port: port.port }).collect();
        service.is_in_data_path().then(|| Self {
            entry: Entry::Service(service.key.clone()),
            sources: Vec::new(),
            destinations: Vec::new(),
            serves,
        })
    }
}

/// The Services that take part in a matrix of a whole network, in their order.
pub fn services_of(network: &Network) -> Vec<Participant> {
    network.services.values().filter_map(Participant::service).collect()
}

/// Pods, nodes, Services and somebody outside, in this order: who takes part in a matrix that leaves nobody out. What nodes
/// serve is not known; the outside serves TCP/80.
pub fn everybody(network: &Network) -> Vec<Participant> {
    let node = |node: &Node| Participant::node(&node.name, &node.addresses, &node.addresses, [].into());
    let outside = Participant::outside(&OUTSIDE, [ServedPort { protocol: Protocol::Tcp, port: 80 }].into());
    super::pods_of(network)
        .into_iter()
        .chain(network.nodes.values().map(node))
        .chain(services_of(network))
        .chain([outside])
        .collect()
}

/// Addresses that nobody has (RFC 5737 and RFC 3849, documentation).
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

impl<'a> Services<'a> {
    /// Of a network.
    pub fn of(network: &'a Network) -> Self {
        let owners = claims(network.services.values()).0;
        Self {
            network,
            services: network
                .services
                .iter()
                .map(|(key, service)| (key.clone(), service.resolved(network)))
                .collect(),
            owners: owners.into_iter().map(|(claim, owner)| (claim, owner.clone())).collect(),
        }
    }

    /// A Service of which the endpoints have addresses.
    pub fn get(&self, service: &NamespacedName) -> Option<&Service> {
        self.services.get(service)
    }

    /// Who owns every frontend.
    pub fn owners(&self) -> impl Iterator<Item = (&Claim, &NamespacedName)> {
        self.owners.iter()
    }

    /// Whether a client of the Service keeps the endpoint that it was given.
    pub fn keeps_endpoint(&self, service: &NamespacedName) -> bool {
        self.services.get(service).is_some_and(|service| service.affinity_seconds.is_some())
    }

    /// Every way from a participant to a port of a Service: in each family that both have; from outside over each node that
    /// answers. None: the port is not served to it.
    pub fn ways(&self, from: &Participant, service: &NamespacedName, port: ServedPort) -> Vec<Way> {
        let Some(service) = self.services.get(service) else { return Vec::new() };
        let wanted = |p: &&ServicePort| (p.protocol, p.port) == (port.protocol, port.port);
        // Of two ports with one number the first counts.
        let Some(port) = service.ports.iter().find(wanted) else { return Vec::new() };
        from.sources
            .iter()
            .flat_map(|source| match self.node_of(source) {
                Some(node) => self.ways_inside(source, node, service, port),
                None => self.ways_outside(source, service, port),
            })
            .collect()
    }

    fn owns(&self, service: &Service, claim: Claim) -> bool {
        self.owners.get(&claim) == Some(&service.key)
    }

    /// The node on which a participant's packets meet the switch first; nobody's for the outside.
    fn node_of(&self, source: &Endpoint) -> Option<&'a Node> {
        match source {
            Endpoint::Pod { key, .. } => {
                self.network.pods.get(key)?.node.as_ref().and_then(|name| self.network.nodes.get(name))
            }
            Endpoint::Node { name, .. } => self.network.nodes.get(name),
            Endpoint::Outside(_) => None,
        }
    }

    /// By the Service's cluster addresses.
    fn ways_inside(&self, source: &Endpoint, node: &Node, service: &Service, port: &ServicePort) -> Vec<Way> {
        let ipv4 = source.address().is_ipv4();
        let addresses = service.cluster_ips.iter().copied().filter(|at| at.is_ipv4() == ipv4);
        addresses
            .filter(|at| self.owns(service, (Frontend::Address(*at), port.protocol, port.port)))
            .map(|at| Way {
                from: source.clone(),
                at,
                port: port.port,
                node: node.name.clone(),
                is_node_port: false,
                choices: choices(port, node, service.internal_policy, ipv4, |_| source.clone()),
            })
            .collect()
    }

    /// By its node port, over every node; with the policy `Local` over those that have an endpoint, as its load balancer does.
    fn ways_outside(&self, source: &Endpoint, service: &Service, port: &ServicePort) -> Vec<Way> {
        let ipv4 = source.address().is_ipv4();
        let Some(number) = port.node_port else { return Vec::new() };
        // Of two ports with one node port the first has it.
        let has = service.ports.iter().find(|p| (p.protocol, p.node_port) == (port.protocol, port.node_port));
        if has.is_none_or(|first| first.port != port.port)
            || !self.owns(service, (Frontend::NodePort { ipv4 }, port.protocol, number))
        {
            return Vec::new();
        }
        let ways = self.network.nodes.values().filter_map(|node| {
            let masked = |address: IpAddr| {
                let is_here = node.pod_cidrs.iter().any(|range| range.contains(address));
                let own = node.gateway_addresses().find(|address| address.is_ipv4() == ipv4);
                match own.filter(|_| !is_here) {
                    Some(address) => Endpoint::Node { name: node.name.clone(), address },
                    None => source.clone(),
                }
            };
            Some(Way {
                from: source.clone(),
                at: node.address(ipv4)?,
                port: number,
                node: node.name.clone(),
                is_node_port: true,
                choices: choices(port, node, service.external_policy, ipv4, masked),
            })
        });
        let (serving, idle): (Vec<_>, Vec<_>) = ways.partition(|way| !way.choices.is_empty());
        match service.external_policy {
            TrafficPolicy::Local if !serving.is_empty() => serving,
            _ => serving.into_iter().chain(idle).collect(),
        }
    }

    /// What policy says of a port of a Service.
    pub(super) fn cell(
        &self,
        grid: Grid,
        from: &Participant,
        service: &NamespacedName,
        port: ServedPort,
    ) -> Cell {
        let ways = self.ways(from, service, port);
        match self.judge(grid, &ways, port.protocol) {
            _ if ways.is_empty() => Cell::NotServed,
            Judged::All => Cell::Passes,
            Judged::Some | Judged::None => Cell::Blocked,
        }
    }

    /// Whether the endpoints behind a port of a Service disagree about a client: some let it in and some do not.
    pub fn disagree(&self, from: &Participant, service: &NamespacedName, port: ServedPort) -> bool {
        self.judge(Grid::Combined, &self.ways(from, service, port), port.protocol) == Judged::Some
    }

    fn judge(&self, grid: Grid, ways: &[Way], protocol: Protocol) -> Judged {
        let passes =
            |choice: &Choice| grid.of(verdict(self.network, &choice.from, &choice.to, protocol, choice.port));
        let all: Vec<bool> = ways
            .iter()
            .flat_map(|way| match way.choices.as_slice() {
                [] => vec![false],
                choices => choices.iter().map(passes).collect(),
            })
            .collect();
        match all.iter().filter(|passes| **passes).count() {
            0 => Judged::None,
            passing if passing == all.len() => Judged::All,
            _ => Judged::Some,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Judged {
    All,
    Some,
    None,
}

fn choices(
    port: &ServicePort,
    node: &Node,
    policy: TrafficPolicy,
    ipv4: bool,
    seen_as: impl Fn(IpAddr) -> Endpoint,
) -> Vec<Choice> {
    let usable = port.usable(node, policy, ipv4).into_iter();
    usable
        .filter_map(|endpoint| {
            let address = endpoint.address(ipv4)?;
            let to = match &endpoint.pod {
                Some(key) => Endpoint::Pod { key: key.clone(), address },
                None => Endpoint::Outside(address),
            };
            Some(Choice { from: seen_as(address), to, port: endpoint.port })
        })
        .collect()
}
