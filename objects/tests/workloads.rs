//! Workloads against a cluster whose objects are not at hand: their pods are known by name and selector alone.

#![allow(clippy::unwrap_used)]

use network::{NamespacedName, Network};
use objects::offline::{Families, network, network_beside, numbered_nodes};
use objects::{Amended, Assumption, ObjectSet, SourceText, amend, read};

/// Two pods of a Deployment and one of another's, two of a StatefulSet, one of a DaemonSet, and one that ran for a Job.
const CLUSTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-6d4cf56db6-x7bqk, namespace: shop, labels: {app: web, pod-template-hash: 6d4cf56db6, topology.kubernetes.io/zone: a}}
spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-6d4cf56db6-abcde, namespace: shop, labels: {app: web, pod-template-hash: 6d4cf56db6, topology.kubernetes.io/zone: b}}
spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-db-0, namespace: shop, labels: {app: web, tier: db}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: shop, labels: {app: db, statefulset.kubernetes.io/pod-name: db-0, apps.kubernetes.io/pod-index: '0'}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: shop, labels: {app: db, statefulset.kubernetes.io/pod-name: db-1, apps.kubernetes.io/pod-index: '1'}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: logs-qwert, namespace: shop, labels: {app: logs}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: once-zxcvb, namespace: shop, labels: {job-name: once}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web, tier: front}, ports: [{port: 80}]}
";

fn set(text: &str) -> ObjectSet {
    let (set, problems) = read(&[SourceText::new("it", text)]);
    assert_eq!(problems, []);
    set
}

fn cluster() -> Network {
    network(&set(CLUSTER), &numbered_nodes(2, Families::Ipv4)).0
}

/// A workload; its template has these labels more.
fn workload(kind: &str, name: &str, more: &str, count: &str) -> String {
    let group = if kind == "Job" { "batch/v1" } else { "apps/v1" };
    format!(
        "apiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  {count}\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}{more}}}}}\n    \
         spec: {{containers: [{{name: c, image: other, ports: [{{containerPort: 80}}]}}]}}\n"
    )
}

fn amended(change: &str, delete: bool) -> Amended {
    let amended = amend(&cluster(), &set(change), delete);
    assert_eq!((amended.problems.as_slice(), amended.untold.as_slice()), (&[][..], &[][..]), "{change}");
    assert_eq!(amended.missing, []);
    amended
}

fn assumed(amended: &Amended) -> Vec<Assumption> {
    amended.assumed.iter().map(|(_, it)| *it).collect()
}

/// The pods that only one has.
fn names(this: &Network, other: &Network) -> Vec<String> {
    this.pods.keys().filter(|key| !other.pods.contains_key(*key)).map(|key| key.name().to_owned()).collect()
}

#[test]
fn another_image_changes_nothing() {
    for count in ["replicas: 2", "minReadySeconds: 1"] {
        let amended = amended(&workload("Deployment", "web", "", count), false);
        assert_eq!((amended.network, amended.assumed.as_slice()), (cluster(), &[][..]), "{count}");
    }
}

#[test]
fn pods_get_the_labels_of_the_template_and_keep_what_a_cluster_gave_them() {
    let amended = amended(&workload("Deployment", "web", ", tier: front", "replicas: 2"), false);
    let (before, after) = (cluster(), &amended.network);
    let changed: Vec<_> = after.pods.values().filter(|pod| before.pods[&pod.key] != **pod).collect();
    assert_eq!(changed.len(), 2);
    for pod in changed {
        let was = &before.pods[&pod.key];
        assert_eq!((&pod.node, &pod.addresses, &pod.uid), (&was.node, &was.addresses, &was.uid));
        let text: Vec<String> = pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let zone = &was.labels["topology.kubernetes.io/zone"];
        let expected = [
            "app=web",
            "pod-template-hash=6d4cf56db6",
            "tier=front",
            &format!("topology.kubernetes.io/zone={zone}"),
        ];
        assert_eq!(text, expected);
    }
    assert_eq!(amended.assumed, []);
    let endpoints = &after.services[&NamespacedName::new("shop", "web")].ports[0].endpoints;
    let pods: Vec<_> = endpoints.iter().map(|it| it.pod.as_ref().unwrap().name()).collect();
    assert_eq!(pods, ["web-6d4cf56db6-abcde", "web-6d4cf56db6-x7bqk"]);
}

