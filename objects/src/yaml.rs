//! Splits a text into its YAML or JSON documents. A bad document is a problem of its own, the others are read. Knows no
//! kinds.

use std::sync::Arc;

use crate::located::{Located, Position};
use crate::problem::{Fault, ObjectRef, Problem, Source};

/// A text to read and what to call it in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// Its name, usually the file's.
    pub name: String,
    /// The text.
    pub text: String,
}

impl SourceText {
    /// Puts the two together.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// One document, its positions counted from the beginning of the whole text.
pub(crate) struct Document {
    pub(crate) file: Arc<str>,
    pub(crate) root: Located,
}

/// The documents of a text; empty ones are left out.
pub(crate) fn documents(source: &SourceText, problems: &mut Vec<Problem>) -> Vec<Document> {
    let file: Arc<str> = source.name.as_str().into();
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    let mut documents = Vec::new();
    for chunk in split(text) {
        match parse(&chunk) {
            Ok(roots) => {
                documents.extend(roots.into_iter().map(|root| Document { file: file.clone(), root }))
            }
            Err((position, reason)) => problems.push(Problem {
                object: chunk.guess(),
                source: Some(Source { file: file.clone(), line: position.line, column: position.column }),
                field: None,
                fault: Fault::Unreadable { reason },
            }),
        }
    }
    documents
}

/// The lines of one document and how many lines of the text come before it.
struct Chunk {
    text: String,
    lines_before: u32,
}

/// A line that begins with `---` or `...` and then a space or its end always ends a document (YAML 1.2.2 §9.1.2), so
/// documents can be told apart without understanding them.
fn split(text: &str) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut current = Chunk { text: String::new(), lines_before: 0 };
    for (count, line) in (0u32..).zip(text.lines()) {
        let marker = ["---", "..."].into_iter().any(|m| {
            line.strip_prefix(m).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        });
        if marker {
            let next = Chunk { text: format!("   {}\n", &line[3..]), lines_before: count };
            chunks.push(std::mem::replace(&mut current, next));
        } else {
            current.text.push_str(line);
            current.text.push('\n');
        }
    }
    chunks.push(current);
    chunks.retain(|chunk| !chunk.is_blank());
    chunks
}

impl Chunk {
    /// Nothing but white space, comments and directives.
    fn is_blank(&self) -> bool {
        self.text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line.starts_with("%YAML") || line.starts_with("%TAG")
        })
    }

    /// What the document seems to be, when it cannot be read: the first `kind`, the first `name` and `namespace` under
    /// `metadata`.
    fn guess(&self) -> Option<ObjectRef> {
        let value = |line: &str, key: &str| {
            let text = line.trim().strip_prefix(key)?.strip_prefix(':')?.trim().trim_matches(['"', '\'']);
            (!text.is_empty() && !text.contains(char::is_whitespace)).then(|| text.to_owned())
        };
        let kind = self.text.lines().find_map(|line| value(line, "kind"))?;
        let mut metadata = self.text.lines().skip_while(|line| !line.starts_with("metadata:")).skip(1);
        let inside: Vec<&str> = metadata.by_ref().take_while(|line| line.starts_with(' ')).collect();
        let name = inside.iter().find_map(|line| value(line, "name"))?;
        Some(ObjectRef { kind, namespace: inside.iter().find_map(|line| value(line, "namespace")), name })
    }
}

type Unreadable = (Position, String);

fn parse(chunk: &Chunk) -> Result<Vec<Located>, Unreadable> {
    let yaml = serde_saphyr::from_str_with_options::<Located>(&chunk.text, options());
    match yaml {
        Ok(mut root) => {
            shift(&mut root, chunk.lines_before);
            Ok(vec![root])
        }
        Err(error) => {
            // JSON may hold what this YAML parser refuses (tabs, several values one after another).
            if chunk.text.trim_start().starts_with(['{', '[']) {
                let position = Position { line: chunk.lines_before + 1, column: 1 };
                let values = serde_json::Deserializer::from_str(&chunk.text).into_iter::<serde_json::Value>();
                if let Ok(values) = values.collect::<Result<Vec<_>, _>>() {
                    return Ok(values.into_iter().map(|value| Located::anywhere(value, position)).collect());
                }
            }
            let at = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1);
            let position = Position {
                line: chunk.lines_before + at(error.location().map(|l| l.line())),
                column: at(error.location().map(|l| l.column())),
            };
            let words = error.without_snippet().to_string();
            let words = words.lines().next().unwrap_or_default();
            // The place is told apart, and counted from the beginning of the text; advice to programmers helps nobody here.
            let end =
                [" at line ", ", set DuplicateKeyPolicy"].iter().filter_map(|end| words.find(end)).min();
            Err((position, words.get(..end.unwrap_or(words.len())).unwrap_or(words).to_owned()))
        }
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        // `0644` is an octal number for kubectl.
        legacy_octal_numbers: true,
        // A policy of 100,000 rules is large, not hostile.
        budget: serde_saphyr::budget! {
            max_events: 40_000_000,
            max_nodes: 20_000_000,
            max_total_scalar_bytes: 256 << 20,
        },
    }
}

fn shift(located: &mut Located, lines: u32) {
    use crate::located::Tree;
    located.position.line += lines;
    match &mut located.tree {
        Tree::Scalar(_) => {}
        Tree::List(items) => items.iter_mut().for_each(|item| shift(item, lines)),
        Tree::Map(entries) => entries.iter_mut().for_each(|(_, item)| shift(item, lines)),
    }
}
