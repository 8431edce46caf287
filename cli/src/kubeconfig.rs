//! A controller found through a kubeconfig, and asked as `kubectl port-forward` does: over the API server and its kubelet, into the pod's
//! network, where the controller listens on loopback. No ssh, no exec. Commands see a unix socket of their own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use api::causes::with_sources;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use lab::http::Endpoint;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;

use crate::arguments::{Command, ControllerArguments};
use crate::fail::Fail;

/// What the chart labels controllers with.
const LABELS: &str = "app.kubernetes.io/name=ferrule,app.kubernetes.io/component=controller";

/// The annotation with the port of a controller's HTTP, and what it is without.
const PORT_ANNOTATION: &str = "ferrule.io/api-port";
const PORT: u16 = 7471;

/// As long as it is there, its socket leads to a controller.
#[derive(Debug)]
pub struct Tunnel {
    folder: PathBuf,
    /// Ends the forwarding when it is dropped.
    _runtime: Runtime,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // Nobody to tell.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How to run a command where a controller's socket is.
pub const IN_A_CONTROLLER: &str = "kubectl --namespace NAMESPACE exec deployment/ferrule-controller --";

/// Opens a tunnel for a command that is to ask through a kubeconfig: because it says so, or because kubectl called it and it names nobody else.
pub fn tunnel(command: &mut Command, by_kubectl: bool) -> Result<Option<Tunnel>, Fail> {
    let wants_more = wants_more(command);
    let Some((at, elsewhere)) = asking(command) else { return Ok(None) };
    let named = elsewhere || at.controller.is_some();
    if at.kubeconfig.is_none() && at.context.is_none() && (named || !by_kubectl) {
        return Ok(None);
    }
    if let Some(why) = wants_more {
        return Err(Fail::Said(why));
    }
    let (tunnel, socket) = open(at)?;
    at.controller = Some(Endpoint::Unix(socket));
    at.forwarded = true;
    Ok(Some(tunnel))
}

/// Which controller the command asks, if it asks one, and whether it names somebody else to ask.
fn asking(command: &mut Command) -> Option<(&mut ControllerArguments, bool)> {
    let endpoint = match command {
        Command::Get(get) if get.manifests.is_none() => &mut get.endpoint,
        Command::Explain(explain) if explain.manifests.is_none() => &mut explain.endpoint,
        Command::Plan(plan) if plan.manifests.is_none() => &mut plan.endpoint,
        Command::Audit(audit) => &mut audit.endpoint,
        Command::Bundle(bundle) => &mut bundle.endpoint,
        Command::Trace(trace) => return Some((&mut trace.at, false)),
        Command::Check(check) if !check.before => return Some((&mut check.at, false)),
        _ => return None,
    };
    let elsewhere = endpoint.agent.is_some() || endpoint.bundle.is_some();
    Some((&mut endpoint.at, elsewhere))
}

/// Why a command cannot ask a forwarded port, where a controller tells and changes and sends nothing (ADR-0030).
fn wants_more(command: &Command) -> Option<String> {
    match command {
        Command::Audit(audit) if audit.repair => Some(format!(
            "ferrule audit --repair talks to a controller's socket or a node's agent, not through a kubeconfig: run it there, e.g. \
             {IN_A_CONTROLLER} ferrule audit --repair"
        )),
        Command::Trace(trace) if !trace.no_probe => Some(format!(
            "a controller has a packet sent for those alone who have its socket: add --no-probe, or run it there, e.g. \
             {IN_A_CONTROLLER} ferrule trace {} {}",
            trace.from, trace.to
        )),
        _ => None,
    }
}

fn open(endpoint: &ControllerArguments) -> Result<(Tunnel, PathBuf), Fail> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let pod = Arc::new(runtime.block_on(find(endpoint))?);
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = nix::unistd::mkdtemp(&folder.join("ferrule-XXXXXX"))
        .map_err(|error| format!("cannot make a directory in {}: {error}", folder.display()))?;
    let tunnel = Tunnel { folder, _runtime: runtime };
    // Whoever else is on this machine must not ask as us.
    std::fs::set_permissions(&tunnel.folder, PermissionsExt::from_mode(0o700))?;
    let socket = tunnel.folder.join("controller.sock");
    let listener = {
        let _context = tunnel._runtime.enter();
        UnixListener::bind(&socket)?
    };
    tunnel._runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(forward(Arc::clone(&pod), stream));
        }
    });
    Ok((tunnel, socket))
}

/// A controller's pod, and where it listens in it.
struct Controller {
    pods: Api<Pod>,
    name: String,
    port: u16,
}

impl Controller {
    async fn connect(
        &self,
    ) -> Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + use<>, String> {
        let failed = |what: String| {
            format!("the controller {} cannot be reached through the API server: {what}", self.name)
        };
        let mut forwarded = self
            .pods
            .portforward(&self.name, &[self.port])
            .await
            .map_err(|error| failed(with_sources(&error)))?;
        forwarded.take_stream(self.port).ok_or_else(|| failed("it forwards no stream".to_owned()))
    }
}

/// The first controller that can be reached.
async fn find(endpoint: &ControllerArguments) -> Result<Controller, Fail> {
    let client = client(endpoint).await?;
    let listed = Api::<Pod>::all(client.clone()).list(&ListParams::default().labels(LABELS)).await;
    let listed = listed.map_err(|error| {
        format!("cannot look for controllers (pods with the labels {LABELS}): {}", with_sources(&error))
    })?;
    let candidates = ranked(listed.items);
    let mut why =
        "no pod of any namespace has the labels of a controller: is Ferrule installed in this cluster?"
            .to_owned();
    for pod in &candidates {
        let namespace = pod.namespace().unwrap_or_default();
        let found = Controller {
            pods: Api::namespaced(client.clone(), &namespace),
            name: pod.name_any(),
            port: port(pod),
        };
        match found.connect().await {
            Ok(_) => return Ok(found),
            Err(error) => why = error,
        }
    }
    Err(Fail::Said(why))
}

