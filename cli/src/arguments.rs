//! The command line: commands, options, help. Does nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lab::http::Endpoint;
use network::matrix::ServedPort;

/// Ferrule: a Kubernetes network on Open vSwitch, and why each packet passes or does not.
///
/// Exit codes: 0 as expected, 1 could not be done, 2 differences, 3 a broken expectation.
#[derive(Debug, Parser)]
#[command(name = "ferrule", version, disable_help_subcommand = true)]
pub struct Ferrule {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a controller or an agent knows, live
    Get(Get),
    /// Why a packet passes or does not: the rules and flows that decide
    Explain(Explain),
    /// A packet through the live switches: what each says, and what its flows count when one is sent
    Trace(crate::trace::options::Trace),
    /// Whether a machine is fit for Ferrule before it is installed, and whether everything works after it
    Check(crate::check::options::Check),
    /// What nodes hold that they should not, or do not hold that they should
    Audit(Audit),
    /// Predict who reaches whom, without a cluster
    Matrix(Matrix),
    /// Show what a change would do to who reaches whom, before it is made
    Plan(crate::plan::Options),
    /// Keep what a controller and its agents say in one file, for other commands to work on later
    Bundle(crate::bundle::Options),
    /// Read and write OpenFlow messages
    #[command(subcommand)]
    Openflow(Openflow),
    /// A network of its own on this machine: nodes as namespaces with real Open vSwitch
    Lab(Lab),
    /// Wait until every node runs a DaemonSet's pod: for the chart's uninstall hook
    #[command(hide = true)]
    AwaitDaemonset(crate::await_daemonset::Options),
    /// The version of this command
    Version,
}

/// What `ferrule get` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resource {
    /// Nodes and their agents
    #[value(alias = "node")]
    Nodes,
    /// The bridge of every node
    #[value(alias = "switch")]
    Switches,
    /// Its ports
    #[value(alias = "port")]
    Ports,
    /// Pods and what isolates them
    #[value(alias = "pod")]
    Pods,
    /// Policies and where they are in force
    #[value(alias = "policy")]
    Policies,
    /// Tunnels between the nodes
    #[value(alias = "tunnel")]
    Tunnels,
    /// Services as each node balances them, their endpoints and the connections that these were given
    #[value(alias = "service")]
    Services,
    /// Flows, each with the object and rule that made it
    #[value(alias = "flow")]
    Flows,
    /// Why packets were dropped, and how many
    #[value(alias = "drop")]
    Drops,
    /// What could not be used, and why
    #[value(alias = "problem")]
    Problems,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For people with wide terminals
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// How a result is printed where there is nothing wider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// JSON
    Json,
}

#[derive(Debug, Args)]
pub struct Get {
    /// What to show
    #[arg(value_enum)]
    pub resource: Resource,

    /// Only this node
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// Only this namespace
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Flows that a pod's packets meet, or drops of its packets
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub pod: Option<String>,

    /// Flows that a policy made, or what it costs
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub policy: Option<String>,

    /// One Service, or the flows that it made
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub service: Option<String>,

    /// Flows of one table, by name or number
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,

    /// What policies and their rules cost in flows, counted before any is installed
    #[arg(long)]
    pub cost: bool,

    /// The cost of what these Kubernetes manifests would be, without asking anybody
    #[arg(long, value_name = "DIR", requires = "cost", conflicts_with_all = ["controller", "agent"])]
    pub manifests: Option<PathBuf>,

    /// Nodes to place the pods of the manifests on
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64), requires = "manifests")]
    pub nodes: u8,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Format,

    #[command(flatten)]
    pub endpoint: EndpointArguments,
}

/// A controller, and the way to it.
#[derive(Debug, Default, Args)]
pub struct ControllerArguments {
    /// The controller to ask: unix:PATH or http://HOST:PORT [default: the lab's if one is up, else
    /// unix:/run/ferrule/controller.sock]
    #[arg(long, env = "FERRULE_CONTROLLER", value_name = "ADDRESS")]
    pub controller: Option<Endpoint>,

    /// Find a controller through this kubeconfig and ask it as `kubectl port-forward` does; kubectl-ferrule does so by itself with
    /// $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE", conflicts_with = "controller")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", conflicts_with = "controller")]
    pub context: Option<String>,

    /// The controller is asked through its forwarded port: it tells, and changes and sends nothing.
    #[arg(skip)]
    pub forwarded: bool,
}

#[derive(Debug, Default, Args)]
pub struct EndpointArguments {
    #[command(flatten)]
    pub at: ControllerArguments,

    /// Ask a node's agent itself: unix:PATH
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["controller", "kubeconfig", "context"])]
    pub agent: Option<Endpoint>,

    /// Ask a bundle that `ferrule bundle` made
    #[arg(long, value_name = "FILE", conflicts_with_all = ["agent", "kubeconfig", "context"])]
    pub bundle: Option<PathBuf>,
}

impl EndpointArguments {
    /// This controller, or the one that is found.
    pub fn of(controller: Option<Endpoint>) -> Self {
        let at = ControllerArguments { controller, ..ControllerArguments::default() };
        Self { at, ..Self::default() }
    }
}

