//! `cargo xtask tidy`: the architecture's invariants and the habits of the house, checked. One file per family of rules;
//! each rule has a test that shows that it can fail. Knows text and cargo's metadata; runs nothing of the project.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::workspace::{self, Metadata};

mod deny;
mod documents;
mod edges;
mod mask;
mod purity;
mod shape;

/// Something that breaks a rule: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    /// Counts from 1; 0 speaks of the whole file.
    pub line: usize,
    pub what: String,
    pub cure: String,
}

impl Finding {
    pub fn new(path: &str, line: usize, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), cure: cure.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line.max(1), self.what, self.cure)
    }
}

/// A text file of the tree, its path from the root with `/` between.
#[derive(Debug, Clone)]
pub struct TextFile {
    pub path: String,
    pub text: String,
}

impl TextFile {
    /// Written by a program: its first line says so. Size and style are then not ours.
    pub fn is_generated(&self) -> bool {
        self.text.lines().next().is_some_and(|line| line.contains("@generated"))
    }
}

/// Every file of the tree; the text of those that are text.
#[derive(Debug, Default)]
pub struct Tree {
    pub texts: Vec<TextFile>,
    /// Files and folders, binary ones too.
    pub paths: std::collections::BTreeSet<String>,
}

impl Tree {
    /// Folders that are not source: what cargo and the fuzzers write.
    const IGNORED: [&'static str; 3] = ["target", "corpus", "artifacts"];
    /// Hidden folders that are part of the source.
    const HIDDEN: [&'static str; 3] = [".ci", ".cargo", ".github"];

    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, "")?;
        Ok(tree)
    }

    fn walk(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        let entries =
            std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
        let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                let hidden = name.starts_with('.') && !Self::HIDDEN.contains(&name.as_str());
                if !hidden && !Self::IGNORED.contains(&name.as_str()) {
                    self.walk(&entry.path(), &format!("{path}/"))?;
                    self.paths.insert(path);
                }
                continue;
            }
            if name == ".git" {
                continue;
            }
            let bytes = std::fs::read(entry.path()).with_context(|| format!("cannot read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                self.texts.push(TextFile { path: path.clone(), text });
            }
            self.paths.insert(path);
        }
        Ok(())
    }

    /// A tree that exists only in a test.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.texts.push(TextFile { path: (*path).to_owned(), text: (*text).to_owned() });
            for (at, _) in path.match_indices('/') {
                tree.paths.insert(path[..at].to_owned());
            }
            tree.paths.insert((*path).to_owned());
        }
        tree
    }

    pub fn rust(&self) -> impl Iterator<Item = &TextFile> {
        self.texts.iter().filter(|file| file.path.ends_with(".rs") && !file.is_generated())
    }
}

pub fn run() -> Result<ExitCode> {
    let clean = check(&Metadata::read()?)?;
    Ok(ExitCode::from(if clean { 0 } else { 2 }))
}

/// Prints what is found; true when nothing is.
pub fn check(metadata: &Metadata) -> Result<bool> {
    let tree = Tree::read(workspace::root())?;
    let mut findings = edges::check(metadata);
    findings.extend(purity::check(&tree));
    findings.extend(shape::check(&tree));
    findings.extend(documents::check(&tree, metadata));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let licences = deny::check()?;
    match findings.len() {
        0 => println!("tidy: {} files, nothing to say", tree.paths.len()),
        count => println!("tidy: {count} findings"),
    }
    Ok(findings.is_empty() && licences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_what_and_the_cure() {
        let finding = Finding::new("a/b.rs", 7, "two ideas", "split it");
        assert_eq!(finding.to_string(), "a/b.rs:7: two ideas; split it");
    }

    #[test]
    fn the_walk_sees_sources_and_not_what_cargo_writes() {
        let tree = Tree::read(workspace::root()).unwrap();
        assert!(tree.paths.contains("xtask/src/tidy/mod.rs"));
        assert!(tree.paths.contains("xtask/src"));
        assert!(tree.paths.contains(".cargo/config.toml"));
        assert!(!tree.paths.iter().any(|path| path.starts_with("target") || path.starts_with(".git/")));
    }
}
