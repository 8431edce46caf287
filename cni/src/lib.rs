//! `ferrule-cni`, the binary that container runtimes call (CNI 0.3.1 to 1.1.0): it plugs a veth into the container and
//! asks the node's agent for everything else. It must not know the switch, addresses' ranges or policy, and it starts in
//! milliseconds: no async runtime, no logging, one socket to the agent and a few to the kernel.

mod add;
mod agent;
mod arguments;
mod check;
mod config;
mod delete;
mod environment;
mod ethtool;
mod fields;
mod interface;
mod netlink;
mod netns;
mod result;
mod run;
mod tombstone;
mod version;

pub use run::{Outcome, run};