/// Why a packet passes or does not. Exit code 0: it passes; 2: it does not; 1: nobody can tell.
#[derive(Debug, Args)]
pub struct Explain {
    /// Who sends: a pod, workload, Service or node (kind:NAME where a name is not clear), an address, or `outside`
    pub from: String,

    /// Who receives
    pub to: String,

    /// tcp/80, udp/53, sctp/9999, icmp, or the name of a port of the receiver's [default: the only port that it declares]
    #[arg(long, short, value_name = "PORT")]
    pub port: Option<crate::explain::Wanted>,

    /// A later packet, of a connection that was there before the policies
    #[arg(long)]
    pub established: bool,

    /// What comes back from TO on such a connection
    #[arg(long, conflicts_with = "established")]
    pub reply: bool,

    /// The node by which outside comes in [default: the receiver's own]
    #[arg(long, value_name = "NODE")]
    pub via: Option<String>,

    /// A directory of Kubernetes manifests, without a cluster [default: what a controller knows]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["controller", "agent"])]
    pub manifests: Option<PathBuf>,

    /// Nodes to place the manifests' pods on, where they have no Node objects
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,

    /// Without the flows
    #[arg(long)]
    pub brief: bool,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,

    #[command(flatten)]
    pub endpoint: EndpointArguments,
}

/// What is not as it should be on the nodes: flows, meters, groups, the bridge and its ports, routes, settings, nftables; and
/// what agents put right by themselves within the last hour. Changes nothing without --repair. Exit code 0: all is as it should
/// be; 2: something is not; 1: something could not be looked at.
#[derive(Debug, Args)]
pub struct Audit {
    /// Have it put right. This also takes out of the bridge what nobody of Ferrule's put there: ports and groups
    #[arg(long, conflicts_with = "bundle")]
    pub repair: bool,

    /// Only this node
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,

    #[command(flatten)]
    pub endpoint: EndpointArguments,
}

impl Explain {
    /// A question about the first packet from one end to another.
    pub fn about(from: &str, to: &str, port: crate::explain::Wanted) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            port: Some(port),
            established: false,
            reply: false,
            via: None,
            manifests: None,
            nodes: 2,
            brief: true,
            output: Output::Table,
            endpoint: EndpointArguments::of(None),
        }
    }

    /// Which packet of a connection is meant.
    pub fn phase(&self) -> compiler::explain::Phase {
        match (self.established, self.reply) {
            (true, _) => compiler::explain::Phase::Established,
            (_, true) => compiler::explain::Phase::Reply,
            _ => compiler::explain::Phase::New,
        }
    }
}

/// Which engine predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The evaluator that defines the semantics
    Reference,
    /// The compiled flows, simulated
    Flows,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub struct Matrix {
    /// Scenarios, one JSON object a line or a list of them; `-` for the standard input
    #[arg(long, value_name = "FILE", group = "input")]
    pub scenario: Option<PathBuf>,

    /// A directory of Kubernetes manifests
    #[arg(long, value_name = "DIR", group = "input")]
    pub manifests: Option<PathBuf>,

    /// Nodes to place the pods on
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,

    /// Beside the pods of manifests: nodes, Services and somebody outside of the cluster
    #[arg(long, conflicts_with = "scenario")]
    pub all: bool,

    /// What predicts
    #[arg(long, value_enum, default_value = "reference")]
    pub engine: Engine,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Openflow {
    /// Show messages: hexadecimal lines in, one JSON object a line out
    Decode {
        /// Hexadecimal digits of one message or several; lines of the standard input when none are given
        hex: Vec<String>,
    },
    /// Write ovs-ofctl's syntax as messages: one a line in, hexadecimal digits out
    Encode {
        /// What the lines are
        #[arg(value_enum)]
        what: Encoded,
        /// Flows, groups or meters; lines of the standard input when none are given
        text: Vec<String>,
        /// What the message does, as in ovs-ofctl
        #[arg(long, value_enum, default_value_t)]
        command: Modification,
    },
    /// Show live what a bridge and its controller say to each other
    Monitor {
        /// The bridge
        bridge: String,
        /// Where its sockets are
        #[arg(long, env = "OVS_RUNDIR", default_value = "/var/run/openvswitch", value_name = "DIR")]
        ovs_rundir: PathBuf,
        /// Only messages whose name contains one of these (flow_mod,packet_in)
        #[arg(long, value_delimiter = ',', value_name = "NAME")]
        only: Vec<String>,
    },
}

/// What `ferrule openflow encode` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encoded {
    /// Flows
    Flow,
    /// Groups
    Group,
    /// Meters
    Meter,
}

/// ovs-ofctl's commands: add-flow, mod-flows, mod-flows --strict, …
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Modification {
    /// Add
    #[default]
    Add,
    /// Change what is covered
    Mod,
    /// Change exactly this one (flows)
    ModStrict,
    /// Add or change (groups)
    AddOrMod,
    /// Delete what is covered
    Del,
    /// Delete exactly this one (flows)
    DelStrict,
}

