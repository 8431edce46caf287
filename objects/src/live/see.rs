//! One object as an API server gives it, into what the network needs of it. The same reading and translating functions as
//! for manifests; nothing of the object is kept beyond their result.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use network::{Labels, Pod};
use serde_json::Value;

use crate::located::{Located, Position};
use crate::problem::{ObjectRef, Problem, Source};
use crate::read::Reader;
use crate::set::{Object, ObjectSet};
use crate::translate::pod::pod_at;
use crate::translate::policy::{self, Translated};
use crate::translate::{cluster_policy, namespace_labels};

/// An object that was looked at.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which one.
    pub object: ObjectRef,
    /// What the network needs of it.
    pub(crate) content: Content,
    /// What of it was not understood.
    pub(crate) problems: Vec<Problem>,
}

/// What the network needs of an object.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Namespace(Labels),
    Node(Box<Object<core::Node>>),
    Pod(Box<Pod>),
    Policy(Box<Translated>),
    Service(Box<core::Service>),
    Slice(Box<EndpointSlice>),
    /// Nothing: the network does not read the kind, or the object cannot be read.
    Nothing,
}

impl Seen {
    /// Looks at an object of a kind and version (`v1`, `networking.k8s.io/v1`) that the API server gave.
    pub fn of(kind: &str, version: &str, value: Value) -> Self {
        let metadata = |field: &str| {
            let text = value.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
            text.map(str::to_owned)
        };
        let name = metadata("name").unwrap_or_default();
        let object = ObjectRef { kind: kind.to_owned(), namespace: metadata("namespace"), name };
        let nowhere: Arc<str> = Arc::from("");
        let root = Located::anywhere(value, Position { line: 1, column: 1 });
        let mut reader = Reader { set: ObjectSet::default(), problems: Vec::new() };
        reader.document(&nowhere, &root, Some((kind, version)));
        drop(root);
        let Reader { set, mut problems } = reader;
        let content = content(set, &mut problems);
        for problem in &mut problems {
            nowhere_to_point_at(problem);
        }
        Self { object, content, problems }
    }
}

/// The one object of a set.
fn content(set: ObjectSet, problems: &mut Vec<Problem>) -> Content {
    if let Some((name, object)) = set.namespaces.iter().next() {
        return Content::Namespace(namespace_labels(name, Some(&object.value)));
    }
    if let Some(object) = set.nodes.into_values().next() {
        return Content::Node(Box::new(Object::bare(object.value)));
    }
    if let Some(object) = set.pods.into_values().next() {
        let (pod, found) = pod_at(&object.value, None);
        problems.extend(found);
        return Content::Pod(Box::new(pod));
    }
    if let Some(object) = set.network_policies.into_values().next() {
        // The origin says what was reported when it was read.
        let mut translated = policy::network_policy(&object.value, object.origin.as_ref());
        problems.append(&mut translated.problems);
        return Content::Policy(Box::new(translated));
    }
    if let Some(object) = set.cluster_network_policies.into_values().next() {
        let mut translated = cluster_policy::cluster_network_policy(&object.value, object.origin.as_ref());
        problems.append(&mut translated.problems);
        return Content::Policy(Box::new(translated));
    }
    if let Some(object) = set.services.into_values().next() {
        return Content::Service(Box::new(object.value));
    }
    if let Some(object) = set.endpoint_slices.into_values().next() {
        return Content::Slice(Box::new(object.value));
    }
    Content::Nothing
}

/// An object of an API server stands in no file.
fn nowhere_to_point_at(problem: &mut Problem) {
    let _: Option<Source> = problem.source.take();
}
