//! Where everything of a lab is: names of namespaces, directories, sockets, addresses. All of it follows from the state
//! directory, so that a lab can be found and removed even when its record is lost. Touches nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use network::{Cidr, NamespacedName, NodeName};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The state directory when none is named.
pub const DEFAULT_STATE: &str = "/run/ferrule/lab";

/// The port on which the controller of a lab serves agents, in the underlay's namespace.
pub const CONTROLLER_PORT: u16 = 9443;

/// The first of a lab's controllers; most labs have no other.
pub const FIRST_CONTROLLER: u8 = 1;

/// A lab has at most so many controllers.
pub const MAX_CONTROLLERS: u8 = 2;

/// The TCP port that every node of a lab answers on (kubelet's, on real nodes).
pub const NODE_PORT: u16 = 10250;

/// More nodes than this make no sense on one machine, and every range must stay inside its octet.
pub const MAX_NODES: usize = 64;

/// `sun_path` of a unix socket holds 108 bytes (unix(7)); the longest name below the state directory needs 48.
const MAX_STATE_LENGTH: usize = 60;

/// Which address families the pods and nodes of a lab have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 alone.
    #[default]
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both.
    Dual,
}

impl Family {
    /// Whether IPv4 is in it.
    pub fn has_ipv4(self) -> bool {
        self != Self::Ipv6
    }

    /// Whether IPv6 is in it.
    pub fn has_ipv6(self) -> bool {
        self != Self::Ipv4
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "ipv4" => Ok(Self::Ipv4),
            "ipv6" => Ok(Self::Ipv6),
            "dual" => Ok(Self::Dual),
            _ => Err(Error::BadOption(format!("`{text}` is not a family: use ipv4, ipv6 or dual"))),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dual => "dual",
        })
    }
}

/// A node's place in the lab, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeIndex(pub u8);

impl NodeIndex {
    /// `node-1` …, as design §9 names them.
    pub fn name(self) -> NodeName {
        NodeName::new(format!("node-{}", self.0))
    }
}

/// Names and places of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    state: PathBuf,
    id: String,
    octet: u8,
}

