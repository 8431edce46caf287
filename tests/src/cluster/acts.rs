//! What a test does on its stage: objects made, changed and removed, and the parts of scheduler, kubelet and namespace
//! controller, each as the real one does it.

use controller::kube::kinds::{Kind, WATCHED};
use objects::SourceText;
use serde_json::{Value, json};

use super::Stage;
use cluster::Request;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

impl Stage {
    /// Makes an object; `path` is its collection's.
    ///
    /// # Panics
    /// When the API refuses it.
    pub fn create(&self, path: &str, object: &Value) -> Value {
        self.ask(&Request { method: "POST", path, content_type: JSON, body: &object.to_string() })
    }

    /// Changes an object by a merge patch.
    ///
    /// # Panics
    /// When the API refuses it.
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.ask(&Request { method: "PATCH", path, content_type: MERGE, body: &patch.to_string() })
    }

    /// Removes an object.
    ///
    /// # Panics
    /// When the API refuses it.
    pub fn delete(&self, path: &str) {
        self.ask(&Request { method: "DELETE", path, content_type: JSON, body: "" });
    }

    /// A namespace with the service account that pods of it run as.
    pub fn namespace(&self, name: &str, labels: &Value) {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.create("/api/v1/namespaces", &object);
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        self.create(&format!("/api/v1/namespaces/{name}/serviceaccounts"), &account);
    }

    /// Removes a namespace and everything in it that the network knows, as Kubernetes' own controller does.
    pub fn delete_namespace(&mut self, name: &str) {
        let path = format!("/api/v1/namespaces/{name}");
        self.delete(&path);
        for kind in
            WATCHED.iter().filter(|kind| !kind.optional && !matches!(kind.plural, "nodes" | "namespaces"))
        {
            for object in self.list(kind).iter().filter(|object| object["metadata"]["namespace"] == name) {
                let (prefix, _) = kind
                    .path()
                    .rsplit_once('/')
                    .map(|(p, r)| (p.to_owned(), r.to_owned()))
                    .unwrap_or_default();
                let object = text(&object["metadata"]["name"]);
                self.delete(&format!("{prefix}/namespaces/{name}/{}/{object}", kind.plural));
            }
        }
        self.kubelets();
        let mut object = self.ask(&Request::get(&path));
        object["spec"]["finalizers"] = json!([]);
        let body = object.to_string();
        let path = format!("{path}/finalize");
        self.ask(&Request { method: "PUT", path: &path, content_type: JSON, body: &body });
    }

    /// A pod that serves these TCP ports, bound to a node by its binding subresource, as a scheduler does. Kubelets take it up
    /// when they are asked to.
    pub fn pod(&self, namespace: &str, name: &str, labels: &Value, node: &str, ports: &[u16]) {
        self.unbound(namespace, name, labels, ports);
        self.bind(namespace, name, node);
    }

    /// A pod that is bound to no node yet.
    pub fn unbound(&self, namespace: &str, name: &str, labels: &Value, ports: &[u16]) -> Value {
        let ports: Vec<_> = ports.iter().map(|port| json!({"containerPort": port})).collect();
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "example.com/none", "ports": ports}],
            },
        });
        self.create(&format!("/api/v1/namespaces/{namespace}/pods"), &object)
    }

    /// Binds a pod to a node.
    pub fn bind(&self, namespace: &str, name: &str, node: &str) {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        self.create(&format!("/api/v1/namespaces/{namespace}/pods/{name}/binding"), &binding);
    }

    /// What the nodes' kubelets do: plug bound pods with the real CNI binary and write their status; unplug pods that end, and
    /// then remove them for good.
    ///
    /// # Panics
    /// When a pod cannot be plugged.
    pub fn kubelets(&mut self) {
        let pods = self.list(&kind("pods"));
        let (ending, bound): (Vec<_>, Vec<_>) = pods
            .into_iter()
            // Nodes that are only objects have no kubelet.
            .filter(|pod| self.lab.node(&text(&pod["spec"]["nodeName"])).is_ok())
            .partition(|pod| pod["metadata"]["deletionTimestamp"].is_string());
        let objects = [self.nodes(), self.pods_source(&bound)];
        let ran = self.lab.run_pods(&objects);
        ran.unwrap_or_else(|error| panic!("the kubelets cannot do their work: {error}"));
        for pod in &bound {
            let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
            let record = self
                .lab
                .record()
                .pods
                .iter()
                .find(|(key, _)| key.namespace() == namespace && key.name() == name);
            let Some((_, record)) = record.filter(|(_, record)| record.is_plugged()) else {
                panic!("{namespace}/{name} is not plugged: {record:?} {:#?}", self.lab.problems());
            };
            assert_eq!(record.problem, None, "{namespace}/{name}");
            let ips: Vec<_> = record.addresses.iter().map(ToString::to_string).collect();
            if pod["status"]["podIP"] == ips[0].as_str() {
                continue;
            }
            let status = json!({"status": {
                "phase": "Running", "podIP": ips[0],
                "podIPs": ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            }});
            self.patch(&format!("/api/v1/namespaces/{namespace}/pods/{name}/status"), &status);
        }
        for pod in &ending {
            let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
            self.delete(&format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0"));
        }
    }

    /// Everything in the API that the network knows, as manifests.
    pub fn objects(&self) -> Vec<SourceText> {
        let kinds = WATCHED.iter().filter(|kind| !kind.optional);
        kinds
            .map(|kind| {
                let mut objects = self.list(kind);
                // Whoever is nowhere yet is not placed anywhere.
                objects.retain(|object| kind.plural != "pods" || object["spec"]["nodeName"].is_string());
                self.source(kind, &objects)
            })
            .collect()
    }

    /// A pod as the API has it.
    pub fn get_pod(&self, namespace: &str, name: &str) -> Value {
        self.ask(&Request::get(&format!("/api/v1/namespaces/{namespace}/pods/{name}")))
    }

    /// All nodes, as manifests.
    pub fn nodes(&self) -> SourceText {
        self.source(&kind("nodes"), &self.list(&kind("nodes")))
    }

    /// These pods, as manifests.
    pub fn pods_source(&self, pods: &[Value]) -> SourceText {
        self.source(&kind("pods"), pods)
    }

    /// All objects of a kind.
    fn list(&self, kind: &Kind) -> Vec<Value> {
        let list = self.ask(&Request::get(&kind.path()));
        list["items"].as_array().cloned().unwrap_or_default()
    }

    fn source(&self, kind: &Kind, objects: &[Value]) -> SourceText {
        let list = json!({
            "apiVersion": kind.api_version(), "kind": format!("{}List", kind.name), "items": objects,
        });
        SourceText::new(format!("{}.json", kind.plural), list.to_string())
    }
}

fn kind(plural: &str) -> Kind {
    let kind = WATCHED.into_iter().find(|kind| kind.plural == plural);
    kind.unwrap_or_else(|| panic!("{plural} are not watched"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A NetworkPolicy by which nothing reaches the pods with the label `app=to` but those with `app=from`.
pub fn only(name: &str, to: &str, from: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
        "spec": {
            "podSelector": {"matchLabels": {"app": to}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": from}}}]}],
        },
    })
}
