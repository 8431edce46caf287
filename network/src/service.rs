//! A Service: the addresses and ports that clients use, and the endpoints behind them. Which endpoints a node uses is decided
//! here, for everybody who asks: the compiler, the evaluator, the people who look.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::Cidr;
use crate::backing::Backing;
use crate::few::{Few, Seldom};
use crate::model::Network;
use crate::name::{NamespacedName, NodeName};
use crate::node::Node;
use crate::protocol::Protocol;

/// The most endpoints of one port and family that are used: what the switch can choose among (`multipath`).
pub const MOST_ENDPOINTS: usize = 1 << 16;

/// The label of a node that names its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Service {
    /// `namespace/name`.
    pub key: NamespacedName,
    /// When it was made, in seconds since 1970; `None`: nobody says.
    pub created: Option<u64>,
    /// How it is reached.
    pub kind: ServiceKind,
    /// Its cluster addresses, at most one per family. None for a headless one and for a name alone.
    pub cluster_ips: BTreeSet<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: BTreeSet<IpAddr>,
    /// Addresses of its load balancer that the nodes answer themselves (`ipMode: VIP`).
    pub load_balancer_ips: BTreeSet<IpAddr>,
    /// Who may use the load balancer's addresses; empty: everybody.
    pub source_ranges: BTreeSet<Cidr>,
    /// Its ports, in the order of the object.
    pub ports: Vec<ServicePort>,
    /// How long a client keeps its endpoint, in seconds; `None`: no affinity.
    pub affinity_seconds: Option<u32>,
    /// Which endpoints clients in the cluster get.
    pub internal_policy: TrafficPolicy,
    /// Which endpoints clients outside get.
    pub external_policy: TrafficPolicy,
    /// The port on which every node says whether it has an endpoint (`externalTrafficPolicy: Local`).
    pub health_check_node_port: Option<u16>,
    /// What its endpoints come from, where somebody knows; nodes do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<Arc<Backing>>,
}

/// How a Service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServiceKind {
    /// By its cluster addresses.
    #[default]
    ClusterIp,
    /// And by a port of every node.
    NodePort,
    /// And by a load balancer.
    LoadBalancer,
    /// By its endpoints' own addresses (`clusterIP: None`): nothing in the data path.
    Headless,
    /// By another name: nothing in the data path.
    ExternalName,
}

/// Which endpoints are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TrafficPolicy {
    /// Those of the whole cluster.
    #[default]
    Cluster,
    /// Those of the node that the packet is on.
    Local,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// The port's name, where there are several.
    pub name: Option<String>,
    /// The protocol.
    pub protocol: Protocol,
    /// The number at the Service's addresses.
    pub port: u16,
    /// The number at every node.
    pub node_port: Option<u16>,
    /// Who serves it.
    pub endpoints: Few<ServiceEndpoint>,
}

/// One that serves a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceEndpoint {
    /// The pod behind it, where there is one.
    pub pod: Option<NamespacedName>,
    /// Its addresses. The manifests know the pod and not its address; [`Service::resolved`] fills it in.
    pub addresses: Few<IpAddr>,
    /// The number that it listens on.
    pub port: u16,
    /// Where it runs.
    pub node: Option<NodeName>,
    /// It takes new connections.
    pub ready: bool,
    /// It answers, ready or not.
    pub serving: bool,
    /// It is about to end.
    pub terminating: bool,
    /// The zones that should use it (`hints.forZones`).
    pub for_zones: Seldom<String>,
    /// The nodes that should use it (`hints.forNodes`).
    pub for_nodes: Seldom<NodeName>,
}

impl Service {
    /// A Service of type ClusterIP that has nothing yet: neither addresses nor ports.
    pub fn new(key: NamespacedName) -> Self {
        Self {
            key,
            created: None,
            kind: ServiceKind::default(),
            cluster_ips: BTreeSet::new(),
            external_ips: BTreeSet::new(),
            load_balancer_ips: BTreeSet::new(),
            source_ranges: BTreeSet::new(),
            ports: Vec::new(),
            affinity_seconds: None,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            health_check_node_port: None,
            backing: None,
        }
    }

