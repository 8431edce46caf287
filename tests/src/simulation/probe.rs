//! Packets through what the switches hold right now, judged by the reference evaluator.

use std::net::IpAddr;

use compiler::simulate::{Fabric, Outcome, Packet};
use compiler::{LocalPort, Program};
use network::reference::verdict;
use network::{Endpoint, NamespacedName, Network, Node, NodeName, Protocol};
use ovs_agent::attachment::Attachment;

use super::scenario::Dice;
use super::world::{Violation, World, uid};

/// What the sampled packets ask for: declared and undeclared ports of the random networks.
const PORTS: [(Protocol, u16); 6] = [
    (Protocol::Tcp, 79),
    (Protocol::Tcp, 80),
    (Protocol::Tcp, 81),
    (Protocol::Udp, 80),
    (Protocol::Udp, 82),
    (Protocol::Sctp, 79),
];
/// Packets after every bundle.
const SAMPLE: usize = 10;
/// Packets at rest.
const MATRIX: usize = 60;
/// Nobody in the cluster.
const OUTSIDE: [&str; 2] = ["203.0.113.7", "2001:db8::7"];

/// One end of a probe.
#[derive(Clone, Debug)]
struct End {
    node: NodeName,
    attachment: Attachment,
}

impl End {
    fn key(&self) -> NamespacedName {
        self.attachment.pod_name().unwrap_or_else(|| NamespacedName::new("", ""))
    }

    fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.attachment.addresses.iter().map(|own| own.address).find(|own| own.is_ipv4() == ipv4)
    }

    /// Judged as what it is in a model: the pod of this UID.
    fn endpoint(&self, address: IpAddr) -> Endpoint {
        Endpoint::Pod { key: self.key(), address }
    }
}

/// Every node with the program that its switch holds, and ports named by their interface alone.
struct Held {
    sites: Vec<(Node, Program, Vec<LocalPort>)>,
    ends: Vec<End>,
}

impl Held {
    fn of(world: &World) -> Self {
        let mut held = Self { sites: Vec::new(), ends: Vec::new() };
        for (name, machine) in &world.machines {
            let node = world.network.nodes.get(name).unwrap_or(&machine.described).clone();
            let program = machine.switch.program(&machine.config.gateway, &machine.config.tunnel);
            let plugged: Vec<&Attachment> = machine
                .plugged()
                .filter(|attachment| machine.switch.ports.contains_key(&attachment.host_interface))
                .collect();
            let port = |attachment: &&Attachment| LocalPort {
                pod: Some((NamespacedName::new("port", &*attachment.host_interface), String::new())),
                ..attachment.local_port(None)
            };
            held.sites.push((node, program, plugged.iter().map(port).collect()));
            held.ends.extend(plugged.into_iter().map(|a| End { node: name.clone(), attachment: a.clone() }));
        }
        held
    }

    fn fabric(&self) -> Fabric<'_> {
        Fabric::new(self.sites.iter().map(|(node, program, ports)| (node, program, ports.as_slice())))
    }
}

fn walk(fabric: &mut Fabric<'_>, from: &End, packet: Packet) -> Result<Outcome, Violation> {
    fabric.forget_connections();
    let port = NamespacedName::new("port", &*from.attachment.host_interface);
    let walk = fabric.from_pod(&port, packet).ok_or("a probe from no port")?;
    if let Some(unknown) = walk.hops.iter().flat_map(|hop| &hop.trace.unknown).next() {
        return Err(format!("the simulator does not know {unknown}"));
    }
    Ok(walk.outcome)
}

fn reaches(outcome: &Outcome, to: &End) -> bool {
    matches!(outcome, Outcome::Delivered { node, interface }
        if *node == to.node && *interface == to.attachment.host_interface)
}

/// After a change of what a switch holds: a sample of packets, each allowed by what was in force at its ends.
pub fn sample(world: &mut World, changed: &NodeName, seed: u64) -> Result<(), Violation> {
    let held = Held::of(world);
    if held.ends.len() < 2 {
        return Ok(());
    }
    let (mut fabric, mut dice) = (held.fabric(), Dice::new(seed));
    let (mut walked, mut delivered, mut found) = (0, 0, Ok(()));
    for _ in 0..SAMPLE {
        let (from, to) = (dice.pick(&held.ends), dice.pick(&held.ends));
        if from.attachment.id == to.attachment.id || (from.node != *changed && to.node != *changed) {
            continue;
        }
        let (ipv4, (protocol, port)) = (dice.chance(50), *dice.pick(&PORTS));
        let (Some(a), Some(b)) = (from.address(ipv4), to.address(ipv4)) else { continue };
        let outcome = walk(&mut fabric, from, Packet::first(a, b, protocol, port))?;
        walked += 1;
        delivered += usize::from(reaches(&outcome, to));
        found = judge(world, &outcome, (from, a), (to, b), protocol, port).map_err(|why| {
            format!("{} {a} → {} {b} {protocol:?}/{port}: {outcome:?}: {why}", from.key(), to.key())
        });
        if found.is_err() {
            break;
        }
    }
    world.walked += walked;
    world.delivered += delivered;
    found
}

