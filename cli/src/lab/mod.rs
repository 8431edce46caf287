//! `ferrule lab`: the commands around one lab. What a lab is, is the library's.

mod bench;
mod demo;
mod objects;
mod progress;
mod responder;
mod status;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::measure::Measured;
use lab::{Component, Interrupt, Kubernetes, Lab, NodeIndex, Options, Problem};
use nix::sys::signal::Signal;

use crate::arguments::{self, LabCommand, Objects, Output, Up};
use crate::fail::{Fail, Outcome};
use crate::get::json;
use crate::grid;
use crate::paint::Paint;
use progress::Reporter;

pub fn run(arguments: arguments::Lab) -> Result<Outcome, Fail> {
    let state = arguments.state;
    match arguments.command {
        LabCommand::Up(up) => self::up(&state, &up),
        LabCommand::Status { output } => status::run(&state, output),
        LabCommand::Exec { place, command } => exec(&state, &place, &command),
        LabCommand::Matrix { output, objects } => matrix(&state, output, &objects),
        LabCommand::Sync(objects) => sync(&state, &objects),
        LabCommand::Restart(component) => control(&state, &component, Verb::Restart),
        LabCommand::Stop(component) => control(&state, &component, Verb::Stop),
        LabCommand::Start(component) => control(&state, &component, Verb::Start),
        LabCommand::Down => down(&state),
        LabCommand::Demo(demo) => demo::run(&state, &demo),
        LabCommand::Bench(bench) => bench::run(&state, &bench),
        LabCommand::Responder(responder) => responder::run(&responder),
    }
}

fn up(state: &Path, up: &Up) -> Result<Outcome, Fail> {
    let interrupt = Interrupt::on_signals()?;
    let lab = bring_up(state, up, &interrupt)?;
    let outcome = report(&lab.problems());
    println!("\nGo on with:\n{}", how_to_go_on(&lab));
    Ok(outcome)
}

/// Brings a lab up, saying what happens.
fn bring_up(state: &Path, up: &Up, interrupt: &Interrupt) -> Result<Lab, Fail> {
    let options = Options {
        state: state.to_owned(),
        binaries: binaries(up)?,
        nodes: up.nodes,
        family: up.family,
        datapath: up.datapath,
        controllers: up.controllers,
        manifests: up.manifests.clone(),
        kubernetes: up.kubeconfig.clone().map(|kubeconfig| Kubernetes { kubeconfig, join: up.join.clone() }),
        recorded: up.record,
    };
    let reporter = Reporter::new();
    let lab = Lab::up(&options, interrupt, &|event| reporter.hear(event))?;
    let record = lab.record();
    let plugged = record.pods.values().filter(|pod| pod.is_plugged()).count();
    reporter.finish(&format!(
        "lab {} is up: {} nodes, {plugged} of {} pods, {}",
        lab.layout().id(),
        record.nodes,
        record.pods.len(),
        record.family
    ));
    Ok(lab)
}

/// The folder of the binaries: the one that was named, else our own.
fn binaries(up: &Up) -> Result<PathBuf, Fail> {
    if let Some(directory) = &up.bin_dir {
        return Ok(directory.clone());
    }
    let own =
        std::env::current_exe().map_err(|error| format!("cannot tell where this command is: {error}"))?;
    Ok(own.parent().map_or_else(|| PathBuf::from("."), Path::to_owned))
}

/// Tells what did not work; 1 when something did not.
fn report(problems: &[Problem]) -> Outcome {
    let paint = Paint::stderr();
    for problem in problems {
        let label = if problem.is_warning { paint.warning("warning:") } else { paint.error("error:") };
        let source = if problem.source.is_empty() { String::new() } else { format!(" ({})", problem.source) };
        let place = format!("{}{source}", paint.bold(&problem.object));
        eprintln!("{label} {}: {}", place.trim_start(), problem.message);
    }
    match problems.iter().filter(|problem| !problem.is_warning).count() {
        0 => Outcome::Expected,
        count => {
            eprintln!("{count} problem(s); everything else works");
            Outcome::Failed
        }
    }
}

