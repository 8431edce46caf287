//! A stage for the cluster tier: a real control plane, the real controller with the Kubernetes API as its source, and two lab
//! nodes. The test itself plays scheduler and kubelet. Everything is gone when it is dropped.

mod acts;
pub mod cut;

use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use api::insight::NodeItem;
use cluster::{Builder, ControlPlane, Request, Versions};
use controller::kube::kinds::WATCHED;
use lab::http::Endpoint;
use lab::layout::controller_name;
use lab::{Interrupt, Kubernetes, Lab};
use serde_json::{Value, json};

use crate::lab_up::{binaries, is_root, say, turn};
use crate::skip;
pub use acts::only;
use cut::Cut;

/// The user that the controller is, whose rights are those that it was given.
pub const USER: &str = "ferrule-controller";

/// How long a change may take to be in force, on a machine that builds something beside.
const LIMIT: Duration = Duration::from_secs(60);

/// What a test wants otherwise.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many controllers.
    pub controllers: u8,
    /// Rights that the controller's user does not get: `(resource, verb)`.
    pub withheld: Vec<(&'static str, &'static str)>,
    /// Controllers write down what happens to them.
    pub recorded: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { controllers: 1, withheld: Vec::new(), recorded: false }
    }
}

/// All of it.
#[derive(Debug)]
pub struct Stage {
    /// The nodes and the controller; dropped before what they need.
    pub lab: Lab,
    /// What stands between the controller and the API server.
    pub cut: Cut,
    /// etcd and kube-apiserver.
    pub control: ControlPlane,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    /// Everything up; `None` (said loudly) where that cannot be.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn new(test: &str) -> Option<Self> {
        Self::with(test, &Settings::default())
    }

    /// The same with settings.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn with(test: &str, settings: &Settings) -> Option<Self> {
        if !is_root() {
            skip::skip("cluster", test, "needs root");
            return None;
        }
        let turn = turn();
        let folder = tempfile::Builder::new().prefix("cl-").tempdir_in("/tmp");
        let folder = folder.unwrap_or_else(|error| panic!("cannot make a directory: {error}"));
        let control = match control_plane(&folder.path().join("cluster")) {
            Ok(control) => control.down_on_drop(),
            Err(error @ cluster::Error::NoGo { .. }) => {
                skip::skip("cluster", test, &error.to_string());
                return None;
            }
            Err(error) => panic!("the control plane of {test} does not come up: {error}"),
        };
        grant(&control, &settings.withheld);
        let cut = Cut::new(&control);
        let kubeconfig = kubeconfig(&control, &cut, folder.path());
        let mut options = lab::Options::new(folder.path().join("lab"), binaries());
        options.controllers = settings.controllers;
        options.recorded = settings.recorded;
        options.kubernetes = Some(Kubernetes { kubeconfig, join: Some(control.namespace()) });
        let lab = match Lab::up(&options, &Interrupt::default(), &say) {
            Ok(lab) => lab.down_on_drop(),
            Err(error @ lab::Error::MissingProgram { .. }) => {
                skip::skip("cluster", test, &error.to_string());
                return None;
            }
            Err(error) => panic!("the lab of {test} does not come up: {error}"),
        };
        let stage = Self { lab, cut, control, folder, _turn: turn };
        for node in stage.lab.record().node_indexes() {
            let object = stage.lab.node_object(node);
            let request = Request {
                method: "POST",
                path: "/api/v1/nodes",
                content_type: "application/yaml",
                body: &object,
            };
            stage.ask(&request);
        }
        Some(stage)
    }

    /// The test's own directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A controller's HTTP, counted from 1.
    pub fn controller(&self, number: u8) -> Endpoint {
        Endpoint::Unix(self.lab.layout().controller_socket_of(number))
    }

    /// What a controller has written so far.
    pub fn log(&self, number: u8) -> String {
        let path = self.lab.layout().logs().join(format!("{}.log", controller_name(number)));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Waits until the matrix that is measured is the one that the objects in the API predict.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn agrees(&self, when: &str) {
        let began = Instant::now();
        loop {
            self.settled(when, began);
            let measured = self.lab.measure_objects(&self.objects());
            let measured = measured.unwrap_or_else(|error| panic!("{when}: cannot measure: {error}"));
            assert!(measured.probes > 0, "{when}: there is nothing to measure");
            if measured.differences.is_empty() {
                eprintln!("{:>8.2?}  {when}: {} probes agree", began.elapsed(), measured.probes);
                return;
            }
            assert!(
                began.elapsed() < LIMIT,
                "{when}: measured and predicted differ after {LIMIT:?}: {:#?}\n{}",
                measured.differences,
                self.log(1)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until every node has confirmed everything that a controller sent.
    fn settled(&self, when: &str, began: Instant) {
        let says_so = |controller: u8| {
            let Ok(nodes) = self.controller(controller).list::<NodeItem>("nodes", &[]) else { return false };
            // Nodes that are only objects never connect.
            let mut connected = nodes.items.iter().filter(|node| node.connected);
            connected.clone().count() == usize::from(self.lab.record().nodes)
                && connected.all(|node| node.realized && node.pending == 0)
        };
        let is_settled = || (1..=self.lab.record().controllers).any(says_so);
        while !is_settled() {
            assert!(
                began.elapsed() < LIMIT,
                "{when}: not every node has confirmed after {LIMIT:?}: {:#?}\n{}",
                self.controller(1).list::<NodeItem>("nodes", &[]),
                self.log(1)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the API server as somebody who may do everything; JSON out.
    ///
    /// # Panics
    /// When it says no.
    pub fn ask(&self, request: &Request<'_>) -> Value {
        let answer = self.control.ask(request).and_then(cluster::Answer::success);
        let body = answer
            .unwrap_or_else(|error| panic!("{} {} {}: {error}", request.method, request.path, request.body));
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{}: {error}: {body}", request.path))
    }
}

fn control_plane(state: &Path) -> cluster::Result<ControlPlane> {
    let versions = match std::env::var("FERRULE_KUBERNETES") {
        Ok(version) => Versions::of_kubernetes(&version)?,
        Err(_) => Versions::default(),
    };
    let options = cluster::Options {
        state: state.to_owned(),
        builder: Builder::in_target(versions)?,
        controller_manager: false,
        api_server_flags: Vec::new(),
        nodes: None,
    };
    ControlPlane::up(&options, &Interrupt::default(), &say)
}

/// The controller's kubeconfig, whose server is what stands in between.
fn kubeconfig(control: &ControlPlane, cut: &Cut, folder: &Path) -> PathBuf {
    let path = folder.join("controller.kubeconfig");
    let written = control.kubeconfig(USER).map_err(|error| error.to_string()).and_then(|own| {
        let text = std::fs::read_to_string(own).map_err(|error| error.to_string())?;
        let text = text.replace(&control.server(), &format!("https://{}", cut.address()));
        std::fs::write(&path, text).map_err(|error| error.to_string())
    });
    written.unwrap_or_else(|error| panic!("cannot make the controller's kubeconfig: {error}"));
    path
}

/// Gives the controller's user what it needs to watch, and to keep its own objects.
fn grant(control: &ControlPlane, withheld: &[(&str, &str)]) {
    let mut rules: Vec<Value> = WATCHED
        .iter()
        .map(|kind| {
            let verbs = ["get", "list", "watch"].into_iter();
            let verbs = verbs.filter(|verb| !withheld.contains(&(kind.plural, verb))).collect::<Vec<_>>();
            json!({"apiGroups": [kind.group], "resources": [kind.plural], "verbs": verbs})
        })
        .collect();
    let all = ["get", "list", "watch", "create", "update", "patch"];
    rules.push(json!({"apiGroups": [""], "resources": ["configmaps", "secrets", "events"], "verbs": all}));
    rules.push(json!({
        "apiGroups": ["policy.networking.k8s.io"], "resources": ["clusternetworkpolicies/status"], "verbs": ["patch"],
    }));
    rules.push(json!({"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": all}));
    rules.push(json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": all}));
    rules.push(
        json!({"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}),
    );
    let group = "rbac.authorization.k8s.io";
    let path = format!("/apis/{group}/v1");
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": USER}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": USER},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": USER},
        "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
    });
    for (resource, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let (path, body) = (format!("{path}/{resource}"), object.to_string());
        let request = Request { method: "POST", path: &path, content_type: "application/json", body: &body };
        if let Err(error) = control.ask(&request).and_then(cluster::Answer::success) {
            panic!("cannot grant the controller its rights: {error}");
        }
    }
}
