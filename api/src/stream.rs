//! The words of the agent stream as typed values: what a resource is called, which version of it somebody holds, what an
//! agent reports and refuses. Knows nothing of protobuf (that is `convert`) and nothing of sockets.

use std::fmt;
use std::net::IpAddr;

use network::{AddressSet, LocalPod, NamespacedName, Node, NodeName, PolicyId, Service, SetId, ViewPolicy};
use serde::{Deserialize, Serialize};

/// The name that a controller's certificate carries and that an agent checks, whatever address it dialled.
pub const SERVER_NAME: &str = "ferrule-controller";

/// The largest message that an agent takes from a controller, in bytes: a first delta holds everything.
pub const MAX_FROM_CONTROLLER_BYTES: usize = 256 << 20;

/// The largest message that a controller takes from an agent, in bytes: an answer may hold every flow of a node.
pub const MAX_FROM_AGENT_BYTES: usize = 64 << 20;

/// Which resource. Sorts in the order in which a delta lists them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceId {
    /// A node.
    Node(NodeName),
    /// An address set.
    AddressSet(SetId),
    /// A policy.
    Policy(PolicyId),
    /// A pod of the agent's node.
    LocalPod(NamespacedName),
    /// A Service.
    Service(NamespacedName),
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "Node {name}"),
            Self::AddressSet(id) => write!(f, "AddressSet {id}"),
            Self::Policy(id) => write!(f, "{id}"),
            Self::LocalPod(key) => write!(f, "Pod {key}"),
            Self::Service(key) => write!(f, "Service {key}"),
        }
    }
}

/// A hash of a resource's content: equal contents have equal versions on every controller and in every agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub u64);

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({:016x})", self.0)
    }
}

/// A resource's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A node.
    Node(Node),
    /// An address set.
    AddressSet(AddressSet),
    /// A policy.
    Policy(ViewPolicy),
    /// A pod of the agent's node.
    LocalPod(LocalPod),
    /// A Service.
    Service(Service),
}

impl Resource {
    /// What it is called.
    pub fn id(&self) -> ResourceId {
        match self {
            Self::Node(node) => ResourceId::Node(node.name.clone()),
            Self::AddressSet(set) => ResourceId::AddressSet(set.id),
            Self::Policy(policy) => ResourceId::Policy(policy.id.clone()),
            Self::LocalPod(pod) => ResourceId::LocalPod(pod.key.clone()),
            Self::Service(service) => ResourceId::Service(service.key.clone()),
        }
    }
}

/// A pod that is plugged on a node: what its agent reports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Binding {
    /// Which pod.
    pub pod: NamespacedName,
    /// Which incarnation of it.
    pub uid: String,
    /// The addresses that it was given.
    pub addresses: Vec<IpAddr>,
    /// The node's end of its link.
    pub interface: String,
}

/// A resource that could not be realized, and why. Its earlier version stays in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rejection {
    /// Which resource; `None` when its id could not be read.
    pub id: Option<ResourceId>,
    /// Why, naming the field.
    pub reason: String,
}
