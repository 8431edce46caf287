//! Two listings of one nftables table, compared chain by chain, rule by rule and element by element. Pure: it reads what nft
//! printed, both times in its own words.

use std::collections::{BTreeMap, BTreeSet};

use api::insight::Difference;

use crate::drift::NOT_OURS;

/// Something of the table that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meddled {
    /// `chain spoof`, `chain spoof: "claims a pod's address"`.
    pub object: String,
    /// How it differs.
    pub difference: Difference,
    /// As it was written.
    pub wanted: Option<String>,
    /// As it is.
    pub found: Option<String>,
    /// What it does, or what of it differs.
    pub what: String,
}

/// Chains and whatever else a table holds, by its head; what stands in it, in order.
type Blocks<'a> = BTreeMap<&'a str, Vec<String>>;

/// What differs between the listing of the table as it was written and the one of the table as it is.
pub fn differences(wanted: &str, found: &str) -> Vec<Meddled> {
    let (wanted, mut found) = (blocks(wanted), blocks(found));
    let mut all = Vec::new();
    for (head, lines) in &wanted {
        match found.remove(head) {
            None => all.push(Meddled {
                object: (*head).to_owned(),
                difference: Difference::Missing,
                wanted: Some(lines.join("; ")),
                found: None,
                what: "all of it is gone".into(),
            }),
            Some(held) => all.extend(within(head, lines, &held)),
        }
    }
    all.extend(found.into_iter().map(|(head, lines)| Meddled {
        object: head.to_owned(),
        difference: Difference::Extra,
        wanted: None,
        found: Some(lines.join("; ")),
        what: NOT_OURS.into(),
    }));
    all
}

fn blocks(listing: &str) -> Blocks<'_> {
    let mut blocks = Blocks::new();
    let (mut head, mut open) = (None, String::new());
    for line in listing.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some(name) = head else {
            if !line.starts_with("table ") {
                head = line.strip_suffix('{').map(str::trim);
                head.map(|head| blocks.entry(head).or_default());
            }
            continue;
        };
        if line == "}" && open.is_empty() {
            head = None;
            continue;
        }
        // A long set goes on over several lines.
        open = if open.is_empty() { line.to_owned() } else { format!("{open} {line}") };
        if open.matches('{').count() <= open.matches('}').count() {
            blocks.entry(name).or_default().push(std::mem::take(&mut open));
        }
    }
    blocks
}

fn within(head: &str, wanted: &[String], found: &[String]) -> Vec<Meddled> {
    let mut extra: Vec<&String> = found.iter().collect();
    let mut missing = Vec::new();
    for line in wanted {
        match extra.iter().position(|held| *held == line) {
            Some(at) => drop(extra.remove(at)),
            None => missing.push(line),
        }
    }
    let item = |difference, wanted: Option<&String>, found: Option<&String>, what: String| Meddled {
        object: match wanted.or(found) {
            Some(line) => format!("{head}: {}", name(line)),
            None => head.to_owned(),
        },
        difference,
        wanted: wanted.cloned(),
        found: found.cloned(),
        what,
    };
    if missing.is_empty() && extra.is_empty() {
        return match wanted == found {
            true => Vec::new(),
            false => vec![item(Difference::Changed, None, None, "its rules stand in another order".into())],
        };
    }
    let mut all = Vec::new();
    for line in missing {
        let same = extra.iter().position(|held| is_of(held, line));
        all.push(match same.map(|at| extra.remove(at)) {
            Some(held) => item(Difference::Changed, Some(line), Some(held), elements(line, held)),
            None => item(Difference::Missing, Some(line), None, "a rule of the table".into()),
        });
    }
    all.extend(extra.into_iter().map(|held| item(Difference::Extra, None, Some(held), NOT_OURS.into())));
    all
}

/// What people know a line by: its comment, where it has one.
fn name(line: &str) -> &str {
    line.find("comment ").and_then(|at| line.get(at + 8..)).unwrap_or(line)
}

/// Whether one line is the other with something changed: the same comment, or the same but for its sets.
fn is_of(held: &str, line: &str) -> bool {
    let commented = line.contains("comment ") && name(held) == name(line);
    commented && bare(held).split(' ').next() == bare(line).split(' ').next() || bare(held) == bare(line)
}

/// A line without what stands in its sets.
fn bare(line: &str) -> String {
    let mut depth = 0usize;
    let mut text = String::new();
    for letter in line.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => text.push(letter),
            _ => {}
        }
    }
    text
}

