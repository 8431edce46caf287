//! Nodes as network namespaces with a real Open vSwitch, agent, controller and CNI binary: a whole cluster's network on one
//! machine. Used by `ferrule lab`, the tests and the benchmarks.
//!
//! The lab only makes what a real cluster would have around Ferrule (machines, cables, kubelet's CNI calls, containers that
//! answer). It never touches br-int, a flow, or an address of a pod: those are the agent's.

pub mod bench;
pub mod bundle;
pub mod cni;
pub mod command;
pub mod control;
pub mod daemons;
pub mod datapath;
pub mod error;
pub mod example;
pub mod ground;
pub mod http;
mod in_force;
mod interrupt;
pub mod ip;
pub mod kubernetes;
mod lab;
pub mod layout;
pub mod manifests;
pub mod measure;
pub mod netns;
pub mod place;
pub mod pods;
pub mod probe;
pub mod process;
pub mod progress;
pub mod record;
pub mod responder;
mod sctp;
pub mod status;
pub mod switch;
pub mod underlay;

pub use control::Component;
pub use datapath::Datapath;
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use kubernetes::Kubernetes;
pub use lab::{Lab, Options, down};
pub use layout::{Family, Layout, NodeIndex};
pub use manifests::Problem;
pub use measure::Measured;
pub use place::Place;
