//! Pods at hostPorts: the host translates (portmap's work, done by hand here) and speaks for the client by the first address of
//! its pod range. Nobody whom a policy keeps out gets in that way.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use compiler::incremental::{Changes, Compiler, Touched};
use compiler::simulate::matrix::{Site, compile_all};
use compiler::simulate::{Fabric, Outcome, Packet, Walk};
use compiler::{Datapath, Flow, FlowKey, Input, NodeConfig};
use network::{
    Action, Direction, Few, IpBlock, Isolation, LabelSelector, Labels, NamespacedName, Network, Node,
    NodeName, NodeView, Peers, Pod, Policy, PolicyId, PolicyKind, Ports, Protocol, Rule, Selector, Tier,
};

const HOST_PORT: u16 = 8125;

/// Where a test runs: both families have to do the same.
#[derive(Clone, Copy)]
struct Place {
    ipv4: bool,
}

const BOTH: [Place; 2] = [Place { ipv4: true }, Place { ipv4: false }];

impl Place {
    fn pod(self, node: u8, number: u8) -> IpAddr {
        match self.ipv4 {
            true => IpAddr::from([10, 244, node, number]),
            false => format!("fd00:10:244:{node}::{number:x}").parse().unwrap(),
        }
    }

    fn node(self, node: u8) -> IpAddr {
        if self.ipv4 {
            IpAddr::from([172, 30, 0, node])
        } else {
            format!("fd00:172::{node}").parse().unwrap()
        }
    }

    /// Who speaks for pods at a node's hostPorts.
    fn speaker(self, node: u8) -> IpAddr {
        self.pod(node, 0)
    }

    /// What a packet of somebody to `dns`, the DaemonSet's pod of node 1, comes to when node 1 sends it.
    fn by_host(self, fabric: &mut Fabric<'_>, source: IpAddr) -> Walk {
        fabric.forget_connections();
        fabric.from_node(&name(1), first(source, self.pod(1, 2), 53))
    }
}

fn name(node: u8) -> NodeName {
    NodeName::new(format!("node-{node}"))
}

fn key(pod: &str) -> NamespacedName {
    NamespacedName::new("ns", pod)
}

fn first(from: IpAddr, to: IpAddr, port: u16) -> Packet {
    Packet::first(from, to, Protocol::Tcp, port)
}

/// `dns` on node 1, whose hostPort it is; `near` beside it, `far` on node 2.
fn network() -> Network {
    let mut network = Network::default();
    for k in [1u8, 2] {
        let node = Node {
            name: name(k),
            labels: Labels::new(),
            addresses: BOTH.map(|place| place.node(k)).into(),
            pod_cidrs: vec![
                format!("10.244.{k}.0/24").parse().unwrap(),
                format!("fd00:10:244:{k}::/64").parse().unwrap(),
            ],
            ..Node::default()
        };
        network.nodes.insert(node.name.clone(), node);
    }
    for (pod, node, number) in [("dns", 1, 2), ("near", 1, 3), ("far", 2, 2)] {
        let pod = Pod {
            key: key(pod),
            uid: format!("uid-{pod}"),
            node: Some(name(node)),
            labels: Labels::from([("app".into(), pod.into())]).into(),
            addresses: BOTH.map(|place| place.pod(node, number)).into(),
            host_network: false,
            completed: false,
            ports: vec![],
        };
        network.pods.insert(pod.key.clone(), pod);
    }
    network
}

fn app(network: &mut Network, app: &str) -> network::SetId {
    let labels = Labels::from([("app".to_owned(), app.to_owned())]);
    network.intern(Selector::pods_in("ns", LabelSelector::from_labels(&labels)))
}

fn everybody(network: &mut Network) -> network::SetId {
    network.intern(Selector::pods_in("ns", LabelSelector::everything()))
}

/// A policy about ingress of `dns`.
fn about_dns(network: &mut Network, tier: Tier, rules: &[(Action, Peers)]) {
    let kind = match tier {
        Tier::NetworkPolicy => PolicyKind::NetworkPolicy,
        _ => PolicyKind::ClusterNetworkPolicy,
    };
    let rule = |(index, (action, peers)): (usize, &(Action, Peers))| Rule {
        index: index as u32,
        direction: Direction::Ingress,
        action: *action,
        peers: peers.clone(),
        ports: Ports::Any,
    };
    let policy = Policy {
        id: PolicyId { kind, namespace: "ns".into(), name: "of-dns".into() },
        generation: 1,
        tier,
        priority: 0,
        subject: app(network, "dns"),
        isolates: Isolation { ingress: tier == Tier::NetworkPolicy, egress: false },
        audit: false,
        rules: rules.iter().enumerate().map(rule).collect(),
    };
    network.policies.insert(policy.id.clone(), policy);
}