fn judge(
    world: &World,
    outcome: &Outcome,
    (from, a): (&End, IpAddr),
    (to, b): (&End, IpAddr),
    protocol: Protocol,
    port: u16,
) -> Result<(), Violation> {
    if !reaches(outcome, to) {
        // To nobody, or to the node; or to somebody else, while the agent has not heard that the numbers changed.
        let stray = matches!(outcome, Outcome::Delivered { node, interface }
            if !world.machines[node].misnumbered && !interface.starts_with("nobody"));
        return if stray { Err("it reaches somebody else".into()) } else { Ok(()) };
    }
    let (here, there) = (&world.machines[&from.node].switch.model, &world.machines[&to.node].switch.model);
    for (end, model) in [(from, here), (to, there)] {
        if model.pods.get(&end.key()).is_none_or(|pod| pod.uid != uid(&end.attachment)) {
            return Err(format!("{} is served before its UID is known on {}", end.key(), end.node));
        }
    }
    if from.key() == to.key() {
        return Ok(());
    }
    // Each end judges by the model that its own switch was compiled from; the other end is an address to it.
    let egress =
        |model: &Network| verdict(model, &from.endpoint(a), &Endpoint::Outside(b), protocol, port).egress;
    let ingress =
        |model: &Network| verdict(model, &Endpoint::Outside(a), &to.endpoint(b), protocol, port).ingress;
    if !egress(here) {
        return Err("its sender's own program forbids it".into());
    }
    if !ingress(there) {
        return Err("its receiver's own program forbids it".into());
    }
    // With allow lists alone: some state since the last rest allows it, on either side.
    let lists_only = world
        .window
        .iter()
        .all(|network| network.policies.values().all(|policy| policy.tier == network::Tier::NetworkPolicy));
    if lists_only && !(world.window.iter().any(egress) && world.window.iter().any(ingress)) {
        return Err("no state since the last rest allows it".into());
    }
    Ok(())
}

/// At rest: flows and reference agree, in both directions of the word.
pub fn matrix(world: &mut World, truth: &Network) -> Result<(), Violation> {
    let held = Held::of(world);
    let ends: Vec<&End> = held
        .ends
        .iter()
        .filter(|end| {
            let pod = truth.pods.get(&end.key());
            let known = pod.is_some_and(|pod| pod.uid == uid(&end.attachment) && pod.is_policed());
            known && truth.nodes.contains_key(&end.node)
        })
        .collect();
    if ends.is_empty() {
        return Ok(());
    }
    let (mut fabric, mut dice) = (held.fabric(), Dice::new(world.walked as u64));
    for round in 0..MATRIX {
        let (ipv4, (protocol, port)) = (dice.chance(50), *dice.pick(&PORTS));
        let to = *dice.pick(&ends);
        let Some(b) = to.address(ipv4) else { continue };
        let (sender, outcome) = if round % 6 == 0 {
            let Ok(a) = OUTSIDE[usize::from(!ipv4)].parse() else { continue };
            fabric.forget_connections();
            let walk = fabric.from_node(&to.node, Packet::first(a, b, protocol, port));
            (Endpoint::Outside(a), walk.outcome)
        } else {
            let from = *dice.pick(&ends);
            let Some(a) = from.address(ipv4) else { continue };
            if from.key() == to.key() {
                continue;
            }
            (from.endpoint(a), walk(&mut fabric, from, Packet::first(a, b, protocol, port))?)
        };
        world.walked += 1;
        world.delivered += usize::from(reaches(&outcome, to));
        let allowed = verdict(truth, &sender, &to.endpoint(b), protocol, port).combined();
        if reaches(&outcome, to) != allowed {
            let is = if allowed { "allowed" } else { "forbidden" };
            return Err(format!(
                "at rest, {sender:?} → {} {b} {protocol:?}/{port} is {is}, and the flows say {outcome:?}",
                to.key()
            ));
        }
    }
    Ok(())
}
