//! A network whose objects are not at hand (a controller's), after objects were applied or deleted. Does what can be told
//! without them, and names what cannot.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use network::{Backing, Change, NamespacedName, Network, Pod, PolicyId, PolicyKind, Prefers, Service};

use crate::endpoints::{Renewal, of_namespace};
use crate::made_up;
use crate::problem::{ObjectRef, Problem};
use crate::set::{Object, ObjectSet};
use crate::translate::policy::Translated;
use crate::translate::{cluster_policy, namespace_labels, node, pod, policy, service};

/// The network after a change.
#[derive(Debug)]
pub struct Amended {
    /// The network.
    pub network: Network,
    /// What of the change is not understood.
    pub problems: Vec<Problem>,
    /// Objects whose effect cannot be told: slices, when the network does not say what endpoints come from.
    pub untold: Vec<ObjectRef>,
    /// Objects that were to be deleted and are not there.
    pub missing: Vec<ObjectRef>,
    /// What was taken for granted, of which object.
    pub assumed: Vec<(ObjectRef, Assumption)>,
    /// Pods that workloads made or changed.
    pub(crate) touched: BTreeSet<NamespacedName>,
}

/// What only the cluster knows, and is taken for granted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assumption {
    /// New pods run in turn on the nodes, at the first addresses that are free.
    Placed {
        /// How many.
        pods: usize,
    },
    /// Some of its pods go; all are kept, since they may be any.
    Kept {
        /// How many go.
        going: usize,
        /// Of so many.
        pods: usize,
    },
    /// Pods that bear its name are not its own, by its selector.
    Strangers {
        /// How many.
        pods: usize,
    },
    /// Its selector does not mean the pods of its own template.
    Refused,
    /// It goes, and no pod of it is there.
    NoPods,
    /// It has no endpoints but those of the change.
    NoEndpoints,
    /// Addresses and node ports of a Service are made up.
    Numbered,
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placed { pods: 1 } => f.write_str(
                "a node and a free address are taken for it; a scheduler may decide otherwise",
            ),
            Self::Placed { pods } => write!(
                f,
                "its {pods} new pods are taken to run on the nodes in turn, at addresses that are free; a scheduler may decide otherwise"
            ),
            Self::Kept { going, pods } => write!(
                f,
                "{going} of its {pods} pods go; which ones is the cluster's choice, so all of them are still there here"
            ),
            Self::Strangers { pods } => write!(
                f,
                "its selector does not mean the {pods} pods that bear its name; they are taken to stay beside its own. An API server \
                 refuses another selector: delete it first, if that is what you want"
            ),
            Self::Numbered => f.write_str(
                "addresses and node ports that it does not say are made up here; the cluster gives it others",
            ),
            Self::Refused => f.write_str(
                "its selector does not mean the labels of its own template: an API server refuses it, and nothing of this comes about",
            ),
            Self::NoPods => f.write_str("no pod of it is there, so none goes with it"),
            Self::NoEndpoints => f.write_str(
                "it selects nobody and the change has no EndpointSlice of it: it has no endpoints here. Slices that the cluster keeps under \
                 its name already are not known",
            ),
        }
    }
}

/// Applies objects to a network, or deletes them from it.
pub fn amend(earlier: &Network, change: &ObjectSet, delete: bool) -> Amended {
    let mut amended = Amended {
        network: earlier.clone(),
        problems: vec![],
        untold: untold(earlier, change),
        missing: vec![],
        assumed: vec![],
        touched: change.pods.keys().cloned().collect(),
    };
    if delete {
        amended.delete(change)
    } else {
        amended.apply(earlier, change)
    }
    amended.slices(change, delete);
    amended.follow(earlier, change);
    amended.network.prune();
    amended
}

fn untold(earlier: &Network, change: &ObjectSet) -> Vec<ObjectRef> {
    // A controller of a version that does not say what is behind its Services.
    let nobody_knows =
        !earlier.services.is_empty() && earlier.services.values().all(|it| it.backing.is_none());
    let slices = change.endpoint_slices.keys().filter(|_| nobody_knows);
    slices.map(|key| ObjectRef::namespaced("EndpointSlice", key.namespace(), key.name())).collect()
}

impl Amended {
    fn apply(&mut self, earlier: &Network, change: &ObjectSet) {
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
        self.workloads(change);
        self.place(earlier, change);
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
        self.name_namespace(key.namespace());
        self.network.apply(Change::Pod(pod));
    }