/// What one can do with a lab that is up.
fn how_to_go_on(lab: &Lab) -> String {
    let state = lab.layout().state();
    let command = if state == Path::new(lab::layout::DEFAULT_STATE) {
        "ferrule lab".to_owned()
    } else {
        format!("ferrule lab --state {}", state.display())
    };
    let get = if state == Path::new(lab::layout::DEFAULT_STATE) {
        "ferrule get".to_owned()
    } else {
        format!("FERRULE_LAB_STATE={} ferrule get", state.display())
    };
    let pod = lab.record().pods.keys().next().map_or("NAMESPACE/POD".to_owned(), ToString::to_string);
    let manifests = lab.record().manifests.display();
    let rows = [
        (format!("{command} matrix"), "probe every pair, beside what is predicted"),
        (format!("{get} flows --pod {pod}"), "every flow with the rule that made it"),
        (format!("{get} policies"), "policies and where they are in force"),
        (format!("{command} exec {pod} -- ip addr"), "look around in a pod"),
        (format!("{command} restart node-1 ovs-vswitchd"), "crash the switch and see it come back"),
        (format!("$EDITOR {manifests}"), "edit a policy: it is in force when you have saved"),
        (format!("{command} down"), "remove everything"),
    ];
    let width = rows.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let paint = Paint::stdout();
    let lines: Vec<_> = rows
        .iter()
        .map(|(command, what)| {
            format!("  {}  {}", paint.name(format!("{command:<width$}")), paint.dim(format!("# {what}")))
        })
        .collect();
    lines.join("\n")
}

fn exec(state: &Path, place: &str, command: &[std::ffi::OsString]) -> Result<Outcome, Fail> {
    let lab = Lab::open(state)?;
    let place = lab.place(place)?;
    let Some((program, words)) = command.split_first() else {
        return Err(Fail::Said("say which program to run, after `--`".to_owned()));
    };
    lab::netns::enter(&place.netns_path())?;
    let mut process = Command::new(program);
    process.args(words).envs(place.environment().iter().cloned()).env("PATH", lab::command::search_path());
    // Becomes the program: signals, the terminal and the exit code are its own.
    let error = process.exec();
    eprintln!("{} cannot run {}: {error}", Paint::stderr().error("error:"), program.to_string_lossy());
    Err(Fail::Exit(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }))
}

fn matrix(state: &Path, output: Output, objects: &Objects) -> Result<Outcome, Fail> {
    let interrupt = Interrupt::on_signals()?;
    let mut lab = Lab::open(state)?.interrupted_by(&interrupt);
    if let Some(objects) = objects::of(&lab, objects)? {
        let reporter = Reporter::new();
        return print(&lab.measure_objects(&objects)?, reporter, output);
    }
    if lab.is_behind()? {
        let reporter = Reporter::new();
        let (unplugged, plugged) = lab.sync(&|event| reporter.hear(event))?;
        reporter
            .finish(&format!("the manifests have changed: {unplugged} pods unplugged, {plugged} plugged"));
        report(&lab.problems());
    }
    measure(&lab, output)
}

/// Probes and prints; 2 when something differs.
fn measure(lab: &Lab, output: Output) -> Result<Outcome, Fail> {
    let reporter = Reporter::new();
    let measured = lab.measure(&|done, total| reporter.part("probing", done, total))?;
    print(&measured, reporter, output)
}

