//! What an API server and its controllers would add to Services, for manifests that never met one: cluster addresses, node
//! ports, and the endpoints that a selector finds. All of it depends on the objects alone, so it is the same every time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use network::{Cidr, NamespacedName, Network, Service};
use sha2::{Digest, Sha256};

use crate::endpoints::{self, of_namespace};
use crate::problem::{ObjectRef, Problem};
use crate::set::{ObjectSet, Report};
use crate::translate::pod::protocol;
use crate::translate::service;

/// Where cluster addresses come from.
pub fn service_cidrs() -> [Cidr; 2] {
    let v4 = Cidr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), 16);
    let v6 = Cidr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0)), 112);
    // Both lengths fit their addresses.
    [v4, v6].map(|range| range.unwrap_or_else(|_| Cidr::host(IpAddr::V4(Ipv4Addr::UNSPECIFIED))))
}

/// The first and last node port (kube-apiserver's default `--service-node-port-range`).
pub const NODE_PORTS: (u16, u16) = (30_000, 32_767);

/// The Services of a set on the nodes and with the pods of a network, with what was missing made up, and the problems of the
/// objects.
pub(crate) fn services(objects: &ObjectSet, network: &Network) -> (Vec<Service>, Vec<Problem>) {
    let mut completed: BTreeMap<NamespacedName, core::Service> =
        objects.services.iter().map(|(key, object)| (key.clone(), object.value.clone())).collect();
    cluster_addresses(&mut completed, network);
    node_ports(&mut completed);
    let mut slices_of: BTreeMap<NamespacedName, Vec<&EndpointSlice>> = BTreeMap::new();
    for (key, slice) in &objects.endpoint_slices {
        if let Some(owner) = service::owner(key, &slice.value) {
            slices_of.entry(owner).or_default().push(&slice.value);
        }
    }
    let mut services = Vec::new();
    let mut problems = Vec::new();
    for (key, object) in &completed {
        let slices = slices_of.get(key).map_or(&[][..], Vec::as_slice);
        let origin = objects.services.get(key).and_then(|object| object.origin.as_ref());
        let (translated, found) = service::service(object, slices, origin);
        problems.extend(found);
        let Some(mut translated) = translated else { continue };
        let mut report = Report::new(ObjectRef::namespaced("Service", key.namespace(), key.name()), origin);
        for at in 0..translated.ports.len() {
            let found = endpoints::found(
                &translated,
                at,
                of_namespace(&network.pods, key.namespace()),
                &network.nodes,
            );
            let Some(port) = translated.ports.get_mut(at) else { continue };
            port.endpoints.extend(found);
            if let Some(fault) = service::leave_out_translated_sctp(port) {
                report.field("spec.ports", fault);
            }
        }
        problems.extend(report.problems);
        services.push(translated);
    }
    (services, problems)
}

/// Gives every Service that has none a cluster address of each family that it asks for.
fn cluster_addresses(services: &mut BTreeMap<NamespacedName, core::Service>, network: &Network) {
    let families: BTreeSet<bool> =
        network.nodes.values().flat_map(|node| node.pod_cidrs.iter().map(Cidr::is_ipv4)).collect();
    let mut taken: BTreeSet<IpAddr> = services
        .values()
        .flat_map(|service| {
            service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip))
        })
        .filter_map(|text| text.parse().ok())
        .collect();
    for (key, service) in services.iter_mut() {
        let Some(spec) = &mut service.spec else { continue };
        let given = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten()).any(|ip| !ip.is_empty());
        if given || spec.type_.as_deref() == Some("ExternalName") {
            continue;
        }
        let asked: Vec<bool> = spec.ip_families.iter().flatten().map(|family| family == "IPv4").collect();
        let dual = matches!(spec.ip_family_policy.as_deref(), Some("PreferDualStack" | "RequireDualStack"));
        let mut wanted: Vec<bool> =
            if asked.is_empty() { families.iter().rev().copied().collect() } else { asked };
        if dual {
            wanted.extend(families.iter().rev().copied());
        } else {
            wanted.truncate(1);
        }
        let mut given: Vec<IpAddr> = Vec::new();
        for ipv4 in wanted {
            let range = service_cidrs()[usize::from(!ipv4)];
            if families.contains(&ipv4)
                && !given.iter().any(|address| address.is_ipv4() == ipv4)
                && let Some(address) = free(&range, key, &mut taken)
            {
                given.push(address);
            }
        }
        spec.cluster_ip = given.first().map(ToString::to_string);
        spec.cluster_ips = Some(given.iter().map(ToString::to_string).collect());
    }
}

/// An address of the range that nobody has, from where the name's hash points onward.
fn free(range: &Cidr, key: &NamespacedName, taken: &mut BTreeSet<IpAddr>) -> Option<IpAddr> {
    const SIZE: u64 = 1 << 16;
    let start = hash(&key.to_string());
    // The network's own address, the first ten (kube-dns and kubernetes by custom) and the last are left alone.
    let candidates = (0..SIZE - 12).map(|step| 11 + (start.wrapping_add(step)) % (SIZE - 12));
    candidates.filter_map(|place| range.nth(u128::from(place))).find(|address| taken.insert(*address))
}

/// Gives every port of a Service that nodes answer for a node port, and the health check its own.
fn node_ports(services: &mut BTreeMap<NamespacedName, core::Service>) {
    let listed = |service: &core::Service| -> Vec<(u16, String)> {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        ports
            .filter_map(|port| {
                let number = port.node_port.and_then(|number| u16::try_from(number).ok())?;
                Some((number, port.protocol.clone().unwrap_or_else(|| "TCP".into())))
            })
            .collect()
    };
    let mut taken: BTreeSet<(u16, String)> = services.values().flat_map(listed).collect();
    for (key, service) in services.iter_mut() {
        let Some(spec) = &mut service.spec else { continue };
        let balanced = spec.type_.as_deref() == Some("LoadBalancer");
        let wanted = match spec.type_.as_deref() {
            Some("NodePort") => true,
            Some("LoadBalancer") => spec.allocate_load_balancer_node_ports != Some(false),
            _ => false,
        };
        for port in spec.ports.iter_mut().flatten().filter(|_| wanted) {
            let named = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            if port.node_port.is_none_or(|number| number == 0) && protocol(&named).is_some() {
                let seed = format!("{key} {} {named}", port.port);
                port.node_port = free_port(&seed, &named, &mut taken).map(i32::from);
            }
        }
        let local = spec.external_traffic_policy.as_deref() == Some("Local");
        if balanced && local && spec.health_check_node_port.is_none_or(|port| port == 0) {
            let port = free_port(&format!("{key} health"), "TCP", &mut taken);
            spec.health_check_node_port = port.map(i32::from);
        }
    }
}

fn free_port(seed: &str, protocol: &str, taken: &mut BTreeSet<(u16, String)>) -> Option<u16> {
    let size = u64::from(NODE_PORTS.1 - NODE_PORTS.0) + 1;
    let start = hash(seed);
    (0..size)
        .filter_map(|step| u16::try_from(start.wrapping_add(step) % size).ok())
        .map(|place| NODE_PORTS.0 + place)
        .find(|port| taken.insert((*port, protocol.to_owned())))
}

fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text);
    let mut bits = [0; 8];
    bits.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(bits) >> 1
}
