//! HTTP/JSON that the CLI reads: `GET /v1alpha1/<resource>` of a controller, or of an agent's own socket for its node.
//! Every answer is a [`List`]; errors are an [`Error`] with an HTTP status that fits.
//!
//! | path | query | items | who answers |
//! |---|---|---|---|
//! | `/v1alpha1/nodes` | | [`NodeItem`] | controller |
//! | `/v1alpha1/switches` | `node` | [`SwitchItem`] | agents, relayed |
//! | `/v1alpha1/ports` | `node` | [`PortItem`] | agents, relayed |
//! | `/v1alpha1/pods` | `node`, `namespace` | [`PodItem`] | controller |
//! | `/v1alpha1/policies` | `node`, `namespace`, `rules` | [`PolicyItem`] | controller; with `rules=true` what agents count |
//! | `/v1alpha1/tunnels` | `node` | [`TunnelItem`] | agents, relayed |
//! | `/v1alpha1/services` | `node`, `namespace`, `service` | [`ServiceItem`] | agents, relayed; headless ones the controller |
//! | `/v1alpha1/flows` | `node`, `pod`, `policy`, `service`, `table` | [`FlowItem`] | agents, relayed |
//! | `/v1alpha1/drops` | `node`, `pod` | [`DropItem`] | agents, relayed |
//! | `/v1alpha1/rules` | `node`, `policy` | [`RuleItem`] | agents, relayed |
//! | `/v1alpha1/costs` | `node`, `policy` | [`CostItem`] | agents, relayed |
//! | `/v1alpha1/network` | | [`NetworkItem`], one | controller |
//! | `/v1alpha1/audit` | `node` | [`AuditItem`] | agents, relayed |
//! | `POST /v1alpha1/repair` | `node` | [`AuditItem`]; puts right what it names; over unix sockets only | agents, relayed |
//! | `/v1alpha1/trace` | `node`, `flow` | [`TraceItem`] | agents, relayed |
//! | `POST /v1alpha1/probe` | `node`, `source`, `destination`, `protocol`, `sourcePort`, `port`, `length` | [`ProbeItem`]; over unix sockets only | agents, relayed |
//! | `/v1alpha1/problems` | | [`ProblemItem`] | controller |
//! | `/v1alpha1/manifests` | | [`ManifestItem`] | controller |
//!
//! An agent answers switches, ports, tunnels, services, flows, drops, rules and costs for itself. `/healthz` and `/metrics` exist on both.

use std::collections::BTreeMap;
use std::net::IpAddr;

use network::{
    Cidr, Direction, Labels, Mac, NamespacedName, Network, Node, NodeName, Pod, Policy, Selector, Service,
    SetId,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use crate::audit::{AuditItem, Difference};
pub use crate::trace::{ProbeItem, TraceItem, TraceStep};

/// The `apiVersion` of everything here.
pub const API_VERSION: &str = "ferrule.io/v1alpha1";

/// A list of items; `kind` is the item's kind with `List` behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// [`API_VERSION`].
    pub api_version: String,
    /// For example `FlowList`.
    pub kind: String,
    /// The items, ordered.
    pub items: Vec<T>,
    /// What could not be asked: for example an agent that is away. The items are then incomplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Something that has a place in a [`List`].
pub trait Item {
    /// `Node`, `Flow`, …
    const KIND: &'static str;
}

impl<T: Item> List<T> {
    /// A list of these items.
    pub fn new(items: Vec<T>) -> Self {
        Self {
            api_version: API_VERSION.into(),
            kind: format!("{}List", T::KIND),
            items,
            warnings: Vec::new(),
        }
    }
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Error {
    /// What failed, on what object, what to do.
    pub error: String,
}

/// A node as the controller knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeItem {
    /// Its name.
    pub name: NodeName,
    /// Underlay addresses.
    pub addresses: Vec<IpAddr>,
    /// Pod ranges.
    pub pod_cidrs: Vec<Cidr>,
    /// Pods on it that the network serves.
    pub pods: usize,
    /// Whether its agent is connected.
    pub connected: bool,
    /// The agent's version, empty when it never connected.
    pub agent_version: String,
    /// Deltas sent and not yet answered.
    pub pending: usize,
    /// Whether everything sent was acknowledged without a rejection.
    pub realized: bool,
}

/// A bridge that an agent owns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchItem {
    /// Where.
    pub node: NodeName,
    /// `br-int`.
    pub bridge: String,
    /// `netdev` or `system`.
    pub datapath_type: String,
    /// `secure`, or something is wrong.
    pub fail_mode: String,
    /// Version of Open vSwitch.
    pub ovs_version: String,
    /// Its ports.
    pub ports: usize,
    /// Flows in it.
    pub flows: usize,
    /// Flows that the agent sent since it started: adds, changes and deletions.
    pub flow_mods_sent: u64,
    /// Whether the switch is connected and holds what it should.
    pub in_sync: bool,
    /// The longest packet that pods may send, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_mtu: Option<u32>,
}

