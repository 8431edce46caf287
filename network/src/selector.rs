//! Selectors of address sets. A set's id is the hash of its selector: a thousand policies with one selector share one set.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::labels::{LabelSelector, Labels};
use crate::node::Node;
use crate::pod::Pod;
use crate::protocol::Protocol;
use crate::spelling;

/// Which namespaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NamespaceSelector {
    /// The one of this name.
    Name(String),
    /// Those with matching labels.
    Labels(LabelSelector),
}

/// A port that selected pods must declare: restricts a set to the pods on which a named port has this number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeclaredPort {
    /// The port's name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number on the pods of this set.
    pub number: u16,
}

/// What makes a set of addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Selector {
    /// Pods by namespace and labels.
    Pods {
        /// Which namespaces.
        namespaces: NamespaceSelector,
        /// Which pods in them.
        pods: LabelSelector,
        /// Only pods that declare this port.
        port: Option<DeclaredPort>,
    },
    /// Nodes by labels.
    Nodes(LabelSelector),
}

impl Selector {
    /// Pods of one namespace.
    pub fn pods_in(namespace: impl Into<String>, pods: LabelSelector) -> Self {
        Self::Pods { namespaces: NamespaceSelector::Name(namespace.into()), pods, port: None }
    }

    /// The same pods, but only those on which the named port has this number.
    pub fn with_port(&self, declared: DeclaredPort) -> Option<Self> {
        match self {
            Self::Pods { namespaces, pods, .. } => {
                Some(Self::Pods { namespaces: namespaces.clone(), pods: pods.clone(), port: Some(declared) })
            }
            Self::Nodes(_) => None,
        }
    }

    /// Whether a pod is a member. `namespace` are the labels of the pod's namespace.
    pub fn selects_pod(&self, pod: &Pod, namespace: &Labels) -> bool {
        let Self::Pods { namespaces, pods, port } = self else { return false };
        pod.is_policed()
            && match namespaces {
                NamespaceSelector::Name(name) => *name == pod.key.namespace(),
                NamespaceSelector::Labels(selector) => selector.matches(namespace),
            }
            && pods.matches(&pod.labels)
            && port.as_ref().is_none_or(|p| pod.port_numbers(&p.name, p.protocol).any(|n| n == p.number))
    }

    /// Whether a node is a member.
    pub fn selects_node(&self, node: &Node) -> bool {
        matches!(self, Self::Nodes(selector) if selector.matches(&node.labels))
    }

    /// The set's id: the first 128 bits of SHA-256 over an unambiguous spelling of the selector.
    pub fn id(&self) -> SetId {
        let digest = Sha256::digest(spelling::of_selector(self));
        let mut bits = [0; 16];
        bits.copy_from_slice(&digest[..16]);
        SetId(u128::from_be_bytes(bits))
    }
}

/// The id of an address set: a hash of its selector.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetId(pub u128);

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetId({self})")
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the id of an address set (32 hexadecimal digits)")]
pub struct SetIdError(pub String);

impl FromStr for SetId {
    type Err = SetIdError;

    fn from_str(text: &str) -> Result<Self, SetIdError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(SetIdError(text.to_owned()));
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| SetIdError(text.to_owned()))
    }
}

impl TryFrom<String> for SetId {
    type Error = SetIdError;

    fn try_from(text: String) -> Result<Self, SetIdError> {
        text.parse()
    }
}

impl From<SetId> for String {
    fn from(id: SetId) -> Self {
        id.to_string()
    }
}
