//! `NodeView → Program`: exactly what one node must hold, as data. Pure: no IO, no clock, no Kubernetes.
//!
//! [`compile`] is the whole of it. The agent binds port numbers last ([`Program::bind`]), so the controller and the CLI
//! compile any node's program offline.

pub mod host;
pub mod input;
pub mod program;
pub mod provenance;
pub mod switch;
pub mod table;

pub use input::{Datapath, LocalPort, NodeConfig, PortRef};
pub use program::{Flow, FlowAction, FlowKey, Program};
pub use provenance::{Owner, Reason};
pub use table::Table;

use network::NodeView;

/// Compiles what a node must hold from its view, its configuration and its plugged ports.
pub fn compile(view: &NodeView, config: &NodeConfig, ports: &[LocalPort]) -> Program {
    let _ = (view, config, ports);
    Program::default()
}
