//! Plays a recording again, step by step, on a state of its own: what it comes to must be what was written down.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::{Duration, Instant};

use network::NodeName;
use tokio::sync::mpsc;

use super::digest::{Digest, Digester, Digests};
use super::{Chain, FORMAT, Input, Line, Settled};
use crate::agent::{self, Link, SessionId};
use crate::metrics::Metrics;
use crate::state::State;

/// Why a recording cannot be played on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such file, or it may not be read.
    #[error("cannot be opened: {0}")]
    Open(std::io::Error),
    /// Nobody takes what is printed.
    #[error("cannot print: {0}")]
    Print(std::io::Error),
    /// The file.
    #[error("line {line}: {error}")]
    Read {
        /// Counted from 1.
        line: usize,
        /// Why.
        error: std::io::Error,
    },
    /// Not a line of a recording.
    #[error("line {line} is no line of a recording: {error}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Why.
        error: serde_json::Error,
    },
    /// It is not the beginning of a recording that is understood.
    #[error("{0}; take a file that `ferrule-controller --record` of this version has written")]
    Beginning(String),
}

/// What is not as it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The lines before are not those that were written.
    Lines,
    /// How much of every source is contained.
    Watermark,
    /// The model.
    Model,
    /// A node's view.
    View(NodeName),
    /// A node's program.
    Program(NodeName),
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lines => f.write_str("a line before this one is not as it was written"),
            Self::Watermark => f.write_str("another watermark than was recorded"),
            Self::Model => f.write_str("another model than was recorded"),
            Self::View(node) => write!(f, "another view of node {node} than was recorded"),
            Self::Program(node) => write!(f, "another program of node {node} than was recorded"),
        }
    }
}

/// What came of a batch of inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The line that says what it came to, counted from 1.
    pub line: usize,
    /// Since the recording began.
    pub at: Duration,
    /// What happened, in a few words each.
    pub inputs: Vec<String>,
    /// What it came to now.
    pub digests: Digests,
    /// What it did not come to then.
    pub differences: Vec<Difference>,
}

/// A recording that is played.
#[derive(Debug)]
pub struct Replay<R> {
    lines: R,
    line: usize,
    chain: Chain,
    state: State,
    digester: Digester,
    began: Instant,
    /// The agents' ends; nobody reads what they are sent.
    streams: BTreeMap<SessionId, mpsc::Receiver<Sent>>,
    cut: bool,
}

type Sent = Result<api::generated::ferrule::v1alpha1::FromController, tonic::Status>;

impl<R: BufRead> Replay<R> {
    /// Reads the beginning. With `check_recompute` everything is recomputed whole at every step, which panics where the
    /// incremental index says something else.
    pub fn new(mut lines: R, check_recompute: bool) -> Result<Self, ReplayError> {
        let mut chain = Chain::default();
        let (text, _) = read(&mut lines, 1)?;
        let begin = match serde_json::from_str(&text) {
            Ok(Line::Begin(begin)) => begin,
            Ok(_) => return Err(ReplayError::Beginning("the first line is no beginning".to_owned())),
            Err(error) => return Err(ReplayError::Beginning(format!("line 1 is no beginning: {error}"))),
        };
        if begin.format != FORMAT {
            let is = format!("the recording is of form {}, this is {FORMAT}", begin.format);
            return Err(ReplayError::Beginning(is));
        }
        chain.take(&text);
        let mut streams = BTreeMap::new();
        let mut state =
            State::restore(begin.state, Metrics::default(), |session| link(&mut streams, session));
        if check_recompute {
            state.check_recompute();
        }
        let (digester, began) = (Digester::with_programs(true), Instant::now());
        Ok(Self { lines, line: 1, chain, state, digester, began, streams, cut: false })
    }

