//! What workloads do to a network whose objects are not at hand. Pods of theirs that are there get what the template says and
//! keep their names and places; those that they make beside them are placed without a scheduler, as for manifests
//! (docs/contracts.md). Which pods are whose is read off names and selectors.

use std::sync::Arc;

use network::workload::workloads_of;
use network::{Change, LabelSelector, NamespacedName, Network, Node, NodeName, Pod};

use crate::amend_network::{Amended, Assumption};
use crate::endpoints::of_namespace;
use crate::expand::{made_by, not_taken, one, owners};
use crate::offline::hand_out_beside;
use crate::problem::ObjectRef;
use crate::set::{Object, ObjectSet, Workload, WorkloadKind};
use crate::translate::pod::pod_at;

/// Labels that controllers and the API server give pods: no template says them, and they stay.
const GIVEN: [&str; 6] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "controller-uid",
];
const GIVEN_UNDER: [&str; 2] = ["batch.kubernetes.io/", "topology.kubernetes.io/"];

impl Amended {
    /// Every workload of a change whose pods, or whose ReplicaSets, are not in it themselves.
    pub(crate) fn workloads(&mut self, change: &ObjectSet) {
        for object in of_their_own(change) {
            let workload = &object.value;
            let labels = workload.template.metadata.as_ref().and_then(|it| it.labels.clone());
            let means = |selector: &LabelSelector| selector.matches(&labels.unwrap_or_default());
            if workload.kind != WorkloadKind::Job && !workload.selector.as_ref().is_none_or(means) {
                self.assume(workload, Assumption::Refused);
            }
            let (its, strangers) = self.pods_named(workload);
            if its.is_empty() && strangers > 0 {
                self.assume(workload, Assumption::Strangers { pods: strangers });
            }
            // The template of a Job that is there cannot be changed, and how many of its pods ended is not known.
            if workload.kind == WorkloadKind::Job && !its.is_empty() {
                continue;
            }
            let mut is_told = false;
            for key in &its {
                self.renew(object, key, &mut is_told);
            }
            self.scale(object, its, is_told);
        }
    }

    /// The pods of workloads that go.
    pub(crate) fn workloads_gone(&mut self, change: &ObjectSet) {
        for object in of_their_own(change) {
            let (its, _) = self.pods_named(&object.value);
            if its.is_empty() {
                self.assume(&object.value, Assumption::NoPods);
            }
            its.into_iter().for_each(|key| self.network.apply(Change::PodGone(key)));
        }
    }

    /// Gives pods that are new a place and addresses, where their objects do not say any.
    pub(crate) fn place(&mut self, earlier: &Network, change: &ObjectSet) {
        let nodes: Vec<Node> = self.network.nodes.values().cloned().collect();
        let is_new = |key: &&NamespacedName| !earlier.pods.contains_key(*key);
        let keys: Vec<NamespacedName> = self.network.pods.keys().filter(is_new).cloned().collect();
        let mut pods: Vec<Pod> = keys.iter().filter_map(|key| self.network.pods.remove(key)).collect();
        let unplaced = pods.iter_mut().filter(|pod| pod.node.is_none());
        for (pod, node) in unplaced.zip(nodes.iter().cycle()) {
            pod.node = Some(node.name.clone());
            if change.pods.contains_key(&pod.key) {
                let object = ObjectRef::namespaced("Pod", pod.key.namespace(), pod.key.name());
                self.assumed.push((object, Assumption::Placed { pods: 1 }));
            }
        }
        for pod in pods.iter_mut().filter(|pod| pod.host_network) {
            let node = pod.node.as_ref().and_then(|name| self.network.nodes.get(name));
            pod.addresses = node.map(|node| node.addresses.clone()).unwrap_or_default();
        }
        let all = self.network.pods.values().chain(&pods);
        let taken = all.flat_map(|pod| pod.addresses.iter().copied()).collect();
        self.problems.extend(hand_out_beside(&mut pods, &nodes, taken));
        pods.into_iter().for_each(|pod| self.network.apply(Change::Pod(pod)));
    }

    fn assume(&mut self, workload: &Workload, what: Assumption) {
        let (kind, key) = (workload.kind.as_str(), &workload.key);
        self.assumed.push((ObjectRef::namespaced(kind, key.namespace(), key.name()), what));
    }

    /// The pods of a workload, and how many others bear its name.
    fn pods_named(&self, workload: &Workload) -> (Vec<NamespacedName>, usize) {
        let all = of_namespace(&self.network.pods, workload.key.namespace());
        let named = all.filter(|pod| {
            !self.touched.contains(&pod.key)
                && !pod.completed
                && workloads_of(pod).contains(&workload.key.name())
        });
        let is_its = |pod: &&Pod| workload.selector.as_ref().is_none_or(|it| it.matches(&pod.labels));
        let (its, others): (Vec<&Pod>, Vec<&Pod>) = named.partition(is_its);
        (its.into_iter().map(|pod| pod.key.clone()).collect(), others.len())
    }

