//! Network namespaces by name, as `ip netns` keeps them in /run/netns: making, removing, entering. Knows nothing of labs.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sched::{CloneFlags, setns};

use crate::error::{Context, Error, Result};

const DIRECTORY: &str = "/run/netns";

/// Where a namespace's file is.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The names that begin with `prefix`, sorted.
pub fn list(prefix: &str) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Io { what: format!("read {DIRECTORY}"), source }),
    };
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    Ok(names)
}

/// Makes them, all with loopback up.
pub fn create(names: &[String]) -> Result<()> {
    let lines: Vec<_> = names.iter().map(|name| format!("netns add {name}")).collect();
    crate::ip::batch(None, &lines)?;
    for name in names {
        crate::ip::batch(Some(name), &["link set lo up".to_owned()])?;
    }
    Ok(())
}

/// Removes them; what does not exist is no error. A namespace goes when its last process ends.
pub fn remove(names: &[String]) -> Result<()> {
    let lines: Vec<_> =
        names.iter().filter(|name| path(name).exists()).map(|name| format!("netns del {name}")).collect();
    crate::ip::batch(None, &lines)
}

/// Runs `work` in a thread of its own inside the namespace; the caller's stays where it is.
pub fn run<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(namespace).context(|| format!("open the namespace {}", namespace.display()))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET)
                .context(|| format!("enter the namespace {}", namespace.display()))?;
            Ok(work())
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Moves the calling thread into the namespace for good (before it becomes another program).
pub fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).context(|| format!("open the namespace {}", namespace.display()))?;
    setns(&file, CloneFlags::CLONE_NEWNET).context(|| format!("enter the namespace {}", namespace.display()))
}

/// Starts a command inside the namespace: a child inherits the network namespace of the thread that makes it.
pub fn spawn(namespace: Option<&Path>, command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = match namespace {
        Some(namespace) => run(namespace, || command.spawn())?,
        None => command.spawn(),
    };
    spawned.context(|| format!("start {program}"))
}

/// The processes whose network namespace is one of these.
pub fn processes(names: &[String]) -> Vec<i32> {
    let wanted: Vec<_> = names
        .iter()
        .filter_map(|name| std::fs::metadata(path(name)).ok())
        .map(|metadata| (metadata.dev(), metadata.ino()))
        .collect();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            std::fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|metadata| wanted.contains(&(metadata.dev(), metadata.ino())))
        })
        .collect()
}
