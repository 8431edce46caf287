//! Flow-mods to bytes and back, on the mix that the compiler makes of a loaded node: messages per second on one core and
//! allocations per message.

#[path = "../../compiler/benches/loaded_node/mod.rs"]
mod loaded_node;

use std::alloc::System;

use bytes::BytesMut;
use loaded_node::{BUDGET, bound, loaded_node};
use nix::time::{ClockId, clock_gettime};
use openflow::{Message, Xid};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 100_000;
const ROUNDS: usize = 9;
/// The budget of the design, per second.
const GOAL: f64 = 1e6;

fn main() {
    let (view, config, ports) = loaded_node(BUDGET);
    let program = compiler::compile(&view, &config, &ports);
    let flows = bound(&program, &ports);
    drop(program);
    let step = (flows.len() / MESSAGES).max(1);
    let messages: Vec<Message> =
        flows.into_iter().step_by(step).take(MESSAGES).map(|flow| Message::FlowMod(Box::new(flow))).collect();
    let mut wire = BytesMut::new();
    let mut ends = Vec::with_capacity(messages.len());
    for message in &messages {
        message.encode(Xid(1), &mut wire).expect("a compiled flow fits a message");
        ends.push(wire.len());
    }
    println!(
        "flow-mods: {} of the mix, {} bytes each on average",
        messages.len(),
        wire.len() / messages.len()
    );

    let mut out = BytesMut::with_capacity(wire.len());
    report("encode", messages.len(), || {
        out.clear();
        for message in &messages {
            message.encode(Xid(1), &mut out).expect("it did before");
        }
    });
    report("decode", messages.len(), || {
        let mut start = 0;
        for end in &ends {
            std::hint::black_box(Message::decode(&wire[start..*end]).expect("our own bytes"));
            start = *end;
        }
    });
}

/// What this thread has used of a core: other work on the machine does not count.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

fn report(what: &str, messages: usize, mut work: impl FnMut()) {
    work();
    let region = Region::new(ALLOCATOR);
    work();
    let allocated = region.change();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = cpu_seconds();
            work();
            messages as f64 / (cpu_seconds() - began)
        })
        .collect();
    rates.sort_unstable_by(f64::total_cmp);
    let rate = rates[ROUNDS / 2];
    let per = |count: usize| count as f64 / messages as f64;
    println!(
        "ratio: flow-mods, {what}: {:.2} million/s, {:.2} of the goal; per message {:.2} allocations, {:.0} bytes",
        rate / 1e6,
        rate / GOAL,
        per(allocated.allocations + allocated.reallocations),
        per(allocated.bytes_allocated),
    );
}
