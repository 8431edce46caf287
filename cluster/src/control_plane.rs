//! A control plane as a whole: up, found again, its components stopped and started, down. It lives in a namespace of its own
//! with a bridge, so that the machine's root namespace stays clean and nodes can be joined to it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use lab::process::{Process, wait_until};
use lab::progress::{Event, Progress, silent, step};
use lab::{Interrupt, Layout, ground, ip, netns};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::flags::{ETCD, KUBERNETES_SERVICE};
use crate::https::{Answer, Request, Server};
use crate::nodes::{self, MAX_NODES, Nodes};
use crate::pki::{MASTERS, Pki, Subject};
use crate::program::{Builder, Versions};

/// The state directory when none is named.
pub const DEFAULT_STATE: &str = "/run/ferrule/cluster";

/// Where the API server listens.
const API_PORT: u16 = 6443;

/// How long a component may take to be ready, on a machine that builds something beside.
const LIMIT: Duration = Duration::from_secs(120);

/// The bridge in the namespace that nodes are joined to.
pub(crate) const BRIDGE: &str = "underlay";

/// What a cluster shall be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything of the cluster goes here; it is removed by `down`.
    pub state: PathBuf,
    /// Where its programs are, or will be built.
    pub builder: Builder,
    /// Whether kube-controller-manager runs: without, nobody makes service accounts, tokens and endpoint slices, or empties
    /// namespaces that go.
    pub controller_manager: bool,
    /// More flags for kube-apiserver.
    pub api_server_flags: Vec<String>,
    /// Its nodes; they need kube-controller-manager.
    pub nodes: Option<Nodes>,
}

/// A part of a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The store.
    Etcd,
    /// The API.
    ApiServer,
    /// Kubernetes' own controllers.
    ControllerManager,
    /// Chooses nodes for pods.
    Scheduler,
}

impl Component {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler];
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        })
    }
}

impl FromStr for Component {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|component| component.to_string() == text).ok_or_else(|| {
            let known = Self::ALL.map(|component| component.to_string()).join(", ");
            format!("there is no component {text}: take one of {known}")
        })
    }
}

/// What a cluster remembers between commands.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    versions: Versions,
    binaries: PathBuf,
    controller_manager: bool,
    api_server_flags: Vec<String>,
    nodes: Option<Nodes>,
    image_archives: Vec<PathBuf>,
    images: PathBuf,
}

/// A control plane that is up.
#[derive(Debug)]
pub struct ControlPlane {
    layout: Layout,
    record: Record,
    interrupt: Interrupt,
    down_on_drop: bool,
}

impl ControlPlane {
    /// Builds what is missing and brings it up. When it fails or is interrupted, nothing is left of it but the built programs.
    pub fn up(options: &Options, interrupt: &Interrupt, progress: &Progress<'_>) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(lab::Error::NotRoot.into());
        }
        let nodes = options.nodes.as_ref();
        if nodes.is_some_and(|nodes| !(1..=MAX_NODES).contains(&nodes.count) || !options.controller_manager) {
            let what = format!("a cluster has 1 to {MAX_NODES} nodes, and then kube-controller-manager too");
            return Err(lab::Error::BadOption(what).into());
        }
        let layout = Layout::new(&options.state)?;
        let mut this = Self {
            layout,
            record: Record {
                versions: options.builder.versions().clone(),
                binaries: options.builder.binaries(),
                controller_manager: options.controller_manager,
                api_server_flags: options.api_server_flags.clone(),
                nodes: options.nodes.clone(),
                image_archives: Vec::new(),
                images: options.builder.images(),
            },
            interrupt: interrupt.clone(),
            down_on_drop: false,
        };
        // Better known before anything is built.
        this.check_not_up()?;
        let names: Vec<_> = this.components().map(|component| component.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        options.builder.build(&names, interrupt, progress)?;
        if let Some(nodes) = nodes {
            options.builder.build(&nodes.programs(), interrupt, progress)?;
            let own = options.builder.build_images(&nodes.own_images(), interrupt, progress)?;
            this.record.image_archives = own.into_iter().chain(nodes.images.iter().cloned()).collect();
        }
        let _lock = ground::lock(&this.layout)?;
        this.check_not_up()?;
        // What a crash may have left.
        remove(&this.layout, &silent)?;
        match this.build(progress) {
            Ok(()) => Ok(this),
            Err(error) => {
                progress(Event::Note(&format!("{error}; taking back what was made")));
                // The first error is the one to tell; `down` can be called again for what is left.
                if let Err(second) = remove(&this.layout, progress) {
                    progress(Event::Note(&format!("{second}: run `cargo xtask cluster down` again")));
                }
                Err(error)
            }
        }
    }

