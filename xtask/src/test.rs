//! `cargo xtask test`: every tier this machine can run, in one order, and one closing line that tells the truth. Knows how
//! tiers are started and counted, not what is in them.
//!
//! The output ends with libtest's own `test result:` lines, each of them once, and `N passed, N failed, N skipped`.
//! passed and failed are the sums of those lines; a tier that fails without a failing test (it does not compile, it was
//! killed) and a skip that CI does not allow count as one failure each. skipped is libtest's `ignored` and the skip list.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::skips::{self, AllowList, Skip};
use crate::tally::Tally;
use crate::workspace::{self, Metadata};
use crate::{cluster, distribution, lab, tidy};

/// A kind of test that crosses crates: the files `tests/tests/<name>_*.rs`.
#[derive(Debug, Clone, Copy)]
struct Tier {
    name: &'static str,
    what: &'static str,
    /// Needs root (namespaces) and the release binaries (labs), and has the machine for itself: one test at a time.
    lab: bool,
    /// Needs the programs of the distribution.
    programs: bool,
}

/// In the order of power: what fails early explains what fails late.
const TIERS: &[Tier] = &[
    Tier { name: "switch", what: "against a private Open vSwitch", lab: false, programs: true },
    Tier { name: "simulation", what: "whole programs, simulated", lab: false, programs: false },
    Tier { name: "dataplane", what: "real packets in a lab", lab: true, programs: true },
    Tier { name: CLUSTER, what: "a real Kubernetes", lab: true, programs: true },
];

/// The tier that runs Kubernetes.
const CLUSTER: &str = "cluster";

/// Steps that are not tiers but can be asked for by name.
const TIDY: &str = "tidy";
const UNIT: &str = "unit";
const QUICK: &str = "quick";

/// Everything one run has seen.
#[derive(Debug, Default)]
struct Outcome {
    results: Vec<String>,
    sum: Tally,
    skips: Vec<Skip>,
    /// The failing tests, each with its step.
    failing: Vec<String>,
    /// Failures that no `test result:` line counts, one sentence each.
    other: Vec<String>,
}

/// Runs all, or what `names` ask for: `quick` (tidy and unit), `tidy`, `unit`, or a tier.
pub fn run(names: &[String]) -> Result<ExitCode> {
    let known =
        |name: &str| [QUICK, TIDY, UNIT].contains(&name) || TIERS.iter().any(|tier| tier.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let tiers: Vec<_> = TIERS.iter().map(|tier| tier.name).collect();
        bail!("there is no tier {unknown:?}: take quick, tidy, unit, {}", tiers.join(", "));
    }
    let quick = names.iter().any(|name| name == QUICK);
    let asked = |name: &str| {
        names.is_empty() || names.iter().any(|asked| asked == name) || (quick && [TIDY, UNIT].contains(&name))
    };

    let metadata = Metadata::read()?;
    let mut run = Run {
        report: metadata.target_directory.join("ferrule-skips.txt"),
        binaries: metadata.release_directory(),
        outcome: Outcome::default(),
    };
    std::fs::create_dir_all(&metadata.target_directory)?;
    std::fs::write(&run.report, "").with_context(|| format!("cannot write {}", run.report.display()))?;

    if asked(TIDY) {
        heading(TIDY, "the rules of the house");
        if !tidy::check(&metadata)? {
            run.outcome.other.push("tidy: findings, see above".to_owned());
        }
    }
    if asked(UNIT) {
        heading(UNIT, "unit and property tests of every crate");
        run.cargo_test(UNIT, &["--workspace", "--exclude", "tests"], &[])?;
        run.cargo_test(UNIT, &["--package", "tests", "--lib"], &[])?;
    }
    let tiers: Vec<&Tier> = TIERS.iter().filter(|tier| asked(tier.name)).collect();
    if let Err(error) = prepare(&tiers) {
        // The tiers still run: each test says for itself what it misses.
        run.outcome.other.push(format!("preparation: {error:#}"));
    }
    for tier in tiers {
        run.tier(tier)?;
    }
    run.close()
}

