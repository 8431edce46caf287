//! A whole controller on the loopback: TLS, tokens, real manifests, agents that are a gRPC client and a view.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::delta;
use api::generated::ferrule::v1alpha1 as wire;
use api::stream::{Binding, Rejection, SERVER_NAME};
use api::watermark::Watermark;
use api::{client, convert};
use clap::Parser;
use controller::config::Config;
use controller::run::{Controller, RunError};
use controller::translate::Objects;
use network::{NamespacedName, NodeView};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

const TOKENS: [&str; 3] = ["", "token-of-node-1-0123456789", "token-of-node-2-0123456789"];

const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-2}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
";

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, uid: uid-web, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, uid: uid-db, labels: {app: db}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
";

fn policy(port: u16) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: db, namespace: shop}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: db}}}}\n  ingress:\n  - from: [{{podSelector: {{matchLabels: {{app: web}}}}}}]\n    \
         ports: [{{port: {port}}}]\n"
    )
}

struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap() };
        for directory in ["manifests", "tokens"] {
            std::fs::create_dir(world.path(directory)).unwrap();
        }
        for k in [1, 2] {
            std::fs::write(world.path(&format!("tokens/node-{k}")), TOKENS[k]).unwrap();
        }
        world.write("nodes.yaml", NODES);
        world.write("pods.yaml", PODS);
        world.write("policy.yaml", &policy(5432));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("manifests").join(name), text).unwrap();
    }

    fn config(&self) -> Config {
        let path = |name: &str| self.path(name).display().to_string();
        let api = format!("unix:{}", path("api.sock"));
        Config::parse_from([
            "ferrule-controller",
            "--manifests",
            &path("manifests"),
            "--listen",
            "127.0.0.1:0",
            "--tls-dir",
            &path("tls"),
            "--node-tokens",
            &path("tokens"),
            "--state-dir",
            &path("state"),
            "--api",
            &api,
        ])
    }

    async fn start(&self) -> Controller {
        Controller::start(&self.config(), Objects).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let mut stream = tokio::net::UnixStream::connect(self.path("api.sock")).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| body.into()))
    }

    async fn dial(&self, controller: &Controller, hello: u16, token: &str) -> Result<Agent, Status> {
        self.call(controller, hello, token, Agent::default()).await
    }

    async fn call(
        &self,
        controller: &Controller,
        k: u16,
        token: &str,
        before: Agent,
    ) -> Result<Agent, Status> {
        let authority = std::fs::read(self.path("tls/ca.crt")).unwrap();
        let channel = endpoint(controller, &authority).connect().await.unwrap();
        let mut agents = client::agents(channel, token).unwrap();
        let (out, outgoing) = mpsc::channel(8);
        let hello = wire::Hello {
            node: format!("node-{k}"),
            version: "1.2.3".into(),
            known: delta::versions(&before.view)
                .iter()
                .map(|(id, version)| wire::ResourceVersion {
                    id: Some(convert::encode_id(id)),
                    version: version.0,
                })
                .collect(),
            acknowledged: Some(convert::encode_watermark(&before.watermark)),
            ..wire::Hello::default()
        };
        out.send(message(wire::from_agent::Body::Hello(hello))).await.unwrap();
        let incoming = agents.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Agent { link: Some((out, incoming)), ..before })
    }
}

fn endpoint(controller: &Controller, authority: &[u8]) -> tonic::transport::Endpoint {
    client::endpoint(&controller.addresses()[0].to_string(), authority, SERVER_NAME).unwrap()
}

fn message(body: wire::from_agent::Body) -> wire::FromAgent {
    wire::FromAgent { body: Some(body) }
}

#[derive(Default)]
struct Agent {
    link: Option<(mpsc::Sender<wire::FromAgent>, Streaming<wire::FromController>)>,
    view: NodeView,
    watermark: Watermark,
}

impl Agent {
    async fn say(&self, body: wire::from_agent::Body) {
        self.link.as_ref().unwrap().0.send(message(body)).await.unwrap();
    }

    async fn hear(&mut self) -> Result<Option<wire::from_controller::Body>, Status> {
        let incoming = &mut self.link.as_mut().unwrap().1;
        let heard =
            tokio::time::timeout(Duration::from_secs(10), incoming.message()).await.expect("nothing came");
        Ok(heard?.and_then(|message| message.body))
    }

    /// Takes the next delta and answers it; returns what it changed.
    async fn take(&mut self, rejected: Vec<Rejection>) -> Vec<String> {
        let Some(wire::from_controller::Body::Delta(delta)) = self.hear().await.unwrap() else {
            panic!("no delta")
        };
        let offered = delta::watermark(&delta).unwrap();
        assert_eq!(self.watermark.admits(&offered), Ok(()));
        self.watermark = offered;
        let applied = delta::apply(&mut self.view, &delta);
        assert_eq!(applied.rejected, []);
        let rejected = rejected.iter().map(convert::encode_rejection).collect();
        let answer = wire::Acknowledgement { nonce: delta.nonce, rejected };
        self.say(wire::from_agent::Body::Acknowledgement(answer)).await;
        applied.changed.iter().map(ToString::to_string).collect()
    }

    async fn binds(&self, binding: Binding, revision: u64) {
        let bound = vec![convert::encode_binding(&binding)];
        let bindings = wire::Bindings { bound, released: vec![], revision };
        self.say(wire::from_agent::Body::Bindings(bindings)).await;
    }
}

fn web() -> Binding {
    Binding {
        pod: NamespacedName::new("shop", "web"),
        uid: "uid-web".into(),
        addresses: vec!["10.244.1.7".parse().unwrap()],
        interface: "fe0".into(),
    }
}

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
    let error = refused(&|config, path| config.node_tokens = path.join("manifests/nodes.yaml")).await;
    assert!(error.starts_with("--node-tokens"), "{error}");
    let error = refused(&|config, _| config.listen = vec!["192.0.2.77:1".parse().unwrap()]).await;
    assert!(error.starts_with("--listen 192.0.2.77:1: cannot listen"), "{error}");
    std::fs::write(world.path("tls/ca.key"), "no key").unwrap();
    let error = refused(&|_, _| {}).await;
    assert!(error.contains("ca.key is no private key"), "{error}");
}