    fn check_not_up(&self) -> Result<()> {
        if self.record_path().exists() && ground::runs(&self.layout) {
            return Err(Error::AlreadyUp { state: self.layout.state().to_owned() });
        }
        Ok(())
    }

    fn build(&self, progress: &Progress<'_>) -> Result<()> {
        let layout = &self.layout;
        for directory in [layout.logs(), layout.processes(), self.etcd_data(), self.certificate_directory()] {
            std::fs::create_dir_all(&directory).context(|| format!("make {}", directory.display()))?;
        }
        let text = serde_json::to_vec_pretty(&self.record).context(|| "describe the cluster".to_owned())?;
        let path = self.record_path();
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        step(progress, "certificates", || self.make_certificates())?;
        step(progress, "namespace", || self.make_namespace())?;
        for component in self.components() {
            step(progress, &component.to_string(), || self.start(component))?;
        }
        match &self.record.nodes {
            Some(nodes) => self.start_nodes(nodes, progress),
            None => Ok(()),
        }
    }

    fn make_certificates(&self) -> Result<()> {
        let pki = self.pki();
        pki.prepare(self.address().ip(), KUBERNETES_SERVICE.into())?;
        pki.kubeconfig("admin", Subject { user: "admin", group: Some(MASTERS) }, &self.server())?;
        for component in ["kube-controller-manager", "kube-scheduler"] {
            let subject = Subject { user: &format!("system:{component}"), group: None };
            pki.kubeconfig(component, subject, &self.server())?;
        }
        Ok(())
    }

    fn make_namespace(&self) -> Result<()> {
        let name = self.namespace();
        netns::create(std::slice::from_ref(&name))?;
        let lines = [
            format!("link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0"),
            format!("addr add {}/24 dev {BRIDGE}", self.address().ip()),
            format!("link set {BRIDGE} up"),
        ];
        Ok(ip::batch(Some(&name), &lines)?)
    }

