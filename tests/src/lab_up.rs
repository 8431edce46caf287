//! A lab for a test: brought up with the product's binaries in a temporary directory, taken down when it is dropped. Two labs
//! of one test binary never run at a time: the machine may be small, and some tests watch the clock.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use api::insight::{List, SwitchItem};
use lab::http::Endpoint;
use lab::progress::Event;
use lab::{Datapath, Family, Interrupt, Lab, NodeIndex, Options};

use crate::{binaries, skip};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Waits until no other test of this binary has a lab. A test that failed leaves the turn to the next.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Flow-mods that the agent of each node has sent since it started.
///
/// # Panics
/// When an agent does not answer.
pub fn flow_mods_sent(lab: &Lab) -> Vec<u64> {
    let of = |node: NodeIndex| {
        let list = switches(lab, node);
        let list =
            list.unwrap_or_else(|error| panic!("the agent of {} does not answer: {error}", node.name()));
        list.items.iter().map(|switch| switch.flow_mods_sent).sum()
    };
    lab.record().node_indexes().map(of).collect()
}

/// Whether the switch of every node holds what its agent says that it should.
pub fn is_in_sync(lab: &Lab) -> bool {
    let in_sync =
        |list: List<SwitchItem>| !list.items.is_empty() && list.items.iter().all(|switch| switch.in_sync);
    lab.record().node_indexes().all(|node| switches(lab, node).is_ok_and(in_sync))
}

/// What a node's own agent says of its switch.
fn switches(lab: &Lab, node: NodeIndex) -> Result<List<SwitchItem>, lab::Error> {
    Endpoint::Unix(lab.layout().agent_socket(node)).list("switches", &[])
}

/// A lab, and what holds others off.
#[derive(Debug)]
pub struct LabUp {
    /// The lab; dropped before the directory.
    pub lab: Lab,
    /// Where its manifests are, when they are the test's.
    pub manifests: PathBuf,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl LabUp {
    /// Brings a lab up with manifests of the test's own (`None`: the example); `None` (said loudly) where labs cannot be.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn new(test: &str, family: Family, manifests: Option<&[(&str, &str)]>) -> Option<Self> {
        Self::with(test, manifests, |options| options.family = family)
    }

    /// The same with further options.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn with(
        test: &str,
        manifests: Option<&[(&str, &str)]>,
        change: impl FnOnce(&mut Options),
    ) -> Option<Self> {
        if !is_root() {
            skip::skip("dataplane", test, "needs root");
            return None;
        }
        let turn = turn();
        let folder = tempfile::Builder::new().prefix("lab-").tempdir_in("/tmp");
        let folder = folder.unwrap_or_else(|error| panic!("cannot make a directory: {error}"));
        let directory = folder.path().join("manifests");
        let mut options = Options::new(folder.path().join("state"), binaries());
        options.datapath = datapath();
        change(&mut options);
        if let Some(files) = manifests {
            write(&directory, files);
            options.manifests = Some(directory.clone());
        }
        let lab = match Lab::up(&options, &Interrupt::default(), &say) {
            Ok(lab) => lab.down_on_drop(),
            Err(error @ (lab::Error::MissingProgram { .. } | lab::Error::MissingModule { .. })) => {
                skip::skip("dataplane", test, &error.to_string());
                return None;
            }
            Err(error) => panic!("the lab of {test} does not come up: {error}"),
        };
        let manifests = lab.record().manifests.clone();
        Some(Self { lab, manifests, folder, _turn: turn })
    }

    /// Waits until an edit of the manifests is in force on every node; how long that took.
    ///
    /// # Panics
    /// When it is not in time, or the lab cannot tell.
    pub fn in_force(&self, limit: Duration) -> Duration {
        let began = Instant::now();
        let is_in_force = || {
            let said = self.lab.is_in_force();
            said.unwrap_or_else(|error| panic!("what is in force cannot be told: {error}"))
        };
        while !is_in_force() {
            assert!(began.elapsed() < limit, "the edit does not come into force in {limit:?}");
        }
        began.elapsed()
    }

    /// The directory above the lab's state; it is the test's.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Takes the lab down before the end of the test.
    ///
    /// # Panics
    /// When that fails.
    pub fn down(self) -> tempfile::TempDir {
        if let Err(error) = self.lab.down(&say) {
            panic!("the lab cannot be taken down: {error}");
        }
        self.folder
    }
}

/// Writes files into a directory, which is made.
///
/// # Panics
/// When that fails.
pub fn write(directory: &Path, files: &[(&str, &str)]) {
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| files.iter().try_for_each(|(name, text)| std::fs::write(directory.join(name), text)));
    if let Err(error) = written {
        panic!("cannot write to {}: {error}", directory.display());
    }
}

pub(crate) fn say(event: Event<'_>) {
    match event {
        Event::Note(text) => eprintln!("{text}"),
        Event::Finished(step, elapsed) => eprintln!("{elapsed:>8.2?}  {step}"),
        Event::Began(_) | Event::Part(..) => {}
    }
}

/// What labs forward with: the userspace datapath, unless the runner says otherwise.
fn datapath() -> Datapath {
    let Ok(named) = std::env::var("FERRULE_LAB_DATAPATH") else { return Datapath::default() };
    named.parse().unwrap_or_else(|error| panic!("FERRULE_LAB_DATAPATH: {error}"))
}

/// The folder of the product's binaries: the one that the runner names, else built now.
pub fn binaries() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(named) = std::env::var_os("FERRULE_BIN_DIR") {
        return named.into();
    }
    let build = || {
        let all = [
            ("controller", "ferrule-controller"),
            ("ovs-agent", "ferrule-agent"),
            ("cni", "ferrule-cni"),
            ("cli", "ferrule"),
        ];
        let paths = all.map(|(package, binary)| binaries::build(package, binary));
        paths[0].parent().map(Path::to_owned).unwrap_or_default()
    };
    BUILT.get_or_init(build).clone()
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
