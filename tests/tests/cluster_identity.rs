//! Agents and controllers on a real API server: service-account tokens bound to pods, the controllers' authority in a Secret,
//! controllers found by their EndpointSlice, all with the API server killed in between.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::client;
use api::generated::ferrule::v1alpha1 as wire;
use api::stream::SERVER_NAME;
use axum::http::Method;
use clap::Parser;
use cluster::{Builder, Component, ControlPlane, Options, Versions};
use controller::config::Config;
use controller::kube::client::{Access, Api};
use controller::run::Controller;
use controller::translate::Objects;
use lab::{Interrupt, netns};
use nix::sys::signal::Signal;
use ovs_agent::drivers::discovery::{self, Discovery};
use ovs_agent::drivers::https::Server;
use serde_json::{Value, json};
use tests::skip;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

const SYSTEM: &str = "kube-system";

struct World<'a> {
    plane: &'a ControlPlane,
    api: Api,
    folder: &'a Path,
}

impl World<'_> {
    async fn make(&self, path: &str, object: Value) -> Value {
        self.api
            .json(Method::POST, path, Some(&object))
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A pod of the agents' account on a node, as the scheduler and the kubelet would leave it.
    async fn agent_pod(&self, name: &str, node: &str) -> String {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "nodeName": node, "serviceAccountName": "ferrule-agent", "hostNetwork": true,
                "containers": [{"name": "agent", "image": "ferrule"}],
            },
        });
        let pod = self.make(&format!("/api/v1/namespaces/{SYSTEM}/pods"), pod).await;
        pod["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// As a kubelet asks for a projected token; bound to a pod, or to nothing. No audience is the API server.
    async fn token(&self, account: &str, audience: Option<&str>, pod: Option<(&str, &str)>) -> String {
        let audiences: Vec<&str> = audience.into_iter().collect();
        let mut spec = json!({"audiences": audiences, "expirationSeconds": 3600});
        if let Some((name, uid)) = pod {
            spec["boundObjectRef"] = json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid});
        }
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts/{account}/token");
        self.make(&path, request).await["status"]["token"].as_str().unwrap().to_owned()
    }

    async fn controller(&self, number: u8) -> Controller {
        let path = |name: &str| self.folder.join(format!("{name}-{number}")).display().to_string();
        let kubeconfig = self.plane.admin().display().to_string();
        let api = format!("unix:{}", path("api"));
        let config = Config::parse_from([
            "ferrule-controller",
            "--kubeconfig",
            &kubeconfig,
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            &path("state"),
            "--api",
            &api,
        ]);
        Controller::start(&config, Objects).await.unwrap()
    }

    /// What agents mount: the authorities that they trust.
    async fn authorities(&self) -> String {
        let path = format!("/api/v1/namespaces/{SYSTEM}/configmaps/ferrule-controller-ca");
        within("the ConfigMap of the authority", async || {
            let map = self.api.json(Method::GET, &path, None).await.ok()?;
            map["data"]["ca.crt"].as_str().map(str::to_owned)
        })
        .await
    }

    async fn dial(&self, controller: &Controller, node: &str, token: &str) -> Result<Stream, Status> {
        let authority = self.authorities().await;
        let address = controller.addresses()[0].to_string();
        let endpoint = client::endpoint(&address, authority.as_bytes(), SERVER_NAME).unwrap();
        let channel = within("TLS with the controller", async || endpoint.connect().await.ok()).await;
        let mut agents = client::agents(channel, token).unwrap();
        let (out, outgoing) = mpsc::channel(8);
        let hello = wire::Hello { node: node.into(), ..wire::Hello::default() };
        out.send(wire::FromAgent { body: Some(wire::from_agent::Body::Hello(hello)) }).await.unwrap();
        let incoming = agents.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Stream { _out: out, incoming })
    }
}

struct Stream {
    _out: mpsc::Sender<wire::FromAgent>,
    incoming: Streaming<wire::FromController>,
}

