//! A lab as a whole: up, found again, changed, down. Every change is taken back when it fails half-way.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::datapath::Datapath;
use crate::error::{Context, Error, Result};
use crate::ground::{lock, remove, runs};
use crate::kubernetes::{self, Kubernetes};
use crate::layout::{FIRST_CONTROLLER, Family, Layout, MAX_CONTROLLERS, MAX_NODES, NodeIndex};
use crate::manifests::{self, Manifests, Problem};
use crate::pods;
use crate::progress::{Event, Progress, silent, step};
use crate::record::Record;
use crate::{Interrupt, command, daemons, example, netns, switch, underlay};

/// What a lab shall be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything of the lab goes here; it is removed by `down`.
    pub state: PathBuf,
    /// Where the binaries are.
    pub binaries: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// Address families.
    pub family: Family,
    /// What the switches forward with.
    pub datapath: Datapath,
    /// How many controllers, which all serve every agent.
    pub controllers: u8,
    /// The manifests; `None`: the example that ships with the project.
    pub manifests: Option<PathBuf>,
    /// An API server in their place.
    pub kubernetes: Option<Kubernetes>,
    /// Controllers write down everything that happens to them, and recompute everything whole beside.
    pub recorded: bool,
}

impl Options {
    /// Two nodes with IPv4 and the example.
    pub fn new(state: impl Into<PathBuf>, binaries: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            binaries: binaries.into(),
            nodes: 2,
            family: Family::Ipv4,
            datapath: Datapath::default(),
            controllers: FIRST_CONTROLLER,
            manifests: None,
            kubernetes: None,
            recorded: false,
        }
    }
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    pub(crate) layout: Layout,
    pub(crate) record: Record,
    pub(crate) problems: Vec<Problem>,
    pub(crate) interrupt: Interrupt,
    down_on_drop: bool,
}

impl Lab {
    /// Brings a lab up. When it fails or is interrupted, nothing is left of it. A pod that cannot be plugged is no failure: see
    /// [`Lab::problems`].
    pub fn up(options: &Options, interrupt: &Interrupt, progress: &Progress<'_>) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let nodes = u8::try_from(options.nodes)
            .ok()
            .filter(|nodes| (1..=MAX_NODES).contains(&usize::from(*nodes)))
            .ok_or_else(|| {
                Error::BadOption(format!("a lab has 1 to {MAX_NODES} nodes, not {}", options.nodes))
            })?;
        command::check_programs()?;
        options.datapath.check()?;
        let binaries = absolute(&options.binaries)?;
        daemons::check_binaries(&binaries)?;
        let layout = Layout::new(&options.state)?;
        let _lock = lock(&layout)?;
        if layout.record().exists() && runs(&layout) {
            return Err(Error::AlreadyUp { state: layout.state().to_owned() });
        }
        // What a crash may have left.
        remove(&layout, &silent)?;
        let manifests = match &options.manifests {
            Some(directory) => {
                let directory = absolute(directory)?;
                // Better known before anything is made.
                manifests::texts(&directory)?;
                directory
            }
            None => layout.example_manifests(),
        };
        if !(FIRST_CONTROLLER..=MAX_CONTROLLERS).contains(&options.controllers) {
            return Err(Error::BadOption(format!(
                "a lab has 1 or {MAX_CONTROLLERS} controllers, not {}",
                options.controllers
            )));
        }
        let record = Record {
            nodes,
            family: options.family,
            datapath: options.datapath,
            controllers: options.controllers,
            manifests,
            kubernetes: options.kubernetes.clone(),
            recorded: options.recorded,
            binaries,
            pods: Default::default(),
        };
        kubernetes::check(&record)?;
        let mut lab =
            Self { layout, record, problems: Vec::new(), interrupt: interrupt.clone(), down_on_drop: false };
        match lab.build(options.manifests.is_none() && options.kubernetes.is_none(), progress) {
            Ok(()) => Ok(lab),
            Err(error) => {
                progress(Event::Note(&format!("{error}; taking back what was made")));
                // The first error is the one to tell; `down` can be called again for what is left.
                if let Err(second) = remove(&lab.layout, progress) {
                    progress(Event::Note(&format!("{second}: run `ferrule lab down` again")));
                }
                Err(error)
            }
        }
    }

