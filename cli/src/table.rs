//! Lists in columns, as kubectl prints them: no frames, fitted to the terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// Rows under headings.
pub fn columns(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings.to_vec());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // The last column's padding is no part of what is said.
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A list in one cell; `-` for nothing.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let all: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

/// A value that may be missing.
pub fn or_dash<T: ToString>(item: Option<T>) -> String {
    item.map_or_else(|| "-".to_owned(), |item| item.to_string())
}

/// Yes or no.
pub fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_end_with_what_they_say() {
        let text = columns(
            &["NAME", "PODS"],
            vec![vec!["node-1".into(), "6".into()], vec!["n".into(), "12".into()]],
        );
        assert_eq!(text, "NAME    PODS\nnode-1  6\nn       12");
        assert_eq!(list(Vec::<String>::new()), "-");
    }
}
