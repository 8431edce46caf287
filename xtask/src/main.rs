//! `cargo xtask`: the commands of this repository. Knows cargo and the machine; nothing of networks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod cluster;
mod codegen;
mod conformance;
mod distribution;
mod images;
mod kernel;
mod lab;
mod skips;
mod soak;
mod tally;
mod test;
mod tidy;
mod workspace;

#[derive(Parser, Debug)]
#[command(name = "cargo xtask", about = "The commands of this repository", version = None)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Two nodes on real Open vSwitch in network namespaces: pods plugged, a policy enforced, flows on screen
    Lab {
        /// Options for the demonstration (`ferrule lab demo`), or any other `ferrule lab` command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A real Kubernetes on this machine, with nodes or without: up, build, status, kubectl, exec, down
    Cluster {
        /// A command and its options (`cargo xtask cluster -- --help`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Ferrule's container images, as archives in target/images; no container engine needed
    Images,
    /// Every tier of tests that this machine can run, and a list of what it could not
    Test {
        /// quick (tidy and unit: no root, no Open vSwitch), tidy, unit, switch, simulation, dataplane, cluster
        tiers: Vec<String>,
    },
    /// Upstream's own suites against Ferrule on whole nodes; what passed is not run again (minutes to hours)
    Conformance {
        /// conformance, networkpolicy, cnp, cyclonus, network, dualstack
        suites: Vec<String>,
        /// The state directory of a cluster that is up, in place of one of its own
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// Of e2e.test's specs only those whose names contain this; may be repeated
        #[arg(long, value_name = "TEXT")]
        only: Vec<String>,
    },
    /// Pods in waves on three whole nodes while everything of the network is killed and restarted; exit 2 if something is left, lost or let
    /// in (root; not part of the tests)
    Soak {
        /// How long waves and kills go on
        #[arg(long, default_value_t = 20)]
        minutes: u64,
        /// Pods that come and go
        #[arg(long, default_value_t = 300)]
        pods: u32,
        /// The state directory of a cluster that is up, in place of one of its own
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// An emulated machine with the distribution's kernel: the lab on the kernel's datapath; exit 2 if something is wrong (not part of
    /// the tests)
    Kernel {
        /// Files of tests/tests to run there in place of kernel_datapath, such as dataplane_services
        tests: Vec<String>,
        /// How long the machine may take
        #[arg(long, default_value_t = 15)]
        minutes: u64,
        /// Not emulated, but by this machine's own processor (KVM)
        #[arg(long)]
        kvm: bool,
    },
    /// The benchmarks and their ratios
    Bench {
        /// openflow, ovsdb, network, compiler, controller, agent, lab, cluster
        names: Vec<String>,
    },
    /// The architecture's invariants and the habits of the house; exit 2 if something is found
    Tidy,
    /// Generate api/src/generated from api/proto (no protoc needed)
    Codegen {
        /// Only say what is stale; exit 2 if something is
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Task::Lab { arguments } => lab::run(&arguments),
        Task::Cluster { arguments } => cluster::run(&arguments),
        Task::Images => images::run(),
        Task::Test { tiers } => test::run(&tiers),
        Task::Conformance { suites, state, only } => conformance::run(&suites, state.as_deref(), &only),
        Task::Soak { minutes, pods, state } => soak::run(minutes, pods, state.as_deref()),
        Task::Kernel { tests, minutes, kvm } => kernel::run(&tests, kernel::Machine { minutes, kvm }),
        Task::Bench { names } => bench::run(&names),
        Task::Tidy => tidy::run(),
        Task::Codegen { check } => codegen::run(check),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(1)
    })
}
