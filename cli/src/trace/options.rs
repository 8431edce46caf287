//! The command line of `ferrule trace`. Does nothing.

use clap::Args;

use crate::arguments::{ControllerArguments, Explain, Output};

/// A packet through the switches of a live cluster, beside the model's way: what each switch says that it would do, and what its
/// flows count when one packet like it is sent. Exit code 0: it passes; 2: it is denied; 3: model, program, switch and packet
/// do not agree; 1: not all could be asked.
#[derive(Debug, Args)]
pub struct Trace {
    /// Who sends: a pod, workload, Service or node (kind:NAME where a name is not clear), an address, or `outside`
    pub from: String,

    /// Who receives
    pub to: String,

    /// tcp/80, udp/53, sctp/9999, icmp, or the name of a port of the receiver's [default: the only port that it declares]
    #[arg(long, short, value_name = "PORT")]
    pub port: Option<crate::explain::Wanted>,

    /// The node by which outside comes in [default: the receiver's own]
    #[arg(long, value_name = "NODE")]
    pub via: Option<String>,

    /// Send nothing: what the switches say alone. Without it the controller has to be asked over its socket
    #[arg(long)]
    pub no_probe: bool,

    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,

    #[command(flatten)]
    pub at: ControllerArguments,
}

impl Trace {
    /// The same packet, to be explained.
    pub fn question(&self) -> Explain {
        let icmp = crate::explain::Wanted::Icmp;
        Explain {
            port: self.port.clone(),
            via: self.via.clone(),
            output: self.output,
            ..Explain::about(&self.from, &self.to, icmp)
        }
    }
}
