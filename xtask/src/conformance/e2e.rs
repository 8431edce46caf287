//! Kubernetes' own e2e.test, by ginkgo: what is selected, and what its report says.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{NOT_RUN, PASSED, Results, Run};

/// How many specs run at a time.
const PROCESSES: &str = "4";

impl Run {
    /// Runs those of a suite's specs that have not passed, or of them those whose names contain one of `only`; how many there are in all.
    pub fn e2e(
        &self,
        name: &str,
        focus: &str,
        left_out: &[(&str, &str)],
        only: &[String],
        results: &mut Results,
    ) -> Result<usize> {
        let left_out: Vec<_> = left_out.iter().map(|(expression, _)| *expression).collect();
        let all = selected(&self.ginkgo(name, &["--dry-run"], focus, &left_out.join("|"))?);
        results.retain(|spec, _| all.contains(spec));
        let wanted = all.iter().filter(|spec| results.get(*spec).is_none_or(|state| state != PASSED));
        let wanted: Vec<_> = wanted
            .filter(|spec| only.is_empty() || only.iter().any(|part| spec.contains(part)))
            .map(|spec| ending(spec))
            .collect();
        println!("==> {name}: {} of {} specs", wanted.len(), all.len());
        if !wanted.is_empty() {
            let report = self.ginkgo(name, &["--timeout=3h", "--procs", PROCESSES], &wanted.join("|"), "")?;
            results.extend(specs(&report));
        }
        for spec in &all {
            results.entry(spec.clone()).or_insert_with(|| NOT_RUN.to_owned());
        }
        Ok(all.len())
    }

    /// What ginkgo reports of the specs that `focus` matches and `skip` does not.
    fn ginkgo(&self, name: &str, options: &[&str], focus: &str, skip: &str) -> Result<Value> {
        let report = self.folder.join(format!("{name}.report.json"));
        let _ = std::fs::remove_file(&report);
        let binaries = PathBuf::from(self.status["binaries"].as_str().unwrap_or_default());
        let mut ginkgo = self.call(&["run", "ginkgo", "--no-color"]);
        ginkgo.args(options).args(["--focus", focus]);
        if !skip.is_empty() {
            ginkgo.args(["--skip", skip]);
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
        serde_json::from_slice(&text).context("cannot read ginkgo's report")
    }
}

/// Matches one spec: ginkgo puts the name of the whole before the text that it matches.
fn ending(spec: &str) -> String {
    format!("{}$", escaped(spec))
}

/// The specs of a report, apart from what runs before and after them.
fn each(report: &Value) -> impl Iterator<Item = &Value> {
    let suites = report.as_array().into_iter().flatten();
    let specs = suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    specs.filter(|spec| spec["LeafNodeType"] == "It")
}

fn full_name(spec: &Value) -> String {
    let above = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let texts: Vec<_> = above.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str).collect();
    texts.join(" ")
}

/// What became of each spec that ran, by its full name.
fn specs(report: &Value) -> Results {
    let mut specs = Results::new();
    for spec in each(report) {
        let state = spec["State"].as_str().unwrap_or_default();
        // What was not selected or was cut short.
        let skipped_itself = state == "skipped" && spec["Failure"]["Message"].is_string();
        if ["skipped", "pending", "interrupted"].contains(&state) && !skipped_itself {
            continue;
        }
        let why = spec["Failure"]["Message"].as_str().and_then(|message| message.lines().next());
        let state = match why.filter(|_| skipped_itself) {
            Some(why) => format!("skipped itself: {}", why.trim()),
            None => state.to_owned(),
        };
        specs.insert(full_name(spec), state);
    }
    specs
}

/// The specs that a dry run would have run: it says of them that they passed.
fn selected(report: &Value) -> BTreeSet<String> {
    each(report).filter(|spec| spec["State"] == PASSED).map(full_name).collect()
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
        assert_eq!(selected(&report), ["[sig-network] DNS works".to_owned()].into());
        assert_eq!(ending("[a] (b)"), r"\[a\] \(b\)$");
    }
}
