//! What ferrule-cni asks for: the socket, the commands, and the garbage of those that were cut short.

pub mod attach;
pub mod collect;
pub mod host;
pub mod lock;
pub mod server;

/// The agent's fault points ([`cni::fault`]), in their order.
pub const FAULT_POINTS: [&str; 12] = [
    "agent.add.received",
    "agent.add.allocated",
    "agent.add.recorded",
    "agent.add.port",
    "agent.add.flows",
    "agent.add.answered",
    "agent.del.received",
    "agent.del.unrecorded",
    "agent.del.port",
    "agent.del.flows",
    "agent.del.unplugged",
    "agent.del.released",
];
