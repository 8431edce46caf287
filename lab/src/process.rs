//! Processes that outlive the command that starts them: started in a session of their own with a log, remembered by id
//! and start time, and ended only when both still fit. Knows nothing of what they are.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::layout::Layout;
use crate::netns;

/// How long a process may take to end after SIGTERM before it is killed.
const TERM_LIMIT: Duration = Duration::from_secs(2);

/// A process that the lab started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What it is: `controller`, `node-1.agent`, `pod.shop.cart-0`.
    pub name: String,
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot (proc(5), `stat` field 22): tells it from a later one with its id.
    pub start_time: u64,
    /// Where it writes.
    pub log: PathBuf,
}

impl Process {
    /// Starts a command detached, in a namespace or in ours, and remembers it.
    pub fn start(layout: &Layout, name: &str, namespace: Option<&Path>, command: &Command) -> Result<Self> {
        let log = layout.logs().join(format!("{name}.log"));
        let output = open_log(&log)?;
        let errors = output.try_clone().context(|| format!("open {}", log.display()))?;
        // setsid(1) becomes the program itself: the id stays, the terminal's signals do not reach it.
        let mut detached = Command::new("setsid");
        detached.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => detached.env(key, value),
                None => detached.env_remove(key),
            };
        }
        detached.stdin(Stdio::null()).stdout(output).stderr(errors).current_dir("/");
        let child = netns::spawn(namespace, &mut detached)?;
        let pid = child.id().cast_signed();
        let start_time = start_time(pid).unwrap_or(0);
        let process = Self { name: name.to_owned(), pid, start_time, log };
        process.remember(layout)?;
        Ok(process)
    }

    fn remember(&self, layout: &Layout) -> Result<()> {
        let path = layout.processes().join(format!("{}.json", self.name));
        let text = serde_json::to_vec(self).context(|| format!("describe {}", self.name))?;
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))
    }

    /// The process of this name, if one was started; it may have ended since.
    pub fn find(layout: &Layout, name: &str) -> Option<Self> {
        let path = layout.processes().join(format!("{name}.json"));
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// All that were started, by name.
    pub fn all(layout: &Layout) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(layout.processes()) else { return Vec::new() };
        let mut all: Vec<Self> = entries
            .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.ok()?.path()).ok()?).ok())
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Whether it still runs: the same start time, and not merely unburied.
    pub fn is_alive(&self) -> bool {
        // Ours to bury when this process started it; without effect otherwise.
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        start_time(self.pid) == Some(self.start_time)
    }

    /// Sends a signal, if it still is the process that was started.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).context(|| format!("signal {} (process {})", self.name, self.pid)),
        }
    }

    /// Ends it with this signal (SIGKILL follows when it does not obey), and forgets it.
    pub fn end(&self, layout: &Layout, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        if !self.wait(TERM_LIMIT) {
            self.signal(Signal::SIGKILL)?;
            if !self.wait(TERM_LIMIT) {
                return Err(Error::NotReady {
                    what: format!("{} (process {}) does not end; it", self.name, self.pid),
                    seconds: 2 * TERM_LIMIT.as_secs(),
                    detail: String::new(),
                });
            }
        }
        let path = layout.processes().join(format!("{}.json", self.name));
        let _ = std::fs::remove_file(path);
        Ok(())
    }

    /// Waits until it has ended; false when it has not by then.
    pub fn wait(&self, limit: Duration) -> bool {
        let began = Instant::now();
        while self.is_alive() {
            if began.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    }

    /// The last lines it wrote, for an error message.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).rev().take(4).collect();
        lines.reverse();
        if lines.is_empty() {
            format!(" (it wrote nothing to {})", self.log.display())
        } else {
            format!("; {} ends with:\n  {}", self.log.display(), lines.join("\n  "))
        }
    }
}

/// Waits until `ready` says so; fails when the process ends first, time is up, or the user gives up.
pub fn wait_until(
    process: &Process,
    limit: Duration,
    interrupt: &crate::Interrupt,
    mut ready: impl FnMut() -> bool,
) -> Result<()> {
    let began = Instant::now();
    loop {
        if ready() {
            return Ok(());
        }
        interrupt.check()?;
        let gone = !process.is_alive();
        if gone || began.elapsed() > limit {
            return Err(if gone {
                Error::Command {
                    what: format!("starting {}", process.name),
                    said: format!("it ended{}", process.last_words()),
                }
            } else {
                Error::NotReady {
                    what: process.name.clone(),
                    seconds: limit.as_secs(),
                    detail: process.last_words(),
                }
            });
        }
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// Start time of a process that runs; `None` for one that has ended (a zombie has, once its last thread has: until then its
/// sockets are open).
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after the last one are plain.
    let fields: Vec<_> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    if fields.first() == Some(&"Z") && threads() <= 1 {
        return None;
    }
    fields.get(19)?.parse().ok()
}

fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_alive_ended_and_never_mistaken_for_another() {
        let state = tempfile::Builder::new().prefix("lab-").tempdir_in("/tmp").unwrap();
        let layout = Layout::new(state.path()).unwrap();
        std::fs::create_dir_all(layout.logs()).unwrap();
        std::fs::create_dir_all(layout.processes()).unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let process = Process::start(&layout, "sleeper", None, &command).unwrap();
        assert!(process.is_alive());
        let other = Process { start_time: process.start_time + 1, ..process.clone() };
        other.signal(Signal::SIGKILL).unwrap();
        assert!(process.is_alive(), "a process with another start time was killed");
        assert_eq!(Process::find(&layout, "sleeper"), Some(process.clone()));
        process.end(&layout, Signal::SIGTERM).unwrap();
        assert!(!process.is_alive());
        assert_eq!(Process::find(&layout, "sleeper"), None);
    }
}
