//! A set of objects after others were applied to it or deleted from it, as `kubectl replace` and `kubectl delete` would leave
//! an API server.

use std::collections::BTreeMap;

use network::NamespacedName;

use crate::problem::ObjectRef;
use crate::set::{Object, ObjectSet};

impl ObjectSet {
    /// Puts every object of another set in the place of the one of its name, or beside the others.
    pub fn apply(&mut self, other: Self) {
        self.namespaces.extend(other.namespaces);
        self.nodes.extend(other.nodes);
        self.pods.extend(other.pods);
        self.workloads.extend(other.workloads);
        self.services.extend(other.services);
        self.endpoint_slices.extend(other.endpoint_slices);
        self.network_policies.extend(other.network_policies);
        self.cluster_network_policies.extend(other.cluster_network_policies);
    }

    /// Takes away every object that another set names, and with a namespace all that is in it. Names those that are not
    /// there.
    pub fn delete(&mut self, other: &Self) -> Vec<ObjectRef> {
        let mut missing = Vec::new();
        let named = |kind: &'static str| {
            move |key: &NamespacedName| ObjectRef::namespaced(kind, key.namespace(), key.name())
        };
        take(&mut self.pods, &other.pods, named("Pod"), &mut missing);
        take(&mut self.services, &other.services, named("Service"), &mut missing);
        take(&mut self.endpoint_slices, &other.endpoint_slices, named("EndpointSlice"), &mut missing);
        take(&mut self.network_policies, &other.network_policies, named("NetworkPolicy"), &mut missing);
        let workload = |(key, kind): &(NamespacedName, crate::WorkloadKind)| {
            ObjectRef::namespaced(kind.as_str(), key.namespace(), key.name())
        };
        take(&mut self.workloads, &other.workloads, workload, &mut missing);
        let cluster = |kind: &'static str| move |name: &String| ObjectRef::cluster(kind, name);
        let policies = &mut self.cluster_network_policies;
        take(policies, &other.cluster_network_policies, cluster("ClusterNetworkPolicy"), &mut missing);
        take(&mut self.nodes, &other.nodes, cluster("Node"), &mut missing);
        for name in other.namespaces.keys() {
            // A namespace may be known by what is in it only.
            let had = self.namespaces.remove(name).is_some() | self.empty(name);
            missing.extend((!had).then(|| ObjectRef::cluster("Namespace", name)));
        }
        missing
    }

    /// Takes away what is in a namespace; true when there was anything.
    fn empty(&mut self, namespace: &str) -> bool {
        let outside = |key: &NamespacedName| key.namespace() != namespace;
        let before = self.namespaced();
        self.pods.retain(|key, _| outside(key));
        self.workloads.retain(|(key, _), _| outside(key));
        self.services.retain(|key, _| outside(key));
        self.endpoint_slices.retain(|key, _| outside(key));
        self.network_policies.retain(|key, _| outside(key));
        self.namespaced() < before
    }

    fn namespaced(&self) -> usize {
        self.pods.len()
            + self.workloads.len()
            + self.services.len()
            + self.endpoint_slices.len()
            + self.network_policies.len()
    }
}

fn take<K: Ord, T>(
    from: &mut BTreeMap<K, Object<T>>,
    what: &BTreeMap<K, Object<T>>,
    name: impl Fn(&K) -> ObjectRef,
    missing: &mut Vec<ObjectRef>,
) {
    for key in what.keys() {
        if from.remove(key).is_none() {
            missing.push(name(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{SourceText, read};

    use super::*;

    fn set(text: &str) -> ObjectSet {
        let (set, problems) = read(&[SourceText::new("it", text)]);
        assert_eq!(problems, []);
        set
    }

    fn pod(namespace: &str, name: &str, app: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: {name}, labels: {{app: {app}}}}}\n"
        )
    }

    #[test]
    fn applied_objects_replace_those_of_their_name() {
        let mut objects = set(&(pod("a", "one", "x") + &pod("a", "two", "x")));
        objects.apply(set(&(pod("a", "two", "w") + &pod("b", "one", "z"))));
        let app = |object: &Object<k8s_openapi::api::core::v1::Pod>| {
            object.value.metadata.labels.clone().unwrap().remove("app").unwrap()
        };
        assert_eq!(objects.pods.values().map(app).collect::<Vec<_>>(), ["x", "w", "z"]);
    }

    #[test]
    fn a_namespace_goes_with_what_is_in_it_and_what_is_not_there_is_named() {
        let mut objects = set(&(pod("a", "one", "x") + &pod("b", "one", "x")));
        let gone = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n".to_owned();
        let missing = objects.delete(&set(&(gone.clone() + &pod("b", "two", "x"))));
        assert_eq!(missing, [ObjectRef::namespaced("Pod", "b", "two")]);
        assert_eq!(objects.pods.keys().map(ToString::to_string).collect::<Vec<_>>(), ["b/one"]);
        assert_eq!(objects.delete(&set(&gone)), [ObjectRef::cluster("Namespace", "a")]);
    }
}
