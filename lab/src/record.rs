//! What a lab remembers between commands, in one file of its state directory. Written whole; never half.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use network::matrix::ServedPort;
use network::{NamespacedName, NodeName};
use serde::{Deserialize, Serialize};

use crate::datapath::Datapath;
use crate::error::{Context, Error, Result};
use crate::kubernetes::Kubernetes;
use crate::layout::{Family, Layout, NodeIndex};

/// A lab that was brought up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How many nodes it has.
    pub nodes: u8,
    /// Address families.
    pub family: Family,
    /// What its switches forward with.
    #[serde(default)]
    pub datapath: Datapath,
    /// How many controllers it has.
    #[serde(default = "one")]
    pub controllers: u8,
    /// Where the manifests are.
    pub manifests: PathBuf,
    /// The API server that objects come from, in place of manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// Controllers write down everything that happens to them.
    #[serde(default)]
    pub recorded: bool,
    /// Where the binaries are.
    pub binaries: PathBuf,
    /// The pods that were plugged, and those that could not be.
    pub pods: BTreeMap<NamespacedName, PodRecord>,
}

fn one() -> u8 {
    crate::layout::FIRST_CONTROLLER
}

/// A pod of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// Where it runs.
    pub node: NodeIndex,
    /// Its UID, as the controller knows it.
    pub uid: String,
    /// `CNI_CONTAINERID`; empty for a host-network pod.
    pub container: String,
    /// It lives in its node's namespace.
    pub host_network: bool,
    /// What the CNI binary answered, or the node's for a host-network pod.
    pub addresses: Vec<IpAddr>,
    /// Addresses that its manifest asks for.
    pub wanted: Vec<IpAddr>,
    /// What its responder serves.
    pub serves: BTreeSet<ServedPort>,
    /// Why it could not be plugged or does not serve everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl PodRecord {
    /// Whether it is connected.
    pub fn is_plugged(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// The name of its network namespace.
    pub fn namespace(&self, layout: &Layout, pod: &NamespacedName) -> String {
        if self.host_network { layout.node_namespace(self.node) } else { layout.pod_namespace(pod) }
    }
}

impl Record {
    /// The record of a lab that is up, or was.
    pub fn load(layout: &Layout) -> Result<Self> {
        let path = layout.record();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotUp { state: layout.state().to_owned() });
            }
            Err(source) => return Err(Error::Io { what: format!("read {}", path.display()), source }),
        };
        serde_json::from_slice(&text).map_err(|error| Error::BadState {
            state: layout.state().to_owned(),
            why: format!("{} is damaged ({error}): run `ferrule lab down` and start anew", path.display()),
        })
    }

    /// Writes it beside and moves it into place.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        let (path, beside) = (layout.record(), layout.record().with_extension("new"));
        let text = serde_json::to_vec_pretty(self).context(|| "describe the lab".to_owned())?;
        std::fs::write(&beside, text).context(|| format!("write {}", beside.display()))?;
        std::fs::rename(&beside, &path).context(|| format!("write {}", path.display()))
    }

    /// Every node's place.
    pub fn node_indexes(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (1..=self.nodes).map(NodeIndex)
    }

    /// The node of a name, or an error that lists them.
    pub fn node(&self, name: &str) -> Result<NodeIndex> {
        self.node_indexes().find(|node| node.name().as_str() == name).ok_or_else(|| Error::UnknownNode {
            name: name.to_owned(),
            known: self.node_indexes().map(|node| node.name().to_string()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The pod of a name, or an error that shows names which are alike.
    pub fn pod(&self, name: &str) -> Result<(&NamespacedName, &PodRecord)> {
        if let Some(found) = self.pods.iter().find(|(pod, _)| pod.to_string() == name) {
            return Ok(found);
        }
        let part = name.rsplit('/').next().unwrap_or(name);
        let alike: Vec<_> = self
            .pods
            .keys()
            .filter(|pod| !part.is_empty() && pod.to_string().contains(part))
            .map(ToString::to_string)
            .take(5)
            .collect();
        let hint =
            if alike.is_empty() { String::new() } else { format!("; did you mean {}?", alike.join(" or ")) };
        Err(Error::UnknownPod { name: name.to_owned(), hint })
    }

    /// The name of a node as pods' bindings say it.
    pub fn node_of(&self, name: &NodeName) -> Option<NodeIndex> {
        self.node_indexes().find(|node| node.name() == *name)
    }
}
