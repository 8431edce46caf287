//! What `ferrule plan` is told. Does nothing.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::{EndpointArguments, Output};

/// Show what a change would do to who reaches whom, before it is made
#[derive(Debug, Args)]
pub struct Options {
    /// The change: files or directories of manifests, whose objects take the place of those of their names; `-` for the
    /// standard input
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// The objects of the files go instead; with a namespace everything that is in it
    #[arg(long)]
    pub delete: bool,

    /// What is there before: a directory of Kubernetes manifests [default: what a controller knows]
    #[arg(long, value_name = "DIR", conflicts_with = "bundle")]
    pub manifests: Option<PathBuf>,

    /// Nodes to place the pods on, when the manifests have none
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,

    /// What must be so after the change: a file of expectations (docs/contracts.md)
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,

    /// Count flows per node whatever the size of the network
    #[arg(long)]
    pub costs: bool,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,

    #[command(flatten)]
    pub endpoint: EndpointArguments,
}
