//! Every view survives the wire, and nothing on the wire is a panic.

use std::collections::BTreeMap;

use network::{Labels, NodeView, Service, ServiceEndpoint, ServiceKind, ServicePort, TrafficPolicy};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::delta::{self, Applied};

fn name() -> impl Strategy<Value = String> {
    "[a-c][a-z0-9.-]{0,3}"
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn cidr() -> impl Strategy<Value = Cidr> {
    (address(), 0..=32u8).prop_map(|(address, length)| Cidr::new(address, length).unwrap())
}

fn set_id() -> impl Strategy<Value = SetId> {
    prop_oneof![(0..4u128).prop_map(SetId), any::<u128>().prop_map(SetId)]
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(name(), "[a-z]{0,4}", 0..3)
}

fn node() -> impl Strategy<Value = Node> {
    (name(), labels(), vec(address(), 0..3), vec(cidr(), 0..3)).prop_map(
        |(name, labels, addresses, pod_cidrs)| {
            let external = Vec::new();
            Node { name: NodeName::new(name), labels, addresses, pod_cidrs, external }
        },
    )
}

fn pod() -> impl Strategy<Value = LocalPod> {
    (name(), name(), "[a-f0-9-]{0,6}", vec(address(), 0..3), btree_set(set_id(), 0..4)).prop_map(
        |(namespace, name, uid, addresses, member_of)| LocalPod {
            key: NamespacedName::new(namespace, name),
            uid,
            addresses,
            member_of,
        },
    )
}

fn set() -> impl Strategy<Value = AddressSet> {
    (set_id(), btree_set(address(), 0..5)).prop_map(|(id, members)| AddressSet { id, members })
}

fn ports() -> impl Strategy<Value = PortRange> {
    (0..3usize, any::<u16>(), any::<u16>()).prop_map(|(protocol, a, b)| PortRange {
        protocol: Protocol::ALL[protocol],
        first: a.min(b),
        last: a.max(b),
    })
}

fn peers() -> impl Strategy<Value = PeerMatch> {
    let block = (cidr(), btree_set(cidr(), 0..3)).prop_map(|(cidr, except)| IpBlock { cidr, except });
    let some = (btree_set(set_id(), 0..3), btree_set(block, 0..3))
        .prop_map(|(sets, blocks)| PeerMatch::Some { sets: sets.into(), blocks });
    prop_oneof![Just(PeerMatch::Any), some]
}

fn rule() -> impl Strategy<Value = ViewRule> {
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    let action = prop_oneof![Just(Action::Accept), Just(Action::Deny), Just(Action::Pass)];
    let ports = proptest::option::of(btree_set(ports(), 0..3));
    (any::<u32>(), direction, action, set_id(), peers(), ports).prop_map(
        |(index, direction, action, subject, peers, ports)| ViewRule {
            index,
            direction,
            action,
            subject,
            peers,
            ports,
        },
    )
}

fn policy() -> impl Strategy<Value = ViewPolicy> {
    let kind = prop_oneof![
        name().prop_map(|namespace| (PolicyKind::NetworkPolicy, namespace)),
        Just((PolicyKind::ClusterNetworkPolicy, String::new())),
    ];
    let tier = prop_oneof![Just(Tier::Admin), Just(Tier::NetworkPolicy), Just(Tier::Baseline)];
    let isolates = any::<(bool, bool)>().prop_map(|(ingress, egress)| Isolation { ingress, egress });
    (kind, name(), any::<u64>(), tier, any::<u32>(), set_id(), isolates, vec(rule(), 0..4)).prop_map(
        |((kind, namespace), name, generation, tier, priority, subject, isolates, rules)| ViewPolicy {
            id: PolicyId { kind, namespace, name },
            generation,
            tier,
            priority,
            subject,
            isolates,
            audit: generation % 2 == 1,
            rules,
        },
    )
}

fn endpoint() -> impl Strategy<Value = ServiceEndpoint> {
    let hints = (btree_set(name(), 0..2), btree_set(name().prop_map(NodeName::new), 0..2));
    let pod = proptest::option::of((name(), name()));
    let node = proptest::option::of(name().prop_map(NodeName::new));
    (pod, btree_set(address(), 0..3), 1..=u16::MAX, node, any::<[bool; 3]>(), hints).prop_map(
        |(pod, addresses, port, node, [ready, serving, terminating], (for_zones, for_nodes))| {
            ServiceEndpoint {
                pod: pod.map(|(namespace, name)| NamespacedName::new(namespace, name)),
                addresses: addresses.into(),
                port,
                node,
                ready,
                serving,
                terminating,
                for_zones: for_zones.into_iter().collect(),
                for_nodes: for_nodes.into_iter().collect(),
            }
        },
    )
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    let (named, at_nodes) = (proptest::option::of(name()), proptest::option::of(1..=u16::MAX));
    (named, 0..3usize, 1..=u16::MAX, at_nodes, btree_set(endpoint(), 0..3)).prop_map(
        |(name, protocol, port, node_port, endpoints)| {
            let protocol = Protocol::ALL[protocol];
            ServicePort { name, protocol, port, node_port, endpoints: endpoints.into() }
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let kind = prop_oneof![
        Just(ServiceKind::ClusterIp),
        Just(ServiceKind::NodePort),
        Just(ServiceKind::LoadBalancer)
    ];
    let policy = || prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)];
    let addresses = || btree_set(address(), 0..3);
    let seconds = proptest::option::of(1..=86_400u32);
    let health = proptest::option::of(1..=u16::MAX);
    let created = proptest::option::of(0..u64::MAX);
    (
        (name(), name(), kind, created),
        (addresses(), addresses(), addresses(), btree_set(cidr(), 0..3)),
        (vec(service_port(), 0..3), seconds, policy(), policy(), health),
    )
        .prop_map(
            |((namespace, name, kind, created), (cluster_ips, external_ips, balancer, ranges), rest)| {
                let (ports, affinity_seconds, internal_policy, external_policy, health_check_node_port) =
                    rest;
                Service {
                    key: NamespacedName::new(namespace, name),
                    created,
                    kind,
                    cluster_ips,
                    external_ips,
                    load_balancer_ips: balancer,
                    source_ranges: ranges,
                    ports,
                    affinity_seconds,
                    internal_policy,
                    external_policy,
                    health_check_node_port,
                    backing: None,
                }
            },
        )
}

fn view() -> impl Strategy<Value = NodeView> {
    (vec(node(), 0..4), vec(pod(), 0..4), vec(set(), 0..4), vec(policy(), 0..4), vec(service(), 0..3))
        .prop_map(|(nodes, pods, sets, policies, services)| NodeView {
            services: services
                .into_iter()
                .map(|service| (service.key.clone(), std::sync::Arc::new(service)))
                .collect(),
            nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
            pods: pods.into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
            sets: sets.into_iter().map(|set| (set.id, set)).collect(),
            policies: policies.into_iter().map(|policy| (policy.id.clone(), policy)).collect(),
        })
}

/// Over the wire and back.
fn sent(delta: &wire::Delta) -> wire::Delta {
    wire::Delta::decode(delta.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn a_delta_leads_from_any_view_to_any_other(a in view(), b in view()) {
        let delta = delta::delta(&delta::versions(&a), &delta::resources(&b));
        let mut reached = a.clone();
        let applied = delta::apply(&mut reached, &sent(&delta));
        prop_assert_eq!(&reached, &b);
        prop_assert_eq!(applied.rejected, vec![]);
        prop_assert_eq!(applied.changed.len(), delta.changed.len() + delta.removed.len());
        // Nothing is lacking any more, and equal views have equal versions.
        prop_assert_eq!(delta::delta(&delta::versions(&reached), &delta::resources(&b)), wire::Delta::default());
    }

    #[test]
    fn a_second_application_changes_nothing(a in view()) {
        let delta = delta::delta(&BTreeMap::new(), &delta::resources(&a));
        let mut reached = NodeView::default();
        delta::apply(&mut reached, &delta);
        prop_assert_eq!(delta::apply(&mut reached, &delta), Applied::default());
        prop_assert_eq!(reached, a);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_a_value_but_never_a_panic(
        a in view(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = delta::delta(&BTreeMap::new(), &delta::resources(&a)).encode_to_vec();
        if !bytes.is_empty() {
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut.index(bytes.len()).min(3));
        }
        if let Ok(delta) = wire::Delta::decode(bytes.as_slice()) {
            let mut reached = NodeView::default();
            let applied = delta::apply(&mut reached, &delta);
            // Whatever was taken is a view like any other.
            prop_assert!(applied.rejected.len() <= delta.changed.len() + delta.removed.len());
            let mut copy = NodeView::default();
            delta::apply(&mut copy, &delta::delta(&BTreeMap::new(), &delta::resources(&reached)));
            prop_assert_eq!(copy, reached);
        }
    }

    #[test]
    fn ids_read_back(a in view()) {
        for id in delta::versions(&a).into_keys() {
            prop_assert_eq!(decode_id(&encode_id(&id)), Ok(id));
        }
    }

    #[test]
    fn bindings_read_back(ns in name(), name in name(), uid in "[a-f0-9]{0,4}", addresses in vec(address(), 0..3)) {
        let binding = Binding { pod: NamespacedName::new(ns, name), uid, addresses, interface: "fe0".into() };
        prop_assert_eq!(decode_binding(&encode_binding(&binding)), Ok(binding));
    }
}

fn sample_policy() -> wire::Policy {
    let rule = ViewRule {
        index: 0,
        direction: Direction::Ingress,
        action: Action::Accept,
        subject: SetId(1),
        peers: PeerMatch::Some {
            sets: [SetId(2)].into(),
            blocks: [IpBlock {
                cidr: "10.0.0.0/8".parse().unwrap(),
                except: ["10.1.0.0/16".parse().unwrap()].into(),
            }]
            .into(),
        },
        ports: Some([PortRange::single(Protocol::Tcp, 80)].into()),
    };
    let policy = ViewPolicy {
        id: PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "shop".into(), name: "cart".into() },
        generation: 3,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: SetId(1),
        isolates: Isolation { ingress: true, egress: false },
        audit: true,
        rules: vec![rule],
    };
    let wire::resource::Body::Policy(policy) = encode_policy(&policy) else { unreachable!() };
    policy
}

fn resource(kind: wire::ResourceKind, name: &str, body: wire::resource::Body) -> wire::Resource {
    let id = Some(wire::ResourceId { kind: kind.into(), name: name.into() });
    wire::Resource { id, version: 1, body: Some(body) }
}

/// How one step away from a good policy is refused.
fn refused(spoil: impl FnOnce(&mut wire::Policy)) -> String {
    let mut policy = sample_policy();
    spoil(&mut policy);
    let body = wire::resource::Body::Policy(policy);
    decode_resource(&resource(wire::ResourceKind::Policy, "NetworkPolicy/shop/cart", body))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_malformed_policy_is_refused_by_resource_and_field() {
    let cases = [
        (refused(|p| p.tier = 9), "NetworkPolicy shop/cart: field policy.tier: 9 is not known here"),
        (refused(|p| p.kind = 0), "NetworkPolicy shop/cart: field policy.kind: 0 is not known here"),
        (
            refused(|p| p.subject = vec![1]),
            "NetworkPolicy shop/cart: field policy.subject: the id of an address set has 16 bytes, not 1",
        ),
        (
            refused(|p| p.rules[0].any_peer = true),
            "NetworkPolicy shop/cart: field policy.rules[0].any_peer: stands beside sets or blocks",
        ),
        (
            refused(|p| p.rules[0].any_port = true),
            "NetworkPolicy shop/cart: field policy.rules[0].any_port: stands beside ports",
        ),
        (
            refused(|p| p.rules[0].blocks[0].cidr = None),
            "NetworkPolicy shop/cart: field policy.rules[0].blocks[0].cidr: is missing",
        ),
        (
            refused(|p| p.rules[0].blocks[0].except[0].length = 8),
            "NetworkPolicy shop/cart: field policy.rules[0].blocks[0].except[0].address: 10.1.0.0 has bits beyond its \
             length of 8",
        ),
        (
            refused(|p| p.rules[0].ports[0].last = 70_000),
            "NetworkPolicy shop/cart: field policy.rules[0].ports[0].last: 70000 is no port: at most 65535",
        ),
        (
            refused(|p| p.rules[0].ports[0].protocol = 1),
            "NetworkPolicy shop/cart: field policy.rules[0].ports[0].protocol: 1 is not TCP, UDP or SCTP",
        ),
        (
            refused(|p| p.rules[0].ports[0].last = 1),
            "NetworkPolicy shop/cart: field policy.rules[0].ports[0].last: 1 is below the first, 80",
        ),
        (
            refused(|p| p.name = "other".into()),
            "NetworkPolicy shop/cart: field policy: is of NetworkPolicy shop/other, another than the id names",
        ),
    ];
    for (got, wanted) in cases {
        assert_eq!(got, wanted);
    }
}

#[test]
fn ids_and_bodies_that_do_not_belong_together_are_refused() {
    let set = || wire::resource::Body::AddressSet(wire::AddressSet { members: vec![vec![1, 2, 3]] });
    let error = |kind, name: &str| decode_resource(&resource(kind, name, set())).unwrap_err().to_string();
    assert_eq!(
        error(wire::ResourceKind::Node, "node-1"),
        "Node node-1: field body: is of another kind than the id"
    );
    assert_eq!(
        error(wire::ResourceKind::AddressSet, &SetId(5).to_string()),
        format!("AddressSet {}: field address_set.members[0]: an address has 4 or 16 bytes, not 3", SetId(5))
    );
    for bad in ["", "5", "0000000000000000000000000000000A"] {
        assert!(error(wire::ResourceKind::AddressSet, bad).contains("field id.name"), "{bad}");
    }
    for bad in ["", "NetworkPolicy/a", "NetworkPolicy/a/", "Other/a/b", "NetworkPolicy/a/b/c"] {
        assert!(error(wire::ResourceKind::Policy, bad).contains("field id.name"), "{bad}");
    }
    assert!(error(wire::ResourceKind::Unspecified, "x").contains("field id.kind"));
    assert!(
        decode_resource(&wire::Resource::default()).unwrap_err().to_string().contains("field id: is missing")
    );
}

#[test]
fn what_is_new_comes_in_one_piece_to_those_who_take_it() {
    let node = |k: u8| Node {
        name: NodeName::new(format!("node-{k}")),
        labels: Labels::new(),
        addresses: vec![[192, 0, 2, k].into()],
        pod_cidrs: vec![],
        ..Node::default()
    };
    let named = |nodes: std::ops::Range<u8>| NodeView {
        nodes: nodes.map(node).map(|node| (node.name.clone(), node)).collect(),
        ..NodeView::default()
    };
    let (whole, shared) = (named(0..100), delta::resources(&named(0..100)));
    let lacks = |known: &delta::Versions, bundles| delta::delta_where(known, &shared, bundles, |_| false);
    let nothing = delta::Versions::new();
    assert_eq!(lacks(&nothing, false).delta.changed.len(), 100);
    let bundled = lacks(&nothing, true);
    assert_eq!((bundled.resources, bundled.delta.bundles.len(), bundled.delta.changed.len()), (100, 1, 0));
    // What everybody is sent is encoded once.
    assert_eq!(bundled.delta.bundles[0].as_ptr(), lacks(&nothing, true).delta.bundles[0].as_ptr());
    let mut view = NodeView::default();
    let sent = sent(&bundled.delta);
    assert_eq!(delta::apply(&mut view, &sent).changed, delta::named(&sent).collect());
    assert_eq!(view, whole);
    assert_eq!(delta::changed_versions(&sent).collect::<delta::Versions>(), shared.versions());

    // Who has some of it gets the rest, and hears what is gone.
    let some = lacks(&delta::versions(&named(90..110)), true);
    assert_eq!((some.delta.bundles.len(), some.delta.changed.len(), some.delta.removed.len()), (0, 90, 10));

    let torn = wire::Delta { bundles: vec![sent.bundles[0].slice(..50)], ..wire::Delta::default() };
    let applied = delta::apply(&mut view, &torn);
    assert_eq!((applied.changed.len(), applied.rejected.len(), &view), (0, 1, &whole));
    assert!(applied.rejected[0].reason.contains("is no resource"), "{applied:?}");
}

#[test]
fn what_is_malformed_is_rejected_for_itself_and_the_rest_is_applied() {
    let node = Node {
        name: NodeName::new("node-1"),
        labels: Labels::new(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        pod_cidrs: vec![],
        ..Node::default()
    };
    let mut policy = sample_policy();
    policy.rules[0].action = 0;
    let policy = wire::resource::Body::Policy(policy);
    let nowhere = wire::ResourceId { kind: wire::ResourceKind::Node.into(), name: "node-2".into() };
    let delta = wire::Delta {
        changed: vec![
            resource(wire::ResourceKind::Policy, "NetworkPolicy/shop/cart", policy).encode_to_vec().into(),
            resource(wire::ResourceKind::Node, "node-1", encode_node(&node)).encode_to_vec().into(),
            // An id and a version, then a body of another kind of field.
            [wire::ResourceVersion { id: Some(nowhere.clone()), version: 1 }.encode_to_vec(), vec![0x20, 1]]
                .concat()
                .into(),
        ],
        removed: vec![wire::ResourceId { kind: 77, name: "x".into() }],
        ..wire::Delta::default()
    };
    let mut view = NodeView::default();
    let applied = delta::apply(&mut view, &delta);
    assert_eq!(view.nodes[&node.name], node);
    assert_eq!(applied.changed, [ResourceId::Node(node.name.clone())].into());
    let rejected: Vec<_> =
        applied.rejected.iter().map(|r| (r.id.as_ref().map(ToString::to_string), &r.reason)).collect();
    assert_eq!(rejected.len(), 3);
    assert_eq!(rejected[2].0.as_deref(), Some("Node node-2"));
    assert!(rejected[2].1.contains("is no resource"), "{rejected:?}");
    assert_eq!(rejected[0].0, None);
    assert_eq!(rejected[1].0.as_deref(), Some("NetworkPolicy shop/cart"));
    assert!(rejected[1].1.contains("policy.rules[0].action"), "{rejected:?}");
    // On its way to the controller a rejection keeps its resource.
    assert_eq!(decode_rejection(&encode_rejection(&applied.rejected[1])), applied.rejected[1]);
}

#[test]
fn versions_are_the_same_everywhere_and_for_ever() {
    // Two programs of different builds must agree, or every reconnect sends everything.
    let node = Node {
        name: NodeName::new("node-1"),
        labels: Labels::from([("b".into(), "2".into()), ("a".into(), "1".into())]),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        ..Node::default()
    };
    let view = NodeView { nodes: [(node.name.clone(), node)].into(), ..NodeView::default() };
    let versions: Vec<_> =
        delta::versions(&view).into_values().map(|version| format!("{version:?}")).collect();
    assert_eq!(versions, ["Version(2ddc838fb6869553)"]);
}

#[test]
fn a_watermark_reads_back_and_none_contains_nothing() {
    let watermark =
        Watermark { epoch: crate::watermark::Epoch(9), revisions: [("manifests".into(), 4)].into() };
    assert_eq!(decode_watermark(Some(&encode_watermark(&watermark))), Ok(watermark));
    assert_eq!(decode_watermark(None), Ok(Watermark::default()));
    assert_eq!(decode_watermark(Some(&wire::Watermark::default())), Ok(Watermark::default()));
    let odd = wire::Watermark { epoch: "x".into(), ..wire::Watermark::default() };
    assert_eq!(decode_watermark(Some(&odd)).unwrap_err().field, "epoch");
}
