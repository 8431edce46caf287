//! A recorded session is played again and comes to the same model, views and programs, bit by bit, and one in which a single
//! character is another is found out.

#![allow(clippy::unwrap_used)]

#[path = "../../network/tests/arbitrary/mod.rs"]
mod arbitrary;

use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use api::generated::ferrule::v1alpha1 as wire;
use api::stream::Binding;
use api::watermark::Epoch;
use controller::agent::{self, Link, SessionId};
use controller::hearing::Said;
use controller::metrics::Metrics;
use controller::owner::{self, Event, Owner, Surroundings};
use controller::record::digest::{Digester, Digests};
use controller::record::replay::{Difference, Replay, ReplayError, Step};
use controller::record::writer::{Recorder, older};
use controller::source::{Changes, Progress, Revision, Snapshot};
use controller::state::State;
use network::{Network, NodeName, Tier};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

const TIERS: &[Tier] = &[Tier::Admin, Tier::NetworkPolicy, Tier::Baseline];
const LARGE: u64 = 1 << 30;

/// What happens next.
#[derive(Clone, Debug)]
enum Act {
    /// The network of this number, whole.
    Snapshot(usize),
    /// The changes towards it, up to this many.
    Changes(usize, usize),
    Progress(u64),
    Attach(u8),
    Detach(u8),
    /// A pod (by number) has the address that ends like this.
    Bind(u8, usize, u8),
    Release(u8),
    Answer(u8),
    Lead(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let node = 1..=3u8;
    prop_oneof![
        1 => (0..3usize).prop_map(Act::Snapshot),
        4 => (0..3usize, 1..6usize).prop_map(|(to, most)| Act::Changes(to, most)),
        1 => any::<u64>().prop_map(Act::Progress),
        2 => node.clone().prop_map(Act::Attach),
        1 => node.clone().prop_map(Act::Detach),
        3 => (node.clone(), 0..6usize, 0..6u8).prop_map(|(node, pod, last)| Act::Bind(node, pod, last)),
        1 => node.clone().prop_map(Act::Release),
        1 => node.clone().prop_map(Act::Answer),
        1 => node.prop_map(Act::Lead),
    ]
}

fn name(node: u8) -> NodeName {
    NodeName::new(format!("node-{node}"))
}

fn revisions(at: u64) -> std::collections::BTreeMap<String, Revision> {
    [("manifests".to_owned(), Revision::at(at))].into()
}

type Stream = mpsc::Receiver<Result<wire::FromController, Status>>;

/// A live controller's owner, and what its state came to after every act.
struct Session {
    owner: Owner,
    networks: Vec<Network>,
    held: Network,
    count: u64,
    streams: Vec<(u8, SessionId, Stream)>,
    digester: Arc<Mutex<Digester>>,
    saw: Vec<Digests>,
}

impl Session {
    async fn act(&mut self, act: Act) {
        self.count += 1;
        let count = self.count;
        let event = match act {
            Act::Snapshot(to) => {
                self.held = self.networks[to].clone();
                let (network, revisions) = (self.held.clone(), revisions(count));
                Event::Snapshot(Snapshot { revisions, network, ..Snapshot::default() })
            }
            Act::Changes(to, most) => {
                let mut changes = self.networks[to].changes_since(&self.held);
                changes.truncate(most);
                changes.iter().cloned().for_each(|change| self.held.apply(change));
                Event::Changes(Changes { revisions: revisions(count), changes, ..Changes::default() })
            }
            Act::Progress(at) => {
                Event::Progress(Progress { contained: revisions(at), ..Progress::default() })
            }
            Act::Attach(node) => {
                let (out, stream) = mpsc::channel(agent::QUEUE);
                let session = SessionId(count);
                self.streams.retain(|(of, ..)| *of != node);
                self.streams.push((node, session, stream));
                Event::Attach(name(node), Link { session, out }, Box::default())
            }
            act => match self.said(&act) {
                Some(event) => event,
                None => return,
            },
        };
        self.owner.tell(event).await.unwrap();
        let digester = Arc::clone(&self.digester);
        let digests = self.owner.read(move |state| digester.lock().unwrap().digest(state)).await.unwrap();
        self.saw.push(digests);
        for (.., stream) in &mut self.streams {
            while stream.try_recv().is_ok() {}
        }
    }