    /// Gives a pod what the template says. It keeps its name and node, and its addresses while its network stays the same.
    fn renew(&mut self, object: &Object<Workload>, key: &NamespacedName, is_told: &mut bool) {
        let Some(earlier) = self.network.pods.get(key) else { return };
        let of_name = key.name().strip_prefix(object.value.key.name());
        let suffix = of_name.and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        let made = one(&object.value, suffix.to_owned());
        let (mut pod, problems) = pod_at(&made.pod, object.source().as_ref());
        let labels = Arc::make_mut(&mut pod.labels);
        let is_given = |label: &&String| {
            GIVEN.contains(&label.as_str()) || GIVEN_UNDER.iter().any(|under| label.starts_with(under))
        };
        for (label, value) in earlier.labels.iter().filter(|(label, _)| is_given(label)) {
            labels.entry(label.clone()).or_insert_with(|| value.clone());
        }
        pod.key.clone_from(key);
        pod.uid.clone_from(&earlier.uid);
        pod.node.clone_from(&earlier.node);
        if pod.host_network == earlier.host_network {
            pod.addresses.clone_from(&earlier.addresses);
        } else if let Some(node) = pod.node.as_ref().and_then(|name| self.network.nodes.get(name)) {
            if pod.host_network {
                pod.addresses.clone_from(&node.addresses);
            } else {
                let others = self.network.pods.values().flat_map(|pod| pod.addresses.iter().copied());
                let problems = hand_out_beside(
                    std::slice::from_mut(&mut pod),
                    std::slice::from_ref(node),
                    others.collect(),
                );
                self.problems.extend(problems);
            }
        }
        if !std::mem::replace(is_told, true) {
            self.problems.extend(problems);
        }
        if pod != *earlier {
            self.touched.insert(key.clone());
            self.network.apply(Change::Pod(pod));
        }
    }

    /// Makes the pods that are missing, and takes away those of which it is certain that they go.
    fn scale(&mut self, object: &Object<Workload>, its: Vec<NamespacedName>, is_told: bool) {
        let workload = &object.value;
        let nodes: Vec<NodeName> = self.network.nodes.keys().cloned().collect();
        let (made, goes): (Vec<_>, Vec<_>) = match workload.kind {
            // Which nodes it means is not known; once it is there, those where it is.
            WorkloadKind::DaemonSet if its.is_empty() => (made_by(workload, &nodes), vec![]),
            WorkloadKind::DaemonSet => return,
            _ if !workload.is_counted && !its.is_empty() => return,
            WorkloadKind::StatefulSet => {
                let wanted = made_by(workload, &nodes);
                let is_wanted = |key: &NamespacedName| wanted.iter().any(|made| made.name == key.name());
                let goes = its.iter().filter(|key| !is_wanted(key)).cloned().collect();
                (
                    wanted.into_iter().filter(|made| its.iter().all(|key| key.name() != made.name)).collect(),
                    goes,
                )
            }
            _ => {
                let (count, has) = (workload.count as usize, its.len());
                let free = |index: &u32| {
                    let name = format!("{}-{index}", workload.key.name());
                    !self.network.pods.contains_key(&NamespacedName::new(workload.key.namespace(), name))
                };
                let indexes = (0..u32::MAX).filter(free).take(count.saturating_sub(has));
                let made = indexes.map(|index| one(workload, index.to_string())).collect();
                if count > 0 && count < has {
                    self.assume(workload, Assumption::Kept { going: has - count, pods: has });
                }
                (made, if count == 0 { its } else { vec![] })
            }
        };
        goes.into_iter().for_each(|key| self.network.apply(Change::PodGone(key)));
        if !made.is_empty() {
            self.assume(workload, Assumption::Placed { pods: made.len() });
        }
        for (number, made) in made.into_iter().enumerate() {
            let (mut pod, problems) = pod_at(&made.pod, object.source().as_ref());
            if number == 0 && !is_told {
                self.problems.extend(problems);
            }
            // Somebody else's pod may be called so.
            pod.key = not_taken(pod.key, |key| self.network.pods.contains_key(key));
            self.touched.insert(pod.key.clone());
            self.name_namespace(pod.key.namespace());
            self.network.apply(Change::Pod(pod));
        }
    }
}

/// The workloads of a set but those whose pods, or whose ReplicaSets, stand in it.
fn of_their_own(change: &ObjectSet) -> Vec<&Object<Workload>> {
    let owners = owners(change);
    let is_owner = |workload: &Workload| {
        let (kind, key) = (workload.kind.as_str(), &workload.key);
        owners.contains(&(key.namespace(), kind, key.name()))
    };
    change.workloads.values().filter(|object| !is_owner(&object.value)).collect()
}
