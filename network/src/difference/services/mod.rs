//! What a change does to Services: frontends and endpoints that come and go, and clients that reach other than before. What a
//! policy alone does to the endpoints of a Service is told of the endpoints, by [`super::connectivity`].

mod clients;
mod offers;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde::Serialize;

use crate::matrix::{ServedPort, Services};
use crate::model::Network;
use crate::name::{NamespacedName, NodeName};
use crate::pod::Pod;
use crate::service::{Claim, Frontend, Service, ServicePort};

use super::ends::Ends;
use clients::Clients;
pub use clients::{ClientsChange, Reach};
pub use offers::EndpointsChange;

/// A Service that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceChange {
    /// `NAMESPACE/NAME`.
    pub service: String,
    /// Where it answers: `10.96.0.1 TCP/80`, `nodes TCP/30080 (IPv4)`.
    pub frontends: GainedLost,
    /// Fields of its `spec` that say something else, and are neither frontends nor endpoints.
    pub settings: Vec<&'static str>,
    /// Ports of which anything differs.
    pub ports: Vec<PortChange>,
}

/// What is there after, or was there before, alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GainedLost {
    /// After.
    pub gained: Vec<String>,
    /// Before.
    pub lost: Vec<String>,
}

/// One port of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortChange {
    /// `TCP/80`.
    pub port: ServedPort,
    /// Nodes that choose among others.
    pub endpoints: Vec<EndpointsChange>,
    /// Who reaches it other than before.
    pub clients: Vec<ClientsChange>,
}

/// What two networks' Services differ in. Policies that change alone are no change of a Service.
pub fn changes(before: &Network, after: &Network) -> Vec<ServiceChange> {
    let are_nodes_same = before.nodes == after.nodes;
    let is_elsewhere = |key: &NamespacedName| placing(before.pods.get(key)) != placing(after.pods.get(key));
    let keys: BTreeSet<&NamespacedName> = before.pods.keys().chain(after.pods.keys()).collect();
    let elsewhere: BTreeSet<&NamespacedName> = keys.into_iter().filter(|key| is_elsewhere(key)).collect();
    if before.services == after.services && are_nodes_same && elsewhere.is_empty() {
        return Vec::new();
    }
    let sides = [Side::of(before), Side::of(after)];
    let ends = [before, after].map(|network| Ends::of(network, network, &BTreeSet::new()));
    let mut clients = Clients::of(&sides, &ends, &elsewhere);
    let keys: BTreeSet<&NamespacedName> = before.services.keys().chain(after.services.keys()).collect();
    let changes = keys.into_iter().filter_map(|key| {
        let is_concerned = !are_nodes_same
            || sides[0].known(key) != sides[1].known(key)
            || clients.reach_otherwise(&sides, key);
        is_concerned.then(|| change(&sides, &mut clients, key))
    });
    changes.filter(|change| !change.is_empty()).collect()
}

/// Where a pod is, as far as Services care.
fn placing(pod: Option<&Pod>) -> Option<(Option<&NodeName>, &[IpAddr], bool, bool)> {
    pod.map(|pod| (pod.node.as_ref(), pod.addresses.as_slice(), pod.host_network, pod.completed))
}