#[test]
fn replicas_come_and_go_as_far_as_it_is_certain_which() {
    let before = cluster();
    for (kind, name, count, comes, goes, says) in [
        (
            "Deployment",
            "web",
            "replicas: 4",
            &["web-0", "web-1"][..],
            &[][..],
            Some(Assumption::Placed { pods: 2 }),
        ),
        ("Deployment", "web", "replicas: 1", &[], &[], Some(Assumption::Kept { going: 1, pods: 2 })),
        ("Deployment", "web", "replicas: 0", &[], &["web-6d4cf56db6-abcde", "web-6d4cf56db6-x7bqk"], None),
        ("StatefulSet", "db", "replicas: 3", &["db-2"], &[], Some(Assumption::Placed { pods: 1 })),
        ("StatefulSet", "db", "replicas: 1", &[], &["db-1"], None),
        ("StatefulSet", "db", "minReadySeconds: 1", &[], &[], None),
        ("DaemonSet", "logs", "minReadySeconds: 1", &[], &[], None),
        (
            "DaemonSet",
            "new",
            "minReadySeconds: 1",
            &["new-node-1", "new-node-2"],
            &[],
            Some(Assumption::Placed { pods: 2 }),
        ),
        ("Deployment", "new", "replicas: 2", &["new-0", "new-1"], &[], Some(Assumption::Placed { pods: 2 })),
        ("Job", "once", "parallelism: 5", &[], &[], None),
        ("Job", "new", "parallelism: 1", &["new-0"], &[], Some(Assumption::Placed { pods: 1 })),
    ] {
        let amended = amended(&workload(kind, name, "", count), false);
        assert_eq!(names(&amended.network, &before), comes, "{kind} {name} {count}");
        assert_eq!(names(&before, &amended.network), goes, "{kind} {name} {count}");
        assert_eq!(assumed(&amended), says.into_iter().collect::<Vec<_>>(), "{kind} {name} {count}");
        let mut addresses: Vec<_> = amended.network.pods.values().flat_map(|pod| &pod.addresses).collect();
        addresses.sort();
        let count = addresses.len();
        addresses.dedup();
        assert_eq!(
            (addresses.len(), amended.network.pods.len()),
            (count, count),
            "every pod has an address of its own"
        );
    }
}

#[test]
fn what_goes_takes_its_pods_along() {
    let before = cluster();
    let gone = amended(&workload("Deployment", "web", "", "replicas: 2"), true);
    assert_eq!(names(&before, &gone.network), ["web-6d4cf56db6-abcde", "web-6d4cf56db6-x7bqk"]);
    let nothing = amended(&workload("Deployment", "none", "", "replicas: 2"), true);
    assert_eq!((assumed(&nothing).as_slice(), nothing.network), (&[Assumption::NoPods][..], before));
}

#[test]
fn pods_of_that_name_which_it_does_not_select_are_told() {
    let other = workload("StatefulSet", "db", "", "replicas: 1").replace("app: db", "app: data");
    let refused = other.replace("labels: {app: data}", "labels: {app: db}");
    assert_eq!(assumed(&amended(&refused, false)).first(), Some(&Assumption::Refused));
    let amended = amended(&other, false);
    assert_eq!(assumed(&amended), [Assumption::Strangers { pods: 2 }, Assumption::Placed { pods: 1 }]);
    // Nobody's place is taken.
    assert_eq!(names(&amended.network, &cluster()), ["db-0-more"]);
    assert_eq!(
        amended.network.pods[&NamespacedName::new("shop", "db-0")],
        cluster().pods[&NamespacedName::new("shop", "db-0")]
    );
}

#[test]
fn a_pod_that_is_new_gets_a_place() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: new, namespace: other}\nspec: {containers: [{name: c, image: i}]}\n";
    let amended = amended(pod, false);
    let new = &amended.network.pods[&NamespacedName::new("other", "new")];
    assert!(new.node.is_some() && new.addresses.len() == 1, "{new:?}");
    assert_eq!(assumed(&amended), [Assumption::Placed { pods: 1 }]);
}

#[test]
fn a_service_without_a_selector_is_told_when_nobody_says_its_endpoints() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: old, namespace: shop}\nspec: {ports: [{port: 80}]}\n";
    assert_eq!(assumed(&amended(service, false)), [Assumption::Numbered, Assumption::NoEndpoints]);
    let said = service.replace("spec: {", "spec: {clusterIP: 10.96.0.99, ");
    assert_eq!(assumed(&amended(&said, false)), [Assumption::NoEndpoints]);
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: l, namespace: shop, labels: {kubernetes.io/service-name: old}}
addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [203.0.113.1]}]\n";
    assert_eq!(assumed(&amended(&format!("{said}{slice}"), false)), []);
}

/// Of pods that manifests made, a network that is amended is the network of the amended objects.
#[test]
fn amending_the_network_is_amending_its_objects() {
    let nodes = numbered_nodes(2, Families::Ipv4);
    let kinds = ["Deployment", "StatefulSet", "DaemonSet"];
    let all = |more: &str, count: &str| {
        let one = |kind: &str| workload(kind, &kind.to_lowercase(), more, count);
        kinds.map(one).join("---\n")
    };
    let base = set(&all("", "replicas: 3"));
    let before = network(&base, &nodes).0;
    for (change, delete) in [
        (all("", "replicas: 3"), false),
        (all(", tier: x", "replicas: 3"), false),
        (all("", "replicas: 3").replace("containerPort: 80", "containerPort: 81"), false),
        (all("", "replicas: 3").replace("containers:", "hostNetwork: true, containers:"), false),
        (workload("StatefulSet", "statefulset", "", "replicas: 1"), false),
        (workload("Deployment", "deployment", "", "replicas: 0"), false),
        (all("", "replicas: 3"), true),
    ] {
        let change = set(&change);
        let mut objects = base.clone();
        if delete {
            assert_eq!(objects.delete(&change), []);
        } else {
            objects.apply(change.clone());
        }
        let (expected, _) = network_beside(&objects, &nodes, &before);
        let amended = amend(&before, &change, delete);
        assert_eq!(amended.network.pods, expected.pods);
        assert_eq!(amended.assumed, []);
    }
}
