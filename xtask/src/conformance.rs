//! `cargo xtask conformance [SUITE …]`: upstream's own suites against Ferrule on whole nodes. What passed once is not run again, so a run can be
//! stopped and gone on with; the counts and the names of what failed go into docs/conformance.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cluster;
use crate::workspace::{self, Metadata};

/// A selection of e2e.test's specs.
#[derive(Clone, Copy, Debug)]
struct Suite {
    name: &'static str,
    what: &'static str,
    /// Regular expressions over the specs' full names.
    focus: &'static str,
    skip: &'static str,
}

const SUITES: &[Suite] = &[
    Suite {
        name: "conformance",
        what: "e2e.test, `[sig-network]`, all of `[Conformance]`",
        focus: r"\[sig-network\].*\[Conformance\]",
        skip: "",
    },
    Suite {
        name: "networkpolicy",
        what: "e2e.test, `[sig-network] Netpol`",
        focus: r"\[sig-network\] Netpol",
        skip: r"\[Feature:SCTPConnectivity\]",
    },
];

/// The cluster of these runs; it stays up, to go on or to look at.
const STATE: &str = "/run/ferrule/conformance";

/// How many specs run at a time.
const PROCESSES: &str = "4";

/// Runs the named suites, or all.
pub fn run(names: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = names.iter().find(|name| !SUITES.iter().any(|suite| suite.name == **name)) {
        let known: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("there is no suite {unknown}: take {}", known.join(", "));
    }
    let command = cluster::command()?;
    let call = |words: &[&str]| -> Command {
        let mut call = Command::new(&command);
        call.args(["--state", STATE]).args(words);
        call
    };
    let is_up = call(&["status"]).output().is_ok_and(|output| output.status.success());
    if !is_up {
        let up = ["--state", STATE, "up", "--nodes", "2", "--test-images"].map(str::to_owned);
        cluster::run(&up)?;
    }
    let built = call(&["build", "--program", "e2e.test", "--program", "ginkgo"]).status();
    if !built.is_ok_and(|status| status.success()) {
        bail!("e2e.test does not build: see the message above");
    }
    let status = call(&["status", "-o", "json"]).output().context("cannot ask for the cluster's status")?;
    let status: Value = serde_json::from_slice(&status.stdout).context("cannot read the cluster's status")?;
    let folder = Metadata::read()?.target_directory.join("conformance");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut all_passed = true;
    for suite in SUITES.iter().filter(|suite| names.is_empty() || names.iter().any(|name| name == suite.name))
    {
        let place = folder.join(format!("{}.json", suite.name));
        let mut results = read(&place);
        let report = folder.join(format!("{}.report.json", suite.name));
        let _ = std::fs::remove_file(&report);
        // ginkgo's exit code says what the report says, spec by spec.
        let _ = ginkgo(&call, suite, &results, &folder, &status).status().context("cannot run ginkgo")?;
        let text = std::fs::read(&report)
            .with_context(|| format!("{} has no report: it ended before the first spec", suite.name))?;
        let report: Value = serde_json::from_slice(&text).context("cannot read ginkgo's report")?;
        // Those that passed before were left out.
        results.retain(|_, state| state == "passed");
        let total = results.len() + selected(&report);
        results.extend(specs(&report));
        std::fs::write(&place, serde_json::to_vec_pretty(&results)?)
            .with_context(|| format!("cannot write {}", place.display()))?;
        let version = status["kubernetes"].as_str().unwrap_or_default();
        write_page(&workspace::root().join("docs/conformance.md"), suite, version, total, &results)?;
        let failed = results.values().filter(|state| *state != "passed").count();
        println!("==> {}: {} of {total} passed, {failed} failed", suite.name, results.len() - failed);
        all_passed &= results.len() == total && failed == 0;
    }
    println!("==> the cluster is still up: `cargo xtask cluster --state {STATE} down`");
    Ok(if all_passed { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn ginkgo(
    call: &dyn Fn(&[&str]) -> Command,
    suite: &Suite,
    results: &BTreeMap<String, String>,
    folder: &Path,
    status: &Value,
) -> Command {
    let binaries = PathBuf::from(status["binaries"].as_str().unwrap_or_default());
    let passed = results
        .iter()
        .filter(|(_, state)| *state == "passed")
        .map(|(name, _)| format!("^{}$", escaped(name)));
    let skip: Vec<_> =
        passed.chain([suite.skip.to_owned()].into_iter().filter(|skip| !skip.is_empty())).collect();
    let mut command = call(&["run", "ginkgo", "--no-color", "--timeout=3h", "--procs", PROCESSES]);
    command.args(["--focus", suite.focus]);
    if !skip.is_empty() {
        command.args(["--skip", &skip.join("|")]);
    }
    command.arg(format!("--output-dir={}", folder.display()));
    command.arg(format!("--json-report={}.report.json", suite.name));
    command.arg(binaries.join("e2e.test")).arg("--");
    command.args(["--provider=skeleton", "--allowed-not-ready-nodes=0", "--disable-log-dump"]);
    command.args(["--node-os-distro=custom", "--dns-domain=cluster.local"]);
    command.arg(format!("--num-nodes={}", status["nodes"].as_array().map_or(0, Vec::len)));
    command.arg(format!("--kubeconfig={}", status["kubeconfig"].as_str().unwrap_or_default()));
    command.arg(format!("--kubectl-path={}", binaries.join("kubectl").display()));
    command
}

/// What became of each spec that ran, by its full name.
fn specs(report: &Value) -> BTreeMap<String, String> {
    let mut specs = BTreeMap::new();
    let reports = report.as_array().into_iter().flatten();
    for spec in reports.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten()) {
        let state = spec["State"].as_str().unwrap_or_default();
        // Nodes that run before and after all, and what was not selected.
        if spec["LeafNodeType"] != "It" || ["skipped", "pending", "interrupted"].contains(&state) {
            continue;
        }
        let texts =
            spec["ContainerHierarchyTexts"].as_array().into_iter().flatten().chain([&spec["LeafNodeText"]]);
        let name: Vec<_> = texts.filter_map(Value::as_str).collect();
        specs.insert(name.join(" "), state.to_owned());
    }
    specs
}

/// How many specs ginkgo meant to run.
fn selected(report: &Value) -> usize {
    let suites = report.as_array().into_iter().flatten();
    let counts = suites.filter_map(|suite| suite["PreRunStats"]["SpecsThatWillRun"].as_u64());
    usize::try_from(counts.sum::<u64>()).unwrap_or(usize::MAX)
}

/// Regular expressions of Go.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn read(place: &Path) -> BTreeMap<String, String> {
    std::fs::read(place).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Puts a suite's part into the page, in the place of its last one.
fn write_page(
    page: &Path,
    suite: &Suite,
    version: &str,
    total: usize,
    results: &BTreeMap<String, String>,
) -> Result<()> {
    let old = std::fs::read_to_string(page).unwrap_or_else(|_| INTRODUCTION.to_owned());
    let text = with_part(&old, suite, version, total, results);
    std::fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))
}

