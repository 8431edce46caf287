//! The reachability matrix that the compiled flows make: every node's program, simulated packet by packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::matrix::{Cell, Entry, Grid, Matrix, Participant, ServedPort, Services, Way};
use network::reference::Endpoint;
use network::{Direction, Isolation, Mac, NamespacedName, Network, Node, NodeName, NodeView, Protocol};

use super::{Fabric, Outcome, Packet, Walk};
use crate::Costs;
use crate::input::{Datapath, LocalPort, NodeConfig};
use crate::program::Program;
use crate::stack;
use crate::stream::Input;

/// A node's program as the agent would have it: compiled from its view, with every addressed pod plugged.
#[derive(Debug)]
pub struct Site {
    /// The node.
    pub node: Node,
    /// What it must hold.
    pub program: Program,
    /// Its pods' ports, named `sim0`, `sim1`, … in the order of the pods.
    pub ports: Vec<LocalPort>,
}

/// Compiles every node of a network.
pub fn compile_all(network: &Network) -> Vec<Site> {
    network.nodes.values().map(|node| compile_site(network, node, None)).collect()
}

/// What the policies of every node cost in flows.
pub fn costs_all(network: &Network) -> BTreeMap<NodeName, Costs> {
    let costs = |name: &NodeName| {
        let (view, ports, config) = prepared(network, name);
        let input =
            Input { view: &view, described: None, config: &config, ports: &ports, closed: &BTreeSet::new() };
        (name.clone(), crate::costs(input))
    };
    network.nodes.keys().map(costs).collect()
}

/// Compiles one node, with the ports that it is known to have: those of all addressed pods where nobody knows.
pub fn compile_site(network: &Network, node: &Node, plugged: Option<&[LocalPort]>) -> Site {
    let (view, every, config) = prepared(network, &node.name);
    let ports = plugged.map_or(every, <[LocalPort]>::to_vec);
    let program = crate::compile(&view, &config, &ports);
    Site { node: node.clone(), program, ports }
}

fn prepared(network: &Network, node: &NodeName) -> (NodeView, Vec<LocalPort>, NodeConfig) {
    let view = NodeView::of(network, node);
    let addressed = view.pods.values().filter_map(|pod| Some((pod, *pod.addresses.first()?)));
    let ports: Vec<LocalPort> = addressed
        .enumerate()
        .map(|(number, (pod, first))| LocalPort {
            interface: format!("sim{number}"),
            pod: Some((pod.key.clone(), pod.uid.clone())),
            mac: Mac::from_address(first),
            addresses: pod.addresses.clone(),
        })
        .collect();
    (view, ports, NodeConfig::new(node.clone(), Datapath::System, 1500))
}

/// What the flows of all nodes let pass, for every pair and every port that a participant serves. The ingress and egress
/// grids come from programs that were compiled with the policies of that direction alone.
pub fn predict(network: &Network, participants: &[Participant]) -> Matrix {
    let mut whole: Option<Matrix> = None;
    for grid in Grid::ALL {
        let matrix = predict_grid(network, participants, grid);
        match &mut whole {
            None => whole = Some(matrix),
            Some(whole) => {
                for (port, grids) in matrix.table {
                    whole.table.entry(port).or_default().extend(grids);
                }
            }
        }
    }
    whole.unwrap_or_default()
}

/// The same for one grid.
pub fn predict_grid(network: &Network, participants: &[Participant], grid: Grid) -> Matrix {
    let sites = compile_all(&only(network, grid));
    let mut fabric = Fabric::new(sites.iter().map(|site| (&site.node, &site.program, site.ports.as_slice())));
    let services = Services::of(network);
    Matrix::fill(participants, &[grid], |_, from, to, port| match &to.entry {
        Entry::Service(key) => {
            service_cell(network, &mut fabric, &services.ways(from, key, port), port.protocol)
        }
        _ => Cell::of(passes(network, &mut fabric, from, to, port)),
    })
}

/// The network with the policies of one direction only.
fn only(network: &Network, grid: Grid) -> Network {
    let keep = |direction| match grid {
        Grid::Combined => true,
        Grid::Ingress => direction == Direction::Ingress,
        Grid::Egress => direction == Direction::Egress,
    };
    let mut network = network.clone();
    for policy in network.policies.values_mut() {
        policy.rules.retain(|rule| keep(rule.direction));
        policy.isolates = Isolation {
            ingress: policy.isolates.ingress && keep(Direction::Ingress),
            egress: policy.isolates.egress && keep(Direction::Egress),
        };
    }
    network
}

/// Whether the first packet arrives in every family that both ends have; ends without a common family cannot speak.
fn passes(
    network: &Network,
    fabric: &mut Fabric<'_>,
    from: &Participant,
    to: &Participant,
    port: ServedPort,
) -> bool {
    if from.entry == to.entry {
        return true;
    }
    let mut asked = false;
    for source in &from.sources {
        for destination in &to.destinations {
            if address(source).is_ipv4() != address(destination).is_ipv4() {
                continue;
            }
            asked = true;
            fabric.forget_connections();
            if !arrives(network, fabric, source, destination, port) {
                return false;
            }
        }
    }
    asked
}

