//! The dashboard and the alert rules of the chart name metrics that exist: those of docs/metrics.md, which tests of each component hold
//! against what it registers.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

const DASHBOARD: &str = include_str!("../../deploy/chart/files/dashboard.json");
const ALERTS: &str = include_str!("../../deploy/chart/files/alerts.yaml");
const PAGE: &str = include_str!("../../docs/metrics.md");

/// Names of metrics in a text, without what a histogram appends.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names =
        words.filter(|word| word.starts_with("ferrule_controller_") || word.starts_with("ferrule_agent_"));
    names
        .map(|name| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .fold(name, |name, end| name.strip_suffix(end).unwrap_or(name))
        })
        .collect()
}

/// Those of the page, with their labels.
fn documented() -> Vec<(&'static str, &'static str)> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &'static str| {
        let mut cells = row.split(" | ");
        (cells.next().unwrap().trim_end_matches('`'), cells.nth(1).unwrap_or_default())
    };
    rows.map(row).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let documented = documented();
    let all: BTreeSet<_> = documented.iter().map(|(name, _)| *name).collect();
    for (what, text) in [("dashboard", DASHBOARD), ("alerts", ALERTS)] {
        let names = named(text);
        assert!(names.len() > 5, "{what}: {names:?}");
        let unknown: Vec<_> = names.difference(&all).collect();
        assert!(unknown.is_empty(), "{what} names metrics that docs/metrics.md does not have: {unknown:?}");
    }
    // A metric that nobody looks at is found on no screen.
    let unseen: Vec<_> = all.iter().filter(|name| !named(DASHBOARD).contains(*name)).collect();
    assert!(unseen.is_empty(), "the dashboard lacks {unseen:?}");
}

#[test]
fn the_dashboard_is_one_and_its_panels_ask_something() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert_eq!(dashboard["uid"], "ferrule");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have the id {}", panel["id"]);
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().unwrap();
            assert!(
                !targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()),
                "{}",
                panel["title"]
            );
            assert!(panel["description"].is_string(), "{} says not what it is", panel["title"]);
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let rules = ALERTS.matches("- alert: ").count();
    assert!(rules >= 8, "{rules}");
    for part in ["expr: ", "labels: {severity: ", "summary: ", "description: "] {
        assert_eq!(ALERTS.matches(part).count(), rules, "not every alert has `{part}`");
    }
    let read: serde_json::Value = serde_saphyr::from_str(ALERTS).unwrap();
    assert_eq!(read["groups"][0]["rules"].as_array().unwrap().len(), rules);
}
