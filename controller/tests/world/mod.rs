//! A controller on the loopback and agents that are a gRPC client and a view, for the tests of the stream.

// Not every test uses all of it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::time::Duration;

use api::delta;
use api::generated::ferrule::v1alpha1 as wire;
use api::stream::{Binding, Rejection, SERVER_NAME};
use api::watermark::Watermark;
use api::{client, convert};
use clap::Parser;
use controller::config::Config;
use controller::run::Controller;
use controller::translate::Objects;
use network::{NamespacedName, NodeView};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// By node.
pub const TOKENS: [&str; 3] = ["", "token-of-node-1-0123456789", "token-of-node-2-0123456789"];

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

pub fn policy(port: u16) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: db, namespace: shop}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: db}}}}\n  ingress:\n  - from: [{{podSelector: {{matchLabels: {{app: web}}}}}}]\n    \
         ports: [{{port: {port}}}]\n"
    )
}

pub struct World {
    pub directory: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("manifests").join(name), text).unwrap();
    }

    pub fn config(&self) -> Config {
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

    pub async fn start(&self) -> Controller {
        Controller::start(&self.config(), Objects).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> (u16, serde_json::Value) {
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

    pub async fn dial(&self, controller: &Controller, hello: u16, token: &str) -> Result<Agent, Status> {
        self.call(controller, hello, token, Agent::default()).await
    }

    pub async fn call(
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

pub fn endpoint(controller: &Controller, authority: &[u8]) -> tonic::transport::Endpoint {
    client::endpoint(&controller.addresses()[0].to_string(), authority, SERVER_NAME).unwrap()
}

pub fn message(body: wire::from_agent::Body) -> wire::FromAgent {
    wire::FromAgent { body: Some(body) }
}

#[derive(Default)]
pub struct Agent {
    pub link: Option<(mpsc::Sender<wire::FromAgent>, Streaming<wire::FromController>)>,
    pub view: NodeView,
    pub watermark: Watermark,
}

impl Agent {
    pub async fn say(&self, body: wire::from_agent::Body) {
        self.link.as_ref().unwrap().0.send(message(body)).await.unwrap();
    }

    pub async fn hear(&mut self) -> Result<Option<wire::from_controller::Body>, Status> {
        let incoming = &mut self.link.as_mut().unwrap().1;
        let heard =
            tokio::time::timeout(Duration::from_secs(10), incoming.message()).await.expect("nothing came");
        Ok(heard?.and_then(|message| message.body))
    }

    /// Takes the next delta and answers it; returns what it changed.
    pub async fn take(&mut self, rejected: Vec<Rejection>) -> Vec<String> {
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

    pub async fn binds(&self, binding: Binding, revision: u64) {
        let bound = vec![convert::encode_binding(&binding)];
        let bindings = wire::Bindings { bound, released: vec![], revision };
        self.say(wire::from_agent::Body::Bindings(bindings)).await;
    }
}

pub fn web() -> Binding {
    Binding {
        pod: NamespacedName::new("shop", "web"),
        uid: "uid-web".into(),
        addresses: vec!["10.244.1.7".parse().unwrap()],
        interface: "fe0".into(),
    }
}
