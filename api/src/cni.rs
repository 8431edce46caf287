//! JSON between `ferrule-cni` and the agent: one request and one reply per connection of the agent's CNI socket, each a
//! single JSON document ended by the writer closing its side. Neither side may assume the other's version is its own.

use std::net::IpAddr;

use network::{Cidr, Mac};
use serde::{Deserialize, Serialize};

/// The version of this conversation. An agent answers a request of a newer one with error 1.
pub const PROTOCOL: u32 = 1;

/// What the binary sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// The commands of CNI 1.1 §"CNI operations" that concern the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "UPPERCASE")]
pub enum Command {
    /// Give the attachment addresses, a port and its policy. The veth exists already: `host_interface` in the host, the
    /// other end in the container.
    Add(AddRequest),
    /// Take all of it away. Succeeds when there is nothing.
    Del(AttachmentId),
    /// Compare with what ADD promised.
    Check(AddRequest),
    /// Would an ADD succeed?
    Status,
    /// Free everything of `network` that is not listed.
    Gc {
        /// `name` of the network configuration.
        network: String,
        /// What is still in use.
        valid: Vec<AttachmentId>,
    },
}

/// CNI 1.1: a container may have several attachments, told apart by the interface name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub interface: String,
}

impl AttachmentId {
    /// The name of the host's end of the veth: `fe` and 13 hexadecimal digits of a hash (15 characters are the most
    /// that Linux takes). Both sides compute it, so that DEL works when either has forgotten.
    pub fn host_interface(&self) -> String {
        // FNV-1a, 64 bits: stable over versions and machines, which the standard hasher is not.
        let text = [self.container_id.as_bytes(), &[0], self.interface.as_bytes()].concat();
        let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("fe{:013x}", hash >> 12)
    }
}

/// What is to be taken back: one file per attachment in `tombstones/` of the state directory, JSON, named
/// [`Tombstone::file_name`]. The binary writes it before it begins an ADD or a DEL and keeps it locked (flock(2)); it
/// removes it when nothing is left to do. One that nobody locks belongs to a call that was killed, or to a DEL while the
/// agent was away: the agent carries the deletion out and removes the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// What is to be deleted.
    pub id: AttachmentId,
    /// `name` of the network configuration.
    pub network: String,
    /// The IPAM plugin that has to take addresses back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<Delegate>,
}

/// How a delegated IPAM plugin is called (CNI 1.1 §"Delegated plugins"): all that its DEL needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegate {
    /// `ipam.type`: the plugin's name.
    pub plugin: String,
    /// `CNI_PATH`: the folders where it is looked for.
    pub path: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// What it gets on standard input: the network configuration that we got.
    pub config: serde_json::Value,
}

impl Tombstone {
    /// Where both sides look: a container id may be longer than a file name, the interface's name is not.
    pub fn file_name(id: &AttachmentId) -> String {
        format!("{}.json", id.host_interface())
    }
}

/// Who the pod is (`K8S_POD_*` of `CNI_ARGS`); absent for cnitool and tests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodIdentity {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_UID`; empty where the runtime gives none (containerd before 1.7 gives it too).
    pub uid: String,
}

/// An attachment to make or to check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddRequest {
    /// Which.
    pub id: AttachmentId,
    /// `name` of the network configuration.
    pub network: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// The host's end of the veth.
    pub host_interface: String,
    /// The pod, if the runtime said.
    pub pod: Option<PodIdentity>,
    /// Addresses asked for (runtimeConfig `ips`, `CNI_ARGS` IP); empty: any.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Ethernet address asked for (runtimeConfig `mac`).
    #[serde(default)]
    pub mac: Option<Mac>,
    /// The delegated IPAM plugin that gave `addresses`: then they are all there are.
    #[serde(default)]
    pub ipam: Option<Delegate>,
    /// For ADD: the binary takes [`Reply::Assigned`] before the answer.
    #[serde(default)]
    pub early: bool,
    /// For CHECK: what ADD answered (`prevResult`), as addresses.
    #[serde(default)]
    pub expected: Vec<IpAddr>,
}

/// What the agent sends back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Reply {
    /// ADD goes on: the container's end may be configured so meanwhile. The switch drops what it sends until its policy is
    /// in force. Only for [`AddRequest::early`]; another document follows.
    Assigned(Attachment),
    /// ADD succeeded: the port is in the switch, its flows and policies are confirmed. Configure the container so.
    Added(Attachment),
    /// Any other command succeeded.
    Done,
    /// It failed; nothing was left behind.
    Failed(Failure),
}

/// How to configure the container's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<PodAddress>,
    /// The Ethernet address of every gateway, for permanent neighbour entries.
    pub gateway_mac: Mac,
    /// MTU of the interface and its routes, in bytes.
    pub mtu: u32,
    /// Whether the container may leave transmit checksums to the device (not on the userspace datapath, where TCP stalls).
    pub tx_checksum_offload: bool,
}

/// One address of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddress {
    /// The address.
    pub address: IpAddr,
    /// The gateway of its family: on link, default route.
    pub gateway: IpAddr,
    /// The range it was taken from.
    pub range: Option<Cidr>,
}

/// A CNI error (CNI 1.1 §"Error").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The specification's code, or one of [`code`].
    pub code: u32,
    /// What failed, on what, and the cure.
    pub msg: String,
    /// More of it.
    #[serde(default)]
    pub details: String,
}

/// Error codes: CNI 1.1 §"Error", and ours from 100.
pub mod code {
    /// The protocol or CNI version is not supported.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container does not exist.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// `CNI_*` variables are missing or wrong; the message names them all.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Input or output failed.
    pub const IO: u32 = 5;
    /// A document could not be decoded.
    pub const DECODE: u32 = 6;
    /// The network configuration is wrong.
    pub const INVALID_CONFIG: u32 = 7;
    /// Try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: an ADD would fail.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: an ADD would fail, and existing containers may be cut off.
    pub const NOT_AVAILABLE_LIMITED: u32 = 51;
    /// The agent does not answer at its socket.
    pub const AGENT_UNREACHABLE: u32 = 100;
    /// No free address in the node's range.
    pub const NO_ADDRESS: u32 = 101;
    /// The address asked for is another's, or outside the node's ranges.
    pub const ADDRESS_REFUSED: u32 = 102;
    /// The switch refused or does not answer.
    pub const SWITCH: u32 = 103;
    /// CHECK: reality differs from what ADD answered.
    pub const CHECK_FAILED: u32 = 104;
    /// The delegated IPAM plugin failed with a code of its own, or answered something that is no result.
    pub const IPAM_PLUGIN: u32 = 105;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_and_the_interface_name_fits_linux() {
        let id = AttachmentId { container_id: "c".repeat(64), interface: "eth0".into() };
        assert_eq!(id.host_interface().len(), 15);
        let request = Request { protocol: PROTOCOL, command: Command::Del(id) };
        let text = serde_json::to_string(&request).unwrap();
        assert!(text.starts_with(r#"{"protocol":1,"command":"DEL","container_id""#), "{text}");
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        let status = Request { protocol: PROTOCOL, command: Command::Status };
        assert_eq!(
            serde_json::from_str::<Request>(&serde_json::to_string(&status).unwrap()).unwrap(),
            status
        );
    }
}