    /// A Service keeps what only the cluster gives.
    fn services(&mut self, change: &ObjectSet) {
        let mut objects = ObjectSet {
            services: change.services.clone(),
            endpoint_slices: change.endpoint_slices.clone(),
            ..ObjectSet::default()
        };
        for (key, object) in &mut objects.services {
            if let Some(earlier) = self.network.services.get(key) {
                keep_numbers(&mut object.value, earlier);
            }
        }
        let (services, problems) = made_up::services(&objects, &self.network);
        self.problems.extend(problems);
        let mut earlier: BTreeMap<NamespacedName, Service> =
            change.services.keys().filter_map(|key| self.network.services.remove_entry(key)).collect();
        for mut service in services {
            let is_made_up =
                objects.services.get(&service.key).is_some_and(|it| numbers_are_made_up(&it.value, &service));
            let object = ObjectRef::namespaced("Service", service.key.namespace(), service.key.name());
            if is_made_up {
                self.assumed.push((object.clone(), Assumption::Numbered));
            }
            let is_without =
                service.backing.as_ref().is_some_and(|it| it.selector.is_empty() && it.slices.is_empty());
            if is_without && service.is_in_data_path() && !earlier.contains_key(&service.key) {
                self.assumed.push((object, Assumption::NoEndpoints));
            }
            let held = earlier.remove(&service.key).and_then(|held| held.backing);
            if let (Some(held), Some(backing)) = (held, &mut service.backing) {
                let kept = held.slices.iter().map(|(name, slice)| (name.clone(), slice.clone()));
                Arc::make_mut(backing).slices.extend(kept);
            }
            self.network.apply(Change::Service(service));
        }
    }

    /// Puts slices in the place of those of their names, whatever Services those were of, or takes them away.
    fn slices(&mut self, change: &ObjectSet, delete: bool) {
        for (key, object) in &change.endpoint_slices {
            let (name, slice, problems) = service::slice(&object.value);
            let is_known = self.backings(key, |backing| backing.slices.remove(&name).map(drop));
            if delete {
                let there = is_known.is_some();
                self.gone(there, || ObjectRef::namespaced("EndpointSlice", key.namespace(), key.name()));
                continue;
            }
            let owner = service::owner(key, &object.value);
            let Some(service) = owner.and_then(|owner| self.network.services.get_mut(&owner)) else {
                continue;
            };
            if !change.services.contains_key(&service.key) {
                self.problems.extend(problems);
            }
            if let Some(backing) = &mut service.backing {
                Arc::make_mut(backing).slices.insert(name, slice);
            }
        }
    }

    /// Does this to every backing of the namespace of an object; the first answer.
    fn backings<T>(
        &mut self,
        of: &NamespacedName,
        mut work: impl FnMut(&mut Backing) -> Option<T>,
    ) -> Option<T> {
        let services = self.network.services.values_mut().filter(|it| it.key.namespace() == of.namespace());
        let backings = services.filter_map(|service| service.backing.as_mut());
        let done: Vec<T> = backings.filter_map(|backing| work(Arc::make_mut(backing))).collect();
        done.into_iter().next()
    }

    /// Endpoints follow pods, slices and selectors.
    fn follow(&mut self, earlier: &Network, change: &ObjectSet) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.extend(earlier.pods.keys().filter(|key| !self.network.pods.contains_key(*key)).cloned());
        let is_on_touched =
            |pod: &Pod| pod.node.as_ref().is_some_and(|node| change.nodes.contains_key(node.as_str()));
        let mut services = std::mem::take(&mut self.network.services);
        for (key, service) in &mut services {
            let Some(backing) = service.backing.clone() else { continue };
            let was = earlier.services.get(key);
            let mut touched_here = Cow::Borrowed(&touched);
            if backing.prefers != Prefers::Nobody && !change.nodes.is_empty() {
                let pods = of_namespace(&self.network.pods, key.namespace());
                let on_touched = pods.filter(|pod| is_on_touched(pod)).map(|pod| pod.key.clone());
                touched_here.to_mut().extend(on_touched);
            }
            let is_concerned = touched_here.iter().any(|pod| pod.namespace() == key.namespace())
                || change.services.contains_key(key)
                || was.and_then(|was| was.backing.as_ref()) != Some(&backing);
            if !is_concerned {
                continue;
            }
            let (pods, nodes) = (&self.network.pods, &self.network.nodes);
            Renewal { earlier: was, pods, nodes, touched: &touched_here }.apply(service);
            for port in &mut service.ports {
                if let Some(fault) = service::leave_out_translated_sctp(port) {
                    let object = ObjectRef::namespaced("Service", key.namespace(), key.name());
                    self.problems.push(Problem {
                        object: Some(object),
                        source: None,
                        field: Some("spec.ports".into()),
                        fault,
                    });
                }
            }
        }
        self.network.services = services;
    }

    pub(crate) fn name_namespace(&mut self, name: &str) {
        if !name.is_empty() && !self.network.namespaces.contains_key(name) {
            self.network.apply(Change::Namespace(name.to_owned(), namespace_labels(name, None)));
        }
    }

    fn delete(&mut self, change: &ObjectSet) {
        for key in change.pods.keys() {
            let is_there = self.network.pods.contains_key(key);
            self.gone(is_there, || ObjectRef::namespaced("Pod", key.namespace(), key.name()));
            self.network.apply(Change::PodGone(key.clone()));
        }
        self.workloads_gone(change);
        for key in change.services.keys() {
            let is_there = self.network.services.contains_key(key);
            self.gone(is_there, || ObjectRef::namespaced("Service", key.namespace(), key.name()));
            self.network.apply(Change::ServiceGone(key.clone()));
        }
        let policies = change.network_policies.keys().map(|key| PolicyId {
            kind: PolicyKind::NetworkPolicy,
            namespace: key.namespace().to_owned(),
            name: key.name().to_owned(),
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
            self.network.pods.retain(|key, _| key.namespace() != *name);
            self.network.services.retain(|key, _| key.namespace() != *name);
            self.network.policies.retain(|id, _| id.namespace != *name);
        }
    }

    fn gone(&mut self, is_there: bool, name: impl FnOnce() -> ObjectRef) {
        self.missing.extend((!is_there).then(name));
    }
}

