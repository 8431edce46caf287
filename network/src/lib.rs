//! The logical network: what should be reachable, and what it means. No IO, no clock, no Kubernetes types.
//!
//! Kubernetes objects become a [`Network`]; a [`NodeView`] is what one node needs of it. Everything is ordered and
//! deterministic: the same state always gives the same model and the same views, bit by bit.

pub mod address;
pub mod backing;
pub mod change;
pub mod difference;
pub mod excerpt;
pub mod few;
pub mod labels;
pub mod mac;
pub mod matrix;
pub mod model;
pub mod name;
pub mod node;
pub mod pod;
pub mod policy;
pub mod port_set;
pub mod protocol;
pub mod reference;
pub mod selector;
pub mod service;
mod spelling;
pub mod view;
pub mod workload;

pub use address::{Cidr, CidrError};
pub use backing::{Backing, Prefers, Slice, Target};
pub use change::Change;
pub use few::{Few, Seldom};
pub use labels::{LabelSelector, Labels, Operator, Requirement};
pub use mac::Mac;
pub use matrix::Matrix;
pub use model::Network;
pub use name::{NamespacedName, NodeName};
pub use node::Node;
pub use pod::{NamedPort, Pod};
pub use policy::{
    Action, Direction, IpBlock, Isolation, Peers, Policy, PolicyId, PolicyKind, PortMatch, Ports, Rule, Tier,
};
pub use port_set::PortSet;
pub use protocol::{PortRange, Protocol};
pub use reference::{Endpoint, Verdict};
pub use selector::{NamespaceSelector, Selector, SetId};
pub use service::{Service, ServiceEndpoint, ServiceKind, ServicePort, TrafficPolicy};
pub use view::{AddressSet, LocalPod, NodeView, PeerMatch, ViewPolicy, ViewRule};
