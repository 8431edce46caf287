//! Handles on a lab's pods and nodes: where they are, and running programs there.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use network::NamespacedName;

use crate::command::search_path;
use crate::error::{Context, Result};
use crate::lab::Lab;
use crate::layout::NodeIndex;
use crate::record::PodRecord;
use crate::{netns, switch};

/// Where a program can run: a pod, a node, or the underlay.
#[derive(Clone, Debug)]
pub struct Place {
    name: String,
    namespace: String,
    addresses: Vec<IpAddr>,
    environment: Vec<(&'static str, String)>,
}

impl Place {
    /// Its name as it was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its network namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The file of its network namespace.
    pub fn netns_path(&self) -> PathBuf {
        netns::path(&self.namespace)
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its address of a family.
    pub fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == ipv4)
    }

    /// What a program gets in its environment beside ours: on a node, its Open vSwitch.
    pub fn environment(&self) -> &[(&'static str, String)] {
        &self.environment
    }

    /// Runs a program to its end, its output kept.
    pub fn exec<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Output> {
        let child = self.spawn(words)?;
        child.wait_with_output().context(|| format!("wait for a program in {}", self.name))
    }

    /// Starts a program, its output piped.
    pub fn spawn<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Child> {
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().as_ref().map_or(OsStr::new("true"), AsRef::as_ref));
        command.args(words).envs(self.environment.clone()).env("PATH", search_path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        netns::spawn(Some(&self.netns_path()), &mut command)
    }

    /// Runs our own code there, in a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        netns::run(&self.netns_path(), work)
    }
}

impl Lab {
    /// A pod, by `NAMESPACE/NAME`.
    pub fn pod(&self, name: &str) -> Result<Place> {
        let (key, pod) = self.record.pod(name)?;
        Ok(self.place_of_pod(key, pod))
    }

    fn place_of_pod(&self, key: &NamespacedName, pod: &PodRecord) -> Place {
        Place {
            name: key.to_string(),
            namespace: pod.namespace(&self.layout, key),
            addresses: pod.addresses.clone(),
            environment: Vec::new(),
        }
    }

    /// A node, by name.
    pub fn node(&self, name: &str) -> Result<Place> {
        Ok(self.place_of_node(self.record.node(name)?))
    }

    /// A node, by its place.
    pub fn place_of_node(&self, node: NodeIndex) -> Place {
        Place {
            name: format!("node:{}", node.name()),
            namespace: self.layout.node_namespace(node),
            addresses: self.layout.node_addresses(node, self.record.family),
            environment: switch::environment(&self.layout, node),
        }
    }

    /// The network between the nodes: outside of the cluster.
    pub fn underlay(&self) -> Place {
        Place {
            name: "underlay".to_owned(),
            namespace: self.layout.underlay_namespace(),
            addresses: self.layout.gateway_addresses(self.record.family),
            environment: Vec::new(),
        }
    }

    /// `NAMESPACE/POD`, `node:NAME`, or `underlay`.
    pub fn place(&self, name: &str) -> Result<Place> {
        match name.strip_prefix("node:") {
            Some(node) => self.node(node),
            None if name == "underlay" => Ok(self.underlay()),
            None => self.pod(name),
        }
    }

    /// A tool of Open vSwitch (`ovs-ofctl`, `ovs-vsctl`, …) on a node: its output, or an error with what it said.
    pub fn ovs<S: AsRef<OsStr>>(
        &self,
        node: NodeIndex,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        crate::command::run(switch::tool(&self.layout, node, program).args(arguments))
    }
}
