//! What is known of a lab, as data: what `ferrule lab status -o json` prints (docs/contracts.md). Everything that is needed to
//! call the CNI binary by hand is in it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use api::cni::PodIdentity;
use network::matrix::ServedPort;
use network::{Cidr, NamespacedName, NodeName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cni::{self, Call};
use crate::control::Component;
use crate::lab::Lab;
use crate::layout::{Family, NodeIndex, pod_cidrs};
use crate::{netns, switch};

/// A lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `ferrule.io/v1alpha1`.
    pub api_version: String,
    /// `Lab`.
    pub kind: String,
    /// The state directory.
    pub state: PathBuf,
    /// What tells its namespaces from another lab's.
    pub id: String,
    /// Address families.
    pub family: Family,
    /// Where the manifests are.
    pub manifests: PathBuf,
    /// The controller.
    pub controller: ControllerStatus,
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// The pods.
    pub pods: Vec<PodStatus>,
}

/// The controller of a lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its process; absent when it does not run.
    pub pid: Option<i32>,
    /// Where the CLI finds it.
    pub socket: PathBuf,
    /// Where agents find it.
    pub address: String,
    /// Where it writes.
    pub log: PathBuf,
}

/// A node of a lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// The name of its network namespace.
    pub namespace: String,
    /// The file of it.
    pub netns: PathBuf,
    /// Addresses on the underlay.
    pub addresses: Vec<IpAddr>,
    /// Pod ranges.
    pub pod_cidrs: Vec<Cidr>,
    /// Process ids of its components; null when one does not run.
    pub pids: BTreeMap<String, Option<i32>>,
    /// `OVS_RUNDIR` for the tools of Open vSwitch.
    #[serde(rename = "ovsRundir")]
    pub ovs_rundir: PathBuf,
    /// Sockets.
    pub sockets: Sockets,
    /// How to call the CNI binary.
    pub cni: CniStatus,
}

/// Sockets of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sockets {
    /// The agent's, for the CNI binary.
    pub cni: PathBuf,
    /// The agent's HTTP.
    pub agent: PathBuf,
    /// The database's.
    pub ovsdb: PathBuf,
    /// OpenFlow of br-int.
    pub openflow: PathBuf,
}

/// How to call the CNI binary on a node by hand: inside the node's namespace, with this environment and this configuration
/// on standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CniStatus {
    /// The binary.
    pub binary: PathBuf,
    /// The network configuration list.
    pub conflist: PathBuf,
    /// What goes to standard input.
    pub configuration: Value,
    /// An example of the environment: change the container, its namespace and its pod.
    pub environment: BTreeMap<String, String>,
}

/// A pod of a lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// `NAMESPACE/NAME`.
    pub pod: NamespacedName,
    /// Where it runs.
    pub node: NodeName,
    /// Its addresses; none when it could not be plugged.
    pub addresses: Vec<IpAddr>,
    /// The name of its network namespace.
    pub namespace: String,
    /// The file of it.
    pub netns: PathBuf,
    /// It lives in its node's namespace.
    pub host_network: bool,
    /// UID.
    pub uid: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// What its responder serves.
    pub serves: Vec<ServedPort>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Lab {
    /// What is known of the lab now.
    pub fn status(&self) -> Status {
        let (layout, record) = (&self.layout, &self.record);
        // A lab always has a first node; the controller's process is the same for all.
        let controller = self.running(NodeIndex(1), Component::Controller);
        Status {
            api_version: api::insight::API_VERSION.to_owned(),
            kind: "Lab".to_owned(),
            state: layout.state().to_owned(),
            id: layout.id().to_owned(),
            family: record.family,
            manifests: record.manifests.clone(),
            controller: ControllerStatus {
                namespace: layout.underlay_namespace(),
                pid: controller,
                socket: layout.controller_socket(),
                address: layout.controller_address(record.family).to_string(),
                log: layout.logs().join("controller.log"),
            },
            nodes: record.node_indexes().map(|node| self.node_status(node)).collect(),
            pods: record
                .pods
                .iter()
                .map(|(key, pod)| {
                    let namespace = pod.namespace(layout, key);
                    PodStatus {
                        pod: key.clone(),
                        node: pod.node.name(),
                        addresses: pod.addresses.clone(),
                        netns: netns::path(&namespace),
                        namespace,
                        host_network: pod.host_network,
                        uid: pod.uid.clone(),
                        container_id: pod.container.clone(),
                        serves: pod.serves.iter().copied().collect(),
                        problem: pod.problem.clone(),
                    }
                })
                .collect(),
        }
    }

    fn node_status(&self, node: NodeIndex) -> NodeStatus {
        let (layout, record) = (&self.layout, &self.record);
        let namespace = layout.node_namespace(node);
        let ovs = layout.ovs_directory(node);
        let identity =
            PodIdentity { namespace: "default".into(), name: "by-hand".into(), uid: "by-hand".into() };
        let container = cni::container_id(layout.id(), &identity);
        let example = Call {
            layout,
            binaries: &record.binaries,
            node,
            container: &container,
            netns: &netns::path("by-hand"),
            pod: &identity,
            addresses: &[],
        };
        let environment = cni::environment(&example, "ADD");
        NodeStatus {
            name: node.name(),
            netns: netns::path(&namespace),
            namespace,
            addresses: layout.node_addresses(node, record.family),
            pod_cidrs: pod_cidrs(node, record.family),
            pids: [Component::OvsdbServer, Component::OvsVswitchd, Component::Agent]
                .into_iter()
                .map(|component| (component.to_string(), self.running(node, component)))
                .collect(),
            sockets: Sockets {
                cni: layout.cni_socket(node),
                agent: layout.agent_socket(node),
                ovsdb: ovs.join("db.sock"),
                openflow: ovs.join("br-int.mgmt"),
            },
            ovs_rundir: ovs,
            cni: CniStatus {
                binary: record.binaries.join("ferrule-cni"),
                conflist: layout.cni_configuration(node),
                configuration: cni::plugin_configuration(layout, node, &[]),
                environment: environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            },
        }
    }

    fn running(&self, node: NodeIndex, component: Component) -> Option<i32> {
        self.process(node, component).filter(|process| process.is_alive()).map(|process| process.pid)
    }

    /// What to put into the environment for the tools of Open vSwitch on a node.
    pub fn ovs_environment(&self, node: NodeIndex) -> Vec<(&'static str, String)> {
        switch::environment(&self.layout, node)
    }
}