/// One of the two networks.
struct Side<'n> {
    network: &'n Network,
    services: Services<'n>,
    owned: BTreeMap<&'n NamespacedName, BTreeSet<Claim>>,
    /// Who has an address.
    places: HashMap<IpAddr, Place<'n>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place<'n> {
    Pod(&'n NamespacedName),
    Node(&'n NodeName),
}

/// What a Service comes to: itself, what it owns, and who has the addresses of which it knows no more.
type Known<'s, 'n> = (Option<&'s Service>, Option<&'s BTreeSet<Claim>>, Vec<Option<Place<'n>>>);

impl<'n> Side<'n> {
    fn of(network: &'n Network) -> Self {
        let services = Services::of(network);
        let mut owned: BTreeMap<_, BTreeSet<Claim>> = BTreeMap::new();
        for (claim, owner) in services.owners() {
            if let Some((owner, _)) = network.services.get_key_value(owner) {
                owned.entry(owner).or_default().insert(*claim);
            }
        }
        let mut places = HashMap::new();
        for pod in network.pods.values().filter(|pod| pod.is_policed()) {
            for address in &pod.addresses {
                places.entry(*address).or_insert(Place::Pod(&pod.key));
            }
        }
        for node in network.nodes.values() {
            for address in node.addresses.iter().copied().chain(node.gateway_addresses()) {
                places.entry(address).or_insert(Place::Node(&node.name));
            }
        }
        Self { network, services, owned, places }
    }

    fn known(&self, key: &NamespacedName) -> Known<'_, 'n> {
        let service = self.services.get(key);
        let ports = service.into_iter().flat_map(|service| &service.ports);
        let unknown = ports
            .flat_map(|port| &port.endpoints)
            .filter(|endpoint| endpoint.pod.as_ref().is_none_or(|key| !self.network.pods.contains_key(key)));
        let addresses = unknown.flat_map(|endpoint| endpoint.addresses.iter());
        (service, self.owned.get(key), addresses.map(|address| self.places.get(address).copied()).collect())
    }

    fn balanced(&self, key: &NamespacedName) -> Option<&Service> {
        self.services.get(key).filter(|service| service.is_in_data_path())
    }

    fn port(&self, key: &NamespacedName, wanted: ServedPort) -> Option<(&Service, &ServicePort)> {
        let service = self.balanced(key)?;
        let is_it = |port: &&ServicePort| (port.protocol, port.port) == (wanted.protocol, wanted.port);
        Some((service, service.ports.iter().find(is_it)?))
    }

    fn ports(&self, key: &NamespacedName) -> impl Iterator<Item = ServedPort> + '_ {
        let ports = self.balanced(key).into_iter().flat_map(|service| &service.ports);
        ports.map(|port| ServedPort { protocol: port.protocol, port: port.port })
    }

    fn frontends(&self, key: &NamespacedName) -> BTreeSet<String> {
        let has = |ipv4: bool| self.network.nodes.values().any(|node| node.address(ipv4).is_some());
        let text = |(frontend, protocol, port): &Claim| match frontend {
            Frontend::Address(address) => Some(format!("{address} {protocol}/{port}")),
            Frontend::NodePort { ipv4 } => {
                let family = if *ipv4 { "IPv4" } else { "IPv6" };
                has(*ipv4).then(|| format!("nodes {protocol}/{port} ({family})"))
            }
        };
        self.owned.get(key).into_iter().flatten().filter_map(text).collect()
    }
}

impl ServiceChange {
    fn is_empty(&self) -> bool {
        self.frontends == GainedLost::default() && self.settings.is_empty() && self.ports.is_empty()
    }
}

impl GainedLost {
    fn of<T: Ord + ToString>(before: &BTreeSet<T>, after: &BTreeSet<T>) -> Self {
        let only =
            |this: &BTreeSet<T>, other: &BTreeSet<T>| this.difference(other).map(T::to_string).collect();
        Self { gained: only(after, before), lost: only(before, after) }
    }
}

fn change<'n>(sides: &[Side<'n>; 2], clients: &mut Clients<'_, 'n>, key: &NamespacedName) -> ServiceChange {
    let [before, after] = sides;
    let ports: BTreeSet<ServedPort> = before.ports(key).chain(after.ports(key)).collect();
    let mut reached = clients.reached(sides, key, &ports);
    let ports = ports.into_iter().map(|port| PortChange {
        port,
        endpoints: offers::endpoints(sides, key, port),
        clients: reached.remove(&port).unwrap_or_default(),
    });
    ServiceChange {
        service: key.to_string(),
        frontends: GainedLost::of(&before.frontends(key), &after.frontends(key)),
        settings: match (before.balanced(key), after.balanced(key)) {
            (Some(before), Some(after)) => settings(before, after),
            _ => Vec::new(),
        },
        ports: ports.filter(|port| !port.endpoints.is_empty() || !port.clients.is_empty()).collect(),
    }
}

fn settings(before: &Service, after: &Service) -> Vec<&'static str> {
    let all = [
        ("sessionAffinity", before.affinity_seconds != after.affinity_seconds),
        ("loadBalancerSourceRanges", before.source_ranges != after.source_ranges),
        ("internalTrafficPolicy", before.internal_policy != after.internal_policy),
        ("externalTrafficPolicy", before.external_policy != after.external_policy),
        ("healthCheckNodePort", before.health_check_node_port != after.health_check_node_port),
    ];
    all.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}
