//! Colour and width: only for a terminal, never with NO_COLOR (no-color.org). Knows no content.

use std::fmt::Display;
use std::io::IsTerminal;

/// Whether and how to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// For standard output.
    pub fn stdout() -> Self {
        Self { colour: wanted(std::io::stdout().is_terminal()) }
    }

    /// For standard error.
    pub fn stderr() -> Self {
        Self { colour: wanted(std::io::stderr().is_terminal()) }
    }

    /// None at all.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { colour: false }
    }

    /// A heading.
    pub fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    /// What is there for those who look closely.
    pub fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    /// Something is wrong.
    pub fn error(self, text: impl Display) -> String {
        self.with("1;31", text)
    }

    /// Something to look at.
    pub fn warning(self, text: impl Display) -> String {
        self.with("33", text)
    }

    /// As it should be.
    pub fn good(self, text: impl Display) -> String {
        self.with("32", text)
    }

    /// A name.
    pub fn name(self, text: impl Display) -> String {
        self.with("36", text)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

fn wanted(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Columns of the terminal; `None` when the output goes elsewhere and may be as wide as it likes.
pub fn width() -> Option<usize> {
    comfy_table::Table::new().width().map(usize::from).filter(|width| *width > 20)
}

/// Breaks text at blanks so that no line is longer than `width`; a longer word gets a line of its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_blanks_and_plain_is_plain() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensible x", 4), ["incomprehensible", "x"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(Paint::plain().error("x"), "x");
        assert_eq!(Paint { colour: true }.dim("x"), "\x1b[2mx\x1b[0m");
    }
}
