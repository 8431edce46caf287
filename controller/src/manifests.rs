//! The source that is a directory of Kubernetes YAML, watched with inotify. Knows files; what is in them is up to a
//! [`Translate`].
//!
//! Every change is followed by reading everything again: one snapshot is one state of the directories. A file that is
//! being written is waited for. A file that can no longer be read or parsed keeps its last good content in force, and a
//! directory that is gone those of all its files: a slip of an editor or a mount must not open or cut a network. A file
//! that was removed is gone. All of it is told as problems.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use api::insight::sha256;
use network::Network;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecursiveMode, Watcher};
use objects::directory::{self, MAX_FILE_BYTES};

use crate::owner::{Event, Owner};
use crate::source::{Problem, Reason, Revision, Snapshot};
use crate::state::Demand;

/// What the source is called in the watermark.
pub const MANIFESTS: &str = "manifests";

/// No event for this long: the change is complete.
const QUIET: Duration = Duration::from_millis(5);
/// A change that goes on for longer is read as it is.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often directories are looked for that could not be watched.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the thread that watches waits for.
#[derive(Debug)]
pub enum Wake {
    /// A file or directory changed.
    Changed(notify::Result<notify::Event>),
    /// Agents have acknowledged what we may lack.
    Demand(Demand),
}

/// Makes the network out of texts.
pub trait Translate: Send + 'static {
    /// Whether every document of a file can be parsed; why not, with the line.
    fn check(&self, name: &str, text: &str) -> Result<(), String>;

    /// The network of all files, by name, and what of them could not be used.
    fn translate(&self, files: &BTreeMap<String, Arc<str>>) -> (Network, Vec<Problem>);
}

/// Directories and what they held when they were read last.
#[derive(Debug)]
pub struct Manifests<T> {
    directories: Vec<PathBuf>,
    translate: T,
    files: BTreeMap<String, Arc<str>>,
    sums: BTreeMap<String, (Arc<str>, String)>,
    last: Snapshot,
    revision: u64,
}

impl<T: Translate> Manifests<T> {
    /// Nothing is read yet.
    pub fn new(directories: Vec<PathBuf>, translate: T) -> Self {
        Self {
            directories,
            translate,
            files: BTreeMap::new(),
            sums: BTreeMap::new(),
            last: Snapshot::default(),
            revision: 0,
        }
    }

    /// Reads everything; `None` when it comes to the same as before.
    pub fn read(&mut self) -> Option<Snapshot> {
        let mut problems = Vec::new();
        let mut files = BTreeMap::new();
        for directory in &self.directories {
            let mut found = Vec::new();
            if let Err(error) = list(directory, 0, &mut BTreeSet::new(), &mut found) {
                problems.push(problem(
                    directory,
                    &format!("cannot be listed ({error}); the files that it had stay in force"),
                ));
                let prefix = format!("{}/", directory.display());
                files.extend(self.files.iter().filter(|(name, _)| name.starts_with(&prefix)).map(clone));
                continue;
            }
            for path in found {
                let name = path.display().to_string();
                let held = self.files.get(&name);
                match (self.load(&path, &name, held), held) {
                    (Ok(text), _) => {
                        files.insert(name, text);
                    }
                    (Err(Unusable::Gone), _) => {}
                    (Err(unusable), Some(held)) => {
                        let message = format!("{unusable}; its last good content stays in force");
                        problems.push(problem(&path, &message));
                        files.insert(name, Arc::clone(held));
                    }
                    // Whatever of a new file can be parsed is used; the translation says what cannot.
                    (Err(Unusable::Malformed(_, text)), None) => {
                        files.insert(name, text);
                    }
                    (Err(unusable), None) => {
                        problems.push(problem(&path, &format!("{unusable}; it is left out")));
                    }
                }
            }
        }
        self.files = files;
        let (network, found) = self.translate.translate(&self.files);
        problems.extend(found);
        problems.sort();
        problems.dedup();
        let files = self.sums();
        if self.revision > 0
            && self.last.network == network
            && self.last.problems == problems
            && self.last.files == files
        {
            return None;
        }
        for problem in problems.iter().filter(|problem| !self.last.problems.contains(problem)) {
            tracing::warn!(object = %problem.object, source = %problem.source, error = %problem.message, "problem in the manifests");
        }
        self.revision += 1;
        let revisions = [(MANIFESTS.to_owned(), Revision::at(self.revision))].into();
        self.last = Snapshot { epoch: None, revisions, network, problems, files };
        Some(self.last.clone())
    }

