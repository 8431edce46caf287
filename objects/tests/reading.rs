//! Reading: documents, lists, defaults, kinds that do not matter, and every way an input can be bad.

#![allow(clippy::unwrap_used, reason = "a test")]

use expect_test::{Expect, expect};
use network::NamespacedName;
use objects::{ObjectSet, Severity, SourceText, read};

fn read_one(text: &str) -> (ObjectSet, Vec<String>) {
    let (objects, problems) = read(&[SourceText::new("a.yaml", text)]);
    (objects, problems.iter().map(ToString::to_string).collect())
}

fn check(text: &str, problems: Expect) -> ObjectSet {
    let (objects, found) = read_one(text);
    problems.assert_eq(&found.join("\n"));
    objects
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: first}
---
apiVersion: v1
kind: Pod
metadata: {name: second, namespace: shop}
";

#[test]
fn several_documents_empty_ones_comments_and_directives() {
    let text = format!("%YAML 1.2\n---\n# nothing\n---\n{PODS}\n...\n---\n--- # the end\n");
    let objects = check(&text, expect![""]);
    let keys: Vec<String> = objects.pods.keys().map(ToString::to_string).collect();
    assert_eq!(keys, ["default/first", "shop/second"]);
}

#[test]
fn byte_order_mark_windows_line_ends_and_dashes_inside_a_text() {
    let text = "\u{feff}apiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: x}\r\ndata:\r\n  a: |\r\n    ---\r\n    kind: Pod\r\n---\r\napiVersion: v1\r\nkind: Pod\r\nmetadata: {name: p}\r\n";
    let objects = check(text, expect![""]);
    assert_eq!(objects.pods.len(), 1);
    assert_eq!(objects.skipped, [("ConfigMap".to_owned(), 1)].into());
}

#[test]
fn a_bad_document_names_its_place_and_the_rest_is_read() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: Deployment\nmetadata:\n  name: b\n spec: {\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: c}\n";
    let objects = check(
        text,
        expect![
            "a.yaml:8:2: Deployment b: the document cannot be read: while parsing a block mapping, did not find expected key; correct the text; the other documents are read"
        ],
    );
    assert_eq!(objects.pods.len(), 2);
}

#[test]
fn lists_of_all_sorts() {
    let text = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- {apiVersion: v1, kind: Secret, metadata: {name: s}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicyList
items:
- {metadata: {name: one}, spec: {podSelector: {}}}
- {metadata: {name: two, namespace: shop}}
---
{apiVersion: v1, kind: PodList, items: null}
";
    let objects = check(text, expect![""]);
    assert_eq!(objects.namespaces.len(), 1);
    let keys: Vec<String> = objects.network_policies.keys().map(ToString::to_string).collect();
    assert_eq!(keys, ["default/one", "shop/two"]);
    assert_eq!(objects.skipped, [("Secret".to_owned(), 1)].into());
}

#[test]
fn json_with_tabs_and_several_values() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"a\"}\n}\n{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"b\"}}\n";
    let objects = check(text, expect![""]);
    assert_eq!(objects.pods.len(), 2);
}

#[test]
fn foreign_kinds_are_counted_and_known_ones_in_other_versions_are_problems() {
    let text = "
{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: s}}
---
{apiVersion: crd.projectcalico.org/v1, kind: NetworkPolicy, metadata: {name: s}}
---
{apiVersion: batch/v1, kind: CronJob, metadata: {name: s}}
---
{apiVersion: extensions/v1beta1, kind: NetworkPolicy, metadata: {name: old}}
---
{apiVersion: apps/v1beta2, kind: Deployment, metadata: {name: old, namespace: shop}}
";
    let objects = check(
        text,
        expect![[r#"
        a.yaml:8:1: NetworkPolicy default/old: apiVersion: NetworkPolicy of apiVersion extensions/v1beta1 is not read, the object is left out; write it as apiVersion networking.k8s.io/v1
        a.yaml:10:1: Deployment shop/old: apiVersion: Deployment of apiVersion apps/v1beta2 is not read, the object is left out; write it as apiVersion apps/v1"#]],
    );
    let skipped: Vec<&str> = objects.skipped.keys().map(String::as_str).collect();
    assert_eq!(
        skipped,
        ["CronJob.batch", "NetworkPolicy.crd.projectcalico.org", "Service.serving.knative.dev"]
    );
}

#[test]
fn what_is_no_object_and_what_has_no_proper_name() {
    check(
        "
just a text
---
[1, 2]
---
metadata: {name: x}
---
kind: Pod
metadata: {name: x}
---
apiVersion: v1
kind: Pod
metadata: {}
---
apiVersion: v1
kind: Pod
metadata:
  name: ../../etc
---
apiVersion: v1
kind: Pod
metadata:
  name: a
  namespace: a.b
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: 5, namespace: shop}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: n}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: null}
",
        expect![[r#"
            a.yaml:2:1: a text is no Kubernetes object; every document needs apiVersion, kind and metadata.name
            a.yaml:4:1: a list is no Kubernetes object; every document needs apiVersion, kind and metadata.name
            a.yaml:6:1: `kind` is missing; write `kind`
            a.yaml:8:1: `apiVersion` is missing; write `apiVersion`
            a.yaml:13:11: metadata.name: `metadata.name` is missing; write `metadata.name`
            a.yaml:18:9: Pod default/../../etc: metadata.name: `../../etc` is not a valid name; use small letters, digits, `-` and `.`, a letter or digit at both ends
            a.yaml:24:14: Pod a.b/a: metadata.namespace: `a.b` is not a valid name; use small letters, digits, `-` and `.`, a letter or digit at both ends
            a.yaml:28:18: metadata.name: a number or boolean stands where a text belongs, the object is left out; write the type that the API wants (a text that looks like a number needs quotes)
            a.yaml:32:32: metadata.namespace: a number or boolean stands where a text belongs, the object is left out; write the type that the API wants (a text that looks like a number needs quotes)"#]],
    );
}

