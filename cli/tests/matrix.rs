//! `ferrule matrix` as scripts meet it: who takes part, and that both engines say the same.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use network::matrix::{Entry, Grid, Matrix};

fn matrix(words: &[&str]) -> Matrix {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab/examples/shop");
    let output = Command::new(env!("CARGO_BIN_EXE_ferrule"))
        .args(["matrix", "-o", "json", "--manifests"])
        .arg(manifests)
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn pods_alone_take_part_unless_all_are_asked_for() {
    let pods = matrix(&[]);
    assert!(pods.order.iter().all(|entry| matches!(entry, Entry::Pod(_))));
    let all = matrix(&["--all"]);
    let names: Vec<String> = all.order.iter().skip(pods.order.len()).map(ToString::to_string).collect();
    assert_eq!(names[..2], ["node:node-1", "node:node-2"]);
    assert_eq!(names.last().map(String::as_str), Some("outside"));
    assert!(names[2..names.len() - 1].iter().all(|name| name.starts_with("service:shop/")), "{names:?}");
    assert_eq!(all.differences(&matrix(&["--all", "--engine", "flows"])), vec![]);
    let reaches = |from: &str, to: &str| {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let ports = all.table.keys();
        let cells = ports.filter_map(|port| all.cell(*port, Grid::Combined, &from, &to));
        cells.map(network::matrix::Cell::symbol).filter(|cell| *cell != '-').collect::<String>()
    };
    assert_eq!(reaches("node:node-1", "service:shop/frontend"), ".");
    assert_eq!(reaches("shop/cart-0", "service:shop/frontend"), "X");
    // It has no node port.
    assert_eq!(reaches("outside", "service:shop/frontend"), "");
    assert_eq!(reaches("node:node-1", "outside"), ".");
}
