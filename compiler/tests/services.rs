//! Every path to a Service, there and back, through the compiled programs of two nodes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use compiler::simulate::matrix::{Site, compile_all};
use compiler::simulate::{Fabric, Outcome, Packet, Walk};
use network::{
    Cidr, Direction, Few, Isolation, LabelSelector, Labels, NamespacedName, Network, Node, NodeName, Pod,
    Policy, PolicyId, PolicyKind, Protocol, Seldom, Selector, Service, ServiceEndpoint, ServiceKind,
    ServicePort, Tier, TrafficPolicy,
};
use openflow::Field;

const VIP: [u8; 4] = [10, 96, 0, 10];
const EXTERNAL: [u8; 4] = [203, 0, 113, 7];
const CLIENT: [u8; 4] = [198, 51, 100, 9];
/// The names by which the host hands node ports over, and speaks to itself.
const NODE_PORTS: [u8; 4] = [169, 254, 254, 2];
const HAIRPIN: [u8; 4] = [169, 254, 254, 4];
const NODE_PORT: u16 = 30_080;

fn ip(octets: [u8; 4]) -> IpAddr {
    IpAddr::from(octets)
}

fn pod_ip(k: u8) -> IpAddr {
    ip([10, 244, k, 2])
}

fn node_ip(k: u8) -> IpAddr {
    ip([172, 30, 0, k])
}

fn key(k: u8) -> NamespacedName {
    NamespacedName::new("ns", format!("pod-{k}"))
}

fn node_name(k: u8) -> NodeName {
    NodeName::new(format!("node-{k}"))
}

fn endpoint(address: IpAddr, node: Option<u8>) -> ServiceEndpoint {
    ServiceEndpoint {
        pod: None,
        addresses: [address].into(),
        port: 8080,
        node: node.map(node_name),
        ready: true,
        serving: true,
        terminating: false,
        for_zones: Seldom::new(),
        for_nodes: Seldom::new(),
    }
}

fn service(endpoints: impl IntoIterator<Item = ServiceEndpoint>) -> Service {
    Service {
        key: NamespacedName::new("ns", "web"),
        created: None,
        kind: ServiceKind::LoadBalancer,
        cluster_ips: [ip(VIP)].into(),
        external_ips: BTreeSet::new(),
        load_balancer_ips: [ip(EXTERNAL)].into(),
        source_ranges: BTreeSet::new(),
        ports: vec![ServicePort {
            name: None,
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(NODE_PORT),
            endpoints: endpoints.into_iter().collect(),
        }],
        affinity_seconds: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        backing: None,
    }
}

fn network(service: Service) -> Network {
    let mut network = Network::default();
    for k in [1u8, 2] {
        let node = Node {
            name: node_name(k),
            labels: Labels::new(),
            addresses: vec![node_ip(k)],
            pod_cidrs: vec![format!("10.244.{k}.0/24").parse().unwrap()],
            ..Node::default()
        };
        network.nodes.insert(node.name.clone(), node);
        let pod = Pod {
            key: key(k),
            uid: format!("uid-{k}"),
            node: Some(node_name(k)),
            labels: Labels::from([("node".into(), k.to_string())]).into(),
            addresses: vec![pod_ip(k)],
            host_network: false,
            completed: false,
            ports: vec![],
        };
        network.pods.insert(pod.key.clone(), pod);
    }
    network.services.insert(service.key.clone(), service);
    network
}

fn fabric(sites: &[Site]) -> Fabric<'_> {
    Fabric::new(sites.iter().map(|s| (&s.node, &s.program, s.ports.as_slice())))
}

fn source(packet: &Packet) -> (IpAddr, u16) {
    (address(packet, Field::IPV4_SRC), packet.get(Field::TCP_SRC) as u16)
}

fn destination(packet: &Packet) -> (IpAddr, u16) {
    (address(packet, Field::IPV4_DST), packet.get(Field::TCP_DST) as u16)
}

fn address(packet: &Packet, field: Field) -> IpAddr {
    IpAddr::from((packet.get(field) as u32).to_be_bytes())
}

fn first(from: IpAddr, to: IpAddr, port: u16) -> Packet {
    Packet::first(from, to, Protocol::Tcp, port)
}

#[track_caller]
fn delivered(walk: &Walk, k: u8) {
    assert!(walk.hops.iter().all(|hop| hop.trace.unknown.is_empty()), "{walk:#?}");
    let Outcome::Delivered { node, .. } = &walk.outcome else { panic!("{:#?}", steps(walk)) };
    assert_eq!(*node, node_name(k), "{:#?}", steps(walk));
    assert_eq!(destination(&walk.packet), (pod_ip(k), 8080));
}

