//! Files in a real directory, read by hand and through the watch. The texts are a toy language: one node name per line.

use network::{Node, NodeName};
use tokio::sync::mpsc as events;

use super::*;

#[derive(Clone, Copy, Debug)]
struct Lines;

impl Translate for Lines {
    fn check(&self, _: &str, text: &str) -> Result<(), String> {
        match text.lines().position(|line| line.contains('!')) {
            Some(line) => Err(format!("line {}", line + 1)),
            None => Ok(()),
        }
    }

    fn translate(&self, files: &BTreeMap<String, Arc<str>>) -> (Network, Vec<Problem>) {
        let names = files.values().flat_map(|text| text.lines()).filter(|line| !line.contains('!'));
        let node = |name: &str| Node {
            name: NodeName::new(name),
            labels: BTreeMap::new(),
            addresses: vec![],
            pod_cidrs: vec![],
            ..Node::default()
        };
        let nodes = names.map(|name| (NodeName::new(name), node(name))).collect();
        (Network { nodes, ..Network::default() }, vec![])
    }
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.network.nodes.keys().map(NodeName::as_str).collect()
}

fn read(manifests: &mut Manifests<Lines>) -> (Vec<String>, Vec<String>) {
    let snapshot = manifests.read().expect("something changed");
    let names = names(&snapshot).into_iter().map(str::to_owned).collect();
    (names, snapshot.problems.into_iter().map(|problem| problem.message).collect())
}

#[test]
fn a_malformed_file_keeps_its_last_good_content_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("a.yaml"), "a1\na2\n").unwrap();
    std::fs::write(file("b.yml"), "b1\n").unwrap();
    std::fs::write(file("c.txt"), "ignored\n").unwrap();
    std::fs::write(file(".d.yaml"), "ignored\n").unwrap();
    let mut manifests = Manifests::new(vec![directory.path().to_owned()], Lines);
    assert_eq!(read(&mut manifests), (vec!["a1".into(), "a2".into(), "b1".into()], vec![]));
    assert_eq!(manifests.read(), None);

    std::fs::write(file("a.yaml"), "a1\n!half").unwrap();
    std::fs::write(file("b.yml"), "b2\n").unwrap();
    let (names, problems) = read(&mut manifests);
    assert_eq!(names, ["a1", "a2", "b2"]);
    assert_eq!(problems, ["the file cannot be parsed (line 2); its last good content stays in force"]);

    // Not UTF-8 is not readable; a good version ends it; a removed file is gone.
    std::fs::write(file("b.yml"), [0xff, 0xfe]).unwrap();
    assert!(read(&mut manifests).1.iter().any(|message| message.contains("cannot be read")));
    std::fs::write(file("a.yaml"), "a3\n").unwrap();
    std::fs::remove_file(file("b.yml")).unwrap();
    assert_eq!(read(&mut manifests), (vec!["a3".into()], vec![]));
}

#[test]
fn of_a_new_file_what_can_be_parsed_is_used() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), "a1\n!half").unwrap();
    let mut manifests = Manifests::new(vec![directory.path().to_owned()], Lines);
    assert_eq!(read(&mut manifests).0, ["a1"]);
}

#[test]
fn a_directory_that_is_gone_keeps_its_files_in_force() {
    let parent = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| parent.path().join(name));
    for (directory, node) in [(&one, "a"), (&two, "b")] {
        std::fs::create_dir(directory).unwrap();
        std::fs::write(directory.join("x.yaml"), node).unwrap();
    }
    let mut manifests = Manifests::new(vec![one.clone(), two], Lines);
    assert_eq!(read(&mut manifests).0, ["a", "b"]);
    std::fs::remove_dir_all(&one).unwrap();
    let (names, problems) = read(&mut manifests);
    assert_eq!((names.len(), problems.len()), (2, 1));
    assert!(problems[0].contains("cannot be listed"), "{problems:?}");
}

