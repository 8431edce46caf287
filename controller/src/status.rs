//! The state as the CLI reads it: nodes, pods, policies, problems. Only reads; changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use api::insight::{ManifestItem, NodeItem, PodItem, PolicyItem, PolicyRule, ProblemItem, RuleItem};
use api::stream::ResourceId;
use network::{Direction, Network, NodeName, Pod, Policy, Tier};

use crate::state::State;

/// Which pods or policies are asked for; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// On (or needed by) this node.
    pub node: Option<NodeName>,
    /// In this namespace.
    pub namespace: Option<String>,
}

impl Filter {
    fn namespace(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
    }
}

/// The nodes, and agents without a node.
pub fn nodes(state: &State) -> Vec<NodeItem> {
    let network = state.network();
    let mut pods: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for pod in network.pods.values().filter(|pod| pod.is_policed()) {
        if let Some(node) = &pod.node {
            *pods.entry(node).or_default() += 1;
        }
    }
    let names: BTreeSet<&NodeName> = network.nodes.keys().chain(state.agents().keys()).collect();
    let item = |name: &NodeName| {
        let (node, agent) = (network.nodes.get(name), state.agents().get(name));
        NodeItem {
            name: name.clone(),
            addresses: node.map(|node| node.addresses.clone()).unwrap_or_default(),
            pod_cidrs: node.map(|node| node.pod_cidrs.clone()).unwrap_or_default(),
            pods: pods.get(name).copied().unwrap_or(0),
            connected: agent.is_some_and(|agent| agent.is_connected()),
            agent_version: agent.map(|agent| agent.version().to_owned()).unwrap_or_default(),
            pending: agent.map_or(0, |agent| agent.pending()),
            realized: agent.is_some_and(|agent| agent.is_realized()),
        }
    };
    names.into_iter().map(item).collect()
}

/// The pods.
pub fn pods(state: &State, filter: &Filter) -> Vec<PodItem> {
    let network = &state.network();
    let wanted = |pod: &&Pod| {
        filter.namespace(pod.key.namespace()) && (filter.node.is_none() || filter.node == pod.node)
    };
    let isolating = |pod: &Pod, direction| {
        network
            .policies
            .values()
            .filter(|policy| policy.isolates.of(direction) && selects(network, policy, pod))
            .map(|policy| policy.id.to_string())
            .collect()
    };
    let item = |pod: &Pod| PodItem {
        pod: pod.key.clone(),
        uid: pod.uid.clone(),
        node: pod.node.clone(),
        addresses: pod.addresses.clone(),
        host_network: pod.host_network,
        ingress_policies: isolating(pod, Direction::Ingress),
        egress_policies: isolating(pod, Direction::Egress),
    };
    network.pods.values().filter(wanted).map(item).collect()
}

/// The policies.
pub fn policies(state: &State, filter: &Filter) -> Vec<PolicyItem> {
    let network = &state.network();
    let problems = state.problems();
    let mut items = Vec::new();
    for policy in network.policies.values().filter(|policy| filter.namespace(&policy.id.namespace)) {
        let selected: Vec<&Pod> = network
            .selectors
            .get(&policy.subject)
            .map(|s| network.select_pods(s).collect())
            .unwrap_or_default();
        let nodes: BTreeSet<NodeName> = selected.iter().filter_map(|pod| pod.node.clone()).collect();
        if filter.node.as_ref().is_some_and(|node| !nodes.contains(node)) {
            continue;
        }
        let rules = |direction| policy.rules.iter().filter(|rule| rule.direction == direction).count();
        let name = policy.id.to_string();
        let own = problems.iter().filter(|problem| problem.object == name);
        items.push(PolicyItem {
            policy: name.clone(),
            generation: policy.generation,
            tier: match policy.tier {
                Tier::Admin => "admin",
                Tier::NetworkPolicy => "networkpolicy",
                Tier::Baseline => "baseline",
            }
            .into(),
            ingress_rules: rules(Direction::Ingress),
            egress_rules: rules(Direction::Egress),
            pods: selected.len(),
            realized: nodes.iter().filter(|node| is_in_force(state, policy, node)).cloned().collect(),
            nodes: nodes.into_iter().collect(),
            rules: Vec::new(),
            problems: own.map(|problem| format!("{}: {}", problem.source, problem.message)).collect(),
        });
    }
    items
}

/// Adds what agents counted, summed over them.
pub fn add_rules(policies: &mut [PolicyItem], counted: impl Iterator<Item = RuleItem>) {
    let mut places: BTreeMap<String, &mut PolicyItem> =
        policies.iter_mut().map(|item| (item.policy.clone(), item)).collect();
    for one in counted {
        let Some(policy) = places.get_mut(&one.policy) else { continue };
        let place = policy.rules.iter().position(|rule| rule.rule == one.rule).unwrap_or_else(|| {
            let (rule, nodes) = (one.rule.clone(), BTreeMap::new());
            policy.rules.push(PolicyRule { rule, packets: 0, bytes: 0, flows: 0, shared: false, nodes });
            policy.rules.len() - 1
        });
        let Some(rule) = policy.rules.get_mut(place) else { continue };
        rule.packets = rule.packets.saturating_add(one.packets);
        rule.bytes = rule.bytes.saturating_add(one.bytes);
        rule.flows = rule.flows.saturating_add(one.flows);
        rule.shared |= one.shared;
        rule.nodes.insert(one.node, one.generation);
    }
    policies.iter_mut().for_each(|policy| policy.rules.sort_by(|a, b| a.rule.cmp(&b.rule)));
}

/// What could not be used.
pub fn problems(state: &State) -> Vec<ProblemItem> {
    state.problems().into_iter().map(ProblemItem::from).collect()
}

/// Whether there is a policy of this name: as `NAMESPACE/NAME`, with its kind before it, or bare.
pub fn has_policy(state: &State, name: &str) -> bool {
    state.index().policies().map(|policy| &policy.id).any(|id| {
        let full = id.to_string();
        full == name || id.name == name || full.split_once(' ').is_some_and(|(_, plain)| plain == name)
    })
}

/// The files that are in force.
pub fn manifests(state: &State) -> Vec<ManifestItem> {
    let item =
        |(file, sha256): (&String, &String)| ManifestItem { file: file.clone(), sha256: sha256.clone() };
    state.files().into_iter().flatten().map(item).collect()
}

fn selects(network: &Network, policy: &Policy, pod: &Pod) -> bool {
    let namespace = network.namespaces.get(pod.key.namespace()).cloned().unwrap_or_default();
    network.selectors.get(&policy.subject).is_some_and(|subject| subject.selects_pod(pod, &namespace))
}

/// The node has confirmed the current version of the policy and of every set that the policy names there.
fn is_in_force(state: &State, policy: &Policy, node: &NodeName) -> bool {
    let (Some(agent), Some(resources)) = (state.agents().get(node), state.index().resources(node)) else {
        return false;
    };
    let realizes = |id: &ResourceId| resources.get(id).is_some_and(|held| agent.realizes(id, held.version));
    let sets = policy.rules.iter().flat_map(|rule| match &rule.peers {
        network::Peers::Any => Vec::new(),
        network::Peers::Some { sets, .. } => sets.iter().copied().collect(),
    });
    // A set of a rule with named ports is there in restricted forms only, under other ids; those come with the policy.
    realizes(&ResourceId::Policy(policy.id.clone()))
        && sets.map(ResourceId::AddressSet).all(|id| !resources.contains(&id) || realizes(&id))
}