    /// The sum of every file; those of unchanged texts are remembered.
    fn sums(&mut self) -> BTreeMap<String, String> {
        let mut sums = BTreeMap::new();
        for (name, text) in &self.files {
            let sum = match self.sums.remove(name) {
                Some((held, sum)) if Arc::ptr_eq(&held, text) => sum,
                _ => sha256(text),
            };
            sums.insert(name.clone(), (Arc::clone(text), sum));
        }
        self.sums = sums;
        self.sums.iter().map(|(name, (_, sum))| (name.clone(), sum.clone())).collect()
    }

    fn load(&self, path: &Path, name: &str, held: Option<&Arc<str>>) -> Result<Arc<str>, Unusable> {
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Unusable::Gone,
            _ => Unusable::Unreadable(error.to_string()),
        };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
            return Err(Unusable::Unreadable(format!("it has more than {} MiB", MAX_FILE_BYTES >> 20)));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        if let Some(held) = held.filter(|held| ***held == *text) {
            return Ok(Arc::clone(held));
        }
        let text = Arc::from(text);
        match self.translate.check(name, &text) {
            Ok(()) => Ok(text),
            Err(error) => Err(Unusable::Malformed(error, text)),
        }
    }

    /// Watches the directories in a thread of its own until the owner is gone. `demands` come by the channel of which this
    /// is the other end: each is answered after everything was read again.
    pub fn watch(
        mut self,
        owner: Owner,
        (sender, events): (mpsc::Sender<Wake>, mpsc::Receiver<Wake>),
    ) -> Result<std::thread::JoinHandle<()>, notify::Error> {
        let mut watches = Watches {
            watcher: notify::recommended_watcher(move |event| {
                // Nobody listens any more when the controller ends.
                let _ = sender.send(Wake::Changed(event));
            })?,
            watched: vec![None; self.directories.len()],
        };
        watches.renew(&self.directories, &BTreeSet::new());
        let thread = std::thread::Builder::new().name("manifests".into()).spawn(move || {
            // What changed between the first reading and the watch.
            let mut due = true;
            let mut removed = BTreeSet::new();
            let mut demand = None;
            while !owner.is_gone() {
                if (watches.renew(&self.directories, &removed) || due || demand.is_some())
                    && let Some(snapshot) = self.read()
                    && owner.tell_blocking(Event::Snapshot(snapshot)).is_err()
                {
                    return;
                }
                if let Some(demand) = demand.take()
                    && owner.tell_blocking(Event::Confirm(demand)).is_err()
                {
                    return;
                }
                due = wait(&events, &mut removed, &mut demand);
            }
        });
        thread.map_err(notify::Error::io)
    }
}

/// Why a file's present content is not used.
enum Unusable {
    Gone,
    Unreadable(String),
    Malformed(String, Arc<str>),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => f.write_str("the file is gone"),
            Self::Unreadable(error) => write!(f, "the file cannot be read ({error})"),
            Self::Malformed(error, _) => write!(f, "the file cannot be parsed ({error})"),
        }
    }
}

fn problem(path: &Path, message: &str) -> Problem {
    let path = path.display().to_string();
    let message = message.to_owned();
    Problem { object: path.clone(), source: path, message, reason: Reason::NotRealized }
}

fn clone((name, text): (&String, &Arc<str>)) -> (String, Arc<str>) {
    (name.clone(), Arc::clone(text))
}

