//! Who gets which address on this node: the trait, its types, and the built-in allocator. It must not know the switch,
//! the controller or how an address gets into a container.

mod allocator;
mod builtin;
mod disk;
mod journal;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use api::cni::{AttachmentId, Failure, PodAddress, PodIdentity, code};
use futures::future::BoxFuture;
use network::{Cidr, NodeName};
use serde::{Deserialize, Serialize};

pub use builtin::BuiltIn;
pub use disk::{Disk, FileDisk};

/// Somebody who hands out addresses: [`BuiltIn`], which also keeps what delegated CNI IPAM plugins gave, so that nobody gets
/// an address twice. All methods may be called at the same time for different attachments; every one of them is idempotent.
pub trait Ipam: std::fmt::Debug + Send + Sync {
    /// Addresses for an attachment, durable before the future is ready. An attachment that has some already gets the
    /// same again.
    fn allocate(&self, wanted: Wanted, now: SystemTime) -> BoxFuture<'_, Result<Vec<PodAddress>, IpamError>>;

    /// Takes the addresses of an attachment back and says which they were; none when there was nothing.
    fn release<'a>(
        &'a self,
        id: &'a AttachmentId,
        now: SystemTime,
    ) -> BoxFuture<'a, Result<Vec<IpAddr>, IpamError>>;

    /// Everything that is handed out, ordered by attachment.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Allocation>, IpamError>>;

    /// Whether an allocation would succeed now, for CNI STATUS.
    fn status(&self, now: SystemTime) -> BoxFuture<'_, Result<(), IpamError>>;
}

/// What an attachment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Who asks.
    pub id: AttachmentId,
    /// `name` of the network configuration: garbage is collected per network.
    pub network: String,
    /// The pod, where known, so that an error can name the owner of an address.
    pub pod: Option<PodIdentity>,
    /// Addresses asked for, at most one per family; a family that is not named gets any.
    pub addresses: Vec<IpAddr>,
    /// A delegated plugin gave `addresses`: a family that is not named gets none.
    pub exact: bool,
}

/// An attachment and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Who.
    pub id: AttachmentId,
    /// `name` of the network configuration.
    pub network: String,
    /// The pod, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
    /// What.
    pub addresses: Vec<PodAddress>,
}

impl Allocation {
    /// The owner as a person would name it.
    fn owner(&self) -> String {
        match &self.pod {
            Some(pod) => format!("pod {}/{} (container {})", pod.namespace, pod.name, self.id.container_id),
            None => format!("container {} interface {}", self.id.container_id, self.id.interface),
        }
    }
}

/// How full one range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The range.
    pub range: Cidr,
    /// How many addresses it can hand out.
    pub size: u64,
    /// How many are handed out.
    pub allocated: u64,
    /// How many rest: free, but not to be reused yet.
    pub resting: u64,
}

/// Why there is no address. Nothing was handed out, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The node has no pod range at all.
    #[error(
        "node {node} has no pod range: give it one (`spec.podCIDRs` of the Node; --allocate-node-cidrs of the controller \
         manager)"
    )]
    NoRange {
        /// The node.
        node: NodeName,
    },
    /// Every address of a range is taken or rests.
    #[error(
        "no free address in {range} of node {node}: {allocated} of {size} are in use{}; delete pods here, lower the \
         kubelet's maxPods, or delete the Node object and have it made anew with a larger range (podCIDRs of a Node never change)",
        resting_text(*resting, *next_free)
    )]
    Full {
        /// The node.
        node: NodeName,
        /// The range that was tried last.
        range: Cidr,
        /// How many addresses it can hand out.
        size: u64,
        /// How many are handed out.
        allocated: u64,
        /// How many rest after a release.
        resting: u64,
        /// When the first of those may be reused.
        next_free: Option<Duration>,
    },
    /// The address asked for belongs to another attachment.
    #[error("address {address} belongs to {owner}: ask for another, or delete that first")]
    Owned {
        /// The address.
        address: IpAddr,
        /// Who has it.
        owner: String,
    },
    /// The address asked for is none that this node may hand out.
    #[error("address {address} cannot be given on node {node}: {why}")]
    Refused {
        /// The node.
        node: NodeName,
        /// The address.
        address: IpAddr,
        /// Why.
        why: String,
    },
    /// The record of allocations could not be read or written.
    #[error(
        "cannot {action} the address record {path}: {error}; free space or mend the disk, then try again"
    )]
    Storage {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The record is damaged in a place that no crash can have damaged.
    #[error(
        "the address record {path} is damaged in line {line} ({why}): restore it, or move it away and restart every pod \
         of the node"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

fn resting_text(resting: u64, next_free: Option<Duration>) -> String {
    match next_free {
        Some(wait) => format!(
            ", {resting} were freed lately and rest (the first is free in {} s)",
            wait.as_secs_f64().ceil()
        ),
        None => String::new(),
    }
}

impl From<IpamError> for Failure {
    fn from(error: IpamError) -> Self {
        let code = match &error {
            IpamError::NoRange { .. } | IpamError::Full { .. } => code::NO_ADDRESS,
            IpamError::Owned { .. } | IpamError::Refused { .. } => code::ADDRESS_REFUSED,
            IpamError::Storage { .. } => code::IO,
            IpamError::Damaged { .. } => code::DECODE,
        };
        Self { code, msg: error.to_string(), details: String::new() }
    }
}
