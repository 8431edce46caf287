//! `ferrule check`: whether a machine is fit for Ferrule before it is installed, and whether everything works once it is.

mod after;
mod before;
mod machine;
pub mod options;

use std::io::Write;

use serde::Serialize;

use self::options::Check;
use crate::arguments::Output;
use crate::fail::{Fail, Outcome};
use crate::get::json;
use crate::paint::Paint;

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at: `kernel`, `open-vswitch`, `ports`, `pod`, `service`, …
    pub check: &'static str,
    /// Where: a machine, a node, or one node and another.
    pub on: String,
    pub status: Status,
    /// One sentence.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Good,
    /// It works, but not as well as it could.
    Warning,
    /// It does not work.
    Bad,
    /// It could not be looked at.
    Unknown,
    /// There is nothing to be looked at.
    Skipped,
}

impl Finding {
    fn new(check: &'static str, on: impl Into<String>, status: Status, what: impl Into<String>) -> Self {
        Self { check, on: on.into(), status, what: what.into(), cure: None }
    }

    fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: &'a [Finding],
}

pub fn run(check: &Check) -> Result<Outcome, Fail> {
    let paint = Paint::stdout();
    let mut all = Vec::new();
    // For people each line comes when it is known: that is the progress.
    let mut tell = |finding: Finding| -> Result<(), Fail> {
        if check.output == Output::Table {
            std::io::stdout().write_all(line(&finding, paint).as_bytes())?;
            std::io::stdout().flush()?;
        }
        all.push(finding);
        Ok(())
    };
    match check.before {
        true => before::run(check, &mut tell)?,
        false => after::run(check, &mut tell)?,
    }
    if check.output == Output::Json {
        let document = Checked { api_version: api::insight::API_VERSION, kind: "CheckList", items: &all };
        std::io::stdout().write_all(json(&document)?.as_bytes())?;
    } else {
        let count = |status: Status| all.iter().filter(|finding| finding.status == status).count();
        let said = format!(
            "{} good, {} warnings, {} bad, {} unknown, {} skipped\n",
            count(Status::Good),
            count(Status::Warning),
            count(Status::Bad),
            count(Status::Unknown),
            count(Status::Skipped)
        );
        std::io::stdout().write_all(said.as_bytes())?;
    }
    let any = |status: Status| all.iter().any(|finding| finding.status == status);
    Ok(match (any(Status::Bad), any(Status::Unknown)) {
        (true, _) => Outcome::Differences,
        (false, true) => Outcome::Failed,
        (false, false) => Outcome::Expected,
    })
}

fn line(finding: &Finding, paint: Paint) -> String {
    let word = match finding.status {
        Status::Good => paint.good("good   "),
        Status::Warning => paint.warning("warning"),
        Status::Bad => paint.error("BAD    "),
        Status::Unknown => paint.warning("unknown"),
        Status::Skipped => paint.dim("skipped"),
    };
    let cure = finding.cure.as_ref().map(|cure| format!("\n        {}", paint.dim(cure))).unwrap_or_default();
    format!("{word} {:<12} {}: {}{cure}\n", finding.check, paint.name(&finding.on), finding.what)
}
