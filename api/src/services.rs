//! How a Service is shown: the same for what nodes balance and for what is in no data path.

use std::collections::BTreeSet;

use network::service::Lost;
use network::{NodeName, Service, ServiceEndpoint, ServiceKind, ServicePort};

use crate::insight::{LostItem, ServiceEndpointItem, ServiceItem, ServicePortItem};

/// A Service as a node balances it, or (`None`) as it is for whoever asks its endpoints by themselves. `given` says how many
/// connections an endpoint of a port was given; `None`: it is given none here. `lost` is what it goes without.
pub fn item(
    node: Option<NodeName>,
    service: &Service,
    given: impl Fn(&ServicePort, &ServiceEndpoint) -> Option<u64>,
    lost: &[Lost<'_>],
) -> ServiceItem {
    let lost = lost.iter().filter(|lost| *lost.service == service.key);
    // A node port is lost in both families at once.
    let lost: BTreeSet<LostItem> =
        lost.map(|lost| LostItem { what: lost.what(), owner: lost.owner.clone() }).collect();
    ServiceItem {
        node,
        service: service.key.clone(),
        kind: match service.kind {
            ServiceKind::ClusterIp => "ClusterIP",
            ServiceKind::NodePort => "NodePort",
            ServiceKind::LoadBalancer => "LoadBalancer",
            ServiceKind::Headless => "Headless",
            ServiceKind::ExternalName => "ExternalName",
        }
        .into(),
        cluster_ips: service.cluster_ips.iter().copied().collect(),
        outside_ips: service.outside_addresses().collect(),
        affinity_seconds: service.affinity_seconds,
        ports: service.ports.iter().map(|port| port_item(port, &given)).collect(),
        lost: lost.into_iter().collect(),
    }
}

fn port_item(
    port: &ServicePort,
    given: &impl Fn(&ServicePort, &ServiceEndpoint) -> Option<u64>,
) -> ServicePortItem {
    let all: u64 = port.endpoints.iter().filter_map(|endpoint| given(port, endpoint)).sum();
    let item = |endpoint: &ServiceEndpoint| {
        let connections = given(port, endpoint);
        ServiceEndpointItem {
            address: endpoint.addresses.first().copied(),
            port: endpoint.port,
            pod: endpoint.pod.clone(),
            on: endpoint.node.clone(),
            state: state(endpoint).into(),
            used: connections.is_some(),
            connections: connections.unwrap_or(0),
            share: if all == 0 { 0.0 } else { connections.unwrap_or(0) as f64 / all as f64 },
        }
    };
    ServicePortItem {
        name: port.name.clone(),
        protocol: port.protocol.to_string(),
        port: port.port,
        node_port: port.node_port,
        endpoints: port.endpoints.iter().map(item).collect(),
    }
}

fn state(endpoint: &ServiceEndpoint) -> &'static str {
    match (endpoint.ready, endpoint.serving, endpoint.terminating) {
        (true, ..) => "ready",
        (false, true, true) => "terminating, serving",
        (false, false, true) => "terminating",
        (false, ..) => "not ready",
    }
}
