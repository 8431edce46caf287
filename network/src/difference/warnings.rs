//! What about a change is worth a second look: rules without effect, doors that are wide open, and pods that lose what they
//! cannot do without. Looks at the policies that change, and at whom a change of labels leaves without a match.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::labels::LabelSelector;
use crate::model::Network;
use crate::name::NamespacedName;
use crate::policy::{Direction, IpBlock, Peers, Policy, PolicyId, PortMatch, Ports, Rule, Tier};
use crate::port_set::PortSet;
use crate::protocol::{PortRange, Protocol};
use crate::selector::{NamespaceSelector, Selector, SetId};

use super::{Altered, Connectivity, Group, Relation, Shift, Who};

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The policy selects no pod.
    SelectsNobody(PolicyId),
    /// The rule's peers are nobody.
    NobodyMeant(RuleId),
    /// The rule names a port that no pod declares.
    UndeclaredPort(RuleId, String),
    /// Another rule says all that this one says.
    Shadowed {
        /// The rule without effect.
        rule: RuleId,
        /// The one that has it.
        by: RuleId,
    },
    /// The rule lets everybody in.
    WideOpen(RuleId, Open),
    /// Pods lose something that they cannot do without.
    Loses {
        /// Which pods.
        pods: Group,
        /// What.
        lifeline: Lifeline,
        /// Which ports of it.
        ports: PortSet,
    },
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId {
    /// Which policy.
    pub policy: PolicyId,
    /// Which list.
    pub direction: Direction,
    /// Its place in it.
    pub index: u32,
}

/// How a rule is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To everybody, in the cluster and outside.
    Everybody,
    /// To every address of a family.
    EveryAddress,
    /// To every pod of every namespace.
    EveryPod,
}

/// What pods cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifeline {
    /// The cluster's names.
    Dns,
    /// The API server.
    ApiServer,
    /// The probes of their own node.
    Probes,
}

/// What is worth a second look about a change.
pub fn warnings(before: &Network, after: &Network, difference: &Connectivity) -> Vec<Warning> {
    let altered = Altered::of([before, after]);
    let changes = |id: &PolicyId| {
        [Direction::Ingress, Direction::Egress].into_iter().any(|direction| altered.is_altered(id, direction))
    };
    let mut warnings = Vec::new();
    for policy in after.policies.values().filter(|policy| changes(&policy.id)) {
        if is_empty(after, policy.subject) {
            warnings.push(Warning::SelectsNobody(policy.id.clone()));
        }
        for rule in &policy.rules {
            warnings.extend(of_rule(after, policy, rule));
        }
    }
    // A label that changes may leave a policy without anybody.
    if (&before.pods, &before.namespaces) != (&after.pods, &after.namespaces) {
        let same = after.policies.values().filter(|policy| !changes(&policy.id));
        let subjects: BTreeSet<SetId> = same.clone().map(|policy| policy.subject).collect();
        let lost = |set: &SetId| !is_empty(before, *set) && is_empty(after, *set);
        let lost: BTreeSet<SetId> = subjects.into_iter().filter(lost).collect();
        let policies = same.filter(|policy| lost.contains(&policy.subject));
        warnings.extend(policies.map(|policy| Warning::SelectsNobody(policy.id.clone())));
    }
    warnings.extend(losses(after, difference));
    warnings
}

fn is_empty(network: &Network, set: SetId) -> bool {
    network.selectors.get(&set).is_none_or(|selector| match selector {
        Selector::Pods { .. } => network.select_pods(selector).next().is_none(),
        Selector::Nodes(_) => !network.nodes.values().any(|node| selector.selects_node(node)),
    })
}

fn of_rule(network: &Network, policy: &Policy, rule: &Rule) -> Vec<Warning> {
    let id = || RuleId { policy: policy.id.clone(), direction: rule.direction, index: rule.index };
    let mut warnings = Vec::new();
    if let Peers::Some { sets, blocks } = &rule.peers
        && blocks.is_empty()
        && sets.iter().all(|set| is_empty(network, *set))
    {
        warnings.push(Warning::NobodyMeant(id()));
    }
    for port in named(&rule.ports) {
        let (name, protocol) = port;
        if !network
            .pods
            .values()
            .any(|pod| pod.is_policed() && pod.port_numbers(name, protocol).next().is_some())
        {
            warnings.push(Warning::UndeclaredPort(id(), name.to_owned()));
        }
    }
    let opens = rule.action == crate::policy::Action::Accept && rule.direction == Direction::Ingress;
    if let Some(open) = open(network, &rule.peers).filter(|_| opens) {
        warnings.push(Warning::WideOpen(id(), open));
    }
    if let Some(by) = shadow(network, policy, rule) {
        warnings.push(Warning::Shadowed { rule: id(), by });
    }
    warnings
}

fn named(ports: &Ports) -> impl Iterator<Item = (&str, Protocol)> {
    let matches = match ports {
        Ports::Any => None,
        Ports::Some(matches) => Some(matches),
    };
    matches.into_iter().flatten().filter_map(|port| match port {
        PortMatch::Range(_) => None,
        PortMatch::Named { protocol, name } => Some((name.as_str(), *protocol)),
    })
}

