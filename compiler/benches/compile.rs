//! Compiles a loaded node: how long it takes and how much memory it needs, beside the budget of the design.

mod loaded_node;

use std::time::{Duration, Instant};

use loaded_node::{BUDGET, Load, bound, loaded_node};

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
    let (view, config, ports) = loaded_node(load);
    let before = memory("VmRSS");
    reset_peak();
    let program = compiler::compile(&view, &config, &ports);
    let (held, peak) = (memory("VmRSS") - before, memory("VmHWM") - before);
    let flows = bound(&program, &ports).len();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(compiler::compile(&view, &config, &ports));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    let median = times[ROUNDS / 2].as_secs_f64();
    println!("compile {what}: {flows} flows in {median:.3} s, {:.0} flows/s", flows as f64 / median);
    println!("compile {what}: {held:.0} MiB for the program, {peak:.0} MiB at the peak");
    if load.rules == BUDGET.rules {
        println!(
            "ratio: compile, peak memory: {peak:.0} MiB, {:.2} of the {BUDGET_MIB:.0} MiB that an agent may need in all",
            peak / BUDGET_MIB
        );
        println!("ratio: compile, {what}: {median:.2} s for {flows} flows");
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