fn pods(set: network::SetId) -> Peers {
    Peers::Some { sets: Few::from_iter([set]), blocks: BTreeSet::new() }
}

fn block(cidr: &str, except: &[&str]) -> IpBlock {
    IpBlock { cidr: cidr.parse().unwrap(), except: except.iter().map(|hole| hole.parse().unwrap()).collect() }
}

fn blocks(all: [IpBlock; 2]) -> Peers {
    Peers::Some { sets: Few::new(), blocks: all.into() }
}

fn fabric(sites: &[Site]) -> Fabric<'_> {
    Fabric::new(sites.iter().map(|s| (&s.node, &s.program, s.ports.as_slice())))
}

/// Whether the speaker, and a pod that asks `dns` itself, get in where these policies stand.
fn let_in(network: &Network) -> Vec<(bool, bool)> {
    let sites = compile_all(network);
    let mut fabric = fabric(&sites);
    let mut both = |place: Place| {
        let speaker = place.by_host(&mut fabric, place.speaker(1)).passed();
        let near = fabric.from_pod(&key("near"), first(place.pod(1, 3), place.pod(1, 2), 53)).unwrap();
        (speaker, near.passed())
    };
    BOTH.map(&mut both).into()
}

#[test]
fn a_pod_of_either_node_asks_and_is_answered_by_the_host() {
    let sites = compile_all(&network());
    for place in BOTH {
        for (client, address) in [("near", place.pod(1, 3)), ("far", place.pod(2, 2))] {
            let mut fabric = fabric(&sites);
            let asks = fabric.from_pod(&key(client), first(address, place.node(1), HOST_PORT)).unwrap();
            assert_eq!(asks.outcome, Outcome::Host { node: name(1) }, "{client}");
            // portmap translates the destination, and our table the source.
            let given = fabric.from_node(&name(1), first(place.speaker(1), place.pod(1, 2), 53));
            assert!(matches!(given.outcome, Outcome::Delivered { .. }), "{client}: {:#?}", given.hops);
            let reply = fabric.from_pod(&key("dns"), given.packet.reply()).unwrap();
            assert_eq!(reply.outcome, Outcome::Host { node: name(1) }, "{client}: {:#?}", reply.hops);
            // The host takes both translations back.
            let back = fabric.from_node(&name(1), asks.packet.reply());
            assert!(matches!(back.outcome, Outcome::Delivered { .. }), "{client}: {:#?}", back.hops);
            assert_eq!(back.packet.destination(), Some(address));
        }
    }
}

#[test]
fn isolation_keeps_out_and_no_selector_lets_in() {
    let mut closed = network();
    about_dns(&mut closed, Tier::NetworkPolicy, &[]);
    assert_eq!(let_in(&closed), [(false, false); 2]);
    let mut named = network();
    let everybody = everybody(&mut named);
    about_dns(&mut named, Tier::NetworkPolicy, &[(Action::Accept, pods(everybody))]);
    assert_eq!(let_in(&named), [(false, true); 2]);
    // The node itself always gets in: that is why it must not be the one who speaks.
    let sites = compile_all(&closed);
    for place in BOTH {
        assert!(place.by_host(&mut fabric(&sites), place.node(1)).passed());
    }
}

#[test]
fn a_block_means_it_where_it_means_the_pods_of_its_node() {
    for (holes, passes) in [
        ([&[][..], &[]], true),
        ([&["10.244.0.0/16"], &["fd00:10:244::/48"]], false),
        ([&["10.244.2.0/24"], &["fd00:10:244:2::/64"]], true),
    ] {
        let mut network = network();
        let everywhere = [block("0.0.0.0/0", holes[0]), block("::/0", holes[1])];
        about_dns(&mut network, Tier::NetworkPolicy, &[(Action::Accept, blocks(everywhere))]);
        assert_eq!(let_in(&network), [(passes, passes); 2], "{holes:?}");
    }
}