const INTRODUCTION: &str = "# What upstream's suites say\n\nWritten by `cargo xtask conformance [SUITE]`, which runs them against Ferrule on two whole nodes of one machine (userspace datapath).\n";

fn with_part(
    old: &str,
    suite: &Suite,
    version: &str,
    total: usize,
    results: &BTreeMap<String, String>,
) -> String {
    let failed: Vec<_> = results.iter().filter(|(_, state)| *state != "passed").collect();
    let mut part = format!(
        "## {}\n\n{}, Kubernetes {version}: **{} of {total} passed, {} failed, {} did not run**.\n",
        suite.name,
        suite.what,
        results.len() - failed.len(),
        failed.len(),
        total.saturating_sub(results.len())
    );
    if !failed.is_empty() {
        part.push_str("\nFailed:\n\n");
    }
    for (name, state) in failed {
        // Writing to a String cannot fail.
        let _ = writeln!(part, "- {name} ({state})");
    }
    let heading = format!("## {}\n", suite.name);
    match old.split_once(&heading) {
        None => format!("{}\n\n{part}", old.trim_end()),
        Some((before, after)) => {
            let rest = after.find("\n## ").map(|place| &after[place..]).unwrap_or_default();
            format!("{before}{part}{rest}")
        }
    }
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
            {"LeafNodeType": "BeforeSuite", "State": "passed", "ContainerHierarchyTexts": null, "LeafNodeText": ""}]}]);
        assert_eq!(specs(&report), [("[sig-network] DNS works".to_owned(), "passed".to_owned())].into());
        assert_eq!(selected(&serde_json::json!([{"PreRunStats": {"SpecsThatWillRun": 3}}])), 3);
        assert_eq!(escaped("[a] (b)"), r"\[a\] \(b\)");
    }

    #[test]
    fn a_suite_replaces_its_own_part_of_the_page() {
        let results = |state: &str| BTreeMap::from([("a".to_owned(), state.to_owned())]);
        let page = with_part(INTRODUCTION, &SUITES[0], "1", 2, &results("failed"));
        let page = with_part(&page, &SUITES[1], "1", 1, &results("passed"));
        assert!(
            page.contains("0 of 2 passed, 1 failed, 1 did not run") && page.contains("- a (failed)"),
            "{page}"
        );
        let page = with_part(&page, &SUITES[0], "1", 1, &results("passed"));
        assert!(!page.contains("(failed)") && page.contains("## networkpolicy"), "{page}");
        assert_eq!(page.matches("## conformance").count(), 1);
    }
}
