//! The semantics hold: by property over random networks, by example where upstream is easily misread, and against the
//! verdict that a node's view leads to.
#![allow(clippy::unwrap_used, reason = "a test")]

mod arbitrary;

use std::collections::BTreeSet;
use std::net::IpAddr;

use arbitrary::{PORTS, network, protocol, rule};
use network::policy::{Action, Direction, IpBlock, Isolation, Peers, PortMatch, Ports, Rule, Tier};
use network::reference::{Endpoint, Verdict, verdict};
use network::{
    Few, LabelSelector, Labels, NamedPort, NamespacedName, Network, Node, NodeName, NodeView, PeerMatch, Pod,
    Policy, PolicyId, PolicyKind, PortRange, Protocol, Selector,
};
use proptest::prelude::*;

const POLICY_ONLY: &[Tier] = &[Tier::NetworkPolicy];
const EVERY_TIER: &[Tier] = &[Tier::Admin, Tier::NetworkPolicy, Tier::Baseline];

fn endpoints(network: &Network) -> Vec<Endpoint> {
    let pods = network.pods.values().filter(|pod| !pod.completed).flat_map(|pod| {
        pod.addresses.iter().map(|address| Endpoint::Pod { key: pod.key.clone(), address: *address })
    });
    let nodes = network.nodes.values().flat_map(|node| {
        let addresses = node.addresses.iter().copied().chain(node.gateway_addresses());
        addresses.map(|address| Endpoint::Node { name: node.name.clone(), address })
    });
    let outside = ["10.244.0.9", "192.0.2.1"].map(|a| Endpoint::Outside(a.parse().expect("an address")));
    pods.chain(nodes).chain(outside).collect()
}

