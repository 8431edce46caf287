//! Two controllers and one agent: who leads, what the other is told, what is sent when they change places.

use super::*;
use crate::source::{Problem, Reason};
use api::role;
use api::stream::{ResourceId, Version};

fn body(peer: &mut Peer) -> Option<wire::from_controller::Body> {
    peer.queue.try_recv().ok()?.expect("the stream goes on").body
}

fn stands_by(world: &mut World, k: u8, view: NodeView, watermark: Watermark) -> Peer {
    world.greet(k, view, watermark, (vec![], 0), Role::Standby)
}

fn realized(world: &World) -> Vec<NodeName> {
    status::policies(&world.state, &Filter::default()).remove(0).realized
}

/// As two controllers of one source are: what one sends, the other would.
fn pair() -> (World, World) {
    let mut worlds = (World::new(), World::new());
    worlds.0.network(shop());
    worlds.1.network(shop());
    worlds
}

#[test]
fn a_standby_is_sent_nothing_and_knows_what_is_in_force() {
    let (mut leader, mut standby) = pair();
    let mut there = stands_by(&mut standby, 2, NodeView::default(), Watermark::default());
    assert!(body(&mut there).is_none());
    assert_eq!(realized(&standby), []);

    let mut here = leader.connect(2);
    let delta = here.receive().unwrap();
    let changed = delta::apply(&mut here.view, &delta).changed;
    let holding = role::held_by(&delta, &changed, delta::watermark(&delta).unwrap());
    standby.says(&there, Said::Progress { holding, rejected: vec![], drifted: String::new() });
    assert!(body(&mut there).is_none());
    assert_eq!(realized(&standby), [name(2)]);
    assert!(status::nodes(&standby.state)[1].realized);

    // What does not stand there, it shows too, and that it stands later.
    let id = ResourceId::Policy(standby.state.network().policies.keys().next().unwrap().clone());
    let rejected = vec![Rejection { id: Some(id), reason: "over budget".into() }];
    standby.says(&there, Said::Progress { holding: Holding::default(), rejected, drifted: String::new() });
    assert_eq!((realized(&standby), status::problems(&standby.state).len()), (vec![], 1));
    standby.says(
        &there,
        Said::Progress { holding: Holding::default(), rejected: vec![], drifted: String::new() },
    );
    assert_eq!((realized(&standby), status::problems(&standby.state).len()), (vec![name(2)], 0));

    // And that the agent lacks what is new.
    let mut network = shop();
    network.policies.values_mut().for_each(|policy| policy.generation = 2);
    standby.network(network);
    assert_eq!(realized(&standby), []);
    assert!(!status::nodes(&standby.state)[1].realized && body(&mut there).is_none());
}

#[test]
fn drift_is_a_problem_of_the_node_until_it_is_over_whoever_leads() {
    let mut world = World::new();
    world.network(shop());
    let mut there = stands_by(&mut world, 2, NodeView::default(), Watermark::default());
    let said = |drifted: &str| Said::Progress {
        holding: Holding::default(),
        rejected: vec![],
        drifted: drifted.to_owned(),
    };
    world.says(&there, said("a flow was taken out"));
    let drift = |world: &World| -> Vec<_> {
        let drifted = |problem: &Problem| problem.reason == Reason::Drifted;
        world.state.problems().into_iter().filter(drifted).map(|it| (it.object, it.message)).collect()
    };
    let expected = [("Node node-2".to_owned(), "a flow was taken out".to_owned())];
    assert_eq!(drift(&world), expected);
    world.says(&there, Said::Lead { term: 1, holding: Holding::default() });
    assert_eq!(drift(&world), expected);
    world.says(&there, Said::StandBy { held: Held::default(), reason: String::new() });
    assert_eq!(drift(&world), expected);
    world.says(&there, said(""));
    assert_eq!(drift(&world), []);
    // Nobody knows what became of it when its agent is away.
    world.says(&there, said("a flow was taken out"));
    world.state.detach(&name(2), there.session);
    assert_eq!(drift(&world), []);
    there = stands_by(&mut world, 2, NodeView::default(), Watermark::default());
    assert_eq!(drift(&world), []);
    world.says(&there, said("a flow was taken out"));
    assert_eq!(drift(&world), expected);
}