impl Stream {
    /// The names of the resources in the first delta.
    async fn first(&mut self) -> Result<BTreeSet<String>, Status> {
        let heard = tokio::time::timeout(Duration::from_secs(30), self.incoming.message()).await;
        let message = heard.expect("nothing came")?.expect("the stream ended");
        let Some(wire::from_controller::Body::Delta(delta)) = message.body else { panic!("no delta") };
        Ok(api::delta::bodies(&delta).filter_map(|resource| Some(resource.id?.name)).collect())
    }
}

async fn within<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = ready().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

#[test]
fn agents_are_who_their_tokens_say_and_controllers_are_found() {
    let test = "agents_are_who_their_tokens_say_and_controllers_are_found";
    if !nix::unistd::geteuid().is_root() {
        return skip::skip("cluster", test, "needs root");
    }
    let folder = tempfile::Builder::new().prefix("cluster-").tempdir_in("/tmp").unwrap();
    let options = Options {
        state: folder.path().join("state"),
        builder: Builder::in_target(Versions::default()).unwrap(),
        controller_manager: false,
        api_server_flags: Vec::new(),
        nodes: None,
    };
    let plane = match ControlPlane::up(&options, &Interrupt::default(), &|_| {}) {
        Ok(plane) => plane.down_on_drop(),
        Err(error @ cluster::Error::NoGo { .. }) => return skip::skip("cluster", test, &error.to_string()),
        Err(error) => panic!("the control plane does not come up: {error}"),
    };
    let inside = netns::path(&plane.namespace());
    netns::run(&inside, || {
        // Every thread of it begins in the namespace.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(story(&plane, folder.path()));
    })
    .unwrap();
}

async fn story(plane: &ControlPlane, folder: &Path) {
    let api = Api::open(&Access::Kubeconfig(plane.admin()), None).await.unwrap();
    let world = World { plane, api, folder };
    for node in ["node-1", "node-2"] {
        let k = &node[5..];
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
            "spec": {"podCIDR": format!("10.244.{k}.0/24"), "podCIDRs": [format!("10.244.{k}.0/24")]},
        });
        world.make("/api/v1/nodes", object).await;
    }
    for account in ["ferrule-agent", "somebody"] {
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}});
        world.make(&format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts"), object).await;
    }
    let uids = [world.agent_pod("agent-1", "node-1").await, world.agent_pod("agent-2", "node-2").await];
    let pods = [("agent-1", uids[0].as_str()), ("agent-2", uids[1].as_str())];
    let mut tokens = Vec::new();
    for pod in pods {
        tokens.push(world.token("ferrule-agent", Some("ferrule"), Some(pod)).await);
    }

    // Two controllers, one authority: whichever is dialled, the agent trusts it.
    let controllers = [world.controller(1).await, world.controller(2).await];
    for controller in &controllers {
        let mut stream = world.dial(controller, "node-1", &tokens[0]).await.unwrap();
        let names = stream.first().await.unwrap();
        assert!(names.contains("node-1") && names.contains("node-2"), "{names:?}");
    }
    let authorities = world.authorities().await;
    assert_eq!(authorities.matches("BEGIN CERTIFICATE").count(), 1, "{authorities}");

    refusals(&world, &controllers[0], &tokens, pods).await;
    discovers(&world, &controllers).await;

    // Without the API server: who is known goes on and may come again; who is not waits.
    let late = world.token("ferrule-agent", Some("ferrule"), Some(pods[1])).await;
    let mut open = world.dial(&controllers[0], "node-2", &tokens[1]).await.unwrap();
    open.first().await.unwrap();
    let dial_before = world.authorities().await;
    plane.stop(Component::ApiServer, Signal::SIGKILL).unwrap();
    let dial = async |token: &str| {
        let address = controllers[0].addresses()[0].to_string();
        let endpoint = client::endpoint(&address, dial_before.as_bytes(), SERVER_NAME).unwrap();
        let mut agents = client::agents(endpoint.connect().await.unwrap(), token).unwrap();
        let (out, outgoing) = mpsc::channel(8);
        let hello = wire::Hello { node: "node-2".into(), ..wire::Hello::default() };
        out.send(wire::FromAgent { body: Some(wire::from_agent::Body::Hello(hello)) }).await.unwrap();
        let incoming = agents.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok::<_, Status>(Stream { _out: out, incoming })
    };
    let waits = dial(&late).await.err().unwrap();
    assert_eq!(waits.code(), Code::Unavailable, "{waits:?}");
    let mut again = dial(&tokens[1]).await.unwrap();
    again.first().await.unwrap();
    plane.start(Component::ApiServer).unwrap();
    within("the one that waited is taken", async || dial(&late).await.ok()).await;

    // A pod that is gone takes its token along, once the answer of before is old.
    let path = format!("/api/v1/namespaces/{SYSTEM}/pods/agent-1?gracePeriodSeconds=0");
    let fresh = world.token("ferrule-agent", Some("ferrule"), Some(pods[0])).await;
    world.api.json(Method::DELETE, &path, None).await.unwrap();
    let refused = within("the token of a deleted pod is refused", async || {
        world.dial(&controllers[1], "node-1", &fresh).await.err()
    })
    .await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    for controller in controllers {
        controller.stop().await;
    }
}

