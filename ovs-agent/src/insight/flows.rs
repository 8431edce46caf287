//! Flows with the objects and rules that made them. Pure: from the switch's flows and the reasons of the program.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::insight::{FlowItem, Owner as ShownOwner};
use compiler::{Owner, Reason, Table};
use network::{Direction, NamespacedName, PolicyId, PolicyKind};
use openflow::{Field, FlowStats};

use super::{Parameters, items::addresses};
use crate::drift::NOT_OURS;
use crate::node::Snapshot;

/// Which flows are asked for.
pub(super) struct Filter {
    /// Of which table alone.
    pub(super) table: Option<u8>,
    policy: Option<String>,
    service: Option<String>,
    pod: Option<PodFilter>,
}

/// A flow concerns a pod when the pod made it, when it speaks of the pod's port or address, or when it is part of a policy
/// that selects the pod and speaks of nobody else there.
struct PodFilter {
    name: NamespacedName,
    ofport: Option<u32>,
    addresses: Vec<IpAddr>,
    policies: BTreeSet<PolicyId>,
    others: BTreeSet<IpAddr>,
}

impl Filter {
    pub(super) fn new(parameters: &Parameters, node: &Snapshot) -> Result<Self, String> {
        let table = parameters.table.as_deref().map(table_id).transpose()?;
        let pod = match &parameters.pod {
            None => None,
            Some(text) => {
                let name: NamespacedName = text.parse().map_err(|error| format!("pod: {error}"))?;
                Some(PodFilter::new(name, node))
            }
        };
        let (policy, service) = (parameters.policy.clone(), parameters.service.clone());
        Ok(Self { table, policy, service, pod })
    }

    /// Whether a flow is asked for.
    pub(super) fn wants(&self, flow: &FlowStats, reason: Option<&Reason>) -> bool {
        self.table.is_none_or(|table| flow.table.0 == table)
            && self.policy.as_ref().is_none_or(|text| {
                reason.is_some_and(|reason| {
                    reason.owners.iter().filter_map(policy_of).any(|id| names(id, text))
                })
            })
            && self.service.as_ref().is_none_or(|text| {
                let is = |owner: &Owner| matches!(owner, Owner::Service(key) if key.to_string() == *text || key.name() == *text);
                reason.is_some_and(|reason| reason.owners.iter().any(is))
            })
            && self.pod.as_ref().is_none_or(|pod| pod.concerns(flow, reason))
    }
}

fn table_id(text: &str) -> Result<u8, String> {
    let by_name = Table::from_name(text).map(Table::id);
    by_name.or_else(|| text.parse().ok()).ok_or_else(|| {
        let known: Vec<_> = Table::ALL.iter().map(|table| table.name()).collect();
        format!("there is no table `{text}`; the tables are {}", known.join(", "))
    })
}

impl PodFilter {
    fn new(name: NamespacedName, node: &Snapshot) -> Self {
        let (own, others): (Vec<_>, Vec<_>) =
            node.attachments.iter().partition(|attachment| attachment.pod_name().as_ref() == Some(&name));
        let ports = node.database.as_ref().map(|database| &database.ports);
        let ofport = own.iter().find_map(|a| ports?.get(&a.host_interface)?.ofport);
        let member_of = node.view.pods.get(&name).map(|pod| &pod.member_of);
        let selects = |subject| member_of.is_some_and(|sets| sets.contains(subject));
        let policies = node.view.policies.values().filter(|policy| selects(&policy.subject));
        Self {
            ofport,
            addresses: own.into_iter().flat_map(addresses).collect(),
            policies: policies.map(|policy| policy.id.clone()).collect(),
            others: others.into_iter().flat_map(addresses).collect(),
            name,
        }
    }

    fn concerns(&self, flow: &FlowStats, reason: Option<&Reason>) -> bool {
        let exact = |field| flow.match_.exact(field);
        let port = exact(Field::IN_PORT);
        if port.is_some() && port == self.ofport.map(u128::from) {
            return true;
        }
        let mut spoken_of = spoken_of(flow).peekable();
        if spoken_of.peek().is_some() {
            let all: Vec<_> = spoken_of.collect();
            if all.iter().any(|address| self.addresses.contains(address)) {
                return true;
            }
            // A clause about another pod of this node: it says who else is selected, not what happens to this one.
            if all.iter().any(|address| self.others.contains(address)) && !self.made_by_pod(reason) {
                return false;
            }
        }
        self.made_by_pod(reason)
            || reason.is_some_and(|reason| {
                reason.owners.iter().filter_map(policy_of).any(|id| self.policies.contains(id))
            })
    }

