//! `cargo xtask soak`: a cluster that is up, pods in waves, and everything of the network killed and restarted meanwhile. In the end nothing
//! may be left, nothing that is denied may have passed, and what is allowed may have been lost only while a datapath restarted.

mod faults;
mod judge;
mod latency;
mod numbers;
mod objects;
mod place;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use cluster::{ControlPlane, Interrupt};

use faults::Fault;
use latency::Latencies;
use numbers::{Numbers, Resident};
use objects::BATCHES;
use place::Place;

#[derive(Parser, Debug)]
#[command(name = "soak", version = None)]
struct Arguments {
    /// The state directory of the cluster
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// How long waves and faults go on
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Pods that come and go
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(5..=1000))]
    pods: u32,
}

/// How long a wave of pods may take, on a machine that restarts everything beside.
const WAVE_LIMIT: Duration = Duration::from_secs(300);
/// How long after the last pod is gone nodes may take to have what they had before.
const SETTLE_LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    match soak(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// Whether everything was as it should.
fn soak(arguments: &Arguments) -> Result<bool> {
    let interrupt = Interrupt::on_signals()?;
    let place = Place { cluster: ControlPlane::open(&arguments.state)?, interrupt };
    say("clients and servers that stay");
    objects::prepare(&place)?;
    let before = settled(&place)?;
    println!("{before}");
    let resident = Resident::now(&place);

    let began = Instant::now();
    let (stop, latencies) = (AtomicBool::new(false), Latencies::from_now(&place));
    let limit = Duration::from_secs(60 * arguments.minutes);
    let (waves, faults) = std::thread::scope(|scope| {
        let faults = scope.spawn(|| faults::until(&place, &stop, &latencies));
        let waves = waves(&place, arguments.pods, began, limit, &latencies);
        stop.store(true, Ordering::Relaxed);
        let faults = faults.join().map_err(|_| anyhow::anyhow!("the faults' thread panicked"));
        (waves, faults)
    });
    let (waves, faults) = (waves?, faults??);

    say("everything goes");
    for batch in 0..BATCHES {
        objects::scale(&place, batch, 0)?;
    }
    objects::wait(&place, 0, WAVE_LIMIT)?;
    let mut after = Numbers::now(&place)?;
    let waiting = Instant::now();
    while after != before && waiting.elapsed() < SETTLE_LIMIT {
        place.pause(Duration::from_secs(5))?;
        after = Numbers::now(&place)?;
    }
    report(arguments, &place, &waves, &faults, &latencies, (&before, &after), &resident)
}

/// What the waves came to.
struct Waves {
    /// Pods that became ready.
    made: u32,
    /// What daemons kept resident at each time that all pods were there.
    resident: Vec<Resident>,
}

/// All batches come; then one after the other goes and comes again.
fn waves(
    place: &Place,
    pods: u32,
    began: Instant,
    limit: Duration,
    latencies: &Mutex<Latencies>,
) -> Result<Waves> {
    let share = |batch: u32| pods / BATCHES + u32::from(batch < pods % BATCHES);
    let mut waves = Waves { made: 0, resident: Vec::new() };
    let mut there = 0;
    for batch in (0..BATCHES).cycle() {
        if began.elapsed() > limit {
            break;
        }
        let full = there == pods;
        if full {
            objects::scale(place, batch, 0)?;
            objects::wait(place, pods - share(batch), WAVE_LIMIT)?;
        } else {
            there += share(batch);
        }
        let waiting = Instant::now();
        objects::scale(place, batch, share(batch))?;
        objects::wait(place, there, WAVE_LIMIT)?;
        waves.made += share(batch);
        say(&format!(
            "{there} pods, {} of them new in {:.0} s",
            share(batch),
            waiting.elapsed().as_secs_f64()
        ));
        latency::gather(place, latencies);
        if there == pods {
            waves.resident.push(Resident::now(place));
        }
    }
    Ok(waves)
}

/// The numbers once they stand still.
fn settled(place: &Place) -> Result<Numbers> {
    let began = Instant::now();
    let mut last = Numbers::now(place)?;
    loop {
        place.pause(Duration::from_secs(5))?;
        let now = Numbers::now(place)?;
        if now == last {
            return Ok(now);
        }
        if began.elapsed() > SETTLE_LIMIT {
            bail!("the nodes do not come to rest:\n{}", last.difference(&now));
        }
        last = now;
    }
}

fn report(
    arguments: &Arguments,
    place: &Place,
    waves: &Waves,
    faults: &[Fault],
    latencies: &Mutex<Latencies>,
    (before, after): (&Numbers, &Numbers),
    resident: &Resident,
) -> Result<bool> {
    let mut wrong: Vec<String> = Vec::new();
    latency::gather(place, latencies);
    // A poisoned lock still has what was gathered.
    let latencies = latencies.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    println!("\n{} minutes, {} pods made, {} at a time", arguments.minutes, waves.made, arguments.pods);
    for (kind, count) in faults::counted(faults) {
        println!("  {count:>3} × {kind}");
    }
    println!("{latencies}");

    let heard = judge::hear(place).context("cannot read what the clients say")?;
    let verdict = judge::judge(&heard, faults);
    println!("{verdict}");
    wrong.extend(verdict.wrong());

    println!("{after}");
    if before != after {
        wrong.push(format!("nodes have other things than before:\n{}", before.difference(after)));
    }
    let audit = place.ferrule(&["audit"]);
    match audit {
        Ok(said) => println!("audit: {}", said.trim().lines().last().unwrap_or("clean")),
        Err(error) => wrong.push(format!("the audit: {error}")),
    }

    println!("resident, MiB: before, all pods there for the first and the last time, after");
    let end = Resident::now(place);
    let (first, last) = (waves.resident.first(), waves.resident.last());
    for line in resident.beside(first, last, &end) {
        println!("  {line}");
    }
    if let (Some(first), Some(last)) = (first, last) {
        wrong.extend(first.grown(last));
    }
    for line in &wrong {
        println!("WRONG: {line}");
    }
    println!("{}", if wrong.is_empty() { "nothing is wrong" } else { "the soak failed" });
    Ok(wrong.is_empty())
}

/// A line of progress.
fn say(what: &str) {
    eprintln!("{:>9.1}  {what}", place::uptime());
}
