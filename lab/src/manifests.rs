//! What the manifests say: which pods run where, and the network that the evaluator judges. Reads files; all understanding is
//! `objects`', in the way the controller's source goes too.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use network::{NamespacedName, Network, Pod};
use objects::directory::{self, MAX_FILE_BYTES};
use objects::translate::service::SERVICE_NAME_LABEL;
use objects::{ObjectSet, Severity, SourceText};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::record::{PodRecord, Record};

/// Something in the manifests that could not be used, or a pod that could not be plugged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which object.
    pub object: String,
    /// Where it stands.
    pub source: String,
    /// What is wrong and what to do.
    pub message: String,
    /// It is in force as written, but for something that is ignored.
    pub is_warning: bool,
}

impl From<objects::Problem> for Problem {
    fn from(problem: objects::Problem) -> Self {
        let field = problem.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
        Self {
            object: problem.object.as_ref().map(ToString::to_string).unwrap_or_default(),
            source: problem.source.as_ref().map(ToString::to_string).unwrap_or_default(),
            message: format!("{field}{}; {}", problem.what(), problem.cure()),
            is_warning: problem.severity() == Severity::Warning,
        }
    }
}

/// The manifests of a lab, read.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// Every pod that runs on a node of the lab.
    pub pods: Vec<Pod>,
    /// What could not be used.
    pub problems: Vec<Problem>,
    /// Objects of kinds that do not matter to the network, counted.
    pub skipped: BTreeMap<String, u32>,
    objects: ObjectSet,
    nodes: Vec<network::Node>,
}

impl Manifests {
    /// The network with the addresses that pods really have; pods that are not plugged are not part of it.
    pub fn network(&self, record: &Record) -> Network {
        let mut pods = self.pods.clone();
        pods.retain_mut(|pod| match record.pods.get(&pod.key).filter(|plugged| plugged.is_plugged()) {
            Some(plugged) => {
                pod.addresses.clone_from(&plugged.addresses);
                true
            }
            None => false,
        });
        objects::translate(&self.objects, &self.nodes, &pods).0
    }

    /// What of Services the EndpointSlices say, and nothing that is made up: those without one are left out.
    pub(crate) fn only_with_slices(&mut self) {
        let slices = self.objects.endpoint_slices.iter();
        let owners: BTreeSet<NamespacedName> = slices
            .filter_map(|(key, slice)| {
                let name = slice.value.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
                Some(NamespacedName::new(key.namespace(), name))
            })
            .collect();
        self.objects.services.retain(|key, _| owners.contains(key));
        for spec in self.objects.services.values_mut().filter_map(|service| service.value.spec.as_mut()) {
            spec.selector = None;
        }
    }
}

/// Reads the lab's manifests and places their pods. Fails only when the directory cannot be read at all.
pub fn read(layout: &Layout, record: &Record) -> Result<Manifests> {
    let (mut sources, unreadable) = texts(&record.manifests)?;
    sources.extend(texts(&layout.node_manifests())?.0);
    Ok(understand(&sources, unreadable, record))
}

/// The same for texts that were read already.
pub fn understand(sources: &[SourceText], unreadable: Vec<Problem>, record: &Record) -> Manifests {
    let (objects, mut problems) = objects::read(sources);
    let (nodes, more) = objects::nodes(&objects);
    problems.extend(more);
    let placement = objects::place(&objects, &nodes);
    problems.extend(placement.problems);
    // What policies say wrongly shows in the translation.
    problems.extend(objects::translate(&objects, &nodes, &placement.pods).1);
    let mut problems: Vec<Problem> = problems.into_iter().map(Problem::from).chain(unreadable).collect();
    let (pods, strangers): (Vec<_>, Vec<_>) = placement
        .pods
        .into_iter()
        .filter(|pod| !pod.completed)
        .partition(|pod| pod.node.as_ref().is_some_and(|node| record.node_of(node).is_some()));
    problems.extend(strangers.iter().map(|pod| Problem {
        object: format!("Pod {}", pod.key),
        source: String::new(),
        message: format!(
            "it is bound to node {}, which the lab does not have; take the Node object out of the manifests, or bring the lab \
             up with more --nodes",
            pod.node.as_ref().map_or("", |node| node.as_str())
        ),
        is_warning: false,
    }));
    problems.sort_by(|a, b| (&a.source, &a.object, &a.message).cmp(&(&b.source, &b.object, &b.message)));
    problems.dedup();
    Manifests { pods, problems, skipped: objects.skipped.clone(), objects, nodes }
}

