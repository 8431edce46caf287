//! What happens, as it happens, on standard error: a bar on a terminal, plain lines with times elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lab::progress::Event;

use crate::paint::Paint;

/// Where progress goes.
pub struct Reporter {
    began: Instant,
    paint: Paint,
    bar: Option<Mutex<ProgressBar>>,
}

impl Reporter {
    /// From now on.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            Mutex::new(bar)
        });
        Self { began: Instant::now(), paint: Paint::stderr(), bar }
    }

    /// Something happened.
    pub fn hear(&self, event: Event<'_>) {
        match event {
            Event::Began(step) => self.on_bar(|bar| {
                bar.set_style(ProgressStyle::default_spinner());
                bar.set_message(step.to_owned());
            }),
            Event::Part(step, done, total) => self.part(step, done, total),
            Event::Finished(step, elapsed) => {
                self.line(&format!("{}  {step}", self.time(elapsed)));
            }
            Event::Note(text) => self.line(text),
        }
    }

    /// So many of so many are done.
    pub fn part(&self, step: &str, done: usize, total: usize) {
        self.on_bar(|bar| {
            if bar.length() != Some(total as u64) {
                bar.set_length(total as u64);
                if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
                    bar.set_style(style);
                }
                bar.set_message(step.to_owned());
            }
            bar.set_position(done as u64);
        });
    }

    /// The last line, with the time of everything.
    pub fn finish(self, text: &str) {
        self.on_bar(ProgressBar::finish_and_clear);
        eprintln!("{}  {}", self.time(self.began.elapsed()), self.paint.bold(text));
    }

    fn time(&self, elapsed: Duration) -> String {
        self.paint.dim(format!("{:>6.2} s", elapsed.as_secs_f64()))
    }

    fn line(&self, text: &str) {
        match &self.bar {
            None => eprintln!("{text}"),
            Some(_) => self.on_bar(|bar| bar.println(text)),
        }
    }

    fn on_bar(&self, change: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &self.bar {
            // A panic elsewhere spoils no bar.
            change(&bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.on_bar(ProgressBar::finish_and_clear);
    }
}