/// Snapshots that come through the watch.
struct Watching {
    events: events::Receiver<Event>,
    thread: std::thread::JoinHandle<()>,
}

impl Watching {
    fn begin(directories: Vec<PathBuf>) -> Self {
        let (owner, events) = Owner::channel();
        let thread = Manifests::new(directories, Lines).watch(owner, mpsc::channel()).unwrap();
        Self { events, thread }
    }

    fn next(&mut self) -> Snapshot {
        match self.events.blocking_recv() {
            Some(Event::Snapshot(snapshot)) => snapshot,
            other => panic!("{other:?}"),
        }
    }

    fn end(self) {
        drop(self.events);
        self.thread.join().unwrap();
    }
}

#[test]
fn the_watch_sees_writes_renames_and_removals_once_each() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("a.yaml"), "a1\n").unwrap();
    let mut watching = Watching::begin(vec![directory.path().to_owned()]);
    assert_eq!((names(&watching.next()), watching.events.len()), (vec!["a1"], 0));

    std::fs::write(file("b.yaml"), "b1\n").unwrap();
    let snapshot = watching.next();
    assert_eq!((snapshot.revisions[MANIFESTS].changed, names(&snapshot)), (2, vec!["a1", "b1"]));

    // As editors and `mv` replace a file.
    std::fs::write(file(".b.yaml.swp"), "b2\n").unwrap();
    std::fs::rename(file(".b.yaml.swp"), file("b.yaml")).unwrap();
    assert_eq!(names(&watching.next()), ["a1", "b2"]);

    std::fs::create_dir(file("deeper")).unwrap();
    std::fs::write(file("deeper").join("c.yaml"), "c1\n").unwrap();
    assert_eq!(names(&watching.next()), ["a1", "b2", "c1"]);

    std::fs::remove_file(file("a.yaml")).unwrap();
    assert_eq!(names(&watching.next()), ["b2", "c1"]);
    watching.end();
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    use std::io::Write;
    let directory = tempfile::tempdir().unwrap();
    let mut watching = Watching::begin(vec![directory.path().to_owned()]);
    assert_eq!(names(&watching.next()).len(), 0);
    let mut file = std::fs::File::create(directory.path().join("a.yaml")).unwrap();
    for k in 0..5 {
        writeln!(file, "a{k}").unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    drop(file);
    assert_eq!(names(&watching.next()), ["a0", "a1", "a2", "a3", "a4"]);
    watching.end();
}

#[test]
fn a_directory_that_comes_back_is_watched_again() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("manifests");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("a.yaml"), "a1\n").unwrap();
    let mut watching = Watching::begin(vec![directory.clone()]);
    assert_eq!(names(&watching.next()), ["a1"]);
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("b.yaml"), "b1\n").unwrap();
    let mut latest = watching.next();
    while names(&latest) != ["b1"] {
        latest = watching.next();
    }
    std::fs::write(directory.join("b.yaml"), "b2\n").unwrap();
    while names(&latest) != ["b2"] {
        latest = watching.next();
    }
    watching.end();
}

#[test]
fn what_is_in_force_of_a_file_can_be_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let mut manifests = Manifests::new(vec![directory.path().to_owned()], Lines);
    let mut sum = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let snapshot = manifests.read().expect("something changed");
        snapshot.files[&file.display().to_string()].clone()
    };
    assert_eq!(sum("a1\n"), sha256("a1\n"));
    // Another text with the same nodes is another text.
    assert_eq!(sum("a1\n\n"), sha256("a1\n\n"));
    assert_eq!(sum("a1\n!half"), sha256("a1\n\n"), "the last good content is in force");
}

#[test]
fn a_directory_that_leads_back_to_itself_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), "a1\n").unwrap();
    std::os::unix::fs::symlink(".", directory.path().join("loop")).unwrap();
    let mut manifests = Manifests::new(vec![directory.path().to_owned()], Lines);
    assert_eq!(manifests.read().expect("something is there").files.len(), 1);
}
