//! What is wrong with an object, where, and what to do about it. A problem never stops the rest.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use network::{Cidr, CidrError};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::rule_fault::in_short;
pub use crate::rule_fault::{RuleFault, RulePart};

/// The object that a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: String,
    /// Its namespace, for kinds that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// An object in a namespace.
    pub fn namespaced(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: Some(namespace.to_owned()), name: name.to_owned() }
    }

    /// An object of a cluster-wide kind.
    pub fn cluster(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: None, name: name.to_owned() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A place in a text, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Source {
    /// The text's name, usually a file's.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<str>,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

fn as_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Whether something does not work, or works otherwise than written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object, or the part named, is not in force as written.
    Error,
    /// It is in force; something about it is ignored.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object, as far as it could be told.
    pub object: Option<ObjectRef>,
    /// Where it stands; `None` for objects that came from no text.
    pub source: Option<Source>,
    /// The field, for example `spec.ingress[0].from[1].ipBlock.cidr`.
    pub field: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

impl Problem {
    /// What is wrong, in words.
    pub fn what(&self) -> String {
        self.fault.to_string()
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        self.fault.cure()
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self.fault {
            Fault::DefinedTwice { .. }
            | Fault::UnknownField { .. }
            | Fault::LongName { .. }
            | Fault::Renamed { .. }
            | Fault::ForeignNode => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        write!(f, "{}; {}", self.what(), self.cure())
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Problem", 6)?;
        out.serialize_field("severity", &self.severity())?;
        out.serialize_field("object", &self.object)?;
        out.serialize_field("source", &self.source)?;
        out.serialize_field("field", &self.field)?;
        out.serialize_field("what", &self.what())?;
        out.serialize_field("cure", &self.cure())?;
        out.end()
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The text is no YAML or JSON.
    #[error("the document cannot be read: {reason}")]
    Unreadable {
        /// The parser's words.
        reason: String,
    },
    /// The document is no Kubernetes object.
    #[error("{found} is no Kubernetes object")]
    NotAnObject {
        /// What stands there instead.
        found: &'static str,
    },
    /// A field that every object has is missing.
    #[error("`{field}` is missing")]
    MissingField {
        /// Which one.
        field: &'static str,
    },
    /// The name or namespace cannot be one.
    #[error("`{name}` is not a valid name")]
    BadName {
        /// The name.
        name: String,
    },
    /// A kind that is read, in a version that is not.
    #[error("{kind} of apiVersion {version} is not read, the object is left out")]
    UnknownVersion {
        /// The kind.
        kind: String,
        /// The version.
        version: String,
        /// The version that is read.
        known: &'static str,
    },
    /// A field has the wrong type.
    #[error("{reason}, the object is left out")]
    Undecodable {
        /// The decoder's words.
        reason: String,
    },
    /// A field that the kind does not have, in a place where it changes nothing.
    #[error("the field `{name}` is unknown and ignored")]
    UnknownField {
        /// The field.
        name: String,
    },
    /// One object stands in the input twice.
    #[error("the object is defined a second time, the definition at {first} is replaced")]
    DefinedTwice {
        /// Where it stands first.
        first: Source,
    },
    /// Two objects give pods of the same name.
    #[error("a pod of this name exists already, this one is called `{name}`")]
    Renamed {
        /// The new name.
        name: String,
    },
    /// The replica count is negative or beyond reason.
    #[error("{count} pods cannot be made")]
    BadCount {
        /// The count.
        count: i64,
    },
    /// A part of a policy's rule is not understood.
    #[error("{reason}, so this {part} matches nothing")]
    NotUnderstood {
        /// Why.
        reason: RuleFault,
        /// What then matches nothing.
        part: RulePart,
    },
    /// The subject of a policy is not understood.
    #[error(
        "{reason}, so nobody can tell whom the policy is about: every pod of namespace `{namespace}` is isolated by it and its rules allow nothing"
    )]
    SubjectNotUnderstood {
        /// Why.
        reason: RuleFault,
        /// The namespace that is isolated whole.
        namespace: String,
    },
    /// The directions of a policy are not understood.
    #[error("{reason}, so the policy isolates its pods in both directions")]
    DirectionsNotUnderstood {
        /// Why.
        reason: RuleFault,
    },
    /// A rule of a ClusterNetworkPolicy is not understood.
    #[error("{reason}, so this {}", if *.denies { "rule denies everything" } else { "`Accept` rule matches nothing" })]
    RuleFailsClosed {
        /// Why.
        reason: RuleFault,
        /// Whether it is anything but an `Accept` rule.
        denies: bool,
    },
    /// What all rules of a ClusterNetworkPolicy depend on is not understood.
    #[error("{reason}, so {taken}, its `Accept` rules match nothing and its `Pass` rules deny")]
    PolicyInDoubt {
        /// Why.
        reason: RuleFault,
        /// What the policy is taken for.
        taken: &'static str,
    },
    /// A rule is about names, which are not supported.
    #[error("domain names are not supported yet, so this rule matches nothing")]
    DomainNames,
    /// The name of a rule is too long; it has no other meaning.
    #[error("the rule's name has {characters} characters, an API server takes at most {most}")]
    LongName {
        /// How many it has.
        characters: usize,
        /// How many it may have.
        most: usize,
    },
    /// A kind of a policy group that is not read.
    #[error("{kind} of apiVersion {version} is not known, the object is left out")]
    UnknownKind {
        /// The kind.
        kind: String,
        /// Its version.
        version: String,
    },
    /// A pod is bound to a node that does not exist.
    #[error("the pod is bound to node `{node}`, which does not exist (known: {known}), the pod is left out")]
    UnknownNode {
        /// The node asked for.
        node: String,
        /// The nodes there are.
        known: String,
    },
    /// A Node object beside those that are marked as the nodes there are.
    #[error("the node is of another cluster, it is left out")]
    ForeignNode,
    /// There is no node at all.
    #[error("there is no node to run the pod on, the pod is left out")]
    NoNodes,
    /// A text is no address.
    #[error("`{text}` is not an IP address and is ignored")]
    BadAddress {
        /// The text.
        text: String,
    },
    /// An address that cannot be a pod's or node's.
    #[error("{address} can be nobody's address and is ignored")]
    UnusableAddress {
        /// The address.
        address: IpAddr,
    },
    /// A second address of one family.
    #[error("{address} is a second address of its family and is ignored")]
    SecondAddress {
        /// The address.
        address: IpAddr,
    },
    /// A second address of a node in one family.
    #[error(
        "{address} is a second address of its family: the node is reached by the first, and policies about nodes mean both"
    )]
    FurtherAddress {
        /// The address.
        address: IpAddr,
    },
    /// Somebody else has the address.
    #[error("the address {address} belongs to {owner}, {consequence}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        owner: ObjectRef,
        /// What follows.
        consequence: &'static str,
    },
    /// The node has no address left.
    #[error("node `{node}` has no free address left in {range}, the pod stays without one")]
    RangeFull {
        /// The node.
        node: String,
        /// Its range.
        range: Cidr,
    },
    /// A node has no address on the underlay.
    #[error("the node has no InternalIP, other nodes cannot reach its pods")]
    NodeWithoutAddress,
    /// A node has no pod range.
    #[error("the node has no pod range, its pods get no address from it")]
    NodeWithoutRange,
    /// A pod range overlaps another node's.
    #[error("the pod range {range} overlaps {other} of {owner} and is ignored")]
    RangeTaken {
        /// The range.
        range: Cidr,
        /// The other's.
        other: Cidr,
        /// Who has it.
        owner: ObjectRef,
    },
    /// A pod range is no CIDR.
    #[error("{}, the range is ignored", in_short(.0))]
    BadRange(CidrError),
    /// A container port is out of range or of an unknown protocol.
    #[error("the container port is ignored: {reason}")]
    BadContainerPort {
        /// Why.
        reason: RuleFault,
    },
    /// A port of a Service that cannot be one.
    #[error("the port of the Service is ignored: {reason}")]
    BadServicePort {
        /// Why.
        reason: RuleFault,
    },
    /// A port of an EndpointSlice that cannot be one.
    #[error("the endpoints are left out at this port: {reason}")]
    BadEndpointPort {
        /// Why.
        reason: RuleFault,
    },
    /// More endpoints than the switch can choose among.
    #[error(
        "it has more than {most} ready endpoints of one address family, the first {most} in their order are used"
    )]
    CrowdedPort {
        /// How many can be.
        most: usize,
    },
    /// A type of Service that is not known here.
    #[error("`{kind}` is no type of Service known here, it is served as a ClusterIP")]
    ServiceType {
        /// The type.
        kind: String,
    },
    /// SCTP whose port would have to be translated.
    #[error(
        "SCTP port {port} leads to another number at its endpoints, which cannot be translated: those endpoints are left out"
    )]
    SctpTarget {
        /// The Service's number.
        port: u16,
    },
    /// Another Service has it already.
    #[error("{what} belongs to {owner}, this Service goes without it")]
    FrontendTaken {
        /// The address and port, or the node port.
        what: String,
        /// Who has it.
        owner: ObjectRef,
    },
}