async fn client(endpoint: &ControllerArguments) -> Result<Client, Fail> {
    let options = KubeConfigOptions { context: endpoint.context.clone(), ..KubeConfigOptions::default() };
    let (config, place) = match &endpoint.kubeconfig {
        Some(file) => {
            let place = file.display().to_string();
            let read =
                Kubeconfig::read_from(file).map_err(|error| format!("{place}: {}", with_sources(&error)))?;
            (Config::from_custom_kubeconfig(read, &options).await, place)
        }
        None => (Config::from_kubeconfig(&options).await, "$KUBECONFIG or ~/.kube/config".to_owned()),
    };
    let config = config.map_err(|error| format!("{place}: {}", with_sources(&error)))?;
    Ok(Client::try_from(config).map_err(|error| format!("{place}: {}", with_sources(&error)))?)
}

/// Those that run, the ready ones first.
fn ranked(pods: Vec<Pod>) -> Vec<Pod> {
    let ready = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True")
    };
    let runs =
        |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    let mut pods: Vec<_> = pods.into_iter().filter(runs).collect();
    pods.sort_by_key(|pod| !ready(pod));
    pods
}

fn port(pod: &Pod) -> u16 {
    pod.annotations().get(PORT_ANNOTATION).and_then(|port| port.parse().ok()).unwrap_or(PORT)
}

async fn forward(controller: Arc<Controller>, mut here: UnixStream) {
    // What fails shows as an answer that ends too early.
    if let Ok(mut there) = controller.connect().await {
        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, phase: &str, ready: &str, annotation: Option<&str>) -> Pod {
        let annotations = annotation.map(|port| serde_json::json!({PORT_ANNOTATION: port}));
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "annotations": annotations},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn ready_controllers_come_first_and_dead_ones_not_at_all() {
        let pods = vec![
            pod("a", "Failed", "False", None),
            pod("b", "Running", "False", None),
            pod("c", "Running", "True", None),
        ];
        let names: Vec<_> = ranked(pods).iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["c", "b"]);
        assert_eq!(port(&pod("a", "Running", "True", None)), 7471);
        assert_eq!(port(&pod("a", "Running", "True", Some("9000"))), 9000);
    }

    fn read(words: &[&str]) -> Command {
        use clap::Parser;
        crate::arguments::Ferrule::try_parse_from(words).unwrap().command
    }

    #[test]
    fn who_names_somebody_is_not_forwarded_and_a_bad_file_is_named() {
        for words in [
            &["ferrule", "get", "nodes", "--controller", "unix:/x"][..],
            &["ferrule", "get", "nodes", "--agent", "unix:/x"],
            &["ferrule", "audit", "--bundle", "/x"],
            &["ferrule", "audit", "--repair", "--agent", "unix:/x"],
            &["ferrule", "explain", "a", "b", "--manifests", "/x"],
            &["ferrule", "trace", "a", "b", "--controller", "unix:/x"],
            &["ferrule", "check", "--controller", "unix:/x"],
            &["ferrule", "check", "--before"],
            &["ferrule", "version"],
        ] {
            assert!(tunnel(&mut read(words), true).unwrap().is_none(), "{words:?}");
        }
        assert!(tunnel(&mut read(&["ferrule", "get", "nodes"]), false).unwrap().is_none());
        assert!(tunnel(&mut read(&["ferrule", "audit", "--repair"]), false).unwrap().is_none());
        for words in [
            &["get", "nodes"][..],
            &["audit"],
            &["trace", "a", "b", "--no-probe"],
            &["check"],
            &["bundle", "/x"],
        ] {
            let words = [&["ferrule"], words, &["--kubeconfig", "/nowhere/config"]].concat();
            let Err(Fail::Said(error)) = tunnel(&mut read(&words), false) else { panic!("opened") };
            assert!(error.contains("/nowhere/config"), "{words:?}: {error}");
        }
    }

    #[test]
    fn what_a_forwarded_port_does_not_do_is_said_before_anybody_is_asked() {
        for (words, cure) in [
            (&["ferrule", "audit", "--repair"][..], "-- ferrule audit --repair"),
            (&["ferrule", "trace", "a", "b"], "add --no-probe"),
        ] {
            for (words, by_kubectl) in
                [(words.to_vec(), true), ([words, &["--kubeconfig", "/x"]].concat(), false)]
            {
                let Err(Fail::Said(error)) = tunnel(&mut read(&words), by_kubectl) else { panic!("opened") };
                assert!(error.contains(cure) && error.contains(IN_A_CONTROLLER), "{words:?}: {error}");
            }
        }
    }

    #[test]
    fn whoever_is_asked_is_said_once() {
        use clap::Parser;
        let refused = |words: &[&str]| crate::arguments::Ferrule::try_parse_from(words).is_err();
        for other in [["--controller", "unix:/x"], ["--agent", "unix:/x"], ["--bundle", "/x"]] {
            assert!(
                refused(&[&["ferrule", "audit", "--kubeconfig", "/x"][..], &other].concat()),
                "{other:?}"
            );
            assert!(
                refused(&[&["ferrule", "get", "nodes", "--context", "x"][..], &other].concat()),
                "{other:?}"
            );
        }
        assert!(refused(&["ferrule", "check", "--before", "--kubeconfig", "/x"]));
        assert!(refused(&["ferrule", "trace", "a", "b", "--agent", "unix:/x"]));
    }
}
