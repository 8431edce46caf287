//! Service objects and their EndpointSlices into Services. What is not understood is left out of the Service, and told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use network::service::MOST_ENDPOINTS;
use network::{
    Backing, Cidr, NamespacedName, NodeName, Prefers, Protocol, Service, ServiceEndpoint, ServiceKind,
    ServicePort, Slice, Target, TrafficPolicy,
};

use crate::problem::{Fault, ObjectRef, Problem, RuleFault};
use crate::set::{Origin, Report};
use crate::translate::pod::{protocol, unusable};

/// A Service with this label is somebody else's to balance.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// A Service with this label is treated as headless, whatever addresses it has.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// The label of an EndpointSlice that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The label of an EndpointSlice that says who keeps it, and what a cluster's own controller says there (KEP-0752).
const MANAGED_BY: (&str, &str) =
    ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
/// How long a client keeps its endpoint where the object does not say, in seconds (core/v1 `SetDefaults_Service`).
const AFFINITY_SECONDS: i32 = 10_800;

/// The ports of one Service that its endpoints serve: by the name of the port, by address and number.
type Endpoints = BTreeMap<String, BTreeMap<(IpAddr, u16), ServiceEndpoint>>;

/// The Service that an object and its slices describe; `None` when another proxy serves it. It need not be defaulted.
pub fn service(
    object: &core::Service,
    slices: &[&discovery::EndpointSlice],
    origin: Option<&Origin>,
) -> (Option<Service>, Vec<Problem>) {
    let name = object.metadata.name.clone().unwrap_or_default();
    let key =
        NamespacedName::new(object.metadata.namespace.clone().unwrap_or_else(|| "default".into()), name);
    let mut report = Report::new(ObjectRef::namespaced("Service", key.namespace(), key.name()), origin);
    if has_label(object, PROXY_NAME_LABEL) {
        return (None, Vec::new());
    }
    let mut endpoints = Endpoints::new();
    let (mut problems, mut own) = (Vec::new(), BTreeMap::new());
    for object in slices {
        let (name, slice, found) = slice(object);
        problems.extend(found);
        for (port, listed) in
            slice.iter().flat_map(|slice| slice.iter().map(|(port, all)| (port, all.iter())))
        {
            let at = endpoints.entry(port.clone()).or_default();
            listed.for_each(|endpoint| put(at, endpoint.clone()));
        }
        own.insert(name, slice.filter(|_| !is_kept_by_the_cluster(object)));
    }
    let mut service = described(object, key, &endpoints, &mut report);
    if let Some(backing) = service.backing.as_mut().and_then(Arc::get_mut) {
        backing.slices = own;
    }
    report.problems.extend(problems);
    (Some(service), report.problems)
}

/// The Service that a slice is of.
pub(crate) fn owner(key: &NamespacedName, slice: &discovery::EndpointSlice) -> Option<NamespacedName> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some(NamespacedName::new(key.namespace(), name))
}

/// The name of a slice and the endpoints that it lists, each address and number once; `None` of names in place of addresses.
pub fn slice(object: &discovery::EndpointSlice) -> (String, Option<Slice>, Vec<Problem>) {
    let mut endpoints = Endpoints::new();
    let problems = of_slice(object, &mut endpoints);
    let all = endpoints.into_iter().map(|(port, listed)| (port, listed.into_values().collect()));
    let slice = (object.address_type != "FQDN").then(|| all.collect());
    (object.metadata.name.clone().unwrap_or_default(), slice, problems)
}

fn is_kept_by_the_cluster(slice: &discovery::EndpointSlice) -> bool {
    slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY.0))
        .is_some_and(|by| by == MANAGED_BY.1)
}

fn has_label(object: &core::Service, label: &str) -> bool {
    object.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(label))
}

