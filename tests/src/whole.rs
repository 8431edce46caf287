//! A whole Kubernetes for a test: control plane, nodes with containerd and kubelet, and Ferrule by its chart, from the binaries that the
//! other tests run. Everything is gone when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::MutexGuard;

use cluster::image::{Image, Layer, save};
use cluster::images::{busybox, found};
use cluster::{Builder, ControlPlane, Interrupt, NodeIndex, Nodes, Options, Versions};
use lab::netns;

use crate::lab_up::{binaries, is_root, say, turn};
use crate::{binaries::build, skip};

/// The chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/chart");

/// Where the pods of Ferrule are.
pub const NAMESPACE: &str = "kube-system";

/// The scripts that the images hold.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/images");

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// All of it.
#[derive(Debug)]
pub struct Whole {
    /// The cluster.
    pub cluster: ControlPlane,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Whole {
    /// A cluster with nodes and no network; `None` (said loudly) where that cannot be.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn new(test: &str, count: u8) -> Option<Self> {
        Self::with(test, count, &["helm", "kube-proxy"], false)
    }

    /// The same with addresses of both families, the images of Kubernetes' own tests, and these programs beside.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn for_tests(test: &str, count: u8, programs: &[&str]) -> Option<Self> {
        Self::with(test, count, programs, true)
    }

    fn with(test: &str, count: u8, programs: &[&str], for_tests: bool) -> Option<Self> {
        if !is_root() {
            skip::skip("cluster", test, "needs root");
            return None;
        }
        let turn = turn();
        let folder = tempfile::Builder::new().prefix("wh-").tempdir_in("/tmp");
        let folder = folder.unwrap_or_else(|error| panic!("cannot make a directory: {error}"));
        let interrupt = Interrupt::default();
        let versions = match std::env::var("FERRULE_KUBERNETES") {
            Ok(version) => Versions::of_kubernetes(&version),
            Err(_) => Ok(Versions::default()),
        };
        let builder = versions.and_then(Builder::in_target).unwrap_or_else(|error| panic!("{error}"));
        let up = builder.build(programs, &interrupt, &say).and_then(|()| {
            let nodes = Nodes {
                count,
                command: command(),
                images: images(folder.path()),
                for_tests,
                dual_stack: for_tests,
            };
            let options = Options {
                state: folder.path().join("state"),
                builder: builder.clone(),
                controller_manager: true,
                api_server_flags: Vec::new(),
                nodes: Some(nodes),
            };
            ControlPlane::up(&options, &interrupt, &say)
        });
        match up {
            Ok(cluster) => Some(Self { cluster: cluster.down_on_drop(), folder, _turn: turn }),
            Err(error @ cluster::Error::NoGo { .. }) => {
                skip::skip("cluster", test, &error.to_string());
                None
            }
            Err(error) => panic!("the cluster of {test} does not come up: {error}"),
        }
    }

    /// Runs a program of the cluster (kubectl, helm); what it said, or why not.
    pub fn try_run(&self, program: &str, words: &[&str]) -> Result<String, String> {
        let mut command = self.cluster.tool(program);
        command.args(words);
        let namespace = netns::path(&self.cluster.namespace());
        lab::command::run_in(&namespace, &mut command).map_err(|error| error.to_string())
    }

    /// Something done in the control plane's network, where nodes and the API server can be reached.
    ///
    /// # Panics
    /// When that cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = netns::run(&netns::path(&self.cluster.namespace()), work);
        done.unwrap_or_else(|error| panic!("{error}"))
    }

    /// `kubectl ferrule …`, with the plugin found on PATH and the administrator's kubeconfig.
    pub fn plugin(&self, words: &[&str]) -> Result<String, String> {
        let plugin = self.folder.path().join("kubectl-ferrule");
        if !plugin.exists() {
            std::os::unix::fs::symlink(binaries().join("ferrule"), &plugin)
                .map_err(|error| error.to_string())?;
        }
        let mut command = self.cluster.tool("kubectl");
        command.arg("ferrule").args(words).env("PATH", self.folder.path());
        let namespace = netns::path(&self.cluster.namespace());
        lab::command::run_in(&namespace, &mut command).map_err(|error| error.to_string())
    }

    /// The same where it has to succeed.
    ///
    /// # Panics
    /// When it does not; with what the nodes' pods look like.
    pub fn run(&self, program: &str, words: &[&str]) -> String {
        self.try_run(program, words).unwrap_or_else(|error| {
            let pods = self.try_run("kubectl", &["get", "pods", "--all-namespaces", "--output=wide"]);
            panic!("{error}\n{}", pods.unwrap_or_else(|error| error))
        })
    }

    /// kubectl.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, words: &[&str]) -> String {
        self.run("kubectl", words)
    }

    /// Applies a manifest.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn apply(&self, name: &str, manifest: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, manifest).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.kubectl(&["apply", "--filename", &path.to_string_lossy()]);
    }

    /// What every helm call with values of this cluster needs.
    pub fn values(&self) -> Vec<String> {
        let server = self.cluster.server();
        [&format!("apiServer={server}"), "agent.datapath=netdev", "ovs.uplink=eth0"]
            .iter()
            .flat_map(|value| ["--set".to_owned(), (*value).to_owned()])
            .collect()
    }

    /// Helm with the cluster's values.
    ///
    /// # Panics
    /// When it fails.
    pub fn helm(&self, words: &[&str]) -> String {
        let values = self.values();
        let mut all = words.to_vec();
        all.extend(values.iter().map(String::as_str));
        self.run("helm", &all)
    }

    /// A command on a node.
    ///
    /// # Panics
    /// When it fails.
    pub fn on_node(&self, node: u8, program: &str, words: &[&str]) -> String {
        let command = self.cluster.on_node(NodeIndex(node), program);
        let mut command = command.unwrap_or_else(|error| panic!("{error}"));
        lab::command::run(command.args(words)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// One field of one pod by a selector, on a node.
    ///
    /// # Panics
    /// When there is no such pod.
    pub fn pod(&self, namespace: &str, selector: &str, node: &str, field: &str) -> String {
        let output = format!("--output=jsonpath={{.items[0].{field}}}");
        let place = format!("--field-selector=spec.nodeName={node}");
        self.kubectl(&["--namespace", namespace, "get", "pods", "--selector", selector, &place, &output])
    }
}

/// The command whose children nodes are: the one that `cargo xtask` has built, or a new one.
fn command() -> PathBuf {
    Some(binaries().join("cluster"))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| build("cluster", "cluster"))
}

