//! What of a lab or a cluster stands on the machine for one state directory: the lock, whether something runs, and taking
//! all of it away. Knows processes, namespaces and files, not what they are for.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::error::{Context, Error, Result};
use crate::layout::Layout;
use crate::netns;
use crate::process::Process;
use crate::progress::{Event, Progress};

/// One command at a time; released when dropped.
pub fn lock(layout: &Layout) -> Result<Flock<File>> {
    let path = layout.lock();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).context(|| format!("make {}", parent.display()))?;
    }
    let file = File::create(&path).context(|| format!("open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| Error::Busy { state: layout.state().to_owned() })
}

/// Whether processes of it run.
pub fn runs(layout: &Layout) -> bool {
    Process::all(layout).iter().any(Process::is_alive)
}

/// Ends its processes, removes its namespaces and its directory. True when there was something.
pub fn remove(layout: &Layout, progress: &Progress<'_>) -> Result<bool> {
    let namespaces = netns::list(&layout.namespace_prefix())?;
    let there = layout.state().exists();
    if there && !is_ours(layout) {
        return Err(Error::BadState {
            state: layout.state().to_owned(),
            why: "it holds files that are not a lab's: name an empty or new directory".to_owned(),
        });
    }
    let processes = Process::all(layout);
    // Agents and switches end by a signal they can use; nothing of theirs has to outlive the lab, so they get no time.
    for process in &processes {
        process.signal(Signal::SIGKILL)?;
    }
    for process in &processes {
        process.end(layout, Signal::SIGKILL)?;
    }
    end_strangers(&namespaces, progress);
    netns::remove(&namespaces)?;
    if there {
        std::fs::remove_dir_all(layout.state()).context(|| format!("remove {}", layout.state().display()))?;
    }
    // The lock's file stays ours until the end; an own directory above (/run/ferrule) goes when it is empty.
    let _ = std::fs::remove_file(layout.lock());
    Ok(there || !namespaces.is_empty())
}

/// Whoever still runs in the lab's namespaces (a shell of `lab exec`) would keep them alive.
fn end_strangers(namespaces: &[String], progress: &Progress<'_>) {
    let own = std::process::id().cast_signed();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let strangers: Vec<_> = netns::processes(namespaces).into_iter().filter(|pid| *pid != own).collect();
        if strangers.is_empty() {
            return;
        }
        if signal == Signal::SIGTERM {
            progress(Event::Note(&format!(
                "ending {} more process(es) in the lab's namespaces",
                strangers.len()
            )));
        }
        for pid in &strangers {
            // It may have ended by itself.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal);
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(500) && !netns::processes(namespaces).is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Never remove somebody else's files: a lab's directory has its log folder, or is empty.
fn is_ours(layout: &Layout) -> bool {
    layout.logs().is_dir()
        || std::fs::read_dir(layout.state()).is_ok_and(|mut entries| entries.next().is_none())
}
