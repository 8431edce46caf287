//! Objects into the logical network. Each kind has a function for one object; [`translate`] does a whole set.

pub mod cluster_policy;
pub mod node;
pub mod pod;
pub mod policy;
pub(crate) mod selector;
pub mod service;

use k8s_openapi::api::core::v1::Namespace;
use network::service::claims;
use network::{Labels, Network, Node, Pod, Service};

use crate::defaulting::NAMESPACE_NAME_LABEL;
use crate::made_up;
use crate::place::{Check, problem};
use crate::problem::{Fault, ObjectRef, Problem};
use crate::set::ObjectSet;

/// The network of a set of objects on `nodes` with `pods` (from [`crate::place`], with whatever addresses they have by
/// now). Pods on unknown nodes are left out; a pod whose address somebody else has goes without it.
pub fn translate(objects: &ObjectSet, nodes: &[Node], pods: &[Pod]) -> (Network, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut network = Network::default();
    for node in nodes {
        network.nodes.insert(node.name.clone(), node.clone());
    }
    for (name, object) in &objects.namespaces {
        network.namespaces.insert(name.clone(), namespace_labels(name, Some(&object.value)));
    }
    let mut sorted: Vec<&Pod> = pods.iter().collect();
    sorted.sort_by_key(|pod| &pod.key);
    let mut check = Check::new(nodes);
    for pod in sorted {
        let mut pod = pod.clone();
        let faults = check.admit(&mut pod, "the pod goes without it");
        let source = objects.pods.get(&pod.key).and_then(|object| object.source());
        let left_out = faults.iter().any(|(field, _)| *field == "spec.nodeName");
        problems.extend(faults.into_iter().map(|fault| problem(&pod, source.clone(), fault)));
        if !left_out {
            network.pods.insert(pod.key.clone(), pod);
        }
    }
    let namespaced = objects
        .network_policies
        .values()
        .map(|object| policy::network_policy(&object.value, object.origin.as_ref()));
    let cluster_wide = objects
        .cluster_network_policies
        .values()
        .map(|object| cluster_policy::cluster_network_policy(&object.value, object.origin.as_ref()));
    for translated in namespaced.chain(cluster_wide) {
        problems.extend(translated.problems);
        for selector in translated.selectors {
            network.intern(selector);
        }
        network.policies.insert(translated.policy.id.clone(), translated.policy);
    }
    let (services, found) = made_up::services(objects, &network);
    problems.extend(found);
    for service in services {
        network.services.insert(service.key.clone(), service);
    }
    problems.extend(contested(network.services.values()));
    let named = pods.iter().map(|pod| pod.key.namespace().to_owned());
    let named: Vec<String> = named.chain(network.policies.keys().map(|id| id.namespace.clone())).collect();
    for name in named.into_iter().filter(|name| !name.is_empty()) {
        let labels = namespace_labels(&name, None);
        network.namespaces.entry(name).or_insert(labels);
    }
    (network, problems)
}

/// Frontends that several Services claim; the oldest has it, of equals the one with the smallest name.
pub fn contested<'a>(services: impl Iterator<Item = &'a Service>) -> Vec<Problem> {
    let lost = claims(services).1;
    let told = lost.into_iter().map(|lost| Problem {
        object: Some(ObjectRef::namespaced("Service", lost.service.namespace(), lost.service.name())),
        source: None,
        field: None,
        fault: Fault::FrontendTaken {
            what: lost.what(),
            owner: ObjectRef::namespaced("Service", lost.owner.namespace(), lost.owner.name()),
        },
    });
    let mut problems: Vec<Problem> = Vec::new();
    // A node port is lost in both families at once.
    told.for_each(|problem| {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    });
    problems
}

/// The labels of a namespace, its name among them as the API server writes it; `None` for one that was never seen.
pub fn namespace_labels(name: &str, namespace: Option<&Namespace>) -> Labels {
    let mut labels = namespace.and_then(|n| n.metadata.labels.clone()).unwrap_or_default();
    labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned());
    labels
}
