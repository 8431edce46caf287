//! ovs-agent.

pub mod ipam;
