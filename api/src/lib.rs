//! The wire contracts: protobuf between controller and agent, JSON between CNI binary and agent, HTTP/JSON for the CLI.
//! Shapes only: no sockets, no state.

pub mod cni;
pub mod insight;
