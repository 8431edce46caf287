//! A switch that holds flow-mods as Open vSwitch does: ADD replaces, DELETE_STRICT deletes one, a bundle is all or
//! nothing, a restart forgets. It knows no agent.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use compiler::register::OUT_PORT;
use compiler::{Flow, FlowAction, FlowKey, PortRef, Program, Table};
use network::Network;
use openflow::{Action, Field, FlowMod, FlowModCommand, FlowStats, Instruction, Match, PortNo, TableId};
use ovs_agent::shadow::Shadow;
use std::sync::Arc;

/// What tells flows apart (OpenFlow 1.3.5 §6.4), in an order.
type Key = (TableId, u16, String);

/// A switch.
#[derive(Debug, Default)]
pub struct Switch {
    flows: BTreeMap<Key, FlowMod>,
    /// The ports that it has, with their numbers; `None` while it is still making one.
    pub ports: BTreeMap<String, Option<u32>>,
    last_number: u32,
    /// The model from which the program it holds was compiled: the checks' own note.
    pub model: Arc<Network>,
}

fn key(flow: &FlowMod) -> Key {
    (flow.table, flow.priority, format!("{:?}", flow.match_.canonical()))
}

impl Switch {
    /// Takes a bundle whole.
    pub fn apply(&mut self, bundle: &[FlowMod]) -> Result<(), String> {
        for flow in bundle {
            match flow.command {
                FlowModCommand::Add => drop(self.flows.insert(key(flow), flow.clone())),
                FlowModCommand::DeleteStrict => {
                    if self.flows.remove(&key(flow)).is_none() {
                        return Err(format!("deletes a flow that is not there: {flow:?}"));
                    }
                }
                other => return Err(format!("an agent sends {other:?}")),
            }
        }
        Ok(())
    }

    /// Starts again: no flows; the ports keep their numbers, or get others.
    pub fn restart(&mut self, renumber: bool) {
        self.flows.clear();
        if renumber {
            self.last_number = 0;
            // Another order than before.
            for number in self.ports.values_mut().rev() {
                self.last_number += 1;
                *number = Some(self.last_number);
            }
        }
    }

    /// Makes these ports and no others; new ones stay without a number when `slow`.
    pub fn make_ports(&mut self, wanted: impl Iterator<Item = String>, slow: bool) {
        let wanted: Vec<String> = wanted.collect();
        self.ports.retain(|name, _| wanted.contains(name));
        for name in wanted {
            let number = self.ports.entry(name).or_insert(None);
            if number.is_none() && !slow {
                self.last_number += 1;
                *number = Some(self.last_number);
            }
        }
    }

    /// What it reports of its flows to whoever connects.
    pub fn report(&self) -> Shadow {
        let mut shadow = Shadow::default();
        for flow in self.flows.values() {
            shadow.observe(&FlowStats {
                table: flow.table,
                priority: flow.priority,
                cookie: flow.cookie,
                flags: flow.flags,
                idle_timeout: flow.idle_timeout,
                hard_timeout: flow.hard_timeout,
                match_: flow.match_.clone(),
                instructions: flow.instructions.clone(),
                ..FlowStats::default()
            });
        }
        shadow
    }

    /// Every flow, as text that is equal when the flows are.
    pub fn listing(&self) -> BTreeMap<String, String> {
        listing(self.flows.values())
    }

    /// How many flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The flows as a program again, so that the compiler's simulator can walk them: numbers become the ports that have
    /// them now.
    pub fn program(&self, gateway: &str, tunnel: &str) -> Program {
        let port = |number: u32| {
            let name =
                self.ports.iter().find(|(_, held)| **held == Some(number)).map(|(name, _)| name.as_str());
            match name {
                Some(name) if name == gateway => PortRef::Gateway,
                Some(name) if name == tunnel => PortRef::Tunnel,
                Some(name) => PortRef::Interface(name.to_owned()),
                None => PortRef::Interface(format!("nobody-{number}")),
            }
        };
        let flows = self.flows.values().filter_map(|flow| symbolic(flow, &port)).collect();
        Program { flows, ..Program::default() }
    }
}

/// Flows by identity.
pub fn listing<'a>(flows: impl Iterator<Item = &'a FlowMod>) -> BTreeMap<String, String> {
    flows
        .map(|flow| (format!("{:?}", key(flow)), format!("{:?} {:?}", flow.cookie, flow.instructions)))
        .collect()
}

fn symbolic(flow: &FlowMod, port: &impl Fn(u32) -> PortRef) -> Option<(FlowKey, Flow)> {
    let mut match_: Match = flow.match_.clone();
    let in_port = match_.exact(Field::IN_PORT).map(|number| port(number as u32));
    match_.remove(Field::IN_PORT);
    let (mut actions, mut goto) = (Vec::new(), None);
    for instruction in &flow.instructions {
        match instruction {
            Instruction::ApplyActions(list) => actions.extend(list.iter().map(|action| match action {
                Action::RegLoad { dst, value } if *dst == OUT_PORT.bits => {
                    FlowAction::LoadPort(port(*value as u32), *dst)
                }
                Action::Output { port: number, .. } if *number != PortNo::IN_PORT => {
                    FlowAction::Output(port(number.0))
                }
                other => FlowAction::Do(other.clone()),
            })),
            Instruction::GotoTable(table) => goto = Table::from_id(table.0),
            _ => {}
        }
    }
    let table = Table::from_id(flow.table.0)?;
    let key = FlowKey { table, priority: Reverse(flow.priority), in_port, match_ };
    Some((key, Flow { cookie: flow.cookie, actions, goto }))
}
