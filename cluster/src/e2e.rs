//! Kubernetes' own e2e.test on a cluster, by ginkgo: how it is called, and what its report says of each spec.

use std::process::Stdio;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control_plane::ControlPlane;
use crate::error::{Context, Error, Result};

/// How many specs run at a time.
const PROCESSES: &str = "4";

/// The file of the last report, beside the cluster's logs.
const REPORT: &str = "e2e.report.json";

/// The state of a spec that did what it should.
pub const PASSED: &str = "passed";

/// Which specs run, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Specs {
    /// Those whose full names this regular expression (of Go) matches
    #[arg(long, value_name = "EXPRESSION")]
    pub focus: String,
    /// And this one does not
    #[arg(long, value_name = "EXPRESSION")]
    pub skip: Option<String>,
    /// After this time (as Go writes it: `10m`) what has not ended is cut short
    #[arg(long, value_name = "TIME", default_value = "3h")]
    pub timeout: String,
    /// Run none of them: say of each that would run that it passed
    #[arg(long)]
    pub dry_run: bool,
}

/// What became of one spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Its full name: the texts above it and its own, with blanks between.
    pub name: String,
    /// [`PASSED`], another of ginkgo's states, or `skipped itself: ` and why.
    pub state: String,
    /// What it said when it failed; empty otherwise.
    pub message: String,
    /// How long it took.
    pub seconds: f64,
}

/// What a run of specs came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Those that ran to their end; what was not selected or was cut short is missing.
    pub specs: Vec<Spec>,
    /// Whether ginkgo itself ended well: nothing was cut short, and what runs before and after the specs passed, too.
    pub succeeded: bool,
}

impl ControlPlane {
    /// Runs specs, with the built programs `e2e.test` and `ginkgo`; what ginkgo says meanwhile goes to standard error.
    ///
    /// # Errors
    /// [`Error::Io`] when ginkgo does not start, [`Error::Answer`] when it ended before the first spec.
    pub fn e2e(&self, specs: &Specs) -> Result<Ran> {
        let report = self.logs().join(REPORT);
        let _ = std::fs::remove_file(&report);
        let mut ginkgo = self.tool("ginkgo");
        ginkgo.args(["--no-color", "--focus", &specs.focus]);
        if let Some(skip) = &specs.skip {
            ginkgo.args(["--skip", skip]);
        }
        if specs.dry_run {
            ginkgo.arg("--dry-run");
        } else {
            ginkgo.args(["--timeout", &specs.timeout, "--procs", PROCESSES]);
        }
        ginkgo.arg(format!("--output-dir={}", self.logs().display())).arg(format!("--json-report={REPORT}"));
        ginkgo.arg(self.binaries().join("e2e.test")).arg("--");
        ginkgo.args(["--provider=skeleton", "--allowed-not-ready-nodes=0", "--disable-log-dump"]);
        ginkgo.args(["--node-os-distro=custom", "--dns-domain=cluster.local"]);
        ginkgo.arg(format!("--num-nodes={}", self.nodes().map_or(0, |nodes| nodes.count)));
        ginkgo.arg(format!("--kubeconfig={}", self.admin().display()));
        ginkgo.arg(format!("--kubectl-path={}", self.binaries().join("kubectl").display()));
        ginkgo.stdin(Stdio::null()).stdout(std::io::stderr());
        let mut ginkgo = lab::netns::spawn(Some(&lab::netns::path(&self.namespace())), &mut ginkgo)?;
        let status = ginkgo.wait().context(|| "wait for ginkgo".to_owned())?;
        let text = std::fs::read(&report).map_err(|_| Error::Answer {
            server: "e2e.test",
            what: "ended before its first spec, without a report: see its message above".to_owned(),
        })?;
        let report = serde_json::from_slice(&text).context(|| format!("read {}", report.display()))?;
        Ok(Ran { specs: self::specs(&report), succeeded: status.success() })
    }
}

/// The specs of a report, apart from what runs before and after them.
fn specs(report: &Value) -> Vec<Spec> {
    let suites = report.as_array().into_iter().flatten();
    let all = suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    all.filter(|spec| spec["LeafNodeType"] == "It").filter_map(spec).collect()
}

/// One of them; `None` where it was not selected or was cut short.
fn spec(report: &Value) -> Option<Spec> {
    let message = report["Failure"]["Message"].as_str();
    let state = match (report["State"].as_str().unwrap_or_default(), message) {
        ("skipped", Some(why)) => {
            format!("skipped itself: {}", why.lines().next().unwrap_or_default().trim())
        }
        ("skipped" | "pending" | "interrupted", _) => return None,
        (state, _) => state.to_owned(),
    };
    let above = report["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let texts: Vec<_> = above.chain([&report["LeafNodeText"]]).filter_map(Value::as_str).collect();
    Some(Spec {
        name: texts.join(" "),
        state,
        message: message.unwrap_or_default().to_owned(),
        seconds: report["RunTime"].as_f64().unwrap_or_default() / 1e9,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_what_ran() {
        let report = serde_json::json!([{"SpecReports": [
            {"LeafNodeType": "It", "State": "passed", "ContainerHierarchyTexts": ["[sig-network] DNS"], "LeafNodeText": "works", "RunTime": 2_500_000_000_u64},
            {"LeafNodeType": "It", "State": "interrupted", "ContainerHierarchyTexts": null, "LeafNodeText": "cut"},
            {"LeafNodeType": "It", "State": "skipped", "ContainerHierarchyTexts": null, "LeafNodeText": "other"},
            {"LeafNodeType": "It", "State": "skipped", "ContainerHierarchyTexts": null, "LeafNodeText": "cloud",
             "Failure": {"Message": "Only for gce\nnot skeleton"}},
            {"LeafNodeType": "BeforeSuite", "State": "passed", "ContainerHierarchyTexts": null, "LeafNodeText": ""}]}]);
        let spec = |name: &str, state: &str, message: &str, seconds| Spec {
            name: name.to_owned(),
            state: state.to_owned(),
            message: message.to_owned(),
            seconds,
        };
        let expected = [
            spec("[sig-network] DNS works", "passed", "", 2.5),
            spec("cloud", "skipped itself: Only for gce", "Only for gce\nnot skeleton", 0.0),
        ];
        assert_eq!(specs(&report), expected);
    }
}
