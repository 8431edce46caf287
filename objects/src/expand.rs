//! Makes the pods of workloads, as their controllers would, with the names of `docs/contracts.md`: `<workload>-<index>`,
//! `<daemonset>-<node>`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use network::{NamespacedName, NodeName};

use crate::problem::{Fault, ObjectRef, Problem, Source};
use crate::set::{ObjectSet, Workload, WorkloadKind};

/// A pod and where what made it stands.
pub(crate) struct Expanded {
    pub(crate) pod: Pod,
    pub(crate) source: Option<Source>,
    /// A further pod of a template whose first one stands for it in messages.
    pub(crate) repeated: bool,
}

/// All pods of a set by name. A workload whose pods (or whose ReplicaSets) stand in the set themselves makes none.
pub(crate) fn expand(
    objects: &ObjectSet,
    nodes: &[NodeName],
    problems: &mut Vec<Problem>,
) -> BTreeMap<NamespacedName, Expanded> {
    let mut pods = BTreeMap::new();
    for (key, object) in &objects.pods {
        let expanded = Expanded { pod: object.value.clone(), source: object.source(), repeated: false };
        pods.insert(key.clone(), expanded);
    }
    let owners = owners(objects);
    let mut workloads: Vec<_> = objects.workloads.values().collect();
    workloads.sort_by_key(|object| (object.value.kind, &object.value.key));
    for object in workloads {
        let workload = &object.value;
        let kind = workload.kind.as_str();
        let namespace = workload.key.namespace();
        if owners.contains(&(namespace, kind, workload.key.name())) {
            continue;
        }
        for (number, made) in made_by(workload, nodes).into_iter().enumerate() {
            let mut key = NamespacedName::new(namespace, made.name);
            if pods.contains_key(&key) {
                let first = key.clone();
                let name = format!("{}-{}-{}", workload.key.name(), kind.to_ascii_lowercase(), made.suffix);
                key = not_taken(NamespacedName::new(namespace, name), |key| pods.contains_key(key));
                problems.push(Problem {
                    object: Some(ObjectRef::namespaced("Pod", first.namespace(), first.name())),
                    source: object.source(),
                    field: None,
                    fault: Fault::Renamed { name: key.name().to_owned() },
                });
            }
            let mut pod = made.pod;
            pod.metadata.name = Some(key.name().to_owned());
            pods.insert(key, Expanded { pod, source: object.source(), repeated: number > 0 });
        }
    }
    pods
}

/// Namespace, kind and name of everything that controls an object of the set.
pub(crate) fn owners(objects: &ObjectSet) -> BTreeSet<(&str, &str, &str)> {
    let of_pods = objects.pods.iter().flat_map(|(key, object)| {
        let owners = object.value.metadata.owner_references.iter().flatten();
        owners
            .filter(|owner| owner.controller == Some(true))
            .map(|owner| (key.namespace(), owner.kind.as_str(), owner.name.as_str()))
    });
    let of_workloads = objects.workloads.iter().filter_map(|((key, _), object)| {
        let (kind, name) = object.value.owner.as_ref()?;
        Some((key.namespace(), kind.as_str(), name.as_str()))
    });
    of_pods.chain(of_workloads).collect()
}

/// A pod of a template.
pub(crate) struct Made {
    pub(crate) name: String,
    /// What distinguishes it from its siblings: the index, or the node.
    pub(crate) suffix: String,
    pub(crate) pod: Pod,
}

/// The pods that a workload makes.
pub(crate) fn made_by(workload: &Workload, nodes: &[NodeName]) -> Vec<Made> {
    if workload.kind == WorkloadKind::DaemonSet {
        return nodes
            .iter()
            .map(|node| {
                let mut made = one(workload, node.to_string());
                made.pod.spec.get_or_insert_default().node_name = Some(node.to_string());
                made
            })
            .collect();
    }
    (0..workload.count).map(|n| one(workload, (workload.first_index.saturating_add(n)).to_string())).collect()
}

/// A name that nobody has yet: this one, or with as many endings as it takes.
pub(crate) fn not_taken(
    mut key: NamespacedName,
    is_taken: impl Fn(&NamespacedName) -> bool,
) -> NamespacedName {
    while is_taken(&key) {
        key = NamespacedName::new(key.namespace(), format!("{}-more", key.name()));
    }
    key
}

/// One of them.
pub(crate) fn one(workload: &Workload, suffix: String) -> Made {
    let name = format!("{}-{suffix}", workload.key.name());
    let template = workload.template.metadata.as_ref();
    let mut labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let mut label = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
    match workload.kind {
        WorkloadKind::StatefulSet => {
            label("statefulset.kubernetes.io/pod-name", &name);
            label("apps.kubernetes.io/pod-index", &suffix);
        }
        WorkloadKind::Job => {
            label("job-name", workload.key.name());
            label("batch.kubernetes.io/job-name", workload.key.name());
            if workload.indexed {
                label("batch.kubernetes.io/job-completion-index", &suffix);
            }
        }
        _ => {}
    }
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(workload.key.namespace().to_owned()),
        labels: Some(labels),
        ..ObjectMeta::default()
    };
    Made { name, suffix, pod: Pod { metadata, spec: workload.template.spec.clone(), status: None } }
}
