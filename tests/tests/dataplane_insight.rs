//! `ferrule explain` and `ferrule audit` of a running lab: what is explained is what packets meet, and what is found is what
//! somebody changed.

#![allow(clippy::unwrap_used)]

#[path = "policy/mod.rs"]
mod recorded;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};
use std::time::Duration;

use lab::control::Component;
use lab::{Family, Lab, NodeIndex};
use network::reference::{Endpoint, verdict};
use network::{Network, Protocol};
use serde_json::Value;
use tests::lab_up::{LabUp, binaries, write};
use tests::steady::until;

fn ferrule(lab: &Lab, words: &[&str]) -> (Option<i32>, Value, String) {
    let controller = format!("unix:{}", lab.layout().controller_socket().display());
    let Output { status, stdout, stderr } = Command::new(binaries().join("ferrule"))
        .args(words)
        .args(["-o", "json", "--controller", &controller])
        .output()
        .unwrap();
    let document = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
    (status.code(), document, String::from_utf8_lossy(&stderr).into_owned())
}

/// Who asks whom for which port, and whether that passes.
type Pair = (String, String, String, bool);

/// Every pair that real packets were tried on, with what they did.
fn observed(lab: &Lab) -> Vec<Pair> {
    let measured = lab.measure(&|_, _| {}).unwrap();
    let (differences, remarks) = (&measured.differences, &measured.remarks);
    assert!(
        differences.is_empty(),
        "packets (left) are not what the reference says: {differences:#?} {remarks:#?}"
    );
    let matrix = serde_json::to_value(&measured.observed).unwrap();
    let order: Vec<&str> =
        matrix["order"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut pairs = Vec::new();
    for (port, grids) in matrix["table"].as_object().unwrap() {
        for (from, row) in grids["combined"].as_object().unwrap() {
            for (to, cell) in order.iter().zip(row.as_str().unwrap().chars()) {
                if from != to && cell != '-' && from != "outside" && *to != "outside" {
                    pairs.push((from.clone(), (*to).to_owned(), port.clone(), cell == '.'));
                }
            }
        }
    }
    assert!(!lab.record().pods.is_empty());
    pairs
}

/// Whether a connection passes that is explained. The cell of a Service says whether each of its endpoints may be had, and
/// what is explained leads to one of them: what decides is the cell of that one.
fn passes(lab: &Lab, pairs: &[Pair], (from, to, port, passes): &Pair, told: &Value) -> bool {
    if *passes || !is_service(to) {
        return *passes;
    }
    let Some(translated) = told["packets"][0]["translations"][0].as_str() else { return false };
    let at: SocketAddr = translated.rsplit_once(' ').unwrap().1.parse().unwrap();
    let chosen = lab.record().pods.iter().find(|(_, pod)| pod.addresses.contains(&at.ip()));
    let chosen = chosen.unwrap().0.to_string();
    let protocol = port.split_once('/').unwrap().0;
    chosen == *from || pairs.contains(&(from.clone(), chosen, format!("{protocol}/{}", at.port()), true))
}

fn is_service(name: &str) -> bool {
    name.starts_with("service:")
}

/// What was changed by hand in the switch and on the host is named one by one, and put right when somebody asks.
fn repairs(lab: &Lab) {
    let nft = |words: &[&str]| {
        let namespace = lab.layout().node_namespace(NodeIndex(1));
        let output = Command::new("ip").args(["netns", "exec", &namespace, "nft"]).args(words).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    nft(&["add", "rule", "inet", "ferrule", "spoof", "accept"]);
    nft(&["delete", "chain", "inet", "ferrule", "refuse_own"]);
    let named = |found: &Value, repaired: bool| {
        let items = found["items"].as_array().cloned().unwrap_or_default();
        let of = |item: &&Value| item["repaired"].as_bool().unwrap_or(false) == repaired;
        let mut all: Vec<String> = items
            .iter()
            .filter(of)
            .map(|item| {
                format!("{} {}", item["difference"].as_str().unwrap(), item["object"].as_str().unwrap())
            })
            .collect();
        all.sort();
        all
    };
    let expected =
        ["extra nftables chain spoof: accept", "extra port by-hand", "missing nftables chain refuse_own"];
    // The agent looks at nftables every 30 s: what it put right in between is told too.
    let (_, found, said) = ferrule(lab, &["audit"]);
    let mut all = [named(&found, false), named(&found, true)].concat();
    all.sort();
    assert_eq!(all, expected, "{said}{found:#}");
    let (code, found, said) = ferrule(lab, &["audit", "--repair"]);
    assert_eq!((code, named(&found, false)), (Some(0), vec![]), "{said}{found:#}");
    assert!(named(&found, true).contains(&expected[1].to_owned()), "{found:#}");
    let (code, found, said) = ferrule(lab, &["audit"]);
    assert_eq!((code, named(&found, false)), (Some(0), vec![]), "{said}{found:#}");
}

/// A flow that somebody takes out of a switch is back, and a problem of the node that names whose it was.
fn tells_of_drift(lab: &Lab) {
    let (_, flows, said) = ferrule(lab, &["get", "flows", "--node", "node-1", "--table", "Ingress"]);
    let is_rule = |item: &&Value| item["owners"][0]["kind"] == "NetworkPolicy";
    let flow = flows["items"].as_array().and_then(|items| items.iter().find(is_rule));
    let flow = flow.unwrap_or_else(|| panic!("no flow of a policy: {said}{flows:#}"));
    let marked = format!("cookie={}/-1", flow["cookie"].as_str().unwrap());
    let policy = format!("NetworkPolicy {}", flow["owners"][0]["name"].as_str().unwrap());
    lab.ovs(NodeIndex(1), "ovs-ofctl", ["-O", "OpenFlow13", "del-flows", "br-int", &marked]).unwrap();
    until("the drift is a problem of its node", Duration::from_secs(20), || {
        let (_, problems, _) = ferrule(lab, &["get", "problems"]);
        let problems = problems["items"].as_array().cloned().unwrap_or_default();
        problems.iter().any(|problem| {
            let message = problem["message"].as_str().unwrap_or_default();
            let what = ["flow Ingress priority=", &policy, "was taken out", "ferrule audit --node node-1"];
            problem["object"] == "Node node-1" && what.iter().all(|part| message.contains(part))
        })
    });
    let (code, found, said) = ferrule(lab, &["audit"]);
    assert_eq!(code, Some(0), "{said}{found:#}");
}

/// The live switches, and packets that are sent, go the way of the model; where one does not, it is said where.
fn traces(lab: &Lab, pairs: &[Pair]) {
    // The switch may choose another endpoint of a Service than was met before.
    let is_certain = |(from, to, _, passes): &&Pair| {
        (!from.starts_with("node:") || !to.starts_with("node:")) && (*passes || !is_service(to))
    };
    let some: Vec<_> = pairs.iter().filter(is_certain).collect();
    let mut met = 0;
    for (from, to, port, passes) in some.iter().step_by(some.len() / 8) {
        let (code, told, said) = ferrule(lab, &["trace", from, to, "--port", port]);
        let expected = if *passes { Some(0) } else { Some(2) };
        assert_eq!(code, expected, "{from} → {to} {port}: {said}{told:#}");
        let packet = &told["packets"][0];
        assert!(packet["probed"] == true || port.starts_with("SCTP"), "{told:#}");
        met += packet["hops"].as_array().map_or(0, Vec::len);
    }
    assert!(met > 8, "some of the packets cross nodes: {met} hops");
    // The switch's hash chooses the endpoint, which the model does not have.
    let (code, told, said) =
        ferrule(lab, &["trace", "shop/checkout-0", "service:shop/frontend", "--port", "tcp/80"]);
    assert_eq!(code, Some(2), "{said}{told:#}");
    assert!(told["packets"][0]["hops"].to_string().contains("EndpointDnat"), "{told:#}");

    // What the switch learns is its own, and nobody looks at it: a flow there is what an agent does not put right.
    let association = ["trace", "shop/checkout-0", "shop/payment-0", "--port", "sctp/3868"];
    let (code, told, said) = ferrule(lab, &association);
    assert_eq!(code, Some(0), "{said}{told:#}");
    let node = told["packets"][0]["hops"][0]["node"].as_str().unwrap();
    let node = lab.record().node_indexes().find(|index| index.name().as_str() == node).unwrap();
    let ofctl = |command: &str, flow: &str| {
        lab.ovs(node, "ovs-ofctl", ["-O", "OpenFlow13", "--strict", command, "br-int", flow]).unwrap();
    };
    ofctl("add-flow", "table=44,priority=65000,sctp,actions=drop");
    let (code, told, said) = ferrule(lab, &association);
    assert_eq!(code, Some(3), "{said}{told:#}");
    let disagreements = told["packets"][0]["disagreements"].to_string();
    assert!(
        disagreements.contains("table SctpReplies") && disagreements.contains("priority 65000"),
        "{told:#}"
    );
    ofctl("del-flows", "table=44,priority=65000,sctp");
}

/// The shop's name server behind a Service.
const NAMES: &str = "apiVersion: v1
kind: Service
metadata: {name: names, namespace: platform}
spec: {selector: {app: dns}, ports: [{port: 53, protocol: UDP, targetPort: dns}]}
";

/// A lab that works is found to work, by packets between all of its nodes.
fn checks(up: &LabUp) {
    let lab = &up.lab;
    write(&up.manifests, &[("names.yaml", NAMES)]);
    up.in_force(Duration::from_secs(60));
    let (code, found, said) = ferrule(lab, &["check"]);
    let items = found["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(code, Some(0), "{said}{found:#}");
    let good =
        |check: &str| items.iter().filter(|item| item["check"] == check && item["status"] == "good").count();
    for (check, least) in [
        ("nodes", 2),
        ("audit", 2),
        ("pod", 3),
        ("policy", 4),
        ("node", 3),
        ("service", 1),
        ("dns", 2),
        ("mtu", 1),
    ] {
        assert!(good(check) >= least, "{check}: {found:#}");
    }
}

#[test]
fn explanations_are_what_packets_meet_and_audits_find_what_was_changed() {
    let Some(up) = LabUp::new("insight", Family::Ipv4, None) else { return };
    let pairs = observed(&up.lab);
    assert!(pairs.len() > 50, "{} pairs", pairs.len());
    let mut wrong = Vec::new();
    for pair in &pairs {
        let (from, to, port, _) = pair;
        let (code, told, said) = ferrule(&up.lab, &["explain", from, to, "--port", port]);
        let passes = passes(&up.lab, &pairs, pair, &told);
        let expected = if passes { Some(0) } else { Some(2) };
        if code != expected || told["warnings"] != serde_json::json!([]) {
            wrong.push(format!(
                "{from} → {to} {port}: packets {passes}, explained {code:?}: {said} {}",
                told["warnings"]
            ));
        }
    }
    assert!(wrong.is_empty(), "of {} pairs:\n{}", pairs.len(), wrong.join("\n"));

    // What was probed was counted, by the flows that the explanation names, in the files that the controller reads.
    let denied = pairs.iter().find(|pair| !pair.3 && pair.1.starts_with("shop/")).unwrap();
    let (_, told, _) = ferrule(&up.lab, &["explain", &denied.0, &denied.1, "--port", &denied.2]);
    let packet = &told["packets"][0];
    let by = &packet["decisions"].as_array().unwrap().last().unwrap()["by"][0];
    assert!(by["source"].as_str().is_some_and(|source| source.contains(".yaml:")), "{by}");
    let entries =
        packet["hops"].as_array().unwrap().iter().flat_map(|hop| hop["entries"].as_array().unwrap());
    let counted: Vec<&Value> =
        entries.filter(|entry| entry["packets"].as_u64().is_some_and(|n| n > 0)).collect();
    assert!(counted.len() > 5, "{packet:#}");

    traces(&up.lab, &pairs);
    checks(&up);

    let (code, found, said) = ferrule(&up.lab, &["audit"]);
    assert_eq!((code, &found["items"]), (Some(0), &serde_json::json!([])), "{said}{found:#}");
    // A port that nobody asked for stays where it is, and is told.
    let first = NodeIndex(1);
    let by_hand = ["add-port", "br-int", "by-hand", "--", "set", "interface", "by-hand", "type=internal"];
    up.lab.ovs(first, "ovs-vsctl", by_hand).unwrap();
    let (code, found, _) = ferrule(&up.lab, &["audit"]);
    let items = found["items"].as_array().unwrap();
    assert_eq!(code, Some(2), "{found:#}");
    assert_eq!(items.len(), 1, "{found:#}");
    assert_eq!((&items[0]["node"], &items[0]["object"]), (&"node-1".into(), &"port by-hand".into()));
    assert_eq!(items[0]["difference"], "extra");
    repairs(&up.lab);
    tells_of_drift(&up.lab);

    // An agent that is away: the model still answers, and says what it does not know.
    up.lab.stop(first, Component::Agent, nix::sys::signal::Signal::SIGKILL).unwrap();
    let began = std::time::Instant::now();
    let is_away = || {
        let (_, nodes, _) = ferrule(&up.lab, &["get", "nodes"]);
        let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
        nodes.iter().any(|node| node["name"] == "node-1" && node["connected"] == false)
    };
    while !is_away() {
        assert!(began.elapsed().as_secs() < 15, "the controller does not see that the agent is gone");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let (from, to, port, passes) =
        pairs.iter().find(|pair| pair.0 == "node:node-1" && pair.1.starts_with("shop/")).unwrap();
    let (code, told, said) = ferrule(&up.lab, &["explain", from, to, "--port", port]);
    assert_eq!(code, if *passes { Some(0) } else { Some(2) }, "{said}");
    assert!(told["warnings"].to_string().contains("node node-1: its agent is away"), "{told:#}");
    let (code, found, _) = ferrule(&up.lab, &["audit"]);
    assert_eq!(code, Some(1), "what was not looked at is not known to be well: {found:#}");
}

/// Policies by their place among the recorded ones, and what the Services select; every change is from one to the next.
const SCENARIOS: [((usize, usize), [&str; 3]); 4] = [
    ((0, 1), ["app: a", "app: c", "app: a"]),
    ((1, 3), ["app: b", "tier: a", "app: a"]),
    ((0, 13), ["app: a", "tier: a", "ver: a"]),
    ((1, 17), ["tier: b", "app: c", "ver: b"]),
];
/// As many connections that pass are explained of each, and as many that do not; to pods and nodes, and to Services.
const EXPLAINED: usize = 10;

/// One Service in each namespace, with addresses of both families.
fn services(selectors: [&str; 3]) -> String {
    let of = |(number, selector): (usize, &str)| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: ns{number}}}\n\
             spec: {{ipFamilyPolicy: RequireDualStack, selector: {{{selector}}}, ports: [\
             {{name: http, port: 80, targetPort: http}}, {{name: dns, port: 53, protocol: UDP, targetPort: dns}}, \
             {{name: other, port: 90, targetPort: 9090}}]}}\n"
        )
    };
    selectors.into_iter().enumerate().map(of).collect::<Vec<_>>().join("---\n")
}

/// Evenly spread ones of each kind: to whom, and whether they pass.
fn some(pairs: &[Pair]) -> Vec<&Pair> {
    let mut kinds: BTreeMap<(bool, bool), Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        kinds.entry((is_service(&pair.1), pair.3)).or_default().push(pair);
    }
    let spread =
        |kind: Vec<_>| kind.iter().copied().step_by(kind.len().div_ceil(EXPLAINED)).collect::<Vec<_>>();
    kinds.into_values().flat_map(spread).collect()
}

