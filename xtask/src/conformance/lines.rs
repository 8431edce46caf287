//! Suites that say a line for every case that ends: each is written down at once, so that nothing that ran is lost when a run is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::e2e::escaped;
use super::{PASSED, Results, Run, write};

/// The Go test whose subtests are the suite.
const TEST: &str = "TestConformance";

impl Run {
    /// Subtests of one test build on each other, so a test is run again as a whole unless all of it passed.
    pub fn cluster_network_policy(&self, results: &mut Results, place: &Path) -> Result<usize> {
        let whole = self.folder.join("cnp.whole.json");
        let passed: BTreeSet<String> = std::fs::read(&whole)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        results.retain(|name, _| name.split_once('/').is_some_and(|(test, _)| passed.contains(test)));
        let mut command = self.call(&["run", "cnp.test"]);
        // In this form a verdict is said when it is there, not when the whole test has ended.
        command.args(["-test.v=test2json", "-test.timeout=2h", "-test.run", &format!("^{TEST}$")]);
        if !passed.is_empty() {
            let names: Vec<_> = passed.iter().map(|name| escaped(name)).collect();
            command.args(["-test.skip", &format!("^{TEST}$/^({})$", names.join("|"))]);
        }
        command.args(["--all-features", "--debug=false"]);
        let mut passed = passed;
        hear(&mut command, |line| {
            match verdict(line) {
                // A test: everything in it has ended.
                Some((test, PASSED)) if !test.contains('/') => {
                    passed.insert(test.to_owned());
                    std::fs::write(&whole, serde_json::to_vec(&passed)?)
                        .with_context(|| format!("cannot write {}", whole.display()))
                }
                Some((subtest, state)) if subtest.contains('/') => {
                    results.insert(subtest.replace('_', " "), state.to_owned());
                    write(place, results)
                }
                _ => Ok(()),
            }
        })?;
        // A Go test does not say how many it has: those that were not reached are missing from the results of a run that was stopped.
        Ok(results.len())
    }

    pub fn cyclonus(&self, results: &mut Results, place: &Path) -> Result<usize> {
        let leave = self.folder.join("cyclonus.leave");
        let names: Vec<_> = results.keys().map(String::as_str).collect();
        std::fs::write(&leave, names.join("\n"))
            .with_context(|| format!("cannot write {}", leave.display()))?;
        let mut command = self.call(&["run", "cyclonus"]);
        command.arg(&leave);
        let mut total = 0;
        hear(&mut command, |line| {
            let Some(text) = line.strip_prefix("case ") else { return Ok(()) };
            let said: Value = serde_json::from_str(text).context("cannot read what Cyclonus says")?;
            if let Some(count) = said["total"].as_u64() {
                total = usize::try_from(count)?;
            }
            if let (Some(name), Some(state)) = (said["case"].as_str(), said["state"].as_str()) {
                let wrong = said["wrong"].as_u64().unwrap_or(0);
                let state = match said["error"].as_str() {
                    Some(error) => format!("{state}: {error}"),
                    None if wrong > 0 => {
                        format!("{state}: {wrong} pairs of {}", wrong + said["right"].as_u64().unwrap_or(0))
                    }
                    None => state.to_owned(),
                };
                results.insert(name.to_owned(), state);
                write(place, results)?;
            }
            Ok(())
        })?;
        if total == 0 {
            bail!("Cyclonus ended before its first case: see its message above");
        }
        Ok(total)
    }
}

/// Runs a program, passes its lines on, and hands each to `line`.
fn hear(command: &mut Command, mut line: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run the suite")?;
    let stdout = child.stdout.take().context("the suite has no standard output")?;
    for said in BufReader::new(stdout).split(b'\n') {
        let said = said.context("cannot read what the suite says")?;
        let said = String::from_utf8_lossy(&said);
        println!("{said}");
        line(&said)?;
    }
    // Its exit code says what its lines say.
    let _ = child.wait().context("cannot wait for the suite")?;
    Ok(())
}

/// `--- PASS: TestConformance/NAME (0.1s)`, perhaps behind a mark (0x16): the name below the test, and what became of it.
fn verdict(line: &str) -> Option<(&str, &'static str)> {
    const STATES: [(&str, &str); 3] = [("PASS", PASSED), ("FAIL", "failed"), ("SKIP", "skipped")];
    let (word, rest) = line.trim_start_matches(['\u{16}', ' ']).strip_prefix("--- ")?.split_once(": ")?;
    let state = BTreeMap::from(STATES).get(word).copied()?;
    let (name, _) = rest.rsplit_once(" (")?;
    Some((name.strip_prefix(TEST)?.strip_prefix('/')?, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_go_test_are_verdicts() {
        let line = "        --- FAIL: TestConformance/CNPAdminTierGress/Should_support_an_'x'_(y) (0.21s)";
        assert_eq!(verdict(line), Some(("CNPAdminTierGress/Should_support_an_'x'_(y)", "failed")));
        assert_eq!(
            verdict("\u{16}    --- PASS: TestConformance/CNPAdminTierGress (3.00s)"),
            Some(("CNPAdminTierGress", PASSED))
        );
        for other in
            ["--- PASS: TestConformance (9.0s)", "=== RUN   TestConformance/x", "--- PASS: Other/x (1s)", ""]
        {
            assert_eq!(verdict(other), None, "{other}");
        }
    }
}
