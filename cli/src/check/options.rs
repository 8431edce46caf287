//! The command line of `ferrule check`. Does nothing.

use clap::Args;
use lab::http::Endpoint;

use crate::arguments::{EndpointArguments, Output};

/// Whether everything works: nodes, audits, and packets that are sent for real between all nodes, from pods, nodes and to
/// Services, by their flows' counters. With --before whether this machine is fit for Ferrule. Exit code 0: nothing is bad; 2:
/// something is; 1: something could not be looked at.
#[derive(Debug, Args)]
pub struct Check {
    /// This machine, before the installation: kernel, Open vSwitch, ports, another network, the path to its peers
    #[arg(long)]
    pub before: bool,

    /// Another node's address: whether large packets reach it
    #[arg(long = "peer", value_name = "ADDRESS", requires = "before")]
    pub peers: Vec<std::net::IpAddr>,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,

    /// The controller to ask: unix:PATH [default: the lab's if one is up, else unix:/run/ferrule/controller.sock]
    #[arg(long, env = "FERRULE_CONTROLLER", value_name = "ADDRESS")]
    pub controller: Option<Endpoint>,
}

impl Check {
    /// Whom to ask.
    pub fn endpoint(&self) -> EndpointArguments {
        EndpointArguments::of(self.controller.clone())
    }
}