/// The manifests of a directory and of those in it, by path: YAML and JSON. A file that cannot be read is a problem of its own.
pub fn texts(directory: &Path) -> Result<(Vec<SourceText>, Vec<Problem>)> {
    let mut paths = Vec::new();
    list(directory, 0, &mut BTreeSet::new(), &mut paths)?;
    if paths.is_empty() {
        return Err(Error::Manifests {
            directory: directory.to_owned(),
            why: "there is no .yaml, .yml or .json file in it".to_owned(),
        });
    }
    paths.sort();
    Ok(read_all(paths))
}

/// The same of one path that somebody named: a directory, or a file whatever it is called.
pub fn named(path: &Path) -> Result<(Vec<SourceText>, Vec<Problem>)> {
    let unreadable =
        |error: std::io::Error| Error::Manifests { directory: path.to_owned(), why: error.to_string() };
    match std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        true => texts(path),
        false => Ok(read_all(vec![path.to_owned()])),
    }
}

fn read_all(paths: Vec<PathBuf>) -> (Vec<SourceText>, Vec<Problem>) {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match text(&path) {
            Ok(text) => texts.push(SourceText::new(path.display().to_string(), text)),
            // Removed since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => problems.push(Problem {
                object: path.display().to_string(),
                source: path.display().to_string(),
                message: format!(
                    "the file cannot be read and is left out: {error}; it must be UTF-8 text of at most {} MiB",
                    MAX_FILE_BYTES >> 20
                ),
                is_warning: false,
            }),
        }
    }
    (texts, problems)
}

fn text(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    std::fs::read_to_string(path)
}

fn list(path: &Path, depth: usize, seen: &mut BTreeSet<(u64, u64)>, found: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable =
        |error: std::io::Error| Error::Manifests { directory: path.to_owned(), why: error.to_string() };
    let own = std::fs::metadata(path).map_err(unreadable)?;
    // A link may lead back.
    if !seen.insert((own.dev(), own.ino())) {
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
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

/// Whether a pod is still the one that was plugged.
pub fn is_same(pod: &Pod, plugged: &PodRecord) -> bool {
    let serves = |port: &network::NamedPort| {
        plugged.serves.iter().any(|served| served.protocol == port.protocol && served.port == port.number)
    };
    pod.uid == plugged.uid
        && pod.node == Some(plugged.node.name())
        && pod.host_network == plugged.host_network
        && pod.addresses == plugged.wanted
        && pod.ports.iter().all(serves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Family, NodeIndex};

    fn lab(manifests: &Path) -> (tempfile::TempDir, Layout, Record) {
        let state = tempfile::Builder::new().prefix("lab-").tempdir_in("/tmp").unwrap();
        let layout = Layout::new(state.path()).unwrap();
        let record = Record {
            nodes: 2,
            family: Family::Dual,
            datapath: Default::default(),
            controllers: 1,
            manifests: manifests.to_owned(),
            kubernetes: None,
            recorded: false,
            binaries: "/".into(),
            pods: BTreeMap::new(),
        };
        for directory in [layout.node_manifests(), layout.tokens()] {
            std::fs::create_dir_all(directory).unwrap();
        }
        for node in record.node_indexes() {
            std::fs::create_dir_all(layout.node_directory(node)).unwrap();
        }
        crate::daemons::write_configuration(&layout, &record).unwrap();
        (state, layout, record)
    }

    #[test]
    fn the_example_is_twelve_pods_on_two_nodes_without_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        crate::example::write(folder.path()).unwrap();
        let (_state, layout, record) = lab(folder.path());
        let manifests = read(&layout, &record).unwrap();
        assert_eq!(manifests.problems, []);
        assert_eq!(manifests.pods.len(), 12);
        let on_first = manifests.pods.iter().filter(|pod| pod.node == Some(NodeIndex(1).name())).count();
        assert!((5..=7).contains(&on_first), "{on_first} of 12 pods are on node-1");
        // Nobody is plugged: nobody takes part.
        assert!(manifests.network(&record).pods.is_empty());
        assert_eq!(manifests.network(&record).nodes.len(), 2);
    }

    #[test]
    fn a_directory_without_manifests_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = texts(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        assert!(texts(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn a_directory_that_leads_back_to_itself_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("good.yaml"), "apiVersion: v1").unwrap();
        std::os::unix::fs::symlink(".", folder.path().join("loop")).unwrap();
        assert_eq!(texts(folder.path()).unwrap().0.len(), 1);
    }

    #[test]
    fn a_file_that_is_no_text_is_a_problem_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("good.yaml"), "apiVersion: v1").unwrap();
        std::fs::write(folder.path().join("latin.yaml"), b"name: \xff\xfe").unwrap();
        let (texts, problems) = texts(folder.path()).unwrap();
        assert_eq!(texts.len(), 1);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].object.ends_with("latin.yaml"), "{problems:?}");
        assert!(problems[0].message.contains("UTF-8"), "{problems:?}");
    }
}
