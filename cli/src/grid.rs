//! How a matrix looks to people: one row per source, one column per destination, one character for all ports that the
//! destination serves; two of them side by side where there is room. Knows no probes.

use std::collections::BTreeMap;
use std::fmt::Write;

use network::matrix::{Cell, Entry, Grid, Matrix, ServedPort};

use crate::paint::{Paint, width};

/// All ports of a pair in one character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Summary {
    /// The destination serves nothing.
    Nothing,
    /// Every port passes.
    All,
    /// No port passes.
    None,
    /// Some do.
    Some,
}

impl Summary {
    fn of(cells: impl Iterator<Item = Cell>) -> Self {
        cells.fold(Self::Nothing, |so_far, cell| match (so_far, cell) {
            (so_far, Cell::NotServed) => so_far,
            (Self::Nothing | Self::All, Cell::Passes) => Self::All,
            (Self::Nothing | Self::None, Cell::Blocked) => Self::None,
            _ => Self::Some,
        })
    }

    fn symbol(self) -> char {
        match self {
            Self::Nothing => '-',
            Self::All => '.',
            Self::None => 'X',
            Self::Some => '+',
        }
    }
}

/// One matrix.
pub fn one(matrix: &Matrix, paint: Paint) -> String {
    let mut out = block(matrix, None, "", paint).join("\n") + "\n\n";
    legend(&mut out, matrix, paint);
    out
}

/// What was observed beside what is predicted; cells that differ stand out.
pub fn beside(observed: &Matrix, predicted: &Matrix, paint: Paint) -> String {
    let left = block(observed, Some(predicted), "OBSERVED", paint);
    let right = block(predicted, Some(observed), "PREDICTED", paint);
    let names = name_width(observed);
    let one = names + 6 + 2 * observed.order.len();
    let mut out = String::new();
    if width().is_none_or(|width| one + 4 + 2 * observed.order.len() + 4 <= width) {
        for (left, right) in left.iter().zip(&right) {
            // The right one needs no names again: they are the first columns of every line.
            let right: String = skip_columns(right, names + 5);
            let pad = (one + 2).saturating_sub(visible(left));
            let _ = writeln!(out, "{left}{:pad$}{right}", "");
        }
    } else {
        let _ = writeln!(out, "{}\n\n{}", left.join("\n"), right.join("\n"));
    }
    out.push('\n');
    legend(&mut out, observed, paint);
    out
}

/// The lines of one grid: title, two lines of column numbers, the rows.
fn block(matrix: &Matrix, other: Option<&Matrix>, title: &str, paint: Paint) -> Vec<String> {
    let names = name_width(matrix);
    let numbers = 1..=matrix.order.len();
    let digits = |digit: fn(usize) -> String| {
        let all: String = numbers.clone().map(|n| format!("{:>2}", digit(n))).collect();
        format!("{:1$}{all}", "", names + 4)
    };
    let tens = |n: usize| if n < 10 { String::new() } else { (n / 10).to_string() };
    let mut lines = Vec::new();
    if !title.is_empty() {
        lines.push(format!("{:1$} {2}", "", names + 4, paint.bold(title)));
    }
    if matrix.order.len() >= 10 {
        lines.push(paint.dim(digits(tens)));
    }
    lines.push(paint.dim(digits(|n| (n % 10).to_string())));
    for (row, from) in matrix.order.iter().enumerate() {
        let mut line = format!("{:<names$} {}", from.to_string(), paint.dim(format!("{:>3}", row + 1)));
        for to in &matrix.order {
            let summary = summarise(matrix, from, to);
            let differs =
                from != to && other.is_some_and(|other| pair(matrix, from, to) != pair(other, from, to));
            let symbol = match summary {
                // A Service has a line for its number only.
                _ if !from.speaks() => " ".to_owned(),
                _ if from == to => paint.dim("·"),
                _ if differs => paint.error(summary.symbol()),
                Summary::All => paint.good('.'),
                Summary::Nothing => paint.dim('-'),
                other => other.symbol().to_string(),
            };
            line.push(' ');
            line.push_str(&symbol);
        }
        lines.push(line);
    }
    lines
}