#[test]
fn who_denies_some_pods_denies_whoever_may_be_one_of_them() {
    for tier in [Tier::Admin, Tier::Baseline] {
        let mut network = network();
        let (near, far) = (app(&mut network, "near"), app(&mut network, "far"));
        about_dns(&mut network, tier, &[(Action::Deny, pods(near))]);
        assert_eq!(let_in(&network), [(false, false); 2]);
        let accepted = [(Action::Accept, pods(near)), (Action::Pass, pods(near)), (Action::Deny, pods(far))];
        about_dns(&mut network, tier, &accepted);
        assert_eq!(let_in(&network), [(false, true); 2]);
        about_dns(&mut network, tier, &accepted[..2]);
        assert_eq!(let_in(&network), [(true, true); 2]);
    }
}

/// What an incremental compiler has handed on.
#[derive(Default)]
struct Held(BTreeMap<FlowKey, Flow>);

impl Changes for Held {
    fn everything(&mut self) {
        self.0.clear();
    }

    fn flow(&mut self, key: FlowKey, flow: Flow) {
        self.0.insert(key, flow);
    }

    fn gone(&mut self, key: FlowKey) {
        self.0.remove(&key);
    }
}

#[test]
fn a_node_that_gets_another_range_speaks_by_another_address() {
    let mut network = network();
    let near = app(&mut network, "near");
    about_dns(&mut network, Tier::Admin, &[(Action::Deny, pods(near))]);
    let mut moved = network.clone();
    moved.nodes.get_mut(&name(1)).unwrap().pod_cidrs[0] = "10.245.1.0/24".parse().unwrap();
    let mut without = moved.clone();
    without.policies.clear();
    let ports = compile_all(&network).remove(0).ports;
    let config = NodeConfig::new(name(1), Datapath::System, 1500);
    let (mut compiler, mut held) = (Compiler::default(), Held::default());
    let nothing = Touched::nothing();
    let rules = Touched { policies: true, ..Touched::nothing() };
    for (network, touched) in [(&network, &Touched::everything()), (&moved, &nothing), (&without, &rules)] {
        let view = NodeView::of(network, &name(1));
        let closed = BTreeSet::new();
        let input = Input { view: &view, described: None, config: &config, ports: &ports, closed: &closed };
        compiler.update(input, touched, &mut held);
        assert_eq!(held.0, compiler::compile_input(input).flows);
    }
}

#[test]
fn the_address_is_good_for_nothing_else() {
    let sites = compile_all(&network());
    for place in BOTH {
        let mut fabric = fabric(&sites);
        // What claims a pod's address is a lie as ever, and so is the address before another node's pods, or from a pod.
        assert!(!place.by_host(&mut fabric, place.pod(1, 3)).passed());
        assert!(!place.by_host(&mut fabric, place.pod(2, 2)).passed());
        assert!(!place.by_host(&mut fabric, place.speaker(2)).passed());
        let elsewhere = first(place.speaker(1), place.pod(2, 2), 53);
        assert!(!fabric.from_node(&name(1), elsewhere).passed());
        let claimed = first(place.speaker(1), place.pod(1, 2), 53);
        assert!(!fabric.from_pod(&key("near"), claimed).unwrap().passed());
        // Nobody is there.
        let asked = first(place.pod(1, 3), place.speaker(1), 53);
        assert!(!fabric.from_pod(&key("near"), asked).unwrap().passed());
    }
}

#[test]
fn the_host_speaks_for_pods_and_not_for_itself() {
    let sites = compile_all(&network());
    let rules: Vec<&str> =
        sites[0].program.host.nftables.lines().filter(|line| line.contains("a pod at a hostPort")).collect();
    assert_eq!(
        rules,
        [
            "\toifname \"ferrule-gw0\" ct status dnat ip saddr { 10.244.1.0/24, 10.244.2.0/24 } ip saddr != { 10.244.1.1 } \
             ip daddr { 10.244.1.0/24 } counter snat ip to 10.244.1.0 comment \"a pod at a hostPort\"",
            "\toifname \"ferrule-gw0\" ct status dnat ip6 saddr { fd00:10:244:1::/64, fd00:10:244:2::/64 } \
             ip6 saddr != { fd00:10:244:1::1 } ip6 daddr { fd00:10:244:1::/64 } counter snat ip6 to fd00:10:244:1:: \
             comment \"a pod at a hostPort\"",
        ]
    );
}
