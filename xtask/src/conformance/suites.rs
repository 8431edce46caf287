//! Which suites there are, what is left out of them, and why: one list.

/// What is run, and how its results are read.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// e2e.test's specs, by a regular expression over their full names, less those that one of the others matches, each with its reason.
    E2e { focus: &'static str, left_out: &'static [(&'static str, &'static str)] },
    /// The conformance suite of ClusterNetworkPolicy: a Go test.
    ClusterNetworkPolicy,
    /// Cyclonus' cases.
    Cyclonus,
}

impl Kind {
    /// What it runs, by the names of the cluster's programs.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Self::E2e { .. } => &["e2e.test", "ginkgo"],
            Self::ClusterNetworkPolicy => &["cnp.test"],
            Self::Cyclonus => &["cyclonus"],
        }
    }
}

/// One suite.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    pub name: &'static str,
    pub what: &'static str,
    pub kind: Kind,
    /// It needs a cluster with both families.
    pub dual_stack: bool,
    /// What a reader of the results has to know.
    pub note: &'static str,
}

/// All of them.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "conformance",
        what: "e2e.test, `[sig-network]`, all of `[Conformance]`",
        kind: Kind::E2e { focus: r"\[sig-network\].*\[Conformance\]", left_out: &[] },
        dual_stack: false,
        note: "",
    },
    Suite {
        name: "networkpolicy",
        what: "e2e.test, `[sig-network] Netpol`",
        kind: Kind::E2e { focus: r"\[sig-network\] Netpol", left_out: LEFT_OUT_OF_NETWORK_POLICY },
        dual_stack: false,
        note: "",
    },
    Suite {
        name: "cnp",
        what: "ClusterNetworkPolicy conformance v0.2.0, all features, by subtest",
        kind: Kind::ClusterNetworkPolicy,
        dual_stack: false,
        note: RAW_SCTP,
    },
    Suite {
        name: "cyclonus",
        what: "Cyclonus 0.5.6, every case of its generator (nine pods, ports 80 and 81 of TCP, UDP and SCTP, every pair)",
        kind: Kind::Cyclonus,
        dual_stack: false,
        note: "Its cases, engine and comparison, called as a library (`cluster/src/go/cyclonus.go`): its own command cannot go on where it stopped, and asks each pair by an exec of \
               its own (ADR-0032). Pairs are asked at the pod's address (`--destination-type=pod-ip`): Services do not speak SCTP yet; a pod is not asked by itself (`--ignore-loopback`). Every pair \
               must be as its engine says one second after a change; a step that differs is asked once more, as its command does. SCTP as in `cnp`. \
               Its engine takes `NotIn` for false where the key is missing, which it is not; its one case with `NotIn` asks it of a key that all its namespaces have, so no verdict hangs on that.",
    },
    Suite {
        name: "network",
        what: "e2e.test, the rest of `[sig-network]`",
        kind: Kind::E2e { focus: r"\[sig-network\]", left_out: LEFT_OUT },
        dual_stack: false,
        note: "",
    },
    Suite {
        name: "dualstack",
        what: "e2e.test, `[sig-network]` with `[Feature:IPv6DualStack]`",
        kind: Kind::E2e {
            focus: r"\[sig-network\].*\[Feature:IPv6DualStack\]",
            left_out: LEFT_OUT_OF_DUAL_STACK,
        },
        dual_stack: true,
        note: "On a cluster of its own (`cargo xtask cluster up --dual-stack`): nodes, pods and Services have addresses of both families, IPv4 first.",
    },
];

const RAW_SCTP: &str = "This kernel has no SCTP sockets: SCTP is asked and served by raw packets (INIT, INIT ACK), in a program that stands before upstream's agnhost \
                        (`cluster/src/go/agnhost.go`).";

/// Of the rest of `[sig-network]`.
const LEFT_OUT: &[(&str, &str)] = &[
    (r"\[Conformance\]", "the suite `conformance`"),
    ("Netpol", "the suite `networkpolicy`"),
    (r"\[Feature:LoadBalancer\]", "a cloud's load balancers"),
    (r"\[Feature:IPv6DualStack\]", "the suite `dualstack`"),
    (r"\[Feature:SCTPConnectivity\]", "SCTP sockets, which this kernel lacks"),
    (r"[Kk]ube-?[Pp]roxy", "kube-proxy, in whose place Ferrule is"),
    (r"\[Disruptive\]", "restarts components over ssh"),
    ("Internet connection", "the internet"),
    ("Forward PTR lookup", "the internet: it begins with the name of 8.8.8.8"),
    (r"\[Provider:GCE\]", "Google's cloud"),
    ("invalid conntrack state bug", "an image that cannot be had (regression-issue-74839)"),
    ("run iperf2", "iperf as its image has it: Debian's prints other columns"),
    (r"\[Alpha\]", "a feature gate that is off"),
    (r"\[Feature:PerformanceDNS\]", "10,000 Services: a benchmark, hours here"),
];

/// Of `[Feature:NetworkPolicy]`. What waits for them waits for more than half an hour.
const LEFT_OUT_OF_NETWORK_POLICY: &[(&str, &str)] = &[(
    r"\[Feature:SCTPConnectivity\]",
    "Services over SCTP, which Ferrule does not balance (ADR-0005): these three specs ask pods at cluster IPs",
)];

/// Of `[Feature:IPv6DualStack]`.
const LEFT_OUT_OF_DUAL_STACK: &[(&str, &str)] =
    &[(r"\[Feature:SCTPConnectivity\]", "SCTP sockets, which this kernel lacks")];
