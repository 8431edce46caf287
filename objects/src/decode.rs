//! Values into typed objects. Only what the network reads of an object is decoded: a mistake elsewhere (an environment
//! variable that is a number) is not ours to judge, and what is not kept costs nothing.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use network::{LabelSelector, Labels, NamespacedName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::defaulting;
use crate::lenient;
use crate::problem::Fault;
use crate::set::{Workload, WorkloadKind};
use crate::translate::selector;

/// More pods of one workload than this are a mistake.
pub(crate) const MOST_PODS: u32 = 10_000;

/// A field and what is wrong with it.
pub(crate) struct Failure {
    pub(crate) field: String,
    pub(crate) fault: Box<Fault>,
}

impl Failure {
    pub(crate) fn new(field: impl Into<String>, fault: Fault) -> Self {
        Self { field: field.into(), fault: Box::new(fault) }
    }
}

/// Decodes a whole object.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    lenient::decode(value).map_err(|(path, reason)| Failure::new(path, Fault::Undecodable { reason }))
}

/// Decodes what makes pods.
pub(crate) fn workload(value: Value, kind: WorkloadKind, key: NamespacedName) -> Result<Workload, Failure> {
    let raw: RawWorkload = typed(value)?;
    let spec = raw.spec;
    let count = match kind {
        WorkloadKind::DaemonSet => 0,
        WorkloadKind::Job if spec.suspend == Some(true) => 0,
        // batch/v1 SetDefaults_Job: without both it is one pod once; without completions a work queue.
        WorkloadKind::Job => match (spec.completions, spec.parallelism.unwrap_or(1)) {
            (Some(completions), parallelism) => completions.min(parallelism),
            (None, parallelism) => parallelism,
        },
        _ => spec.replicas.unwrap_or(1),
    };
    let field = if kind == WorkloadKind::Job { "spec.parallelism" } else { "spec.replicas" };
    let bad_count = |count| Failure::new(field, Fault::BadCount { count });
    let mut template = spec.template;
    defaulting::pod_template(&mut template);
    let selector = own_pods(kind, &key, spec.selector, &template);
    Ok(Workload {
        kind,
        key,
        owner: raw
            .metadata
            .owner_references
            .into_iter()
            .flatten()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| (owner.kind, owner.name)),
        count: u32::try_from(count).ok().filter(|n| *n <= MOST_PODS).ok_or_else(|| bad_count(count))?,
        selector,
        is_counted: spec.replicas.is_some(),
        first_index: match spec.ordinals.and_then(|ordinals| ordinals.start) {
            Some(start) if kind == WorkloadKind::StatefulSet => {
                let failure = || Failure::new("spec.ordinals.start", Fault::BadCount { count: start });
                u32::try_from(start).map_err(|_| failure())?
            }
            _ => 0,
        },
        indexed: spec.completion_mode.as_deref() == Some("Indexed"),
        template,
    })
}

/// Which pods a workload calls its own. Of a selector that is not understood nothing is said: the API server refuses it.
fn own_pods(
    kind: WorkloadKind,
    key: &NamespacedName,
    said: Option<Value>,
    template: &PodTemplateSpec,
) -> Option<LabelSelector> {
    match kind {
        // An API server makes one up, of labels that it gives the pods.
        WorkloadKind::Job => {
            Some(LabelSelector::from_labels(&[("job-name".into(), key.name().to_owned())].into()))
        }
        WorkloadKind::ReplicationController => {
            let said = said.and_then(|said| serde_json::from_value::<Labels>(said).ok());
            let labels = said.or_else(|| template.metadata.as_ref()?.labels.clone())?;
            Some(LabelSelector::from_labels(&labels))
        }
        _ => selector::selector(&serde_json::from_value(said?).ok()?).ok(),
    }
}

#[derive(Deserialize)]
struct RawWorkload {
    #[serde(default)]
    metadata: RawMetadata,
    spec: RawSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata {
    owner_references: Option<Vec<RawOwner>>,
}

#[derive(Deserialize)]
struct RawOwner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    replicas: Option<i64>,
    selector: Option<Value>,
    parallelism: Option<i64>,
    completions: Option<i64>,
    suspend: Option<bool>,
    completion_mode: Option<String>,
    ordinals: Option<RawOrdinals>,
    template: PodTemplateSpec,
}

