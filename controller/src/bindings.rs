//! Which addresses the agents gave to which pods, and what of that the model believes. Pure; knows no stream.
//!
//! An agent is believed about a pod (same UID) that is bound to its node, at addresses of that node's pod ranges which are
//! neither the gateway's nor another pod's; anything else is refused and is a problem to show. A binding of a pod that
//! the model does not know yet waits for it. Bindings outlive the stream that reported them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::stream::Binding;
use api::watermark::Watermark;
use network::{NamespacedName, Network, Node, NodeName, Pod};
use serde::{Deserialize, Serialize};

use crate::source::{Problem, Reason};

/// The most pods that one node is believed to have: an agent cannot fill our memory. Kubernetes' own limit is 110.
pub const MAX_PODS_PER_NODE: usize = 4096;

/// What one node reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeBindings {
    /// Revision of the agent's list.
    pub revision: u64,
    /// The greatest that it ever was: an agent that lost its counter does not take others back.
    #[serde(default)]
    pub greatest: u64,
    /// Pod by name; a pod of a name has one incarnation at a time.
    #[serde(with = "as_list")]
    pub pods: BTreeMap<NamespacedName, Binding>,
}

/// What a report came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Neither the list nor its revision changed.
    Nothing,
    /// Something changed.
    Forward,
    /// The revision is smaller than it was: the agent lost its counter.
    Back,
}

/// What all nodes reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    nodes: BTreeMap<NodeName, NodeBindings>,
    /// Which nodes report a pod.
    reporters: BTreeMap<NamespacedName, BTreeSet<NodeName>>,
    /// Pods of which something else is reported than when [`Bindings::take_touched`] was asked last.
    touched: BTreeSet<NamespacedName>,
}

impl Bindings {
    /// Starts with what was saved.
    pub fn restore(nodes: BTreeMap<NodeName, NodeBindings>) -> Self {
        let mut reporters: BTreeMap<NamespacedName, BTreeSet<NodeName>> = BTreeMap::new();
        for (node, held) in &nodes {
            for key in held.pods.keys() {
                reporters.entry(key.clone()).or_default().insert(node.clone());
            }
        }
        let touched = reporters.keys().cloned().collect();
        Self { nodes, reporters, touched }
    }

    /// Whether no pod is reported.
    pub fn is_empty(&self) -> bool {
        self.reporters.is_empty()
    }

    /// The nodes that report a pod.
    pub fn reporters(&self, key: &NamespacedName) -> impl Iterator<Item = &NodeName> {
        self.reporters.get(key).into_iter().flatten()
    }

    /// The pods of which something else is reported than before.
    pub fn take_touched(&mut self) -> BTreeSet<NamespacedName> {
        std::mem::take(&mut self.touched)
    }

    fn reports(&mut self, node: &NodeName, key: &NamespacedName, there: bool) {
        self.touched.insert(key.clone());
        if there {
            self.reporters.entry(key.clone()).or_default().insert(node.clone());
        } else if let Some(nodes) = self.reporters.get_mut(key) {
            nodes.remove(node);
            if nodes.is_empty() {
                self.reporters.remove(key);
            }
        }
    }

    /// Takes in what a node reports now.
    fn put(&mut self, node: &NodeName, pods: BTreeMap<NamespacedName, Binding>) -> bool {
        let held = self.nodes.entry(node.clone()).or_default();
        if held.pods == pods {
            return false;
        }
        let before = std::mem::replace(&mut held.pods, pods.clone());
        for key in before.keys().filter(|key| !pods.contains_key(key)) {
            self.reports(node, key, false);
        }
        for (key, _) in pods.iter().filter(|(key, binding)| before.get(key) != Some(binding)) {
            self.reports(node, key, true);
        }
        true
    }

    /// What every node reported.
    pub fn all(&self) -> &BTreeMap<NodeName, NodeBindings> {
        &self.nodes
    }

    /// What a node reported, if it ever did.
    pub fn of(&self, node: &NodeName) -> Option<&NodeBindings> {
        self.nodes.get(node)
    }

    /// A full list, as a Hello carries it. Revision 0 says "unknown": the recorded one stays.
    pub fn replace(&mut self, node: &NodeName, bound: Vec<Binding>, revision: u64) -> Change {
        let known = self.nodes.contains_key(node);
        let pods =
            bound.into_iter().take(MAX_PODS_PER_NODE).map(|binding| (binding.pod.clone(), binding)).collect();
        let changed = self.put(node, pods) || !known;
        let held = self.nodes.entry(node.clone()).or_default();
        advance(held, if revision == 0 { held.revision } else { revision }, changed)
    }