fn open(network: &Network, peers: &Peers) -> Option<Open> {
    let Peers::Some { sets, blocks } = peers else { return Some(Open::Everybody) };
    let everything = |set: &SetId| match network.selectors.get(set) {
        Some(Selector::Pods { namespaces: NamespaceSelector::Labels(wanted), pods, port: None }) => {
            wanted.is_everything() && pods.is_everything()
        }
        _ => false,
    };
    if blocks.iter().any(|block| block.cidr.length() == 0 && block.except.is_empty()) {
        Some(Open::EveryAddress)
    } else {
        sets.iter().any(everything).then_some(Open::EveryPod)
    }
}

/// A rule that is asked about everything that this one is about: before it in an ordered tier, anywhere among
/// NetworkPolicies. Of two that say the same the later one is the shadow.
fn shadow(network: &Network, policy: &Policy, rule: &Rule) -> Option<RuleId> {
    let place = |policy: &Policy, rule: &Rule| (policy.priority, policy.id.clone(), rule.index);
    let own = place(policy, rule);
    for other in network.policies.values().filter(|other| other.tier == policy.tier) {
        let isolates = other.tier != Tier::NetworkPolicy || other.isolates.of(rule.direction);
        if !isolates || !covers_set(network, other.subject, policy.subject) {
            continue;
        }
        for by in other.rules.iter().filter(|by| by.direction == rule.direction) {
            let is_wider = covers(network, by, rule);
            let stands = match policy.tier {
                Tier::NetworkPolicy => {
                    let same =
                        covers_set(network, policy.subject, other.subject) && covers(network, rule, by);
                    place(other, by) != own && (!same || place(other, by) < own)
                }
                Tier::Admin | Tier::Baseline => place(other, by) < own,
            };
            if is_wider && stands {
                let (direction, index) = (by.direction, by.index);
                return Some(RuleId { policy: other.id.clone(), direction, index });
            }
        }
    }
    None
}

/// Whether everything that `narrow` matches is certain to match `wide`, whatever pods there are.
fn covers(network: &Network, wide: &Rule, narrow: &Rule) -> bool {
    let peers = match (&wide.peers, &narrow.peers) {
        (Peers::Any, _) => true,
        (_, Peers::Any) => false,
        (Peers::Some { sets, blocks }, Peers::Some { sets: narrow_sets, blocks: narrow_blocks }) => {
            let set = |it: &SetId| sets.iter().any(|set| covers_set(network, *set, *it));
            let block = |it: &IpBlock| blocks.iter().any(|block| covers_block(block, it));
            narrow_sets.iter().all(set) && narrow_blocks.iter().all(block)
        }
    };
    let ports = match (&wide.ports, &narrow.ports) {
        (Ports::Any, _) => true,
        (_, Ports::Any) => false,
        (Ports::Some(wide), Ports::Some(narrow)) => {
            let ranges = |matches: &BTreeSet<PortMatch>| -> PortSet {
                PortSet::of(matches.iter().filter_map(|port| match port {
                    PortMatch::Range(range) => Some(*range),
                    PortMatch::Named { .. } => None,
                }))
            };
            let all = |protocol| ranges(wide).contains_all(PortRange::all(protocol));
            let named = |port: &PortMatch| match port {
                PortMatch::Range(_) => true,
                PortMatch::Named { protocol, .. } => wide.contains(port) || all(*protocol),
            };
            ranges(narrow).minus(&ranges(wide)).is_empty() && narrow.iter().all(named)
        }
    };
    peers && ports
}

fn covers_set(network: &Network, wide: SetId, narrow: SetId) -> bool {
    if wide == narrow {
        return true;
    }
    let weaker = |wide: &LabelSelector, narrow: &LabelSelector| {
        wide.requirements().all(|wanted| narrow.requirements().any(|given| given == wanted))
    };
    match (network.selectors.get(&wide), network.selectors.get(&narrow)) {
        (Some(Selector::Nodes(wide)), Some(Selector::Nodes(narrow))) => weaker(wide, narrow),
        (
            Some(Selector::Pods { namespaces: wide_in, pods: wide, port: None }),
            Some(Selector::Pods { namespaces: narrow_in, pods: narrow, .. }),
        ) => {
            let namespaces = match (wide_in, narrow_in) {
                (NamespaceSelector::Name(wide), NamespaceSelector::Name(narrow)) => wide == narrow,
                (NamespaceSelector::Labels(wide), NamespaceSelector::Labels(narrow)) => weaker(wide, narrow),
                (NamespaceSelector::Labels(wide), NamespaceSelector::Name(name)) => {
                    wide.is_everything() || network.namespaces.get(name).is_some_and(|it| wide.matches(it))
                }
                (NamespaceSelector::Name(_), NamespaceSelector::Labels(_)) => false,
            };
            namespaces && weaker(wide, narrow)
        }
        _ => false,
    }
}