    fn made_by_pod(&self, reason: Option<&Reason>) -> bool {
        reason.is_some_and(|reason| reason.owners.contains(&Owner::Pod(self.name.clone())))
    }
}

/// The addresses that a flow matches exactly.
fn spoken_of(flow: &FlowStats) -> impl Iterator<Item = IpAddr> + '_ {
    let ipv4 = [Field::IPV4_SRC, Field::IPV4_DST, Field::ARP_SPA, Field::ARP_TPA];
    let ipv6 = [Field::IPV6_SRC, Field::IPV6_DST];
    let ipv4 = ipv4
        .into_iter()
        .filter_map(|field| Some(IpAddr::V4(u32::try_from(flow.match_.exact(field)?).ok()?.into())));
    ipv4.chain(ipv6.into_iter().filter_map(|field| Some(IpAddr::V6(flow.match_.exact(field)?.into()))))
}

fn policy_of(owner: &Owner) -> Option<&PolicyId> {
    match owner {
        Owner::Rule { policy, .. } | Owner::Isolation { policy, .. } => Some(policy),
        _ => None,
    }
}

/// `shop/cart`, `cart` or `NetworkPolicy shop/cart`.
pub(super) fn names(id: &PolicyId, text: &str) -> bool {
    let full = id.to_string();
    full == text || full.split_once(' ').is_some_and(|(_, name)| name == text) || id.name == text
}

/// Flows in the order of the pipeline.
pub(super) fn items(node: &Snapshot, mut flows: Vec<FlowStats>) -> Vec<FlowItem> {
    flows.sort_by(|a, b| {
        (a.table, std::cmp::Reverse(a.priority), &a.match_).cmp(&(
            b.table,
            std::cmp::Reverse(b.priority),
            &b.match_,
        ))
    });
    flows.iter().map(|flow| item(node, flow, node.reasons.get(&flow.cookie))).collect()
}

fn item(node: &Snapshot, flow: &FlowStats, reason: Option<&Reason>) -> FlowItem {
    let table = Table::from_id(flow.table.0);
    FlowItem {
        node: node.config.node.clone(),
        table_id: flow.table.0,
        table: table.map_or_else(|| flow.table.0.to_string(), |table| table.name().to_owned()),
        priority: flow.priority,
        cookie: format!("{:#x}", flow.cookie.0),
        r#match: flow.match_.to_string(),
        actions: actions(flow),
        packets: flow.packet_count,
        bytes: flow.byte_count,
        owners: reason.into_iter().flat_map(|reason| &reason.owners).map(shown).collect(),
        what: reason.map_or_else(|| NOT_OURS.into(), |r| r.what.clone()),
    }
}

/// What the flow does, as ovs-ofctl writes it.
pub(super) fn actions(flow: &FlowStats) -> String {
    flow.to_string().split_once("actions=").map_or_else(String::new, |(_, actions)| actions.to_owned())
}

pub(crate) fn shown(owner: &Owner) -> ShownOwner {
    let plain = |kind: &str, name: String| ShownOwner { kind: kind.into(), name, rule: String::new() };
    match owner {
        Owner::Pipeline => plain("Pipeline", String::new()),
        Owner::Node(name) => plain("Node", name.to_string()),
        Owner::Service(key) => plain("Service", key.to_string()),
        Owner::Pod(name) => plain("Pod", name.to_string()),
        Owner::Attachment(interface) => plain("Attachment", interface.clone()),
        Owner::Rule { policy, direction, index } => {
            ShownOwner { rule: format!("{}[{index}]", word(*direction)), ..shown_policy(policy) }
        }
        Owner::Isolation { policy, direction } => {
            ShownOwner { rule: format!("{} default-deny", word(*direction)), ..shown_policy(policy) }
        }
    }
}

fn shown_policy(policy: &PolicyId) -> ShownOwner {
    let (kind, name) = match policy.kind {
        PolicyKind::NetworkPolicy => ("NetworkPolicy", format!("{}/{}", policy.namespace, policy.name)),
        PolicyKind::ClusterNetworkPolicy => ("ClusterNetworkPolicy", policy.name.clone()),
    };
    ShownOwner { kind: kind.into(), name, rule: String::new() }
}

pub(super) fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
