//! The commands of `ferrule`: what they are called, what they print, and their exit codes. Asks daemons and libraries; is no
//! daemon itself.

mod arguments;
mod audit;
mod await_daemonset;
mod bundle;
mod check;
mod cost;
mod explain;
mod fail;
mod flows;
mod get;
mod grid;
mod kubeconfig;
mod lab;
mod matrix;
mod model;
mod openflow;
mod paint;
mod plan;
mod resource;
mod table;
mod trace;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::{Command, Ferrule};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
pub use fail::{Fail, Outcome};

/// Runs one command line. The name under which it was called decides what usage messages say: as a plugin of kubectl it is
/// `kubectl ferrule`.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = Ferrule::command();
    let by_kubectl = called_by_kubectl(words.first());
    if by_kubectl {
        command = command.bin_name("kubectl ferrule").display_name("kubectl ferrule");
    }
    let parsed =
        command.try_get_matches_from_mut(&words).and_then(|matches| Ferrule::from_arg_matches(&matches));
    let mut ferrule = match parsed {
        Ok(ferrule) => ferrule,
        Err(error) => {
            // Nothing can be done when even the message cannot be printed.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Outcome::Expected } else { Outcome::Failed }.into();
        }
    };
    // Held until the command has ended.
    let tunnel = kubeconfig::tunnel(&mut ferrule.command, by_kubectl);
    match tunnel.and_then(|_tunnel| dispatch(ferrule.command)) {
        Ok(outcome) => outcome.into(),
        Err(Fail::Quiet) => Outcome::Failed.into(),
        Err(Fail::Exit(code)) => ExitCode::from(code),
        Err(Fail::Said(message)) => {
            let paint = paint::Paint::stderr();
            eprintln!("{} {message}", paint.error("error:"));
            Outcome::Failed.into()
        }
    }
}

fn dispatch(command: Command) -> Result<Outcome, Fail> {
    match command {
        Command::Get(get) => get::run(&get),
        Command::Audit(audit) => audit::run(&audit),
        Command::Explain(explain) => explain::run(&explain),
        Command::Trace(trace) => trace::run(&trace),
        Command::Check(check) => check::run(&check),
        Command::Matrix(matrix) => matrix::run(&matrix),
        Command::Plan(plan) => plan::run(&plan),
        Command::Bundle(bundle) => bundle::run(&bundle),
        Command::Openflow(command) => openflow::run(&command),
        Command::Lab(command) => lab::run(command),
        Command::AwaitDaemonset(options) => await_daemonset::run(&options),
        Command::Version => {
            println!("ferrule {}", env!("CARGO_PKG_VERSION"));
            Ok(Outcome::Expected)
        }
    }
}

fn called_by_kubectl(name: Option<&OsString>) -> bool {
    name.map(std::path::Path::new)
        .and_then(|path| path.file_name())
        .is_some_and(|name| name == "kubectl-ferrule" || name == "kubectl_ferrule")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(words: &[&str]) -> String {
        format!("{:?}", run(words.iter().map(OsString::from)))
    }

    #[test]
    fn the_command_line_is_consistent_and_wrong_usage_is_one() {
        Ferrule::command().debug_assert();
        assert_eq!(code(&["ferrule", "nonsense"]), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code(&["ferrule", "get", "flows", "-o", "xml"]), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code(&["ferrule", "version"]), format!("{:?}", ExitCode::SUCCESS));
        assert!(called_by_kubectl(Some(&"/usr/bin/kubectl-ferrule".into())));
        assert!(!called_by_kubectl(Some(&"ferrule".into())));
    }
}