fn described(
    object: &core::Service,
    key: NamespacedName,
    endpoints: &Endpoints,
    report: &mut Report<'_>,
) -> Service {
    let spec = object.spec.clone().unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let cluster_ips = spec.cluster_ips.clone().unwrap_or_default();
    let headless = text(&spec.cluster_ip) == "None"
        || cluster_ips.iter().any(|ip| ip == "None")
        || has_label(object, HEADLESS_LABEL);
    let kind = match (text(&spec.type_).as_str(), headless) {
        ("ExternalName", _) => ServiceKind::ExternalName,
        (_, true) => ServiceKind::Headless,
        ("NodePort", _) => ServiceKind::NodePort,
        ("LoadBalancer", _) => ServiceKind::LoadBalancer,
        ("" | "ClusterIP", _) => ServiceKind::ClusterIp,
        (other, _) => {
            report.field("spec.type", Fault::ServiceType { kind: other.to_owned() });
            ServiceKind::ClusterIp
        }
    };
    let cluster_ips = if cluster_ips.is_empty() { vec![text(&spec.cluster_ip)] } else { cluster_ips };
    let cluster_ips = addresses("spec.clusterIPs", &cluster_ips, report);
    let external_ips = addresses("spec.externalIPs", &spec.external_ips.unwrap_or_default(), report);
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    // `Proxy`: the balancer itself sends on to the nodes, its address is not ours to answer.
    let vips = ingress.iter().filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let vips: Vec<String> = vips.filter_map(|ingress| ingress.ip.clone()).collect();
    let load_balancer_ips = addresses("status.loadBalancer.ingress", &vips, report);
    let mut source_ranges = BTreeSet::new();
    for (index, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        match range.trim().parse::<Cidr>() {
            Ok(range) => {
                source_ranges.insert(range);
            }
            Err(error) => {
                report.field(&format!("spec.loadBalancerSourceRanges[{index}]"), Fault::BadRange(error));
                // A list of which nothing is understood must not become "everybody".
                source_ranges.extend(nobody());
            }
        }
    }
    let balanced = matches!(kind, ServiceKind::LoadBalancer);
    let affinity = text(&spec.session_affinity) == "ClientIP";
    let timeout = spec.session_affinity_config.and_then(|config| config.client_ip?.timeout_seconds);
    let policy = |text: &Option<String>| match text.as_deref() {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    };
    let ports = spec.ports.iter().flatten().enumerate();
    let read = ports.filter_map(|(index, port)| service_port(index, port, kind, endpoints, report));
    let (ports, targets) = read.unzip();
    let prefers = match spec.traffic_distribution.as_deref() {
        Some("PreferSameNode") => Prefers::SameNode,
        Some("PreferSameZone" | "PreferClose") => Prefers::SameZone,
        _ => Prefers::Nobody,
    };
    let backing =
        Backing { selector: spec.selector.unwrap_or_default(), targets, prefers, slices: BTreeMap::new() };
    Service {
        key,
        created: object
            .metadata
            .creation_timestamp
            .as_ref()
            .and_then(|at| u64::try_from(at.0.as_second()).ok()),
        kind,
        cluster_ips: if headless { BTreeSet::new() } else { cluster_ips },
        external_ips,
        load_balancer_ips: if balanced { load_balancer_ips } else { BTreeSet::new() },
        source_ranges: if balanced { source_ranges } else { BTreeSet::new() },
        ports,
        affinity_seconds: affinity.then(|| u32::try_from(timeout.unwrap_or(AFFINITY_SECONDS)).unwrap_or(0)),
        internal_policy: policy(&spec.internal_traffic_policy),
        external_policy: policy(&spec.external_traffic_policy),
        health_check_node_port: spec
            .health_check_node_port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0),
        backing: Some(Arc::new(backing)),
    }
}

/// A range that nobody is in (RFC 5737, documentation).
fn nobody() -> Option<Cidr> {
    "192.0.2.0/32".parse().ok()
}

fn addresses(field: &str, texts: &[String], report: &mut Report<'_>) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    for (index, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty() && *text != "None") {
        let field = format!("{field}[{index}]");
        match text.parse::<IpAddr>() {
            Err(_) => report.field(&field, Fault::BadAddress { text: text.clone() }),
            Ok(address) if unusable(address) => report.field(&field, Fault::UnusableAddress { address }),
            Ok(address) => {
                addresses.insert(address);
            }
        }
    }
    addresses
}