/// Whether a Service has numbers that its object does not say.
fn numbers_are_made_up(object: &core::Service, service: &Service) -> bool {
    let spec = object.spec.as_ref();
    let says_address =
        spec.is_some_and(|spec| spec.cluster_ip.as_deref().is_some_and(|address| !address.is_empty()));
    let ports = spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let said: BTreeSet<i32> = ports.filter_map(|port| port.node_port).collect();
    let made_up =
        |port: &network::ServicePort| port.node_port.is_some_and(|number| !said.contains(&i32::from(number)));
    !service.cluster_ips.is_empty() && !says_address || service.ports.iter().any(made_up)
}

/// What an API server leaves of a Service whose object does not say it: addresses, node ports, age and what its load balancer got.
fn keep_numbers(object: &mut core::Service, earlier: &Service) {
    let Some(spec) = &mut object.spec else { return };
    let says_none = spec.cluster_ip.as_deref().unwrap_or_default().is_empty();
    if says_none && !earlier.cluster_ips.is_empty() && spec.type_.as_deref() != Some("ExternalName") {
        let addresses: Vec<String> = earlier.cluster_ips.iter().map(ToString::to_string).collect();
        spec.cluster_ip = addresses.first().cloned();
        spec.cluster_ips = Some(addresses);
    }
    for port in spec.ports.iter_mut().flatten().filter(|port| port.node_port.is_none_or(|number| number == 0))
    {
        let name = port.name.as_deref().filter(|name| !name.is_empty());
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let held = earlier.ports.iter().find(|held| {
            held.name.as_deref() == name
                && held.protocol.to_string() == protocol
                && i32::from(held.port) == port.port
        });
        port.node_port = held.and_then(|held| held.node_port).map(i32::from);
    }
    let check = earlier.health_check_node_port.map(i32::from);
    spec.health_check_node_port = spec.health_check_node_port.filter(|port| *port != 0).or(check);
    if object.metadata.creation_timestamp.is_none() {
        let made = earlier.created.and_then(|at| i64::try_from(at).ok());
        object.metadata.creation_timestamp = made.and_then(|at| Some(Time(Timestamp::from_second(at).ok()?)));
    }
    if object.status.is_none() {
        let ingress = earlier
            .load_balancer_ips
            .iter()
            .map(|ip| core::LoadBalancerIngress { ip: Some(ip.to_string()), ..Default::default() });
        let balancer = core::LoadBalancerStatus { ingress: Some(ingress.collect()) };
        object.status = Some(core::ServiceStatus { load_balancer: Some(balancer), ..Default::default() });
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

    /// The slices that a cluster keeps say more than a selector does; what they say of pods that nothing happens to stays.
    #[test]
    fn endpoints_that_a_cluster_keeps_stay_as_ready_as_they_are() {
        let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-abc
  namespace: shop
  labels: {kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.1.2], conditions: {ready: false}, targetRef: {kind: Pod, namespace: shop, name: web}}]
";
        let base = set(BASE);
        let (mut before, _) = crate::offline::network(&base, &nodes_for(&base, 2));
        let key = NamespacedName::new("shop", "web");
        let slices = set(slice);
        let listed = slices.endpoint_slices.values().map(|slice| &slice.value).collect::<Vec<_>>();
        let made = service::service(&base.services[&key].value, &listed, None).0.unwrap();
        before.services.insert(key.clone(), made.clone());
        let pod = BASE.split("---\n").nth(1).unwrap();
        let endpoints = |change: &str, delete: bool| {
            let amended = amend(&before, &set(change), delete);
            assert!(amended.missing.is_empty() && amended.untold.is_empty());
            let endpoints = amended.network.services[&key].ports[0].endpoints.clone();
            endpoints
                .iter()
                .map(|it| (it.pod.as_ref().unwrap().name().to_owned(), it.ready))
                .collect::<Vec<_>>()
        };
        let unready = ("web".to_owned(), false);
        assert_eq!(
            endpoints(&pod.replace("{name: web,", "{name: two,"), false),
            [("two".into(), true), unready.clone()]
        );
        assert_eq!(
            endpoints(&pod.replace("app: web", "app: web, more: x"), false),
            std::slice::from_ref(&unready)
        );
        assert_eq!(endpoints(&pod.replace("app: web", "app: api"), false), []);
        assert_eq!(endpoints(pod, true), []);
        // It would be made anew at once.
        assert_eq!(endpoints(slice, true), [unready]);
    }
}
