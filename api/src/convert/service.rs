//! A Service on the wire and back.

use std::num::NonZero;

use network::{NodeName, Service, ServiceEndpoint, ServiceKind, ServicePort, TrafficPolicy};

use super::{
    Fault, all, decode_address, decode_port, decode_prefix, decode_protocol, encode_address, encode_prefix,
    namespaced_name, unknown,
};
use crate::generated::ferrule::v1alpha1 as wire;

/// The wire form of a Service. One that nothing is balanced for is never sent; it would be read as a cluster's own.
pub fn encode_service(service: &Service) -> wire::resource::Body {
    let addresses = |addresses: &std::collections::BTreeSet<std::net::IpAddr>| {
        addresses.iter().copied().map(encode_address).collect()
    };
    let kind = match service.kind {
        ServiceKind::NodePort => wire::ServiceKind::NodePort,
        ServiceKind::LoadBalancer => wire::ServiceKind::LoadBalancer,
        ServiceKind::ClusterIp | ServiceKind::Headless | ServiceKind::ExternalName => {
            wire::ServiceKind::ClusterIp
        }
    };
    wire::resource::Body::Service(wire::Service {
        namespace: service.key.namespace().to_owned(),
        name: service.key.name().to_owned(),
        kind: kind.into(),
        cluster_ips: addresses(&service.cluster_ips),
        external_ips: addresses(&service.external_ips),
        load_balancer_ips: addresses(&service.load_balancer_ips),
        source_ranges: service.source_ranges.iter().map(encode_prefix).collect(),
        ports: service.ports.iter().map(encode_port).collect(),
        affinity_seconds: service.affinity_seconds.unwrap_or(0),
        internal_policy: encode_policy(service.internal_policy).into(),
        external_policy: encode_policy(service.external_policy).into(),
        health_check_node_port: service.health_check_node_port.unwrap_or(0).into(),
        created: service.created.map_or(0, |seconds| seconds.saturating_add(1)),
    })
}

fn encode_policy(policy: TrafficPolicy) -> wire::TrafficPolicy {
    match policy {
        TrafficPolicy::Cluster => wire::TrafficPolicy::Cluster,
        TrafficPolicy::Local => wire::TrafficPolicy::Local,
    }
}

fn encode_port(port: &ServicePort) -> wire::ServicePort {
    wire::ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.number().into(),
        port: port.port.into(),
        node_port: port.node_port.unwrap_or(0).into(),
        endpoints: port.endpoints.iter().map(encode_endpoint).collect(),
    }
}

fn encode_endpoint(endpoint: &ServiceEndpoint) -> wire::ServiceEndpoint {
    wire::ServiceEndpoint {
        pod: endpoint.pod.as_ref().map(ToString::to_string).unwrap_or_default(),
        addresses: endpoint.addresses.iter().copied().map(encode_address).collect(),
        port: endpoint.port.into(),
        node: endpoint.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        for_zones: endpoint.for_zones.iter().cloned().collect(),
        for_nodes: endpoint.for_nodes.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn decode_service(service: &wire::Service) -> Result<Service, Fault> {
    let kind = match wire::ServiceKind::try_from(service.kind) {
        Ok(wire::ServiceKind::ClusterIp) => ServiceKind::ClusterIp,
        Ok(wire::ServiceKind::NodePort) => ServiceKind::NodePort,
        Ok(wire::ServiceKind::LoadBalancer) => ServiceKind::LoadBalancer,
        Ok(wire::ServiceKind::Unspecified) | Err(_) => return Err(unknown("kind", service.kind)),
    };
    let policy = |field, value| match wire::TrafficPolicy::try_from(value) {
        Ok(wire::TrafficPolicy::Cluster) => Ok(TrafficPolicy::Cluster),
        Ok(wire::TrafficPolicy::Local) => Ok(TrafficPolicy::Local),
        Ok(wire::TrafficPolicy::Unspecified) | Err(_) => Err(unknown(field, value)),
    };
    let name = format!("{}/{}", service.namespace, service.name);
    Ok(Service {
        key: namespaced_name(&name)?,
        created: service.created.checked_sub(1),
        kind,
        cluster_ips: all("cluster_ips", &service.cluster_ips, |address| decode_address(address))?,
        external_ips: all("external_ips", &service.external_ips, |address| decode_address(address))?,
        load_balancer_ips: all("load_balancer_ips", &service.load_balancer_ips, |a| decode_address(a))?,
        source_ranges: all("source_ranges", &service.source_ranges, decode_prefix)?,
        ports: all("ports", &service.ports, decode_service_port)?,
        affinity_seconds: NonZero::new(service.affinity_seconds).map(NonZero::get),
        internal_policy: policy("internal_policy", service.internal_policy)?,
        external_policy: policy("external_policy", service.external_policy)?,
        health_check_node_port: optional("health_check_node_port", service.health_check_node_port)?,
        backing: None,
    })
}

/// A port that may be absent, which is 0 on the wire.
fn optional(field: &str, number: u32) -> Result<Option<u16>, Fault> {
    Ok(NonZero::new(decode_port(field, number)?).map(NonZero::get))
}

fn present(field: &str, number: u32) -> Result<u16, Fault> {
    optional(field, number)?.ok_or_else(|| Fault::new(field, "0 is no port"))
}

fn decode_service_port(port: &wire::ServicePort) -> Result<ServicePort, Fault> {
    Ok(ServicePort {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        protocol: decode_protocol(port.protocol)?,
        port: present("port", port.port)?,
        node_port: optional("node_port", port.node_port)?,
        endpoints: all("endpoints", &port.endpoints, decode_endpoint)?,
    })
}

fn decode_endpoint(endpoint: &wire::ServiceEndpoint) -> Result<ServiceEndpoint, Fault> {
    let pod = (!endpoint.pod.is_empty()).then(|| namespaced_name(&endpoint.pod)).transpose();
    Ok(ServiceEndpoint {
        pod: pod.map_err(|fault| fault.under("pod"))?,
        addresses: all("addresses", &endpoint.addresses, |address| decode_address(address))?,
        port: present("port", endpoint.port)?,
        node: (!endpoint.node.is_empty()).then(|| NodeName::new(endpoint.node.clone())),
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        for_zones: endpoint.for_zones.iter().cloned().collect(),
        for_nodes: endpoint.for_nodes.iter().map(|name| NodeName::new(name.clone())).collect(),
    })
}