    /// Pods plugged and unplugged since.
    pub fn update(
        &mut self,
        node: &NodeName,
        bound: Vec<Binding>,
        released: &BTreeSet<String>,
        revision: u64,
    ) -> Change {
        let mut pods = self.nodes.get(node).map(|held| held.pods.clone()).unwrap_or_default();
        pods.retain(|_, binding| !released.contains(&binding.uid));
        for binding in bound {
            if pods.len() < MAX_PODS_PER_NODE || pods.contains_key(&binding.pod) {
                pods.insert(binding.pod.clone(), binding);
            }
        }
        let changed = self.put(node, pods);
        advance(self.nodes.entry(node.clone()).or_default(), revision, changed)
    }

    /// Forgets the pods of nodes that `keep` does not want; their revision stays, or watermarks would go back.
    pub fn forget(&mut self, keep: impl Fn(&NodeName) -> bool) {
        let gone = self.nodes.iter().filter(|(node, held)| !held.pods.is_empty() && !keep(node));
        for node in gone.map(|(node, _)| node.clone()).collect::<Vec<_>>() {
            self.put(&node, BTreeMap::new());
        }
    }

    /// The revision of every node that reported something, by source name, as everybody but the node itself sees it: it
    /// never goes back.
    pub fn revisions(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        self.nodes
            .iter()
            .map(|(node, held)| (Watermark::bindings_of(node), held.greatest.max(held.revision)))
            .filter(|(_, revision)| *revision > 0)
    }

    /// The revision of a node's list where it is smaller than it once was: what the node itself has to see, which waits
    /// for its own reports.
    pub fn went_back(&self, node: &NodeName) -> Option<u64> {
        self.nodes.get(node).filter(|held| held.revision < held.greatest).map(|held| held.revision)
    }

    /// Nodes that report more than is taken.
    pub fn overfull(&self) -> impl Iterator<Item = Problem> + '_ {
        self.nodes.iter().filter(|(_, held)| held.pods.len() >= MAX_PODS_PER_NODE).map(|(node, _)| Problem {
            object: format!("Node {node}"),
            source: format!("bindings of node {node}"),
            message: format!(
                "its agent reports {MAX_PODS_PER_NODE} pods; more are not taken, look at the node"
            ),
            reason: Reason::NotRealized,
        })
    }

    /// The network with the addresses that agents reported in place of the objects' own, and what was refused:
    /// everything at once, as the index says it change by change.
    pub fn merge(&self, mut network: Network) -> (Network, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut accepted: BTreeMap<NamespacedName, (&NodeName, &Binding)> = BTreeMap::new();
        problems.extend(self.overfull());
        for (node, held) in &self.nodes {
            for (key, binding) in &held.pods {
                let Some(pod) = network.pods.get(key).filter(|pod| pod.uid == binding.uid) else { continue };
                match judge(network.nodes.get(node), node, pod, binding) {
                    Verdict::Believed => {
                        accepted.insert(key.clone(), (node, binding));
                    }
                    Verdict::Waits => {}
                    Verdict::Refused(reason) => problems.push(refusal(node, binding, &reason)),
                }
            }
        }
        // Who owns what without these reports, then the reports in the order of the pods: the smaller key keeps an address.
        let mut owners: BTreeMap<IpAddr, NamespacedName> = network
            .pods
            .values()
            .filter(|pod| pod.is_policed() && !accepted.contains_key(&pod.key))
            .flat_map(|pod| pod.addresses.iter().map(|address| (*address, pod.key.clone())))
            .collect();
        for (key, (node, binding)) in accepted {
            if let Some((address, owner)) =
                binding.addresses.iter().find_map(|address| Some((address, owners.get(address)?)))
            {
                problems.push(refusal(node, binding, &format!("{address} is the address of pod {owner}")));
                continue;
            }
            owners.extend(binding.addresses.iter().map(|address| (*address, key.clone())));
            if let Some(pod) = network.pods.get_mut(&key) {
                pod.addresses.clone_from(&binding.addresses);
            }
        }
        problems.sort();
        (network, problems)
    }
}

fn advance(held: &mut NodeBindings, revision: u64, changed: bool) -> Change {
    let before = std::mem::replace(&mut held.revision, revision);
    held.greatest = held.greatest.max(before).max(revision);
    match revision.cmp(&before) {
        std::cmp::Ordering::Less => Change::Back,
        std::cmp::Ordering::Equal if !changed => Change::Nothing,
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Change::Forward,
    }
}

/// Whether a report is believed, as long as nobody else has its addresses.
pub(crate) enum Verdict {
    Believed,
    Waits,
    Refused(String),
}