#[derive(Deserialize)]
struct RawOrdinals {
    start: Option<i64>,
}

/// Takes from an object what nothing here reads.
pub(crate) fn prune(object: &mut Value) {
    let Value::Object(fields) = object else { return };
    let created = age(fields);
    metadata(fields);
    if let (Some(created), Some(Value::Object(metadata))) = (created, fields.get_mut("metadata")) {
        metadata.insert(CREATED.into(), created);
    }
    if matches!(fields.get("kind").and_then(Value::as_str), Some("NetworkPolicy" | "ClusterNetworkPolicy")) {
        // Nothing that is wrong with its labels and annotations may keep a policy from being in force.
        keep(fields.get_mut("metadata"), &["name", "namespace", "uid", "generation", "annotations"]);
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
                annotations.retain(|key, value| key == network::policy::AUDIT && value.is_string());
            }
            metadata.retain(|key, value| match key.as_str() {
                "generation" => value.is_i64(),
                "annotations" => value.is_object(),
                _ => value.is_string(),
            });
        }
    }
    let is = |kind: &str| fields.get("kind").and_then(Value::as_str) == Some(kind);
    let (pod, node, namespace, service) = (is("Pod"), is("Node"), is("Namespace"), is("Service"));
    if pod {
        fields.get_mut("spec").map(pod_spec);
        keep(fields.get_mut("status"), &["phase", "podIP", "podIPs"]);
    } else if node {
        keep(fields.get_mut("spec"), &["podCIDR", "podCIDRs"]);
        keep(fields.get_mut("status"), &["addresses"]);
    } else if service {
        keep(fields.get_mut("status"), &["loadBalancer"]);
    } else if namespace {
        fields.remove("spec");
        fields.remove("status");
    } else {
        fields.remove("status");
        if let Some(Value::Object(template)) =
            fields.get_mut("spec").and_then(|spec| spec.get_mut("template"))
        {
            metadata(template);
            template.get_mut("spec").map(pod_spec);
        }
    }
}

const CREATED: &str = "creationTimestamp";

/// When a Service was made, where that is said and is a time.
fn age(fields: &Map<String, Value>) -> Option<Value> {
    let created =
        fields.get("metadata")?.get(CREATED).filter(|_| fields.get("kind") == Some(&"Service".into()))?;
    Time::deserialize(created).is_ok().then(|| created.clone())
}

fn pod_spec(spec: &mut Value) {
    keep(Some(&mut *spec), &["nodeName", "hostNetwork", "containers", "initContainers"]);
    let Value::Object(spec) = spec else { return };
    for list in ["containers", "initContainers"] {
        if let Some(Value::Array(containers)) = spec.get_mut(list) {
            containers
                .iter_mut()
                .for_each(|container| keep(Some(container), &["name", "ports", "restartPolicy"]));
        }
    }
}

/// Labels, names and owners stay; of the annotations those that say what a static pod is, and ours.
fn metadata(object: &mut Map<String, Value>) {
    let known = ["name", "namespace", "uid", "labels", "annotations", "ownerReferences", "generation"];
    keep(object.get_mut("metadata"), &known);
    if let Some(Value::Object(annotations)) =
        object.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"))
    {
        annotations
            .retain(|key, _| key.starts_with("kubernetes.io/config.") || key.starts_with("ferrule.io/"));
    }
    if let Some(Value::Array(owners)) =
        object.get_mut("metadata").and_then(|metadata| metadata.get_mut("ownerReferences"))
    {
        owners
            .iter_mut()
            .for_each(|owner| keep(Some(owner), &["apiVersion", "kind", "name", "uid", "controller"]));
    }
}

fn keep(value: Option<&mut Value>, known: &[&str]) {
    if let Some(Value::Object(fields)) = value {
        fields.retain(|key, _| known.contains(&key.as_str()));
    }
}
