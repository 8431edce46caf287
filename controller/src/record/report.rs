//! `ferrule-controller --replay FILE`: every step and what it came to, for people or as JSON lines.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use serde_json::json;

use super::digest::Digest;
use super::replay::{Replay, ReplayError, Step};
use crate::config::LogFormat;

/// Plays a recording and prints its steps; whether everything came to what was recorded.
pub fn run(
    path: &Path,
    check_recompute: bool,
    format: LogFormat,
    mut out: impl Write,
) -> Result<bool, ReplayError> {
    let file = File::open(path).map_err(ReplayError::Open)?;
    let mut replay = Replay::new(BufReader::new(file), check_recompute)?;
    let (mut steps, mut differing) = (0, 0);
    while let Some(step) = replay.step()? {
        steps += 1;
        differing += usize::from(!step.differences.is_empty());
        match format {
            LogFormat::Text => text(&mut out, steps, &step),
            LogFormat::Json => writeln!(out, "{}", line(steps, &step)),
        }
        .map_err(ReplayError::Print)?;
    }
    let cut = if replay.is_cut() { "; the last line is cut off" } else { "" };
    let end = match format {
        LogFormat::Text => {
            writeln!(out, "{steps} steps, {differing} of them differ from what was recorded{cut}")
        }
        LogFormat::Json => Ok(()),
    };
    end.and_then(|()| out.flush()).map_err(ReplayError::Print)?;
    Ok(differing == 0)
}

fn text(out: &mut impl Write, number: usize, step: &Step) -> io::Result<()> {
    let inputs = if step.inputs.is_empty() { "time passed".to_owned() } else { step.inputs.join(", ") };
    writeln!(out, "step {number} at {:.3} s (line {}): {inputs}", step.at.as_secs_f64(), step.line)?;
    writeln!(out, "  model {}", step.digests.model)?;
    for (node, view) in &step.digests.views {
        let view = view.as_ref().map_or_else(|| "gone".to_owned(), Digest::to_string);
        let program = step.program(node).map_or_else(String::new, |program| format!(" program {program}"));
        writeln!(out, "  node {node} view {view}{program}")?;
    }
    for difference in &step.differences {
        writeln!(out, "  DIFFERS: {difference}")?;
    }
    Ok(())
}

fn line(number: usize, step: &Step) -> serde_json::Value {
    let differences: Vec<String> = step.differences.iter().map(ToString::to_string).collect();
    json!({
        "apiVersion": api::insight::API_VERSION,
        "kind": "ReplayStep",
        "step": number,
        "line": step.line,
        "atMicroseconds": u64::try_from(step.at.as_micros()).unwrap_or(u64::MAX),
        "inputs": step.inputs,
        "watermark": step.digests.watermark,
        "model": step.digests.model,
        "views": step.digests.views,
        "programs": step.digests.programs,
        "differences": differences,
    })
}
