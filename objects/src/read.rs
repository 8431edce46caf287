//! Reads texts into an [`ObjectSet`]: tells kinds apart, takes lists to pieces, gives names and namespaces their defaults,
//! decodes. What is bad is a problem and left out; kinds that do not matter are counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::Resource;
use network::NamespacedName;
use serde_json::Value;

use crate::cluster_policy::ClusterNetworkPolicy;
use crate::decode::{self, Failure};
use crate::defaulting;
use crate::lenient::{self, Repair};
use crate::located::{Located, Tree};
use crate::problem::{Fault, ObjectRef, Problem, Source};
use crate::set::{Object, ObjectSet, Origin, WorkloadKind};
use crate::syntax::{is_dns_label, is_dns_subdomain};
use crate::yaml::{SourceText, documents};

/// Reads all objects of some texts.
pub fn read(sources: &[SourceText]) -> (ObjectSet, Vec<Problem>) {
    let mut reader = Reader { set: ObjectSet::default(), problems: Vec::new() };
    for source in sources {
        for document in documents(source, &mut reader.problems) {
            reader.document(&document.file, &document.root, None);
        }
    }
    (reader.set, reader.problems)
}

/// The kinds that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    NetworkPolicy,
    ClusterNetworkPolicy,
    Workload(WorkloadKind),
}

/// Every kind that is read: its name, its API group, the version that is read.
const KINDS: [(Kind, &str, &str, &str); 13] = [
    (Kind::Namespace, "Namespace", "", "v1"),
    (Kind::Node, "Node", "", "v1"),
    (Kind::Pod, "Pod", "", "v1"),
    (Kind::Service, "Service", "", "v1"),
    (Kind::EndpointSlice, "EndpointSlice", "discovery.k8s.io", "discovery.k8s.io/v1"),
    (Kind::NetworkPolicy, "NetworkPolicy", "networking.k8s.io", "networking.k8s.io/v1"),
    (
        Kind::ClusterNetworkPolicy,
        ClusterNetworkPolicy::KIND,
        ClusterNetworkPolicy::GROUP,
        ClusterNetworkPolicy::API_VERSION,
    ),
    (Kind::Workload(WorkloadKind::Deployment), "Deployment", "apps", "apps/v1"),
    (Kind::Workload(WorkloadKind::StatefulSet), "StatefulSet", "apps", "apps/v1"),
    (Kind::Workload(WorkloadKind::DaemonSet), "DaemonSet", "apps", "apps/v1"),
    (Kind::Workload(WorkloadKind::ReplicaSet), "ReplicaSet", "apps", "apps/v1"),
    (Kind::Workload(WorkloadKind::ReplicationController), "ReplicationController", "", "v1"),
    (Kind::Workload(WorkloadKind::Job), "Job", "batch", "batch/v1"),
];

