//! Some of Kubernetes' own e2e specs, as upstream wrote them, against whole nodes: one of each kind of path. All of them and the other
//! suites run by `cargo xtask conformance` (`docs/conformance.md`).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Instant;

use tests::whole::{CHART, NAMESPACE, Whole};

/// By their names. A fixed choice: what waits for minutes for its own sake is left to `cargo xtask conformance`.
const SPECS: &[&str] = &[
    "should function for intra-pod communication: http",
    "should function for intra-pod communication: udp",
    "should function for node-pod communication: http",
    "should function for node-pod communication: udp",
    "should serve multiport endpoints from pods",
    "should serve endpoints on same port and different protocols",
    "should be able to change the type from ExternalName to NodePort",
    "should have session affinity work for service with type clusterIP",
    "should be able to create a functioning NodePort service",
    "should provide DNS for services",
    "should enforce policy to allow traffic only from a different namespace, based on NamespaceSelector",
    "should allow egress access on one named port",
    "should enforce except clause while egress access to server in CIDR block",
    "should allow ingress access from updated namespace",
    "should stop enforcing policies after they are deleted",
];

#[test]
fn upstreams_own_specs_pass() {
    let Some(whole) = Whole::for_tests("upstreams_own_specs_pass", 2, &["helm", "e2e.test", "ginkgo"]) else {
        return;
    };
    let install = ["install", "ferrule", CHART, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"];
    whole.helm(&install);
    whole.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
    whole.kubectl(&["--namespace", NAMESPACE, "rollout", "status", "deployment/coredns", "--timeout=60s"]);

    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let binaries = whole.cluster.binaries();
    let words = [
        "--no-color".to_owned(),
        "--procs=4".to_owned(),
        "--timeout=10m".to_owned(),
        format!("--focus={}", SPECS.join("|")),
        "--skip=Windows|DualStack|SCTPConnectivity".to_owned(),
        format!("--output-dir={}", folder.path().display()),
        "--json-report=report.json".to_owned(),
        binaries.join("e2e.test").display().to_string(),
        "--".to_owned(),
        "--provider=skeleton".to_owned(),
        "--allowed-not-ready-nodes=0".to_owned(),
        "--disable-log-dump".to_owned(),
        "--node-os-distro=custom".to_owned(),
        "--dns-domain=cluster.local".to_owned(),
        "--num-nodes=2".to_owned(),
        format!("--kubeconfig={}", whole.cluster.admin().display()),
        format!("--kubectl-path={}", binaries.join("kubectl").display()),
    ];
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    // What it says is read from its report; how it ended is in there, too.
    let said = whole.try_run("ginkgo", &words);
    let report = std::fs::read(folder.path().join("report.json"));
    let report = report.unwrap_or_else(|error| panic!("no report ({error}): {said:?}"));
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let specs = report.as_array().unwrap().iter().flat_map(|suite| suite["SpecReports"].as_array().unwrap());
    let (mut passed, mut others) = (BTreeSet::new(), Vec::new());
    for spec in specs.filter(|spec| spec["LeafNodeType"] == "It" && spec["State"] != "skipped") {
        let name = spec["LeafNodeText"].as_str().unwrap().to_owned();
        let seconds = spec["RunTime"].as_f64().unwrap() / 1e9;
        eprintln!("{seconds:>8.1} s  {name}: {}", spec["State"].as_str().unwrap());
        if spec["State"] == "passed" {
            passed.insert(name);
        } else {
            others.push(format!("{name}: {}", spec["Failure"]["Message"]));
        }
    }
    eprintln!("{:>8.2?}  in all", began.elapsed());
    assert!(others.is_empty(), "{}", others.join("\n"));
    let missing: Vec<_> =
        SPECS.iter().filter(|spec| !passed.iter().any(|name: &String| name.starts_with(**spec))).collect();
    assert!(missing.is_empty() && said.is_ok(), "{missing:?} are not there; {said:?}");
}
