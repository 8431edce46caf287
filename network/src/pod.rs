//! A pod as the network sees it.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::name::{NamespacedName, NodeName};
use crate::protocol::Protocol;

/// A declared container port; the name is what policies and Services may refer to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamedPort {
    /// The port's name, where it has one.
    pub name: Option<String>,
    /// The protocol.
    pub protocol: Protocol,
    /// The number.
    pub number: u16,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pod {
    /// `namespace/name`.
    pub key: NamespacedName,
    /// The object's UID; a static pod's is its mirror's `kubernetes.io/config.hash`.
    pub uid: String,
    /// Where it runs; `None` while it is not bound.
    pub node: Option<NodeName>,
    /// Labels; the pods of a workload mostly share them.
    pub labels: Arc<Labels>,
    /// Its addresses: reported by the agent that plugged it, or by its status. At most one per family.
    pub addresses: Vec<IpAddr>,
    /// It lives in its node's network namespace: neither subject nor pod peer of a policy.
    pub host_network: bool,
    /// It has ended (Succeeded, Failed): its address may already be another's.
    pub completed: bool,
    /// Declared ports.
    pub ports: Vec<NamedPort>,
}

impl Pod {
    /// Whether policies can select it, as subject or as peer.
    pub fn is_policed(&self) -> bool {
        !self.host_network && !self.completed
    }

    /// The numbers behind a port name; several when one name stands for several protocols or containers.
    pub fn port_numbers<'a>(&'a self, name: &'a str, protocol: Protocol) -> impl Iterator<Item = u16> + 'a {
        self.ports
            .iter()
            .filter(move |port| port.protocol == protocol && port.name.as_deref() == Some(name))
            .map(|port| port.number)
    }
}
