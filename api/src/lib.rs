//! The wire contracts: protobuf between controller and agent, JSON between CNI binary and agent, HTTP/JSON for the CLI.
//! Shapes only: no sockets, no state.

pub mod audit;
pub mod causes;
pub mod client;
pub mod cni;
pub mod convert;
pub mod delta;
#[allow(missing_debug_implementations, clippy::all)]
pub mod generated;
pub mod insight;
pub mod pairs;
pub mod resources;
pub mod role;
pub mod services;
mod set_change;
pub mod stream;
mod trace;
pub mod watermark;