#[track_caller]
fn at_host(walk: &Walk, k: u8) {
    assert_eq!(walk.outcome, Outcome::Host { node: node_name(k) }, "{:#?}", steps(walk));
}

fn steps(walk: &Walk) -> Vec<String> {
    let one = |hop: &compiler::simulate::Hop| {
        let steps = hop.trace.steps.iter();
        let steps: Vec<_> =
            steps.map(|s| format!("{} {:?}", s.table, s.flow.as_ref().map(|f| &f.match_))).collect();
        format!("{}: {}", hop.node, steps.join(" → "))
    };
    walk.hops.iter().map(one).collect()
}

#[test]
fn a_pod_reaches_an_endpoint_on_either_node_and_is_answered_by_the_service() {
    for k in [1, 2] {
        let sites = compile_all(&network(service([endpoint(pod_ip(k), Some(k))])));
        let mut fabric = fabric(&sites);
        let from = if k == 1 { 2 } else { 1 };
        for to in [(ip(VIP), 80), (ip(EXTERNAL), 80), (node_ip(1), NODE_PORT), (node_ip(2), NODE_PORT)] {
            fabric.forget_connections();
            let walk = fabric.from_pod(&key(from), first(pod_ip(from), to.0, to.1)).unwrap();
            delivered(&walk, k);
            assert_eq!(source(&walk.packet).0, pod_ip(from), "the endpoint sees the client");
            let back = fabric.from_pod(&key(k), walk.packet.reply()).unwrap();
            assert!(back.passed(), "{:#?}", steps(&back));
            assert_eq!(source(&back.packet), to, "the client is answered by what it asked");
            let again = fabric.from_pod(&key(from), first(pod_ip(from), to.0, to.1).later()).unwrap();
            delivered(&again, k);
        }
    }
}

#[test]
fn a_pod_reaches_itself_and_does_not_see_itself() {
    let sites = compile_all(&network(service([endpoint(pod_ip(1), Some(1))])));
    let mut fabric = fabric(&sites);
    let walk = fabric.from_pod(&key(1), first(pod_ip(1), ip(VIP), 80)).unwrap();
    delivered(&walk, 1);
    assert_eq!(source(&walk.packet).0, ip([10, 244, 1, 1]), "the gateway speaks for it");
    let back = fabric.from_pod(&key(1), walk.packet.reply()).unwrap();
    assert!(matches!(back.outcome, Outcome::Delivered { .. }), "{:#?}", steps(&back));
    assert_eq!((source(&back.packet), destination(&back.packet).0), ((ip(VIP), 80), pod_ip(1)));
}

#[test]
fn the_node_reaches_pods_there_its_own_stack_and_the_outside() {
    for (target, k) in [(pod_ip(1), 1), (pod_ip(2), 2)] {
        let sites = compile_all(&network(service([endpoint(target, Some(k))])));
        let mut fabric = fabric(&sites);
        let walk = fabric.from_node(&node_name(1), first(node_ip(1), ip(VIP), 80));
        delivered(&walk, k);
        assert_eq!(source(&walk.packet).0, node_ip(1));
        let back = fabric.from_pod(&key(k), walk.packet.reply()).unwrap();
        at_host(&back, 1);
        assert_eq!((source(&back.packet), destination(&back.packet).0), ((ip(VIP), 80), node_ip(1)));
    }
    // Its own stack, and somebody outside: the host must not see itself as the sender, or it would not answer this way.
    for target in [node_ip(1), ip([192, 0, 2, 77])] {
        let sites = compile_all(&network(service([endpoint(target, None)])));
        let mut fabric = fabric(&sites);
        let walk = fabric.from_node(&node_name(1), first(node_ip(1), ip(VIP), 80));
        at_host(&walk, 1);
        assert_eq!((source(&walk.packet).0, destination(&walk.packet)), (ip(HAIRPIN), (target, 8080)));
        let back = fabric.from_node(&node_name(1), walk.packet.reply());
        at_host(&back, 1);
        assert_eq!((source(&back.packet), destination(&back.packet).0), ((ip(VIP), 80), node_ip(1)));
    }
    // Another node's stack: masked, so that it answers through the tunnel.
    let sites = compile_all(&network(service([endpoint(node_ip(2), Some(2))])));
    let mut fabric = fabric(&sites);
    let walk = fabric.from_node(&node_name(1), first(node_ip(1), ip(VIP), 80));
    at_host(&walk, 2);
    assert_eq!(source(&walk.packet).0, ip([10, 244, 1, 1]));
    let back = fabric.from_node(&node_name(2), walk.packet.reply());
    at_host(&back, 1);
    assert_eq!((source(&back.packet), destination(&back.packet).0), ((ip(VIP), 80), node_ip(1)));
}

