//! Kubernetes objects, pure: reading YAML, API defaulting, expanding workloads into pods, placing them, and the translation
//! into the logical network. No IO, no clock, no async; texts come in, a [`network::Network`] and problems come out.
//!
//! The path of manifests: [`read`] → [`nodes`] (or the caller's own) → [`place`] → (addresses: the agents', or
//! [`offline::hand_out`]) → [`translate`]. A source that watches an API server calls the functions of [`translate`] one
//! object at a time.

mod amend;
mod amend_network;
mod amend_workloads;
pub mod cluster_policy;
mod decode;
pub mod defaulting;
pub mod directory;
mod endpoints;
mod expand;
mod lenient;
pub mod live;
mod located;
pub mod made_up;
pub mod offline;
mod place;
mod problem;
mod read;
mod rule_fault;
mod scenario;
mod set;
mod syntax;
pub mod translate;
mod yaml;

pub use amend_network::{Amended, Assumption, amend};
pub use cluster_policy::ClusterNetworkPolicy;
pub use place::{Placement, place, place_beside};
pub use problem::{Fault, ObjectRef, Problem, RuleFault, RulePart, Severity, Source};
pub use read::read;
pub use scenario::{Scenario, scenarios};
pub use set::{Object, ObjectSet, Origin, Workload, WorkloadKind};
pub use translate::node::nodes;
pub use translate::translate;
pub use yaml::SourceText;
