//! What `docs/contracts.md` promises of the controller's HTTP, of its objects in the API and of the items that are listed: names and
//! shapes on which other tools depend. The cluster tier finds them on a real API server.

#![allow(clippy::unwrap_used)]

mod world;

use api::insight::{DropItem, List, Owner, RuleItem};
use controller::kube::report::{Object, condition};
use controller::kube::{authority, epoch, lease};
use controller::source::Reason;
use network::NodeName;
use serde_json::json;
use world::World;

const PAGE: &str = include_str!("../../docs/contracts.md");

#[tokio::test]
async fn readiness_has_its_path() {
    let world = World::new();
    let controller = world.start().await;
    assert_eq!(world.get("/readyz").await, (200, "ok\n".into()));
    assert_eq!(world.get("/healthz").await.0, 200);
    assert!(PAGE.contains("`/readyz`"));
    controller.stop().await;
}

#[test]
fn the_controllers_own_objects_have_their_names() {
    for (name, own) in [
        ("ferrule-epoch", epoch::NAME),
        ("ferrule-status", lease::NAME),
        ("ferrule-controller-ca", authority::NAME),
    ] {
        assert_eq!(name, own);
        assert!(PAGE.contains(&format!("`{name}`")), "{name} is not in docs/contracts.md");
    }
}

#[test]
fn a_policy_has_its_condition() {
    let policy = Object::parse("ClusterNetworkPolicy cluster").unwrap();
    let now = "2026-01-01T00:00:00Z";
    let expected = |status: &str, reason: &str, message: &str| {
        json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "cluster"},
            "status": {"conditions": [{
                "type": "Accepted", "status": status, "reason": reason, "message": message,
                "observedGeneration": 3, "lastTransitionTime": now,
            }]},
        })
    };
    let good = condition(&policy, &[], 3, now);
    assert_eq!(good, expected("True", "Understood", "everything of it is understood"));
    let bad = condition(&policy, &["a".into(), "b".into()], 3, now);
    assert_eq!(bad, expected("False", "NotUnderstood", "a; b"));
    for word in ["`Accepted`", "`Understood`", "`NotUnderstood`", "`NotRealized`", "`Drifted`"] {
        assert!(PAGE.contains(word), "{word} is not in docs/contracts.md");
    }
    for (reason, word) in [(Reason::NotRealized, "NotRealized"), (Reason::Drifted, "Drifted")] {
        let (_, event) = policy.event("uid", "why", reason, now);
        assert_eq!((event["type"].as_str(), event["reason"].as_str()), (Some("Warning"), Some(word)));
        assert_eq!(event["source"]["component"], "ferrule-controller");
    }
}

/// Every field that is promised, with its name; more may come.
fn has(item: &serde_json::Value, promised: &serde_json::Value) {
    for (field, value) in promised.as_object().unwrap() {
        assert_eq!(&item[field], value, "{field} in {item}");
        assert!(PAGE.contains(&format!("`{field}`")), "{field} is not in docs/contracts.md");
    }
}

#[test]
fn drops_and_rules_have_their_fields() {
    let drop: DropItem = serde_json::from_value(json!({
        "node": "node-1", "reason": "default-deny", "packets": 3, "bytes": 180, "table": "Ingress",
        "owners": [{"kind": "NetworkPolicy", "name": "shop/cart", "rule": "default-deny"}], "what": "drops"
    }))
    .unwrap();
    assert!(matches!(drop.owners.as_slice(), [Owner { .. }]));
    let list = serde_json::to_value(List::new(vec![drop])).unwrap();
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("ferrule.io/v1alpha1"), &json!("DropList")));
    has(
        &list["items"][0],
        &json!({"node": "node-1", "reason": "default-deny", "packets": 3, "bytes": 180, "table": "Ingress", "what": "drops"}),
    );
    let rule = RuleItem {
        node: NodeName::new("node-1"),
        policy: "NetworkPolicy shop/cart".into(),
        generation: 4,
        rule: "ingress[0]".into(),
        packets: 3,
        bytes: 180,
        flows: 7,
        shared: true,
    };
    let list = serde_json::to_value(List::new(vec![rule])).unwrap();
    assert_eq!(list["kind"], "RuleList");
    has(
        &list["items"][0],
        &json!({
            "node": "node-1", "policy": "NetworkPolicy shop/cart", "generation": 4, "rule": "ingress[0]", "packets": 3,
            "bytes": 180, "flows": 7, "shared": true,
        }),
    );
}