/// Judges what the agent of the node `name` reports of a pod of the same UID.
pub(crate) fn judge(node: Option<&Node>, name: &NodeName, pod: &Pod, binding: &Binding) -> Verdict {
    match &pod.node {
        None => return Verdict::Waits,
        Some(bound) if bound != name => {
            return Verdict::Refused(format!("the pod is bound to node {bound}"));
        }
        Some(_) => {}
    }
    if pod.host_network {
        return Verdict::Refused("the pod lives in its node's network namespace".into());
    }
    let Some(node) = node else { return Verdict::Waits };
    match binding.addresses.iter().find_map(|address| outside(node, *address)) {
        Some(reason) => Verdict::Refused(reason),
        None => Verdict::Believed,
    }
}

fn outside(node: &Node, address: IpAddr) -> Option<String> {
    if node.owns(address) {
        Some(format!("{address} is the node's own address"))
    } else if node.pod_cidrs.iter().any(|cidr| cidr.contains(address)) {
        None
    } else {
        Some(format!("{address} is in none of the node's pod ranges {:?}", node.pod_cidrs))
    }
}

pub(crate) fn refusal(node: &NodeName, binding: &Binding, reason: &str) -> Problem {
    Problem {
        object: format!("Pod {}", binding.pod),
        source: format!("bindings of node {node}"),
        message: format!(
            "the agent reports addresses {:?}: refused, {reason}; check the agent's address ranges and whether the node \
             can be trusted",
            binding.addresses
        ),
        reason: Reason::NotRealized,
    }
}

/// A list on disk: the name is in the binding already.
mod as_list {
    use std::collections::BTreeMap;