/// What a port of the switch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortRole {
    /// A pod's veth.
    Pod,
    /// The node's own way in.
    Gateway,
    /// Geneve to the other nodes.
    Tunnel,
    /// An attachment without a pod's name (cnitool).
    Attachment,
}

/// A logical port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortItem {
    /// Where.
    pub node: NodeName,
    /// Name of the interface.
    pub interface: String,
    /// OpenFlow port number; absent while the switch has not given one.
    pub ofport: Option<u32>,
    /// What it is for.
    pub role: PortRole,
    /// Whose it is.
    pub pod: Option<NamespacedName>,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// The error that Open vSwitch reports for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A pod as the controller knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodItem {
    /// `namespace/name`.
    pub pod: NamespacedName,
    /// UID.
    pub uid: String,
    /// Where it runs.
    pub node: Option<NodeName>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// It lives in its node's namespace.
    pub host_network: bool,
    /// Policies that isolate it towards itself.
    pub ingress_policies: Vec<String>,
    /// Policies that isolate it from itself.
    pub egress_policies: Vec<String>,
}

/// A policy as the controller knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyItem {
    /// `NetworkPolicy shop/cart`.
    pub policy: String,
    /// Version of the object.
    pub generation: u64,
    /// `admin`, `networkpolicy`, `baseline`.
    pub tier: String,
    /// Ingress rules.
    pub ingress_rules: usize,
    /// Egress rules.
    pub egress_rules: usize,
    /// Pods it selects.
    pub pods: usize,
    /// Nodes that need it.
    pub nodes: Vec<NodeName>,
    /// Those of them where it is in force.
    pub realized: Vec<NodeName>,
    /// What its rules met, summed over the nodes; empty unless it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PolicyRule>,
    /// Why not, node by node, and what of it was not understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// What one rule of a policy, or its default deny, met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// `ingress[0]`, `egress default-deny`.
    pub rule: String,
    /// Packets that were let pass or dropped for it: of a connection that was let pass, those of its original direction.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flows that it takes.
    pub flows: u64,
    /// Other rules share a part of these flows, and the counters with them.
    pub shared: bool,
    /// Where it is realized, and which generation of the policy.
    pub nodes: BTreeMap<NodeName, u64>,
}

/// What a rule met on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleItem {
    /// Where.
    pub node: NodeName,
    /// `NetworkPolicy shop/cart`.
    pub policy: String,
    /// Version of the object that is in force here.
    pub generation: u64,
    /// `ingress[0]`, `egress default-deny`.
    pub rule: String,
    /// Packets; see [`PolicyRule::packets`].
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flows that it takes here.
    pub flows: u64,
    /// Other rules share a part of these flows.
    pub shared: bool,
}