enum Recognised {
    Read(Kind),
    /// A kind that is read, in another version of its group or in the group it had long ago.
    OtherVersion(&'static str),
    /// A kind of the groups that policies are in, and no other that is known there: a policy in a wrong spelling.
    UnknownPolicy,
    Skipped,
}

/// Kinds of the groups that policies are in, which have nothing to do with policy.
const BESIDE_POLICIES: [&str; 4] = ["Ingress", "IngressClass", "IPAddress", "ServiceCIDR"];

fn recognise(kind: &str, version: &str) -> Recognised {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    for (known, name, known_group, known_version) in KINDS {
        if name == kind {
            if version == known_version {
                return Recognised::Read(known);
            }
            // `v1` in front of a policy is a slip; a group of somebody else's is not.
            let slipped = known_version.contains("networking.k8s.io") && group.is_empty();
            if group == known_group || group == "extensions" || slipped {
                return Recognised::OtherVersion(known_version);
            }
        }
    }
    if ["networking.k8s.io", ClusterNetworkPolicy::GROUP].contains(&group) && !BESIDE_POLICIES.contains(&kind)
    {
        return Recognised::UnknownPolicy;
    }
    Recognised::Skipped
}

pub(crate) struct Reader {
    pub(crate) set: ObjectSet,
    pub(crate) problems: Vec<Problem>,
}

/// Kind and version that the items of a typed list (`PodList`) leave out.
type Inherited<'a> = Option<(&'a str, &'a str)>;

impl Reader {
    pub(crate) fn document(&mut self, file: &Arc<str>, root: &Located, inherited: Inherited<'_>) {
        if root.is_null() {
            return;
        }
        let source = Source { file: file.clone(), line: root.position.line, column: root.position.column };
        let mut fail = |fault| {
            let source = Some(source.clone());
            self.problems.push(Problem { object: None, source, field: None, fault });
        };
        if !matches!(root.tree, Tree::Map(_)) {
            return fail(Fault::NotAnObject { found: root.describe() });
        }
        let field = |name: &str| root.get(name).and_then(Located::text).filter(|text| !text.is_empty());
        let Some(kind) = field("kind").or(inherited.map(|(kind, _)| kind)) else {
            return fail(Fault::MissingField { field: "kind" });
        };
        let Some(version) = field("apiVersion").or(inherited.map(|(_, version)| version)) else {
            return fail(Fault::MissingField { field: "apiVersion" });
        };
        if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), root.get("items")) {
            let inherited = (!item_kind.is_empty()).then_some((item_kind, version));
            match &items.tree {
                Tree::List(items) => items.iter().for_each(|item| self.document(file, item, inherited)),
                _ if items.is_null() => {}
                _ => fail(Fault::NotAnObject { found: items.describe() }),
            }
            return;
        }
        self.object(source, root, kind, version);
    }

    fn object(&mut self, source: Source, root: &Located, kind_name: &str, version: &str) {
        let recognised = recognise(kind_name, version);
        if matches!(recognised, Recognised::Skipped) {
            let name = match version.split_once('/') {
                Some((group, _)) => format!("{kind_name}.{group}"),
                None => kind_name.to_owned(),
            };
            *self.set.skipped.entry(name).or_default() += 1;
            return;
        }
        let cluster_wide =
            matches!(recognised, Recognised::Read(Kind::Namespace | Kind::Node | Kind::ClusterNetworkPolicy))
                || (matches!(recognised, Recognised::UnknownPolicy | Recognised::OtherVersion(_))
                    && version.starts_with(ClusterNetworkPolicy::GROUP));
        let names = match Names::of(root, cluster_wide) {
            // A policy is in force whatever it is called.
            Err(Misnamed { key: Some(key), failure })
                if matches!(
                    recognised,
                    Recognised::Read(Kind::NetworkPolicy | Kind::ClusterNetworkPolicy)
                ) =>
            {
                let origin =
                    Origin { source: source.clone(), positions: root.positions(), reported: [].into() };
                self.problems.push(Problem {
                    object: Some(object_ref(kind_name, &key, cluster_wide)),
                    source: Some(origin.at(&failure.field)),
                    field: Some(failure.field),
                    fault: *failure.fault,
                });
                Ok(Names { key, cluster_wide })
            }
            names => names,
        };
        let names = match names {
            Ok(names) => names,
            Err(Misnamed { key, failure: Failure { field, fault } }) => {
                let object = key.map(|key| object_ref(kind_name, &key, cluster_wide));
                let at = Origin { source, positions: root.positions(), reported: [].into() };
                let source = Some(at.at(&field));
                self.problems.push(Problem { object, source, field: Some(field), fault: *fault });
                return;
            }
        };
        let object = object_ref(kind_name, &names.key, cluster_wide);
        match recognised {
            Recognised::Read(kind) => self.decode(kind, source, root, names, object),
            Recognised::OtherVersion(known) => {
                let (kind, version) = (kind_name.to_owned(), version.to_owned());
                let fault = Fault::UnknownVersion { kind, version, known };
                let (source, field) = (Some(source), Some("apiVersion".to_owned()));
                self.problems.push(Problem { object: Some(object), source, field, fault });
            }
            Recognised::UnknownPolicy => {
                let fault = Fault::UnknownKind { kind: kind_name.to_owned(), version: version.to_owned() };
                let (source, field) = (Some(source), Some("kind".to_owned()));
                self.problems.push(Problem { object: Some(object), source, field, fault });
            }
            Recognised::Skipped => {}
        }
    }

    fn decode(&mut self, kind: Kind, source: Source, root: &Located, names: Names, object: ObjectRef) {
        let mut value = root.value();
        names.write_into(&mut value);
        if let Value::Object(fields) = &mut value {
            // The items of a typed list do not say what they are.
            fields.insert("kind".into(), Value::String(object.kind.clone()));
        }
        let keep_positions = matches!(kind, Kind::NetworkPolicy | Kind::ClusterNetworkPolicy | Kind::Node);
        let positions = if keep_positions { root.positions() } else { BTreeMap::new() };
        let mut origin = Origin { source: source.clone(), positions, reported: [].into() };
        if kind == Kind::NetworkPolicy
            && let Value::Object(fields) = &mut value
        {
            for Repair { part, field, fault } in lenient::repair(fields, names.key.namespace()) {
                let (object, source) = (Some(object.clone()), Some(origin.at(&field)));
                self.problems.push(Problem { object, source, field: Some(field), fault });
                origin.reported.insert(part);
            }
        }
        decode::prune(&mut value);
        let mut insert = Insert { object: &object, origin, problems: &mut self.problems };
        let (key, name) = (names.key.clone(), names.key.name().to_owned());
        let set = &mut self.set;
        let outcome = match kind {
            Kind::Namespace => decode::typed(value).map(|v| insert.put(&mut set.namespaces, name, v)),
            Kind::Node => decode::typed(value).map(|v| insert.put(&mut set.nodes, name, v)),
            Kind::Pod => decode::typed(value).map(|mut v| {
                defaulting::pod(&mut v);
                insert.put(&mut set.pods, key, v);
            }),
            Kind::Service => decode::typed(value).map(|mut v| {
                defaulting::service(&mut v);
                insert.put(&mut set.services, key, v);
            }),
            Kind::EndpointSlice => decode::typed(value).map(|v| insert.put(&mut set.endpoint_slices, key, v)),
            Kind::NetworkPolicy => decode::typed(value).map(|mut v| {
                defaulting::network_policy(&mut v);
                insert.put(&mut set.network_policies, key, v);
            }),
            Kind::ClusterNetworkPolicy => {
                decode::typed(value).map(|v| insert.put(&mut set.cluster_network_policies, name, v))
            }
            Kind::Workload(kind) => decode::workload(value, kind, key.clone())
                .map(|v| insert.put(&mut set.workloads, (key, kind), v)),
        };
        if let Err(Failure { field, fault }) = outcome {
            let at = Origin { source, positions: root.positions(), reported: [].into() };
            let source = Some(at.at(&field));
            let field = (!field.is_empty()).then_some(field);
            self.problems.push(Problem { object: Some(object), source, field, fault: *fault });
        }
    }
}

