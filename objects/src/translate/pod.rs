//! Pod objects into pods.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use network::{NamedPort, NamespacedName, NodeName, Pod, Protocol};
use sha2::{Digest, Sha256};

use crate::problem::{Fault, ObjectRef, Problem, RuleFault, Source};
use crate::syntax::is_port_name;

/// One pod as the network sees it. Its addresses are those of its status, at most one per family.
pub fn pod(object: &core::Pod) -> (Pod, Vec<Problem>) {
    pod_at(object, None)
}

pub(crate) fn pod_at(object: &core::Pod, source: Option<&Source>) -> (Pod, Vec<Problem>) {
    let metadata = &object.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let key = NamespacedName::new(metadata.namespace.clone().unwrap_or_else(|| "default".into()), name);
    let mut problems = Vec::new();
    let mut report = |field: String, fault| {
        let object = Some(ObjectRef::namespaced("Pod", key.namespace(), key.name()));
        problems.push(Problem { object, source: source.cloned(), field: Some(field), fault });
    };
    let spec = object.spec.as_ref();
    let ports = spec.map(|spec| declared_ports(spec, &mut report)).unwrap_or_default();
    let addresses = status_addresses(object, &mut report);
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
    let pod = Pod {
        uid: uid(object, &key),
        node: spec.and_then(|spec| spec.node_name.as_deref()).filter(|n| !n.is_empty()).map(NodeName::new),
        labels: metadata.labels.clone().unwrap_or_default().into(),
        addresses,
        host_network: spec.and_then(|spec| spec.host_network) == Some(true),
        completed: matches!(phase, Some("Succeeded" | "Failed")),
        ports,
        key,
    };
    (pod, problems)
}

/// The UID that the runtime knows the pod by: a static pod's is in its mirror's annotations. A pod that never met an API
/// server gets one that depends on its name alone.
fn uid(object: &core::Pod, key: &NamespacedName) -> String {
    let annotations = object.metadata.annotations.as_ref();
    let annotation = |name: &str| annotations.and_then(|all| all.get(name)).filter(|value| !value.is_empty());
    if annotation("kubernetes.io/config.mirror").is_some()
        && let Some(hash) = annotation("kubernetes.io/config.hash")
    {
        return hash.clone();
    }
    if let Some(uid) = object.metadata.uid.as_ref().filter(|uid| !uid.is_empty()) {
        return uid.clone();
    }
    let digest = Sha256::digest(format!("Pod {key}"));
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The ports of containers and of sidecars (init containers that are restarted always), as upstream's `FindPort` sees
/// them.
fn declared_ports(spec: &core::PodSpec, report: &mut impl FnMut(String, Fault)) -> Vec<NamedPort> {
    let containers = spec.containers.iter().enumerate().map(|(i, c)| (format!("spec.containers[{i}]"), c));
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, c)| c.restart_policy.as_deref() == Some("Always"))
        .map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
    let mut ports = Vec::new();
    for (path, container) in containers.chain(sidecars) {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            match declared_port(port) {
                Ok(port) if !ports.contains(&port) => ports.push(port),
                Ok(_) => {}
                Err((field, reason)) => {
                    report(format!("{path}.ports[{index}].{field}"), Fault::BadContainerPort { reason });
                }
            }
        }
    }
    ports
}

fn declared_port(port: &core::ContainerPort) -> Result<NamedPort, (&'static str, RuleFault)> {
    let number = u16::try_from(port.container_port).ok().filter(|number| *number > 0);
    let number = number.ok_or(("containerPort", RuleFault::PortNumber(i64::from(port.container_port))))?;
    let protocol = match port.protocol.as_deref() {
        None => Protocol::Tcp,
        Some(text) => protocol(text).ok_or_else(|| ("protocol", RuleFault::Protocol(text.to_owned())))?,
    };
    match port.name.as_deref() {
        None | Some("") => Ok(NamedPort { name: None, protocol, number }),
        Some(name) if is_port_name(name) => Ok(NamedPort { name: Some(name.to_owned()), protocol, number }),
        Some(name) => Err(("name", RuleFault::PortName(name.to_owned()))),
    }
}

/// A protocol as the API spells it: in capitals.
pub(crate) fn protocol(text: &str) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == text)
}

fn status_addresses(object: &core::Pod, report: &mut impl FnMut(String, Fault)) -> Vec<IpAddr> {
    let Some(status) = &object.status else { return Vec::new() };
    let single = status.pod_ip.as_deref().map(|ip| ("status.podIP".to_owned(), ip));
    let several = status.pod_ips.iter().flatten().enumerate();
    let several = several.map(|(index, ip)| (format!("status.podIPs[{index}].ip"), ip.ip.as_str()));
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (field, text) in single.into_iter().chain(several).filter(|(_, text)| !text.is_empty()) {
        match text.parse::<IpAddr>() {
            Err(_) => report(field, Fault::BadAddress { text: text.to_owned() }),
            Ok(address) if unusable(address) => report(field, Fault::UnusableAddress { address }),
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) if addresses.iter().any(|other| other.is_ipv4() == address.is_ipv4()) => {
                report(field, Fault::SecondAddress { address });
            }
            Ok(address) => addresses.push(address),
        }
    }
    addresses
}

/// Addresses that no pod and no node can have.
pub(crate) fn unusable(address: IpAddr) -> bool {
    address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}