    /// Whether packets are balanced for it at all.
    pub fn is_in_data_path(&self) -> bool {
        !matches!(self.kind, ServiceKind::Headless | ServiceKind::ExternalName)
    }

    /// The addresses that clients outside the cluster use.
    pub fn outside_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.external_ips.union(&self.load_balancer_ips).copied()
    }

    /// Of several that claim something the first in this order has it: the oldest; of those that are equally old, or of which
    /// nobody says how old they are, the smallest key. Who does not say comes after those who do.
    pub fn seniority(&self) -> (u64, &NamespacedName) {
        (self.created.unwrap_or(u64::MAX), &self.key)
    }

    /// What it claims for itself alone, in no order that means something. Its endpoints have no part in it.
    pub fn claims(&self) -> impl Iterator<Item = Claim> + '_ {
        let addresses: BTreeSet<IpAddr> =
            self.cluster_ips.iter().copied().chain(self.outside_addresses()).collect();
        self.ports.iter().filter(|_| self.is_in_data_path()).flat_map(move |port| {
            let at_addresses =
                addresses.iter().map(|address| (Frontend::Address(*address), port.protocol, port.port));
            let at_nodes = port.node_port.into_iter().flat_map(|number| {
                [true, false].map(|ipv4| (Frontend::NodePort { ipv4 }, port.protocol, number))
            });
            at_addresses.chain(at_nodes).collect::<Vec<_>>()
        })
    }

    /// The same Service as nodes need it: with the addresses that its endpoints' pods have now, and without its backing. An
    /// endpoint without any is left out; one whose pod is unknown keeps what the object says.
    pub fn resolved(&self, pods: &Network) -> Self {
        let mut service = Self { backing: None, ..self.clone() };
        for port in &mut service.ports {
            let listed = port.endpoints.iter().filter(|endpoint| !endpoint.addresses.is_empty()).count();
            let mut endpoints: Vec<ServiceEndpoint> = Vec::with_capacity(port.endpoints.len());
            for mut endpoint in std::mem::take(&mut port.endpoints) {
                let pod = endpoint.pod.as_ref().and_then(|key| pods.pods.get(key));
                if let Some(pod) = pod.filter(|_| endpoint.addresses.is_empty()) {
                    let node = pod.node.as_ref().and_then(|name| pods.nodes.get(name));
                    endpoint.addresses = match node.filter(|_| pod.host_network) {
                        Some(node) => node.addresses.iter().copied().collect(),
                        None => pod.addresses.iter().copied().collect(),
                    };
                    endpoint.node.clone_from(&pod.node);
                }
                endpoints.push(endpoint);
            }
            endpoints.retain(|endpoint| !endpoint.addresses.is_empty());
            // Somebody may list an address beside the pod that has it: they are one, and the pod says more.
            if listed > 0 && listed < endpoints.len() {
                let of_pods: BTreeSet<(IpAddr, u16)> = endpoints
                    .iter()
                    .filter(|endpoint| endpoint.pod.is_some())
                    .flat_map(|endpoint| endpoint.addresses.iter().map(|address| (*address, endpoint.port)))
                    .collect();
                endpoints.retain(|endpoint| {
                    let mut places = endpoint.addresses.iter().map(|address| (*address, endpoint.port));
                    endpoint.pod.is_some() || places.all(|place| !of_pods.contains(&place))
                });
            }
            port.endpoints = endpoints.into_iter().collect();
        }
        service
    }
}

impl ServiceEndpoint {
    /// One that is ready, at these addresses, and nowhere in particular.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Self {
        Self {
            pod: None,
            addresses: addresses.into_iter().collect(),
            port,
            node: None,
            ready: true,
            serving: true,
            terminating: false,
            for_zones: Seldom::new(),
            for_nodes: Seldom::new(),
        }
    }

    /// Its address of a family.
    pub fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == ipv4)
    }
}

