//! The endpoints of a Service: what a cluster's EndpointSlice controller finds for a selector, and what becomes of them when pods,
//! slices or the Service change. Works on the network alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::service::ZONE_LABEL;
use network::{
    Backing, Few, NamespacedName, Node, NodeName, Pod, Prefers, Protocol, Service, ServiceEndpoint,
    ServicePort, Target,
};

/// The nodes that endpoints are on, by name.
pub(crate) type Nodes = BTreeMap<NodeName, Node>;

/// The pods that the selector finds for the port at this place, each with its own number of a named port. `pods` are those of
/// the Service's namespace.
pub(crate) fn found<'a>(
    service: &Service,
    at: usize,
    pods: impl Iterator<Item = &'a Pod>,
    nodes: &Nodes,
) -> Vec<ServiceEndpoint> {
    let (Some(backing), Some(port)) = (&service.backing, service.ports.get(at)) else { return Vec::new() };
    let Some(target) = backing.targets.get(at).filter(|_| !backing.selector.is_empty()) else {
        return Vec::new();
    };
    let zone = |name: &NodeName| nodes.get(name)?.labels.get(ZONE_LABEL).cloned();
    let endpoint = |pod: &Pod| {
        let preferred = pod.node.as_ref().filter(|_| backing.prefers != Prefers::Nobody);
        Some(ServiceEndpoint {
            pod: Some(pod.key.clone()),
            node: pod.node.clone(),
            for_zones: preferred.and_then(zone).into_iter().collect(),
            for_nodes: preferred
                .filter(|_| backing.prefers == Prefers::SameNode)
                .cloned()
                .into_iter()
                .collect(),
            ..ServiceEndpoint::new([], number(pod, target, port.protocol)?)
        })
    };
    pods.filter(|pod| selects(backing, pod)).filter_map(endpoint).collect()
}

fn selects(backing: &Backing, pod: &Pod) -> bool {
    !pod.completed && backing.selector.iter().all(|(label, value)| pod.labels.get(label) == Some(value))
}

fn number(pod: &Pod, target: &Target, protocol: Protocol) -> Option<u16> {
    match target {
        Target::Number(number) => Some(*number),
        Target::Name(name) => pod.port_numbers(name, protocol).next(),
    }
}

/// What is different for a Service.
pub(crate) struct Renewal<'a> {
    /// As it was, if it was.
    pub earlier: Option<&'a Service>,
    /// The pods of its namespace, as they are.
    pub pods: &'a BTreeMap<NamespacedName, Pod>,
    /// The nodes, as they are.
    pub nodes: &'a Nodes,
    /// Pods that are new, different or gone.
    pub touched: &'a BTreeSet<NamespacedName>,
}

impl Renewal<'_> {
    /// Gives every port the endpoints that a cluster would. Those of pods that nothing happened to stay as they are; a pod that
    /// serves already stays as ready as it is, another one is taken for ready.
    pub(crate) fn apply(&self, service: &mut Service) {
        let renewed: Vec<Few<ServiceEndpoint>> =
            (0..service.ports.len()).map(|at| self.endpoints(service, at)).collect();
        for (port, endpoints) in service.ports.iter_mut().zip(renewed) {
            port.endpoints = endpoints;
        }
    }

    fn endpoints(&self, service: &Service, at: usize) -> Few<ServiceEndpoint> {
        let (Some(port), Some(backing)) = (service.ports.get(at), &service.backing) else {
            return Few::new();
        };
        let was = self.earlier.and_then(|earlier| {
            let is_it = |it: &ServicePort| (&it.name, it.protocol) == (&port.name, port.protocol);
            Some((earlier, earlier.ports.iter().position(is_it)?))
        });
        let is_same = was.is_some_and(|(earlier, place)| {
            let old = earlier.backing.as_deref();
            old.is_some_and(|old| {
                (&old.selector, old.targets.get(place)) == (&backing.selector, backing.targets.get(at))
            })
        });
        let made: Vec<&ServiceEndpoint> =
            was.map(|(earlier, place)| kept_by_the_cluster(earlier, place)).unwrap_or_default();
        let stays =
            |pod: Option<&NamespacedName>| is_same && pod.is_none_or(|pod| !self.touched.contains(pod));
        let mut all: Vec<ServiceEndpoint> =
            made.iter().filter(|endpoint| stays(endpoint.pod.as_ref())).map(|it| (*it).clone()).collect();
        let pods = of_namespace(self.pods, service.key.namespace());
        for new in found(service, at, pods, self.nodes) {
            if stays(new.pod.as_ref()) {
                continue;
            }
            let mut held: Vec<&ServiceEndpoint> =
                made.iter().copied().filter(|it| it.pod == new.pod).collect();
            if held.is_empty() {
                let others = self.earlier.into_iter().flat_map(|earlier| &earlier.ports);
                held.extend(others.flat_map(|port| &port.endpoints).filter(|it| it.pod == new.pod));
            }
            let hinted = backing.prefers != Prefers::Nobody;
            all.extend(held.iter().map(|held| {
                let from = if hinted { &new } else { held };
                let (for_zones, for_nodes) = (from.for_zones.clone(), from.for_nodes.clone());
                ServiceEndpoint { port: new.port, for_zones, for_nodes, ..(*held).clone() }
            }));
            if held.is_empty() {
                all.push(new);
            }
        }
        let own = backing.slices.values().flatten();
        let name = port.name.as_deref().unwrap_or_default();
        all.extend(own.filter_map(|slice| slice.get(name)).flatten().cloned());
        joined(all)
    }
}

/// The endpoints of a port that no slice of somebody's own lists.
fn kept_by_the_cluster(service: &Service, at: usize) -> Vec<&ServiceEndpoint> {
    let Some(port) = service.ports.get(at) else { return Vec::new() };
    let name = port.name.as_deref().unwrap_or_default();
    let slices = service.backing.iter().flat_map(|backing| backing.slices.values().flatten());
    // A slice of somebody's own may list a pod's address without a word of the pod.
    type What<'e> = (&'e [IpAddr], u16, Option<&'e NamespacedName>);
    fn what(endpoint: &ServiceEndpoint) -> What<'_> {
        (endpoint.addresses.as_slice(), endpoint.port, endpoint.pod.as_ref())
    }
    let own: BTreeSet<What<'_>> = slices.filter_map(|slice| slice.get(name)).flatten().map(what).collect();
    port.endpoints.iter().filter(|endpoint| !own.contains(&what(endpoint))).collect()
}

/// The pods of a namespace.
pub(crate) fn of_namespace<'a>(
    pods: &'a BTreeMap<NamespacedName, Pod>,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Pod> {
    let first = NamespacedName::new(namespace, "");
    pods.range(first..).map(|(_, pod)| pod).take_while(move |pod| pod.key.namespace() == namespace)
}

/// One address and port is one endpoint, whoever lists it; the state that serves most counts.
pub(crate) fn joined(all: Vec<ServiceEndpoint>) -> Few<ServiceEndpoint> {
    let (listed, found): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| !it.addresses.is_empty());
    let mut by_address: BTreeMap<(Few<IpAddr>, u16), ServiceEndpoint> = BTreeMap::new();
    let worth = |endpoint: &ServiceEndpoint| (endpoint.ready, endpoint.serving);
    for endpoint in listed {
        let key = (endpoint.addresses.clone(), endpoint.port);
        match by_address.get(&key) {
            Some(held) if worth(held) >= worth(&endpoint) => {}
            _ => drop(by_address.insert(key, endpoint)),
        }
    }
    by_address.into_values().chain(found).collect()
}