#[test]
fn the_outside_keeps_its_address_on_this_node_and_is_masked_towards_another() {
    for (k, seen) in [(1, ip(CLIENT)), (2, ip([10, 244, 1, 1]))] {
        let sites = compile_all(&network(service([endpoint(pod_ip(k), Some(k))])));
        let mut fabric = fabric(&sites);
        for to in [(ip(NODE_PORTS), NODE_PORT), (ip(EXTERNAL), 80)] {
            fabric.forget_connections();
            let walk = fabric.from_node(&node_name(1), first(ip(CLIENT), to.0, to.1));
            delivered(&walk, k);
            assert_eq!(source(&walk.packet).0, seen);
            let back = fabric.from_pod(&key(k), walk.packet.reply()).unwrap();
            at_host(&back, 1);
            assert_eq!((source(&back.packet), destination(&back.packet).0), (to, ip(CLIENT)));
        }
    }
}

#[test]
fn local_policies_look_at_this_node_only() {
    let mut local = service([endpoint(pod_ip(2), Some(2))]);
    local.external_policy = TrafficPolicy::Local;
    let sites = compile_all(&network(local.clone()));
    let mut there = fabric(&sites);
    assert!(!there.from_node(&node_name(1), first(ip(CLIENT), ip(EXTERNAL), 80)).passed());
    delivered(&there.from_node(&node_name(2), first(ip(CLIENT), ip(EXTERNAL), 80)), 2);
    // Who is inside reaches all.
    delivered(&there.from_pod(&key(1), first(pod_ip(1), ip(EXTERNAL), 80)).unwrap(), 2);
    delivered(&there.from_node(&node_name(1), first(node_ip(1), ip(EXTERNAL), 80)), 2);

    // Who asks another node for its port gets what that node has, and nothing from one that has none.
    let at = |k: u8| (node_ip(k), NODE_PORT);
    let mut ask =
        |from: u8, to: (IpAddr, u16)| there.from_pod(&key(from), first(pod_ip(from), to.0, to.1)).unwrap();
    let walk = ask(1, at(2));
    delivered(&walk, 2);
    assert_eq!(source(&walk.packet).0, pod_ip(1), "the endpoint sees the client");
    assert!(!ask(2, at(1)).passed());
    // Its own node is asked from inside.
    delivered(&ask(1, at(1)), 2);
    // Another node's own client comes over the underlay, as itself, and its reply goes back that way.
    let node_port = first(node_ip(1), ip(NODE_PORTS), NODE_PORT);
    let walk = there.from_node(&node_name(2), node_port);
    delivered(&walk, 2);
    assert_eq!(source(&walk.packet).0, node_ip(1), "the endpoint sees the node");
    let back = there.from_pod(&key(2), walk.packet.reply()).unwrap();
    at_host(&back, 2);
    assert_eq!(source(&back.packet), (ip(NODE_PORTS), NODE_PORT));
    assert!(!there.from_node(&node_name(1), first(node_ip(2), ip(NODE_PORTS), NODE_PORT)).passed());
    // To a pod itself, such a packet is a lie of the underlay's.
    assert!(!there.from_node(&node_name(2), first(node_ip(1), pod_ip(2), 8080)).passed());
    let given = |site: &Site| {
        let rule = |line: &&str| line.contains("other nodes' node ports");
        site.program.host.nftables.lines().find(rule).map(str::to_owned)
    };
    assert_eq!(given(&sites[0]), None, "the node's own clients ask other nodes themselves");
    let everywhere = compile_all(&network(service([endpoint(pod_ip(2), Some(2))])));
    let rule = given(&everywhere[0]).unwrap();
    assert!(rule.contains(&node_ip(2).to_string()) && !rule.contains(&node_ip(1).to_string()), "{rule}");
    // While an endpoint ends, it serves where no other is ready.
    let mut ending = local.clone();
    ending.ports[0].endpoints = [
        ServiceEndpoint { ready: false, terminating: true, ..endpoint(pod_ip(2), Some(2)) },
        endpoint(pod_ip(1), Some(1)),
    ]
    .into();
    let sites = compile_all(&network(ending.clone()));
    let mut while_ending = fabric(&sites);
    for (from, to, by) in [(1, 2, 2), (2, 1, 1), (1, 1, 1), (2, 2, 1)] {
        let (to, number) = at(to);
        delivered(&while_ending.from_pod(&key(from), first(pod_ip(from), to, number)).unwrap(), by);
    }
    // Nobody serves at all: the node that is asked refuses.
    let mut nobody = local.clone();
    nobody.ports[0].endpoints = Few::new();
    let sites = compile_all(&network(nobody));
    let walk = fabric(&sites).from_pod(&key(1), first(pod_ip(1), node_ip(2), NODE_PORT)).unwrap();
    at_host(&walk, 2);

    local.internal_policy = TrafficPolicy::Local;
    let sites = compile_all(&network(local));
    let mut inside = fabric(&sites);
    assert!(!inside.from_pod(&key(1), first(pod_ip(1), ip(VIP), 80)).unwrap().passed());
    delivered(&inside.from_pod(&key(2), first(pod_ip(2), ip(VIP), 80)).unwrap(), 2);
}

