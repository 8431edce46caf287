//! `ferrule lab demo`: what `cargo xtask lab` runs. Up, the matrix, the flows of one pod, how to go on; it takes the lab down
//! again however it ends, unless it shall stay.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

use api::insight::FlowItem;
use lab::http::Endpoint;
use lab::{Interrupt, Lab};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{bring_up, how_to_go_on, measure, report};
use crate::arguments::{Demo, Output};
use crate::fail::{Fail, Outcome};
use crate::flows;
use crate::lab::progress::Reporter;
use crate::paint::Paint;

pub fn run(state: &Path, demo: &Demo) -> Result<Outcome, Fail> {
    let interrupt = Interrupt::on_signals()?;
    let lab = bring_up(state, &demo.up, &interrupt)?;
    let shown = show(&lab, demo, &interrupt);
    if demo.keep && !interrupt.is_set() {
        return shown;
    }
    let reporter = Reporter::new();
    let down = lab.down(&|event| reporter.hear(event));
    reporter.finish("the lab is down; nothing of it is left");
    // A failure of the demonstration tells more than one of the clean-up.
    let outcome = shown?;
    down?;
    Ok(outcome)
}

fn show(lab: &Lab, demo: &Demo, interrupt: &Interrupt) -> Result<Outcome, Fail> {
    let paint = Paint::stdout();
    let problems = report(&lab.problems());
    println!("\n{}\n", paint.bold("Who reaches whom, probed packet by packet:"));
    let differences = measure(lab, Output::Table)?;
    if let Some(pod) = busiest_pod(lab) {
        println!("\n{}\n", paint.bold(format!("The flows of {pod}, and who made them:")));
        let controller = Endpoint::Unix(lab.layout().controller_socket());
        let list = controller.list::<FlowItem>("flows", &[("pod", &pod)])?;
        std::io::stdout().write_all(flows::render(&list, false, paint).as_bytes())?;
    }
    let outcome = if problems == Outcome::Failed { problems } else { differences };
    let waits = !demo.keep && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if waits || demo.keep {
        println!("\n{}\n{}", paint.bold("Go on, in another terminal, with:"), how_to_go_on(lab));
    } else {
        println!("\nWith `--keep` the lab stays up; then go on with:\n{}", how_to_go_on(lab));
    }
    if waits {
        println!("\nEnter or Ctrl-C takes the lab down.");
        wait_for_enter(interrupt);
    }
    Ok(outcome)
}

/// A pod whose flows are worth showing: the first one that serves something and shares its namespace with most others.
fn busiest_pod(lab: &Lab) -> Option<String> {
    let pods = &lab.record().pods;
    let shown = pods
        .iter()
        .filter(|(_, pod)| pod.is_plugged() && !pod.host_network && !pod.serves.is_empty())
        .max_by_key(|(key, _)| {
            let neighbours = pods.keys().filter(|other| other.namespace() == key.namespace()).count();
            (neighbours, std::cmp::Reverse(*key))
        })?;
    Some(shown.0.to_string())
}

fn wait_for_enter(interrupt: &Interrupt) {
    let stdin = std::io::stdin();
    while !interrupt.is_set() {
        let mut waiting = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        // A line, or the end of the terminal; an error is taken as one, too.
        if poll(&mut waiting, PollTimeout::from(200_u8)) != Ok(0) {
            return;
        }
    }
}