/// What the reference says of a packet that an explanation describes, where it meets one pod in the end.
fn judged(network: &Network, lab: &Lab, packet: &Value, protocol: Protocol) -> Option<bool> {
    let translated = packet["translations"][0].as_str()?.rsplit_once(' ')?.1;
    let at: SocketAddr = translated.parse().unwrap();
    let end = |address: IpAddr| {
        let pod = lab.record().pods.iter().find(|(_, pod)| pod.addresses.contains(&address));
        pod.map(|(key, _)| Endpoint::Pod { key: key.clone(), address })
    };
    let from = end(packet["from"]["address"].as_str()?.parse().unwrap())?;
    Some(verdict(network, &from, &end(at.ip())?, protocol, at.port()).combined())
}

#[test]
fn random_scenarios_of_both_families_are_explained_as_packets_and_the_reference_have_it() {
    let ((first, selectors), world) = (SCENARIOS[0], recorded::world());
    let (policies, first) = (recorded::policies(first), services(selectors));
    let files = [("world.yaml", &*world), ("policies.yaml", &*policies), ("services.yaml", &*first)];
    let Some(up) = LabUp::new("explained", Family::Dual, Some(&files)) else { return };
    assert!(up.lab.problems().is_empty(), "{:#?}", up.lab.problems());
    // Of packets to pods and nodes, and to Services: how many were explained, by what they met.
    let mut counts: BTreeMap<(bool, bool), usize> = BTreeMap::new();
    let (mut wrong, mut both, mut translated) = (Vec::new(), 0, [0; 2]);
    for (which, selectors) in SCENARIOS {
        let (policies, services) = (recorded::policies(which), services(selectors));
        write(&up.manifests, &[("policies.yaml", &policies), ("services.yaml", &services)]);
        up.in_force(Duration::from_secs(60));
        let all = observed(&up.lab);
        let network = lab::manifests::read(up.lab.layout(), up.lab.record()).unwrap();
        let network = network.network(up.lab.record());
        for pair in some(&all) {
            let (from, to, port, passes) = pair;
            let (code, told, said) = ferrule(&up.lab, &["explain", from, to, "--port", port]);
            let mut note =
                |what: String| wrong.push(format!("{which:?} {from} → {to} {port}: {what}: {said}"));
            let packets = told["packets"].as_array().cloned().unwrap_or_default();
            both += usize::from(packets.len() == 2);
            if told["warnings"] != serde_json::json!([]) {
                note(format!("warnings {}", told["warnings"]));
            }
            *counts.entry((is_service(to), *passes)).or_default() += 1;
            // Each endpoint may be had where the cell says so; else the one that the explanation leads to decides.
            if (*passes || !is_service(to)) && code != Some(if *passes { 0 } else { 2 }) {
                note(format!("packets {passes}, explained {code:?}"));
            }
            let protocol = match port.split_once('/').unwrap().0 {
                "TCP" => Protocol::Tcp,
                "UDP" => Protocol::Udp,
                _ => Protocol::Sctp,
            };
            for packet in packets.iter().filter(|_| is_service(to) && from.starts_with("ns")) {
                let Some(judged) = judged(&network, &up.lab, packet, protocol) else { continue };
                let is_hairpin = packet["outcome"]["pod"] == **from;
                if (judged || is_hairpin) != (packet["verdict"] == "allowed") {
                    note(format!("the reference says {judged}: {packet:#}"));
                }
                let ipv4 = packet["from"]["address"].as_str().unwrap().contains('.');
                translated[usize::from(ipv4)] += 1;
            }
        }
    }
    println!("explained: {counts:?}, {both} in both families, {translated:?} translated (IPv6, IPv4)");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        counts.values().all(|count| *count > 5) && counts.len() == 4,
        "the scenarios say nothing: {counts:?}"
    );
    assert!(both > 50 && translated.iter().all(|count| *count > 5), "{both} {translated:?}");
}
