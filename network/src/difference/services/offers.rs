//! The endpoints among which nodes choose, and those that they gain and lose. Knows nothing of policies.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::matrix::ServedPort;
use crate::name::{NamespacedName, NodeName};
use crate::node::Node;
use crate::service::{Service, ServicePort, TrafficPolicy};

use super::{GainedLost, Side};

/// Nodes that choose among other endpoints than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointsChange {
    /// Which ones.
    pub nodes: Vec<NodeName>,
    /// They are all nodes.
    #[serde(rename = "everyNode")]
    pub is_every_node: bool,
    /// For whom they choose: `cluster`, `outside`.
    pub clients: Vec<&'static str>,
    /// `NAMESPACE/POD (ADDRESS:PORT)`.
    #[serde(flatten)]
    pub endpoints: GainedLost,
}

/// The endpoints that every node gained and lost; nodes that are there before and after.
pub(super) fn endpoints(
    sides: &[Side<'_>; 2],
    key: &NamespacedName,
    port: ServedPort,
) -> Vec<EndpointsChange> {
    type Policy = fn(&Service, &ServicePort) -> Option<TrafficPolicy>;
    let inside: Policy = |service, _| (!service.cluster_ips.is_empty()).then_some(service.internal_policy);
    let outside: Policy = |service, port| {
        let is_reached = port.node_port.is_some() || service.outside_addresses().next().is_some();
        is_reached.then_some(service.external_policy)
    };
    let both = |name: &&NodeName| sides[1].network.nodes.contains_key(*name);
    let nodes: Vec<&NodeName> = sides[0].network.nodes.keys().filter(both).collect();
    let mut merged: BTreeMap<(GainedLost, Vec<&NodeName>), Vec<&'static str>> = BTreeMap::new();
    for (clients, policy) in [("cluster", inside), ("outside", outside)] {
        let mut alike: BTreeMap<GainedLost, Vec<&NodeName>> = BTreeMap::new();
        let mut offers = [0, 1].map(|time: usize| {
            let found = sides[time].port(key, port);
            Offer::of(found.and_then(|(service, port)| Some((port, policy(service, port)?))))
        });
        for name in &nodes {
            let [was, is] = &mut offers;
            let [old, new] = [0, 1].map(|time: usize| &sides[time].network.nodes[*name]);
            let difference = GainedLost::of(was.at(old), is.at(new));
            if difference != GainedLost::default() {
                alike.entry(difference).or_default().push(name);
            }
        }
        for group in alike {
            merged.entry(group).or_default().push(clients);
        }
    }
    let changes = merged.into_iter().map(|((endpoints, members), clients)| EndpointsChange {
        is_every_node: members.len() == nodes.len(),
        nodes: members.into_iter().cloned().collect(),
        clients,
        endpoints,
    });
    changes.collect()
}

/// What nodes choose among.
struct Offer<'s> {
    port: Option<(&'s ServicePort, TrafficPolicy)>,
    /// All nodes choose among the same.
    is_alike: bool,
    last: Option<BTreeSet<String>>,
}

impl<'s> Offer<'s> {
    fn of(port: Option<(&'s ServicePort, TrafficPolicy)>) -> Self {
        let is_alike = port.is_none_or(|(port, policy)| {
            let mut endpoints = port.endpoints.iter();
            policy == TrafficPolicy::Cluster
                && endpoints.all(|it| it.for_zones.is_empty() && it.for_nodes.is_empty())
        });
        Self { port, is_alike, last: None }
    }

    fn at(&mut self, node: &Node) -> &BTreeSet<String> {
        let (port, known) = (self.port, self.last.take().filter(|_| self.is_alike));
        self.last.insert(known.unwrap_or_else(|| {
            let of = |(port, policy): (&ServicePort, TrafficPolicy)| {
                let usable = [true, false].map(|ipv4| (ipv4, port.usable(node, policy, ipv4)));
                let texts = usable.into_iter().flat_map(|(ipv4, endpoints)| {
                    endpoints.into_iter().filter_map(move |endpoint| {
                        let at = std::net::SocketAddr::new(endpoint.address(ipv4)?, endpoint.port);
                        Some(match &endpoint.pod {
                            Some(pod) => format!("{pod} ({at})"),
                            None => at.to_string(),
                        })
                    })
                });
                texts.collect()
            };
            port.map(of).unwrap_or_default()
        }))
    }
}
