//! `cargo xtask`: the commands of this repository. Knows cargo and the machine; nothing of networks.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod codegen;
mod workspace;

#[derive(Parser, Debug)]
#[command(name = "cargo xtask", about = "The commands of this repository", version = None)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Generate api/src/generated from api/proto (no protoc needed)
    Codegen {
        /// Only say what is stale; exit 2 if something is
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Task::Codegen { check } => codegen::run(check),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(1)
    })
}
