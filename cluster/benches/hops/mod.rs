//! Where the time of a change goes: the moments that the daemons' logs tell of, in the order in which a change passes them. It
//! must not know what the changes are.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tests::cluster::Stage;

/// What the daemons are told to log, and how.
const LOG: [(&str, &str); 2] =
    [("FERRULE_LOG", "info,controller=debug,ovs_agent=debug"), ("FERRULE_LOG_FORMAT", "json")];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A time of day: what logs of one machine can be compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// This one.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(
            Duration::from_secs(since.as_secs() % DAY.as_secs())
                + Duration::from_nanos(since.subsec_nanos().into()),
        )
    }

    /// From a log's timestamp, `2026-11-25T20:22:47.832623Z`.
    fn parse(text: &str) -> Option<Self> {
        let (_, time) = text.trim_end_matches('Z').split_once('T')?;
        let mut parts = time.splitn(3, ':');
        let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let seconds: f64 = parts.next()?.parse().ok()?;
        Some(Self(Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_secs_f64(seconds)))
    }

    /// This long after it.
    pub fn later(self, by: Duration) -> Self {
        let at = self.0 + by;
        Self(if at < DAY { at } else { at - DAY })
    }

    /// How long before `later`; across midnight too.
    pub fn until(self, later: Self) -> Duration {
        if later < self { later.0 + DAY - self.0 } else { later.0 - self.0 }
    }
}

/// Begins the program again with the daemons' logs as they are read here, unless it was; gives its outcome then.
pub fn with_logs() -> Option<i32> {
    if std::env::var(LOG[1].0).is_ok_and(|format| format == LOG[1].1) {
        return None;
    }
    let itself = std::env::current_exe().unwrap_or_else(|error| panic!("a benchmark has a path: {error}"));
    let status = Command::new(itself).args(std::env::args_os().skip(1)).envs(LOG).status();
    Some(status.unwrap_or_else(|error| panic!("it runs again: {error}")).code().unwrap_or(1))
}

/// A moment on the way: whose log tells of it, and how.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// What it is called in the figures.
    pub name: &'static str,
    /// `controller`, or a node's agent.
    pub log: &'static str,
    /// The message of the line.
    pub message: &'static str,
    /// A field that the line has, and its value; empty when any will do.
    pub field: (&'static str, &'static str),
}

impl Hop {
    /// All of it in one line.
    pub const fn of(
        name: &'static str,
        log: &'static str,
        message: &'static str,
        field: (&'static str, &'static str),
    ) -> Self {
        Self { name, log, message, field }
    }
}

struct Line {
    at: Moment,
    log: &'static str,
    fields: Value,
}

/// The logs of all daemons.
pub struct Logs(Vec<Line>);

impl Logs {
    /// What they have written so far.
    pub fn read(stage: &Stage) -> Self {
        let names = ["controller", "node-1.agent", "node-2.agent"];
        let read = |log: &'static str| {
            let path = stage.lab.layout().logs().join(format!("{log}.log"));
            lines(&path).into_iter().map(move |(at, fields)| Line { at, log, fields })
        };
        Self(names.into_iter().flat_map(read).collect())
    }

    /// How long each hop took, in order, of a change that began at `from` and was there at `to`; each is looked for behind
    /// the one before it. A change of which a log says nothing has none.
    pub fn passed(&self, hops: &[Hop], from: Moment, to: Moment) -> Option<Vec<Duration>> {
        let whole = from.until(to);
        let mut before = from;
        let mut took = Vec::new();
        for hop in hops {
            let fits = |line: &&Line| {
                let (key, value) = hop.field;
                let says = line.fields["message"] == hop.message;
                line.log == hop.log
                    && says
                    && (key.is_empty() || line.fields[key] == value)
                    && from.until(line.at) <= whole
                    && from.until(line.at) >= from.until(before)
            };
            let at = self.0.iter().filter(fits).map(|line| line.at).min_by_key(|at| from.until(*at))?;
            took.push(before.until(at));
            before = at;
        }
        Some(took)
    }
}

fn lines(path: &Path) -> Vec<(Moment, Value)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).ok()?;
        Some((Moment::parse(line["timestamp"].as_str()?)?, line["fields"].take()))
    };
    text.lines().filter_map(line).collect()
}