    /// What an agent says that has a stream.
    fn said(&mut self, act: &Act) -> Option<Event> {
        let (Act::Detach(node)
        | Act::Bind(node, ..)
        | Act::Release(node)
        | Act::Answer(node)
        | Act::Lead(node)) = act
        else {
            return None;
        };
        let at = self.streams.iter().position(|(of, ..)| of == node)?;
        let session = self.streams[at].1;
        let said = match act {
            Act::Detach(node) => {
                self.streams.remove(at);
                return Some(Event::Detach(name(*node), session));
            }
            Act::Bind(node, pod, last) => {
                let pods: Vec<_> = self.held.pods.values().collect();
                let pod = pods.get(pod % pods.len().max(1))?;
                let address: IpAddr = Ipv4Addr::new(10, 244, *node, *last).into();
                let binding = Binding {
                    pod: pod.key.clone(),
                    uid: pod.uid.clone(),
                    addresses: vec![address],
                    interface: "veth".into(),
                };
                Said::Bindings { bound: vec![binding], released: [].into(), revision: self.count }
            }
            Act::Release(_) => {
                let released = self.held.pods.values().take(2).map(|pod| pod.uid.clone()).collect();
                Said::Bindings { bound: vec![], released, revision: self.count }
            }
            Act::Lead(_) => Said::Lead { term: self.count, holding: Default::default() },
            _ => Said::Answer { nonce: self.count % 4, rejected: vec![] },
        };
        Some(Event::Said(name(*node), session, said))
    }
}

/// Runs a session with a recorder; returns what the state came to after every act.
fn recorded(path: &Path, limit: u64, networks: &[Network], acts: &[Act]) -> Vec<Digests> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut state = State::new(Epoch(1), Default::default(), Metrics::default());
        state.check_recompute();
        let recorder = Recorder::create(path, limit, true, &state, Instant::now()).unwrap();
        let (owner, events) = Owner::channel();
        let (stop, stopped) = oneshot::channel();
        let surroundings = Surroundings { saver: None, recorder: Some(recorder), demands: Box::new(|_| {}) };
        let running = tokio::spawn(owner::run(state, events, surroundings, stopped));
        let mut session = Session {
            owner,
            networks: networks.to_vec(),
            held: Network::default(),
            count: 0,
            streams: Vec::new(),
            digester: Arc::new(Mutex::new(Digester::with_programs(true))),
            saw: Vec::new(),
        };
        for act in acts {
            session.act(act.clone()).await;
        }
        stop.send(()).unwrap();
        running.await.unwrap();
        session.saw
    })
}

fn played(recording: &[u8]) -> Result<Vec<Step>, ReplayError> {
    // What is recomputed whole was so when it was recorded.
    let mut replay = Replay::new(Cursor::new(recording), false)?;
    let mut steps = Vec::new();
    while let Some(step) = replay.step()? {
        steps.push(step);
    }
    Ok(steps)
}

fn sessions(cases: u32) -> (TestRunner, impl Strategy<Value = (Vec<Network>, Vec<Act>)>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let networks = vec(arbitrary::network(TIERS), 3).prop_map(|mut networks| {
        networks.iter_mut().for_each(Network::prune);
        networks
    });
    (TestRunner::new(config), (networks, vec(act(), 5..40)))
}

#[test]
fn any_session_replays_to_the_same_model_views_and_programs_at_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.jsonl");
    let (mut runner, sessions) = sessions(20);
    let seen = std::cell::Cell::new(0);
    let result = runner.run(&sessions, |(networks, acts)| {
        let live = recorded(&path, LARGE, &networks, &acts);
        let steps = played(&std::fs::read(&path).unwrap()).unwrap();
        for step in &steps {
            prop_assert_eq!(&step.differences, &vec![], "line {}", step.line);
        }
        let again: Vec<&Digests> = steps.iter().map(|step| &step.digests).collect();
        prop_assert_eq!(again, live.iter().collect::<Vec<_>>());
        seen.set(seen.get() + live.iter().map(|digests| digests.programs.len()).sum::<usize>());
        Ok(())
    });
    result.unwrap();
    assert!(seen.get() > 100, "only {} programs were compared", seen.get());
}

