//! What is wrong with objects in a real API is told where an operator looks: Events on the objects, conditions of policies,
//! problems and the log. Nobody else suffers.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use api::insight::{PolicyItem, ProblemItem};
use cluster::Request;
use serde_json::{Value, json};
use tests::cluster::Stage;
use tests::steady::until;

const CRD: &str = include_str!("../../deploy/chart/crds/clusternetworkpolicies.yaml");
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAME: &str = "clusternetworkpolicies.policy.networking.k8s.io";
const SERVICES: &str = "/api/v1/namespaces/shop/services";
const POLICIES: &str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";
/// An Event is written when a problem has lasted for 5 s, a kind is looked for every 10 s.
const SOON: Duration = Duration::from_secs(40);

fn node(name: &str, spec: &Value, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec,
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

/// The selector of an object's Events.
fn of(object: &str) -> String {
    format!("fieldSelector=involvedObject.name%3D{object}")
}

/// The messages of the Events on an object.
fn events(stage: &Stage, object: &str) -> Vec<String> {
    let list = stage.ask(&Request::get(&format!("/api/v1/events?{}", of(object))));
    let ours =
        |event: &&Value| event["source"]["component"] == "ferrule-controller" && event["type"] == "Warning";
    let events = list["items"].as_array().unwrap().iter().filter(ours);
    events.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

/// A Service that asks for an address which another may have.
fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"externalIPs": ["198.51.100.7"], "ports": [{"port": 80}]},
    })
}

fn problems(stage: &Stage) -> Vec<ProblemItem> {
    stage.controller(1).list::<ProblemItem>("problems", &[]).unwrap().items
}

/// The condition of a cluster policy: status and message.
fn condition(stage: &Stage, name: &str) -> Option<(String, String)> {
    let policy = stage.ask(&Request::get(&format!("{POLICIES}/{name}")));
    let accepted = policy["status"]["conditions"].as_array()?.iter().find(|it| it["type"] == "Accepted")?;
    let text = |field: &str| accepted[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("message")))
}

fn create_crd(stage: &Stage, text: &str) {
    let (method, content_type) = ("POST", "application/yaml");
    stage.ask(&Request { method, path: CRDS, content_type, body: text });
}

#[test]
fn what_is_wrong_is_told_on_the_object_and_disturbs_nobody() {
    let Some(mut stage) = Stage::new("what_is_wrong_is_told_on_the_object") else { return };
    stage.namespace("shop", &json!({}));
    stage.pod("shop", "a", &json!({"app": "a"}), "node-1", &[80]);
    stage.pod("shop", "b", &json!({"app": "b"}), "node-2", &[80]);
    stage.kubelets();
    stage.create(SERVICES, &service("z-first"));
    let taken = stage.lab.node("node-1").unwrap().address(true).unwrap().to_string();
    stage.create("/api/v1/nodes", &node("without-range", &json!({}), "172.28.0.9"));
    stage.create("/api/v1/nodes", &node("z-double", &json!({"podCIDR": "10.244.99.0/24"}), &taken));
    // A version of a kind that nobody here reads: its objects would be in force if it were understood.
    create_crd(&stage, &CRD.replace("name: v1alpha2", "name: v1alpha1"));

    until("an Event tells of the node without a pod range", SOON, || {
        events(&stage, "without-range").iter().any(|message| message.contains("podCIDR"))
    });
    until("an Event tells of the node with another's address", SOON, || {
        events(&stage, "z-double")
            .iter()
            .any(|message| message.contains(&taken) && message.contains("node-1"))
    });
    // Seconds after the other, as its time of creation says.
    stage.create(SERVICES, &service("a-second"));
    until("an Event tells of the Service whose address an older one has", SOON, || {
        events(&stage, "a-second")
            .iter()
            .any(|message| message.contains("198.51.100.7") && message.contains("shop/z-first"))
    });
    assert_eq!(events(&stage, "z-first"), [""; 0], "who asked first has no fault");
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/ferrule-status";
    let holder = stage.ask(&Request::get(lease))["spec"]["holderIdentity"].clone();
    assert!(holder.as_str().is_some_and(|holder| !holder.is_empty()), "nobody holds the lease: {holder}");
    assert_eq!(events(&stage, "node-1"), [""; 0], "who had the address first has no fault");
    let unread = |problem: &ProblemItem| {
        problem.object == NAME && problem.message.contains("v1alpha1") && problem.message.contains("v1alpha2")
    };
    until("the version that is not read is a problem", SOON, || problems(&stage).iter().any(unread));
    assert!(stage.log(1).contains("other versions only (v1alpha1)"), "{}", stage.log(1));
    assert!(
        stage.controller(1).get("/readyz").is_ok(),
        "one kind that cannot be read is no reason to be away"
    );
    stage.agrees("two nodes and a kind that are wrong");

    // The version that is read: the problem is gone, and policies of it say in a condition whether they are understood.
    stage.delete(&format!("{CRDS}/{NAME}"));
    let gone = || !stage.ask(&Request::get(CRDS)).to_string().contains(NAME);
    until("the definition is gone", SOON, gone);
    create_crd(&stage, CRD);
    until("the version that is read is no problem", SOON, || !problems(&stage).iter().any(unread));
    let established = || {
        let crd = stage.ask(&Request::get(&format!("{CRDS}/{NAME}")));
        crd["status"]["conditions"].as_array().is_some_and(|conditions| {
            conditions.iter().any(|it| it["type"] == "Established" && it["status"] == "True")
        })
    };
    until("the definition is established", SOON, established);
    let policy = |name: &str, to: &Value| {
        json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": name},
            "spec": {
                "tier": "Admin", "priority": 7, "subject": {"namespaces": {}},
                "egress": [{"action": "Accept", "to": [to]}],
            },
        })
    };
    stage.create(POLICIES, &policy("understood", &json!({"networks": ["192.0.2.0/24"]})));
    stage.create(POLICIES, &policy("names", &json!({"domainNames": ["example.com"]})));
    until("a policy that is understood says so", SOON, || {
        condition(&stage, "understood").is_some_and(|(status, _)| status == "True")
    });
    until("one that is not says what of it is not", SOON, || {
        condition(&stage, "names")
            .is_some_and(|(status, message)| status == "False" && message.contains("domainNames"))
    });
    let in_force = || {
        let policies = stage.controller(1).list::<PolicyItem>("policies", &[]).unwrap().items;
        policies.iter().any(|it| it.policy.contains("understood") && it.realized.len() == 2)
    };
    until("the policy is in force on both nodes", SOON, in_force);
    stage.agrees("cluster policies that allow what nobody forbids");

    // What somebody takes out of a switch is put right, and told on the Node.
    let all = ["-O", "OpenFlow13", "del-flows", "br-int", "table=0"];
    stage.lab.ovs(lab::NodeIndex(1), "ovs-ofctl", all).unwrap();
    let drifted = || {
        let list = stage.ask(&Request::get(&format!("/api/v1/events?{}", of("node-1"))));
        let told = |event: &Value| {
            let message = event["message"].as_str().unwrap_or_default();
            event["reason"] == "Drifted"
                && message.contains("flow Classifier")
                && message.contains("taken out")
        };
        list["items"].as_array().unwrap().iter().any(told)
    };
    until("an Event tells of flows that somebody took out", SOON, drifted);
    stage.agrees("flows that were put right");
}