impl Layout {
    /// The lab of a state directory (made absolute, so that every command finds the same one).
    pub fn new(state: &Path) -> Result<Self> {
        let state = std::path::absolute(state)
            .map_err(|source| Error::Io { what: format!("find {}", state.display()), source })?;
        let length = state.as_os_str().len();
        if length > MAX_STATE_LENGTH {
            return Err(Error::BadState {
                state,
                why: format!(
                    "its path is {length} bytes long and the names of unix sockets below it would not fit: use one of at \
                     most {MAX_STATE_LENGTH}"
                ),
            });
        }
        let hash = fnv(state.as_os_str().as_encoded_bytes());
        let (id, octet) = if state == Path::new(DEFAULT_STATE) {
            ("lab".to_owned(), 0)
        } else {
            (format!("{:06x}", hash & 0xff_ffff), (hash % 255) as u8 + 1)
        };
        Ok(Self { state, id, octet })
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What tells this lab's namespaces from another's.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The octet that tells its underlay from those of other labs.
    pub fn octet(&self) -> u8 {
        self.octet
    }

    /// What every namespace of this lab begins with.
    pub fn namespace_prefix(&self) -> String {
        format!("ferrule-{}-", self.id)
    }

    /// The namespace of the bridge that joins the nodes, and of the controller.
    pub fn underlay_namespace(&self) -> String {
        format!("ferrule-{}-underlay", self.id)
    }

    /// A node's namespace.
    pub fn node_namespace(&self, node: NodeIndex) -> String {
        format!("ferrule-{}-{}", self.id, node.name())
    }

    /// A pod's namespace. A Kubernetes namespace has no dot in its name, so two pods never share one.
    pub fn pod_namespace(&self, pod: &NamespacedName) -> String {
        format!("ferrule-{}-pod-{}.{}", self.id, pod.namespace(), pod.name())
    }

    /// What the lab remembers.
    pub fn record(&self) -> PathBuf {
        self.state.join("lab.json")
    }

    /// The manifests that were in force when a command last saw all of them.
    pub fn texts_in_force(&self) -> PathBuf {
        self.state.join("in-force.json")
    }

    /// Held while a command changes the lab.
    pub fn lock(&self) -> PathBuf {
        self.state.with_extension("lock")
    }

    /// Logs of every process.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// One file per process: its id and start time.
    pub fn processes(&self) -> PathBuf {
        self.state.join("run")
    }

    /// What responders say about themselves once they listen.
    pub fn ready(&self) -> PathBuf {
        self.state.join("ready")
    }

    /// The Node objects that the lab writes for the controller.
    pub fn node_manifests(&self) -> PathBuf {
        self.state.join("manifests-nodes")
    }

    /// Where the embedded example is written, to be edited.
    pub fn example_manifests(&self) -> PathBuf {
        self.state.join("manifests")
    }

    /// Certificates of the controller.
    pub fn tls(&self) -> PathBuf {
        self.state.join("tls")
    }

    /// Tokens of the nodes, a file each, as the controller reads them.
    pub fn tokens(&self) -> PathBuf {
        self.state.join("tokens")
    }

    /// The HTTP socket of the controller.
    pub fn controller_socket(&self) -> PathBuf {
        self.controller_socket_of(FIRST_CONTROLLER)
    }

    /// The HTTP socket of one of several controllers.
    pub fn controller_socket_of(&self, controller: u8) -> PathBuf {
        self.state.join(format!("{}.sock", controller_name(controller)))
    }

    /// State of the controller.
    pub fn controller_state(&self, controller: u8) -> PathBuf {
        self.state.join(controller_name(controller))
    }

    /// What a controller writes down of what happens to it.
    pub fn recording_of(&self, controller: u8) -> PathBuf {
        self.controller_state(controller).join("recording.jsonl")
    }

    /// Everything of a node.
    pub fn node_directory(&self, node: NodeIndex) -> PathBuf {
        self.state.join(node.name().as_str())
    }

    /// OVS_RUNDIR, OVS_DBDIR and OVS_LOGDIR of a node.
    pub fn ovs_directory(&self, node: NodeIndex) -> PathBuf {
        self.node_directory(node).join("ovs")
    }

    /// Sockets of a node's agent.
    pub fn agent_run_directory(&self, node: NodeIndex) -> PathBuf {
        self.node_directory(node).join("run")
    }

    /// Saved state of a node's agent.
    pub fn agent_state_directory(&self, node: NodeIndex) -> PathBuf {
        self.node_directory(node).join("agent")
    }

    /// The socket that the CNI binary calls.
    pub fn cni_socket(&self, node: NodeIndex) -> PathBuf {
        self.agent_run_directory(node).join("cni.sock")
    }

    /// The HTTP socket of a node's agent.
    pub fn agent_socket(&self, node: NodeIndex) -> PathBuf {
        self.agent_run_directory(node).join("agent.sock")
    }

    /// The token with which a node's agent names itself.
    pub fn token(&self, node: NodeIndex) -> PathBuf {
        self.tokens().join(node.name().as_str())
    }

    /// The CNI configuration of a node.
    pub fn cni_configuration(&self, node: NodeIndex) -> PathBuf {
        self.node_directory(node).join("10-ferrule.conflist")
    }

    /// A node's addresses on the underlay.
    pub fn node_addresses(&self, node: NodeIndex, family: Family) -> Vec<IpAddr> {
        self.underlay_addresses(node.0, family)
    }

    /// The underlay's own addresses: the nodes' way out, and where the controller listens.
    pub fn gateway_addresses(&self, family: Family) -> Vec<IpAddr> {
        self.underlay_addresses(254, family)
    }

    fn underlay_addresses(&self, host: u8, family: Family) -> Vec<IpAddr> {
        let v4 = IpAddr::V4(Ipv4Addr::new(172, 30, self.octet, host));
        let v6 = IpAddr::V6(Ipv6Addr::new(
            0xfd00,
            0x0172,
            0x0030,
            u16::from(self.octet),
            0,
            0,
            0,
            u16::from(host),
        ));
        of_family(family, v4, v6)
    }

    /// Where agents find the controller.
    pub fn controller_address(&self, family: Family) -> std::net::SocketAddr {
        self.controller_address_of(FIRST_CONTROLLER, family)
    }

    /// Where agents find one of several controllers.
    pub fn controller_address_of(&self, controller: u8, family: Family) -> std::net::SocketAddr {
        let address = self.gateway_addresses(family).first().copied();
        let port = CONTROLLER_PORT + u16::from(controller) - 1;
        // A family always has at least one address.
        std::net::SocketAddr::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)
    }
}

