//! `cargo xtask conformance [SUITE …]`: upstream's own suites against Ferrule on whole nodes. What passed once is not run again, so a run can be
//! stopped and gone on with; the counts and the names of what failed go into docs/conformance.md.

mod e2e;
mod lines;
mod page;
mod suites;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cluster;
use crate::workspace::{self, Metadata};
use suites::{Kind, SUITES, Suite};

/// The cluster of these runs, and the one with both families; the last one stays up, to go on or to look at.
const STATES: [&str; 2] = ["/run/ferrule/conformance", "/run/ferrule/dual-stack"];

/// What became of each case, by its full name.
type Results = BTreeMap<String, String>;

const PASSED: &str = "passed";
/// Of a case that is there and was not reached, or not asked for.
const NOT_RUN: &str = "did not run";

/// The cluster and where results are kept.
#[derive(Debug)]
struct Run {
    command: PathBuf,
    state: PathBuf,
    /// What the cluster says of itself.
    status: Value,
    folder: PathBuf,
}

/// Runs the named suites, or all; of e2e.test's only the specs whose names contain one of `only`.
pub fn run(names: &[String], state: Option<&Path>, only: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = names.iter().find(|name| !SUITES.iter().any(|suite| suite.name == **name)) {
        let known: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("there is no suite {unknown}: take {}", known.join(", "));
    }
    let mut all_passed = true;
    for (dual_stack, own) in [false, true].into_iter().zip(STATES) {
        let wanted = |suite: &&Suite| names.is_empty() || names.iter().any(|name| name == suite.name);
        let suites: Vec<_> =
            SUITES.iter().filter(wanted).filter(|suite| suite.dual_stack == dual_stack).collect();
        if !suites.is_empty() {
            all_passed &= on_cluster(state.unwrap_or(Path::new(own)), dual_stack, &suites, only)?;
        }
    }
    Ok(if all_passed { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// Runs suites on one cluster; whether all of them passed.
fn on_cluster(state: &Path, dual_stack: bool, suites: &[&Suite], only: &[String]) -> Result<bool> {
    let run = Run::prepare(state, dual_stack, suites)?;
    let mut all_passed = true;
    for suite in suites {
        let place = run.folder.join(format!("{}.json", suite.name));
        let mut results = read(&place);
        let total = run.suite(suite, only, &mut results, &place)?;
        write(&place, &results)?;
        let passed = results.values().filter(|state| *state == PASSED).count();
        let names = if is_whole(only, &results) {
            let version = run.status["kubernetes"].as_str().unwrap_or_default();
            page::write(&workspace::root().join("docs/conformance.md"), suite, version, total, &results)?;
            "names the others"
        } else {
            "stays as it is: it tells of whole suites, and not all of this one has run in this tree"
        };
        println!("==> {}: {passed} of {total} passed; docs/conformance.md {names}", suite.name);
        all_passed &= passed == total;
    }
    println!("==> the cluster is still up: `cargo xtask cluster --state {} down`", run.state.display());
    Ok(all_passed)
}

impl Run {
    /// A cluster with three nodes, each a zone of its own, and Ferrule, unless it is up, and the suites' programs.
    fn prepare(state: &Path, dual_stack: bool, suites: &[&Suite]) -> Result<Self> {
        let mut run = Self {
            command: cluster::command()?,
            state: state.to_owned(),
            status: Value::Null,
            folder: Metadata::read()?.target_directory.join("conformance"),
        };
        std::fs::create_dir_all(&run.folder)
            .with_context(|| format!("cannot make {}", run.folder.display()))?;
        let is_up = run.call(&["status"]).output().is_ok_and(|output| output.status.success());
        if !is_up {
            let state = state.display().to_string();
            let mut up = vec!["--state", &state, "up", "--nodes", "3", "--test-images"];
            if dual_stack {
                // One after the other: a machine that carries one need not carry both.
                for other in STATES.iter().filter(|other| **other != state) {
                    let _ = Command::new(&run.command).args(["--state", other, "down"]).status();
                }
                up.push("--dual-stack");
            }
            let up: Vec<_> = up.into_iter().map(str::to_owned).collect();
            cluster::run(&up)?;
        }
        let mut build = run.call(&["build"]);
        for program in suites.iter().flat_map(|suite| suite.kind.programs()) {
            build.args(["--program", program]);
        }
        if !build.status().is_ok_and(|status| status.success()) {
            bail!("a suite does not build: see the message above");
        }
        let status =
            run.call(&["status", "-o", "json"]).output().context("cannot ask for the cluster's status")?;
        run.status = serde_json::from_slice(&status.stdout).context("cannot read the cluster's status")?;
        Ok(run)
    }

    /// A call of the cluster's command.
    fn call(&self, words: &[&str]) -> Command {
        let mut call = Command::new(&self.command);
        call.arg("--state").arg(&self.state).args(words);
        call
    }

    /// Runs what has not passed, and adds it to the results; how many cases there are in all.
    fn suite(&self, suite: &Suite, only: &[String], results: &mut Results, place: &Path) -> Result<usize> {
        if !matches!(suite.kind, Kind::E2e { .. }) {
            // Those that passed stand; the rest is run again.
            results.retain(|_, state| state == PASSED);
        }
        match suite.kind {
            Kind::E2e { focus, left_out } => self.e2e(suite.name, focus, left_out, only, results),
            Kind::ClusterNetworkPolicy => self.cluster_network_policy(results, place),
            Kind::Cyclonus => self.cyclonus(results, place),
        }
    }
}

/// Whether results tell of a suite, and not only of the part of it that somebody asked for.
fn is_whole(only: &[String], results: &Results) -> bool {
    only.is_empty() || !results.values().any(|state| state == NOT_RUN)
}

fn read(place: &Path) -> Results {
    std::fs::read(place).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write(place: &Path, results: &Results) -> Result<()> {
    std::fs::write(place, serde_json::to_vec_pretty(results)?)
        .with_context(|| format!("cannot write {}", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_suite_is_no_suite() {
        let results =
            |b: &str| Results::from([("a", PASSED), ("b", b)].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let only = ["a".to_owned()];
        assert!(!is_whole(&only, &results(NOT_RUN)));
        assert!(is_whole(&only, &results("failed")) && is_whole(&[], &results(NOT_RUN)));
    }
}
