//! Exactly what a node must hold: flows with symbolic ports, rows of OVSDB, host state; and the reasons behind the flows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use network::PolicyId;
use openflow::{Action, Cookie, Field, FlowMod, Instruction, Match, PortNo, Subfield, TableId};

use crate::host::HostState;
use crate::input::PortRef;
use crate::provenance::Reason;
use crate::stream::Sink;
use crate::switch::SwitchRows;
use crate::table::Table;

/// What one node must hold. A function of the node's view, its configuration and its ports, and of nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The flows, no two with the same table, priority and match.
    pub flows: BTreeMap<FlowKey, Flow>,
    /// The integration bridge and its ports.
    pub switch: SwitchRows,
    /// The node's own network stack.
    pub host: HostState,
    /// Why each flow exists, by cookie.
    pub reasons: BTreeMap<Cookie, Reason>,
    /// Policies that were left out, and why. Their subjects are isolated instead: what is not understood denies.
    pub refused: BTreeMap<PolicyId, String>,
}

/// Collects everything. Of two flows with one key the first stands, with the owners of both: nodes or ports that claim the
/// same address make such.
impl Sink for Program {
    fn flow(&mut self, key: FlowKey, flow: Flow, why: &dyn Fn() -> Reason) {
        match self.reasons.entry(flow.cookie) {
            Entry::Vacant(slot) => drop(slot.insert(why())),
            Entry::Occupied(mut slot) => slot.get_mut().owners.extend(why().owners),
        }
        self.flows.entry(key).or_insert(flow);
    }
}

/// What tells flows of one switch apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Which table.
    pub table: Table,
    /// Higher wins; sorted so that the winner comes first.
    pub priority: std::cmp::Reverse<u16>,
    /// The port it came in on.
    pub in_port: Option<PortRef>,
    /// Everything else.
    pub match_: Match,
}

/// What happens to packets that match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Leads to the reason.
    pub cookie: Cookie,
    /// Applied in their order.
    pub actions: Vec<FlowAction>,
    /// Where the packet goes on; `None` ends it here.
    pub goto: Option<Table>,
}

/// An action, with ports still symbolic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FlowAction {
    /// Any action without a port of ours.
    Do(Action),
    /// Loads the number of a port into a register.
    LoadPort(PortRef, Subfield),
    /// Sends out of a port.
    Output(PortRef),
}

impl From<Action> for FlowAction {
    fn from(action: Action) -> Self {
        Self::Do(action)
    }
}

impl Program {
    /// The ports that flows speak of.
    pub fn port_refs(&self) -> BTreeSet<&PortRef> {
        let actions =
            self.flows.values().flat_map(|flow| flow.actions.iter()).filter_map(|action| match action {
                FlowAction::LoadPort(port, _) | FlowAction::Output(port) => Some(port),
                FlowAction::Do(_) => None,
            });
        self.flows.keys().filter_map(|key| key.in_port.as_ref()).chain(actions).collect()
    }

    /// The flows with port numbers in place of names, in the order of the pipeline. A flow that speaks of a port without
    /// a number yet is left out: it comes when the port has one.
    pub fn bind<'a>(
        &'a self,
        resolve: impl Fn(&PortRef) -> Option<PortNo> + 'a,
    ) -> impl Iterator<Item = FlowMod> + 'a {
        self.flows.iter().filter_map(move |(key, flow)| bind_flow(key, flow, &resolve))
    }
}

/// One flow with port numbers; `None` while a port has none.
pub fn bind_flow(
    key: &FlowKey,
    flow: &Flow,
    resolve: &impl Fn(&PortRef) -> Option<PortNo>,
) -> Option<FlowMod> {
    let mut match_ = key.match_.clone();
    if let Some(port) = &key.in_port {
        match_ = match_.with(Field::IN_PORT, resolve(port)?.0);
    }
    let mut actions = Vec::with_capacity(flow.actions.len());
    for action in &flow.actions {
        actions.push(match action {
            FlowAction::Do(action) => action.clone(),
            FlowAction::LoadPort(port, dst) => Action::load(*dst, u64::from(resolve(port)?.0)),
            FlowAction::Output(port) => Action::output(resolve(port)?),
        });
    }
    let mut instructions = Vec::with_capacity(2);
    if !actions.is_empty() {
        instructions.push(Instruction::ApplyActions(actions));
    }
    if let Some(table) = flow.goto {
        instructions.push(Instruction::GotoTable(TableId(table.id())));
    }
    Some(FlowMod::add(TableId(key.table.id()), key.priority.0, match_, instructions).with_cookie(flow.cookie))
}
