//! Kubernetes' own e2e.test: what is selected, and what of it has not passed yet. How it is called is the cluster's.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{NOT_RUN, PASSED, Results, Run};

/// What the cluster says of a spec (`cluster::e2e::Spec`).
#[derive(Debug, Deserialize)]
struct Spec {
    name: String,
    state: String,
}

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
        let left_out = left_out.join("|");
        let mut selection = vec!["--dry-run", "--focus", focus];
        if !left_out.is_empty() {
            selection.extend(["--skip", &left_out]);
        }
        // A dry run says of those that it would run that they passed.
        let mut all = self.specs(&selection)?;
        all.retain(|_, state| state == PASSED);
        results.retain(|spec, _| all.contains_key(spec));
        let wanted = all.keys().filter(|spec| results.get(*spec).is_none_or(|state| state != PASSED));
        let wanted: Vec<_> = wanted
            .filter(|spec| only.is_empty() || only.iter().any(|part| spec.contains(part)))
            .map(|spec| ending(spec))
            .collect();
        println!("==> {name}: {} of {} specs", wanted.len(), all.len());
        if !wanted.is_empty() {
            results.extend(self.specs(&["--focus", &wanted.join("|")])?);
        }
        for spec in all.keys() {
            results.entry(spec.clone()).or_insert_with(|| NOT_RUN.to_owned());
        }
        Ok(all.len())
    }

    /// What became of each spec that ran, by its full name.
    fn specs(&self, options: &[&str]) -> Result<Results> {
        let mut call = self.call(&["e2e"]);
        let output = call.args(options).stderr(Stdio::inherit()).output();
        let output = output.context("cannot run the cluster's command")?;
        if !output.status.success() {
            bail!("e2e.test says nothing of its specs ({}): see the message above", output.status);
        }
        let specs: Vec<Spec> =
            serde_json::from_slice(&output.stdout).context("cannot read what became of the specs")?;
        Ok(specs.into_iter().map(|spec| (spec.name, spec.state)).collect())
    }
}

/// Matches one spec: ginkgo puts the name of the whole before the text that it matches.
fn ending(spec: &str) -> String {
    format!("{}$", escaped(spec))
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
    fn one_spec_is_matched_by_its_name() {
        assert_eq!(ending("[a] (b)"), r"\[a\] \(b\)$");
    }
}
