//! Real applications: the shop that ships with the project, and what people publish. Their predicted matrices.

use std::path::{Path, PathBuf};

use expect_test::expect_file;
use network::matrix::{Grid, Matrix, pods_of, predict};
use objects::offline::{Families, network, numbered_nodes};
use objects::{ObjectSet, Problem, SourceText, read};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The YAML files of a directory in their order; `None` where it does not exist.
fn directory(path: &Path) -> Option<Vec<SourceText>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(path).ok()?.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let text = |path: &PathBuf| {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        SourceText::new(name, std::fs::read_to_string(path).expect("a text"))
    };
    Some(files.iter().map(text).collect())
}

/// Reads everything without a problem.
fn objects(sources: &[SourceText]) -> ObjectSet {
    let (objects, problems) = read(sources);
    assert_eq!(lines(&problems), Vec::<String>::new());
    objects
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// A matrix a person can read: a table per port, combined.
fn table(matrix: &Matrix) -> String {
    let mut out = String::new();
    let width = matrix.order.iter().map(|entry| entry.to_string().len()).max().unwrap_or(0);
    for (number, entry) in matrix.order.iter().enumerate() {
        out.push_str(&format!("{number:2} {entry}\n"));
    }
    for (port, grids) in &matrix.table {
        out.push_str(&format!("\n{port}\n"));
        for entry in &matrix.order {
            let row = &grids[&Grid::Combined][entry];
            out.push_str(&format!("{:<width$}  {row}\n", entry.to_string()));
        }
    }
    out
}

/// The combined tables of the pods; the same whatever families they have.
fn predicted(objects: &ObjectSet) -> String {
    let tables = [Families::Ipv4, Families::Ipv6, Families::Dual].map(|families| {
        let (network, problems) = network(objects, &numbered_nodes(2, families));
        assert_eq!(lines(&problems), Vec::<String>::new());
        table(&predict(&network, &pods_of(&network)))
    });
    assert!(tables.iter().all(|table| *table == tables[0]), "a family makes a difference");
    tables.into_iter().next().expect("there are three")
}

#[test]
fn the_shop() {
    let sources =
        directory(&workspace().join("lab/examples/shop")).expect("the example ships with the project");
    let objects = objects(&sources);
    assert!(objects.skipped.is_empty(), "{:?}", objects.skipped);
    expect_file!["snapshots/shop.txt"].assert_eq(&predicted(&objects));
}

/// Every kind that makes pods, UDP and SCTP, named ports, port ranges, blocks with holes, lists and anchors.
#[test]
fn everything_at_once() {
    let sources =
        directory(&workspace().join("objects/tests/manifests")).expect("they stand beside this file");
    let objects = objects(&sources);
    assert!(objects.skipped.is_empty(), "{:?}", objects.skipped);
    assert_eq!(objects.workloads.len(), 12);
    expect_file!["snapshots/manifests.txt"].assert_eq(&predicted(&objects));
}

#[test]
fn online_boutique() {
    let path = workspace().join("../shared/manifests/online-boutique");
    let Some(sources) = directory(&path) else {
        eprintln!("SKIPPED: {} is not here, nothing was tested", path.display());
        return;
    };
    let objects = objects(&sources);
    assert_eq!(objects.workloads.len(), 12);
    assert_eq!(objects.network_policies.len(), 13);
    assert_eq!(objects.skipped, [("ServiceAccount".to_owned(), 11)].into());
    expect_file!["snapshots/online-boutique.txt"].assert_eq(&predicted(&objects));
}

#[test]
fn the_oracle() {
    let path = workspace().join("../shared/oracles/networkpolicy.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: {} is not here, nothing was tested", path.display());
        return;
    };
    let (scenarios, problems) = objects::scenarios(&SourceText::new("networkpolicy.jsonl", text));
    assert_eq!(lines(&problems), Vec::<String>::new());
    assert!(!scenarios.is_empty());
    for scenario in scenarios {
        let expected = scenario.expected.as_ref().expect("the oracle holds tables");
        let differences = scenario.predict().differences(expected);
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert_eq!(lines, Vec::<String>::new(), "scenario {:?}", scenario.id);
    }
}
