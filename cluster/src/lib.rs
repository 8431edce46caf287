//! A real Kubernetes on this machine: its programs built from source through the Go module proxy, its certificates, and a
//! control plane (etcd, kube-apiserver and, if wanted, kube-controller-manager) in a network namespace of its own, and nodes that
//! are whole machines as far as a kubelet can see. Used by
//! `cargo xtask cluster` and the cluster tests.
//!
//! Knows nothing of Ferrule: it is what a cluster operator has before a network is installed. A lab that gets its objects
//! from here joins its namespace by a cable (`lab::Source::Kubernetes`).

mod cgroup;
mod control_plane;
pub mod e2e;
mod error;
mod etcd;
mod flags;
mod https;
pub mod image;
pub mod images;
pub mod node;
mod nodes;
mod pki;
mod program;

pub use control_plane::{Component, ControlPlane, DEFAULT_STATE, Options, down};
pub use error::{Error, Result};
pub use etcd::Backup;
pub use https::{Answer, Request};
pub use lab::{Interrupt, NodeIndex};
pub use nodes::{NodePlace, Nodes};
pub use program::{Builder, PROGRAMS, Program, Versions};