impl Fault {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Unreadable { .. } => "correct the text; the other documents are read".into(),
            Self::NotAnObject { .. } => "every document needs apiVersion, kind and metadata.name".into(),
            Self::MissingField { field } => format!("write `{field}`"),
            Self::BadName { .. } => {
                "use small letters, digits, `-` and `.`, a letter or digit at both ends".into()
            }
            Self::UnknownVersion { known, .. } => format!("write it as apiVersion {known}"),
            Self::Undecodable { .. } => {
                "write the type that the API wants (a text that looks like a number needs quotes)".into()
            }
            Self::UnknownField { .. } => "check the spelling and the indentation, or remove it".into(),
            Self::DefinedTwice { .. } => "keep one of the two".into(),
            Self::Renamed { .. } => "give the two objects different names".into(),
            Self::BadCount { .. } => format!("write a number from 0 to {}", crate::decode::MOST_PODS),
            Self::NotUnderstood { reason, .. }
            | Self::RuleFailsClosed { reason, .. }
            | Self::PolicyInDoubt { reason, .. }
            | Self::SubjectNotUnderstood { reason, .. }
            | Self::DirectionsNotUnderstood { reason }
            | Self::BadContainerPort { reason }
            | Self::BadEndpointPort { reason }
            | Self::BadServicePort { reason } => reason.cure(),
            Self::CrowdedPort { .. } => "divide the pods among several Services".into(),
            Self::ServiceType { .. } => "use ClusterIP, NodePort, LoadBalancer or ExternalName".into(),
            Self::SctpTarget { port } => format!("let the endpoints listen on {port}"),
            Self::FrontendTaken { .. } => "give one of the two another number or address".into(),
            Self::DomainNames => {
                "write networks, or pods and namespaces where they are in the cluster".into()
            }
            Self::LongName { most, .. } => format!("shorten it to {most} characters"),
            Self::UnknownKind { kind, .. } if kind.ends_with("AdminNetworkPolicy") => {
                "write it as a ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2".into()
            }
            Self::UnknownKind { .. } => {
                "check the spelling: NetworkPolicy of networking.k8s.io/v1 and ClusterNetworkPolicy of \
                 policy.networking.k8s.io/v1alpha2 are read"
                    .into()
            }
            Self::ForeignNode => "nothing, or take the Node object out of the manifests".into(),
            Self::UnknownNode { .. } => "bind it to a known node, or leave spec.nodeName out".into(),
            Self::NoNodes => "add a node".into(),
            Self::BadAddress { .. } | Self::UnusableAddress { .. } => {
                "write a unicast address, for example 10.244.1.5, or leave it out".into()
            }
            Self::SecondAddress { .. } | Self::FurtherAddress { .. } => {
                "keep at most one IPv4 and one IPv6 address".into()
            }
            Self::AddressTaken { .. } => "give one of the two another address".into(),
            Self::RangeFull { .. } => "use more nodes or fewer pods".into(),
            Self::NodeWithoutAddress => "give it a status.addresses entry of type InternalIP".into(),
            Self::NodeWithoutRange => "give it spec.podCIDRs".into(),
            Self::RangeTaken { .. } => "give every node a range of its own".into(),
            Self::BadRange(_) => "write ADDRESS/LENGTH, for example 10.244.1.0/24".into(),
        }
    }
}