#[test]
fn source_ranges_guard_the_balancers_address_only() {
    let mut guarded = service([endpoint(pod_ip(1), Some(1))]);
    guarded.source_ranges = ["198.51.100.0/24".parse::<Cidr>().unwrap()].into();
    let sites = compile_all(&network(guarded));
    let mut fabric = fabric(&sites);
    delivered(&fabric.from_node(&node_name(1), first(ip(CLIENT), ip(EXTERNAL), 80)), 1);
    let stranger = ip([192, 0, 2, 5]);
    assert!(!fabric.from_node(&node_name(1), first(stranger, ip(EXTERNAL), 80)).passed());
    assert!(!fabric.from_pod(&key(2), first(pod_ip(2), ip(EXTERNAL), 80)).unwrap().passed());
    delivered(&fabric.from_node(&node_name(1), first(node_ip(1), ip(EXTERNAL), 80)), 1);
    delivered(&fabric.from_node(&node_name(1), first(stranger, ip(NODE_PORTS), NODE_PORT)), 1);
    delivered(&fabric.from_pod(&key(2), first(pod_ip(2), ip(VIP), 80)).unwrap(), 1);
}

#[test]
fn nobody_serves_so_the_host_refuses_and_its_answer_arrives() {
    let sites = compile_all(&network(service([])));
    let mut fabric = fabric(&sites);
    let asked = first(pod_ip(1), ip(VIP), 80);
    let walk = fabric.from_pod(&key(1), asked.clone()).unwrap();
    at_host(&walk, 1);
    assert_eq!(destination(&walk.packet), (ip(VIP), 80));
    let mut reset = walk.packet.reply();
    reset.set(Field::TCP_FLAGS, 0x014);
    let back = fabric.from_node(&node_name(1), reset.clone());
    assert!(matches!(back.outcome, Outcome::Delivered { .. }), "{:#?}", steps(&back));
    // Nothing but a reset passes that way.
    reset.set(Field::TCP_FLAGS, 0x012);
    let sites = compile_all(&isolated(network(service([])), 1));
    let mut closed = self::fabric(&sites);
    assert!(!closed.from_node(&node_name(1), reset).passed());
    assert!(sites[0].program.host.nftables.contains("10.96.0.10 . 80"), "{}", sites[0].program.host.nftables);
}

#[test]
fn a_node_port_over_udp_that_nobody_serves_is_refused_before_it_is_tracked() {
    let refused = |endpoints: Vec<ServiceEndpoint>| {
        let mut service = service(endpoints);
        service.ports[0].protocol = Protocol::Udp;
        let text = compile_all(&network(service)).remove(0).program.host.nftables.clone();
        let chain = text.split_once("chain refuse_here {").unwrap().1;
        chain.split_once("\n}").unwrap().0.contains(&format!("udp dport {{ {NODE_PORT} }}"))
    };
    assert!(refused(vec![]) && !refused(vec![endpoint(pod_ip(1), Some(1))]));
}

/// Nobody may speak to pod `k`.
fn isolated(mut network: Network, k: u8) -> Network {
    let labels = Labels::from([("node".to_owned(), k.to_string())]);
    let subject = network.intern(Selector::pods_in("ns", LabelSelector::from_labels(&labels)));
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "ns".into(), name: "closed".into() };
    let isolates = Isolation { ingress: true, egress: false };
    network.policies.insert(
        id.clone(),
        Policy {
            id,
            generation: 1,
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject,
            isolates,
            audit: false,
            rules: vec![],
        },
    );
    assert!(isolates.of(Direction::Ingress));
    network
}

