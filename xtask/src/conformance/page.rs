//! docs/conformance.md: one part a suite, each written in the place of its last one.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::suites::{Kind, Suite};
use super::{NOT_RUN, PASSED, Results};

const INTRODUCTION: &str = "# What upstream's suites say\n\nWritten by `cargo xtask conformance [SUITE]`, which runs them against Ferrule on whole nodes of one machine (userspace datapath).\n";

/// Where what people wrote about failures begins: it stays.
const EXPLAINED: &str = "\nExplained:\n";

/// Puts a suite's part into the page.
pub fn write(page: &Path, suite: &Suite, version: &str, total: usize, results: &Results) -> Result<()> {
    let old = std::fs::read_to_string(page).unwrap_or_else(|_| INTRODUCTION.to_owned());
    let text = with_part(&old, suite, version, total, results);
    std::fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))
}

fn with_part(old: &str, suite: &Suite, version: &str, total: usize, results: &Results) -> String {
    let failed: Vec<_> = results.iter().filter(|(_, state)| *state != PASSED).collect();
    let skipped = |state: &str| state.starts_with("skipped") || state == NOT_RUN;
    let skipped = failed.iter().filter(|(_, state)| skipped(state)).count();
    let mut part = format!(
        "## {}\n\n{}, Kubernetes {version}: **{} of {total} passed, {} failed, {} did not run**.\n",
        suite.name,
        suite.what,
        results.len() - failed.len(),
        failed.len() - skipped,
        total.saturating_sub(results.len()) + skipped
    );
    if !suite.note.is_empty() {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(part, "\n{}", suite.note);
    }
    if !failed.is_empty() {
        part.push_str("\nNot passed:\n\n");
    }
    for (name, state) in failed {
        let _ = writeln!(part, "- {name} ({state})");
    }
    if let Kind::E2e { left_out, .. } = suite.kind
        && !left_out.is_empty()
    {
        part.push_str("\nLeft out:\n\n| specs | for want of, or why |\n|---|---|\n");
        for (expression, why) in left_out {
            let _ = writeln!(part, "| `{}` | {why} |", expression.replace('\\', "").replace('|', "\\|"));
        }
    }
    let heading = format!("## {}\n", suite.name);
    match old.split_once(&heading) {
        None => format!("{}\n\n{part}", old.trim_end()),
        Some((before, after)) => {
            let end = after.find("\n## ").unwrap_or(after.len());
            let (own, rest) = after.split_at(end);
            if let Some(place) = own.find(EXPLAINED) {
                part.push_str(own[place..].trim_end_matches('\n'));
                part.push('\n');
            }
            format!("{before}{part}{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::suites::SUITES;

    fn results(state: &str) -> Results {
        Results::from([("a".to_owned(), state.to_owned())])
    }

    #[test]
    fn a_suite_replaces_its_own_part_of_the_page() {
        let page = with_part(INTRODUCTION, &SUITES[0], "1", 2, &results("failed"));
        let page = with_part(&page, &SUITES[1], "1", 1, &results(PASSED));
        assert!(
            page.contains("0 of 2 passed, 1 failed, 1 did not run") && page.contains("- a (failed)"),
            "{page}"
        );
        let page = with_part(&page, &SUITES[0], "1", 1, &results(PASSED));
        assert!(!page.contains("(failed)") && page.contains("## networkpolicy"), "{page}");
        assert_eq!(page.matches("## conformance").count(), 1);
    }

    #[test]
    fn explanations_stay_and_skips_are_no_failures() {
        let page = with_part(INTRODUCTION, &SUITES[0], "1", 1, &results("skipped itself: no cloud"));
        assert!(page.contains("0 of 1 passed, 0 failed, 1 did not run"), "{page}");
        let page = format!("{page}{EXPLAINED}\n- a: because.\n");
        let page = with_part(&page, &SUITES[1], "1", 1, &results(PASSED));
        let page = with_part(&page, &SUITES[0], "1", 1, &results("failed"));
        assert!(page.contains("- a (failed)\n\nExplained:\n\n- a: because.\n\n## networkpolicy"), "{page}");
    }
}