#[test]
fn every_file_of_a_bounded_recording_replays_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.jsonl");
    let (mut runner, sessions) = sessions(12);
    let rotated = std::cell::Cell::new(0);
    let result = runner.run(&sessions, |(networks, acts)| {
        let _ = std::fs::remove_file(older(&path));
        let _ = std::fs::remove_file(&path);
        let limit = 20_000;
        let live = recorded(&path, limit, &networks, &acts);
        let last = played(&std::fs::read(&path).unwrap()).unwrap();
        for step in &last {
            prop_assert_eq!(&step.differences, &vec![], "line {}", step.line);
        }
        if let (Some(step), Some(live)) = (last.last(), live.last()) {
            prop_assert_eq!(&step.digests.model, &live.model);
            prop_assert_eq!(&step.digests.watermark, &live.watermark);
        }
        if let Ok(before) = std::fs::read(older(&path)) {
            rotated.set(rotated.get() + 1);
            prop_assert!(played(&before).unwrap().iter().all(|step| step.differences.is_empty()));
            let largest = before.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0);
            prop_assert!(before.len() < limit as usize / 2 + 3 * largest, "{} bytes", before.len());
        }
        Ok(())
    });
    result.unwrap();
    assert!(rotated.get() > 3, "it became full {} times", rotated.get());
}

/// One session with something of everything.
fn example(path: &Path) -> String {
    let (mut runner, sessions) = sessions(1);
    let (networks, _) = sessions.new_tree(&mut runner).unwrap().current();
    let mut acts = vec![Act::Snapshot(0), Act::Attach(1), Act::Attach(2)];
    acts.extend([
        Act::Bind(1, 0, 3),
        Act::Changes(1, 50),
        Act::Answer(1),
        Act::Bind(2, 1, 4),
        Act::Detach(2),
    ]);
    acts.extend([Act::Changes(2, 50), Act::Release(1), Act::Progress(77)]);
    recorded(path, LARGE, &networks, &acts);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_character_that_is_another_is_found_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = example(&folder.path().join("session.jsonl"));
    assert!(played(text.as_bytes()).unwrap().iter().all(|step| step.differences.is_empty()));
    let lines: Vec<&str> = text.lines().collect();
    let is_found = |changed: &[String]| match played((changed.join("\n") + "\n").as_bytes()) {
        Err(_) => true,
        Ok(steps) => steps.iter().any(|step| !step.differences.is_empty()),
    };
    for (number, line) in lines.iter().enumerate() {
        let digits: Vec<usize> =
            line.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at).collect();
        for at in digits.iter().step_by(digits.len() / 4 + 1) {
            let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            let other = if &line[*at..=*at] == "7" { "6" } else { "7" };
            changed[number].replace_range(*at..=*at, other);
            assert!(is_found(&changed), "line {}: {}", number + 1, changed[number]);
        }
    }
    // Lines that change their places, are missing or come twice.
    for number in 1..lines.len() - 1 {
        let own = || lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let mut swapped = own();
        swapped.swap(number, number + 1);
        let mut missing = own();
        missing.remove(number);
        let mut twice = own();
        twice.insert(number, twice[number].clone());
        for changed in [swapped, missing, twice] {
            assert!(is_found(&changed), "at line {}", number + 1);
        }
    }
}

#[test]
fn an_input_that_is_another_comes_to_something_else_and_the_step_says_what() {
    let folder = tempfile::tempdir().unwrap();
    let text = example(&folder.path().join("session.jsonl"));
    let changed = text.replacen("172.30.0.1", "172.30.0.9", 1);
    let steps = played(changed.as_bytes()).unwrap();
    let all = [Difference::Lines, Difference::Model]
        .into_iter()
        .chain([1, 2].map(|node| Difference::View(name(node))))
        .chain([1, 2].map(|node| Difference::Program(name(node))));
    assert_eq!(steps[0].differences, all.collect::<Vec<_>>());
    assert_eq!((steps[0].line, steps[0].inputs.len()), (3, 1));
}

#[test]
fn what_is_no_recording_is_refused_and_a_cut_line_ends_it() {
    let error = |text: &str| played(text.as_bytes()).unwrap_err().to_string();
    assert!(error("").contains("ferrule-controller --record"));
    assert!(error("{}\n").contains("no beginning"), "{}", error("{}\n"));
    let folder = tempfile::tempdir().unwrap();
    let text = example(&folder.path().join("session.jsonl"));
    let another = text.replacen("ferrule.io/record/1", "ferrule.io/record/9", 1);
    assert!(error(&another).contains("of form ferrule.io/record/9"));
    assert!(
        error(&text.replacen("{\"input\"", "{\"inputs\"", 1)).contains("line 2 is no line of a recording")
    );
    let mut replay = Replay::new(Cursor::new(&text.as_bytes()[..text.len() - 5]), false).unwrap();
    while replay.step().unwrap().is_some() {}
    assert!(replay.is_cut());
}