fn print(measured: &Measured, reporter: Reporter, output: Output) -> Result<Outcome, Fail> {
    reporter.finish(&format!("{} probes", measured.probes));
    let differ = measured.differences.len();
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            let line = serde_json::to_string(&measured.json()).map_err(|error| error.to_string())?;
            writeln!(out, "{line}")?;
        }
        Output::Table => {
            let paint = Paint::stdout();
            out.write_all(grid::beside(&measured.observed, &measured.predicted, paint).as_bytes())?;
            for remark in &measured.remarks {
                writeln!(out, "{} {remark}", paint.warning("note:"))?;
            }
            for difference in &measured.differences {
                let cell = |cell: Option<network::matrix::Cell>| match cell.map(network::matrix::Cell::symbol)
                {
                    Some('.') => "passes",
                    Some('X') => "is blocked",
                    Some(_) => "is not served",
                    None => "is not there",
                };
                writeln!(
                    out,
                    "{} {} → {} {}: observed, it {}; predicted, it {}",
                    paint.error("difference:"),
                    difference.from,
                    difference.to,
                    difference.port,
                    cell(difference.left),
                    cell(difference.right)
                )?;
            }
            if differ == 0 {
                writeln!(out, "\n{}", paint.good("No difference: what passes is what the policies say."))?;
            } else {
                writeln!(out, "\n{}", paint.error(format!("{differ} difference(s).")))?;
            }
        }
    }
    Ok(if differ == 0 { Outcome::Expected } else { Outcome::Differences })
}

fn sync(state: &Path, objects: &Objects) -> Result<Outcome, Fail> {
    let interrupt = Interrupt::on_signals()?;
    let mut lab = Lab::open(state)?.interrupted_by(&interrupt);
    let reporter = Reporter::new();
    let (unplugged, plugged) = match objects::of(&lab, objects)? {
        Some(objects) => lab.run_pods(&objects)?,
        None => lab.sync(&|event| reporter.hear(event))?,
    };
    reporter.finish(&format!("{unplugged} pods unplugged, {plugged} plugged"));
    Ok(report(&lab.problems()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Restart,
    Stop,
    Start,
}

fn control(state: &Path, component: &arguments::Component, verb: Verb) -> Result<Outcome, Fail> {
    let interrupt = Interrupt::on_signals()?;
    let lab = Lab::open(state)?.interrupted_by(&interrupt);
    let (node, component, signal) = parse_component(&lab, component)?;
    let reporter = Reporter::new();
    let what = match component {
        controller if controller.is_controller() => controller.to_string(),
        other => format!("{} of {}", other, node.name()),
    };
    match verb {
        Verb::Restart => lab.restart(node, component, signal)?,
        Verb::Stop => lab.stop(node, component, signal)?,
        Verb::Start => lab.start(node, component)?,
    }
    let done = match verb {
        Verb::Restart => "restarted",
        Verb::Stop => "stopped",
        Verb::Start => "runs",
    };
    reporter.finish(&format!("{what} {done}"));
    Ok(Outcome::Expected)
}

fn parse_component(
    lab: &Lab,
    arguments: &arguments::Component,
) -> Result<(NodeIndex, Component, Signal), Fail> {
    let (node, component) = match arguments.words.as_slice() {
        [component] => {
            let component: Component = component.parse()?;
            if !component.is_controller() {
                return Err(Fail::Said(format!("say on which node: `node-1 {component}`, for example")));
            }
            // Controllers are the same from every node.
            (NodeIndex(1), component)
        }
        [node, component] => {
            let component: Component = component.parse()?;
            (lab.record().node(node)?, component)
        }
        _ => return Err(Fail::Said("say [NODE] COMPONENT".to_owned())),
    };
    let signal = match &arguments.signal {
        None => Signal::SIGKILL,
        Some(text) => {
            let name = text.to_uppercase();
            let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
            name.parse().map_err(|_| format!("`{text}` is not a signal: take KILL, TERM, INT, STOP, …"))?
        }
    };
    Ok((node, component, signal))
}

fn down(state: &Path) -> Result<Outcome, Fail> {
    let reporter = Reporter::new();
    let there = lab::down(state, &|event| reporter.hear(event))?;
    reporter.finish(if there { "the lab is down; nothing of it is left" } else { "there was no lab" });
    Ok(Outcome::Expected)
}

/// Prints JSON.
fn print_json<T: serde::Serialize>(value: &T) -> Result<Outcome, Fail> {
    std::io::stdout().write_all(json(value)?.as_bytes())?;
    Ok(Outcome::Expected)
}