    /// The control plane of a state directory.
    pub fn open(state: &Path) -> Result<Self> {
        let layout = Layout::new(state)?;
        let path = layout.state().join(RECORD);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotUp { state: layout.state().to_owned() });
            }
            Err(source) => return Err(Error::Io { what: format!("read {}", path.display()), source }),
        };
        let record = serde_json::from_slice(&text).context(|| format!("read {}", path.display()))?;
        Ok(Self { layout, record, interrupt: Interrupt::default(), down_on_drop: false })
    }

    /// The same, taken down when it is dropped: for tests.
    #[must_use]
    pub fn down_on_drop(mut self) -> Self {
        self.down_on_drop = true;
        self
    }

    /// The parts that it has.
    pub fn components(&self) -> impl Iterator<Item = Component> + use<> {
        let (manager, nodes) = (self.record.controller_manager, self.record.nodes.is_some());
        Component::ALL.into_iter().filter(move |component| match component {
            Component::Etcd | Component::ApiServer => true,
            Component::ControllerManager => manager,
            Component::Scheduler => nodes,
        })
    }

    /// Its nodes, if it has any.
    pub fn nodes(&self) -> Option<&Nodes> {
        self.record.nodes.as_ref()
    }

    /// What nodes import.
    pub(crate) fn image_archives(&self) -> &[PathBuf] {
        &self.record.image_archives
    }

    /// The folder of the images that a cluster makes for itself.
    pub(crate) fn images(&self) -> PathBuf {
        self.record.images.clone()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// A call of one of its programs (kubectl, helm, e2e.test) as somebody who may do everything, to be made in
    /// [`ControlPlane::namespace`].
    pub fn tool(&self, program: &str) -> std::process::Command {
        let mut command = std::process::Command::new(self.record.binaries.join(program));
        command.env("KUBECONFIG", self.admin());
        command
    }

    /// Where its processes write.
    pub fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// Which versions run.
    pub fn versions(&self) -> &Versions {
        &self.record.versions
    }

    /// The folder of its programs.
    pub fn binaries(&self) -> &Path {
        &self.record.binaries
    }

    /// The network namespace in which it listens.
    pub fn namespace(&self) -> String {
        format!("{}control-plane", self.layout.namespace_prefix())
    }

    /// Where the API server listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(172, 29, self.layout.octet(), 1).into(), API_PORT)
    }

    /// The API server's URL.
    pub fn server(&self) -> String {
        format!("https://{}", self.address())
    }

    /// The certificate of the authority that signed the API server's.
    pub fn ca(&self) -> PathBuf {
        self.pki().ca()
    }

    /// The kubeconfig of somebody who may do everything.
    pub fn admin(&self) -> PathBuf {
        self.pki().file("admin.kubeconfig")
    }

    /// A kubeconfig of a user without any rights but those that RBAC gives.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let file: String = user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.pki().kubeconfig(&format!("user-{file}"), Subject { user, group: None }, &self.server())
    }

    /// The process of a component, if it was started.
    pub fn process(&self, component: Component) -> Option<Process> {
        Process::find(&self.layout, &component.to_string())
    }

    /// Ends a component with this signal; one that does not run is fine.
    pub fn stop(&self, component: Component, signal: Signal) -> Result<()> {
        match self.process(component) {
            Some(process) => Ok(process.end(&self.layout, signal)?),
            None => Ok(()),
        }
    }

    /// Starts a component and waits until it is ready; one that runs is left alone.
    pub fn start(&self, component: Component) -> Result<()> {
        if self.process(component).is_some_and(|process| process.is_alive()) {
            return Ok(());
        }
        let mut command = std::process::Command::new(self.record.binaries.join(component.to_string()));
        command.args(self.flags(component));
        if component == Component::ApiServer {
            command.args(&self.record.api_server_flags);
        }
        let namespace = netns::path(&self.namespace());
        let process = Process::start(&self.layout, &component.to_string(), Some(&namespace), &command)?;
        Ok(wait_until(&process, LIMIT, &self.interrupt, || match component {
            Component::Etcd => self
                .etcd_server()
                .plain(&Request::get("/health").text())
                .is_ok_and(|answer| answer.status == 200),
            Component::ApiServer => self.is_ready().is_ok(),
            // They have no part in whether the API answers.
            Component::ControllerManager | Component::Scheduler => true,
        })?)
    }

    /// Ends a component as a crash would (or with another signal) and starts it anew.
    pub fn restart(&self, component: Component, signal: Signal) -> Result<()> {
        self.stop(component, signal)?;
        self.start(component)
    }

    /// Asks `/readyz`; the error says what is not.
    pub fn is_ready(&self) -> Result<()> {
        self.ask(&Request::get("/readyz"))?.success().map(drop)
    }

    /// Asks the API server for something, as somebody who may do everything.
    pub fn ask(&self, request: &Request<'_>) -> Result<Answer> {
        let pki = self.pki();
        let server = Server {
            name: "kube-apiserver",
            namespace: netns::path(&self.namespace()),
            address: self.address(),
        };
        let [certificate, key] = ["admin.crt", "admin.key"].map(|file| pki.file(file));
        server.tls(&request.text(), &pki.ca(), &certificate, &key)
    }

    pub(crate) fn etcd_server(&self) -> Server {
        Server { name: "etcd", namespace: netns::path(&self.namespace()), address: ETCD }
    }

    pub(crate) fn etcd_data(&self) -> PathBuf {
        self.layout.state().join("etcd")
    }

    pub(crate) fn pki(&self) -> Pki {
        Pki::new(self.layout.state().join("pki"))
    }

    fn record_path(&self) -> PathBuf {
        self.layout.state().join(RECORD)
    }

    /// Where components put certificates that they make for themselves.
    pub(crate) fn certificate_directory(&self) -> PathBuf {
        self.layout.state().join("own-certificates")
    }
}

const RECORD: &str = "cluster.json";

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if self.down_on_drop {
            // Nobody is left to tell; the next `up` or `down` of this directory removes what this could not.
            let _ = down(self.layout.state(), &silent);
        }
    }
}

/// Takes down whatever is up, half up or left over in a state directory. True when there was something.
pub fn down(state: &Path, progress: &Progress<'_>) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Err(lab::Error::NotRoot.into());
    }
    let layout = Layout::new(state)?;
    let _lock = ground::lock(&layout)?;
    remove(&layout, progress)
}

fn remove(layout: &Layout, progress: &Progress<'_>) -> Result<bool> {
    nodes::remove(layout)?;
    Ok(ground::remove(layout, progress)?)
}
