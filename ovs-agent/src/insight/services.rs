//! Services as this node balances them: where clients ask, who answers, and how many connections each endpoint was given. Pure:
//! from the view, what the compiler makes of it, and the counters of the switch.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::insight::ServiceItem;
use compiler::Translation;
use network::service::Lost;
use network::{Service, ServiceEndpoint, ServicePort};
use openflow::FlowStats;

use super::Parameters;
use crate::node::Snapshot;

/// The Services that are asked for.
pub(super) fn wanted<'a>(
    node: &'a Snapshot,
    parameters: &'a Parameters,
) -> impl Iterator<Item = &'a Service> {
    let in_namespace = |service: &&Service| {
        parameters.namespace.as_ref().is_none_or(|namespace| service.key.namespace() == *namespace)
    };
    let named = |service: &&Service| parameters.service.as_deref().is_none_or(|text| names(service, text));
    node.view.services.values().map(|service| &**service).filter(in_namespace).filter(named)
}

fn names(service: &Service, text: &str) -> bool {
    service.key.to_string() == text || service.key.name() == text
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
    let lost = network::service::claims(node.view.services.values().map(|service| &**service)).1;
    services.map(|service| item(node, service, &given, &lost)).collect()
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

fn item(node: &Snapshot, service: &Service, given: &Given<'_>, lost: &[Lost<'_>]) -> ServiceItem {
    let chosen = |port: &ServicePort, endpoint: &ServiceEndpoint| {
        let at = endpoint.addresses.first().map(|address| (*address, endpoint.port))?;
        given.get(&(&service.key, port.protocol, port.port, at)).copied()
    };
    api::services::item(Some(node.config.node.clone()), service, chosen, lost)
}