/// Installs programs and builds binaries for the tiers that have tests and need them.
fn prepare(tiers: &[&Tier]) -> Result<()> {
    let needed = |test: fn(&Tier) -> bool| tiers.iter().any(|tier| test(tier) && exists(tier));
    if needed(|tier| tier.programs) && distribution::is_root() {
        distribution::ensure(distribution::LAB)?;
    }
    if needed(|tier| tier.lab) && distribution::is_root() {
        distribution::ensure(distribution::NEIGHBOURS)?;
        lab::build()?;
    }
    if needed(|tier| tier.name == CLUSTER) && distribution::is_root() {
        distribution::ensure(distribution::NODES)?;
        distribution::ensure(distribution::TEST_IMAGES)?;
        cluster::build(cluster::TESTED)?;
    }
    Ok(())
}

/// Whether a first test of the tier has been written.
fn exists(tier: &Tier) -> bool {
    let Ok(entries) = std::fs::read_dir(workspace::root().join("tests/tests")) else { return false };
    let prefix = format!("{}_", tier.name);
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(&prefix) && name.ends_with(".rs")
    })
}

#[derive(Debug)]
struct Run {
    report: PathBuf,
    binaries: PathBuf,
    outcome: Outcome,
}

impl Run {
    fn tier(&mut self, tier: &Tier) -> Result<()> {
        if !exists(tier) {
            self.outcome.skips.push(Skip::new(tier.name, "all", "not there yet"));
            return Ok(());
        }
        heading(tier.name, tier.what);
        if tier.lab && !distribution::is_root() {
            self.outcome.skips.push(Skip::new(tier.name, "all", "needs root"));
            println!("skipped: needs root");
            return Ok(());
        }
        let glob = format!("{}_*", tier.name);
        let harness: &[&str] = if tier.lab { &["--test-threads=1"] } else { &[] };
        self.cargo_test(tier.name, &["--package", "tests", "--test", &glob], harness)
    }

    /// One call of cargo test, its output passed on as it comes. libtest's result lines are shortened on the way and
    /// kept for the end, so that each stands exactly once in the whole output.
    fn cargo_test(&mut self, step: &str, selection: &[&str], harness: &[&str]) -> Result<()> {
        let mut command = workspace::cargo();
        command.args(["test", "--no-fail-fast"]).args(selection);
        if !harness.is_empty() {
            command.arg("--").args(harness);
        }
        let mut child = command
            .env("FERRULE_BIN_DIR", &self.binaries)
            .env("FERRULE_SKIP_REPORT", &self.report)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run cargo")?;
        let stdout = child.stdout.take().context("cargo has no stdout")?;
        let mut here = Tally::default();
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("cannot read cargo's output")?;
            let line = String::from_utf8_lossy(&line);
            match Tally::parse(&line) {
                Some(tally) => {
                    here.add(tally);
                    println!("  {}", line.trim_start_matches("test result: "));
                    self.outcome.results.push(line.into_owned());
                }
                None => {
                    let failing =
                        line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
                    self.outcome.failing.extend(failing.map(|test| format!("{step}: {test}")));
                    println!("{line}");
                }
            }
        }
        let status = child.wait().context("cannot wait for cargo")?;
        self.outcome.sum.add(here);
        if !status.success() && here.failed == 0 {
            self.outcome.other.push(format!(
                "{step}: cargo test ended with {status} without a failing test: it does not compile, or a test was killed"
            ));
        }
        Ok(())
    }

    /// The skip list, the failures that libtest does not count, its own lines, the closing line.
    fn close(mut self) -> Result<ExitCode> {
        self.outcome.skips.extend(skips::read_report(&self.report)?);
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        let allowed = if in_ci { Some(read_allow_list(workspace::root())?) } else { None };
        let (text, passed) = closing(&self.outcome, allowed.as_ref());
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(ExitCode::from(u8::from(!passed)))
    }
}

fn read_allow_list(root: &Path) -> Result<AllowList> {
    AllowList::read(&root.join("tests/skips-allowed.txt"))
}

