//! `NodeView → Program`: exactly what one node must hold, as data. Pure: no IO, no clock, no Kubernetes.
//!
//! [`compile`] is the whole of it. The agent binds port numbers last ([`Program::bind`]), so the controller and the CLI
//! compile any node's program offline.

mod builder;
pub mod host;
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
pub mod switch;
pub mod table;

pub use input::{Datapath, LocalPort, NodeConfig, PortRef};
pub use page::pipeline_page;
pub use program::{Flow, FlowAction, FlowKey, Program};
pub use provenance::{COOKIE_MARK, COOKIE_MASK, Owner, Reason};
pub use table::Table;

use network::NodeView;

use crate::builder::Builder;
use crate::pipeline::Context;

/// Compiles what a node must hold from its view, its configuration and its plugged ports.
///
/// A port whose pod the view does not hold (by UID) carries nothing yet: its policies are not known.
pub fn compile(view: &NodeView, config: &NodeConfig, ports: &[LocalPort]) -> Program {
    let context = Context::new(view, config, ports);
    let mut builder = Builder::default();
    pipeline::build(&context, &mut builder);
    let refused = policy::build(&context, &mut builder);
    let (flows, reasons) = builder.finish();
    let mtu = pod_mtu(view, config);
    Program { flows, reasons, refused, switch: rows::build(&context, mtu), host: stack::build(&context, mtu) }
}

/// The MTU of pods, of the gateway and of what goes through the tunnel, in bytes: the underlay's less the overhead of the
/// tunnel to the node that is dearest to reach.
pub fn pod_mtu(view: &NodeView, config: &NodeConfig) -> u32 {
    let overhead =
        view.nodes.values().filter_map(network::Node::tunnel_address).map(input::tunnel_overhead).max();
    config.underlay_mtu.saturating_sub(overhead.unwrap_or(50))
}