impl ServicePort {
    /// One without a name, at the Service's addresses alone.
    pub fn new(protocol: Protocol, port: u16, endpoints: impl IntoIterator<Item = ServiceEndpoint>) -> Self {
        Self { name: None, protocol, port, node_port: None, endpoints: endpoints.into_iter().collect() }
    }

    /// The endpoints that a new connection on this node may get, in their order, and at most [`MOST_ENDPOINTS`].
    ///
    /// Ready ones; while there are none, those that serve while they terminate. `Local` looks at this node's only. Else the
    /// hints narrow the choice: this node's where any endpoint is meant for it, this zone's where all are meant for zones and
    /// some for this one (Kubernetes, "Topology Aware Routing", "Traffic distribution").
    pub fn usable(&self, node: &Node, policy: TrafficPolicy, ipv4: bool) -> Vec<&ServiceEndpoint> {
        match policy {
            TrafficPolicy::Local => self.local(&node.name, ipv4),
            TrafficPolicy::Cluster => first(near(self.serving(ipv4, |_| true), node)),
        }
    }

    /// Those that a connection may get which is promised the endpoints of this node alone.
    pub fn local(&self, node: &NodeName, ipv4: bool) -> Vec<&ServiceEndpoint> {
        first(self.serving(ipv4, |endpoint| endpoint.node.as_ref() == Some(node)))
    }

    /// The ready ones among some; while there are none, those that serve while they terminate.
    fn serving(&self, ipv4: bool, among: impl Fn(&ServiceEndpoint) -> bool) -> Vec<&ServiceEndpoint> {
        let candidates: Vec<_> =
            self.endpoints.iter().filter(|e| e.address(ipv4).is_some() && among(e)).collect();
        let ready: Vec<_> = candidates.iter().copied().filter(|endpoint| endpoint.ready).collect();
        if ready.is_empty() {
            candidates.into_iter().filter(|endpoint| endpoint.serving && endpoint.terminating).collect()
        } else {
            ready
        }
    }

    /// Whether anybody in the cluster serves it in a family.
    pub fn is_served(&self, ipv4: bool) -> bool {
        let takes = |endpoint: &ServiceEndpoint| endpoint.ready || (endpoint.serving && endpoint.terminating);
        self.endpoints.iter().any(|endpoint| takes(endpoint) && endpoint.address(ipv4).is_some())
    }

    /// Whether it has more ready endpoints of one family than are used.
    pub fn is_crowded(&self) -> bool {
        let ready = |ipv4| self.endpoints.iter().filter(|e| e.ready && e.address(ipv4).is_some()).count();
        self.endpoints.len() > MOST_ENDPOINTS
            && [true, false].map(ready).iter().any(|count| *count > MOST_ENDPOINTS)
    }
}

/// As many as can be used.
fn first(mut endpoints: Vec<&ServiceEndpoint>) -> Vec<&ServiceEndpoint> {
    endpoints.truncate(MOST_ENDPOINTS);
    endpoints
}

/// What the hints leave of the endpoints; all where they do not lead anywhere.
fn near<'a>(endpoints: Vec<&'a ServiceEndpoint>, node: &Node) -> Vec<&'a ServiceEndpoint> {
    let narrowed = |keep: &dyn Fn(&ServiceEndpoint) -> bool| -> Option<Vec<&'a ServiceEndpoint>> {
        let kept: Vec<_> = endpoints.iter().copied().filter(|endpoint| keep(endpoint)).collect();
        (!kept.is_empty()).then_some(kept)
    };
    if endpoints.iter().all(|endpoint| !endpoint.for_nodes.is_empty())
        && let Some(kept) = narrowed(&|endpoint| endpoint.for_nodes.contains(&node.name))
    {
        return kept;
    }
    if let Some(zone) = node.labels.get(ZONE_LABEL)
        && endpoints.iter().all(|endpoint| !endpoint.for_zones.is_empty())
        && let Some(kept) = narrowed(&|endpoint| endpoint.for_zones.contains(zone))
    {
        return kept;
    }
    endpoints
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Frontend {
    /// An address of the Service's.
    Address(IpAddr),
    /// A port of any node.
    NodePort {
        /// In which family.
        ipv4: bool,
    },
}