fn covers_block(wide: &IpBlock, narrow: &IpBlock) -> bool {
    let apart = |hole: &crate::address::Cidr| !hole.covers(&narrow.cidr) && !narrow.cidr.covers(hole);
    let left_out = |hole: &crate::address::Cidr| narrow.except.iter().any(|it| it.covers(hole));
    wide.cidr.covers(&narrow.cidr) && wide.except.iter().all(|hole| apart(hole) || left_out(hole))
}

/// Pods that lose a lifeline.
fn losses(network: &Network, difference: &Connectivity) -> Vec<Warning> {
    let dns = dns(network);
    let (api, api_ports) = api_server(network, difference);
    let ask = |numbers: &[(Protocol, u16)]| {
        PortSet::of(numbers.iter().map(|(protocol, port)| PortRange::single(*protocol, *port)))
    };
    let names = ask(&[(Protocol::Udp, 53), (Protocol::Tcp, 53)]);
    let mut found = Vec::new();
    for shift in &difference.shifts {
        let mut lost = |pods: &Group, lifeline, ports: PortSet| {
            if !ports.is_empty() && pods.listed.iter().any(|who| matches!(who, Who::Pod(_))) | pods.all_but {
                found.push(Warning::Loses { pods: pods.clone(), lifeline, ports });
            }
        };
        if shift.relation != Relation::OtherNodes && !shift.denied.is_empty() {
            lost(&probed(network, shift), Lifeline::Probes, shift.denied.clone());
        }
        if shift.relation == Relation::OwnNode {
            continue;
        }
        if dns.iter().any(|who| shift.to.contains(who)) {
            lost(&shift.from, Lifeline::Dns, shift.denied.intersection(&names));
        }
        if api.iter().any(|who| shift.to.contains(who)) {
            lost(&shift.from, Lifeline::ApiServer, shift.denied.intersection(&api_ports));
        }
    }
    found
}

/// The pods of a shift whose own node is at its other end.
fn probed(network: &Network, shift: &Shift) -> Group {
    let has_nodes = shift.from.all_but || shift.from.listed.iter().any(|who| matches!(who, Who::Node { .. }));
    let of_node = |key: &&NamespacedName| {
        let node = network.pods.get(*key).and_then(|pod| pod.node.clone());
        has_nodes && node.is_some_and(|name| shift.from.contains(&Who::Node { name, gateway: false }))
    };
    let listed = || {
        shift.to.listed.iter().filter_map(|who| match who {
            Who::Pod(key) => Some(key),
            _ => None,
        })
    };
    let pods: Vec<&NamespacedName> = match shift.to.all_but {
        false => listed().filter(of_node).collect(),
        true => {
            let but: BTreeSet<&NamespacedName> = listed().collect();
            let policed = network.pods.values().filter(|pod| pod.is_policed()).map(|pod| &pod.key);
            policed.filter(|key| !but.contains(key)).filter(of_node).collect()
        }
    };
    let listed: Vec<Who> = pods.into_iter().cloned().map(Who::Pod).collect();
    Group { all_but: false, count: listed.len(), listed }
}

/// The pods that answer for names: those behind a Service of port 53, and those that are labelled so by custom.
fn dns(network: &Network) -> BTreeSet<Who> {
    let services =
        network.services.values().filter(|service| service.ports.iter().any(|port| port.port == 53));
    let endpoints = services.flat_map(|service| &service.ports).flat_map(|port| &port.endpoints);
    let behind = endpoints.filter_map(|endpoint| endpoint.pod.clone());
    let labelled = network.pods.values().filter(|pod| {
        pod.labels.get("k8s-app").is_some_and(|app| ["kube-dns", "coredns"].contains(&app.as_str()))
    });
    behind.chain(labelled.map(|pod| pod.key.clone())).map(Who::Pod).collect()
}

/// Who answers for Service default/kubernetes; where it is not known, the nodes at the port that is the custom.
fn api_server(network: &Network, difference: &Connectivity) -> (BTreeSet<Who>, PortSet) {
    let service = network.services.get(&NamespacedName::new("default", "kubernetes"));
    let endpoints: Vec<(IpAddr, u16)> = service
        .iter()
        .flat_map(|service| &service.ports)
        .flat_map(|port| &port.endpoints)
        .flat_map(|endpoint| endpoint.addresses.iter().map(|address| (*address, endpoint.port)))
        .collect();
    let node = |name: &crate::name::NodeName| Who::Node { name: name.clone(), gateway: false };
    if endpoints.is_empty() {
        let ports = PortSet::of([PortRange::single(Protocol::Tcp, 6443)]);
        return (network.nodes.keys().map(node).collect(), ports);
    }
    let who = |address: IpAddr| {
        let outside = || {
            let holds = |(first, last): &(IpAddr, IpAddr)| (*first..=*last).contains(&address);
            difference.outside.iter().find(|it| it.ranges.iter().any(holds)).map(|it| it.who.clone())
        };
        network.node_at(address).map(|it| node(&it.name)).or_else(outside)
    };
    let ports = PortSet::of(endpoints.iter().map(|(_, port)| PortRange::single(Protocol::Tcp, *port)));
    (endpoints.iter().filter_map(|(address, _)| who(*address)).collect(), ports)
}
