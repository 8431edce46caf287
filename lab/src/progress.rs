//! What a lab says while it works; who listens decides how it looks.

use std::time::{Duration, Instant};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A step begins.
    Began(&'a str),
    /// So many of so many parts of it are done.
    Part(&'a str, usize, usize),
    /// It is done.
    Finished(&'a str, Duration),
    /// Something to know that stops nothing.
    Note(&'a str),
}

/// Hears of it.
pub type Progress<'a> = dyn Fn(Event<'_>) + Sync + 'a;

/// For callers who do not want to know.
pub fn silent(_: Event<'_>) {}

/// Tells when a step begins, and how long it took when it succeeds.
pub fn step<T, E>(progress: &Progress<'_>, name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let began = Instant::now();
    progress(Event::Began(name));
    let result = work()?;
    progress(Event::Finished(name, began.elapsed()));
    Ok(result)
}