fn service_port(
    index: usize,
    port: &core::ServicePort,
    kind: ServiceKind,
    endpoints: &Endpoints,
    report: &mut Report<'_>,
) -> Option<(ServicePort, Target)> {
    let read = || {
        let wrong = |number| RuleFault::PortNumber(i64::from(number));
        let number = u16::try_from(port.port).ok().filter(|number| *number > 0);
        let number = number.ok_or(("port", wrong(port.port)))?;
        let text = port.protocol.as_deref().unwrap_or("TCP");
        let protocol = protocol(text).ok_or_else(|| ("protocol", RuleFault::Protocol(text.to_owned())))?;
        let node_port = match port.node_port.filter(|number| *number != 0) {
            Some(number) => Some(
                u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| ("nodePort", wrong(number)))?,
            ),
            None => None,
        };
        Ok::<_, (&str, RuleFault)>((number, protocol, node_port))
    };
    let (number, protocol, node_port) = match read() {
        Ok(read) => read,
        Err((field, reason)) => {
            report.field(&format!("spec.ports[{index}].{field}"), Fault::BadServicePort { reason });
            return None;
        }
    };
    let name = port.name.clone().filter(|name| !name.is_empty());
    let serving = endpoints.get(name.as_deref().unwrap_or_default()).into_iter().flat_map(BTreeMap::values);
    let reached_by_nodes = matches!(kind, ServiceKind::NodePort | ServiceKind::LoadBalancer);
    let mut read = ServicePort {
        name,
        protocol,
        port: number,
        node_port: node_port.filter(|_| reached_by_nodes),
        endpoints: serving.cloned().collect(),
    };
    if read.is_crowded() {
        report.field(&format!("spec.ports[{index}]"), Fault::CrowdedPort { most: MOST_ENDPOINTS });
    }
    if let Some(fault) = leave_out_translated_sctp(&mut read) {
        report.field(&format!("spec.ports[{index}].targetPort"), fault);
    }
    let target = match &port.target_port {
        Some(IntOrString::String(name)) => Target::Name(name.clone()),
        Some(IntOrString::Int(target)) => {
            // Not a number of a port: nobody serves it there.
            u16::try_from(*target).map_or_else(
                |_| Target::Name(String::new()),
                |target| Target::Number(if target == 0 { number } else { target }),
            )
        }
        None => Target::Number(number),
    };
    Some((read, target))
}

/// The switch tracks SCTP without its ports and so cannot translate them.
pub(crate) fn leave_out_translated_sctp(port: &mut ServicePort) -> Option<Fault> {
    let (before, number) = (port.endpoints.len(), port.port);
    if port.protocol == Protocol::Sctp {
        port.endpoints.retain(|endpoint| endpoint.port == number);
    }
    (port.endpoints.len() < before).then_some(Fault::SctpTarget { port: number })
}

/// Adds the endpoints of one slice.
fn of_slice(slice: &discovery::EndpointSlice, endpoints: &mut Endpoints) -> Vec<Problem> {
    let namespace = slice.metadata.namespace.clone().unwrap_or_else(|| "default".into());
    let name = slice.metadata.name.clone().unwrap_or_default();
    let mut report = Report::new(ObjectRef::namespaced("EndpointSlice", &namespace, &name), None);
    if slice.address_type == "FQDN" {
        return report.problems;
    }
    // A port without a number stands for all of them, and there is no Service that it could be meant for.
    let mut ports: Vec<(&str, u16)> = Vec::new();
    for (index, port) in slice.ports.iter().flatten().enumerate() {
        let Some(number) = port.port else { continue };
        match u16::try_from(number).ok().filter(|number| *number > 0) {
            Some(number) => ports.push((port.name.as_deref().unwrap_or_default(), number)),
            None => {
                let reason = RuleFault::PortNumber(i64::from(number));
                report.field(&format!("ports[{index}].port"), Fault::BadEndpointPort { reason });
            }
        }
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        // More than one address has no meaning that was ever defined: the first counts, as it does for kube-proxy.
        let listed = addresses(
            &format!("endpoints[{index}].addresses"),
            &endpoint.addresses.iter().take(1).cloned().collect::<Vec<_>>(),
            &mut report,
        );
        if listed.is_empty() {
            continue;
        }
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
        let pod = target.and_then(|target| {
            let namespace = target.namespace.clone().unwrap_or_else(|| namespace.clone());
            Some(NamespacedName::new(namespace, target.name.clone()?))
        });
        let hints = endpoint.hints.clone().unwrap_or_default();
        let read = ServiceEndpoint {
            pod,
            addresses: listed.into(),
            port: 0,
            node: endpoint.node_name.clone().filter(|name| !name.is_empty()).map(NodeName::new),
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            for_zones: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
            for_nodes: hints.for_nodes.into_iter().flatten().map(|node| NodeName::new(node.name)).collect(),
        };
        for (name, number) in &ports {
            let at = endpoints.entry((*name).to_owned()).or_default();
            put(at, ServiceEndpoint { port: *number, ..read.clone() });
        }
    }
    report.problems
}

