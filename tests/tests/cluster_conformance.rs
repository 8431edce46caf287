//! Some of Kubernetes' own e2e specs, as upstream wrote them, against whole nodes with addresses of both families: one of each kind of path.
//! All of them and the other suites run by `cargo xtask conformance` (`docs/conformance.md`).

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use cluster::e2e::{PASSED, Ran, Specs};
use tests::whole::{CHART, NAMESPACE, Whole};

/// Parts of their full names. A fixed choice: what waits for minutes for its own sake is left to `cargo xtask conformance`.
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
    // Of both families: addresses of pods and of Services, and the second family's cluster IPs and node ports, from pods and from a node.
    "should create pod, add ipv6 and ipv4 ip to pod ips",
    "should be able to reach pod on ipv4 and ipv6 ip",
    "should create service with ipv4,v6 cluster ip",
    "Services Secondary IP Family [LinuxOnly] should function for pod-Service: udp",
    "Services Secondary IP Family [LinuxOnly] should function for node-Service: http",
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
    let ran = whole.cluster.e2e(&Specs {
        focus: SPECS.join("|").replace('[', r"\["),
        skip: Some("Windows|SCTPConnectivity".to_owned()),
        timeout: "10m".to_owned(),
        dry_run: false,
    });
    let Ran { specs, succeeded } = ran.unwrap_or_else(|error| panic!("{error}"));
    for spec in &specs {
        eprintln!("{:>8.1} s  {}: {}", spec.seconds, spec.name, spec.state);
    }
    eprintln!("{:>8.2?}  in all", began.elapsed());
    let (passed, others): (Vec<_>, Vec<_>) = specs.iter().partition(|spec| spec.state == PASSED);
    let others: Vec<_> = others.iter().map(|spec| format!("{}: {}", spec.name, spec.message)).collect();
    assert!(others.is_empty(), "{}", others.join("\n"));
    let missing: Vec<_> =
        SPECS.iter().filter(|part| !passed.iter().any(|spec| spec.name.contains(**part))).collect();
    assert!(missing.is_empty() && succeeded, "{missing:?} are not there; ginkgo ended well: {succeeded}");
}
