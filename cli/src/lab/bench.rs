//! `ferrule lab bench`: figures of a lab beside their goals or a reference, each as a line `ratio: …` at its end. Asserts
//! nothing; the lab is a new one and is taken down again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::bench::Connections;
use lab::{Error, Interrupt, Lab};

use super::{bring_up, report};
use crate::arguments::{Bench, Up};
use crate::fail::{Fail, Outcome};
use crate::lab::progress::Reporter;

/// Goals of the main job (issue 3) for two nodes and twelve pods.
const UP_GOAL: Duration = Duration::from_secs(10);
const MEMORY_GOAL: u64 = 30 << 20;
const EDIT_GOAL: Duration = Duration::from_millis(50);

pub fn run(state: &Path, bench: &Bench) -> Result<Outcome, Fail> {
    let interrupt = Interrupt::on_signals()?;
    let state = beside(state);
    let up = Up {
        manifests: None,
        kubeconfig: None,
        join: None,
        record: false,
        nodes: bench.nodes,
        family: bench.family,
        datapath: lab::Datapath::Netdev,
        controllers: 1,
        bin_dir: bench.bin_dir.clone(),
    };
    let began = Instant::now();
    let lab = bring_up(&state, &up, &interrupt)?;
    let elapsed = began.elapsed();
    let pods = lab.record().pods.len();
    let mut outcome = report(&lab.problems());
    ratio(&format!("lab up, {} nodes and {pods} pods", bench.nodes), elapsed, "goal", UP_GOAL);
    // One figure that cannot be had does not keep the others from being.
    for result in [
        memory(&lab),
        edits(&lab, bench.edits),
        attachments(&lab, bench.attachments),
        throughput(&lab),
        connections(&lab),
    ] {
        match result {
            Ok(()) => {}
            Err(Error::Interrupted) => {
                outcome = Outcome::Failed;
                break;
            }
            Err(error) => {
                eprintln!("error: {error}");
                outcome = Outcome::Failed;
            }
        }
    }
    let reporter = Reporter::new();
    lab.down(&|event| reporter.hear(event))?;
    reporter.finish("the lab is down");
    Ok(outcome)
}

/// A benchmark makes a lab of its own beside the one that may be up.
fn beside(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push("-bench");
    name.into()
}

fn memory(lab: &Lab) -> Result<(), Error> {
    let Some(resident) = lab.agent_memory() else { return Ok(()) };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "ratio: agent resident memory: {:.1} MiB, {:.2} of the goal of {:.0} MiB",
        mib(resident),
        resident as f64 / MEMORY_GOAL as f64,
        mib(MEMORY_GOAL)
    );
    Ok(())
}

fn edits(lab: &Lab, count: usize) -> Result<(), Error> {
    let reporter = Reporter::new();
    let samples = lab.policy_edits(count, &|done, total| reporter.part("policy edits", done, total))?;
    reporter.finish(&format!("{} policy edits", samples.count()));
    for hundredths in [50, 99] {
        ratio(
            &format!("policy edit in the manifests to barrier reply on every node, p{hundredths}"),
            samples.percentile(hundredths),
            "goal",
            EDIT_GOAL,
        );
    }
    Ok(())
}

fn attachments(lab: &Lab, count: usize) -> Result<(), Error> {
    let reporter = Reporter::new();
    let measured = lab.attachments(count, &|done, total| reporter.part("attachments", done, total))?;
    reporter.finish(&format!("{count} attachments of each kind"));
    let own = measured.ferrule.percentile(50);
    match &measured.reference {
        Some(reference) => {
            ratio("ADD with policies, median", own, "bridge and host-local", reference.percentile(50));
        }
        None => println!(
            "ADD with policies, median: {:.1} ms (no reference: containernetworking-plugins is not installed)",
            own.as_secs_f64() * 1e3
        ),
    }
    Ok(())
}

fn throughput(lab: &Lab) -> Result<(), Error> {
    let reporter = Reporter::new();
    let measured = lab.throughput(&|done, total| reporter.part("throughput", done, total))?;
    reporter.finish("throughput");
    let gigabits = |bytes: f64| bytes * 8.0 / 1e9;
    println!(
        "ratio: pod to pod on one node: {:.2} Gbit/s, {:.2} of the {:.2} Gbit/s of one NORMAL flow",
        gigabits(measured.pods),
        measured.pods / measured.normal,
        gigabits(measured.normal)
    );
    println!(
        "ratio: pod to Service on one node: {:.2} Gbit/s, {:.2} of pod to pod (goal 0.95)",
        gigabits(measured.service),
        measured.service / measured.pods
    );
    Ok(())
}

fn connections(lab: &Lab) -> Result<(), Error> {
    let reporter = Reporter::new();
    let measured = lab.connection_rates(&|done, total| reporter.part("connections", done, total))?;
    reporter.finish("connections");
    let line = |what: &str, one: Connections, of: &str, reference: Connections| {
        println!(
            "ratio: {what} on one node: {:.0} new TCP connections a second, {:.2} of {of}; each {:.3} upcalls and {:.3} megaflows, {} packets lost",
            one.rate,
            one.rate / reference.rate,
            one.upcalls,
            one.megaflows,
            one.lost
        );
    };
    line("one NORMAL flow", measured.normal, "itself", measured.normal);
    line("pod to pod", measured.pods, "one NORMAL flow", measured.normal);
    line("pod to Service", measured.service, "pod to pod", measured.pods);
    Ok(())
}

fn ratio(what: &str, measured: Duration, of: &str, reference: Duration) {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "ratio: {what}: {:.1} ms, {:.2} of the {of} of {:.1} ms",
        milliseconds(measured),
        measured.as_secs_f64() / reference.as_secs_f64(),
        milliseconds(reference)
    );
}
