//! Sends a packet from node to node; a node is compiled when a packet comes to it.

use std::collections::{BTreeMap, BTreeSet};

use network::{Network, NodeName};
use openflow::Field;

use super::{Cluster, Phase, Probe, Question, Start, Unanswerable};
use crate::input::{LocalPort, PortRef};
use crate::simulate::matrix::{Site, compile_site};
use crate::simulate::{Exit, Fabric, Outcome, Packet, Walk};

impl Cluster<'_> {
    /// The way of a packet.
    pub(super) fn travel(&mut self, question: &Question) -> Result<Walk, Unanswerable> {
        let start = match &question.start {
            Start::Node(name) => name.clone(),
            Start::Pod(key) => {
                let pod = self.network.pods.get(key).filter(|pod| pod.is_policed());
                pod.and_then(|pod| pod.node.clone()).ok_or_else(|| Unanswerable::NoPort(key.clone()))?
            }
        };
        let receiver = self.network.pod_at(question.destination).and_then(|pod| pod.node.clone());
        let mut names: BTreeSet<NodeName> = [start].into_iter().chain(receiver).collect();
        let unpoliced = (question.phase != Phase::New).then(|| without_policies(self.network));
        loop {
            for name in &names {
                compile(self.network, &self.plugged, name, &mut self.sites)?;
                if let Some(network) = &unpoliced {
                    compile(network, &self.plugged, name, &mut self.open)?;
                }
            }
            let mut fabric = fabric(&self.sites).watching();
            let mut open = fabric_of(&self.open, &names);
            let walk = send(question, &mut fabric, &mut open)?;
            match next_node(self.network, &walk).filter(|next| !names.contains(next)) {
                Some(next) => names.insert(next),
                None => return Ok(walk),
            };
        }
    }
}

fn without_policies(network: &Network) -> Network {
    Network { policies: BTreeMap::new(), ..network.clone() }
}

fn compile(
    network: &Network,
    plugged: &BTreeMap<NodeName, Vec<LocalPort>>,
    name: &NodeName,
    sites: &mut BTreeMap<NodeName, Site>,
) -> Result<(), Unanswerable> {
    if !sites.contains_key(name) {
        let node = network.nodes.get(name).ok_or_else(|| Unanswerable::NoNode(name.clone()))?;
        let ports = plugged.get(name).map(Vec::as_slice);
        sites.insert(name.clone(), compile_site(network, node, ports));
    }
    Ok(())
}

fn fabric(sites: &BTreeMap<NodeName, Site>) -> Fabric<'_> {
    Fabric::new(sites.values().map(|site| (&site.node, &site.program, site.ports.as_slice())))
}

fn fabric_of<'s>(sites: &'s BTreeMap<NodeName, Site>, names: &BTreeSet<NodeName>) -> Fabric<'s> {
    let sites = sites.iter().filter(|(name, _)| names.contains(*name));
    Fabric::new(sites.map(|(_, site)| (&site.node, &site.program, site.ports.as_slice())))
}

fn send(question: &Question, fabric: &mut Fabric<'_>, open: &mut Fabric<'_>) -> Result<Walk, Unanswerable> {
    let first = match question.probe {
        Probe::Port(protocol, port) => Packet::first(question.source, question.destination, protocol, port),
        Probe::Echo => Packet::echo(question.source, question.destination),
    };
    if question.phase == Phase::New {
        return enter(&question.start, fabric, first);
    }
    let before = enter(&question.start, open, first.clone())?;
    if !before.passed() {
        // Not even without policies: there is no such connection.
        return enter(&question.start, fabric, first);
    }
    fabric.inherit_connections(open);
    if question.phase == Phase::Established {
        return enter(&question.start, fabric, first.later());
    }
    // A deny is in force when the agent of every node on the way has asked about the connection. The first one knows it by
    // whom the client asked.
    for (number, hop) in before.hops.iter().enumerate() {
        let question =
            if number == 0 { first.question_given_to(&before.packet) } else { before.packet.question() };
        fabric.ask(&hop.node, question);
    }
    let reply = before.packet.reply();
    match &before.outcome {
        Outcome::Delivered { node, interface } => {
            let port = PortRef::Interface(interface.clone());
            Ok(fabric.from_port(node, port, reply))
        }
        Outcome::Host { node } | Outcome::Dropped { node } => Ok(fabric.from_node(node, reply)),
    }
}

fn enter(start: &Start, fabric: &mut Fabric<'_>, packet: Packet) -> Result<Walk, Unanswerable> {
    match start {
        Start::Pod(key) => fabric.from_pod(key, packet).ok_or_else(|| Unanswerable::NoPort(key.clone())),
        Start::Node(name) => Ok(fabric.from_node(name, packet)),
    }
}

/// The node at the other end of the tunnel that the packet went into, where the walk ended there.
fn next_node(network: &Network, walk: &Walk) -> Option<NodeName> {
    if walk.passed() {
        return None;
    }
    let (exit, packet) = walk.hops.last()?.trace.outputs.first()?;
    if *exit != Exit::Port(PortRef::Tunnel) {
        return None;
    }
    let outer = packet.get(Field::TUN_DST) | packet.get(Field::TUN_IPV6_DST);
    let is_it = |address: std::net::IpAddr| outer != 0 && network::address::address_bits(address) == outer;
    let node = network.nodes.values().find(|node| node.tunnel_address().is_some_and(is_it))?;
    Some(node.name.clone())
}
