//! What the operator says on the command line. Facts of the cluster do not belong here: they come from the controller.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use network::{Cidr, NodeName};

use crate::drivers::discovery::{self, Discovery};
use crate::drivers::endpoint_slice::ServiceName;
use crate::drivers::https::{Server, Url};

/// Ferrule's node daemon: makes this node's Open vSwitch and network stack what the cluster says they should be.
#[derive(Clone, Debug, Parser)]
#[command(name = "ferrule-agent", version)]
pub struct Settings {
    /// Name of this node, as the cluster knows it.
    #[arg(long, env = "FERRULE_NODE", value_parser = node_name)]
    pub node: NodeName,

    /// Where Open vSwitch keeps its sockets (db.sock, br-int.mgmt).
    #[arg(long, env = "FERRULE_OVS_RUNDIR", value_name = "DIR", default_value = "/run/openvswitch")]
    pub ovs_rundir: PathBuf,

    /// Where ferrule-cni finds the agent.
    #[arg(long, env = "FERRULE_CNI_SOCKET", value_name = "PATH", default_value = "/run/ferrule/cni.sock")]
    pub cni_socket: PathBuf,

    /// HTTP for the ferrule command on this node: /v1alpha1/…, /healthz, /metrics.
    #[arg(long, env = "FERRULE_API_SOCKET", value_name = "PATH", default_value = "/run/ferrule/agent.sock")]
    pub api_socket: PathBuf,

    /// /metrics and /healthz alone over TCP, for whoever gathers them: neither encrypted nor authenticated.
    #[arg(long, env = "FERRULE_METRICS_TCP", value_name = "ADDR:PORT")]
    pub metrics_tcp: Option<std::net::SocketAddr>,

    /// What must outlive a restart: addresses, attachments, the last state from the controller.
    #[arg(long, env = "FERRULE_STATE_DIR", value_name = "DIR", default_value = "/var/lib/ferrule")]
    pub state_dir: PathBuf,

    /// The controllers, all of which are dialled; may be repeated. Without any, the agent enforces its saved state and
    /// serves attachments without a pod's name.
    #[arg(
        long,
        alias = "controller",
        env = "FERRULE_CONTROLLERS",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub controllers: Vec<String>,

    /// Instead of --controllers: the Service whose EndpointSlices say where the controllers are. They are read from
    /// --api-server directly; no ClusterIP, no DNS.
    #[arg(
        long,
        env = "FERRULE_DISCOVER_CONTROLLERS",
        value_name = "NAMESPACE/SERVICE",
        conflicts_with = "controllers",
        requires = "api_server"
    )]
    pub discover_controllers: Option<ServiceName>,

    /// An API server at its real address; may be repeated.
    #[arg(long, env = "FERRULE_API_SERVER", value_name = "https://HOST:PORT", value_delimiter = ',')]
    pub api_server: Vec<Url>,

    /// The CA that signed the API servers' certificate (PEM); read at every use.
    #[arg(
        long,
        env = "FERRULE_API_SERVER_CA",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    )]
    pub api_server_ca: PathBuf,

    /// The token for the API server; read at every use.
    #[arg(
        long,
        env = "FERRULE_API_SERVER_TOKEN",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    pub api_server_token: PathBuf,

    /// The CA that signed the controllers' certificates (PEM); several while one replaces another.
    #[arg(long, env = "FERRULE_CONTROLLER_CA", value_name = "FILE")]
    pub controller_ca: Option<PathBuf>,

    /// The name in the controllers' certificate.
    #[arg(long, env = "FERRULE_CONTROLLER_NAME", value_name = "NAME", default_value = "ferrule-controller")]
    pub controller_name: String,

    /// The token that proves who this node is; read again at every connection.
    #[arg(long, env = "FERRULE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Datapath of br-int; auto takes the kernel's where the kernel has it, loading its module.
    #[arg(long, env = "FERRULE_DATAPATH", value_enum, default_value_t = DatapathChoice::Auto)]
    pub datapath: DatapathChoice,

    /// Underlay address of this node; may be repeated. Used until the controller says.
    #[arg(long = "node-address", env = "FERRULE_NODE_ADDRESS", value_name = "IP", value_delimiter = ',')]
    pub node_addresses: Vec<IpAddr>,

    /// Pod range of this node; may be repeated, one per family. Used until the controller says.
    #[arg(long = "pod-cidr", env = "FERRULE_POD_CIDR", value_name = "CIDR", value_delimiter = ',')]
    pub pod_cidrs: Vec<Cidr>,

    /// The device whose MTU bounds the tunnels; without it the one that has the node's address.
    #[arg(long, env = "FERRULE_UNDERLAY_DEVICE", value_name = "DEVICE")]
    pub underlay_device: Option<String>,

    /// Flows that the rules of policies may take on this node. The dearest that do not fit are refused and closed; what
    /// isolates stays.
    #[arg(long, env = "FERRULE_FLOW_BUDGET", value_name = "FLOWS", default_value_t = compiler::input::FLOW_BUDGET)]
    pub flow_budget: usize,

    /// Who balances Services: the switch, or somebody else on this node (kube-proxy), who is then left alone.
    #[arg(long, env = "FERRULE_SERVICES", value_enum, default_value_t = Services::Balance)]
    pub services: Services,

    /// The addresses of this node that answer for node ports, by prefix; all of them without any (kube-proxy's
    /// --nodeport-addresses).
    #[arg(long, env = "FERRULE_NODEPORT_ADDRESSES", value_name = "CIDR", value_delimiter = ',')]
    pub nodeport_addresses: Vec<Cidr>,

    /// Where the decisions of audited policies are written, one JSON object a line [default: audit.jsonl in the state
    /// directory].
    #[arg(long, env = "FERRULE_AUDIT_LOG", value_name = "FILE")]
    pub audit_log: Option<PathBuf>,

    /// Whether addresses, routes, neighbours, sysctls and nftables of the node are the agent's to keep.
    #[arg(long, env = "FERRULE_HOST_NETWORK_STATE", value_enum, default_value_t = HostNetworkState::Manage)]
    pub host_network_state: HostNetworkState,

    /// How log lines look; FERRULE_LOG chooses which (for example `info,ovs_agent=debug`).
    #[arg(long, env = "FERRULE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// `--datapath`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DatapathChoice {
    /// The kernel's where the kernel has it, else userspace.
    Auto,
    /// The kernel's.
    System,
    /// Userspace.
    Netdev,
}