/// Puts a decoded object into its map; the later of two definitions counts, as with kubectl.
struct Insert<'a> {
    object: &'a ObjectRef,
    origin: Origin,
    problems: &'a mut Vec<Problem>,
}

impl Insert<'_> {
    fn put<K: Ord, T: PartialEq>(&mut self, map: &mut BTreeMap<K, Object<T>>, key: K, value: T) {
        let source = self.origin.source.clone();
        let object = Object { value, origin: Some(self.origin.clone()) };
        if let Some(before) = map.get(&key)
            && before.value != object.value
            && let Some(first) = before.source()
        {
            self.problems.push(Problem {
                object: Some(self.object.clone()),
                source: Some(source),
                field: None,
                fault: Fault::DefinedTwice { first },
            });
        }
        map.insert(key, object);
    }
}

fn object_ref(kind: &str, key: &NamespacedName, cluster_wide: bool) -> ObjectRef {
    if cluster_wide {
        ObjectRef::cluster(kind, key.name())
    } else {
        ObjectRef::namespaced(kind, key.namespace(), key.name())
    }
}

/// An object that has no name, or one that cannot be.
struct Misnamed {
    key: Option<NamespacedName>,
    failure: Failure,
}

/// What an object is called.
struct Names {
    key: NamespacedName,
    cluster_wide: bool,
}