/// What a controller's process, socket and state are called; counted from [`FIRST_CONTROLLER`].
pub fn controller_name(controller: u8) -> String {
    if controller == FIRST_CONTROLLER { "controller".to_owned() } else { format!("controller-{controller}") }
}

/// The pod ranges of a node (design §9).
pub fn pod_cidrs(node: NodeIndex, family: Family) -> Vec<Cidr> {
    let v4 = Cidr::new(IpAddr::V4(Ipv4Addr::new(10, 244, node.0, 0)), 24);
    // "fd00:10:244:k::/64" is written with the decimal digits of k, as people write such ranges.
    let k = u16::from_str_radix(&node.0.to_string(), 16).unwrap_or(u16::from(node.0));
    let v6 = Cidr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0010, 0x0244, k, 0, 0, 0, 0)), 64);
    of_family(family, v4, v6).into_iter().flatten().collect()
}

/// Length of an underlay prefix, in bits.
pub fn underlay_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

fn of_family<T>(family: Family, v4: T, v6: T) -> Vec<T> {
    match family {
        Family::Ipv4 => vec![v4],
        Family::Ipv6 => vec![v6],
        Family::Dual => vec![v4, v6],
    }
}

/// FNV-1a, 64 bits: the same on every run, which the standard hasher is not.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_of_two_directories_share_no_name_and_the_default_has_a_plain_one() {
        let default = Layout::new(Path::new(DEFAULT_STATE)).unwrap();
        let other = Layout::new(Path::new("/tmp/other")).unwrap();
        assert_eq!(default.node_namespace(NodeIndex(1)), "ferrule-lab-node-1");
        assert_ne!(default.namespace_prefix(), other.namespace_prefix());
        assert_eq!(
            default.pod_namespace(&NamespacedName::new("shop", "cart-0")),
            "ferrule-lab-pod-shop.cart-0"
        );
    }

    #[test]
    fn ranges_and_addresses_follow_the_node_and_the_family() {
        let layout = Layout::new(Path::new(DEFAULT_STATE)).unwrap();
        let show = |family| {
            let addresses = layout.node_addresses(NodeIndex(2), family);
            format!("{addresses:?} {:?}", pod_cidrs(NodeIndex(12), family))
        };
        assert_eq!(show(Family::Ipv4), "[172.30.0.2] [10.244.12.0/24]");
        assert_eq!(show(Family::Dual), "[172.30.0.2, fd00:172:30::2] [10.244.12.0/24, fd00:10:244:12::/64]");
        assert_eq!(layout.controller_address(Family::Ipv6).to_string(), "[fd00:172:30::fe]:9443");
    }

    #[test]
    fn a_state_directory_whose_sockets_would_not_fit_is_refused() {
        let long = format!("/tmp/{}", "x".repeat(80));
        let error = Layout::new(Path::new(&long)).unwrap_err().to_string();
        assert!(error.contains("unix sockets"), "{error}");
    }
}
