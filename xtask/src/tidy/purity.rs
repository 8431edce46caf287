//! What crates must not do, read from their sources: the pure ones no IO, no clock, no async; the codecs none of it
//! outside `io`. Tests are free. Knows words, not types: edges.rs has the dependencies.

use std::collections::BTreeSet;

use super::{Finding, Tree, mask};

/// A word that some crates must not say outside of tests, and why.
#[derive(Debug)]
struct Ban {
    word: &'static str,
    why: &'static str,
}

const fn ban(word: &'static str, why: &'static str) -> Ban {
    Ban { word, why }
}

const ASYNC: &str = "no async: drivers and daemons have that";
const CLOCK: &str = "no clock: time is an argument";
const IO: &str = "no IO: drivers touch the world";

const WORLD: &[Ban] = &[
    ban("tokio", ASYNC),
    ban("async", ASYNC),
    ban(".await", ASYNC),
    ban("SystemTime", CLOCK),
    ban("Instant::now", CLOCK),
    ban("std::fs", IO),
    ban("std::process", IO),
    ban("std::thread", IO),
    ban("std::env", IO),
    ban("TcpStream", IO),
    ban("TcpListener", IO),
    ban("UdpSocket", IO),
    ban("UnixStream", IO),
    ban("UnixListener", IO),
    ban("ToSocketAddrs", IO),
    ban("println!", IO),
    ban("eprintln!", IO),
];

/// The pure crates do not even name an instant; the sans-IO codecs take it as an argument.
const INSTANT: Ban = ban("Instant", CLOCK);

struct Rule {
    krate: &'static str,
    /// Parts of the crate that are free, from its `src/`.
    except: &'static [&'static str],
    instant: bool,
}

const RULES: &[Rule] = &[
    Rule { krate: "network", except: &[], instant: false },
    Rule { krate: "objects", except: &[], instant: false },
    Rule { krate: "compiler", except: &[], instant: false },
    Rule { krate: "openflow", except: &["io.rs", "io/"], instant: true },
    Rule { krate: "ovsdb", except: &["io.rs", "io/"], instant: true },
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let test_files = test_files(tree);
    let mut findings = Vec::new();
    for rule in RULES {
        let src = format!("{}/src/", rule.krate);
        for file in tree.rust() {
            let Some(inside) = file.path.strip_prefix(&src) else { continue };
            let free = rule
                .except
                .iter()
                .any(|except| inside == *except || except.ends_with('/') && inside.starts_with(except));
            if free || test_files.iter().any(|test| under(&file.path, test)) {
                continue;
            }
            let (code, _) = mask::without_tests(&mask::code(&file.text));
            let bans = WORLD.iter().chain((!rule.instant).then_some(&INSTANT));
            for Ban { word, why } in bans {
                for line in mask::lines_with(&code, word) {
                    findings.push(Finding::new(
                        &file.path,
                        line,
                        format!("`{word}` in {}", rule.krate),
                        format!("{why} (architecture invariant)"),
                    ));
                }
            }
        }
    }
    findings.dedup_by(|a, b| a.path == b.path && a.line == b.line && a.cure == b.cure);
    findings
}

/// Paths without extension of the modules that are declared `#[cfg(test)] mod name;`.
fn test_files(tree: &Tree) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for file in tree.rust() {
        let (_, modules) = mask::without_tests(&mask::code(&file.text));
        let stem = file.path.strip_suffix(".rs").unwrap_or(&file.path);
        let folder = match stem.rsplit_once('/') {
            Some((folder, "lib" | "main" | "mod")) => folder,
            _ => stem,
        };
        files.extend(modules.iter().map(|name| format!("{folder}/{name}")));
    }
    files
}

/// Whether `path` is the module `module` (a path without extension) or below it.
fn under(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_banned_word_is_found_in_the_pure_crates() {
        for krate in ["network", "objects", "compiler"] {
            for ban in WORLD.iter().chain([&INSTANT]) {
                let text = format!("//! Doc.\nfn f() {{ {} }}\n", ban.word);
                let said = said(&format!("{krate}/src/a/b.rs"), &text);
                assert!(said[0].starts_with(&format!("{krate}/src/a/b.rs:2: `")), "{}: {said:?}", ban.word);
            }
        }
    }

    #[test]
    fn addresses_comments_strings_and_other_crates_pass() {
        let text = "//! No tokio.\nuse std::net::IpAddr;\nuse std::time::Duration; // SystemTime\nconst A: &str = \"std::fs\";\n";
        assert_eq!(said("network/src/lib.rs", text), [""; 0]);
        assert_eq!(said("ovs-agent/src/lib.rs", "use std::fs;"), [""; 0]);
    }

    #[test]
    fn the_codecs_are_free_in_io_and_take_time_as_an_argument() {
        assert_eq!(said("openflow/src/io.rs", "use tokio::net;"), [""; 0]);
        assert_eq!(said("ovsdb/src/io/stream.rs", "async fn f() {}"), [""; 0]);
        assert_eq!(said("openflow/src/connection.rs", "fn tick(now: Instant) {}"), [""; 0]);
        assert_eq!(said("openflow/src/connection.rs", "Instant::now();").len(), 1);
        assert_eq!(said("openflow/src/iodine.rs", "use tokio::net;").len(), 1);
    }

    #[test]
    fn tests_are_free_wherever_they_are() {
        let tree = Tree::of(&[
            ("network/src/lib.rs", "#[cfg(test)]\nmod golden;\n#[cfg(test)]\nmod tests { use std::fs; }\n"),
            ("network/src/golden.rs", "use std::fs;"),
            ("network/src/policy.rs", "#[cfg(test)]\nmod cases;"),
            ("network/src/policy/cases.rs", "use std::fs;"),
            ("network/tests/all.rs", "use std::fs;"),
        ]);
        assert_eq!(check(&tree), []);
    }
}