impl Names {
    fn of(root: &Located, cluster_wide: bool) -> Result<Self, Misnamed> {
        let at = |name: &str| root.get("metadata").and_then(|m| m.get(name)).filter(|value| !value.is_null());
        // `namespace: n` is a boolean: taken for nothing, the object would be another namespace's.
        for (name, path) in [("name", "metadata.name"), ("namespace", "metadata.namespace")] {
            if let Some(value) = at(name).filter(|value| value.text().is_none()) {
                let reason = format!("{} stands where a text belongs", value.describe());
                return Err(Misnamed {
                    key: None,
                    failure: Failure::new(path, Fault::Undecodable { reason }),
                });
            }
        }
        let field = |name: &str| at(name).and_then(Located::text);
        let namespace = match field("namespace") {
            _ if cluster_wide => String::new(),
            None | Some("") => "default".to_owned(),
            Some(namespace) => namespace.to_owned(),
        };
        // Objects without a name get a generated one; any that is the same every time will do.
        let generated =
            || field("generateName").map(|name| name.trim_end_matches('-')).filter(|n| !n.is_empty());
        let Some(name) = field("name").filter(|name| !name.is_empty()).or_else(generated) else {
            let fault = Fault::MissingField { field: "metadata.name" };
            return Err(Misnamed { key: None, failure: Failure::new("metadata.name", fault) });
        };
        let key = NamespacedName::new(namespace, name);
        let misnamed = |field, name: &str| {
            let failure = Failure::new(field, Fault::BadName { name: name.to_owned() });
            Err(Misnamed { key: Some(key.clone()), failure })
        };
        if !is_dns_subdomain(key.name()) {
            return misnamed("metadata.name", key.name());
        }
        if !cluster_wide && !is_dns_label(key.namespace()) {
            return misnamed("metadata.namespace", key.namespace());
        }
        Ok(Self { key, cluster_wide })
    }

    fn write_into(&self, object: &mut Value) {
        let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return };
        metadata.insert("name".into(), Value::String(self.key.name().to_owned()));
        if !self.cluster_wide {
            metadata.insert("namespace".into(), Value::String(self.key.namespace().to_owned()));
        }
    }
}

/// Reads policies that stand in no document of their own (a scenario's). One that does not say what it is, is a
/// NetworkPolicy, or a ClusterNetworkPolicy when it has a tier.
pub(crate) fn lone_policies(policies: Vec<Value>, source: &Source) -> (ObjectSet, Vec<Problem>) {
    let mut reader = Reader { set: ObjectSet::default(), problems: Vec::new() };
    let position = crate::located::Position { line: source.line, column: source.column };
    for mut policy in policies {
        let has_tier = policy.get("spec").is_some_and(|spec| spec.get("tier").is_some());
        if let Value::Object(fields) = &mut policy {
            let cluster = match fields.get("kind") {
                Some(kind) => kind == ClusterNetworkPolicy::KIND,
                None => has_tier,
            };
            let (kind, version) = match cluster {
                true => (ClusterNetworkPolicy::KIND, ClusterNetworkPolicy::API_VERSION),
                false => ("NetworkPolicy", "networking.k8s.io/v1"),
            };
            fields.entry("apiVersion").or_insert_with(|| version.into());
            fields.entry("kind").or_insert_with(|| kind.into());
        }
        reader.document(&source.file, &Located::anywhere(policy, position), None);
    }
    (reader.set, reader.problems)
}