#[test]
fn wrong_types_name_the_field_and_its_line() {
    let objects = check(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: three
  template: {}
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels:
    version: 1.0
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: minus}
spec: {replicas: -1, template: {}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: much}
spec: {replicas: 1000000000, template: {}}
---
apiVersion: v1
kind: Pod
metadata: {name: good}
spec:
  containers:
  - {name: c, env: [{name: PORT, value: 8080}], resources: {limits: {cpu: 1}}}
",
        expect![[r#"
            a.yaml:6:13: Deployment default/web: spec.replicas: invalid type: string "three", expected i64, the object is left out; write the type that the API wants (a text that looks like a number needs quotes)
            a.yaml:14:14: Pod default/web: metadata.labels.version: invalid type: floating point `1.0`, expected a string, the object is left out; write the type that the API wants (a text that looks like a number needs quotes)
            a.yaml:19:18: Deployment default/minus: spec.replicas: -1 pods cannot be made; write a number from 0 to 10000
            a.yaml:24:18: Deployment default/much: spec.replicas: 1000000000 pods cannot be made; write a number from 0 to 10000"#]],
    );
    assert_eq!(objects.pods.len(), 1, "a mistake that is not ours does no harm");
}

#[test]
fn defined_twice_the_later_counts_and_the_same_twice_is_nothing() {
    let objects = check(
        "
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {x: '1'}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {x: '2'}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {x: '2'}}}
",
        expect![
            "a.yaml:4:1: Namespace a: the object is defined a second time, the definition at a.yaml:2:1 is replaced; keep one of the two"
        ],
    );
    let labels = objects.namespaces["a"].value.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["x"], "2");
}

#[test]
fn services_are_defaulted() {
    let objects = check(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}, {port: 81, targetPort: web}]}}",
        expect![""],
    );
    let service = &objects.services[&NamespacedName::new("default", "s")].value;
    let spec = service.spec.as_ref().unwrap();
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    let json = serde_json::to_string(spec.ports.as_ref().unwrap()).unwrap();
    expect![[
        r#"[{"port":80,"protocol":"TCP","targetPort":80},{"port":81,"protocol":"TCP","targetPort":"web"}]"#
    ]]
    .assert_eq(&json);
}

#[test]
fn anchors_merges_and_quoted_texts() {
    let objects = check(
        "
apiVersion: v1
kind: Pod
metadata:
  name: a
  labels: &labels {app: web, on: \"yes\", number: \"1\"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  template:
    metadata:
      labels: &more {app: d}
    spec:
      containers:
      - &c {name: one, ports: [{containerPort: 80}]}
      - <<: *c
        name: two
        ports: [{containerPort: 81}]
",
        expect![""],
    );
    let pod = &objects.pods[&NamespacedName::new("default", "a")].value;
    assert_eq!(pod.metadata.labels.as_ref().unwrap()["on"], "yes");
    let workload = &objects.workloads.values().next().unwrap().value;
    let containers = &workload.template.spec.as_ref().unwrap().containers;
    let names: Vec<&str> = containers.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
}

#[test]
fn a_problem_for_programs() {
    let (_, problems) = read(&[SourceText::new("dir/a.yaml", "kind: Pod\nmetadata: {name: x}\n")]);
    assert_eq!(problems[0].severity(), Severity::Error);
    expect![[r#"
        [
          {
            "severity": "error",
            "object": null,
            "source": {
              "file": "dir/a.yaml",
              "line": 1,
              "column": 1
            },
            "field": null,
            "what": "`apiVersion` is missing",
            "cure": "write `apiVersion`"
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&problems).unwrap());
}
