//! A network whose objects are not at hand (a controller's), after objects were applied or deleted. Does what can be told
//! without them, and names what cannot.

use k8s_openapi::api::core::v1 as core;
use network::{Change, NamespacedName, Network, PolicyId, PolicyKind};

use crate::made_up;
use crate::problem::{ObjectRef, Problem};
use crate::set::{Object, ObjectSet};
use crate::translate::policy::Translated;
use crate::translate::{cluster_policy, namespace_labels, node, pod, policy};

/// The network after a change.
#[derive(Debug)]
pub struct Amended {
    /// The network.
    pub network: Network,
    /// What of the change is not understood.
    pub problems: Vec<Problem>,
    /// Objects whose effect cannot be told: workloads, whose pods' names are the cluster's to choose, and EndpointSlices.
    pub untold: Vec<ObjectRef>,
    /// Objects that were to be deleted and are not there.
    pub missing: Vec<ObjectRef>,
}

/// Applies objects to a network, or deletes them from it.
pub fn amend(earlier: &Network, change: &ObjectSet, delete: bool) -> Amended {
    let mut amended =
        Amended { network: earlier.clone(), problems: vec![], untold: untold(change), missing: vec![] };
    if delete {
        amended.delete(change)
    } else {
        amended.apply(change)
    }
    amended.network.prune();
    amended
}

fn untold(change: &ObjectSet) -> Vec<ObjectRef> {
    let named = |kind: &str, key: &NamespacedName| ObjectRef::namespaced(kind, &key.namespace, &key.name);
    let workloads = change.workloads.keys().map(|(key, kind)| named(kind.as_str(), key));
    workloads.chain(change.endpoint_slices.keys().map(|key| named("EndpointSlice", key))).collect()
}

impl Amended {
    fn apply(&mut self, change: &ObjectSet) {
        for (name, object) in &change.namespaces {
            let labels = namespace_labels(name, Some(&object.value));
            self.network.apply(Change::Namespace(name.clone(), labels));
        }
        let (nodes, problems) = node::nodes(change);
        self.problems.extend(problems);
        nodes.into_iter().for_each(|node| self.network.apply(Change::Node(node)));
        for object in change.network_policies.values() {
            self.policy(policy::network_policy(&object.value, object.origin.as_ref()));
        }
        for object in change.cluster_network_policies.values() {
            self.policy(cluster_policy::cluster_network_policy(&object.value, object.origin.as_ref()));
        }
        change.pods.iter().for_each(|(key, object)| self.pod(key, object));
        self.services(change);
    }

    fn policy(&mut self, translated: Translated) {
        self.problems.extend(translated.problems);
        self.name_namespace(&translated.policy.id.namespace);
        self.network.apply(Change::policy(translated.policy, translated.selectors));
    }

    /// A pod keeps what only the cluster gives: where it runs, and its addresses.
    fn pod(&mut self, key: &NamespacedName, object: &Object<core::Pod>) {
        let source = object.origin.as_ref().map(|origin| origin.source.clone());
        let (mut pod, problems) = pod::pod_at(&object.value, source.as_ref());
        self.problems.extend(problems);
        if let Some(earlier) = self.network.pods.get(key) {
            pod.uid.clone_from(&earlier.uid);
            pod.node.clone_from(&earlier.node);
            pod.addresses.clone_from(&earlier.addresses);
            pod.completed = earlier.completed;
        }
        self.name_namespace(&key.namespace);
        self.network.apply(Change::Pod(pod));
    }

    /// A Service keeps its addresses; its endpoints are the pods that it selects now.
    fn services(&mut self, change: &ObjectSet) {
        let nodes: Vec<_> = self.network.nodes.values().cloned().collect();
        let pods: Vec<_> = self.network.pods.values().cloned().collect();
        let (services, problems) = made_up::services(change, &nodes, &pods);
        self.problems.extend(problems);
        for mut service in services.into_iter().filter(|service| change.services.contains_key(&service.key)) {
            if let Some(earlier) = self.network.services.get(&service.key) {
                service.cluster_ips.clone_from(&earlier.cluster_ips);
                service.created = earlier.created;
            }
            self.network.apply(Change::Service(service));
        }
    }

    fn name_namespace(&mut self, name: &str) {
        if !name.is_empty() && !self.network.namespaces.contains_key(name) {
            self.network.apply(Change::Namespace(name.to_owned(), namespace_labels(name, None)));
        }
    }

