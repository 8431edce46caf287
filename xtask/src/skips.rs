//! What could not be tested here, and whether that is allowed. The tests report through `tests::skip`; the allow-list is
//! `tests/skips-allowed.txt` and counts only with CI=true.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// One line of the report: `tier: name: reason`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skip {
    pub tier: String,
    pub name: String,
    pub reason: String,
}

impl Skip {
    pub fn new(tier: &str, name: &str, reason: &str) -> Self {
        Self { tier: tier.to_owned(), name: name.to_owned(), reason: reason.to_owned() }
    }

    fn parse(line: &str) -> Self {
        let mut parts = line.splitn(3, ": ");
        let mut part = || parts.next().unwrap_or("?").trim();
        Self::new(part(), part(), part())
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.tier, self.name, self.reason)
    }
}

/// Reads a report; each skip once, sorted.
pub fn read_report(path: &Path) -> Result<Vec<Skip>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the skip report {}", path.display()))?;
    let mut skips: Vec<Skip> = text.lines().filter(|line| !line.trim().is_empty()).map(Skip::parse).collect();
    skips.sort();
    skips.dedup();
    Ok(skips)
}

/// The written exceptions: one pattern `tier: name: reason` per line, `*` standing for anything.
#[derive(Debug, Default)]
pub struct AllowList {
    patterns: Vec<String>,
}

impl AllowList {
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    pub fn parse(text: &str) -> Result<Self> {
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.splitn(3, ": ").count() != 3 {
                bail!("line {}: {line:?} is not of the form `tier: name: reason`", number + 1);
            }
            patterns.push(line.to_owned());
        }
        Ok(Self { patterns })
    }

    pub fn allows(&self, skip: &Skip) -> bool {
        let line = skip.to_string();
        self.patterns.iter().any(|pattern| matches(pattern, &line))
    }
}

/// Whether `pattern`, in which `*` stands for any run of characters, is the whole of `text`.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(tail, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_sorted_and_holds_each_skip_once() {
        let report = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(report.path(), "switch: b: no ovs\ndataplane: a: why: because\n\nswitch: b: no ovs\n")
            .unwrap();
        assert_eq!(
            read_report(report.path()).unwrap(),
            [Skip::new("dataplane", "a", "why: because"), Skip::new("switch", "b", "no ovs")]
        );
        assert!(read_report(Path::new("no/such/report")).unwrap().is_empty());
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        let list =
            AllowList::parse("# why\ndataplane: *: the kernel has no *\ncluster: all: no Go\n").unwrap();
        assert!(list.allows(&Skip::new("dataplane", "geneve", "the kernel has no geneve module")));
        assert!(list.allows(&Skip::new("cluster", "all", "no Go")));
        assert!(!list.allows(&Skip::new("cluster", "all", "no Go here")));
        assert!(!list.allows(&Skip::new("switch", "all", "the kernel has no geneve module")));
        assert!(!AllowList::default().allows(&Skip::new("cluster", "all", "no Go")));
    }

    #[test]
    fn a_vague_line_is_refused() {
        let error = AllowList::parse("\n*\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn the_checked_in_list_can_be_read() {
        AllowList::read(&crate::workspace::root().join("tests/skips-allowed.txt")).unwrap();
    }
}
