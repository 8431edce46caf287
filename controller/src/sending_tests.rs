//! What is sent when something changes: what concerns the node, and of an address set no more than what changed.

use super::*;
use api::stream::ResourceId;
use prost::Message;

#[test]
fn an_agent_gets_its_view_and_later_only_what_concerns_it() {
    let mut world = World::new();
    world.network(shop());
    let (mut one, mut two) = (world.connect(1), world.connect(2));
    world.takes(&mut one);
    world.takes(&mut two);
    assert_eq!(one.view, NodeView::of(&world.state.network(), &name(1)));
    assert_eq!(two.view, NodeView::of(&world.state.network(), &name(2)));
    assert!(one.view.policies.is_empty() && one.view.sets.is_empty(), "the span of node-1 is small");

    // The policy selects a pod of node-2 only.
    let mut network = shop();
    network.policies.values_mut().for_each(|policy| policy.generation = 2);
    world.network(network);
    assert_eq!(world.takes(&mut two), ["NetworkPolicy shop/db"]);
    assert!(one.queue.try_recv().is_err());

    // A node that leaves concerns everybody.
    let mut network = shop();
    network.nodes.remove(&name(3));
    network.policies.values_mut().for_each(|policy| policy.generation = 2);
    world.network(network);
    assert_eq!(world.takes(&mut one), ["Node node-3"]);
    assert_eq!(world.takes(&mut two), ["Node node-3"]);
}

/// A Service with so many endpoints.
fn served(endpoints: u8) -> Network {
    let endpoint = |k: u8| network::ServiceEndpoint::new([[10, 244, 1, k].into()], 80);
    let key = NamespacedName::new("shop", "web");
    let service = network::Service {
        created: Some(1),
        cluster_ips: [[10, 96, 0, 1].into()].into(),
        ports: vec![network::ServicePort::new(network::Protocol::Tcp, 80, (1..=endpoints).map(endpoint))],
        ..network::Service::new(key.clone())
    };
    let mut network = shop();
    network.services.insert(key, service);
    network
}

#[test]
fn an_endpoint_that_flaps_is_sent_as_often_as_the_agent_answers() {
    let mut world = World::new();
    world.network(served(20));
    let mut one = world.connect(1);
    world.takes(&mut one);
    for k in 0..100 {
        world.network(served(if k % 2 == 0 { 19 } else { 21 }));
    }
    let waiting: Vec<wire::Delta> = std::iter::from_fn(|| one.receive()).collect();
    assert_eq!(waiting.len(), WINDOW);
    for delta in &waiting {
        assert_eq!(one.apply(delta), ["Service shop/web"]);
    }
    world.says(&one, Said::Answer { nonce: waiting[WINDOW - 1].nonce, rejected: vec![] });
    // A hundred changes and one answer: at most one delta more, and it leads to the end of them.
    let after: Vec<wire::Delta> = std::iter::from_fn(|| one.receive()).collect();
    assert!(after.len() <= 1, "{} deltas", after.len());
    after.iter().for_each(|delta| drop(one.apply(delta)));
    assert_eq!(one.view, NodeView::of(&world.state.network(), &name(1)));
}

/// So many pods `web` on node-1, all with addresses, which `db` on node-2 admits.
fn crowd(members: u16) -> Network {
    let mut network = shop();
    for k in 0..members {
        let mut one = pod(&format!("web-{k}"), 1);
        one.labels = network::Labels::from([("app".to_owned(), "web".to_owned())]).into();
        one.addresses = vec![std::net::Ipv4Addr::from(0x0a64_0000 + u32::from(k)).into()];
        network.pods.insert(one.key.clone(), one);
    }
    network
}

fn bodies(delta: &wire::Delta) -> Vec<wire::resource::Body> {
    delta::bodies(delta).filter_map(|resource| resource.body).collect()
}

fn holds(peer: &Peer) -> usize {
    peer.view.sets.values().next().unwrap().members.len()
}

#[test]
fn a_member_more_is_one_member_on_the_wire() {
    let mut world = World::new();
    world.network(crowd(1_000));
    let mut two = world.connect(2);
    world.takes(&mut two);
    world.network(crowd(1_001));
    let delta = two.receive().unwrap();
    let [wire::resource::Body::AddressSetChange(change)] = &bodies(&delta)[..] else { panic!("{delta:?}") };
    assert_eq!((change.added.len(), change.removed.len()), (1, 0));
    // The members alone are 6,000 bytes.
    assert!(delta.encoded_len() < 200, "{} bytes", delta.encoded_len());
    two.apply(&delta);
    assert_eq!(holds(&two), 1_001);

    // Without an answer nothing more than the window is sent; what follows leads from what was sent to the newest state.
    for members in 1_002..=1_010 {
        world.network(crowd(members));
    }
    let mut messages = 1;
    let mut nonce = delta.nonce;
    while let Some(delta) = two.receive() {
        assert!(delta.encoded_len() < 300, "{} bytes", delta.encoded_len());
        two.apply(&delta);
        (nonce, messages) = (delta.nonce, messages + 1);
    }
    assert_eq!((messages, holds(&two)), (WINDOW, 1_004));
    world.says(&two, Said::Answer { nonce, rejected: vec![] });
    let delta = two.receive().unwrap();
    assert!(delta.encoded_len() < 300, "{} bytes", delta.encoded_len());
    two.apply(&delta);
    assert_eq!(two.view, NodeView::of(&world.state.network(), &name(2)));
}

#[test]
fn who_does_not_know_changes_or_could_not_apply_one_gets_the_set_whole() {
    let mut world = World::new();
    world.network(crowd(100));
    let mut two = world.connect(2);
    world.takes(&mut two);
    world.network(crowd(101));
    let change = two.receive().unwrap();
    let [wire::resource::Body::AddressSetChange(_)] = &bodies(&change)[..] else { panic!("{change:?}") };
    let id = ResourceId::AddressSet(*two.view.sets.keys().next().unwrap());
    let rejected = vec![Rejection { id: Some(id), reason: "another set is held".into() }];
    world.says(&two, Said::Answer { nonce: change.nonce, rejected: rejected.clone() });
    let whole = two.receive().unwrap();
    let [wire::resource::Body::AddressSet(set)] = &bodies(&whole)[..] else { panic!("{whole:?}") };
    assert_eq!(set.members.len(), 101);
    // Whole, and refused still: that is not mended by sending it for ever.
    world.says(&two, Said::Answer { nonce: whole.nonce, rejected });
    assert!(two.receive().is_none());

    let hello = Hello { known: delta::versions(&two.view), ..Hello::default() };
    let (out, mut queue) = mpsc::channel(QUEUE);
    world.state.attach(&name(2), Link { session: SessionId(u64::MAX), out }, hello);
    world.state.settle(world.now);
    let message = queue.try_recv().unwrap().unwrap().body;
    let Some(wire::from_controller::Body::Delta(delta)) = message else { panic!("{message:?}") };
    assert!(matches!(&bodies(&delta)[..], [wire::resource::Body::AddressSet(_)]), "{delta:?}");
}