    /// The next step; `None` at the end.
    pub fn step(&mut self) -> Result<Option<Step>, ReplayError> {
        let mut inputs = Vec::new();
        loop {
            self.line += 1;
            let (text, whole) = read(&mut self.lines, self.line)?;
            if !whole {
                // A controller that is killed may leave half a line.
                self.cut = !text.is_empty();
                return Ok(None);
            }
            let malformed = |error| ReplayError::Malformed { line: self.line, error };
            match serde_json::from_str(&text).map_err(malformed)? {
                Line::Input { at_us, input } => {
                    inputs.push(input.title());
                    self.happen(*input, Duration::from_micros(at_us));
                }
                Line::Settled(settled) => {
                    let step = self.settle(&settled, inputs);
                    self.chain.take(&text);
                    return Ok(Some(step));
                }
                Line::Begin(_) => {
                    return Err(ReplayError::Beginning(format!("line {} begins anew", self.line)));
                }
            }
            self.chain.take(&text);
        }
    }

    /// Whether the recording ended inside a line.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The state as it is by now.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn happen(&mut self, input: Input, at: Duration) {
        let Self { state, streams, .. } = self;
        match input {
            Input::Snapshot(snapshot) => state.snapshot(snapshot),
            Input::Changes(changes) => state.changes(changes),
            Input::Progress(progress) => state.progress(progress),
            Input::Confirm(demand) => state.confirm(&demand),
            Input::Attach { node, session, hello } => state.attach(&node, link(streams, session), hello),
            Input::Said { node, session, said } => state.said(&node, session, said, self.began + at),
            Input::Detach { node, session } => {
                state.detach(&node, session);
                streams.remove(&session);
            }
        }
    }

    fn settle(&mut self, settled: &Settled, inputs: Vec<String>) -> Step {
        let at = Duration::from_micros(settled.at_us);
        self.state.settle(self.began + at);
        for stream in self.streams.values_mut() {
            while stream.try_recv().is_ok() {}
        }
        let _ = self.state.take_demand();
        let digests = self.digester.digest(&self.state);
        let mut differences = Vec::new();
        if self.chain.value(settled.at_us) != settled.chain {
            differences.push(Difference::Lines);
        }
        differences.extend(compare(&settled.digests, &digests));
        Step { line: self.line, at, inputs, digests, differences }
    }
}

fn compare(recorded: &Digests, now: &Digests) -> Vec<Difference> {
    let mut differences = Vec::new();
    if recorded.watermark != now.watermark {
        differences.push(Difference::Watermark);
    }
    if recorded.model != now.model {
        differences.push(Difference::Model);
    }
    differences.extend(unequal(&recorded.views, &now.views).map(Difference::View));
    if !recorded.programs.is_empty() {
        differences.extend(unequal(&recorded.programs, &now.programs).map(Difference::Program));
    }
    differences
}

fn unequal<'a, V: PartialEq>(
    a: &'a BTreeMap<NodeName, V>,
    b: &'a BTreeMap<NodeName, V>,
) -> impl Iterator<Item = NodeName> + 'a {
    let missing = b.keys().filter(|node| !a.contains_key(*node));
    a.iter().filter(|(node, value)| b.get(*node) != Some(value)).map(|(node, _)| node).chain(missing).cloned()
}

fn link(streams: &mut BTreeMap<SessionId, mpsc::Receiver<Sent>>, session: SessionId) -> Link {
    let (out, stream) = mpsc::channel(agent::QUEUE);
    streams.insert(session, stream);
    Link { session, out }
}

/// A line without its end, and whether it has one.
fn read(lines: &mut impl BufRead, line: usize) -> Result<(String, bool), ReplayError> {
    let mut text = String::new();
    lines.read_line(&mut text).map_err(|error| ReplayError::Read { line, error })?;
    let whole = text.ends_with('\n');
    if whole {
        text.pop();
    }
    Ok((text, whole))
}

impl Step {
    /// The program of a node whose view changed in this step.
    pub fn program(&self, node: &NodeName) -> Option<&Digest> {
        self.digests.programs.get(node)
    }
}
