//! Writes a recording while the controller runs. Bounded: a file that is full becomes `FILE.1`, in place of the one before,
//! and another begins. A disk that is full ends the recording and nothing else.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::digest::Digester;
use super::{Begin, Chain, FORMAT, Input, Line, Settled};
use crate::owner::Event;
use crate::state::State;

/// Records until something is in the way of it.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    /// In bytes; of two files.
    limit: u64,
    programs: bool,
    began: Instant,
    file: Option<Recording>,
}

#[derive(Debug)]
struct Recording {
    out: BufWriter<File>,
    written: u64,
    chain: Chain,
    digester: Digester,
    /// Inputs wait for being settled.
    inputs: bool,
}

impl Recorder {
    /// Begins with this state. What an earlier run left in the file is kept as `FILE.1`. `programs` asks for the digests of
    /// programs too, which is dear.
    pub fn create(path: &Path, limit: u64, programs: bool, state: &State, now: Instant) -> io::Result<Self> {
        let mut recorder = Self { path: path.to_owned(), limit, programs, began: now, file: None };
        recorder.file = Some(recorder.begin(state)?);
        Ok(recorder)
    }

    fn begin(&self, state: &State) -> io::Result<Recording> {
        if self.path.exists() {
            std::fs::rename(&self.path, older(&self.path))?;
        }
        let mut recording = Recording {
            out: BufWriter::new(File::create(&self.path)?),
            written: 0,
            chain: Chain::default(),
            digester: Digester::with_programs(self.programs),
            inputs: false,
        };
        recording.line(&Line::Begin(Box::new(Begin {
            format: FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: state.checkpoint(),
        })))?;
        recording.out.flush()?;
        Ok(recording)
    }

    /// Before it happens.
    pub fn input(&mut self, event: &Event, now: Instant) {
        let at_us = self.at_us(now);
        let Some(input) = Input::of(event) else { return };
        self.attempt(|recording| {
            recording.inputs = true;
            recording.line(&Line::Input { at_us, input: Box::new(input) })
        });
    }

    /// After the state was settled. `woke` says that it was so because time has passed.
    pub fn settled(&mut self, state: &State, now: Instant, woke: bool) {
        let at_us = self.at_us(now);
        self.attempt(|recording| {
            if !recording.inputs && !woke {
                return Ok(());
            }
            recording.inputs = false;
            let settled = Settled {
                at_us,
                chain: recording.chain.value(at_us),
                digests: recording.digester.digest(state),
            };
            recording.line(&Line::Settled(Box::new(settled)))?;
            recording.out.flush()
        });
        if self.file.as_ref().is_some_and(|recording| recording.written > self.limit / 2) {
            self.file = None;
            match self.begin(state) {
                Ok(recording) => self.file = Some(recording),
                Err(error) => self.lament(&error),
            }
        }
    }

    fn at_us(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    fn attempt(&mut self, act: impl FnOnce(&mut Recording) -> io::Result<()>) {
        let Some(recording) = &mut self.file else { return };
        if let Err(error) = act(recording) {
            self.file = None;
            self.lament(&error);
        }
    }

    fn lament(&self, error: &io::Error) {
        tracing::error!(file = %self.path.display(), %error, "--record: the recording ends here; the controller goes on");
    }
}

impl Recording {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        let text = serde_json::to_string(line)?;
        self.chain.take(&text);
        self.written += text.len() as u64 + 1;
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")
    }
}

/// Where the file before is kept.
pub fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}
