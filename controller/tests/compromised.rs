//! What a node that somebody took over can read and report, over the real stream, and what rotation leaves undisturbed.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use api::generated::ferrule::v1alpha1 as wire;
use api::stream::{Binding, SERVER_NAME};
use api::{client, convert};
use controller::run::Controller;
use controller::tls::{LOOK, ServerIdentity};
use network::NamespacedName;
use tonic::Code;
use world::{Agent, TOKENS, World, policy, web};

async fn problems(world: &World, part: &str) -> String {
    let told = async {
        loop {
            let (_, problems) = world.get("/v1alpha1/problems").await;
            if problems.to_string().contains(part) {
                return problems.to_string();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect(part)
}

async fn both(world: &World) -> (Controller, Agent, Agent) {
    let controller = world.start().await;
    let mut one = world.dial(&controller, 1, TOKENS[1]).await.unwrap();
    let mut two = world.dial(&controller, 2, TOKENS[2]).await.unwrap();
    one.take(vec![]).await;
    two.take(vec![]).await;
    (controller, one, two)
}

#[tokio::test]
async fn a_node_reads_its_span_and_nothing_else() {
    let world = World::new();
    let (controller, mut one, _two) = both(&world).await;
    // Nothing of the other node's pods, policies and sets; nodes are everybody's.
    let pods: Vec<String> = one.view.pods.keys().map(ToString::to_string).collect();
    assert_eq!((pods, one.view.policies.len(), one.view.sets.len()), (vec!["shop/web".to_owned()], 0, 0));

    // What it claims to hold, or to lead and be led by, gives it nothing more.
    let id = |kind: wire::ResourceKind, name: &str| wire::ResourceId { kind: kind.into(), name: name.into() };
    let probes = [
        id(wire::ResourceKind::Policy, "NetworkPolicy/shop/db"),
        id(wire::ResourceKind::LocalPod, "shop/db"),
        id(wire::ResourceKind::Policy, "NetworkPolicy/shop/none"),
    ];
    let known = probes.iter().map(|id| wire::ResourceVersion { id: Some(id.clone()), version: 1 });
    let stand_by = wire::StandBy { known: known.collect(), ..wire::StandBy::default() };
    one.say(wire::from_agent::Body::StandBy(stand_by)).await;
    one.say(wire::from_agent::Body::Lead(wire::Lead { term: 1, holding: None })).await;
    let Some(wire::from_controller::Body::Delta(delta)) = one.hear().await.unwrap() else {
        panic!("no delta")
    };
    let changed: BTreeSet<i32> = api::delta::bodies(&delta).filter_map(|it| Some(it.id?.kind)).collect();
    let own = [wire::ResourceKind::Node, wire::ResourceKind::LocalPod].map(i32::from);
    assert_eq!(changed, BTreeSet::from(own));
    // What exists elsewhere and what does not are told apart by nothing.
    assert_eq!(delta.removed.len(), probes.len());
    controller.stop().await;
}

#[tokio::test]
async fn a_node_reports_its_own_pods_at_its_own_addresses_and_nothing_else() {
    let world = World::new();
    let (controller, one, mut two) = both(&world).await;
    let lie = |name: &str, address: &str| Binding {
        pod: NamespacedName::new("shop", name),
        uid: format!("uid-{name}"),
        addresses: vec![address.parse().unwrap()],
        ..web()
    };
    for (revision, binding, why) in [
        (1, lie("db", "10.244.1.9"), "bound to node node-2"),
        (2, lie("web", "10.244.2.9"), "none of the node's pod ranges"),
        (3, lie("web", "192.0.2.2"), "none of the node's pod ranges"),
        (4, lie("web", "10.244.1.1"), "the node's own address"),
    ] {
        one.binds(binding, revision).await;
        problems(&world, why).await;
    }
    let huge = wire::Binding { uid: "u".repeat(1 << 20), ..convert::encode_binding(&web()) };
    let bindings = wire::Bindings { bound: vec![huge], released: vec![], revision: 5 };
    one.say(wire::from_agent::Body::Bindings(bindings)).await;
    assert!(problems(&world, "longer than any can be").await.len() < 10_000);
    // Nobody was told any of it: the first thing that the other node hears is the truth.
    one.binds(web(), 6).await;
    let heard = two.take(vec![]).await;
    assert!(heard.len() == 1 && heard[0].starts_with("AddressSet"), "{heard:?}");
    assert!(two.view.sets.values().any(|set| set.members.contains(&web().addresses[0])));
    controller.stop().await;
}

#[tokio::test]
async fn a_flood_from_one_node_does_not_keep_another_waiting() {
    let world = World::new();
    let (controller, one, mut two) = both(&world).await;
    let flood = tokio::spawn(async move {
        for revision in 1..100_000_u64 {
            one.binds(web(), revision).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    for port in 7000..7003 {
        world.write("policy.yaml", &policy(port));
        loop {
            // Of the flood it hears at most the one address.
            if two.take(vec![]).await.contains(&"NetworkPolicy shop/db".to_owned()) {
                break;
            }
        }
    }
    assert!(!flood.is_finished(), "who floods is made to wait");
    flood.abort();
    let (_, metrics) = world.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("ferrule_controller_messages_slowed_total"), "{metrics}");
    controller.stop().await;
}

#[tokio::test]
async fn a_token_that_was_replaced_is_worth_nothing_and_its_stream_goes_on() {
    let world = World::new();
    let (controller, mut one, _two) = both(&world).await;
    std::fs::write(world.path("tokens/node-1"), "another-token-of-node-1").unwrap();
    let refused = world.dial(&controller, 1, TOKENS[1]).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("no node's"), "{refused:?}");
    one.binds(web(), 7).await;
    assert_eq!(one.take(vec![]).await, ["Pod shop/web"]);
    // The same node with its new token takes the place of the old stream.
    let mut again = world.dial(&controller, 1, "another-token-of-node-1").await.unwrap();
    again.take(vec![]).await;
    assert_eq!(one.hear().await.unwrap_err().code(), Code::Aborted);
    controller.stop().await;
}

#[tokio::test]
async fn the_authority_is_replaced_and_no_stream_is_dropped() {
    let world = World::new();
    let (controller, mut one, _two) = both(&world).await;
    let old = std::fs::read(world.path("tls/ca.crt")).unwrap();
    // A new authority: first both certificates for the agents, then its key for the controller.
    let next = tempfile::tempdir().unwrap();
    ServerIdentity::prepare(next.path(), &[], &[]).unwrap();
    let new = std::fs::read(next.path().join("ca.crt")).unwrap();
    std::fs::write(world.path("tls/ca.crt"), [old.clone(), new.clone()].concat()).unwrap();
    std::fs::copy(next.path().join("ca.key"), world.path("tls/ca.key")).unwrap();
    let connects = async |authority: &[u8]| {
        let address = controller.addresses()[0].to_string();
        client::endpoint(&address, authority, SERVER_NAME).unwrap().connect().await.is_ok()
    };
    let served = async {
        while !connects(&new).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LOOK * 4, served).await.expect("the new authority's certificate is served");
    // Who trusts the old one alone no longer connects; who reads both, or the new one, does; who was connected stays.
    assert!(!connects(&old).await);
    world.dial(&controller, 2, TOKENS[2]).await.unwrap();
    one.binds(web(), 7).await;
    assert_eq!(one.take(vec![]).await, ["Pod shop/web"]);
    // Damage is not served.
    std::fs::write(world.path("tls/ca.key"), "no key").unwrap();
    tokio::time::sleep(LOOK + Duration::from_millis(500)).await;
    assert!(connects(&new).await);
    controller.stop().await;
}