/// The elements of a line's sets, those of the first first.
fn members(line: &str) -> BTreeSet<&str> {
    let sets = line.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    sets.flat_map(|set| set.split(',')).map(str::trim).filter(|one| !one.is_empty()).collect()
}

fn elements(wanted: &str, found: &str) -> String {
    if bare(wanted) != bare(found) {
        return "the rule says something else".into();
    }
    let (wanted, found) = (members(wanted), members(found));
    let list = |one: &BTreeSet<&str>, other: &BTreeSet<&str>| {
        one.difference(other).copied().collect::<Vec<_>>().join(", ")
    };
    let (lacks, has) = (list(&wanted, &found), list(&found, &wanted));
    match (lacks.is_empty(), has.is_empty()) {
        (false, true) => format!("its set lacks {lacks}"),
        (true, false) => format!("its set has {has} too"),
        _ => format!("its set has {has} in place of {lacks}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "table inet ferrule {\n\tchain spoof {\n\t\ttype filter hook prerouting priority raw; policy accept;\n\
        \t\tiifname != { \"lo\", \"gw\" } ip saddr 10.244.0.0/16 counter drop comment \"claims a pod's address\"\n\
        \t\tiifname != \"lo\" ip saddr { 192.168.0.1, 192.168.0.2 } counter drop comment \"claims this node's address\"\n\
        \t}\n\n\tchain leave {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\
        \t\tip daddr { 10.0.0.1,\n\t\t\t     10.0.0.2 } masquerade\n\t}\n}\n";

    fn found(from: &str, to: &str) -> Vec<(String, Difference, String)> {
        assert!(TABLE.contains(from), "{from}");
        let all = differences(TABLE, &TABLE.replacen(from, to, 1));
        all.into_iter().map(|one| (one.object, one.difference, one.what)).collect()
    }

    #[test]
    fn every_change_is_named_down_to_the_element() {
        use Difference::{Changed, Extra, Missing};
        assert_eq!(differences(TABLE, TABLE), []);
        let one =
            |object: &str, difference, what: &str| vec![(object.to_owned(), difference, what.to_owned())];
        let node = "chain spoof: \"claims this node's address\"";
        let foreign = "not ours: nobody knows why it is here";
        assert_eq!(found("192.168.0.1, ", ""), one(node, Changed, "its set lacks 192.168.0.1"));
        assert_eq!(
            found("192.168.0.1", "192.168.0.9"),
            one(node, Changed, "its set has 192.168.0.9 in place of 192.168.0.1")
        );
        assert_eq!(
            found("10.0.0.2 }", "10.0.0.2, 10.0.0.3 }"),
            one(
                "chain leave: ip daddr { 10.0.0.1, 10.0.0.2 } masquerade",
                Changed,
                "its set has 10.0.0.3 too"
            )
        );
        assert_eq!(
            found("counter drop comment \"claims a pod", "counter accept comment \"claims a pod"),
            one("chain spoof: \"claims a pod's address\"", Changed, "the rule says something else")
        );
        let rule = TABLE.lines().nth(4).unwrap();
        assert_eq!(found(&format!("{rule}\n"), ""), one(node, Missing, "a rule of the table"));
        assert_eq!(found(rule, &format!("{rule}\n\t\taccept")), one("chain spoof: accept", Extra, foreign));
        let chain = &TABLE[TABLE.find("\tchain leave").unwrap()..TABLE.len() - 2];
        assert_eq!(found(chain, ""), one("chain leave", Missing, "all of it is gone"));
        assert_eq!(found(chain, &format!("{chain}\tchain x {{\n\t}}\n")), one("chain x", Extra, foreign));
        let (first, second) = (TABLE.lines().nth(3).unwrap(), TABLE.lines().nth(4).unwrap());
        assert_eq!(
            found(&format!("{first}\n{second}"), &format!("{second}\n{first}")),
            one("chain spoof", Changed, "its rules stand in another order")
        );
        assert_eq!(
            found("policy accept", "policy drop"),
            vec![
                (
                    "chain spoof: type filter hook prerouting priority raw; policy accept;".into(),
                    Missing,
                    "a rule of the table".into()
                ),
                (
                    "chain spoof: type filter hook prerouting priority raw; policy drop;".into(),
                    Extra,
                    foreign.into()
                ),
            ]
        );
    }
}
