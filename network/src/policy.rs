//! Policies, normalised: what a NetworkPolicy or ClusterNetworkPolicy says, with selectors interned as sets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::address::Cidr;
use crate::few::Few;
use crate::protocol::{PortRange, Protocol};
use crate::selector::SetId;

/// The annotation of a policy, and the label of a namespace for all its NetworkPolicies, that with the value `true` asks for
/// an audit log.
pub const AUDIT: &str = "ferrule.io/audit";

/// Whether labels or annotations ask for an audit log.
pub fn asks_for_audit(words: &BTreeMap<String, String>) -> bool {
    words.get(AUDIT).is_some_and(|value| value == "true")
}

/// The kind of object a policy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
}

/// Which object a policy is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyId {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PolicyKind::NetworkPolicy => write!(f, "NetworkPolicy {}/{}", self.namespace, self.name),
            PolicyKind::ClusterNetworkPolicy => write!(f, "ClusterNetworkPolicy {}", self.name),
        }
    }
}

/// When a policy is asked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// ClusterNetworkPolicy of the Admin tier.
    Admin,
    /// NetworkPolicy: allow rules, and isolation where none matches.
    NetworkPolicy,
    /// ClusterNetworkPolicy of the Baseline tier.
    Baseline,
}

/// Ingress is judged where the destination runs, egress where the source runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Towards the subject.
    Ingress,
    /// From the subject.
    Egress,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// The packet passes this and every later tier.
    Accept,
    /// The packet is dropped.
    Deny,
    /// The next tier decides.
    Pass,
}

/// In which directions a policy isolates its subject: what no rule allows there is dropped. Only NetworkPolicy isolates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Isolation {
    /// Towards the subject.
    pub ingress: bool,
    /// From the subject.
    pub egress: bool,
}

impl Isolation {
    /// Whether it isolates in a direction.
    pub fn of(self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// A prefix with holes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IpBlock {
    /// The prefix.
    pub cidr: Cidr,
    /// What is not meant; each inside `cidr`.
    pub except: BTreeSet<Cidr>,
}

impl IpBlock {
    /// A prefix without holes.
    pub fn whole(cidr: Cidr) -> Self {
        Self { cidr, except: BTreeSet::new() }
    }

    /// Whether an address is meant.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|hole| hole.contains(address))
    }
}

/// Who is at the other end. An empty `Some` matches nothing (a rule that could not be understood); `Any` is everybody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peers {
    /// Everybody, in the cluster and outside.
    Any,
    /// Members of any of the sets, and addresses in any of the blocks.
    Some {
        /// Address sets.
        sets: Few<SetId>,
        /// Prefixes.
        blocks: BTreeSet<IpBlock>,
    },
}

/// One entry of a rule's ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PortMatch {
    /// By number.
    Range(PortRange),
    /// By the name that the destination pod declares; destinations that declare none do not match.
    Named {
        /// The protocol.
        protocol: Protocol,
        /// The name.
        name: String,
    },
}

/// Destination ports. An empty `Some` matches nothing; `Any` is every protocol and port, ICMP included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ports {
    /// Everything.
    Any,
    /// Any of these.
    Some(BTreeSet<PortMatch>),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Its place in the object's list for its direction, from 0.
    pub index: u32,
    /// Which list.
    pub direction: Direction,
    /// What it does (always `Accept` in a NetworkPolicy).
    pub action: Action,
    /// The other end.
    pub peers: Peers,
    /// Destination ports.
    pub ports: Ports,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// Which object.
    pub id: PolicyId,
    /// `metadata.generation`, 0 where there is none; tells which version of the object is in force.
    pub generation: u64,
    /// When it is asked.
    pub tier: Tier,
    /// Order inside the tier, smaller first; 0 for NetworkPolicy.
    pub priority: u32,
    /// Whom it is about.
    pub subject: SetId,
    /// Where its subject is isolated.
    pub isolates: Isolation,
    /// What it decides is to be logged: the object's annotation [`AUDIT`] says so.
    pub audit: bool,
    /// The rules, ingress and egress, each direction in the object's order.
    pub rules: Vec<Rule>,
}