/// What a policy costs a node in flows: counted from what it names, before any is made. Upper bounds: addresses that two
/// sets or blocks share are counted in both. What isolates is not counted: one flow for an address and direction, and two
/// against TCP in mid-stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CostItem {
    /// Where.
    pub node: NodeName,
    /// `NetworkPolicy shop/cart`.
    pub policy: String,
    /// Flows if it were the only policy.
    pub alone: usize,
    /// Flows beside the policies that are cheaper, which share parts with it.
    pub adds: usize,
    /// Flows that the policies of the node may take together.
    pub budget: usize,
    /// Whether it is within that; one that is not is refused and closed.
    pub fits: bool,
    /// Its rules.
    pub rules: Vec<RuleCost>,
}

/// What a rule costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleCost {
    /// `ingress[0]`.
    pub rule: String,
    /// Flows if it were the only rule.
    pub flows: usize,
}

impl RuleCost {
    /// Of a rule by its place.
    pub fn new(direction: Direction, index: u32, flows: usize) -> Self {
        let list = match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        Self { rule: format!("{list}[{index}]"), flows }
    }
}

/// A reason for which a node dropped packets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropItem {
    /// Where.
    pub node: NodeName,
    /// The class: `default-deny`, `policy-rule`, `spoof-guard`, `invalid-connection`, `blocked-connection`, `mid-stream`,
    /// `no-route`, `unknown-port`, `neighbour`, `not-ip`.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Table name.
    pub table: String,
    /// Everything that made the flow: for `default-deny` the policies that isolate the pod.
    pub owners: Vec<Owner>,
    /// One sentence.
    pub what: String,
    /// The last packets that the switch told of, at most five different ones, the newest first: a sample.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<SightingItem>,
}

/// A packet that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SightingItem {
    /// When (RFC 3339).
    pub time: String,
    /// Who spoke to whom.
    #[serde(flatten)]
    pub tuple: TupleItem,
}

