//! A container runtime, as far as CNI goes, on a node of a lab: containers that are network namespaces, calls of plugins in
//! the node's namespace, and everything that an attachment can leave behind on the node. It must not know what a test
//! expects.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::process::Process;
use lab::{Component, Lab, NodeIndex, netns};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::namespace::Namespace;
use crate::steady;

/// The node of a lab on which containers are made.
#[derive(Debug)]
pub struct Runtime<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// The node.
    pub node: NodeIndex,
    /// What is added to the plugin's configuration.
    pub extra: Value,
    /// What is added to the environment of every call.
    pub environment: BTreeMap<String, String>,
}

/// What became of a call.
#[derive(Debug)]
pub struct Outcome {
    /// Standard output, when it is JSON.
    pub said: Value,
    /// Whether the exit code was 0.
    pub success: bool,
    /// Whether it was killed.
    pub killed: bool,
}

/// Everything on the node that stands for attachments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Addresses that are handed out.
    pub addresses: String,
    /// Records of the agent.
    pub records: Vec<String>,
    /// Deletions that are owed.
    pub tombstones: Vec<String>,
    /// Ports of the bridge.
    pub ports: Vec<String>,
    /// Host's ends of veths.
    pub veths: Vec<String>,
    /// Flows, without what counts.
    pub flows: Vec<String>,
    /// What delegated host-local keeps.
    pub delegated: Vec<String>,
}

/// The program and the arguments of a node's agent, as it runs.
///
/// # Panics
/// When it does not run.
pub fn agents_words(lab: &Lab, node: NodeIndex) -> Vec<String> {
    let pid = lab.process(node, Component::Agent).map_or(0, |process| process.pid);
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line.split_terminator('\0').map(str::to_owned).collect();
    assert!(words.len() > 1, "the agent of node {node:?} does not run");
    words
}

impl<'a> Runtime<'a> {
    /// On this node.
    pub fn new(lab: &'a Lab, node: NodeIndex) -> Self {
        Self { lab, node, extra: json!({}), environment: BTreeMap::new() }
    }

    /// The plugin's configuration: the lab's with what is added.
    pub fn configuration(&self) -> Value {
        let mut configuration = lab::cni::plugin_configuration(self.lab.layout(), self.node, &[]);
        if let (Some(all), Some(extra)) = (configuration.as_object_mut(), self.extra.as_object()) {
            all.extend(extra.clone());
        }
        configuration
    }

    /// Calls `ferrule-cni` as a runtime does.
    pub fn call(
        &self,
        command: &str,
        container: &str,
        netns: &Path,
        environment: &[(&str, &str)],
    ) -> Outcome {
        self.call_with(command, container, netns, environment, &self.configuration())
    }

