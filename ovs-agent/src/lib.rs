//! ovs-agent.
