//! The architecture's crate edges (ARCHITECTURE.md, docs/adr/0001-workspace-layout.md) as one table, checked against what
//! cargo says. Knows names of crates, never their contents: purity.rs reads the sources.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Finding;
use crate::workspace::{Dependency, Metadata, Package};

/// What one crate of the workspace may link (tests may use more).
#[derive(Debug)]
struct Edges {
    krate: &'static str,
    /// Crates of the workspace.
    ours: &'static [&'static str],
    /// Crates from outside; `None` leaves them free (but for [`NEVER`]).
    theirs: Option<&'static [&'static str]>,
}

const fn pure(krate: &'static str, ours: &'static [&'static str], theirs: &'static [&'static str]) -> Edges {
    Edges { krate, ours, theirs: Some(theirs) }
}

const fn free(krate: &'static str, ours: &'static [&'static str]) -> Edges {
    Edges { krate, ours, theirs: None }
}

const EDGES: &[Edges] = &[
    pure("openflow", &[], &["bytes", "thiserror", "tokio", "tracing"]),
    pure("ovsdb", &[], &["bytes", "serde", "serde_json", "thiserror", "tokio", "tracing"]),
    pure("network", &[], &["ipnetwork", "prefix-trie", "serde", "sha2", "thiserror"]),
    pure(
        "objects",
        &["network"],
        &[
            "ipnetwork",
            "k8s-openapi",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "serde-saphyr",
            "sha2",
            "thiserror",
        ],
    ),
    pure(
        "compiler",
        &["network", "openflow", "ovsdb"],
        &["bytes", "ipnetwork", "prefix-trie", "serde", "serde_json", "sha2", "thiserror"],
    ),
    free("api", &["network"]),
    free("controller", &["api", "network", "objects", "compiler"]),
    free("ovs-agent", &["api", "cni", "network", "compiler", "openflow", "ovsdb"]),
    free("cni", &["api", "network"]),
    free("cli", &["api", "network", "objects", "compiler", "openflow", "ovsdb", "lab"]),
    free("lab", &["api", "network", "objects", "compiler"]),
    free("cluster", &["lab"]),
    // What crosses crates may use them all; nothing uses it.
    free(
        "tests",
        &[
            "api",
            "cluster",
            "cni",
            "compiler",
            "controller",
            "lab",
            "network",
            "objects",
            "openflow",
            "ovs-agent",
            "ovsdb",
        ],
    ),
    free("soak", &["cluster", "lab"]),
    // What the fuzzer and the bounded run share.
    pure("fuzz-targets", &["openflow", "ovsdb"], &["bytes", "serde_json"]),
    free("xtask", &[]),
    free("codegen", &[]),
];

/// Crates that must not be in what another links, at any depth: who, what, why.
const NEVER: &[(&str, &[&str], &str)] = &[
    (
        "ovs-agent",
        &["kube", "kube-client", "kube-runtime", "k8s-openapi", "objects"],
        "the agent never links kube",
    ),
    ("controller", &["rtnetlink"], "the controller touches no host"),
    (
        "cni",
        &["kube", "kube-client", "k8s-openapi", "objects", "compiler", "openflow", "ovsdb"],
        "the CNI binary only makes the veth and asks the agent",
    ),
];

/// Crates whose edge to the codecs must leave their `io` feature (tokio) off.
const WITHOUT_IO: &[&str] = &["compiler", "controller", "lab"];
const CODECS: &[&str] = &["openflow", "ovsdb"];
/// Crates that may have tokio only behind a feature.
const TOKIO_OPTIONAL: &[&str] = CODECS;

pub fn check(metadata: &Metadata) -> Vec<Finding> {
    let members = metadata.members();
    let mut findings = Vec::new();
    for (name, package) in &members {
        let manifest = format!("{}/Cargo.toml", metadata.folder(package));
        let Some(edges) = EDGES.iter().find(|edges| edges.krate == *name) else {
            findings.push(Finding::new(
                &manifest,
                0,
                format!("the crate {name} has no line in the table of edges"),
                "add it to xtask/src/tidy/edges.rs and to ARCHITECTURE.md, saying what it may depend on",
            ));
            continue;
        };
        findings.extend(direct(edges, package, &manifest, &members));
    }
    findings.extend(transitive(metadata, &members));
    findings
}

fn direct(
    edges: &Edges,
    package: &Package,
    manifest: &str,
    members: &BTreeMap<&str, &Package>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dependency in package.dependencies.iter().filter(|dependency| linked(dependency)) {
        let target = dependency.name.as_str();
        let ours = members.contains_key(target);
        let allowed = if ours {
            edges.ours.contains(&target)
        } else {
            edges.theirs.is_none_or(|theirs| theirs.contains(&target))
        };
        if !allowed {
            findings.push(Finding::new(
                manifest,
                0,
                format!("{} depends on {target}, which the architecture does not allow", edges.krate),
                "find the crate that owns what you need; a new edge needs an ADR and a line in xtask/src/tidy/edges.rs",
            ));
        }
        if WITHOUT_IO.contains(&edges.krate)
            && CODECS.contains(&target)
            && (dependency.uses_default_features || dependency.features.iter().any(|feature| feature == "io"))
        {
            findings.push(Finding::new(
                manifest,
                0,
                format!("{} takes {target} with its io feature, and so tokio", edges.krate),
                "take it without default features",
            ));
        }
        if TOKIO_OPTIONAL.contains(&edges.krate) && target == "tokio" && !dependency.optional {
            findings.push(Finding::new(
                manifest,
                0,
                format!("{} always links tokio", edges.krate),
                "make it `optional = true` and part of the io feature",
            ));
        }
    }
    findings
}

fn linked(dependency: &Dependency) -> bool {
    dependency.kind.as_deref() != Some("dev")
}

/// What each crate of [`NEVER`] links at any depth, shown with the way there.
fn transitive(metadata: &Metadata, members: &BTreeMap<&str, &Package>) -> Vec<Finding> {
    let Some(resolve) = &metadata.resolve else { return Vec::new() };
    let names: BTreeMap<&str, &str> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let links: BTreeMap<&str, Vec<&str>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let deps = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            (node.id.as_str(), deps.map(|dep| dep.pkg.as_str()).collect())
        })
        .collect();
    let mut findings = Vec::new();
    for (krate, never, why) in NEVER {
        let Some(package) = members.get(krate) else { continue };
        let mut queue = VecDeque::from([vec![package.id.as_str()]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = queue.pop_front() {
            let Some(last) = way.last().copied().filter(|id| seen.insert(*id)) else { continue };
            let name = names.get(last).copied().unwrap_or(last);
            if never.contains(&name) {
                let way: Vec<_> = way.iter().map(|id| names.get(id).copied().unwrap_or(id)).collect();
                findings.push(Finding::new(
                    &format!("{}/Cargo.toml", metadata.folder(package)),
                    0,
                    format!("{why}, but {}", way.join(" → ")),
                    "cut one of these edges",
                ));
                continue;
            }
            for next in links.get(last).into_iter().flatten() {
                queue.push_back(way.iter().copied().chain([*next]).collect());
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A workspace of the named crates and their direct dependencies; `!` before one makes it a dev-dependency.
    fn workspace(crates: &[(&str, &[&str])]) -> Metadata {
        let ours: Vec<_> = crates.iter().map(|(name, _)| *name).collect();
        let outside: BTreeSet<&str> =
            crates.iter().flat_map(|(_, deps)| deps.iter().map(|dep| dep.trim_start_matches('!'))).collect();
        let packages: Vec<_> = crates
            .iter()
            .map(|(name, deps)| (*name, deps.to_vec()))
            .chain(outside.iter().filter(|name| !ours.contains(name)).map(|name| (*name, Vec::new())))
            .map(|(name, deps)| {
                let deps: Vec<_> = deps
                    .iter()
                    .map(|dep| {
                        let kind = dep.starts_with('!').then_some("dev");
                        json!({"name": dep.trim_start_matches('!'), "kind": kind, "features": [], "optional": false, "uses_default_features": false})
                    })
                    .collect();
                json!({"id": name, "name": name, "manifest_path": format!("/w/{name}/Cargo.toml"), "dependencies": deps})
            })
            .collect();
        let nodes: Vec<_> = crates
            .iter()
            .map(|(name, deps)| {
                let deps: Vec<_> = deps
                    .iter()
                    .map(|dep| json!({"pkg": dep.trim_start_matches('!'), "dep_kinds": [{"kind": dep.starts_with('!').then_some("dev")}]}))
                    .collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        let all = json!({
            "packages": packages, "workspace_members": ours, "workspace_root": "/w",
            "target_directory": "/w/target", "resolve": {"nodes": nodes},
        });
        Metadata::parse(all.to_string().as_bytes()).unwrap()
    }

    fn said(metadata: &Metadata) -> Vec<String> {
        check(metadata).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn allowed_edges_and_dev_dependencies_pass() {
        let metadata = workspace(&[
            ("network", &["serde", "!proptest", "!tokio"]),
            ("compiler", &["network", "openflow"]),
            ("openflow", &["bytes"]),
        ]);
        assert_eq!(said(&metadata), [""; 0]);
    }

    #[test]
    fn a_pure_crate_may_not_take_tokio() {
        let said = said(&workspace(&[("network", &["tokio"])]));
        assert!(said[0].starts_with("network/Cargo.toml:1: network depends on tokio"), "{said:?}");
    }

    #[test]
    fn the_controller_may_not_take_a_codec() {
        let said = said(&workspace(&[("controller", &["openflow"]), ("openflow", &[])]));
        assert!(said[0].contains("controller depends on openflow"), "{said:?}");
    }

    #[test]
    fn the_agent_may_not_reach_kube_by_any_way() {
        let said = said(&workspace(&[
            ("ovs-agent", &["api"]),
            ("api", &["somecrate"]),
            ("network", &[]),
            ("codegen", &["somecrate"]),
        ]));
        assert_eq!(said, [""; 0]);
        let said = super::tests::said(&workspace(&[("ovs-agent", &["api"]), ("api", &["kube"])]));
        assert!(said[0].contains("ovs-agent → api → kube"), "{said:?}");
    }

    #[test]
    fn a_crate_without_a_line_is_a_finding() {
        let said = said(&workspace(&[("surprise", &[])]));
        assert!(said[0].contains("surprise has no line"), "{said:?}");
    }

    #[test]
    fn the_codecs_have_tokio_only_behind_a_feature() {
        let said = said(&workspace(&[("openflow", &["tokio"])]));
        assert!(said[0].contains("openflow always links tokio"), "{said:?}");
    }

    #[test]
    fn the_compiler_takes_the_codecs_without_io() {
        let mut metadata = workspace(&[("compiler", &["openflow"]), ("openflow", &[])]);
        assert_eq!(said(&metadata), [""; 0]);
        metadata.packages[0].dependencies[0].uses_default_features = true;
        assert!(said(&metadata)[0].contains("with its io feature"), "{metadata:?}");
    }
}
