//! Rust source with everything blanked that is not code: comments, strings, characters; and, on request, what is compiled
//! only for tests. Lines keep their numbers. A scanner, not a parser: it knows just enough to blank the right bytes.

/// The source with comments and literals replaced by spaces.
pub fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = blank_end(bytes, at);
        if end > at {
            out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    // Only ASCII was put in place of whole tokens, so this never replaces anything; it spares an expect.
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none starts there.
fn blank_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let word_before = at > 0 && is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    if rest[0] == b'"' {
        return string_end(bytes, at + 1);
    }
    if rest[0] == b'\'' {
        return character_end(bytes, at);
    }
    if !word_before {
        // b"…", c"…", r"…", br#"…"#, and raw identifiers (r#type), which are code.
        let prefix = rest.iter().take_while(|byte| matches!(byte, b'b' | b'c' | b'r')).count();
        let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
        if (1..=2).contains(&prefix) && rest.get(prefix + hashes) == Some(&b'"') {
            let body = at + prefix + hashes + 1;
            let raw = rest[..prefix].contains(&b'r');
            return if raw { raw_string_end(bytes, body, hashes) } else { string_end(bytes, body) };
        }
        if rest.starts_with(b"b'") {
            return character_end(bytes, at + 1).max(at + 1);
        }
    }
    at
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], mut at: usize, hashes: usize) -> usize {
    while at < bytes.len() {
        let tail = &bytes[at + 1..];
        if bytes[at] == b'"' && tail.iter().take(hashes).filter(|byte| **byte == b'#').count() == hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    bytes.len()
}

/// The end of a character literal that starts at `at`; `at` when the quote belongs to a lifetime.
fn character_end(bytes: &[u8], at: usize) -> usize {
    let Some(next) = bytes.get(at + 1) else { return at };
    if *next == b'\\' {
        let body = bytes.get(at + 3..).unwrap_or_default();
        return match body.iter().position(|byte| *byte == b'\'') {
            Some(length) => at + 3 + length + 1,
            None => at,
        };
    }
    let width = match next {
        0x00..=0x7f => 1,
        0xf0.. => 4,
        0xe0..=0xef => 3,
        _ => 2,
    };
    if bytes.get(at + 1 + width) == Some(&b'\'') { at + width + 2 } else { at }
}

/// Blanks the items under `#[cfg(test)]` in what [`code`] returned; gives also the modules so declared that live in other
/// files (`#[cfg(test)] mod tests;`).
pub fn without_tests(code: &str) -> (String, Vec<String>) {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    let mut modules = Vec::new();
    let mut from = 0;
    while let Some(found) = out[from..].find(ATTRIBUTE) {
        let start = from + found;
        let item = start + ATTRIBUTE.len();
        let end = item_end(&out, item);
        let text = out[item..end].trim();
        if let Some(name) = text.strip_suffix(';').and_then(|text| text.rsplit_once("mod ")) {
            modules.push(name.1.trim().to_owned());
        }
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        // Blanks are as many bytes as what they replace only for ASCII; identifiers here are.
        out.replace_range(start..end, &blank);
        from = start + blank.len();
    }
    (out, modules)
}

/// The end of the item that starts at `at`: its `;`, or the brace that closes its first brace.
fn item_end(code: &str, at: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.as_bytes()[at..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + offset + 1;
                }
            }
            b';' if depth == 0 => return at + offset + 1,
            _ => {}
        }
    }
    code.len()
}

/// The lines (from 1) on which `word` stands in `code` with no part of a name on either side; `word` may end in
/// punctuation such as `todo!`.
pub fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let bytes = line.as_bytes();
        let starts_word = word.as_bytes().first().copied().is_some_and(is_word);
        let ends_word = word.as_bytes().last().copied().is_some_and(is_word);
        let alone = line.match_indices(word).any(|(at, _)| {
            let before = starts_word && at > 0 && is_word(bytes[at - 1]);
            let after = ends_word && bytes.get(at + word.len()).copied().is_some_and(is_word);
            !before && !after
        });
        if alone {
            lines.push(number + 1);
        }
    }
    lines
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_code_is_not() {
        let source =
            "let a = \"todo!()\"; // todo!()\n/* todo!() /* x */ */ b();\nlet r = r#\"todo!() \" \"#; c();\n";
        let masked = code(source);
        assert!(!masked.contains("todo"), "{masked}");
        assert!(masked.contains("b();") && masked.contains("c();"), "{masked}");
        assert_eq!(masked.lines().count(), 3);
    }

    #[test]
    fn lifetimes_and_characters_are_told_apart() {
        let masked =
            code("fn f<'a>(x: &'a str) -> char { let q = '\"'; let n = '\\''; let e = 'é'; b'\"'; g(q) }");
        assert!(masked.contains("fn f<'a>(x: &'a str)") && masked.contains("g(q) }"), "{masked}");
        assert!(!masked.contains('"'), "{masked}");
    }

    #[test]
    fn escapes_do_not_end_a_string() {
        let masked = code(r#"let s = "a\"b todo!()"; keep();"#);
        assert!(!masked.contains("todo") && masked.contains("keep();"), "{masked}");
    }

    #[test]
    fn test_items_are_blanked_and_test_files_named() {
        let (out, modules) = without_tests(
            "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() { if x { } }\n}\nfn c() {}\n#[cfg(test)]\nmod golden;\n",
        );
        assert!(out.contains("fn a()") && out.contains("fn c()") && !out.contains("fn b()"), "{out}");
        assert_eq!(modules, ["golden"]);
        assert_eq!(out.lines().count(), 8);
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(lines_with("a todo!()\nmy_todo!()\nx::todo!()", "todo!"), [1, 3]);
        assert_eq!(lines_with("tokio::x\ntokio_util\n", "tokio"), [1]);
    }
}