#[test]
fn policy_judges_the_endpoint_and_an_unjudged_connection_opens_nothing() {
    for k in [1, 2] {
        let sites = compile_all(&isolated(network(service([endpoint(pod_ip(k), Some(k))])), k));
        let mut fabric = fabric(&sites);
        let from = if k == 1 { 2 } else { 1 };
        let asked = first(pod_ip(from), ip(VIP), 80);
        assert!(!fabric.from_pod(&key(from), asked.clone()).unwrap().passed());
        assert!(!fabric.from_pod(&key(from), asked.later()).unwrap().passed());
    }
    // Egress denies on the client's own node: the translation was committed there, and must not let "replies" in.
    let mut closed = network(service([endpoint(pod_ip(2), Some(2))]));
    let labels = Labels::from([("node".to_owned(), "1".to_owned())]);
    let subject = closed.intern(Selector::pods_in("ns", LabelSelector::from_labels(&labels)));
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "ns".into(), name: "closed".into() };
    let isolates = Isolation { ingress: true, egress: true };
    let (tier, rules) = (Tier::NetworkPolicy, vec![]);
    closed.policies.insert(
        id.clone(),
        Policy { id, generation: 1, tier, priority: 0, subject, isolates, audit: false, rules },
    );
    let sites = compile_all(&closed);
    let mut fabric = fabric(&sites);
    assert!(!fabric.from_pod(&key(1), first(pod_ip(1), ip(VIP), 80)).unwrap().passed());
    let lie = Packet::first(pod_ip(1), pod_ip(2), Protocol::Tcp, 8080).reply();
    let walk = fabric.from_pod(&key(2), lie).unwrap();
    assert!(!walk.passed(), "{:#?}", steps(&walk));
}

#[test]
fn a_client_keeps_its_endpoint_and_gets_another_when_it_is_gone() {
    let endpoints = |n: u8| (0..n).map(|i| endpoint(ip([192, 0, 2, 10 + i]), None));
    let mut kept = service(endpoints(40));
    kept.affinity_seconds = Some(60);
    let sites = compile_all(&network(kept));
    let mut fabric = fabric(&sites);
    let ask = |fabric: &mut Fabric<'_>, source_port: u16| {
        let mut packet = first(pod_ip(1), ip(VIP), 80);
        packet.set(Field::TCP_SRC, source_port.into());
        let walk = fabric.from_pod(&key(1), packet).unwrap();
        at_host(&walk, 1);
        destination(&walk.packet).0
    };
    let chosen = ask(&mut fabric, 40_000);
    assert!((40_001..40_020).all(|port| ask(&mut fabric, port) == chosen));

    let mut without = service(endpoints(40).filter(|e| !e.addresses.contains(&chosen)));
    without.affinity_seconds = Some(60);
    let sites = compile_all(&network(without));
    let mut after = self::fabric(&sites);
    after.inherit_connections(&fabric);
    let other = ask(&mut after, 41_000);
    assert_ne!(other, chosen);
    assert!((41_001..41_020).all(|port| ask(&mut after, port) == other));

    let spread = service(endpoints(40));
    let sites = compile_all(&network(spread));
    let mut free = self::fabric(&sites);
    let used: BTreeSet<IpAddr> = (42_000..42_400).map(|port| ask(&mut free, port)).collect();
    assert_eq!(used.len(), 40, "without affinity every endpoint is used");
}

#[test]
fn somebody_elses_services_are_left_alone() {
    let network = network(service([endpoint(pod_ip(1), Some(1))]));
    let view = network::NodeView::of(&network, &node_name(1));
    let mut config = compiler::NodeConfig::new(node_name(1), compiler::Datapath::System, 1500);
    config.services = false;
    let program = compiler::compile(&view, &config, &[]);
    let mine = |owner: &compiler::Owner| matches!(owner, compiler::Owner::Service(_));
    assert!(!program.reasons.values().any(|reason| reason.owners.iter().any(mine)));
    assert!(!program.host.nftables.contains("counter dnat"));
    assert!(program.host.routes.iter().all(|route| !route.destination.contains(ip(VIP))));
}

#[test]
fn more_endpoints_than_can_be_counted_to_are_cut_off() {
    let nth = |k: u32| endpoint(IpAddr::from((u32::from_be_bytes([11, 0, 0, 0]) + k).to_be_bytes()), None);
    let mut one_node = network(service((0..65_540).map(nth)));
    one_node.nodes.remove(&node_name(2));
    one_node.pods.remove(&key(2));
    let port = &mut one_node.services.values_mut().next().unwrap().ports[0];
    port.node_port = None;
    let sites = compile_all(&one_node);
    let chosen = sites[0].program.flows.keys().filter(|key| key.table == compiler::Table::EndpointSelect);
    // Beside one flow for each: the client keeps its endpoint, and no endpoint of this index.
    assert_eq!(chosen.count(), 65_536 + 2);
}