/// Both images, of the binaries that the tests run, with the libraries that they need: the same scripts and tools as in those that
/// `cargo xtask images` writes of static programs.
fn images(folder: &Path) -> Vec<PathBuf> {
    let write = || -> cluster::Result<Vec<PathBuf>> {
        let mut ferrule = Layer::default();
        ferrule.base()?;
        for tool in ["nft", "ip", "ethtool", "ovs-dpctl"] {
            ferrule.program(&found(tool)?, &format!("usr/sbin/{tool}"))?;
        }
        for program in lab::daemons::BINARIES {
            ferrule.program(&binaries().join(program), &format!("usr/local/bin/{program}"))?;
        }
        shell(&mut ferrule, "install-cni")?;
        shell(&mut ferrule, "remove-ferrule")?;
        shell(&mut ferrule, "return-address")?;
        let mut switch = Layer::default();
        switch.base()?;
        let tools =
            ["ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "ovs-appctl", "ip", "ethtool"];
        for program in tools {
            switch.program(&found(program)?, &format!("usr/bin/{program}"))?;
        }
        switch.file(SCHEMA, &read(Path::new(SCHEMA)), 0o644)?;
        shell(&mut switch, "start-ovs")?;
        shell(&mut switch, "return-address")?;
        let mut paths = Vec::new();
        for (name, layer) in [("ferrule", ferrule), ("ferrule-ovs", switch)] {
            let path = folder.join("images").join(format!("{name}.tar"));
            let tag = format!("ferrule.io/{name}:{}", env!("CARGO_PKG_VERSION"));
            save(&path, &Image { tags: &[&tag], ..Image::default() }, layer)?;
            paths.push(path);
        }
        Ok(paths)
    };
    let made = std::fs::create_dir_all(folder.join("images"));
    made.unwrap_or_else(|error| panic!("cannot make a directory: {error}"));
    write().unwrap_or_else(|error| panic!("the images cannot be written: {error}"))
}

fn shell(layer: &mut Layer, script: &str) -> cluster::Result<()> {
    layer.program(&found("dash")?, "bin/sh")?;
    busybox(layer)?;
    layer.file(&format!("usr/local/bin/{script}"), &read(&Path::new(SCRIPTS).join(script)), 0o755)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A ping that goes on until it is asked for its result.
#[derive(Debug)]
pub struct Ping(std::process::Child);

impl Whole {
    /// Pings from a pod ten times a second.
    ///
    /// # Panics
    /// When kubectl does not start.
    pub fn ping(&self, namespace: &str, pod: &str, address: &str, count: u32) -> Ping {
        let mut command: Command = self.cluster.tool("kubectl");
        command.args(["--namespace", namespace, "exec", pod, "--", "ping", "-i", "0.1", "-W", "2"]);
        command.args(["-c", &count.to_string(), address]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = netns::spawn(Some(&netns::path(&self.cluster.namespace())), &mut command);
        Ping(child.unwrap_or_else(|error| panic!("{error}")))
    }
}

impl Ping {
    /// What it said in the end: `N packets transmitted, N packets received, 0% packet loss`.
    ///
    /// # Panics
    /// When it said nothing of that kind.
    pub fn result(self) -> String {
        let output = self.0.wait_with_output().unwrap_or_else(|error| panic!("{error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("packets transmitted"));
        line.unwrap_or_else(|| panic!("ping said {text:?}")).to_owned()
    }
}

/// The real kube-proxy on every node.
#[derive(Debug)]
pub struct KubeProxies<'w> {
    whole: &'w Whole,
    running: Vec<(u8, std::process::Child)>,
}

impl Whole {
    /// Starts kube-proxy on every node; it translates in nftables, and masquerades everything (docs/services.md).
    ///
    /// # Panics
    /// When it does not start.
    pub fn kube_proxies(&self) -> KubeProxies<'_> {
        let kubeconfig =
            self.cluster.kubeconfig("system:kube-proxy").unwrap_or_else(|error| panic!("{error}"));
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let start = |node: NodeIndex| {
            let log = self.cluster.logs().join(format!("{}.kube-proxy.log", node.name()));
            let log =
                std::fs::File::create(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
            let mut command = self.kube_proxy(node);
            command.args([&kubeconfig, &format!("--hostname-override={}", node.name())]);
            command.args(["--proxy-mode=nftables", "--masquerade-all"]);
            // A node here may not change the machine's limits.
            command.args(["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"]);
            command.args(["--conntrack-tcp-timeout-close-wait=0"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            (node.0, command.spawn().unwrap_or_else(|error| panic!("kube-proxy: {error}")))
        };
        let nodes = self.cluster.nodes().into_iter().flat_map(Nodes::indexes);
        KubeProxies { whole: self, running: nodes.map(start).collect() }
    }

    fn kube_proxy(&self, node: NodeIndex) -> Command {
        let program = self.cluster.binaries().join("kube-proxy");
        let command = self.cluster.on_node(node, &program.to_string_lossy());
        command.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl KubeProxies<'_> {
    /// Ends them and has them clean up.
    ///
    /// # Panics
    /// When they do not.
    pub fn end(self) {
        for (node, mut running) in self.running {
            self.whole.on_node(node, "pkill", &["--exact", "kube-proxy"]);
            running.wait().unwrap_or_else(|error| panic!("kube-proxy: {error}"));
            let mut command = self.whole.kube_proxy(NodeIndex(node));
            let done = lab::command::run(command.args(["--cleanup", "--proxy-mode=nftables"]));
            done.unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