fn heading(step: &str, what: &str) {
    println!("\n==> {step}: {what}");
}

/// The last part of the output, and whether the run passed. `allowed` is the allow-list when it counts.
fn closing(outcome: &Outcome, allowed: Option<&AllowList>) -> (String, bool) {
    let mut text = String::new();
    let mut failed = outcome.sum.failed;
    if !outcome.skips.is_empty() {
        text.push_str("\nSKIPPED\n");
    }
    for skip in &outcome.skips {
        let refused = allowed.is_some_and(|list| !list.allows(skip));
        failed += u64::from(refused);
        let note = if refused { "  (not in tests/skips-allowed.txt: FAILED)" } else { "" };
        text.push_str(&format!("  {skip}{note}\n"));
    }
    if !outcome.other.is_empty() || !outcome.failing.is_empty() {
        text.push_str("\nFAILED\n");
    }
    for failing in &outcome.failing {
        text.push_str(&format!("  {failing}\n"));
    }
    for failure in &outcome.other {
        failed += 1;
        text.push_str(&format!("  {failure}\n"));
    }
    text.push('\n');
    for line in &outcome.results {
        text.push_str(line);
        text.push('\n');
    }
    let skipped = outcome.sum.ignored + outcome.skips.len() as u64;
    text.push_str(&format!("{} passed, {failed} failed, {skipped} skipped\n", outcome.sum.passed));
    (text, failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u64, failed: u64, ignored: u64) -> Outcome {
        Outcome {
            results: vec![format!("test result: ok. {passed} passed; {failed} failed; {ignored} ignored")],
            sum: Tally { passed, failed, ignored },
            ..Outcome::default()
        }
    }

    fn last_lines(text: &str, count: usize) -> Vec<&str> {
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len() - count..].to_vec()
    }

    #[test]
    fn it_ends_with_the_result_lines_and_the_sum() {
        let (text, passed) = closing(&outcome(4, 0, 1), None);
        assert!(passed);
        assert_eq!(
            last_lines(&text, 2),
            ["test result: ok. 4 passed; 0 failed; 1 ignored", "4 passed, 0 failed, 1 skipped"]
        );
    }

    #[test]
    fn a_failing_test_fails_the_run() {
        let mut outcome = outcome(4, 2, 0);
        outcome.failing.push("unit: wire::reads".to_owned());
        let (text, passed) = closing(&outcome, None);
        assert!(!passed && text.contains("\nFAILED\n  unit: wire::reads\n"), "{text}");
        assert!(text.ends_with("\n4 passed, 2 failed, 0 skipped\n"), "{text}");
    }

    #[test]
    fn a_tier_that_does_not_compile_fails_the_run() {
        let mut outcome = outcome(4, 0, 0);
        outcome.other.push("switch: cargo test ended with exit status: 101".to_owned());
        let (text, passed) = closing(&outcome, None);
        assert!(!passed && text.ends_with("4 passed, 1 failed, 0 skipped\n"), "{text}");
        assert!(text.contains("  switch: cargo test ended"), "{text}");
    }

    #[test]
    fn a_skip_is_listed_and_fails_only_when_the_list_counts_and_lacks_it() {
        let mut outcome = outcome(4, 0, 0);
        outcome.skips.push(Skip::new("cluster", "all", "no Go 1.24 or newer: none"));
        outcome.skips.push(Skip::new("switch", "all", "needs a cup of tea"));
        let (text, passed) = closing(&outcome, None);
        assert!(passed && text.ends_with("4 passed, 0 failed, 2 skipped\n"), "{text}");
        let list = read_allow_list(workspace::root()).unwrap();
        let (text, passed) = closing(&outcome, Some(&list));
        assert!(!passed && text.ends_with("4 passed, 1 failed, 2 skipped\n"), "{text}");
        assert!(text.contains("tea  (not in tests/skips-allowed.txt: FAILED)"), "{text}");
    }

    #[test]
    fn an_unknown_tier_is_named_with_the_known_ones() {
        let error = run(&["dataplan".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"dataplan\"") && error.contains("dataplane"), "{error}");
    }
}
