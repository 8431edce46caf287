//! What must hold: after every step of an agent or a controller, and of the whole once everything is at rest. Recomputes
//! everything whole, by the shortest way there is.

use std::collections::BTreeMap;

use api::delta;
use api::generated::ferrule::v1alpha1 as wire;
use api::watermark::Watermark;
use compiler::{LocalPort, PortRef};
use controller::state::State;
use network::{Network, NodeView};
use openflow::{FlowMod, PortNo};
use ovs_agent::node::Standing;

use super::machine::Machine;
use super::probe;
use super::switch::listing;
use super::world::{Violation, World, uid};

/// The objects with the addresses that were given to their pods.
pub fn truth(world: &World) -> Network {
    let mut network = world.network.clone();
    for (name, machine) in &world.machines {
        let ranges = network.nodes.get(name).map(|node| node.pod_cidrs.clone()).unwrap_or_default();
        for attachment in machine.plugged() {
            let addresses: Vec<_> = attachment.addresses.iter().map(|address| address.address).collect();
            let fits = addresses.iter().all(|address| ranges.iter().any(|range| range.contains(*address)));
            let pod = attachment.pod_name().and_then(|key| network.pods.get_mut(&key));
            let pod = pod.filter(|pod| pod.uid == uid(attachment) && pod.node.as_ref() == Some(name));
            if let Some(pod) = pod.filter(|pod| fits && !pod.host_network) {
                pod.addresses = addresses;
            }
        }
    }
    network
}

/// The watermark that a delta offers, if an agent that holds what this one holds may take it: another epoch must be
/// greater; in the same one nothing but the agent's own bindings may be behind.
pub fn admits(machine: &Machine, delta: &wire::Delta) -> Result<Option<Watermark>, Violation> {
    let offered = delta::watermark(delta).map_err(|error| error.to_string())?;
    let own = Watermark::bindings_of(&machine.config.node);
    let (held, offers) = (&machine.held, &offered);
    let forward = |(source, revision): (&String, &u64)| {
        *source == own || offers.revisions.get(source).copied().unwrap_or(0) >= *revision
    };
    let admitted =
        offers.epoch > held.epoch || (offers.epoch == held.epoch && held.revisions.iter().all(forward));
    Ok(admitted.then_some(offered))
}

/// The index holds what the whole recomputation gives.
pub fn index(state: &State) -> Result<(), Violation> {
    if !state.is_ready() {
        return Ok(());
    }
    let network = state.network();
    for node in network.nodes.keys() {
        let whole = delta::resources(&NodeView::of(&network, node));
        let held = state.index().resources(node).ok_or_else(|| format!("the index has no view of {node}"))?;
        if let Some(difference) = held.difference(&whole) {
            return Err(format!("the index differs from the whole recomputation for {node}: {difference}"));
        }
    }
    Ok(())
}

/// What a node's switch should hold for a view, compiled whole.
fn expected(machine: &Machine, view: &NodeView) -> BTreeMap<String, String> {
    let mut view = view.clone();
    let name = machine.config.node.clone();
    view.nodes.entry(name).or_insert_with(|| machine.described.clone());
    let ports: Vec<LocalPort> =
        machine.plugged().map(|attachment| attachment.local_port(Some(uid(attachment)))).collect();
    let program = compiler::compile(&view, &machine.config, &ports);
    let number = |port: &PortRef| {
        let name = match port {
            PortRef::Interface(name) => name,
            PortRef::Gateway => &machine.config.gateway,
            PortRef::Tunnel => &machine.config.tunnel,
        };
        machine.heard.as_ref()?.get(name).copied().flatten().map(PortNo)
    };
    let flows: Vec<FlowMod> = program.bind(number).collect();
    listing(flows.iter())
}

fn same(what: &str, machine: &Machine, expected: &BTreeMap<String, String>) -> Result<(), Violation> {
    let held = machine.switch.listing();
    if held == *expected {
        return Ok(());
    }
    let only = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
        let flows: Vec<String> = a
            .iter()
            .filter(|(key, value)| b.get(*key) != Some(value))
            .take(5)
            .map(|(key, value)| format!("    {key} → {value}"))
            .collect();
        flows.join("\n")
    };
    Err(format!(
        "{} {what}\n  held and not expected:\n{}\n  expected and not held:\n{}",
        machine.config.node,
        only(&held, expected),
        only(expected, &held)
    ))
}

/// After an agent has looked at what follows: what it calls in force is.
pub fn after_work(machine: &mut Machine) -> Result<(), Violation> {
    let Some(agent) = &machine.agent else { return Ok(()) };
    let snapshot = agent.snapshot();
    if machine.in_sync {
        let whole = expected(machine, &snapshot.view);
        same(
            "says that it is in sync, and its switch differs from the whole recomputation",
            machine,
            &whole,
        )?;
    }
    for attachment in machine.attachments.values() {
        if machine.in_force.contains(&attachment.id) || agent.standing(&attachment.id) != Standing::InForce {
            continue;
        }
        let known = attachment.pod_name().and_then(|key| machine.switch.model.pods.get(&key));
        if known.is_none_or(|pod| pod.uid != uid(attachment)) {
            return Err(format!(
                "{} answers ADD of {} while its switch holds no state with that UID",
                machine.config.node,
                attachment.title()
            ));
        }
        machine.in_force.insert(attachment.id.clone());
    }
    Ok(())
}

/// Everything was delivered: one network, and every switch holds exactly what follows from it.
pub fn at_rest(world: &mut World) -> Result<(), Violation> {
    let mut truth = truth(world);
    truth.prune();
    for replica in &world.replicas {
        let Some(state) = &replica.state else { continue };
        if state.network() != truth {
            return Err(format!(
                "at rest, the controller's model is not the network as it is\n  model {:?}\n  truth {:?}\n  problems {:?}",
                state.network().pods,
                truth.pods,
                state.problems()
            ));
        }
        if let Some((node, _)) = state.agents().iter().find(|(_, agent)| !agent.is_realized()) {
            return Err(format!("at rest, {node} is not realized: {:?}", state.problems()));
        }
    }
    for machine in world.machines.values() {
        let view = NodeView::of(&truth, &machine.config.node);
        same(
            "at rest, its switch differs from what the network asks for",
            machine,
            &expected(machine, &view),
        )?;
        let Some(agent) = &machine.agent else { continue };
        let problems = agent.snapshot().problems;
        // Nobody makes the host's state here.
        if let Some((what, problem)) = problems.iter().find(|(what, _)| **what != "host") {
            return Err(format!("at rest, {} has a problem with {what}: {problem}", machine.config.node));
        }
        for attachment in machine.attachments.values() {
            let known = attachment.pod_name().and_then(|key| view.pods.get(&key));
            let standing = agent.standing(&attachment.id);
            if known.is_some_and(|pod| pod.uid == uid(attachment)) && standing != Standing::InForce {
                return Err(format!("at rest, {} is {standing:?}", attachment.title()));
            }
        }
    }
    probe::matrix(world, &truth)
}
