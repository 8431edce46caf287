//! What is written must be true: documents mention files that exist, ARCHITECTURE.md's table of crates is the workspace,
//! and no file knows a path of somebody's machine.

use super::{Finding, TextFile, Tree};
use crate::workspace::Metadata;

/// Folders of machines, without their slashes: a path that starts at one of them is nobody else's.
const MACHINE_FOLDERS: &[&str] = &["work", "farm", "root", "home", "tmp/wt"];
const ARCHITECTURE: &str = "ARCHITECTURE.md";

pub fn check(tree: &Tree, metadata: &Metadata) -> Vec<Finding> {
    let members: Vec<String> = metadata.members().values().map(|package| metadata.folder(package)).collect();
    let mut findings: Vec<Finding> = tree.texts.iter().flat_map(machine_paths).collect();
    for file in tree.texts.iter().filter(|file| file.path.ends_with(".md")) {
        findings.extend(mentions(file, tree));
    }
    findings.extend(crate_table(tree, &members));
    findings
}

fn machine_paths(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for folder in MACHINE_FOLDERS {
            let path = format!("/{folder}/");
            let absolute = line.match_indices(&path).any(|(at, _)| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~*}>)".contains(c))
            });
            if absolute {
                findings.push(Finding::new(
                    &file.path,
                    number + 1,
                    format!("`{path}` is a path of one machine"),
                    "write it from the root of the repository, or take it as an argument",
                ));
            }
        }
    }
    findings
}

/// Relative links, and words in backquotes that look like files of this tree, name something that is there.
fn mentions(file: &TextFile, tree: &Tree) -> Vec<Finding> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    let mut fenced = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        let links = links(line).map(|link| join(folder, link));
        let quoted = quoted(line).filter(|word| looks_like_a_file(word, tree)).map(ToOwned::to_owned);
        for path in links.chain(quoted) {
            if !tree.paths.contains(path.trim_end_matches('/')) {
                findings.push(Finding::new(
                    &file.path,
                    number + 1,
                    format!("mentions {path}, which is not there"),
                    "correct the path or add the file",
                ));
            }
        }
    }
    findings
}

/// The targets of `[text](target)` that are files here: no scheme, no anchor, not outside of the tree.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, _)| {
        let target = line[at + 2..].split_once(')')?.0;
        let target = target.split_once('#').map_or(target, |(path, _)| path);
        let elsewhere = target.is_empty() || target.contains(':') || target.starts_with("../..");
        (!elsewhere).then_some(target)
    })
}

/// The words between single backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// A path below one of our top folders, or a document at the top. Patterns, placeholders and commands are not.
fn looks_like_a_file(word: &str, tree: &Tree) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let (top, rest) = word.split_once('/').unwrap_or((word, ""));
    let inside = !rest.is_empty() && tree.paths.contains(top);
    let document = !word.contains('/') && word.ends_with(".md") && word != ".md";
    plain && (inside || document)
}

/// `path` as seen from `folder`, with `.` and `..` resolved.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// ARCHITECTURE.md has a table whose first column names folders (`` | `openflow/` | … ``): every crate is in it, and every
/// folder in it exists.
fn crate_table(tree: &Tree, members: &[String]) -> Vec<Finding> {
    let Some(file) = tree.texts.iter().find(|file| file.path == ARCHITECTURE) else {
        return vec![Finding::new(
            ARCHITECTURE,
            0,
            "there is none",
            "describe the house: crates, invariants, paths",
        )];
    };
    let mut rows = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let Some(cell) = line.strip_prefix('|').and_then(|rest| rest.split('|').next()) else { continue };
        rows.extend(
            quoted(cell).filter_map(|word| word.strip_suffix('/')).map(|folder| (number + 1, folder)),
        );
    }
    let mut findings = Vec::new();
    for member in members {
        // A package inside another's folder is described with it.
        let described = rows.iter().any(|(_, row)| {
            member == row || member.strip_prefix(row).is_some_and(|rest| rest.starts_with('/'))
        });
        if !described {
            let what = format!("the crate {member}/ is not in the table of crates");
            findings.push(Finding::new(
                ARCHITECTURE,
                0,
                what,
                "add a row: what lives there, what it may depend on",
            ));
        }
    }
    for (line, row) in rows {
        if !tree.paths.contains(row) {
            let what = format!("the table names {row}/, which is not there");
            findings.push(Finding::new(ARCHITECTURE, line, what, "take the row out until the folder exists"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(findings: Vec<Finding>) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn machine_paths_are_found_and_relative_ones_are_not() {
        for folder in MACHINE_FOLDERS {
            let text = format!("fine\nsee \"/{folder}/somebody\"\n");
            let tree = Tree::of(&[("a.txt", &text)]);
            let said = display(machine_paths(&tree.texts[0]));
            assert!(said[0].starts_with("a.txt:2:"), "{said:?}");
            let text = format!("../{folder}/x https://host/{folder}/x net{folder}/x $HOME.x/{folder}/y\n");
            assert_eq!(machine_paths(&Tree::of(&[("a.txt", &text)]).texts[0]), []);
        }
    }

    #[test]
    fn a_document_that_mentions_a_missing_file_is_found() {
        let text = "See `docs/a.md`, [b](b.md), `docs/missing.rs`.\n[c](c.md) [x](https://x.y/z) [d](#d) `docs/*.md` `cargo x`\n\
                    ```\n`docs/in-a-fence.md`\n```\n`GONE.md` `elsewhere/x.rs`\n";
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", "")]);
        let said = display(mentions(&tree.texts[0], &tree));
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("docs/a.md:1: mentions docs/missing.rs"), "{said:?}");
        assert!(said[1].starts_with("docs/a.md:2: mentions docs/c.md"), "{said:?}");
        assert!(said[2].starts_with("docs/a.md:6: mentions GONE.md"), "{said:?}");
    }

    #[test]
    fn the_table_of_crates_is_the_workspace() {
        let members = ["a".to_owned(), "x/inner".to_owned(), "b".to_owned()];
        let table = "| folder | what |\n|---|---|\n| `a/` | … |\n| `x/`, `gone/` | … |\n";
        let tree = Tree::of(&[("ARCHITECTURE.md", table), ("a/Cargo.toml", ""), ("x/inner/Cargo.toml", "")]);
        let said = display(crate_table(&tree, &members));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("the crate b/ is not in the table"), "{said:?}");
        assert!(said[1].starts_with("ARCHITECTURE.md:4: the table names gone/"), "{said:?}");
        assert!(display(crate_table(&Tree::default(), &members))[0].contains("there is none"));
    }

    #[test]
    fn links_are_seen_from_their_folder() {
        assert_eq!(join("docs/adr", "../contracts.md"), "docs/contracts.md");
        assert_eq!(join("", "./README.md"), "README.md");
    }
}
