//! Services as this node balances them: where clients ask, who answers, and how many connections each endpoint was given. Pure:
//! from the view, what the compiler makes of it, and the counters of the switch.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::insight::{ServiceEndpointItem, ServiceItem, ServicePortItem};
use compiler::Translation;
use network::{Service, ServiceEndpoint, ServiceKind, ServicePort};
use openflow::FlowStats;

use super::Parameters;
use crate::node::Snapshot;

/// The Services that are asked for.
pub(super) fn wanted<'a>(
    node: &'a Snapshot,
    parameters: &'a Parameters,
) -> impl Iterator<Item = &'a Service> {
    let in_namespace = |service: &&Service| {
        parameters.namespace.as_ref().is_none_or(|namespace| service.key.namespace == *namespace)
    };
    let named = |service: &&Service| parameters.service.as_deref().is_none_or(|text| names(service, text));
    node.view.services.values().map(|service| &**service).filter(in_namespace).filter(named)
}

fn names(service: &Service, text: &str) -> bool {
    service.key.to_string() == text || service.key.name == text
}

/// How often an endpoint was chosen: by Service port and endpoint.
type Given<'a> = BTreeMap<(&'a network::NamespacedName, network::Protocol, u16, (IpAddr, u16)), u64>;

/// Items of Services, from what the switch counted.
pub(super) fn items<'a>(
    node: &'a Snapshot,
    services: impl Iterator<Item = &'a Service>,
    flows: &[FlowStats],
) -> Vec<ServiceItem> {
    let translations = compiler::translations(node.reasons.recipe().input());
    let counts = counts(flows);
    let mut given: Given<'_> = BTreeMap::new();
    for Translation { service, port, endpoint, marks, .. } in &translations {
        let count = counts.get(marks).copied().unwrap_or(0);
        *given.entry((service, port.0, port.1, *endpoint)).or_default() += count;
    }
    services.map(|service| item(node, service, &given)).collect()
}

/// Packets by what a flow of `EndpointDnat` matches. Only the first packet of a connection comes there.
fn counts(flows: &[FlowStats]) -> BTreeMap<(u32, u32), u64> {
    let exact = |flow: &FlowStats, slot: compiler::register::Slot| {
        u32::try_from(flow.match_.exact(slot.bits.field)?).ok()
    };
    let marks = |flow: &FlowStats| {
        Some((exact(flow, compiler::register::SERVICE)?, exact(flow, compiler::register::ENDPOINT)?))
    };
    flows.iter().filter_map(|flow| Some((marks(flow)?, flow.packet_count))).collect()
}

fn item(node: &Snapshot, service: &Service, given: &Given<'_>) -> ServiceItem {
    ServiceItem {
        node: node.config.node.clone(),
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
        ports: service.ports.iter().map(|port| port_item(service, port, given)).collect(),
    }
}

fn port_item(service: &Service, port: &ServicePort, given: &Given<'_>) -> ServicePortItem {
    let chosen = |endpoint: &ServiceEndpoint| {
        let at = endpoint.addresses.first().map(|address| (*address, endpoint.port))?;
        given.get(&(&service.key, port.protocol, port.port, at)).copied()
    };
    let all: u64 = port.endpoints.iter().filter_map(chosen).sum();
    let item = |endpoint: &ServiceEndpoint| {
        let connections = chosen(endpoint);
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