impl Frontend {
    /// The family.
    pub fn is_ipv4(self) -> bool {
        match self {
            Self::Address(address) => address.is_ipv4(),
            Self::NodePort { ipv4 } => ipv4,
        }
    }
}

/// A frontend, its protocol and its number: what belongs to one Service only.
pub type Claim = (Frontend, Protocol, u16);

/// A frontend that a Service claims and another owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost<'a> {
    /// Who goes without it.
    pub service: &'a NamespacedName,
    /// What it goes without.
    pub claim: Claim,
    /// Who has it.
    pub owner: &'a NamespacedName,
}

impl Lost<'_> {
    /// What it goes without, for people: `TCP port 80 of 10.96.0.1`, `TCP node port 30080`.
    pub fn what(&self) -> String {
        match self.claim {
            (Frontend::Address(address), protocol, port) => format!("{protocol} port {port} of {address}"),
            (Frontend::NodePort { .. }, protocol, port) => format!("{protocol} node port {port}"),
        }
    }
}

/// Who owns every frontend: of several that claim one the first by [`Service::seniority`]. Also who went without what.
pub fn claims<'a>(
    services: impl Iterator<Item = &'a Service>,
) -> (BTreeMap<Claim, &'a NamespacedName>, Vec<Lost<'a>>) {
    let mut owners: BTreeMap<Claim, &NamespacedName> = BTreeMap::new();
    let mut lost = Vec::new();
    let mut sorted: Vec<_> = services.filter(|service| service.is_in_data_path()).collect();
    sorted.sort_by_key(|service| service.seniority());
    for service in sorted {
        for claim in service.claims() {
            match owners.get(&claim) {
                None => {
                    owners.insert(claim, &service.key);
                }
                Some(owner) if *owner == &service.key => {}
                Some(owner) => lost.push(Lost { service: &service.key, claim, owner }),
            }
        }
    }
    (owners, lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_endpoints_than_can_be_chosen_among_the_first_are_used() {
        let nth =
            |k: u32| ServiceEndpoint { addresses: [IpAddr::from(k.to_be_bytes())].into(), ..endpoint(1) };
        let most = MOST_ENDPOINTS as u32;
        let full = port((0..most).map(nth));
        assert!(!full.is_crowded());
        let crowded = port((0..most + 2).map(nth));
        assert!(crowded.is_crowded());
        let usable = crowded.usable(&node("node-1", None), TrafficPolicy::Cluster, true);
        assert_eq!(usable.len(), MOST_ENDPOINTS);
        assert_eq!(usable.last().map(|endpoint| &endpoint.addresses), Some(&nth(most - 1).addresses));
    }

    fn endpoint(k: u8) -> ServiceEndpoint {
        ServiceEndpoint {
            node: Some(NodeName::new(format!("node-{}", k % 2 + 1))),
            ..ServiceEndpoint::new([IpAddr::from([10, 0, 0, k])], 80)
        }
    }

    fn port(endpoints: impl IntoIterator<Item = ServiceEndpoint>) -> ServicePort {
        ServicePort::new(Protocol::Tcp, 80, endpoints)
    }

    fn node(name: &str, zone: Option<&str>) -> Node {
        Node {
            name: NodeName::new(name),
            labels: zone.map(|zone| (ZONE_LABEL.to_owned(), zone.to_owned())).into_iter().collect(),
            addresses: vec![],
            pod_cidrs: vec![],
            ..Node::default()
        }
    }

    fn used(port: &ServicePort, node: &Node, policy: TrafficPolicy) -> Vec<u8> {
        let last = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let usable = port.usable(node, policy, true);
        usable.into_iter().filter_map(|endpoint| endpoint.address(true)).map(last).collect()
    }

    #[test]
    fn terminating_endpoints_serve_only_when_nothing_is_ready() {
        let ending = |k, serving| ServiceEndpoint { ready: false, serving, terminating: true, ..endpoint(k) };
        let unready = |k| ServiceEndpoint { ready: false, serving: false, ..endpoint(k) };
        let any = node("node-1", None);
        let all = [endpoint(1), ending(2, true), unready(3)];
        assert_eq!(used(&port(all), &any, TrafficPolicy::Cluster), [1]);
        let none_ready = [ending(2, true), ending(4, false), unready(3)];
        assert_eq!(used(&port(none_ready), &any, TrafficPolicy::Cluster), [2]);
        assert_eq!(used(&port([unready(3)]), &any, TrafficPolicy::Cluster), [0u8; 0]);
    }

    #[test]
    fn local_looks_at_this_node_only_and_falls_back_there() {
        let here = node("node-2", None);
        assert_eq!(used(&port([endpoint(1), endpoint(2)]), &here, TrafficPolicy::Local), [1]);
        let ending = ServiceEndpoint { ready: false, terminating: true, ..endpoint(1) };
        assert_eq!(used(&port([ending, endpoint(2)]), &here, TrafficPolicy::Local), [1]);
        assert_eq!(used(&port([endpoint(2)]), &here, TrafficPolicy::Local), [0u8; 0]);
    }

    #[test]
    fn hints_narrow_the_choice_only_when_they_lead_somewhere() {
        let zoned = |k, zone: &str| ServiceEndpoint { for_zones: [zone.to_owned()].into(), ..endpoint(k) };
        let both = port([zoned(1, "a"), zoned(2, "b")]);
        assert_eq!(used(&both, &node("node-1", Some("a")), TrafficPolicy::Cluster), [1]);
        assert_eq!(used(&both, &node("node-1", Some("c")), TrafficPolicy::Cluster), [1, 2]);
        assert_eq!(used(&both, &node("node-1", None), TrafficPolicy::Cluster), [1, 2]);
        let partly = port([zoned(1, "a"), endpoint(2)]);
        assert_eq!(used(&partly, &node("node-1", Some("a")), TrafficPolicy::Cluster), [1, 2]);
        let for_node = |k, name: &str| ServiceEndpoint {
            for_nodes: [NodeName::new(name)].into(),
            for_zones: ["a".to_owned()].into(),
            ..endpoint(k)
        };
        let near = port([for_node(1, "node-1"), for_node(2, "node-2")]);
        assert_eq!(used(&near, &node("node-2", Some("a")), TrafficPolicy::Cluster), [2]);
        assert_eq!(used(&near, &node("node-3", Some("a")), TrafficPolicy::Cluster), [1, 2]);
    }

    #[test]
    fn the_oldest_keeps_what_several_claim_and_of_equals_the_smallest_key() {
        let service = |name: &str, number| Service {
            kind: ServiceKind::NodePort,
            cluster_ips: [IpAddr::from([10, 96, 0, number])].into(),
            external_ips: [IpAddr::from([192, 0, 2, 1])].into(),
            ports: vec![ServicePort { node_port: Some(30_000), ..port([endpoint(number)]) }],
            ..Service::new(NamespacedName::new("shop", name))
        };
        let (b, a) = (service("b", 2), service("a", 1));
        let (owners, lost) = claims([&b, &a].into_iter());
        let node_port = (Frontend::NodePort { ipv4: true }, Protocol::Tcp, 30_000);
        assert_eq!(owners[&node_port], &a.key);
        // Both families of the node port and the external address; each cluster address has one owner.
        assert_eq!(lost.len(), 3);
        assert!(lost.iter().all(|lost| (lost.service, lost.owner) == (&b.key, &a.key)));

        let made = |service: &Service, created| Service { created, ..service.clone() };
        for (b_made, a_made, keeps) in [
            (Some(1), Some(2), &b.key),
            (Some(2), Some(1), &a.key),
            (Some(1), Some(1), &a.key),
            (Some(1), None, &b.key),
            (None, Some(1), &a.key),
        ] {
            let (b, a) = (made(&b, b_made), made(&a, a_made));
            let (owners, lost) = claims([&a, &b].into_iter());
            assert_eq!((owners[&node_port], lost.len()), (keeps, 3), "{b_made:?} {a_made:?}");
        }
    }
}
