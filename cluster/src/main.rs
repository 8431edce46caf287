//! `cargo xtask cluster`: the command around a cluster. What a cluster is, is the library's.

mod archive;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use cluster::{Builder, ControlPlane, Error, Interrupt, NodeIndex, Nodes, Options, PROGRAMS, Versions};
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
        /// Whole nodes: each a set of namespaces with its own containerd, runc and kubelet, and no network yet
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=32))]
        nodes: u8,
        /// A docker-archive that every node imports; may be repeated
        #[arg(long = "image", value_name = "FILE")]
        images: Vec<PathBuf>,
        /// Nodes, pods and Services have addresses of IPv6, too
        #[arg(long)]
        dual_stack: bool,
        /// Import what Kubernetes' own tests run, too
        #[arg(long)]
        test_images: bool,
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
    /// Run a command on a node, in all its namespaces
    Exec {
        node: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Run another program of the cluster (helm, e2e.test) as its administrator, in the control plane's namespace
    Run {
        program: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Run specs of Kubernetes' own e2e.test; what became of each is JSON on standard output
    E2e(cluster::e2e::Specs),
    /// Write a container image from files of this machine
    Image(archive::Arguments),
    /// What a node is, from its control groups on
    #[command(hide = true)]
    Node { name: String },
    /// A node's first process
    #[command(hide = true)]
    NodeInit { name: String },
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
        Command::Up {
            build,
            without_controller_manager,
            nodes,
            images,
            dual_stack,
            test_images,
            api_server_flags,
        } => own_nodes(nodes, images, test_images, dual_stack).and_then(|nodes| {
            up(&arguments.state, &build, !without_controller_manager, nodes, api_server_flags)
        }),
        Command::Image(image) => archive::write(&image),
        Command::Exec { node, arguments: words } => exec(&arguments.state, &node, &words),
        Command::Run { program, arguments: words } => run(&arguments.state, &program, &words),
        Command::E2e(specs) => e2e(&arguments.state, &specs),
        Command::Node { name } => {
            ControlPlane::open(&arguments.state).and_then(|cluster| cluster::node::enter(&cluster, &name))
        }
        Command::NodeInit { name } => {
            ControlPlane::open(&arguments.state).and_then(|cluster| cluster::node::init(&cluster, &name))
        }
        Command::Build(build) => self::build(&build),
        Command::Status { output } => status(&arguments.state, output),
        Command::Kubectl { arguments: words } => run(&arguments.state, "kubectl", &words),
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

/// Nodes whose first process is this program.
fn own_nodes(
    count: u8,
    images: Vec<PathBuf>,
    for_tests: bool,
    dual_stack: bool,
) -> Result<Option<Nodes>, Error> {
    if count == 0 {
        return Ok(None);
    }
    let failed = |what: String| move |source| Error::Io { what, source };
    let command = std::env::current_exe().map_err(failed("tell where this program is".to_owned()))?;
    let images = images
        .iter()
        .map(|image| std::path::absolute(image).map_err(failed(format!("find {}", image.display()))));
    Ok(Some(Nodes { count, command, images: images.collect::<Result<_, _>>()?, for_tests, dual_stack }))
}

fn up(
    state: &Path,
    build: &Build,
    controller_manager: bool,
    nodes: Option<Nodes>,
    flags: Vec<String>,
) -> Result<(), Error> {
    let interrupt = Interrupt::on_signals()?;
    let (began, reporter) = (Instant::now(), Reporter::default());
    let builder = builder(build)?;
    let options = Options {
        state: state.to_owned(),
        builder: builder.clone(),
        controller_manager,
        api_server_flags: flags,
        nodes,
    };
    let cluster = ControlPlane::up(&options, &interrupt, &|event| reporter.hear(event))?;
    // It is not part of the control plane, but of what its user wants.
    builder.build(&["kubectl"], &interrupt, &|event| reporter.hear(event))?;
    let call = call(state);
    eprintln!("{:>6.1} s  Kubernetes {} is up", began.elapsed().as_secs_f64(), cluster.versions().kubernetes);
    for place in cluster.nodes().into_iter().flat_map(Nodes::indexes).map(|node| cluster.node(node)) {
        println!("{}: {}, in the network namespace {}", place.name, place.address, place.namespace);
    }
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
    let nodes: Vec<_> = cluster
        .nodes()
        .into_iter()
        .flat_map(Nodes::indexes)
        .map(|node| node_status(&cluster, node))
        .collect();
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
                "nodes": nodes,
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
            let mut lines: String = lines.collect();
            for node in &nodes {
                let state = if node["running"] == true { "runs" } else { "DOWN" };
                let (name, address, namespace) = (&node["name"], &node["address"], &node["namespace"]);
                let (name, address, namespace) = (text(name), text(address), text(namespace));
                lines
                    .push_str(&format!("{name:<24} {state}  {:>7}  {address} in {namespace}\n", node["pid"]));
            }
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

/// A node and its first process, as this machine sees it.
fn node_status(cluster: &ControlPlane, node: NodeIndex) -> serde_json::Value {
    let place = cluster.node(node);
    let pid = place.init();
    json!({
        "name": place.name,
        "address": place.address,
        "secondAddress": place.second,
        "namespace": place.namespace,
        "running": pid.is_some_and(|pid| lab::process::start_time(pid).is_some()),
        "pid": pid,
        "logs": cluster.logs(),
    })
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn run(state: &Path, program: &str, words: &[std::ffi::OsString]) -> Result<(), Error> {
    let cluster = ControlPlane::open(state)?;
    lab::netns::enter(&lab::netns::path(&cluster.namespace()))?;
    // Becomes the program: signals, the terminal and the exit code are its own.
    let source = cluster.tool(program).args(words).exec();
    let place = cluster.binaries().join(program);
    Err(Error::Io { what: format!("run {} (`cluster build --program {program}`)", place.display()), source })
}

fn e2e(state: &Path, specs: &cluster::e2e::Specs) -> Result<(), Error> {
    let ran = ControlPlane::open(state)?.e2e(specs)?;
    writeln!(std::io::stdout(), "{}", json!(ran.specs))
        .map_err(|source| Error::Io { what: "write to the standard output".to_owned(), source })
}

fn exec(state: &Path, node: &str, words: &[std::ffi::OsString]) -> Result<(), Error> {
    let cluster = ControlPlane::open(state)?;
    let count = cluster.nodes().map_or(0, |nodes| nodes.count);
    let index = (1..=count).map(NodeIndex).find(|index| index.name().as_str() == node);
    let missing = || Error::NoNode { node: node.to_owned(), state: state.to_owned() };
    let (program, rest) = words.split_first().ok_or_else(missing)?;
    let mut command = cluster.on_node(index.ok_or_else(missing)?, &program.to_string_lossy())?;
    let source = command.args(rest).exec();
    Err(Error::Io { what: format!("run {} on {node}", program.to_string_lossy()), source })
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
                    let what = if step.starts_with("building") { " packages" } else { "" };
                    eprintln!("          {step}: {done} of at most {total}{what}");
                }
            }
            Event::Finished(step, elapsed) => eprintln!("{:>6.1} s  {step}", elapsed.as_secs_f64()),
            Event::Note(text) => eprintln!("{text}"),
        }
    }
}
