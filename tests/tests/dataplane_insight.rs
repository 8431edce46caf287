//! `ferrule explain` and `ferrule audit` of a running lab: what is explained is what packets meet, and what is found is what
//! somebody changed.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use lab::control::Component;
use lab::{Family, Lab, NodeIndex};
use serde_json::Value;
use tests::lab_up::{LabUp, binaries};
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
fn observed(lab: &Lab, state: &str) -> Vec<Pair> {
    let output = Command::new(binaries().join("ferrule"))
        .args(["lab", "matrix", "-o", "json", "--state", state])
        .output()
        .unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let matrix = &all["observed"];
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

/// A lab that works is found to work, by packets between all of its nodes.
fn checks(lab: &Lab) {
    let (code, found, said) = ferrule(lab, &["check"]);
    let items = found["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(code, Some(0), "{said}{found:#}");
    let good =
        |check: &str| items.iter().filter(|item| item["check"] == check && item["status"] == "good").count();
    for (check, least) in
        [("nodes", 2), ("audit", 2), ("pod", 3), ("policy", 4), ("node", 3), ("service", 1), ("mtu", 1)]
    {
        assert!(good(check) >= least, "{check}: {found:#}");
    }
}

#[test]
fn explanations_are_what_packets_meet_and_audits_find_what_was_changed() {
    let Some(up) = LabUp::new("insight", Family::Ipv4, None) else { return };
    let state = up.folder().join("state").display().to_string();
    let pairs = observed(&up.lab, &state);
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
    checks(&up.lab);

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