/// `--host-network-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostNetworkState {
    /// The agent makes and keeps it.
    Manage,
    /// Somebody else does; the agent touches the switch alone.
    Ignore,
}

/// `--services`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Services {
    /// The switch.
    Balance,
    /// Somebody else; nothing of Services is in the switch or on the host.
    Leave,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Settings {
    /// The socket of the database.
    pub fn database_socket(&self) -> PathBuf {
        self.ovs_rundir.join("db.sock")
    }

    /// How controllers are looked for, if they are.
    pub fn discovery(&self) -> Option<Discovery> {
        let server = |url: &Url| Server {
            url: url.clone(),
            authority: self.api_server_ca.clone(),
            token: self.api_server_token.clone(),
        };
        self.discover_controllers.as_ref().map(|service| Discovery {
            servers: self.api_server.iter().map(server).collect(),
            service: service.clone(),
            kept: discovery::kept(&self.state_dir),
        })
    }

    /// The OpenFlow socket of a bridge.
    pub fn openflow_socket(&self, bridge: &str) -> PathBuf {
        self.ovs_rundir.join(format!("{bridge}.mgmt"))
    }
}

fn node_name(text: &str) -> Result<NodeName, String> {
    if text.is_empty() || text.len() > 253 || text.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err("a node's name has 1 to 253 characters, without blanks and slashes".into());
    }
    Ok(NodeName::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_a_bad_one_names_itself() {
        let args = ["ferrule-agent", "--node", "node-1", "--pod-cidr", "10.244.1.0/24,fd00:10:244:1::/64"];
        let settings = Settings::try_parse_from(args).unwrap();
        assert_eq!(settings.pod_cidrs.len(), 2);
        assert_eq!(settings.openflow_socket("br-int"), PathBuf::from("/run/openvswitch/br-int.mgmt"));
        let error = Settings::try_parse_from(["ferrule-agent", "--node", "a b"]).unwrap_err().to_string();
        assert!(error.contains("--node"), "{error}");
        assert!(
            Settings::try_parse_from(["ferrule-agent", "--node", "n", "--pod-cidr", "10.0.0.0"]).is_err()
        );
    }

    #[test]
    fn controllers_are_listed_or_looked_for_and_never_both() {
        let parse = |more: &[&str]| {
            Settings::try_parse_from([&["ferrule-agent", "--node", "n"], more].concat())
                .map_err(|error| error.to_string())
        };
        let listed = parse(&["--controllers", "192.0.2.1:7470,[2001:db8::1]:7470", "--controller", "c:1"]);
        assert_eq!(listed.unwrap().controllers.len(), 3);
        let look = ["--discover-controllers", "ferrule/controller"];
        assert!(parse(&look).unwrap_err().contains("--api-server"));
        let server = ["--api-server", "https://192.0.2.1:6443"];
        let discovery = parse(&[&look[..], &server].concat()).unwrap().discovery().unwrap();
        assert_eq!(
            (discovery.servers.len(), discovery.service.to_string().as_str()),
            (1, "ferrule/controller")
        );
        assert!(parse(&[&look[..], &server, &["--controllers", "c:1"]].concat()).is_err());
        assert!(
            parse(&[&look[..], &["--api-server", "192.0.2.1:6443"]].concat())
                .unwrap_err()
                .contains("https://")
        );
    }
}
