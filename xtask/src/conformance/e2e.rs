//! Kubernetes' own e2e.test, by ginkgo: what is selected, and what its report says.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Results, Run};

/// How many specs run at a time.
const PROCESSES: &str = "4";

impl Run {
    pub fn e2e(
        &self,
        name: &str,
        focus: &str,
        left_out: &[(&str, &str)],
        results: &mut Results,
    ) -> Result<usize> {
        let report = self.folder.join(format!("{name}.report.json"));
        let _ = std::fs::remove_file(&report);
        let binaries = PathBuf::from(self.status["binaries"].as_str().unwrap_or_default());
        let passed = results.keys().map(|name| format!("^{}$", escaped(name)));
        let skip: Vec<_> =
            passed.chain(left_out.iter().map(|(expression, _)| (*expression).to_owned())).collect();
        let mut ginkgo = self.call(&["run", "ginkgo", "--no-color", "--timeout=3h", "--procs", PROCESSES]);
        ginkgo.args(["--focus", focus]);
        if !skip.is_empty() {
            ginkgo.args(["--skip", &skip.join("|")]);
        }
        ginkgo.arg(format!("--output-dir={}", self.folder.display()));
        ginkgo.arg(format!("--json-report={name}.report.json"));
        ginkgo.arg(binaries.join("e2e.test")).arg("--");
        ginkgo.args(["--provider=skeleton", "--allowed-not-ready-nodes=0", "--disable-log-dump"]);
        ginkgo.args(["--node-os-distro=custom", "--dns-domain=cluster.local"]);
        ginkgo.arg(format!("--num-nodes={}", self.status["nodes"].as_array().map_or(0, Vec::len)));
        ginkgo.arg(format!("--kubeconfig={}", self.status["kubeconfig"].as_str().unwrap_or_default()));
        ginkgo.arg(format!("--kubectl-path={}", binaries.join("kubectl").display()));
        // Its exit code says what the report says, spec by spec.
        let _ = ginkgo.status().context("cannot run ginkgo")?;
        let text = std::fs::read(&report)
            .with_context(|| format!("{name} has no report: it ended before the first spec"))?;
        let report: Value = serde_json::from_slice(&text).context("cannot read ginkgo's report")?;
        let total = results.len() + selected(&report);
        results.extend(specs(&report));
        Ok(total)
    }
}

/// What became of each spec that ran, by its full name.
fn specs(report: &Value) -> Results {
    let mut specs = Results::new();
    let reports = report.as_array().into_iter().flatten();
    for spec in reports.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten()) {
        let state = spec["State"].as_str().unwrap_or_default();
        // Nodes that run before and after all, and what was not selected or was cut short.
        let skipped_itself = state == "skipped" && spec["Failure"]["Message"].is_string();
        if spec["LeafNodeType"] != "It"
            || ["skipped", "pending", "interrupted"].contains(&state) && !skipped_itself
        {
            continue;
        }
        let texts =
            spec["ContainerHierarchyTexts"].as_array().into_iter().flatten().chain([&spec["LeafNodeText"]]);
        let name: Vec<_> = texts.filter_map(Value::as_str).collect();
        let why = spec["Failure"]["Message"].as_str().and_then(|message| message.lines().next());
        let state = match why.filter(|_| skipped_itself) {
            Some(why) => format!("skipped itself: {}", why.trim()),
            None => state.to_owned(),
        };
        specs.insert(name.join(" "), state);
    }
    specs
}

/// How many specs ginkgo meant to run.
fn selected(report: &Value) -> usize {
    let suites = report.as_array().into_iter().flatten();
    let counts = suites.filter_map(|suite| suite["PreRunStats"]["SpecsThatWillRun"].as_u64());
    usize::try_from(counts.sum::<u64>()).unwrap_or(usize::MAX)
}

/// For regular expressions of Go.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_what_ran() {
        let report = serde_json::json!([{"SpecReports": [
            {"LeafNodeType": "It", "State": "passed", "ContainerHierarchyTexts": ["[sig-network] DNS"], "LeafNodeText": "works"},
            {"LeafNodeType": "It", "State": "interrupted", "ContainerHierarchyTexts": null, "LeafNodeText": "cut"},
            {"LeafNodeType": "It", "State": "skipped", "ContainerHierarchyTexts": null, "LeafNodeText": "other"},
            {"LeafNodeType": "It", "State": "skipped", "ContainerHierarchyTexts": null, "LeafNodeText": "cloud",
             "Failure": {"Message": "Only for gce\nnot skeleton"}},
            {"LeafNodeType": "BeforeSuite", "State": "passed", "ContainerHierarchyTexts": null, "LeafNodeText": ""}]}]);
        let expected = [("[sig-network] DNS works", "passed"), ("cloud", "skipped itself: Only for gce")];
        assert_eq!(specs(&report), expected.map(|(name, state)| (name.to_owned(), state.to_owned())).into());
        assert_eq!(selected(&serde_json::json!([{"PreRunStats": {"SpecsThatWillRun": 3}}])), 3);
        assert_eq!(escaped("[a] (b)"), r"\[a\] \(b\)");
    }
}