fn legend(out: &mut String, matrix: &Matrix, paint: Paint) {
    let _ = writeln!(
        out,
        "{}",
        paint.dim(". passes   X blocked   + some ports pass   - nothing served (to it)   · itself; rows are sources, columns destinations")
    );
    let mixed = mixed(matrix);
    if !mixed.is_empty() {
        let _ = writeln!(out, "\nWhere some ports pass:");
        for (to, sources) in mixed {
            for (passing, from) in sources {
                let from: Vec<_> = from.iter().map(ToString::to_string).collect();
                let _ = writeln!(out, "  {to} {} from {}", paint.good(passing), from.join(", "));
            }
        }
    }
}

/// Destinations that some source reaches on some ports only: which ports, from whom.
fn mixed(matrix: &Matrix) -> BTreeMap<&Entry, BTreeMap<String, Vec<&Entry>>> {
    let mut mixed: BTreeMap<_, BTreeMap<String, Vec<_>>> = BTreeMap::new();
    for from in &matrix.order {
        for to in matrix.order.iter().filter(|to| *to != from) {
            if summarise(matrix, from, to) == Summary::Some {
                let passing: Vec<_> = pair(matrix, from, to)
                    .into_iter()
                    .filter(|(_, cell)| *cell == Cell::Passes)
                    .map(|(port, _)| port.to_string())
                    .collect();
                mixed.entry(to).or_default().entry(passing.join(", ")).or_default().push(from);
            }
        }
    }
    mixed
}

fn summarise(matrix: &Matrix, from: &Entry, to: &Entry) -> Summary {
    Summary::of(pair(matrix, from, to).into_values())
}

fn pair(matrix: &Matrix, from: &Entry, to: &Entry) -> BTreeMap<ServedPort, Cell> {
    let cell = |port| Some((port, matrix.cell(port, Grid::Combined, from, to)?));
    matrix.table.keys().filter_map(|port| cell(*port)).filter(|(_, cell)| *cell != Cell::NotServed).collect()
}

fn name_width(matrix: &Matrix) -> usize {
    matrix.order.iter().map(|entry| entry.to_string().chars().count()).max().unwrap_or(0)
}

/// Characters that take room on a terminal.
fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut escape = false;
    for character in text.chars() {
        match (escape, character) {
            (false, '\x1b') => escape = true,
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, _) => count += 1,
        }
    }
    count
}

/// The text without its first visible columns.
fn skip_columns(text: &str, columns: usize) -> String {
    let mut seen = 0;
    let mut escape = false;
    let mut kept = String::new();
    for character in text.chars() {
        let invisible = escape || character == '\x1b';
        escape = invisible && character != 'm';
        if invisible || seen >= columns {
            kept.push(character);
        }
        seen += usize::from(!invisible);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: [&str; 2]) -> Matrix {
        let json = format!(
            r#"{{"order":["shop/a","shop/b"],"table":{{
                "TCP/80":{{"combined":{{"shop/a":"{}","shop/b":"{}"}}}},
                "UDP/53":{{"combined":{{"shop/a":"-.","shop/b":"-."}}}}}}}}"#,
            rows[0], rows[1]
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn ports_are_summed_up_and_what_passes_in_part_is_told() {
        let text = one(&matrix(["-X", "-."]), Paint::plain());
        assert!(text.contains("shop/a   1 · +"), "{text}");
        assert!(text.contains("shop/b   2 - ·"), "{text}");
        assert!(text.contains("shop/b UDP/53 from shop/a"), "{text}");
    }

    #[test]
    fn two_stand_side_by_side() {
        let (observed, predicted) = (matrix(["-X", "-."]), matrix(["-.", "-."]));
        let text = beside(&observed, &predicted, Paint::plain());
        let row = text.lines().find(|line| line.starts_with("shop/a")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["shop/a", "1", "·", "+", "·", "."]);
        assert_eq!(visible("\x1b[31mX\x1b[0m."), 2);
    }
}