#[derive(Debug, Args)]
pub struct Lab {
    /// Everything of the lab goes here; several labs live side by side in several directories
    #[arg(long, global = true, env = "FERRULE_LAB_STATE", value_name = "DIR", default_value = lab::layout::DEFAULT_STATE)]
    pub state: PathBuf,

    #[command(subcommand)]
    pub command: LabCommand,
}

#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Bring a lab up
    Up(Up),
    /// Show nodes, pods, processes and sockets
    Status {
        /// How to print
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Run a program in a pod (NAMESPACE/POD), on a node (node:NAME), or between the nodes (underlay)
    Exec {
        /// Where
        #[arg(value_name = "NAMESPACE/POD")]
        place: String,
        /// The program and its arguments
        #[arg(required = true, last = true, value_name = "CMD")]
        command: Vec<std::ffi::OsString>,
    },
    /// Probe every pair of pods and nodes on every served port, beside what is predicted
    Matrix {
        /// How to print
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
        #[command(flatten)]
        objects: Objects,
    },
    /// Plug and unplug pods after the manifests changed (policies follow by themselves)
    Sync(Objects),
    /// Kill a component and start it anew: [NODE] ovs-vswitchd|ovsdb-server|agent|controller
    Restart(Component),
    /// End a component
    Stop(Component),
    /// Start a component that was stopped
    Start(Component),
    /// Take the lab down, whatever is left of it
    Down,
    /// Up, the matrix, the flows of a pod, how to go on, down
    Demo(Demo),
    /// Measure: up, memory, policy edit to barrier, ADD, throughput, new connections
    Bench(Bench),
    /// What answers in a pod (started by the lab)
    #[command(hide = true)]
    Responder(Responder),
}

#[derive(Debug, Args)]
pub struct Objects {
    /// The objects of a lab whose objects are in a Kubernetes API, as `kubectl get nodes,namespaces,pods,services,netpol -A -o json`
    /// prints them; `-` for the standard input
    #[arg(long, value_name = "FILE")]
    pub objects: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct Up {
    /// Kubernetes manifests: a directory of YAML or JSON, read again when it changes [default: a small shop, written to
    /// STATE/manifests]
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,

    /// A Kubernetes API in place of manifests, reached by this kubeconfig. You play scheduler and kubelet: register the nodes
    /// (STATE/node-manifests), and plug pods with `ferrule lab sync --objects`
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,

    /// The network namespace in which that API server listens (as `cargo xtask cluster up` says it)
    #[arg(long, value_name = "NAMESPACE", requires = "kubeconfig")]
    pub join: Option<String>,

    /// Controllers write down everything that happens to them, for `ferrule-controller --replay`
    #[arg(long)]
    pub record: bool,

    /// How many nodes
    #[arg(long, default_value_t = 2)]
    pub nodes: usize,

    /// ipv4, ipv6 or dual
    #[arg(long, default_value = "ipv4")]
    pub family: lab::Family,

    /// What the switches forward with: netdev (userspace), or system (the kernel, whose module openvswitch must be loaded)
    #[arg(long, env = "FERRULE_LAB_DATAPATH", value_name = "netdev|system", default_value = "netdev")]
    pub datapath: lab::Datapath,

    /// How many controllers, 1 or 2
    #[arg(long, default_value_t = 1)]
    pub controllers: u8,

    /// Where ferrule-agent, ferrule-cni and ferrule-controller are [default: beside this command]
    #[arg(long, env = "FERRULE_BIN_DIR", value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Component {
    /// [NODE] COMPONENT; the controller needs no node
    #[arg(required = true, num_args = 1..=2, value_names = ["NODE", "COMPONENT"])]
    pub words: Vec<String>,

    /// The signal that ends it, such as TERM [default: KILL, as a crash does]
    #[arg(long, value_name = "SIGNAL")]
    pub signal: Option<String>,
}

#[derive(Debug, Args)]
pub struct Demo {
    #[command(flatten)]
    pub up: Up,

    /// Leave the lab up
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// How many nodes
    #[arg(long, default_value_t = 2)]
    pub nodes: usize,

    /// ipv4, ipv6 or dual
    #[arg(long, default_value = "ipv4")]
    pub family: lab::Family,

    /// Where ferrule-agent, ferrule-cni and ferrule-controller are [default: beside this command]
    #[arg(long, env = "FERRULE_BIN_DIR", value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// How many policy edits to measure
    #[arg(long, default_value_t = 200)]
    pub edits: usize,

    /// How many attachments to measure, of each kind
    #[arg(long, default_value_t = 20)]
    pub attachments: usize,
}

#[derive(Debug, Args)]
pub struct Responder {
    /// What it says it is
    #[arg(long)]
    pub identity: String,

    /// A port to serve, such as TCP/80
    #[arg(long = "port")]
    pub ports: Vec<ServedPort>,

    /// Listen on this address only
    #[arg(long = "address")]
    pub addresses: Vec<std::net::IpAddr>,

    /// Written once it listens
    #[arg(long)]
    pub ready: PathBuf,
}
