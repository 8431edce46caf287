//! The command line of `ferrule check`. Does nothing.

use clap::Args;

use crate::arguments::{ControllerArguments, Output};

/// Whether everything works: nodes, audits, and packets that are sent for real between all nodes, from pods, nodes and to
/// Services, by their flows' counters; where the controller is asked through a kubeconfig none is sent, and what the switches say
/// counts. With --before whether this machine is fit for Ferrule. Exit code 0: nothing is bad; 2: something is; 1: something
/// could not be looked at.
#[derive(Debug, Args)]
pub struct Check {
    /// This machine, before the installation: kernel, Open vSwitch, ports, another network, the path to its peers
    #[arg(long, conflicts_with_all = ["kubeconfig", "context"])]
    pub before: bool,

    /// Another node's address: whether large packets reach it
    #[arg(long = "peer", value_name = "ADDRESS", requires = "before")]
    pub peers: Vec<std::net::IpAddr>,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,

    #[command(flatten)]
    pub at: ControllerArguments,
}