/// The manifests under a directory, in their order. Hidden files are left out: editors' drafts, and the way in which
/// Kubernetes mounts a ConfigMap.
fn list(
    path: &Path,
    depth: usize,
    seen: &mut BTreeSet<(u64, u64)>,
    found: &mut Vec<PathBuf>,
) -> std::io::Result<()> {
    let own = std::fs::metadata(path)?;
    // A link may lead back.
    if !seen.insert((own.dev(), own.ino())) {
        return Ok(());
    }
    let mut entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // Follows links; a dangling one is no file.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        match directory::entry(&entry.file_name().to_string_lossy(), metadata.is_dir(), depth) {
            directory::Entry::Descend => list(&path, depth + 1, seen, found)?,
            directory::Entry::Read => found.push(path),
            directory::Entry::Skip => {}
        }
    }
    Ok(())
}

struct Watches {
    watcher: notify::RecommendedWatcher,
    /// Device and inode of each directory as it is watched.
    watched: Vec<Option<(u64, u64)>>,
}

impl Watches {
    /// Watches what is not watched yet: it came into being, or another took its place (with the same inode perhaps: a
    /// removal says so too). Returns whether there was any.
    fn renew(&mut self, directories: &[PathBuf], removed: &BTreeSet<PathBuf>) -> bool {
        let mut renewed = false;
        for (directory, watched) in directories.iter().zip(&mut self.watched) {
            let now = std::fs::metadata(directory).ok().map(|metadata| (metadata.dev(), metadata.ino()));
            if now == *watched && !removed.contains(directory) {
                continue;
            }
            let _ = self.watcher.unwatch(directory);
            *watched = None;
            renewed = true;
            if now.is_some() {
                match self.watcher.watch(directory, RecursiveMode::Recursive) {
                    Ok(()) => *watched = now,
                    Err(error) => {
                        tracing::warn!(%error, path = %directory.display(), "cannot watch; trying again");
                    }
                }
            }
        }
        renewed
    }
}

/// Waits for a change to begin and to be complete; false when there was none for a while. Says which paths were removed.
/// A demand ends the waiting at once.
fn wait(events: &mpsc::Receiver<Wake>, removed: &mut BTreeSet<PathBuf>, demand: &mut Option<Demand>) -> bool {
    removed.clear();
    let mut writing = BTreeSet::new();
    let mut concerns = |event: &notify::Result<notify::Event>, writing: &mut BTreeSet<PathBuf>| {
        if let Ok(notify::Event { kind: EventKind::Remove(_), paths, .. }) = event {
            removed.extend(paths.iter().cloned());
        }
        concerns(event, writing)
    };
    let began = Instant::now();
    loop {
        let Some(left) = LOOK_AGAIN.checked_sub(began.elapsed()) else { return false };
        match events.recv_timeout(left) {
            Ok(Wake::Changed(event)) if concerns(&event, &mut writing) => break,
            Ok(Wake::Changed(_)) => {}
            Ok(Wake::Demand(newest)) => {
                *demand = Some(newest);
                return false;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => return false,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                std::thread::sleep(left);
                return false;
            }
        }
    }
    let began = Instant::now();
    while let Some(left) = PATIENCE.checked_sub(began.elapsed()) {
        let quiet = if writing.is_empty() { QUIET.min(left) } else { left };
        match events.recv_timeout(quiet) {
            Ok(Wake::Changed(event)) => {
                concerns(&event, &mut writing);
            }
            // It is answered after the reading that follows.
            Ok(Wake::Demand(newest)) => *demand = Some(newest),
            Err(_) => break,
        }
    }
    true
}

/// Whether an event may have changed what we read. Our own reading is an event too, and does not.
fn concerns(event: &notify::Result<notify::Event>, writing: &mut BTreeSet<PathBuf>) -> bool {
    let Ok(event) = event else { return true };
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            for path in &event.paths {
                writing.remove(path);
            }
            true
        }
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_)) => {
            writing.extend(event.paths.iter().cloned());
            true
        }
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
            for path in &event.paths {
                writing.remove(path);
            }
            true
        }
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => true,
    }
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
