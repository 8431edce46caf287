//! A whole controller on the loopback: TLS, tokens, real manifests, agents that are a gRPC client and a view.

#![allow(clippy::unwrap_used)]

mod world;

use std::path::Path;
use std::time::Duration;

use api::convert;
use api::generated::ferrule::v1alpha1 as wire;
use controller::config::Config;
use controller::run::{Controller, RunError};
use controller::translate::Objects;
use tonic::Code;
use world::{TOKENS, World, endpoint, policy, web};

#[tokio::test]
async fn manifests_bindings_and_edits_reach_the_agents_that_they_concern() {
    let world = World::new();
    let controller = world.start().await;
    let mut one = world.dial(&controller, 1, TOKENS[1]).await.unwrap();
    let mut two = world.dial(&controller, 2, TOKENS[2]).await.unwrap();
    assert_eq!(one.take(vec![]).await, ["Node node-1", "Node node-2", "Pod shop/web"]);
    assert_eq!(two.take(vec![]).await.len(), 5);

    one.binds(web(), 7).await;
    assert_eq!(one.take(vec![]).await, ["Pod shop/web"]);
    assert_eq!(one.watermark.revision("bindings/node-1"), 7);
    assert_eq!(two.take(vec![]).await.len(), 1);
    assert!(two.view.sets.values().any(|set| set.members.contains(&web().addresses[0])));

    world.write("policy.yaml", &policy(6379));
    assert_eq!(two.take(vec![]).await, ["NetworkPolicy shop/db"]);
    // Half a file changes nothing, and is told.
    world.write("policy.yaml", "kind: [");
    let told = async {
        loop {
            let (_, problems) = world.get("/v1alpha1/problems").await;
            if let Some(message) = problems["items"][0]["message"].as_str() {
                return message.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(5), told).await.unwrap();
    assert!(told.contains("last good content stays in force"), "{told}");
    world.write("policy.yaml", &policy(6380));
    assert_eq!(two.take(vec![]).await, ["NetworkPolicy shop/db"]);

    // The first agent heard nothing of all that: the next it hears is of itself.
    one.binds(web(), 8).await;
    assert_eq!(one.take(vec![]).await, [""; 0]);
    controller.stop().await;
}

#[tokio::test]
async fn nobody_speaks_for_a_node_without_its_token() {
    let world = World::new();
    let controller = world.start().await;
    let refused = world.dial(&controller, 1, "token-of-nobody-0123456789").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // With a good token but another's name the stream opens and ends.
    let mut other = world.dial(&controller, 2, TOKENS[1]).await.unwrap();
    let refused = other.hear().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("node-1"), "{refused:?}");
    // A token that is withdrawn counts at once.
    std::fs::remove_file(world.path("tokens/node-1")).unwrap();
    let refused = world.dial(&controller, 1, TOKENS[1]).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // And an agent does not trust just anybody.
    let strange = World::new();
    let elsewhere = strange.start().await;
    let authority = std::fs::read(world.path("tls/ca.crt")).unwrap();
    assert!(endpoint(&elsewhere, &authority).connect().await.is_err());
    let (_, metrics) = world.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("ferrule_controller_streams_denied_total 3"), "{metrics}");
    controller.stop().await;
    elsewhere.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_bindings_and_sends_only_the_difference() {
    let world = World::new();
    let controller = world.start().await;
    let mut one = world.dial(&controller, 1, TOKENS[1]).await.unwrap();
    let mut two = world.dial(&controller, 2, TOKENS[2]).await.unwrap();
    one.take(vec![]).await;
    two.take(vec![]).await;
    one.binds(web(), 7).await;
    one.take(vec![]).await;
    two.take(vec![]).await;
    let before = two.watermark.clone();
    let stopping = std::time::Instant::now();
    controller.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(2), "open streams end with the controller");
    assert!(!world.path("api.sock").exists());

    world.write("policy.yaml", &policy(1234));
    let controller = world.start().await;
    // Node 1 has not called yet, and still its pod's address stays in the set.
    let mut two = world.call(&controller, 2, TOKENS[2], two).await.unwrap();
    assert_eq!(two.take(vec![]).await, ["NetworkPolicy shop/db"]);
    // Counted on from what the agent acknowledged: no clock, no new epoch.
    assert_eq!(two.watermark.epoch, before.epoch);
    assert!(two.watermark.revision("manifests") >= before.revision("manifests"));
    assert_eq!(two.watermark.revision("bindings/node-1"), 7);
    controller.stop().await;
}