    fn build(&mut self, with_example: bool, progress: &Progress<'_>) -> Result<()> {
        let (layout, interrupt) = (self.layout.clone(), self.interrupt.clone());
        make_directories(&layout, &self.record)?;
        if with_example {
            example::write(&layout.example_manifests())?;
        }
        daemons::write_configuration(&layout, &self.record)?;
        let manifests = match &self.record.kubernetes {
            Some(_) => Manifests::default(),
            None => step(progress, "manifests", || manifests::read(&layout, &self.record))?,
        };
        // From here on `down` knows that there is something to remove.
        self.record.save(&layout)?;
        step(progress, "namespaces", || self.namespaces())?;
        let began = Instant::now();
        progress(Event::Began("switches and controller"));
        let record = &self.record;
        std::thread::scope(|scope| {
            // One after the other: the first makes the authority of their certificates.
            let controller = scope.spawn(|| {
                (FIRST_CONTROLLER..=record.controllers)
                    .try_for_each(|number| daemons::start_controller(&layout, record, number, &interrupt))
            });
            let switches: Vec<_> = record
                .node_indexes()
                .map(|node| {
                    scope.spawn({
                        let (layout, interrupt) = (&layout, &interrupt);
                        move || switch::up(layout, record, node, interrupt)
                    })
                })
                .collect();
            switches.into_iter().map(joined).collect::<Result<Vec<()>>>()?;
            joined(controller)
        })?;
        progress(Event::Finished("switches and controller", began.elapsed()));
        step(progress, "agents", || {
            self.on_every_node(|node| daemons::start_agent(&layout, record, node, &interrupt))
        })?;
        self.problems = manifests.problems.clone();
        if !manifests.skipped.is_empty() {
            let kinds: Vec<_> =
                manifests.skipped.iter().map(|(kind, count)| format!("{kind} ({count})")).collect();
            progress(Event::Note(&format!(
                "skipped, as the network has no use for them: {}",
                kinds.join(", ")
            )));
        }
        self.plug(&manifests, progress)?;
        // After the pods: a host-network pod may want the nodes' own port, and then it has it.
        self.on_every_node(|node| pods::start_node_responder(&layout, &self.record, node, &interrupt))?;
        pods::start_outside_responder(&layout, &self.record, &interrupt)?;
        if self.record.kubernetes.is_some() {
            return Ok(());
        }
        // From the beginning it is known what was in force before an edit.
        match self.in_force() {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    fn namespaces(&self) -> Result<()> {
        let mut names = vec![self.layout.underlay_namespace()];
        names.extend(self.record.node_indexes().map(|node| self.layout.node_namespace(node)));
        netns::create(&names)?;
        underlay::up(&self.layout, self.record.family)?;
        if let Some(peer) = self.record.kubernetes.as_ref().and_then(|kubernetes| kubernetes.join.as_ref()) {
            underlay::join(&self.layout, self.record.family, peer)?;
        }
        self.record.node_indexes().try_for_each(|node| underlay::connect(&self.layout, &self.record, node))
    }

    fn on_every_node(&self, work: impl Fn(NodeIndex) -> Result<()> + Sync) -> Result<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .record
                .node_indexes()
                .map(|node| {
                    scope.spawn({
                        let work = &work;
                        move || work(node)
                    })
                })
                .collect();
            threads.into_iter().map(joined).collect::<Result<Vec<()>>>().map(drop)
        })
    }

    /// Plugs the pods of the manifests that are not plugged yet.
    fn plug(&mut self, manifests: &Manifests, progress: &Progress<'_>) -> Result<()> {
        let missing: Vec<_> =
            manifests.pods.iter().filter(|pod| !self.record.pods.contains_key(&pod.key)).collect();
        let total = missing.len();
        let plugged = step(progress, "pods", || {
            pods::plug_all(&self.layout, &self.record, &missing, &self.interrupt, &|done| {
                progress(Event::Part("pods", done, total));
            })
        })?;
        self.record.pods.extend(plugged);
        self.record.save(&self.layout)
    }

    /// The lab of a state directory.
    pub fn open(state: &Path) -> Result<Self> {
        let layout = Layout::new(state)?;
        let record = Record::load(&layout)?;
        Ok(Self {
            layout,
            record,
            problems: Vec::new(),
            interrupt: Interrupt::default(),
            down_on_drop: false,
        })
    }

    /// The same lab, whose waits end when this is set.
    #[must_use]
    pub fn interrupted_by(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// The same lab, taken down when it is dropped: for tests.
    #[must_use]
    pub fn down_on_drop(mut self) -> Self {
        self.down_on_drop = true;
        self
    }

    /// Takes the lab down; nothing is left of it.
    pub fn down(mut self, progress: &Progress<'_>) -> Result<()> {
        self.down_on_drop = false;
        down(self.layout.state(), progress).map(drop)
    }

    /// Makes the pods what the manifests say now: unplugs those that are gone or changed, plugs the new ones. Policies need no
    /// call: the controller watches them. Returns how many were (unplugged, plugged).
    pub fn sync(&mut self, progress: &Progress<'_>) -> Result<(usize, usize)> {
        let _lock = lock(&self.layout)?;
        self.record = Record::load(&self.layout)?;
        let in_force = self.in_force()?;
        for remark in &in_force.remarks {
            progress(Event::Note(remark));
        }
        let manifests = manifests::understand(&in_force.texts, in_force.problems, &self.record);
        self.follow(&manifests, progress)
    }

    /// Unplugs the pods that are gone or changed, plugs the new ones.
    pub(crate) fn follow(
        &mut self,
        manifests: &Manifests,
        progress: &Progress<'_>,
    ) -> Result<(usize, usize)> {
        self.problems = manifests.problems.clone();
        let stale: Vec<_> = self
            .record
            .pods
            .iter()
            .filter(|(key, plugged)| {
                let now = manifests.pods.iter().find(|pod| pod.key == **key);
                !now.is_some_and(|pod| manifests::is_same(pod, plugged)) || !plugged.is_plugged()
            })
            .map(|(key, plugged)| (key.clone(), plugged.clone()))
            .collect();
        step(progress, "unplugging", || {
            for (key, plugged) in &stale {
                self.interrupt.check()?;
                pods::unplug(&self.layout, &self.record, key, plugged)?;
                self.record.pods.remove(key);
                self.record.save(&self.layout)?;
            }
            Ok::<(), Error>(())
        })?;
        let before = self.record.pods.len();
        self.plug(manifests, progress)?;
        Ok((stale.len(), self.record.pods.len() - before))
    }

    /// Whether the manifests name other pods than those that were plugged, or the same ones otherwise. Policies do not matter,
    /// and nobody knows while the controller is away.
    pub fn is_behind(&self) -> Result<bool> {
        let in_force = self.in_force()?;
        if !in_force.is_sure {
            return Ok(false);
        }
        let pods = manifests::understand(&in_force.texts, in_force.problems, &self.record).pods;
        let is_new = |pod: &network::Pod| {
            !self.record.pods.get(&pod.key).is_some_and(|plugged| manifests::is_same(pod, plugged))
        };
        Ok(pods.len() != self.record.pods.len() || pods.iter().any(is_new))
    }

    /// What of the manifests could not be used, and the pods that could not be plugged.
    pub fn problems(&self) -> Vec<Problem> {
        let pods = self.record.pods.iter().filter_map(|(key, pod)| {
            let message = pod.problem.clone()?;
            Some(Problem {
                object: format!("Pod {key}"),
                source: pod.node.name().to_string(),
                message,
                is_warning: false,
            })
        });
        self.problems.iter().cloned().chain(pods).collect()
    }

    /// Names and places.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What is remembered of it.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.down_on_drop {
            // Nobody is left to tell; the next `up` or `down` of this directory removes what this could not.
            let _ = down(self.layout.state(), &silent);
        }
    }
}

/// Takes down whatever is up, half up or left over in a state directory. True when there was something.
pub fn down(state: &Path, progress: &Progress<'_>) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let layout = Layout::new(state)?;
    let _lock = lock(&layout)?;
    remove(&layout, progress)
}

fn make_directories(layout: &Layout, record: &Record) -> Result<()> {
    let mut directories = vec![
        layout.logs(),
        layout.processes(),
        layout.ready(),
        layout.node_manifests(),
        layout.tls(),
        layout.tokens(),
    ];
    directories.extend((FIRST_CONTROLLER..=record.controllers).map(|number| layout.controller_state(number)));
    for node in record.node_indexes() {
        directories.push(layout.ovs_directory(node));
        directories.push(layout.agent_run_directory(node));
        directories.push(layout.agent_state_directory(node));
    }
    directories.iter().try_for_each(|directory| {
        std::fs::create_dir_all(directory).context(|| format!("make {}", directory.display()))
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context(|| format!("find {}", path.display()))
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