    fn delete(&mut self, change: &ObjectSet) {
        for key in change.pods.keys() {
            let is_there = self.network.pods.contains_key(key);
            self.gone(is_there, || ObjectRef::namespaced("Pod", &key.namespace, &key.name));
            self.network.apply(Change::PodGone(key.clone()));
        }
        for key in change.services.keys() {
            let is_there = self.network.services.contains_key(key);
            self.gone(is_there, || ObjectRef::namespaced("Service", &key.namespace, &key.name));
            self.network.apply(Change::ServiceGone(key.clone()));
        }
        let policies = change.network_policies.keys().map(|key| PolicyId {
            kind: PolicyKind::NetworkPolicy,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        });
        let cluster = change.cluster_network_policies.keys().map(|name| PolicyId {
            kind: PolicyKind::ClusterNetworkPolicy,
            namespace: String::new(),
            name: name.clone(),
        });
        for id in policies.chain(cluster) {
            let is_there = self.network.policies.contains_key(&id);
            self.gone(is_there, || match id.kind {
                PolicyKind::NetworkPolicy => ObjectRef::namespaced("NetworkPolicy", &id.namespace, &id.name),
                PolicyKind::ClusterNetworkPolicy => ObjectRef::cluster("ClusterNetworkPolicy", &id.name),
            });
            self.network.apply(Change::PolicyGone(id));
        }
        for name in change.nodes.keys() {
            let node = network::NodeName::new(name);
            let is_there = self.network.nodes.contains_key(&node);
            self.gone(is_there, || ObjectRef::cluster("Node", name));
            self.network.apply(Change::NodeGone(node));
        }
        for name in change.namespaces.keys() {
            let is_there = self.network.namespaces.contains_key(name);
            self.gone(is_there, || ObjectRef::cluster("Namespace", name));
            self.network.apply(Change::NamespaceGone(name.clone()));
            self.network.pods.retain(|key, _| key.namespace != *name);
            self.network.services.retain(|key, _| key.namespace != *name);
            self.network.policies.retain(|id, _| id.namespace != *name);
        }
    }

    fn gone(&mut self, is_there: bool, name: impl FnOnce() -> ObjectRef) {
        self.missing.extend((!is_there).then(name));
    }
}

#[cfg(test)]
mod tests {
    use crate::offline::{network_beside, nodes_for};
    use crate::{SourceText, read};

    use super::*;

    const BASE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}]}]}
";

    fn set(text: &str) -> ObjectSet {
        let (set, problems) = read(&[SourceText::new("it", text)]);
        assert_eq!(problems, []);
        set
    }

    /// Of objects that both ways understand, a network that is amended is the network of the amended objects.
    #[test]
    fn amending_the_network_is_amending_its_objects() {
        let base = set(BASE);
        let nodes = nodes_for(&base, 2);
        let (before, problems) = crate::offline::network(&base, &nodes);
        assert_eq!(problems, []);
        let documents: Vec<&str> = BASE.split("---\n").collect();
        let changes = [
            (BASE.replace("team: a", "team: b"), false),
            (BASE.replace("{app: web}}\nspec", "{app: web, more: x}}\nspec"), false),
            (BASE.replace("team: b", "team: c"), false),
            (
                BASE.replace(
                    "name: web, namespace: shop}\nspec: {podSelector",
                    "name: two, namespace: shop}\nspec: {podSelector",
                ),
                false,
            ),
            (documents[3].to_owned(), true),
            (documents[2].to_owned(), true),
            (documents[0].to_owned(), true),
        ];
        for (text, delete) in changes {
            let change = set(&text);
            let mut objects = base.clone();
            if delete {
                assert_eq!(objects.delete(&change), []);
            } else {
                objects.apply(change.clone());
            }
            let (mut expected, _) = network_beside(&objects, &nodes, &before);
            expected.prune();
            let amended = amend(&before, &change, delete);
            assert_eq!(amended.network, expected, "{text} {delete}");
            assert!(amended.missing.is_empty() && amended.untold.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_told_is_named() {
        let (before, _) = crate::offline::network(&set(BASE), &nodes_for(&set(BASE), 1));
        let workload = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}
";
        let amended = amend(&before, &set(workload), false);
        assert_eq!(amended.untold, [ObjectRef::namespaced("Deployment", "shop", "web")]);
        let none = set(&BASE.split("---\n").nth(3).unwrap().replace("name: web,", "name: none,"));
        let missing = amend(&before, &none, true).missing;
        assert_eq!(missing, [ObjectRef::namespaced("NetworkPolicy", "shop", "none")]);
    }
}
