//! Compiles a loaded node: how long it takes and how much memory it needs, beside the budget of the design.

mod loaded_node;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use compiler::incremental::{Changes, Compiler, Touched};
use compiler::{Flow, FlowKey, Input, LocalPort, NodeConfig};
use loaded_node::{BUDGET, Load, bound, loaded_node};
use network::{NodeView, PolicyId};

/// What an agent may need in all, with the program among other things.
const BUDGET_MIB: f64 = 60.0;
const ROUNDS: usize = 5;

fn main() {
    for (what, load) in [
        (
            "10 pods, 100 rules over 50 sets of 20",
            Load { nodes: 10, pods: 10, rules: 100, sets: 50, members: 20 },
        ),
        ("110 pods, 10,000 rules over 2,000 sets of 50", BUDGET),
    ] {
        measure(what, load);
    }
}

fn measure(what: &str, load: Load) {
    let (mut view, config, ports) = loaded_node(load);
    let closed = BTreeSet::new();
    let rounds = |work: &mut dyn FnMut()| {
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let began = Instant::now();
                work();
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[ROUNDS / 2].as_secs_f64()
    };

    // Everything, flow by flow, as an agent compiles it that has just connected; and what stays for the next change.
    let before = memory("VmRSS");
    reset_peak();
    let (mut compiler, mut counted) = (Compiler::default(), Counted::default());
    fn of<'a>(
        node: (&'a NodeView, &'a NodeConfig, &'a [LocalPort]),
        closed: &'a BTreeSet<PolicyId>,
    ) -> Input<'a> {
        Input { view: node.0, described: None, config: node.1, ports: node.2, closed }
    }
    compiler.update(of((&view, &config, &ports), &closed), &Touched::everything(), &mut counted);
    let (held, peak) = (memory("VmRSS") - before, memory("VmHWM") - before);
    let flows = counted.flows;
    let streamed = rounds(&mut || {
        compiler.forget();
        compiler.update(of((&view, &config, &ports), &closed), &Touched::everything(), &mut counted);
    });
    println!("compile {what}: {flows} flows in {streamed:.3} s, {:.0} flows/s", flows as f64 / streamed);
    println!("compile {what}: {held:.1} MiB kept for the next change, {peak:.1} MiB at the peak");

    // One member more in one set, and one less.
    let stranger = IpAddr::from([203, 0, 113, 7]);
    let mut touched = Vec::new();
    let member = rounds(&mut || {
        for more in [true, false] {
            let Some(set) = view.sets.values_mut().next() else { continue };
            let _ = if more { set.members.insert(stranger) } else { set.members.remove(&stranger) };
            let of_set = Touched { sets: Some(BTreeSet::from([set.id])), ..Touched::nothing() };
            let mut counted = Counted::default();
            compiler.update(of((&view, &config, &ports), &closed), &of_set, &mut counted);
            touched.push(counted.flows + counted.gone);
        }
    }) / 2.0;
    let most = touched.into_iter().max().unwrap_or_default();
    println!("compile {what}: one member of a set: {most} flows in {:.2} ms", member * 1e3);

    let (_, bound_peak) = {
        reset_peak();
        let before = memory("VmRSS");
        let program = compiler::compile(&view, &config, &ports);
        (bound(&program, &ports).len(), memory("VmHWM") - before)
    };
    println!(
        "compile {what}: {bound_peak:.0} MiB at the peak for a program that is held whole, with its reasons"
    );
    if load.rules == BUDGET.rules {
        println!(
            "ratio: compile, {what}: {flows} flows in {streamed:.2} s, peak {peak:.1} MiB, {:.2} of the {BUDGET_MIB:.0} MiB that an agent may need in all",
            peak / BUDGET_MIB
        );
        println!("ratio: compile, one address-set member at that load: {:.2} ms, {most} flows", member * 1e3);
    }
}

/// Takes flows and counts them.
#[derive(Default)]
struct Counted {
    flows: usize,
    gone: usize,
}

impl Changes for Counted {
    fn flow(&mut self, key: FlowKey, flow: Flow) {
        std::hint::black_box((key, flow));
        self.flows += 1;
    }

    fn everything(&mut self) {
        self.flows = 0;
    }

    fn gone(&mut self, _: FlowKey) {
        self.gone += 1;
    }
}

/// A line of `/proc/self/status`, in MiB.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    kib / 1024.0
}

/// Lets the peak begin anew at what is resident now (proc(5), `clear_refs`).
fn reset_peak() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        println!("the peak cannot be reset ({error}): it includes the inputs");
    }
}