/// Who spoke to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TupleItem {
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`, `ARP`; a number, or an Ethernet type, where there is no name.
    pub protocol: String,
    /// Who sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Port of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// Port of the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Type of ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// Code of ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
}

impl std::fmt::Display for TupleItem {
    /// `TCP 10.244.1.5:4242 > 10.244.2.7:80`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = |address: Option<IpAddr>, port: Option<u16>| match (address, port) {
            (None, _) => "?".to_owned(),
            (Some(address), None) => address.to_string(),
            (Some(address), Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
        };
        f.write_str(&self.protocol)?;
        if let (Some(kind), Some(code)) = (self.icmp_type, self.icmp_code) {
            write!(f, " {kind}/{code}")?;
        }
        if self.source.is_some() || self.destination.is_some() {
            let (from, to) =
                (end(self.source, self.source_port), end(self.destination, self.destination_port));
            write!(f, " {from} > {to}")?;
        }
        Ok(())
    }
}

/// The tunnel from one node to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelItem {
    /// From.
    pub node: NodeName,
    /// To.
    pub remote: NodeName,
    /// Outer source.
    pub local_address: Option<IpAddr>,
    /// Outer destination.
    pub remote_address: Option<IpAddr>,
    /// Pod ranges behind it.
    pub remote_pod_cidrs: Vec<Cidr>,
    /// MTU for packets inside, in bytes.
    pub mtu: u32,
    /// Packets sent into it, by the flows that route there.
    pub packets: u64,
}

/// What made a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// `Pipeline`, `Pod`, `Node`, `NetworkPolicy`, …
    pub kind: String,
    /// Its name: `namespace/name` where it has a namespace.
    pub name: String,
    /// `ingress[0]`, `default-deny`, …; empty where there is nothing to add.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
}

/// A Service as a node balances it; or one that is in no data path: headless, or a name alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceItem {
    /// Where; absent: nothing of it is in any data path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// `namespace/name`.
    pub service: NamespacedName,
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `Headless`, `ExternalName`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Addresses for clients in the cluster.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses for clients outside: `externalIPs` and the load balancer's.
    pub outside_ips: Vec<IpAddr>,
    /// How long a client keeps its endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u32>,
    /// Its ports.
    pub ports: Vec<ServicePortItem>,
    /// What it asks for and goes without: an older Service has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostItem>,
}

/// What a Service goes without.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LostItem {
    /// `TCP port 80 of 10.96.0.1`, `TCP node port 30080`.
    pub what: String,
    /// Who has it.
    pub owner: NamespacedName,
}

/// A port of a [`ServiceItem`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortItem {
    /// Its name, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// At the Service's addresses.
    pub port: u16,
    /// At every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// Who serves it.
    pub endpoints: Vec<ServiceEndpointItem>,
}

/// One that serves a [`ServicePortItem`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEndpointItem {
    /// Its address.
    pub address: Option<IpAddr>,
    /// Where it listens.
    pub port: u16,
    /// The pod behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<NamespacedName>,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<NodeName>,
    /// `ready`, `not ready`, `terminating, serving`, `terminating`.
    pub state: String,
    /// Clients of this node may get it.
    pub used: bool,
    /// Connections that clients of this node were given to it, since its flow stands: their first packets.
    pub connections: u64,
    /// Its part of the connections of the port, from 0 to 1.
    pub share: f64,
}

/// One OpenFlow entry with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowItem {
    /// Where.
    pub node: NodeName,
    /// Table number.
    pub table_id: u8,
    /// Table name.
    pub table: String,
    /// Priority.
    pub priority: u16,
    /// Cookie, hexadecimal.
    pub cookie: String,
    /// Match in ovs-ofctl's syntax.
    pub r#match: String,
    /// Actions in ovs-ofctl's syntax.
    pub actions: String,
    /// Packets that met it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Everything that made it; several own a merged flow, then the counters are shared.
    pub owners: Vec<Owner>,
    /// One sentence: what it does.
    pub what: String,
}

/// Something that the controller read and could not use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemItem {
    /// Which object.
    pub object: String,
    /// Where it came from: file and line.
    pub source: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// A file of manifests as the controller holds it: whoever has edited one can see whether the edit has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestItem {
    /// Its path.
    pub file: String,
    /// SHA-256 of the text that is used, in hexadecimal digits. It is an older one while the present one cannot be read.
    pub sha256: String,
}

/// The whole logical network, as the controller believes it: what explanations are made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkItem {
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods, those without an address too.
    pub pods: Vec<Pod>,
    /// Policies.
    pub policies: Vec<Policy>,
    /// Services.
    pub services: Vec<Service>,
    /// What the sets that policies name select.
    pub selectors: BTreeMap<SetId, Selector>,
}

impl From<Network> for NetworkItem {
    fn from(network: Network) -> Self {
        Self {
            nodes: network.nodes.into_values().collect(),
            namespaces: network.namespaces,
            pods: network.pods.into_values().collect(),
            policies: network.policies.into_values().collect(),
            services: network.services.into_values().collect(),
            selectors: network.selectors,
        }
    }
}

impl From<NetworkItem> for Network {
    fn from(item: NetworkItem) -> Self {
        Self {
            nodes: item.nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
            namespaces: item.namespaces,
            pods: item.pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
            policies: item.policies.into_iter().map(|policy| (policy.id.clone(), policy)).collect(),
            services: item.services.into_iter().map(|service| (service.key.clone(), service)).collect(),
            selectors: item.selectors,
        }
    }
}

/// [`ManifestItem::sha256`] of a text.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

macro_rules! kinds {
    ($($item:ty => $kind:literal),* $(,)?) => { $(impl Item for $item { const KIND: &'static str = $kind; })* };
}

kinds! {
    NodeItem => "Node", SwitchItem => "Switch", PortItem => "Port", PodItem => "Pod", PolicyItem => "Policy",
    TunnelItem => "Tunnel", FlowItem => "Flow", DropItem => "Drop", RuleItem => "Rule", ServiceItem => "Service", CostItem => "Cost", ProblemItem => "Problem", ManifestItem => "Manifest",
    NetworkItem => "Network", AuditItem => "Audit", TraceItem => "Trace", ProbeItem => "Probe",
}
