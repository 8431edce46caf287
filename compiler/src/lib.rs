//! `NodeView → Program`: exactly what one node must hold, as data. Pure: no IO, no clock, no Kubernetes.
//!
//! [`compile`] is the whole of it; [`incremental`] gives the same flow by flow, and after a change only what it touches. The agent binds port numbers last ([`Program::bind`]), so the controller and the CLI
//! compile any node's program offline.

pub mod affinity;
pub mod copies;
pub mod drops;
pub mod explain;
pub mod host;
pub mod incremental;
pub mod input;
mod packet;
mod page;
mod pipeline;
mod policy;
pub mod program;
pub mod provenance;
pub mod register;
pub mod rows;
pub mod simulate;
mod stack;
pub mod stream;
pub mod switch;
pub mod table;

pub use input::{Datapath, LocalPort, NodeConfig, PortRef};
pub use page::pipeline_page;
pub use pipeline::look_again;
pub use pipeline::service::Translation;
pub use policy::Cost;
pub use program::{Flow, FlowAction, FlowKey, Program};
pub use provenance::{COOKIE_MARK, COOKIE_MASK, Owner, Reason};
pub use stack::node_port_address;
pub use stream::{Input, Sink};
pub use table::Table;

use std::collections::{BTreeMap, BTreeSet};

use network::{Direction, NodeView, PolicyId};

use crate::pipeline::Context;

/// Compiles what a node must hold from its view, its configuration and its plugged ports.
///
/// A port whose pod the view does not hold (by UID) carries nothing yet: its policies are not known.
pub fn compile(view: &NodeView, config: &NodeConfig, ports: &[LocalPort]) -> Program {
    compile_input(Input { view, described: None, config, ports, closed: &BTreeSet::new() })
}

/// The same of everything that can be said.
pub fn compile_input(input: Input<'_>) -> Program {
    let mut program = Program::default();
    program.refused = incremental::stream(input, &mut program);
    (program.switch, program.host) = surroundings(input);
    program
}

/// What the database and the host must hold: a program without its flows.
pub fn surroundings(input: Input<'_>) -> (switch::SwitchRows, host::HostState) {
    let context = Context::new(input);
    let mtu = mtu(context.nodes.values().copied(), input.config);
    (rows::build(&context, mtu), stack::build(&context, mtu))
}

/// The endpoints that a node gives to clients of Services.
pub fn translations(input: Input<'_>) -> Vec<Translation> {
    pipeline::service::translations(&Context::new(input))
}

/// What the policies of a node cost in flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// By policy; those that are closed have none.
    pub policies: BTreeMap<PolicyId, Cost>,
    /// What each rule would cost if it were the only one.
    pub rules: BTreeMap<PolicyId, BTreeMap<(Direction, u32), usize>>,
    /// Flows that they may take together.
    pub budget: usize,
}

/// What the policies of a node cost in flows, counted without making any.
pub fn costs(input: Input<'_>) -> Costs {
    let context = Context::new(input);
    let subjects = policy::Subjects::of(&context);
    let now = policy::Now { view: input.view, subjects: &subjects };
    let policies: BTreeMap<PolicyId, Cost> =
        policy::costs(&context, &now).into_iter().map(|(id, cost)| (id.clone(), cost)).collect();
    let of = |id: &PolicyId| Some((id.clone(), policy::costs_by_rule(input.view.policies.get(id)?, &now)));
    Costs { rules: policies.keys().filter_map(of).collect(), policies, budget: input.config.flow_budget }
}

/// The MTU of pods, of the gateway and of what goes through the tunnel, in bytes: the underlay's less the overhead of the
/// tunnel to the node that is dearest to reach.
pub fn pod_mtu(view: &NodeView, config: &NodeConfig) -> u32 {
    mtu(view.nodes.values(), config)
}

fn mtu<'a>(nodes: impl Iterator<Item = &'a network::Node>, config: &NodeConfig) -> u32 {
    let overhead = nodes.filter_map(network::Node::tunnel_address).map(input::tunnel_overhead).max();
    config.underlay_mtu.saturating_sub(overhead.unwrap_or(50))
}
