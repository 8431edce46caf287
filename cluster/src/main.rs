//! `cargo xtask cluster`: the command around a cluster. What a cluster is, is the library's.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use cluster::{Builder, ControlPlane, Error, Interrupt, Options, PROGRAMS, Versions};
use lab::progress::Event;
use serde_json::json;

#[derive(Parser, Debug)]
#[command(name = "cargo xtask cluster", about = "A real Kubernetes on this machine", version = None)]
struct Arguments {
    /// Where everything of the cluster is; several clusters live side by side in different ones
    #[arg(long, global = true, value_name = "DIR", default_value = cluster::DEFAULT_STATE)]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Build what is missing (minutes, once) and bring a control plane up (seconds)
    Up {
        #[command(flatten)]
        build: Build,
        /// Leave kube-controller-manager out
        #[arg(long)]
        without_controller_manager: bool,
        /// One more flag for kube-apiserver; may be repeated
        #[arg(long = "api-server-flag", value_name = "FLAG", allow_hyphen_values = true)]
        api_server_flags: Vec<String>,
    },
    /// Only build the programs
    Build(Build),
    /// What runs, and where
    Status {
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Run the cluster's own kubectl as its administrator
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Remove everything but the built programs
    Down,
}

#[derive(clap::Args, Debug)]
struct Build {
    /// The version of Kubernetes
    #[arg(long, value_name = "VERSION", env = "FERRULE_KUBERNETES")]
    kubernetes: Option<String>,
    /// Where programs are built, by default in cargo's target directory
    #[arg(long, value_name = "DIR")]
    build_dir: Option<PathBuf>,
    /// Only these programs; may be repeated
    #[arg(long = "program", value_name = "NAME", value_parser = PROGRAMS.iter().map(|program| program.name).collect::<Vec<_>>())]
    programs: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Up { build, without_controller_manager, api_server_flags } => {
            up(&arguments.state, &build, !without_controller_manager, api_server_flags)
        }
        Command::Build(build) => self::build(&build),
        Command::Status { output } => status(&arguments.state, output),
        Command::Kubectl { arguments: words } => kubectl(&arguments.state, &words),
        Command::Down => down(&arguments.state),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

fn up(state: &Path, build: &Build, controller_manager: bool, flags: Vec<String>) -> Result<(), Error> {
    let interrupt = Interrupt::on_signals()?;
    let (began, reporter) = (Instant::now(), Reporter::default());
    let builder = builder(build)?;
    let options = Options {
        state: state.to_owned(),
        builder: builder.clone(),
        controller_manager,
        api_server_flags: flags,
    };
    let cluster = ControlPlane::up(&options, &interrupt, &|event| reporter.hear(event))?;
    // It is not part of the control plane, but of what its user wants.
    builder.build(&["kubectl"], &interrupt, &|event| reporter.hear(event))?;
    let call = call(state);
    eprintln!("{:>6.1} s  Kubernetes {} is up", began.elapsed().as_secs_f64(), cluster.versions().kubernetes);
    println!("kubeconfig: {}", cluster.admin().display());
    println!("API server: {}, in the network namespace {}", cluster.server(), cluster.namespace());
    println!("\nGo on with:\n  {call} kubectl get namespaces\n  {call} status\n  {call} down");
    Ok(())
}

fn build(build: &Build) -> Result<(), Error> {
    let interrupt = Interrupt::on_signals()?;
    let reporter = Reporter::default();
    let all: Vec<_> = PROGRAMS.iter().map(|program| program.name).collect();
    let named: Vec<_> = build.programs.iter().map(String::as_str).collect();
    let builder = builder(build)?;
    builder.build(if named.is_empty() { &all } else { &named }, &interrupt, &|event| reporter.hear(event))?;
    println!("{}", builder.binaries().display());
    Ok(())
}

fn builder(build: &Build) -> Result<Builder, Error> {
    let versions = build.kubernetes.as_deref().map_or(Ok(Versions::default()), Versions::of_kubernetes)?;
    match &build.build_dir {
        Some(directory) => Ok(Builder::new(versions, directory)),
        None => Builder::in_target(versions),
    }
}

fn status(state: &Path, output: Output) -> Result<(), Error> {
    let cluster = ControlPlane::open(state)?;
    let components = cluster.components().map(|component| {
        let process = cluster.process(component);
        let alive = process.as_ref().is_some_and(lab::process::Process::is_alive);
        let resident = process.as_ref().and_then(lab::process::Process::resident);
        json!({
            "name": component.to_string(),
            "running": alive,
            "pid": process.as_ref().map(|process| process.pid),
            "residentBytes": resident,
            "log": process.as_ref().map(|process| &process.log),
        })
    });
    let components: Vec<_> = components.collect();
    let ready = cluster.is_ready();
    let mut out = std::io::stdout().lock();
    let written = match output {
        Output::Json => {
            let ready = ready.as_ref().map_or_else(ToString::to_string, |()| "ok".to_owned());
            let all = json!({
                "apiVersion": "ferrule.io/v1alpha1",
                "kind": "Cluster",
                "kubernetes": cluster.versions().kubernetes,
                "etcd": cluster.versions().etcd,
                "ready": ready,
                "server": cluster.server(),
                "namespace": cluster.namespace(),
                "kubeconfig": cluster.admin(),
                "certificateAuthority": cluster.ca(),
                "binaries": cluster.binaries(),
                "components": components,
            });
            writeln!(out, "{all:#}")
        }
        Output::Table => {
            let lines = components.iter().map(|component| {
                let mib = component["residentBytes"].as_u64().unwrap_or(0) >> 20;
                let state = if component["running"] == true { "runs" } else { "DOWN" };
                let (name, log) = (&component["name"], &component["log"]);
                format!("{:<24} {state}  {:>7}  {mib:>5} MiB  {}\n", text(name), component["pid"], text(log))
            });
            let lines: String = lines.collect();
            let ready = match &ready {
                Ok(()) => "ready".to_owned(),
                Err(error) => format!("not ready: {error}"),
            };
            write!(
                out,
                "Kubernetes {}, {ready}\n{lines}API server  {} in {}\nkubeconfig  {}\n",
                cluster.versions().kubernetes,
                cluster.server(),
                cluster.namespace(),
                cluster.admin().display()
            )
        }
    };
    written.map_err(|source| Error::Io { what: "write to the standard output".to_owned(), source })?;
    ready
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn kubectl(state: &Path, words: &[std::ffi::OsString]) -> Result<(), Error> {
    let cluster = ControlPlane::open(state)?;
    lab::netns::enter(&lab::netns::path(&cluster.namespace()))?;
    let program = cluster.binaries().join("kubectl");
    // Becomes kubectl: signals, the terminal and the exit code are its own.
    let source = std::process::Command::new(&program).args(words).env("KUBECONFIG", cluster.admin()).exec();
    Err(Error::Io { what: format!("run {}", program.display()), source })
}

fn down(state: &Path) -> Result<(), Error> {
    let reporter = Reporter::default();
    if cluster::down(state, &|event| reporter.hear(event))? {
        eprintln!("the cluster is down; nothing of it is left but the built programs");
    } else {
        eprintln!("no cluster is up in {}", state.display());
    }
    Ok(())
}

/// How this command is called for the same cluster.
fn call(state: &Path) -> String {
    if state == Path::new(cluster::DEFAULT_STATE) {
        "cargo xtask cluster".to_owned()
    } else {
        format!("cargo xtask cluster --state {}", state.display())
    }
}

/// Plain lines on standard error; parts of a long step at most every few seconds.
#[derive(Debug)]
struct Reporter {
    said: Mutex<Instant>,
}

impl Default for Reporter {
    fn default() -> Self {
        Self { said: Mutex::new(Instant::now()) }
    }
}

impl Reporter {
    fn hear(&self, event: Event<'_>) {
        const PAUSE: Duration = Duration::from_secs(5);
        match event {
            Event::Began(step) if step.starts_with("building") => eprintln!("          {step}"),
            Event::Began(_) => {}
            Event::Part(step, done, total) => {
                // A panic elsewhere spoils no clock.
                let mut said = self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if said.elapsed() >= PAUSE {
                    *said = Instant::now();
                    eprintln!("          {step}: {done} of at most {total} packages");
                }
            }
            Event::Finished(step, elapsed) => eprintln!("{:>6.1} s  {step}", elapsed.as_secs_f64()),
            Event::Note(text) => eprintln!("{text}"),
        }
    }
}