    use api::stream::Binding;
    use network::NamespacedName;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(
        pods: &BTreeMap<NamespacedName, Binding>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(pods.values())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<NamespacedName, Binding>, D::Error> {
        let list = Vec::<Binding>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|binding| (binding.pod.clone(), binding)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(k: u8) -> Node {
        Node {
            name: NodeName::new(format!("node-{k}")),
            labels: BTreeMap::new(),
            addresses: vec![format!("192.0.2.{k}").parse().unwrap()],
            pod_cidrs: vec![format!("10.244.{k}.0/24").parse().unwrap()],
            ..Node::default()
        }
    }

    fn pod(name: &str, k: u8, addresses: &[&str]) -> Pod {
        Pod {
            key: NamespacedName::new("shop", name),
            uid: format!("uid-{name}"),
            node: Some(NodeName::new(format!("node-{k}"))),
            labels: Default::default(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            host_network: false,
            completed: false,
            ports: vec![],
        }
    }

    fn binding(name: &str, address: &str) -> Binding {
        Binding {
            pod: NamespacedName::new("shop", name),
            uid: format!("uid-{name}"),
            addresses: vec![address.parse().unwrap()],
            interface: "fe0".into(),
        }
    }

    fn network(pods: Vec<Pod>) -> Network {
        Network {
            nodes: [node(1), node(2)].into_iter().map(|node| (node.name.clone(), node)).collect(),
            pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
            ..Network::default()
        }
    }

    fn reported(k: u8, bound: Vec<Binding>) -> Bindings {
        let mut bindings = Bindings::default();
        bindings.replace(&NodeName::new(format!("node-{k}")), bound, 1);
        bindings
    }

    fn merged(bindings: &Bindings, pods: Vec<Pod>, name: &str) -> (Vec<String>, Vec<String>) {
        let (network, problems) = bindings.merge(network(pods));
        let pod = &network.pods[&NamespacedName::new("shop", name)];
        let addresses = pod.addresses.iter().map(ToString::to_string).collect();
        (addresses, problems.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn a_binding_of_the_same_pod_replaces_the_objects_address() {
        let bindings = reported(1, vec![binding("cart", "10.244.1.7")]);
        assert_eq!(merged(&bindings, vec![pod("cart", 1, &[])], "cart"), (vec!["10.244.1.7".into()], vec![]));
        assert_eq!(
            merged(&bindings, vec![pod("cart", 1, &["10.244.1.9"])], "cart").0,
            vec!["10.244.1.7".to_owned()]
        );
        let other = Pod { uid: "uid-recreated".into(), ..pod("cart", 1, &["10.244.1.9"]) };
        assert_eq!(merged(&bindings, vec![other], "cart"), (vec!["10.244.1.9".into()], vec![]));
    }

    #[test]
    fn a_binding_that_the_model_does_not_know_waits() {
        let bindings = reported(1, vec![binding("later", "10.244.1.7")]);
        let (merged_network, problems) = bindings.merge(network(vec![]));
        assert_eq!((merged_network, problems), (network(vec![]), vec![]));
        assert_eq!(merged(&bindings, vec![pod("later", 1, &[])], "later").0, vec!["10.244.1.7".to_owned()]);
    }

    #[test]
    fn lies_are_refused_and_named() {
        let refused = |bindings: &Bindings, pods| {
            let (addresses, problems) = merged(bindings, pods, "cart");
            assert_eq!((addresses.as_slice(), problems.len()), (&[][..], 1), "{problems:?}");
            problems[0].clone()
        };
        let theirs = reported(2, vec![binding("cart", "10.244.2.7")]);
        assert!(refused(&theirs, vec![pod("cart", 1, &[])]).contains("bound to node node-1"));
        let range = reported(1, vec![binding("cart", "10.244.2.7")]);
        assert!(refused(&range, vec![pod("cart", 1, &[])]).contains("none of the node's pod ranges"));
        let gateway = reported(1, vec![binding("cart", "10.244.1.1")]);
        assert!(refused(&gateway, vec![pod("cart", 1, &[])]).contains("the node's own address"));
        let taken = reported(1, vec![binding("cart", "10.244.1.7")]);
        let pods = vec![pod("cart", 1, &[]), pod("web", 1, &["10.244.1.7"])];
        assert!(refused(&taken, pods).contains("address of pod shop/web"));
        let host = Pod { host_network: true, ..pod("cart", 1, &[]) };
        assert!(refused(&taken, vec![host]).contains("its node's network namespace"));
    }

    #[test]
    fn of_two_reports_of_one_address_the_smaller_pod_keeps_it() {
        let bindings = reported(1, vec![binding("b", "10.244.1.7"), binding("a", "10.244.1.7")]);
        let pods = || vec![pod("a", 1, &[]), pod("b", 1, &[])];
        assert_eq!(merged(&bindings, pods(), "a").0, vec!["10.244.1.7".to_owned()]);
        let (b, problems) = merged(&bindings, pods(), "b");
        assert_eq!((b.len(), problems.len()), (0, 1));
        // A completed pod owns nothing any more.
        let done = Pod { completed: true, ..pod("z", 1, &["10.244.1.7"]) };
        let one = reported(1, vec![binding("a", "10.244.1.7")]);
        assert_eq!(merged(&one, vec![pod("a", 1, &[]), done], "a").1, Vec::<String>::new());
    }

    #[test]
    fn revisions_tell_forward_from_back() {
        let node = NodeName::new("node-1");
        let mut bindings = Bindings::default();
        assert_eq!(bindings.replace(&node, vec![], 0), Change::Forward);
        assert_eq!(bindings.replace(&node, vec![], 0), Change::Nothing);
        assert_eq!(bindings.update(&node, vec![binding("a", "10.244.1.7")], &[].into(), 5), Change::Forward);
        // An advanced revision alone is news: somebody waits for it.
        assert_eq!(bindings.update(&node, vec![], &[].into(), 6), Change::Forward);
        assert_eq!(bindings.replace(&node, vec![binding("a", "10.244.1.7")], 0), Change::Nothing);
        assert_eq!(bindings.update(&node, vec![], &["uid-a".into()].into(), 7), Change::Forward);
        assert!(bindings.of(&node).unwrap().pods.is_empty());
        assert_eq!(bindings.replace(&node, vec![], 2), Change::Back);
        // Others are not taken back.
        assert_eq!(bindings.revisions().collect::<Vec<_>>(), [("bindings/node-1".to_owned(), 7)]);
        assert_eq!(bindings.went_back(&node), Some(2));
        bindings.update(&node, vec![], &[].into(), 8);
        assert_eq!((bindings.revisions().next().unwrap().1, bindings.went_back(&node)), (8, None));
    }

    #[test]
    fn a_node_cannot_report_without_end() {
        let mut bindings = Bindings::default();
        let node = NodeName::new("node-1");
        for k in 0..3 {
            let many = (0..2000).map(|n| binding(&format!("p{k}-{n}"), "10.244.1.7")).collect();
            bindings.update(&node, many, &[].into(), 1 + k);
        }
        assert_eq!(bindings.of(&node).unwrap().pods.len(), MAX_PODS_PER_NODE);
        let (_, problems) = bindings.merge(network(vec![]));
        assert_eq!(problems[0].object, "Node node-1");
    }

    #[test]
    fn what_is_saved_reads_back() {
        let mut bindings = reported(1, vec![binding("a", "10.244.1.7")]);
        bindings.update(&NodeName::new("node-1"), vec![], &[].into(), 9);
        let held = bindings.of(&NodeName::new("node-1")).unwrap();
        let text = serde_json::to_string(held).unwrap();
        assert_eq!(&serde_json::from_str::<NodeBindings>(&text).unwrap(), held);
    }
}
