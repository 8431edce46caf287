//! `ferrule trace`: a packet through the live switches, one after the other, beside the way that the model takes; and a packet
//! that is sent for real, with what the flows on its way counted. Where the three do not agree, it says where.

pub mod follow;
pub mod options;
mod text;
mod words;

use std::io::Write;

use lab::http::Endpoint;
use serde::Serialize;

use self::follow::{Followed, Follower};
use self::options::Trace;
use crate::arguments::Output;
use crate::explain::{Document, Verdict, online};
use crate::fail::{Fail, Outcome};
use crate::get::{self, json};
use crate::paint::Paint;

/// More packets than these are nothing that anybody reads, and each is asked about at every switch.
const MOST_PACKETS: usize = 8;

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Traced {
    api_version: &'static str,
    kind: &'static str,
    /// The model's answer.
    explanation: Document,
    /// What the switches say of each of its packets.
    packets: Vec<Followed>,
}

pub fn run(trace: &Trace) -> Result<Outcome, Fail> {
    let endpoint = get::controller(&trace.at);
    if let (Endpoint::Tcp(_), false) = (&endpoint, trace.no_probe) {
        return Err(Fail::Said(
            "a controller sends no probe for whom it knows by an address alone: ask it over its socket, or add --no-probe"
                .into(),
        ));
    }
    let explain = trace.question();
    let known = online::known(&endpoint)?;
    let (mut explanation, told) = known.explain(&explain)?;
    if explanation.packets.len() > MOST_PACKETS {
        return Err(Fail::Said(format!(
            "{} and {} are {} packets, at most {MOST_PACKETS} are traced at once: name one pod of them",
            explanation.from,
            explanation.to,
            explanation.packets.len()
        )));
    }
    let warnings = online::count(&endpoint, &mut explanation)?;
    explanation.warnings.extend(warnings);
    let follower =
        Follower { endpoint: &endpoint, ports: &known.ports, probe: !trace.no_probe, length: None };
    let packets = follower.follow_all(&told)?;
    let denied = explanation.verdict == Verdict::Denied;
    let traced = Traced { api_version: api::insight::API_VERSION, kind: "Trace", explanation, packets };
    let said = match trace.output {
        Output::Json => json(&traced)?,
        Output::Table => text::text(&traced, Paint::stdout()),
    };
    std::io::stdout().write_all(said.as_bytes())?;
    if trace.output == Output::Table {
        let paint = Paint::stderr();
        for warning in &traced.explanation.warnings {
            eprintln!("{} {warning}", paint.warning("warning:"));
        }
    }
    // The model is what is expected of the switches; what was not asked is not known to agree.
    let all = |of: fn(&Followed) -> &Vec<String>| traced.packets.iter().all(|packet| of(packet).is_empty());
    Ok(match (all(|one| &one.disagreements), all(|one| &one.unknown), denied) {
        (false, ..) => Outcome::Broken,
        (true, false, _) => Outcome::Failed,
        (true, true, true) => Outcome::Differences,
        (true, true, false) => Outcome::Expected,
    })
}