fn every_verdict(network: &Network) -> Vec<(Endpoint, Endpoint, Protocol, u16, Verdict)> {
    let ends = endpoints(network);
    let mut all = Vec::new();
    for from in &ends {
        for to in &ends {
            for protocol in Protocol::ALL {
                for port in PORTS {
                    let verdict = verdict(network, from, to, protocol, port);
                    all.push((from.clone(), to.clone(), protocol, port, verdict));
                }
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn without_policies_everything_passes(mut network in network(EVERY_TIER)) {
        network.policies.clear();
        for (.., verdict) in every_verdict(&network) {
            prop_assert!(verdict.combined());
        }
    }

    #[test]
    fn adding_an_allow_rule_never_denies(network in network(POLICY_ONLY), rule in rule(), which in any::<prop::sample::Index>()) {
        prop_assume!(!network.policies.is_empty());
        let mut wider = network.clone();
        let id = which.get(&network.policies.keys().cloned().collect::<Vec<_>>()).clone();
        if !network.policies[&id].isolates.of(rule.direction) {
            return Ok(());
        }
        let rule = rule.into_rule(&mut wider, 99, Tier::NetworkPolicy);
        wider.policies.get_mut(&id).expect("it is there").rules.push(rule);
        for (before, after) in every_verdict(&network).into_iter().zip(every_verdict(&wider)) {
            prop_assert!(!before.4.ingress || after.4.ingress, "{after:?}");
            prop_assert!(!before.4.egress || after.4.egress, "{after:?}");
        }
    }

    #[test]
    fn isolating_everybody_once_more_never_allows(network in network(POLICY_ONLY)) {
        let mut narrower = network.clone();
        for namespace in arbitrary::NAMESPACES {
            deny_all(&mut narrower, namespace, Isolation { ingress: true, egress: true });
        }
        for (before, after) in every_verdict(&network).into_iter().zip(every_verdict(&narrower)) {
            prop_assert!(before.4.ingress || !after.4.ingress, "{after:?}");
            prop_assert!(before.4.egress || !after.4.egress, "{after:?}");
        }
    }

    #[test]
    fn policies_are_a_union(network in network(POLICY_ONLY), proto in protocol()) {
        // Isolate everybody in every network of one policy: then an isolated pod's verdict is the union over policies.
        let isolated = |mut network: Network| {
            for namespace in arbitrary::NAMESPACES {
                deny_all(&mut network, namespace, Isolation { ingress: true, egress: true });
            }
            network
        };
        let singles: Vec<Network> = network.policies.values().map(|policy| {
            let mut single = network.clone();
            single.policies = [(policy.id.clone(), policy.clone())].into();
            isolated(single)
        }).collect();
        let whole = isolated(network.clone());
        let none = isolated(Network { policies: [].into(), ..network.clone() });
        let ends = endpoints(&whole);
        for from in &ends {
            for to in &ends {
                let of = |n: &Network| verdict(n, from, to, proto, PORTS[0]);
                let union = singles.iter().map(of).fold(of(&none), |a, b| Verdict {
                    ingress: a.ingress || b.ingress,
                    egress: a.egress || b.egress,
                });
                prop_assert_eq!(of(&whole), union, "{:?} {:?}", from, to);
            }
        }
    }

    #[test]
    fn the_own_node_passes_network_policy(network in network(POLICY_ONLY)) {
        for pod in network.pods.values().filter(|pod| pod.is_policed()) {
            let node = &network.nodes[pod.node.as_ref().expect("bound")];
            let own = Endpoint::Node { name: node.name.clone(), address: node.addresses[0] };
            let pod = Endpoint::Pod { key: pod.key.clone(), address: pod.addresses[0] };
            for port in PORTS {
                prop_assert!(verdict(&network, &own, &pod, Protocol::Tcp, port).combined());
                prop_assert!(verdict(&network, &pod, &own, Protocol::Udp, port).combined());
            }
        }
    }

    #[test]
    fn a_policy_that_selects_neither_end_does_not_matter(network in network(EVERY_TIER)) {
        for (from, to, protocol, port, whole) in every_verdict(&network) {
            let mut less = network.clone();
            less.policies.retain(|_, policy| {
                [&from, &to].into_iter().any(|end| match end {
                    Endpoint::Pod { key, .. } => network.select_pods(&network.selectors[&policy.subject]).any(|p| p.key == *key),
                    _ => false,
                })
            });
            if less.policies.len() < network.policies.len() {
                prop_assert_eq!(whole, verdict(&less, &from, &to, protocol, port));
            }
        }
    }

    #[test]
    fn the_views_of_both_nodes_lead_to_the_same_verdicts(network in network(EVERY_TIER)) {
        let views: Vec<NodeView> = network.nodes.keys().map(|node| NodeView::of(&network, node)).collect();
        for (from, to, protocol, port, expected) in every_verdict(&network) {
            let found = by_views(&network, &views, &from, &to, protocol, port);
            prop_assert_eq!(found, expected, "{:?} → {:?} {}/{}", from, to, protocol, port);
        }
    }
}

/// The verdict by address, from what the nodes know: no labels, no selectors, no port names.
fn by_views(
    network: &Network,
    views: &[NodeView],
    from: &Endpoint,
    to: &Endpoint,
    protocol: Protocol,
    port: u16,
) -> Verdict {
    let passes = |subject: &Endpoint, peer: &Endpoint, direction| {
        let (Endpoint::Pod { key, .. }, false) = (subject, subject == peer) else { return true };
        let Some((view, pod)) = views.iter().find_map(|view| Some((view, view.pods.get(key)?))) else {
            return true;
        };
        let peer = address(peer);
        let first = |tier| {
            let mut policies: Vec<_> = view
                .policies
                .values()
                .filter(|p| p.tier == tier && pod.member_of.contains(&p.subject))
                .collect();
            policies.sort_by_key(|p| (p.priority, &p.id));
            let isolated = policies.iter().any(|p| p.isolates.of(direction));
            let mut rules: Vec<_> = policies
                .iter()
                .enumerate()
                .flat_map(|(order, p)| p.rules.iter().map(move |r| (order, r.index, r)))
                .filter(|(.., r)| r.direction == direction && pod.member_of.contains(&r.subject))
                .collect();
            rules.sort_by_key(|(order, index, _)| (*order, *index));
            let hit = rules.into_iter().find(|(.., r)| {
                let peer_matches = match &r.peers {
                    PeerMatch::Any => true,
                    PeerMatch::Some { sets, blocks } => {
                        sets.iter().any(|id| view.sets[id].members.contains(&peer))
                            || blocks.iter().any(|b| b.contains(peer))
                    }
                };
                let ports = r.ports.as_ref();
                peer_matches && ports.is_none_or(|ports| ports.iter().any(|p| p.contains(protocol, port)))
            });
            (isolated, hit.map(|(.., r)| r.action))
        };
        match first(Tier::Admin).1 {
            Some(Action::Accept) => return true,
            Some(Action::Deny) => return false,
            _ => {}
        }
        let own = network.pods[key].node.as_ref().is_some_and(|node| network.nodes[node].owns(peer));
        match first(Tier::NetworkPolicy) {
            (true, hit) => own || hit.is_some(),
            (false, _) => first(Tier::Baseline).1 != Some(Action::Deny),
        }
    };
    Verdict { ingress: passes(to, from, Direction::Ingress), egress: passes(from, to, Direction::Egress) }
}

fn address(endpoint: &Endpoint) -> IpAddr {
    match endpoint {
        Endpoint::Pod { address, .. } | Endpoint::Node { address, .. } | Endpoint::Outside(address) => {
            *address
        }
    }
}

fn deny_all(network: &mut Network, namespace: &str, isolates: Isolation) {
    let subject = network.intern(Selector::pods_in(namespace, LabelSelector::everything()));
    add(network, PolicyKind::NetworkPolicy, namespace, "zz-deny-all", 0, subject, isolates, vec![]);
}

#[expect(clippy::too_many_arguments, reason = "a policy has that many parts")]
fn add(
    network: &mut Network,
    kind: PolicyKind,
    namespace: &str,
    name: &str,
    priority: u32,
    subject: network::SetId,
    isolates: Isolation,
    rules: Vec<Rule>,
) {
    let id = PolicyId { kind, namespace: namespace.into(), name: name.into() };
    let tier = match (kind, name.starts_with("baseline")) {
        (PolicyKind::NetworkPolicy, _) => Tier::NetworkPolicy,
        (_, true) => Tier::Baseline,
        _ => Tier::Admin,
    };
    network.policies.insert(
        id.clone(),
        Policy { id, generation: 0, tier, priority, subject, isolates, audit: false, rules },
    );
}

/// Two pods per node in namespace `shop`: client (a) and server (b), and one host-network pod per node.
fn shop() -> Network {
    let mut network = Network::default();
    network.namespaces.insert("shop".into(), Labels::new());
    for (number, app) in [(1u8, "client"), (2, "server")] {
        let name = NodeName::new(format!("node-{number}"));
        let node = Node {
            name: name.clone(),
            labels: Labels::new(),
            addresses: vec![[172, 30, 0, number].into()],
            pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
            ..Node::default()
        };
        let pod = |pod_name: &str, address: IpAddr, host_network| Pod {
            key: NamespacedName::new("shop", pod_name),
            uid: pod_name.into(),
            node: Some(name.clone()),
            labels: Labels::from([("app".to_owned(), pod_name.to_owned())]).into(),
            addresses: vec![address],
            host_network,
            completed: false,
            ports: vec![
                NamedPort {
                    name: Some("http".into()),
                    protocol: Protocol::Tcp,
                    number: 8000 + u16::from(number),
                },
                NamedPort { name: Some("http".into()), protocol: Protocol::Udp, number: 53 },
            ],
        };
        for pod in [
            pod(app, [10, 244, number, 2].into(), false),
            pod(&format!("host-{number}"), node.addresses[0], true),
        ] {
            network.pods.insert(pod.key.clone(), pod);
        }
        network.nodes.insert(name, node);
    }
    network
}

fn at(network: &Network, name: &str) -> Endpoint {
    let pod = &network.pods[&NamespacedName::new("shop", name)];
    Endpoint::Pod { key: pod.key.clone(), address: pod.addresses[0] }
}

fn accept(direction: Direction, peers: Peers, ports: Ports) -> Rule {
    Rule { index: 0, direction, action: Action::Accept, peers, ports }
}

fn block(text: &str) -> Peers {
    let blocks = BTreeSet::from([IpBlock::whole(text.parse().unwrap())]);
    Peers::Some { sets: Few::new(), blocks }
}

const INGRESS: Isolation = Isolation { ingress: true, egress: false };
const EGRESS: Isolation = Isolation { ingress: false, egress: true };

#[test]
fn a_named_port_is_the_destinations_own_number_and_never_all_ports() {
    for direction in [Direction::Ingress, Direction::Egress] {
        let mut network = shop();
        let subject = network.intern(Selector::pods_in("shop", LabelSelector::everything()));
        let named = Ports::Some([PortMatch::Named { protocol: Protocol::Tcp, name: "http".into() }].into());
        let isolates = if direction == Direction::Ingress { INGRESS } else { EGRESS };
        let rules = vec![accept(direction, Peers::Any, named)];
        add(&mut network, PolicyKind::NetworkPolicy, "shop", "named", 0, subject, isolates, rules);
        let (client, server) = (at(&network, "client"), at(&network, "server"));
        let passes = |from, to, protocol, port| verdict(&network, from, to, protocol, port).combined();
        assert!(passes(&client, &server, Protocol::Tcp, 8002));
        assert!(passes(&server, &client, Protocol::Tcp, 8001));
        assert!(!passes(&client, &server, Protocol::Tcp, 8001), "the other pod's number");
        assert!(!passes(&client, &server, Protocol::Udp, 53), "the other protocol's port of that name");
        assert!(!passes(&client, &server, Protocol::Sctp, 8002));
    }
}

#[test]
fn a_named_port_that_nobody_declares_allows_nothing() {
    let mut network = shop();
    let subject = network.intern(Selector::pods_in("shop", LabelSelector::everything()));
    let named = Ports::Some([PortMatch::Named { protocol: Protocol::Tcp, name: "nobody".into() }].into());
    let rules = vec![accept(Direction::Ingress, Peers::Any, named)];
    add(&mut network, PolicyKind::NetworkPolicy, "shop", "named", 0, subject, INGRESS, rules);
    let (client, server) = (at(&network, "client"), at(&network, "server"));
    for port in [0, 80, 8001, 8002, 65535] {
        assert!(!verdict(&network, &client, &server, Protocol::Tcp, port).ingress);
    }
}

#[test]
fn a_named_port_behind_an_address_block_is_the_destinations_in_the_view_too() {
    let mut network = shop();
    let subject = network.intern(Selector::pods_in("shop", LabelSelector::everything()));
    let named = Ports::Some([PortMatch::Named { protocol: Protocol::Tcp, name: "http".into() }].into());
    let rules = vec![accept(Direction::Egress, block("10.244.0.0/16"), named)];
    add(&mut network, PolicyKind::NetworkPolicy, "shop", "named", 0, subject, EGRESS, rules);
    let views: Vec<NodeView> = network.nodes.keys().map(|node| NodeView::of(&network, node)).collect();
    let (client, server) = (at(&network, "client"), at(&network, "server"));
    let (host, outside) = (at(&network, "host-2"), Endpoint::Outside([10, 244, 9, 9].into()));
    for (to, port, passes) in
        [(&server, 8002, true), (&server, 8001, false), (&host, 8002, false), (&outside, 8002, false)]
    {
        assert_eq!(verdict(&network, &client, to, Protocol::Tcp, port).egress, passes, "{to:?} {port}");
        let seen = by_views(&network, &views, &client, to, Protocol::Tcp, port).egress;
        assert_eq!(seen, passes, "{to:?} {port}");
    }
}

#[test]
fn a_host_network_pod_is_its_node() {
    let mut network = shop();
    let everyone = network.intern(Selector::pods_in("shop", LabelSelector::everything()));
    let peers = Peers::Some { sets: [everyone].into(), blocks: BTreeSet::new() };
    let both = Isolation { ingress: true, egress: true };
    let rules = vec![
        accept(Direction::Ingress, peers.clone(), Ports::Any),
        accept(Direction::Egress, peers, Ports::Any),
    ];
    add(&mut network, PolicyKind::NetworkPolicy, "shop", "same-namespace", 0, everyone, both, rules);
    let (own, other, server) = (at(&network, "host-2"), at(&network, "host-1"), at(&network, "server"));
    let passes = |from, to| verdict(&network, from, to, Protocol::Tcp, 80);
    assert!(passes(&own, &server).combined(), "the own node");
    assert!(!passes(&other, &server).ingress, "another node is no pod of the namespace");
    assert!(!passes(&server, &other).egress);
    assert!(passes(&other, &own).combined(), "a host-network pod is no subject");
}

#[test]
fn an_outside_address_that_a_pod_owns_is_that_pod() {
    let mut network = shop();
    let everyone = network.intern(Selector::pods_in("shop", LabelSelector::everything()));
    let peers = Peers::Some { sets: [everyone].into(), blocks: BTreeSet::new() };
    let rules = vec![accept(Direction::Ingress, peers, Ports::Any)];
    add(&mut network, PolicyKind::NetworkPolicy, "shop", "same", 0, everyone, INGRESS, rules);
    let server = at(&network, "server");
    let from = |text: &str| Endpoint::Outside(text.parse().unwrap());
    assert!(verdict(&network, &from("10.244.1.2"), &server, Protocol::Tcp, 80).ingress);
    assert!(!verdict(&network, &from("192.0.2.7"), &server, Protocol::Tcp, 80).ingress);
}

#[test]
fn a_completed_pod_no_longer_owns_its_address() {
    let mut network = shop();
    let clients = network.intern(Selector::pods_in(
        "shop",
        LabelSelector::from_labels(&[("app".into(), "client".into())].into()),
    ));
    let everyone = network.intern(Selector::pods_in("shop", LabelSelector::everything()));
    let peers = Peers::Some { sets: [clients].into(), blocks: BTreeSet::new() };
    let rules = vec![accept(Direction::Ingress, peers, Ports::Any)];
    add(&mut network, PolicyKind::NetworkPolicy, "shop", "clients", 0, everyone, INGRESS, rules);
    let (client, server) = (at(&network, "client"), at(&network, "server"));
    assert!(verdict(&network, &client, &server, Protocol::Tcp, 80).ingress);
    network.pods.get_mut(&NamespacedName::new("shop", "client")).unwrap().completed = true;
    assert!(!verdict(&network, &client, &server, Protocol::Tcp, 80).ingress);
}

#[test]
fn a_block_with_a_hole_and_the_other_family() {
    let mut network = shop();
    let subject = network.intern(Selector::pods_in("shop", LabelSelector::everything()));
    let blocks = BTreeSet::from([IpBlock {
        cidr: "192.0.2.0/24".parse().unwrap(),
        except: [("192.0.2.128/25").parse().unwrap()].into(),
    }]);
    let rules = vec![accept(Direction::Ingress, Peers::Some { sets: Few::new(), blocks }, Ports::Any)];
    add(&mut network, PolicyKind::NetworkPolicy, "shop", "block", 0, subject, INGRESS, rules);
    let server = at(&network, "server");
    let from = |text: &str| {
        verdict(&network, &Endpoint::Outside(text.parse().unwrap()), &server, Protocol::Tcp, 80).ingress
    };
    assert!(from("192.0.2.127"));
    assert!(!from("192.0.2.128"));
    assert!(!from("2001:db8::1"));
}

#[test]
fn tiers_are_asked_in_order_and_the_own_node_rule_is_network_policys_alone() {
    let mut network = shop();
    let subject = network.intern(Selector::pods_in("shop", LabelSelector::everything()));
    let rule = |action| Rule {
        index: 0,
        direction: Direction::Ingress,
        action,
        peers: block("10.244.1.0/24"),
        ports: Ports::Some([PortMatch::Range(PortRange::all(Protocol::Tcp))].into()),
    };
    let cluster = PolicyKind::ClusterNetworkPolicy;
    let none = Isolation::default();
    let judge = |network: &Network, protocol| {
        verdict(network, &at(network, "client"), &at(network, "server"), protocol, 80).ingress
    };
    // Admin denies, although NetworkPolicy would not have been asked.
    add(&mut network, cluster, "", "deny", 5, subject, none, vec![rule(Action::Deny)]);
    assert!(!judge(&network, Protocol::Tcp));
    assert!(judge(&network, Protocol::Udp), "what no tier decides passes");
    // A smaller priority passes on: the NetworkPolicy decides.
    add(&mut network, cluster, "", "pass", 4, subject, none, vec![rule(Action::Pass)]);
    assert!(judge(&network, Protocol::Tcp));
    deny_all(&mut network, "shop", INGRESS);
    assert!(!judge(&network, Protocol::Tcp));
    // Accept in the Admin tier overrules the NetworkPolicy.
    add(&mut network, cluster, "", "accept", 3, subject, none, vec![rule(Action::Accept)]);
    assert!(judge(&network, Protocol::Tcp));
    // Baseline is asked only where no NetworkPolicy isolates.
    network.policies.clear();
    add(&mut network, cluster, "", "baseline", 0, subject, none, vec![rule(Action::Deny)]);
    assert!(!judge(&network, Protocol::Tcp));
    deny_all(&mut network, "shop", EGRESS);
    assert!(!judge(&network, Protocol::Tcp), "isolated in the other direction only");
    let own_node = Endpoint::Node { name: NodeName::new("node-1"), address: [10, 244, 1, 1].into() };
    let to_client = verdict(&network, &own_node, &at(&network, "client"), Protocol::Tcp, 80);
    assert!(!to_client.ingress, "a Baseline Deny reaches the own node too");
    deny_all(&mut network, "shop", Isolation { ingress: true, egress: true });
    let to_client = verdict(&network, &own_node, &at(&network, "client"), Protocol::Tcp, 80);
    assert!(to_client.ingress, "NetworkPolicy allows the own node, Baseline is not asked");
}