#[test]
fn a_standby_that_is_asked_to_lead_sends_the_difference_at_once() {
    let (mut leader, mut standby) = pair();
    let mut here = leader.connect(2);
    leader.takes(&mut here);
    let mut there = stands_by(&mut standby, 2, here.view.clone(), Watermark::default());
    let mut network = shop();
    network.policies.values_mut().for_each(|policy| policy.generation = 2);
    network.nodes.remove(&name(3));
    standby.network(network);
    assert!(body(&mut there).is_none());
    standby.says(&there, Said::Lead { term: 1, holding: Holding::default() });
    let delta = there.receive().unwrap();
    assert_eq!((delta.term, delta.changed.len(), delta.removed.len()), (1, 1, 1));
    // What the agent had is in force when it has answered, not before.
    there.view = here.view.clone();
    there.apply(&delta);
    assert_eq!(realized(&standby), []);
    standby.says(&there, Said::Answer { nonce: delta.nonce, rejected: vec![] });
    assert_eq!(realized(&standby), [name(2)]);
    assert_eq!(there.view, NodeView::of(&standby.state.network(), &name(2)));
}

#[test]
fn who_stands_by_again_forgets_what_it_sent() {
    let mut world = World::new();
    world.network(shop());
    let mut two = world.connect(2);
    let refused = two.receive().unwrap();
    assert!(!refused.changed.is_empty());
    let held = Held::default();
    world.says(&two, Said::StandBy { held, reason: "another controller leads".into() });
    // Its late answer means nothing, and nothing is sent.
    world.says(&two, Said::Answer { nonce: refused.nonce, rejected: vec![] });
    assert_eq!((realized(&world), body(&mut two).is_none()), (vec![], true));
    world.says(&two, Said::Lead { term: 1, holding: Holding::default() });
    let again = two.receive().unwrap();
    assert_eq!((again.changed.len(), again.term), (refused.changed.len(), 1));
    assert!(again.nonce > refused.nonce);
}

#[test]
fn bindings_and_questions_reach_a_standby() {
    let (_, mut standby) = pair();
    let mut there = stands_by(&mut standby, 1, NodeView::default(), Watermark::default());
    standby.binds(&there, vec![binding("web", "10.244.1.7")], 3);
    let web = &standby.state.network().pods[&NamespacedName::new("shop", "web")];
    assert_eq!(web.addresses.len(), 1);
    let asked = standby.state.ask(Some(&name(1)), "/v1alpha1/flows").unwrap();
    assert!(asked[0].1.is_ok());
    assert!(matches!(body(&mut there), Some(wire::from_controller::Body::Query(_))));
}

#[test]
fn one_that_cannot_lead_says_so_once_and_leads_when_it_can() {
    let mut world = World::new();
    world.network(shop());
    // An epoch that cannot be reached is one that this controller is behind for good.
    let held = Watermark { epoch: Epoch(u64::MAX), revisions: BTreeMap::new() };
    let mut one = stands_by(&mut world, 1, NodeView::default(), held.clone());
    assert!(body(&mut one).is_none(), "nobody asked");
    let holding = Holding { watermark: held, ..Holding::default() };
    world.says(&one, Said::Lead { term: 1, holding });
    let Some(wire::from_controller::Body::Behind(behind)) = body(&mut one) else { panic!("no word") };
    assert_eq!((behind.term, behind.reason.contains("lags")), (1, true));
    world.state.settle(world.now);
    assert!(body(&mut one).is_none());
    let known = [(ResourceId::Node(name(9)), Version(1))].into();
    let held = Held { known, ..Held::default() };
    world.says(&one, Said::StandBy { held, reason: "behind".into() });
    world.says(&one, Said::Lead { term: 2, holding: Holding::default() });
    let delta = one.receive().unwrap();
    assert_eq!((delta.term, delta.removed.len()), (2, 1));
}
