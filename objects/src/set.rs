//! The objects that were read, by kind, each with the place where it stands.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, PodTemplateSpec, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use network::{LabelSelector, NamespacedName};

use crate::cluster_policy::ClusterNetworkPolicy;
use crate::located::{Position, parent};
use crate::problem::{Fault, ObjectRef, Problem, Source};

/// All objects of an input that matter to the network.
#[derive(Clone, Debug, Default)]
pub struct ObjectSet {
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Object<Namespace>>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Object<Node>>,
    /// Pods that stand in the input themselves.
    pub pods: BTreeMap<NamespacedName, Object<Pod>>,
    /// What makes pods.
    pub workloads: BTreeMap<(NamespacedName, WorkloadKind), Object<Workload>>,
    /// Services, defaulted.
    pub services: BTreeMap<NamespacedName, Object<Service>>,
    /// EndpointSlices.
    pub endpoint_slices: BTreeMap<NamespacedName, Object<EndpointSlice>>,
    /// NetworkPolicies.
    pub network_policies: BTreeMap<NamespacedName, Object<NetworkPolicy>>,
    /// ClusterNetworkPolicies by name.
    pub cluster_network_policies: BTreeMap<String, Object<ClusterNetworkPolicy>>,
    /// How many objects of each kind were skipped because the kind does not matter (`Kind` or `Kind.group`).
    pub skipped: BTreeMap<String, u32>,
}

/// An object and where it comes from.
#[derive(Clone, Debug)]
pub struct Object<T> {
    /// The object.
    pub value: T,
    /// Its place in a text; `None` when it came from an API server.
    pub origin: Option<Origin>,
}

impl<T> Object<T> {
    /// An object that stands in no text.
    pub fn bare(value: T) -> Self {
        Self { value, origin: None }
    }

    pub(crate) fn source(&self) -> Option<Source> {
        self.origin.as_ref().map(|origin| origin.source.clone())
    }
}

/// Where an object stands.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its first line.
    pub source: Source,
    pub(crate) positions: BTreeMap<String, Position>,
    /// Fields whose faults were reported when the object was read.
    pub(crate) reported: BTreeSet<String>,
}

impl Origin {
    /// The place of a field, or of the nearest thing around it.
    pub fn at(&self, field: &str) -> Source {
        let mut path = Some(field);
        while let Some(field) = path {
            if let Some(position) = self.positions.get(field) {
                let (line, column) = (position.line, position.column);
                return Source { file: self.source.file.clone(), line, column };
            }
            path = parent(field);
        }
        self.source.clone()
    }

    /// Whether a fault of this field, or of something around it, is known already.
    pub(crate) fn was_reported(&self, field: &str) -> bool {
        let mut path = Some(field);
        while let Some(field) = path {
            if self.reported.contains(field) {
                return true;
            }
            path = parent(field);
        }
        false
    }
}

/// Collects the problems of one object.
pub(crate) struct Report<'a> {
    pub(crate) object: ObjectRef,
    pub(crate) origin: Option<&'a Origin>,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(object: ObjectRef, origin: Option<&'a Origin>) -> Self {
        Self { object, origin, problems: Vec::new() }
    }

    /// A fault of a field, unless it was reported when the object was read.
    pub(crate) fn field(&mut self, field: &str, fault: Fault) {
        if self.origin.is_some_and(|origin| origin.was_reported(field)) {
            return;
        }
        self.problems.push(Problem {
            object: Some(self.object.clone()),
            source: self.origin.map(|origin| origin.at(field)),
            field: Some(field.to_owned()),
            fault,
        });
    }
}

/// The kinds that make pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// `apps/v1`; its pods' names are stable in Kubernetes too, so it comes first where names collide.
    StatefulSet,
    /// `apps/v1`.
    Deployment,
    /// `apps/v1`: a pod on every node.
    DaemonSet,
    /// `apps/v1`.
    ReplicaSet,
    /// `v1`.
    ReplicationController,
    /// `batch/v1`.
    Job,
}

impl WorkloadKind {
    /// The kind as the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StatefulSet => "StatefulSet",
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::Job => "Job",
        }
    }
}

/// What makes pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub key: NamespacedName,
    /// The kind and name of its controller in the same namespace, where it has one (a ReplicaSet's Deployment).
    pub owner: Option<(String, String)>,
    /// Which pods are its own, where it says so.
    pub selector: Option<LabelSelector>,
    /// How many pods it makes; a DaemonSet makes one per node instead.
    pub count: u32,
    /// It says so itself; else an autoscaler may have another number.
    pub is_counted: bool,
    /// The index of the first pod (`spec.ordinals.start` of a StatefulSet, else 0).
    pub first_index: u32,
    /// A Job that gives its pods a completion index.
    pub indexed: bool,
    /// The pods.
    pub template: PodTemplateSpec,
}
