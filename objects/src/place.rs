//! Gives every pod its node without a scheduler: sorted by name, round-robin over the nodes in their order. Pods that are
//! bound already, and those of DaemonSets, stay where they are; one that asks for an address of a node's pod range goes there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use network::{NamespacedName, Node, NodeName, Pod};

use crate::expand::expand;
use crate::problem::{Fault, ObjectRef, Problem, Source};
use crate::set::ObjectSet;
use crate::translate::pod::pod_at;

/// The pods of an input with their nodes.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// Sorted by name. `addresses` are those that the input asks for; a host-network pod has its node's.
    pub pods: Vec<Pod>,
    /// What is wrong with the others.
    pub problems: Vec<Problem>,
}

/// Expands the workloads of a set and places all pods on `nodes`. Left out, each with a problem: pods bound to an unknown
/// node, and pods that ask for an address that somebody before them has.
pub fn place(objects: &ObjectSet, nodes: &[Node]) -> Placement {
    place_beside(objects, nodes, &BTreeMap::new())
}

/// The same, but pods that are settled already stay: they keep their node, unless their object says another, and with the node
/// the addresses that they do not ask for.
pub fn place_beside(
    objects: &ObjectSet,
    nodes: &[Node],
    settled: &BTreeMap<NamespacedName, Pod>,
) -> Placement {
    let mut problems = Vec::new();
    let names: Vec<NodeName> = nodes.iter().map(|node| node.name.clone()).collect();
    let mut sources = BTreeMap::new();
    let mut pods = Vec::new();
    let mut next = 0;
    for (key, expanded) in expand(objects, &names, &mut problems) {
        let (mut pod, faults) = pod_at(&expanded.pod, expanded.source.as_ref());
        if !expanded.repeated {
            problems.extend(faults);
        }
        let before = settled.get(&pod.key).filter(|before| before.host_network == pod.host_network);
        if pod.node.is_none() && !names.is_empty() {
            let stays = before.and_then(|before| before.node.clone()).filter(|node| names.contains(node));
            let turn = || names[next % names.len()].clone();
            pod.node = Some(home(&pod, nodes).or(stays).unwrap_or_else(turn));
            next += 1;
        }
        if let Some(before) = before.filter(|before| before.node == pod.node && pod.addresses.is_empty()) {
            pod.addresses.clone_from(&before.addresses);
        }
        sources.insert(key, expanded.source);
        pods.push(pod);
    }
    let source = |key: &NamespacedName| sources.get(key).cloned().flatten();
    let mut check = Check::new(nodes);
    pods.retain_mut(|pod| match check.admit_whole(pod, "the pod is left out") {
        faults if faults.is_empty() => true,
        faults => {
            problems.extend(faults.into_iter().map(|fault| problem(pod, source(&pod.key), fault)));
            false
        }
    });
    Placement { pods, problems }
}

/// The node that hands out an address which the pod asks for: nowhere else could it have it.
fn home(pod: &Pod, nodes: &[Node]) -> Option<NodeName> {
    let hands_out = |node: &&Node| {
        pod.addresses.iter().any(|address| node.pod_cidrs.iter().any(|range| range.contains(*address)))
    };
    nodes.iter().find(hands_out).filter(|_| pod.is_policed()).map(|node| node.name.clone())
}

pub(crate) fn problem(pod: &Pod, source: Option<Source>, (field, fault): FieldFault) -> Problem {
    let object = ObjectRef::namespaced("Pod", pod.key.namespace(), pod.key.name());
    Problem { object: Some(object), source, field: Some(field.to_owned()), fault }
}

pub(crate) type FieldFault = (&'static str, Fault);

/// What a pod is checked against: the nodes, and who has an address already.
pub(crate) trait Neighbours {
    fn node(&self, name: &NodeName) -> Option<&Node>;
    fn is_empty(&self) -> bool;
    /// The nodes there are, for messages.
    fn names(&self) -> Vec<&NodeName>;
    /// Whose an address is, when it is another's than the pod's.
    fn owner(&self, address: IpAddr, pod: &NamespacedName) -> Option<ObjectRef>;
}

/// Names in a message; of many, only the first.
const NAMES_IN_MESSAGE: usize = 10;

/// What is wrong with a pod here. A host-network pod gets its node's addresses; addresses that others have are taken from
/// the pod. A fault of `spec.nodeName` says that there is no place for it.
pub(crate) fn admit(
    pod: &mut Pod,
    neighbours: &impl Neighbours,
    consequence: &'static str,
) -> Vec<FieldFault> {
    let node = match &pod.node {
        None if neighbours.is_empty() => return vec![("spec.nodeName", Fault::NoNodes)],
        None => None,
        Some(name) => match neighbours.node(name) {
            Some(node) => Some(node),
            None => {
                let names = neighbours.names();
                let mut known: Vec<&str> =
                    names.iter().take(NAMES_IN_MESSAGE).map(|name| name.as_str()).collect();
                if names.len() > known.len() {
                    known.push("…");
                }
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return vec![("spec.nodeName", Fault::UnknownNode { node: name.to_string(), known })];
            }
        },
    };
    if pod.host_network {
        pod.addresses = node.map(|node| node.addresses.clone()).unwrap_or_default();
        return Vec::new();
    }
    if pod.completed {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let key = pod.key.clone();
    pod.addresses.retain(|address| match neighbours.owner(*address, &key) {
        None => true,
        Some(owner) => {
            faults.push(("status.podIPs", Fault::AddressTaken { address: *address, owner, consequence }));
            false
        }
    });
    faults
}

/// Checks pods against the nodes and against the pods before them.
pub(crate) struct Check<'a> {
    nodes: BTreeMap<&'a NodeName, &'a Node>,
    taken: BTreeMap<IpAddr, ObjectRef>,
}

impl<'a> Check<'a> {
    pub(crate) fn new(nodes: &'a [Node]) -> Self {
        let mut taken = BTreeMap::new();
        for node in nodes {
            for address in node.addresses.iter().copied().chain(node.gateway_addresses()) {
                taken.entry(address).or_insert_with(|| ObjectRef::cluster("Node", node.name.as_str()));
            }
        }
        Self { nodes: nodes.iter().map(|node| (&node.name, node)).collect(), taken }
    }

    /// Checks a pod; the addresses that it keeps are its own from now on.
    pub(crate) fn admit(&mut self, pod: &mut Pod, consequence: &'static str) -> Vec<FieldFault> {
        let faults = admit(pod, self, consequence);
        if !faults.iter().any(|(field, _)| *field == "spec.nodeName") {
            self.take(pod);
        }
        faults
    }

    /// The same for a pod that goes in whole or not at all.
    fn admit_whole(&mut self, pod: &mut Pod, consequence: &'static str) -> Vec<FieldFault> {
        let faults = admit(pod, self, consequence);
        if faults.is_empty() {
            self.take(pod);
        }
        faults
    }

    fn take(&mut self, pod: &Pod) {
        for address in pod.addresses.iter().filter(|_| pod.is_policed()) {
            let object = ObjectRef::namespaced("Pod", pod.key.namespace(), pod.key.name());
            self.taken.insert(*address, object);
        }
    }
}

impl Neighbours for Check<'_> {
    fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(name).copied()
    }

    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn names(&self) -> Vec<&NodeName> {
        self.nodes.keys().copied().collect()
    }

    fn owner(&self, address: IpAddr, _: &NamespacedName) -> Option<ObjectRef> {
        self.taken.get(&address).cloned()
    }
}