async fn refusals(world: &World<'_>, controller: &Controller, tokens: &[String], pods: [(&str, &str); 2]) {
    // A good token, and another's name.
    let mut other = world.dial(controller, "node-2", &tokens[0]).await.unwrap();
    let refused = other.incoming.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert!(refused.message().contains("node-1"), "{refused:?}");
    let unbound = world.token("ferrule-agent", Some("ferrule"), None).await;
    let audience = world.token("ferrule-agent", None, Some(pods[0])).await;
    let somebody = world.token("somebody", Some("ferrule"), None).await;
    for (token, code, why) in [
        (unbound.as_str(), Code::PermissionDenied, "bound to no pod"),
        (audience.as_str(), Code::Unauthenticated, "audience"),
        (somebody.as_str(), Code::PermissionDenied, "somebody"),
        ("not-a-token-at-all-0123456789", Code::Unauthenticated, "does not take the token"),
    ] {
        let refused = world.dial(controller, "node-1", token).await.err().unwrap();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(why), "{refused:?}");
    }
}

/// By one list of EndpointSlices, over HTTPS, as an agent does it.
async fn discovers(world: &World<'_>, controllers: &[Controller]) {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "ferrule-agent"},
        "rules": [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]}],
    });
    let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{SYSTEM}");
    world.make(&format!("{roles}/roles"), role).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "ferrule-agent"},
        "subjects": [{"kind": "ServiceAccount", "name": "ferrule-agent", "namespace": SYSTEM}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ferrule-agent"},
    });
    world.make(&format!("{roles}/rolebindings"), binding).await;
    let slice = |port: u16, address: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"generateName": "controller-", "labels": {"kubernetes.io/service-name": "controller"}},
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
            "ports": [{"name": "agents", "port": port, "protocol": "TCP"}],
        })
    };
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices");
    // The API server takes no loopback addresses; nobody dials these.
    world.make(&slices, slice(7470, "192.0.2.1")).await;
    world.make(&slices, slice(controllers[0].addresses()[0].port(), "192.0.2.2")).await;

    let token = world.folder.join("api-token");
    std::fs::write(&token, world.token("ferrule-agent", None, None).await).unwrap();
    let discovery = Discovery {
        servers: vec![Server {
            url: world.plane.server().parse().unwrap(),
            authority: world.plane.ca(),
            token,
        }],
        service: format!("{SYSTEM}/controller").parse().unwrap(),
        kept: discovery::kept(world.folder),
    };
    let (found, mut seen) = watch::channel(BTreeSet::new());
    let looking = tokio::spawn(discovery::run(discovery.clone(), found, Arc::new(Notify::new()), || 0.5));
    let found = tokio::time::timeout(Duration::from_secs(30), seen.wait_for(|found| found.len() == 2));
    let found = found.await.expect("the controllers are found").unwrap().clone();
    assert!(found.contains("192.0.2.1:7470"), "{found:?}");
    assert_eq!(discovery::remembered(&discovery.kept), found);
    looking.abort();
}
