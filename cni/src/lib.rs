//! `ferrule-cni`, the binary that container runtimes call (CNI 0.3.1 to 1.1.0): it plugs a veth into the container and
//! asks the node's agent for everything else. It must not know the switch, addresses' ranges or policy, and it starts in
//! milliseconds: no async runtime, no logging, one socket to the agent and a few to the kernel. The agent links what
//! carries out a deletion that a killed call owes ([`take_back`], [`tombstone`]).

mod add;
mod agent;
mod arguments;
mod check;
mod config;
mod delete;
mod environment;
mod ethtool;
pub mod fault;
mod fields;
pub mod generic;
mod interface;
mod netlink;
mod netns;
mod plugin;
mod result;
mod run;
pub mod take_back;
pub mod tombstone;
mod version;

pub use run::{Outcome, run};