/// One address and port is one endpoint, whatever number of slices list it; the state that serves most counts.
fn put(endpoints: &mut BTreeMap<(IpAddr, u16), ServiceEndpoint>, endpoint: ServiceEndpoint) {
    let Some(address) = endpoint.addresses.first().copied() else { return };
    let worth = |endpoint: &ServiceEndpoint| (endpoint.ready, endpoint.serving);
    match endpoints.get(&(address, endpoint.port)) {
        Some(held) if worth(held) >= worth(&endpoint) => {}
        _ => drop(endpoints.insert((address, endpoint.port), endpoint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn translated(
        service_object: serde_json::Value,
        slices: Vec<serde_json::Value>,
    ) -> (Service, Vec<String>) {
        let object: core::Service = serde_json::from_value(service_object).unwrap();
        let slices: Vec<discovery::EndpointSlice> =
            slices.into_iter().map(|slice| serde_json::from_value(slice).unwrap()).collect();
        let (service, problems) = service(&object, &slices.iter().collect::<Vec<_>>(), None);
        (service.unwrap(), problems.iter().map(ToString::to_string).collect())
    }

    fn metadata() -> serde_json::Value {
        json!({"name": "web", "namespace": "shop"})
    }

    #[test]
    fn every_part_of_a_load_balancer_is_read() {
        let (service, problems) = translated(
            json!({
                "metadata": metadata(),
                "spec": {
                    "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
                    "externalIPs": ["192.0.2.1"], "loadBalancerSourceRanges": ["198.51.100.0/24"],
                    "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
                    "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
                    "ports": [
                        {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080},
                        {"name": "dns", "port": 53, "protocol": "UDP"},
                    ],
                },
                "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}, {"ip": "203.0.113.6", "ipMode": "Proxy"}]}},
            }),
            vec![json!({
                "metadata": {"name": "web-1", "namespace": "shop"}, "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}],
                "endpoints": [
                    {"addresses": ["10.244.1.5"], "nodeName": "node-1", "targetRef": {"kind": "Pod", "name": "web-0"},
                     "hints": {"forZones": [{"name": "a"}]}},
                    {"addresses": ["10.244.2.5"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                ],
            })],
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(service.kind, ServiceKind::LoadBalancer);
        assert_eq!((service.cluster_ips.len(), service.external_ips.len()), (2, 1));
        assert_eq!(service.load_balancer_ips, ["203.0.113.5".parse().unwrap()].into());
        assert_eq!(service.affinity_seconds, Some(60));
        assert_eq!(service.external_policy, TrafficPolicy::Local);
        assert_eq!(service.health_check_node_port, Some(31000));
        assert_eq!((service.ports[0].node_port, service.ports[1].node_port), (Some(30080), None));
        let [ready, ending] = service.ports[0].endpoints.iter().collect::<Vec<_>>()[..] else { panic!() };
        let (ready, ending) = if ready.ready { (ready, ending) } else { (ending, ready) };
        assert_eq!(ready.pod, Some(NamespacedName::new("shop", "web-0")));
        assert_eq!((ready.port, ready.for_zones.len()), (8080, 1));
        assert!(ending.serving && ending.terminating && !ending.ready);
        assert_eq!(service.ports[1].endpoints.first().unwrap().port, 5353);
    }

    #[test]
    fn more_endpoints_than_the_switch_counts_to_and_ports_that_are_none_are_told() {
        let address = |k: u32| std::net::Ipv4Addr::from(0x0b00_0000 + k).to_string();
        let slice = |part: u32| {
            let endpoints = (part * 1_000..(part + 1) * 1_000).map(|k| json!({"addresses": [address(k)]}));
            json!({"metadata": {"name": format!("s-{part}")}, "addressType": "IPv4",
                "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 0}, {"name": "c"}],
                "endpoints": endpoints.collect::<Vec<_>>()})
        };
        let object = json!({"metadata": metadata(), "spec": {"clusterIP": "10.96.0.7", "ports": [
            {"name": "a", "port": 80}, {"name": "b", "port": 81}, {"name": "c", "port": 82}]}});
        let (few, problems) = translated(object.clone(), vec![slice(0)]);
        assert_eq!(few.ports.iter().map(|port| port.endpoints.len()).collect::<Vec<_>>(), [1_000, 0, 0]);
        let [none] = &problems[..] else { panic!("{problems:#?}") };
        assert!(none.starts_with("EndpointSlice default/s-0: ports[1].port: "), "{none}");
        let (many, problems) = translated(object, (0..66).map(slice).collect());
        assert_eq!(many.ports[0].endpoints.len(), 66_000);
        assert_eq!(problems.len(), 67);
        assert!(
            problems
                .iter()
                .any(|p| p.starts_with("Service shop/web: spec.ports[0]: it has more than 65536 "))
        );
    }

    #[test]
    fn what_is_not_in_the_data_path_is_known_as_such() {
        let of = |spec| translated(json!({"metadata": metadata(), "spec": spec}), vec![]).0;
        let headless = of(json!({"clusterIP": "None", "ports": [{"port": 80}]}));
        assert_eq!((headless.kind, headless.is_in_data_path()), (ServiceKind::Headless, false));
        let labels = json!({"name": "web", "labels": {HEADLESS_LABEL: ""}});
        let spec =
            json!({"type": "NodePort", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30080}]});
        let object: core::Service =
            serde_json::from_value(json!({"metadata": labels, "spec": spec})).unwrap();
        let labelled = service(&object, &[], None).0.unwrap();
        assert_eq!((labelled.kind, labelled.is_in_data_path()), (ServiceKind::Headless, false));
        let name = of(json!({"type": "ExternalName", "externalName": "example.org"}));
        assert_eq!((name.kind, name.is_in_data_path()), (ServiceKind::ExternalName, false));
        let labels = json!({"name": "web", "labels": {PROXY_NAME_LABEL: "other"}});
        let object: core::Service = serde_json::from_value(json!({"metadata": labels})).unwrap();
        assert_eq!(service(&object, &[], None), (None, vec![]));
    }

    #[test]
    fn bad_parts_are_left_out_and_told_and_nothing_is_opened() {
        let (service, problems) = translated(
            json!({"metadata": metadata(), "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.300", "externalIPs": ["127.0.0.1"],
                "loadBalancerSourceRanges": ["10.0.0.0/40"],
                "ports": [{"port": 0}, {"port": 80, "protocol": "tcp"}, {"port": 90, "nodePort": 70000},
                          {"name": "s", "port": 5000, "protocol": "SCTP"}],
            }}),
            vec![
                json!({"metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"name": "s", "port": 6000}],
                        "endpoints": [{"addresses": ["10.0.0.1"]}]}),
            ],
        );
        assert_eq!(problems.len(), 7, "{problems:#?}");
        assert!(service.cluster_ips.is_empty() && service.external_ips.is_empty());
        assert_eq!(service.source_ranges.len(), 1, "a list that is not understood is not `everybody`");
        assert_eq!(service.ports.len(), 1);
        assert!(service.ports[0].endpoints.is_empty());
    }

    #[test]
    fn an_endpoint_that_two_slices_list_is_one() {
        let slice = |name: &str, ready: bool| {
            json!({"metadata": {"name": name}, "addressType": "IPv4", "ports": [{"port": 80}],
                   "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]})
        };
        let spec = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
        for (a, b) in [(true, false), (false, true)] {
            let object = json!({"metadata": metadata(), "spec": spec});
            let (service, _) = translated(object, vec![slice("a", a), slice("b", b)]);
            let endpoints: Vec<_> = service.ports[0].endpoints.iter().map(|e| e.ready).collect();
            assert_eq!(endpoints, [true]);
        }
    }
}