#[tokio::test]
async fn the_cli_reads_nodes_pods_policies_and_asks_agents() {
    let world = World::new();
    let controller = world.start().await;
    assert_eq!(world.get("/healthz").await.0, 200);
    let mut two = world.dial(&controller, 2, TOKENS[2]).await.unwrap();
    let Some(wire::from_controller::Body::Delta(first)) = two.hear().await.unwrap() else {
        panic!("no delta")
    };
    let rejected = vec![wire::Rejection {
        id: Some(convert::encode_id(&api::stream::ResourceId::Policy(network::PolicyId {
            kind: network::PolicyKind::NetworkPolicy,
            namespace: "shop".into(),
            name: "db".into(),
        }))),
        reason: "too many flows".into(),
    }];
    let answer = wire::Acknowledgement { nonce: first.nonce, rejected };
    two.say(wire::from_agent::Body::Acknowledgement(answer)).await;
    let rejected = async {
        loop {
            let (_, policies) = world.get("/v1alpha1/policies").await;
            if !policies["items"][0]["problems"].is_null() {
                return policies;
            }
        }
    };
    let policies = tokio::time::timeout(Duration::from_secs(5), rejected).await.unwrap();
    let item = &policies["items"][0];
    assert_eq!((&policies["kind"], &item["policy"]), (&"PolicyList".into(), &"NetworkPolicy shop/db".into()));
    assert_eq!((&item["nodes"], &item["realized"]), (&serde_json::json!(["node-2"]), &serde_json::json!([])));
    assert!(item["problems"][0].as_str().unwrap().contains("too many flows"), "{item}");

    let (_, nodes) = world.get("/v1alpha1/nodes").await;
    let connected: Vec<_> = (0..2).map(|k| nodes["items"][k]["connected"].as_bool().unwrap()).collect();
    assert_eq!(connected, [false, true]);
    let (_, pods) = world.get("/v1alpha1/pods?namespace=shop&node=node-2").await;
    assert_eq!(pods["items"].as_array().unwrap().len(), 1);
    assert_eq!(pods["items"][0]["ingressPolicies"], serde_json::json!(["NetworkPolicy shop/db"]));

    // One agent answers, the other is away: a part of the answer and a warning.
    let ask = world.get("/v1alpha1/flows?table=Ingress");
    let answer = async {
        let Some(wire::from_controller::Body::Query(query)) = two.hear().await.unwrap() else {
            panic!("no query")
        };
        assert_eq!(query.path, "/v1alpha1/flows?table=Ingress");
        let json = r#"{"apiVersion":"ferrule.io/v1alpha1","kind":"FlowList","items":[{"node":"node-2"}]}"#;
        let answer = wire::Answer { id: query.id, status: 200, json: json.into() };
        two.say(wire::from_agent::Body::Answer(answer)).await;
    };
    let ((status, flows), ()) = tokio::join!(ask, answer);
    assert_eq!((status, &flows["items"][0]["node"]), (200, &"node-2".into()));
    assert_eq!(flows["warnings"], serde_json::json!(["node node-1: its agent never connected"]));

    for (path, wanted, word) in [
        ("/v1alpha1/flows?pod=shop/none", 404, "no pod shop/none"),
        ("/v1alpha1/flows?pod=none", 400, "NAMESPACE/NAME"),
        ("/v1alpha1/flows?policy=shop/none", 404, "no policy shop/none"),
        ("/v1alpha1/ports?node=node-9", 404, "no node node-9"),
        ("/v1alpha1/nodes?nod=node-1", 400, "`nod`"),
        ("/v1alpha1/nothing", 404, "/v1alpha1/nothing"),
    ] {
        let (status, body) = world.get(path).await;
        assert_eq!(status, wanted, "{path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(word), "{path}: {body}");
    }
    controller.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_flag_is_said_at_once() {
    let world = World::new();
    let controller = world.start().await;
    let error = Controller::start(&world.config(), Objects).await.unwrap_err();
    assert!(matches!(error, RunError::InUse { .. }), "{error}");
    controller.stop().await;

    let refused = async |spoil: &dyn Fn(&mut Config, &Path)| {
        let mut config = world.config();
        spoil(&mut config, world.directory.path());
        Controller::start(&config, Objects).await.unwrap_err().to_string()
    };
    let error = refused(&|config, path| config.source.manifests = vec![path.join("none")]).await;
    assert!(error.starts_with("--manifests") && error.contains("none"), "{error}");
    let error = refused(&|config, path| config.node_tokens = Some(path.join("manifests/nodes.yaml"))).await;
    assert!(error.starts_with("--node-tokens"), "{error}");
    let error = refused(&|config, _| config.listen = vec!["192.0.2.77:1".parse().unwrap()]).await;
    assert!(error.starts_with("--listen 192.0.2.77:1: cannot listen"), "{error}");
    std::fs::write(world.path("tls/ca.key"), "no key").unwrap();
    let error = refused(&|_, _| {}).await;
    assert!(error.contains("ca.key is no private key"), "{error}");
}