fn arrives(
    network: &Network,
    fabric: &mut Fabric<'_>,
    source: &Endpoint,
    destination: &Endpoint,
    port: ServedPort,
) -> bool {
    let packet = Packet::first(address(source), address(destination), port.protocol, port.port);
    let walk = match place(network, source) {
        Place::Pod(key) => match fabric.from_pod(&key, packet) {
            Some(walk) => walk,
            None => return false,
        },
        Place::Node(name) => match place(network, destination) {
            // From node to node, or out of the cluster: the underlay, where no flow of ours is.
            Place::Node(_) | Place::Outside => return true,
            Place::Pod(_) => fabric.from_node(&name, packet),
        },
        Place::Outside => match home(network, destination) {
            // The outside comes in by the node that has the pod.
            Some(name) => fabric.from_node(&name, packet),
            None => return true,
        },
    };
    match (place(network, destination), &walk.outcome) {
        (Place::Pod(key), Outcome::Delivered { node, interface }) => {
            fabric.port_of(&key).is_some_and(|(at, name)| at == node && name == interface)
        }
        (Place::Node(name), Outcome::Host { node }) => name == *node,
        (Place::Outside, Outcome::Host { .. }) => true,
        _ => false,
    }
}

/// Whether the first packet arrives at every endpoint that the switch may choose, by every way.
fn service_cell(network: &Network, fabric: &mut Fabric<'_>, ways: &[Way], protocol: Protocol) -> Cell {
    if ways.is_empty() {
        return Cell::NotServed;
    }
    let mut serves = true;
    for way in ways {
        let mut links = 1;
        let mut link = 0;
        while serves && link < links {
            fabric.forget_connections();
            fabric.choose_link(link);
            let walk = ask(network, fabric, way, protocol);
            links = walk.as_ref().map_or(0, |walk| walk.links());
            serves = links > 0 && walk.is_some_and(|walk| reached(network, fabric, way, &walk.outcome));
            link += 1;
        }
    }
    Cell::of(serves)
}

/// The first packet by a way, as it meets the switch: the node has rewritten what asks for its port.
fn ask(network: &Network, fabric: &mut Fabric<'_>, way: &Way, protocol: Protocol) -> Option<Walk> {
    let at = if way.is_node_port { stack::node_port_address(way.at.is_ipv4()) } else { way.at };
    let packet = Packet::first(address(&way.from), at, protocol, way.port);
    match place(network, &way.from) {
        Place::Pod(key) => fabric.from_pod(&key, packet),
        Place::Node(_) | Place::Outside => Some(fabric.from_node(&way.node, packet)),
    }
}

/// Whether an end is the place of one of a way's endpoints.
fn reached(network: &Network, fabric: &Fabric<'_>, way: &Way, outcome: &Outcome) -> bool {
    way.choices.iter().any(|choice| match (whereabouts(network, &choice.to), outcome) {
        (Place::Pod(key), Outcome::Delivered { node, interface }) => {
            fabric.port_of(&key).is_some_and(|(at, name)| at == node && name == interface)
        }
        (Place::Node(name), Outcome::Host { node }) => name == *node,
        (Place::Outside, Outcome::Host { .. }) => true,
        _ => false,
    })
}

/// The place of an endpoint that may be named by its address alone.
fn whereabouts(network: &Network, endpoint: &Endpoint) -> Place {
    match endpoint {
        Endpoint::Outside(address) => match (network.pod_at(*address), network.node_at(*address)) {
            (Some(pod), _) => Place::Pod(pod.key.clone()),
            (None, Some(node)) => Place::Node(node.name.clone()),
            (None, None) => Place::Outside,
        },
        known => place(network, known),
    }
}

enum Place {
    Pod(NamespacedName),
    Node(NodeName),
    Outside,
}

/// Where an endpoint's packets start or end: a host-network pod's in its node's own stack.
fn place(network: &Network, endpoint: &Endpoint) -> Place {
    match endpoint {
        Endpoint::Pod { key, .. } => match network.pods.get(key) {
            Some(pod) if pod.host_network => pod.node.clone().map_or(Place::Outside, Place::Node),
            _ => Place::Pod(key.clone()),
        },
        Endpoint::Node { name, .. } => Place::Node(name.clone()),
        Endpoint::Outside(_) => Place::Outside,
    }
}

fn home(network: &Network, endpoint: &Endpoint) -> Option<NodeName> {
    match endpoint {
        Endpoint::Pod { key, .. } => network.pods.get(key)?.node.clone(),
        _ => None,
    }
}

fn address(endpoint: &Endpoint) -> IpAddr {
    match endpoint {
        Endpoint::Pod { address, .. } | Endpoint::Node { address, .. } | Endpoint::Outside(address) => {
            *address
        }
    }
}

/// The names of the entries that cannot take part: pods without a node or without an address.
pub fn absent<'a>(network: &'a Network, participants: &'a [Participant]) -> impl Iterator<Item = &'a Entry> {
    participants.iter().map(|p| &p.entry).filter(|entry| match entry {
        Entry::Pod(key) => {
            network.pods.get(key).is_none_or(|pod| pod.node.is_none() || pod.addresses.is_empty())
        }
        _ => false,
    })
}
