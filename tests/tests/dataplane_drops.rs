//! Every drop counts against a named reason, and every rule counts what it let pass: packets of known number and kind, and
//! what the controller and the agent then say.

#![allow(clippy::unwrap_used)]

use api::insight::{CostItem, DropItem, PolicyItem};
use lab::NodeIndex;
use lab::http::Endpoint;
use tests::packet::stage::{FAMILIES, SERVICE, Stage, datagram};
use tests::packet::{Mark, Trials};

/// Of each kind and family.
const PACKETS: usize = 7;

#[test]
fn drops_have_their_reasons_and_rules_count() {
    let Some(stage) = Stage::new("drops") else { return };
    let controller = Endpoint::Unix(stage.up.lab.layout().controller_socket());
    let drops = |query: &[(&str, &str)]| controller.list::<DropItem>("drops", query).unwrap().items;
    let counted = |reason: &str, query: &[(&str, &str)], about: &str| -> u64 {
        let of_reason = drops(query).into_iter().filter(|item| item.reason == reason);
        of_reason.filter(|item| item.what.contains(about)).map(|item| item.packets).sum()
    };
    let (mallory, alice, shut) = (&stage.mallory, &stage.alice_1, &stage.shut_1);
    let on_node = [("node", "node-1")];
    let before = [
        counted("default-deny", &on_node, ""),
        counted("spoof-guard", &on_node, "speaks for somebody else"),
        counted("no-route", &on_node, ""),
    ];
    for ipv4 in FAMILIES {
        let nobody = tests::packet::stage::next(stage.gateway(0, ipv4), 200);
        for _ in 0..PACKETS {
            mallory.send(&datagram(mallory.ip(ipv4), shut.ip(ipv4), SERVICE, &Mark::new()));
            mallory.send(&datagram(alice.ip(ipv4), shut.ip(ipv4), SERVICE, &Mark::new()));
            mallory.send(&datagram(mallory.ip(ipv4), nobody, SERVICE, &Mark::new()));
            alice.send(&datagram(alice.ip(ipv4), shut.ip(ipv4), SERVICE, &Mark::new()));
        }
    }
    let all = 2 * PACKETS as u64;
    // Counters follow the packets by up to a second.
    let now = || {
        [
            counted("default-deny", &on_node, "") - before[0],
            counted("spoof-guard", &on_node, "speaks for somebody else") - before[1],
            counted("no-route", &on_node, "") - before[2],
        ]
    };
    let began = std::time::Instant::now();
    while now().iter().any(|count| *count < all) {
        assert!(
            began.elapsed().as_secs() < 15,
            "of {all} each, {:?} are counted: {:#?}",
            now(),
            drops(&on_node)
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // The pods' own stacks say things for themselves that they may not say (IPv6 duplicate address detection).
    let mut trials = Trials::default();
    let counts = now();
    trials.check(counts[0] == all && counts[2] == all && counts[1] < all + 50, || {
        format!("{counts:?} of {all} each")
    });
    let denied = drops(&[("pod", "t/shut-1")]);
    let deny = denied.iter().find(|item| item.reason == "default-deny");
    trials.check(deny.is_some_and(|item| item.owners.iter().any(|o| o.name == "t/shut")), || {
        format!("the default deny does not name the policy that isolates the pod: {denied:#?}")
    });
    let policies = controller.list::<PolicyItem>("policies", &[("rules", "true")]).unwrap();
    trials.check(policies.warnings.is_empty(), || format!("{:?}", policies.warnings));
    let policy = policies.items.iter().find(|item| item.policy == "NetworkPolicy t/shut").unwrap();
    let rule = |name: &str| policy.rules.iter().find(|rule| rule.rule == name).unwrap();
    let (allow, deny) = (rule("ingress[0]"), rule("ingress default-deny"));
    trials.check(allow.packets >= all && allow.flows > 4 && !allow.shared, || format!("{allow:#?}"));
    trials.check(deny.packets >= all && deny.nodes.len() == 2, || format!("{deny:#?}"));
    // It was known before what it takes, but for its isolation: a rule that shares nothing takes what was counted.
    let costs = controller.list::<CostItem>("costs", &[("policy", "t/shut")]).unwrap().items;
    let rules = costs.iter().flat_map(|item| &item.rules).filter(|rule| rule.rule == "ingress[0]");
    let counted: usize = rules.map(|rule| rule.flows).sum();
    trials.check(costs.len() == 2 && counted as u64 == allow.flows, || format!("{allow:#?} of {costs:#?}"));
    let socket = stage.up.lab.layout().agent_socket(NodeIndex(1));
    let metrics = Endpoint::Unix(socket).get("/metrics").unwrap();
    let text = String::from_utf8_lossy(&metrics).into_owned();
    for reason in ["default-deny", "spoof-guard", "no-route"] {
        let name = format!("ferrule_agent_dropped_packets_total{{reason=\"{reason}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok());
        trials.check(value.is_some_and(|value| value >= all), || format!("{reason}: {value:?} in\n{text}"));
    }
    trials.verdict();
}