    /// Calls it with a configuration of the test's own.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn call_with(
        &self,
        command: &str,
        container: &str,
        netns: &Path,
        environment: &[(&str, &str)],
        configuration: &Value,
    ) -> Outcome {
        let mut process = Command::new(self.lab.record().binaries.join("ferrule-cni"));
        process
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/usr/lib/cni:/opt/cni/bin")
            .envs(&self.environment)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let node = netns::path(&self.lab.layout().node_namespace(self.node));
        let child = netns::spawn(Some(&node), &mut process);
        let mut child = child.unwrap_or_else(|error| panic!("cannot call ferrule-cni: {error}"));
        if let Some(mut input) = child.stdin.take() {
            // It may be killed before it reads.
            let _ = input.write_all(configuration.to_string().as_bytes());
        }
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("ferrule-cni is lost: {error}"));
        Outcome {
            said: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            success: output.status.success(),
            killed: output.status.signal() == Some(Signal::SIGKILL as i32),
        }
    }

    /// Ends the agent and starts it with a fault point in its environment.
    ///
    /// # Panics
    /// When it does not start.
    pub fn agent_with(&self, environment: &[(&str, &str)]) {
        let words = agents_words(self.lab, self.node);
        self.stop(Component::Agent);
        let layout = self.lab.layout();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(environment.iter().copied());
        let namespace = netns::path(&layout.node_namespace(self.node));
        let name = format!("{}.agent", self.node.name());
        if let Err(error) = Process::start(layout, &name, Some(&namespace), &command) {
            panic!("the agent cannot be started: {error}");
        }
        self.until("the agent listens", || UnixStream::connect(layout.cni_socket(self.node)).is_ok());
    }

    /// Ends a component of the node as a crash does.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&self, component: Component) {
        if let Err(error) = self.lab.stop(self.node, component, Signal::SIGKILL) {
            panic!("{component} does not end: {error}");
        }
    }

    /// Starts a component of the node.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&self, component: Component) {
        if let Err(error) = self.lab.start(self.node, component) {
            panic!("{component} does not start: {error}");
        }
    }

    /// Waits.
    ///
    /// # Panics
    /// When it does not become true in half a minute.
    pub fn until(&self, what: &str, ready: impl FnMut() -> bool) {
        steady::until(what, Duration::from_secs(30), ready);
    }

    /// What stands there for attachments now.
    pub fn traces(&self) -> Traces {
        let state = self.lab.layout().agent_state_directory(self.node);
        let metric = "ferrule_agent_addresses_allocated ";
        let metrics = self.metrics();
        let addresses = metrics.lines().find_map(|line| line.strip_prefix(metric)).unwrap_or("?").to_owned();
        let links = self.text("ip", &["-o", "link"]);
        let veths = links.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
        let flows = self.text("ovs-ofctl", &["--no-stats", "dump-flows", "br-int"]);
        Traces {
            addresses,
            records: list(&state.join("attachments")),
            tombstones: list(&state.join("tombstones")),
            ports: sorted(self.text("ovs-vsctl", &["list-ports", "br-int"]).lines()),
            veths: sorted(veths.filter(|name| name.starts_with("fe") && name.len() == 15)),
            flows: sorted(flows.lines()),
            delegated: list(&self.delegated_folder().join("ferrule")),
        }
    }

    /// Where host-local keeps its files, when a configuration says so.
    pub fn delegated_folder(&self) -> PathBuf {
        self.lab.layout().state().join("host-local")
    }

    /// Runs a program in the node's namespace; gives what it prints. The bridge may not be there yet.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn text(&self, program: &str, words: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(words).envs(self.lab.ovs_environment(self.node)).stdout(Stdio::piped());
        let node = netns::path(&self.lab.layout().node_namespace(self.node));
        let output = netns::spawn(Some(&node), &mut command)
            .unwrap_or_else(|error| panic!("cannot run {program}: {error}"))
            .wait_with_output()
            .unwrap_or_else(|error| panic!("{program} is lost: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The agent's metrics; empty while it does not answer.
    pub fn metrics(&self) -> String {
        let asked = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(self.lab.layout().agent_socket(self.node))?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        asked().unwrap_or_default()
    }

    /// A container's namespace.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn container(&self, name: &str) -> Namespace {
        Namespace::new(name).unwrap_or_else(|why| panic!("no namespace for a container: {why}"))
    }
}

impl Traces {
    /// What is here and not there, and the other way round; empty when both are the same.
    pub fn difference(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, ours, theirs) in [
            ("record", &self.records, &other.records),
            ("tombstone", &self.tombstones, &other.tombstones),
            ("port", &self.ports, &other.ports),
            ("veth", &self.veths, &other.veths),
            ("flow", &self.flows, &other.flows),
            ("delegated", &self.delegated, &other.delegated),
        ] {
            let missing = |all: &[String], sign: char, from: &[String]| {
                let new = from.iter().filter(|one| !all.contains(one));
                new.map(|one| format!("{sign} {what} {one}")).collect::<Vec<_>>()
            };
            lines.extend(missing(theirs, '+', ours));
            lines.extend(missing(ours, '-', theirs));
        }
        if self.addresses != other.addresses {
            lines.push(format!("{} addresses, not {}", self.addresses, other.addresses));
        }
        lines
    }
}

fn list(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // host-local's own book-keeping.
    names.retain(|name| name != "lock" && !name.starts_with("last_reserved_ip"));
    names.sort();
    names
}

fn sorted<'t>(lines: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut lines: Vec<_> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}
