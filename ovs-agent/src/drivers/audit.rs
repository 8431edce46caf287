//! The audit log: what audited policies decided, one JSON object a line, and how many decisions are missing. It needs no
//! controller. It must not know how the switch tells of decisions.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use api::insight::{Owner, TupleItem};
use compiler::Reason;
use network::NodeName;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::copies::Decision;
use crate::insight::{owner_item, tuple_item};
use crate::owner::{Ask, SwitchCommand, ask};
use crate::time::rfc3339;

/// Decisions that wait for the log; more are left out and counted.
pub const WAITING: usize = 1_024;
/// A file is that long at most, in bytes; one earlier file is kept beside it, with `.1` behind its name.
const LONGEST: u64 = 16 << 20;
/// How often to see what was left out, and why flows exist, at most.
const PAUSE: Duration = Duration::from_secs(1);

/// A line about a decision.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    node: &'a NodeName,
    verdict: &'static str,
    #[serde(flatten)]
    tuple: TupleItem,
    /// Who decided: rules that allow or deny, or the policies that isolate; all owners of a flow that several share.
    owners: Vec<Owner>,
    #[serde(skip_serializing_if = "str::is_empty")]
    what: &'a str,
}

/// A line about decisions that have none, since the last one.
#[derive(Debug, Serialize)]
struct Suppressed<'a> {
    time: String,
    node: &'a NodeName,
    verdict: &'static str,
    suppressed: u64,
}

/// What the log asks.
#[derive(Debug)]
pub struct Sources {
    /// The owner of the node's state, for why flows exist.
    pub asks: mpsc::Sender<Ask>,
    /// The driver of the switch, for what it did not copy.
    pub switch: mpsc::Sender<SwitchCommand>,
    /// The time.
    pub clock: fn() -> SystemTime,
}

/// Runs until nobody decides any more.
pub async fn run(path: PathBuf, node: NodeName, mut decisions: mpsc::Receiver<Decision>, sources: Sources) {
    let mut log =
        Log { file: File::new(path), node, sources, reasons: BTreeMap::new(), told: [0; 2], asked: None };
    loop {
        let Some(decision) = decisions.recv().await else { return };
        log.note(decision).await;
        // What comes at once is written, then what was left out meanwhile is counted, until nothing is.
        loop {
            match tokio::time::timeout(PAUSE, decisions.recv()).await {
                Ok(Some(decision)) => log.note(decision).await,
                Ok(None) => return,
                Err(_) => {
                    if !log.count().await {
                        break;
                    }
                }
            }
            if log.asked.is_none_or(|at| at.elapsed() > PAUSE) {
                log.count().await;
            }
        }
    }
}

struct Log {
    file: File,
    node: NodeName,
    sources: Sources,
    reasons: BTreeMap<u32, Reason>,
    /// What the switch had left out when it was last asked: denied, allowed.
    told: [u64; 2],
    asked: Option<tokio::time::Instant>,
}

impl Log {
    async fn note(&mut self, decision: Decision) {
        if !self.reasons.contains_key(&decision.flow) {
            self.learn().await;
        }
        let unknown = Reason::default();
        // A flow that is gone meanwhile has no reason any more.
        let reason = self.reasons.get(&decision.flow).unwrap_or(&unknown);
        let line = Line {
            time: rfc3339(decision.at),
            node: &self.node,
            verdict: if decision.allowed { "allowed" } else { "denied" },
            tuple: tuple_item(&decision.tuple),
            owners: reason.owners.iter().map(owner_item).collect(),
            what: &reason.what,
        };
        self.file.write(&line);
    }

    /// Why the audited flows exist that are there now. What went is kept as long as its copies may be on their way.
    async fn learn(&mut self) {
        if let Some(snapshot) = ask(&self.sources.asks, Ask::Snapshot).await {
            self.reasons = snapshot.reasons.recipe().audited();
        }
    }

    /// Whether something was left out since the last time.
    async fn count(&mut self) -> bool {
        self.asked = Some(tokio::time::Instant::now());
        let (reply, answer) = oneshot::channel();
        if self.sources.switch.send(SwitchCommand::Suppressed(reply)).await.is_err() {
            return false;
        }
        // A switch that is away left nothing out, as it decided nothing.
        let Ok(Ok(now)) = answer.await else { return false };
        let mut any = false;
        for ((verdict, now), told) in ["denied", "allowed"].into_iter().zip(now).zip(&mut self.told) {
            // Its meters may be new ones.
            let suppressed = now.checked_sub(*told).unwrap_or(now);
            *told = now;
            if suppressed > 0 {
                any = true;
                let time = rfc3339((self.sources.clock)());
                self.file.write(&Suppressed { time, node: &self.node, verdict, suppressed });
            }
        }
        any
    }
}

/// The file, made when there is something to write.
struct File {
    path: PathBuf,
    open: Option<(std::fs::File, u64)>,
    /// It could not be written; said once.
    failed: bool,
}

impl File {
    fn new(path: PathBuf) -> Self {
        Self { path, open: None, failed: false }
    }

    fn write(&mut self, line: &impl Serialize) {
        match self.try_write(line) {
            Ok(()) => self.failed = false,
            Err(error) => {
                self.open = None;
                if !std::mem::replace(&mut self.failed, true) {
                    let path = self.path.display();
                    tracing::error!(%path, %error, "the audit log cannot be written; free space or mend the disk");
                }
            }
        }
    }

    fn try_write(&mut self, line: &impl Serialize) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if self.open.as_ref().is_some_and(|(_, length)| *length + text.len() as u64 > LONGEST) {
            self.open = None;
            std::fs::rename(&self.path, earlier(&self.path))?;
        }
        let (file, length) = match &mut self.open {
            Some(open) => open,
            None => {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.path)?;
                let length = file.metadata()?.len();
                self.open.insert((file, length))
            }
        };
        file.write_all(&text)?;
        *length += text.len() as u64;
        Ok(())
    }
}

fn earlier(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_an_end_and_its_predecessor_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut file = File::new(path.clone());
        let long = "x".repeat((LONGEST / 3) as usize);
        for _ in 0..4 {
            file.write(&long);
        }
        let length = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert_eq!((length(&path), length(&earlier(&path))), (LONGEST / 3 * 2 + 6, LONGEST / 3 * 2 + 6));
        // An agent that starts anew goes on where it was.
        File::new(path.clone()).write(&"y");
        assert_eq!(length(&path), LONGEST / 3 * 2 + 6 + 4);
        let mut nowhere = File::new(folder.path().join("no/such/folder"));
        nowhere.write(&"y");
        assert!(nowhere.failed);
    }
}
