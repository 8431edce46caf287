//! Whole stories on the state alone: agents are queues, the time is made up.

use network::{
    Action, Direction, Isolation, LabelSelector, NamespacedName, Node, Peers, Pod, Policy, PolicyId,
    PolicyKind, Ports, Rule, Selector, Tier,
};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tonic::Status;

use super::*;
use crate::agent::{Held, QUEUE, WINDOW};
use crate::floor::SETTLE;
use crate::source::Revision;
use crate::status::{self, Filter};
use api::delta;
use api::role::{Holding, Role};
use api::stream::{Binding, Rejection};
use network::NodeView;

fn node(k: u8) -> Node {
    Node {
        name: name(k),
        labels: BTreeMap::new(),
        addresses: vec![format!("192.0.2.{k}").parse().unwrap()],
        pod_cidrs: vec![format!("10.244.{k}.0/24").parse().unwrap()],
        ..Node::default()
    }
}

fn name(k: u8) -> NodeName {
    NodeName::new(format!("node-{k}"))
}

fn pod(pod: &str, k: u8) -> Pod {
    Pod {
        key: NamespacedName::new("shop", pod),
        uid: format!("uid-{pod}"),
        node: Some(name(k)),
        labels: network::Labels::from([("app".to_owned(), pod.to_owned())]).into(),
        addresses: vec![],
        host_network: false,
        completed: false,
        ports: vec![],
    }
}

/// Three nodes; `web` on 1 may reach `db` on 2, which a policy isolates; 3 has nothing to do with it.
fn shop() -> Network {
    let mut network = Network {
        nodes: (1..=3).map(|k| (name(k), node(k))).collect(),
        pods: [pod("web", 1), pod("db", 2)].into_iter().map(|pod| (pod.key.clone(), pod)).collect(),
        namespaces: [("shop".to_owned(), BTreeMap::new())].into(),
        ..Network::default()
    };
    let app = |app: &str| {
        let labels = [("app".to_owned(), app.to_owned())].into();
        Selector::pods_in("shop", LabelSelector::from_labels(&labels))
    };
    let (subject, peer) = (network.intern(app("db")), network.intern(app("web")));
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, namespace: "shop".into(), name: "db".into() };
    let rule = Rule {
        index: 0,
        direction: Direction::Ingress,
        action: Action::Accept,
        peers: Peers::Some { sets: [peer].into(), blocks: BTreeSet::new() },
        ports: Ports::Any,
    };
    let policy = Policy {
        id: id.clone(),
        generation: 1,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject,
        isolates: Isolation { ingress: true, egress: false },
        audit: false,
        rules: vec![rule],
    };
    network.policies.insert(id, policy);
    network
}

fn binding(pod: &str, address: &str) -> Binding {
    Binding {
        pod: NamespacedName::new("shop", pod),
        uid: format!("uid-{pod}"),
        addresses: vec![address.parse().unwrap()],
        interface: "fe0".into(),
    }
}

struct World {
    state: State,
    revision: u64,
    now: Instant,
}

/// An agent as it should be: applies deltas in order, refuses what is outdated.
struct Peer {
    node: NodeName,
    session: SessionId,
    queue: mpsc::Receiver<Result<wire::FromController, Status>>,
    view: NodeView,
    watermark: Watermark,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let state = State::new(Epoch(10), BTreeMap::new(), Metrics::default());
        Self { state, revision: 0, now }
    }

    fn network(&mut self, network: Network) {
        self.revision += 1;
        let revisions = [("manifests".to_owned(), Revision::at(self.revision))].into();
        self.state.snapshot(Snapshot { revisions, network, ..Snapshot::default() });
        self.state.settle(self.now);
    }

    fn connect(&mut self, k: u8) -> Peer {
        self.reconnect(k, NodeView::default(), Watermark::default(), vec![], 0)
    }

    fn reconnect(
        &mut self,
        k: u8,
        view: NodeView,
        watermark: Watermark,
        bindings: Vec<Binding>,
        bindings_revision: u64,
    ) -> Peer {
        self.greet(k, view, watermark, (bindings, bindings_revision), Role::Leader)
    }

    fn greet(
        &mut self,
        k: u8,
        view: NodeView,
        watermark: Watermark,
        (bindings, bindings_revision): (Vec<Binding>, u64),
        role: Role,
    ) -> Peer {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        let session = SessionId(SESSIONS.fetch_add(1, Ordering::Relaxed));
        let (out, queue) = mpsc::channel(QUEUE);
        let hello = Hello {
            version: "test".into(),
            known: delta::versions(&view),
            acknowledged: watermark.clone(),
            bindings,
            bindings_revision,
            role,
            set_changes: true,
            bundles: true,
        };
        self.state.attach(&name(k), Link { session, out }, hello);
        self.state.settle(self.now);
        self.looks_again();
        Peer { node: name(k), session, queue, view, watermark }
    }

    /// The directory is read again when that is demanded, and nothing in it has changed.
    fn looks_again(&mut self) {
        if let Some(demand) = self.state.take_demand() {
            self.state.confirm(&demand);
            self.state.settle(self.now);
        }
    }

    fn says(&mut self, peer: &Peer, said: Said) {
        self.state.said(&peer.node, peer.session, said, self.now);
        self.state.settle(self.now);
    }

    fn binds(&mut self, peer: &Peer, bound: Vec<Binding>, revision: u64) {
        self.says(peer, Said::Bindings { bound, released: BTreeSet::new(), revision });
    }

    /// Takes every delta and answers it; returns what they held.
    fn takes(&mut self, peer: &mut Peer) -> Vec<String> {
        let mut held = Vec::new();
        while let Some(delta) = peer.receive() {
            held.extend(peer.apply(&delta));
            self.says(peer, Said::Answer { nonce: delta.nonce, rejected: vec![] });
        }
        held
    }
}

impl Peer {
    fn receive(&mut self) -> Option<wire::Delta> {
        match self.queue.try_recv().ok()?.expect("the stream goes on").body? {
            wire::from_controller::Body::Delta(delta) => Some(delta),
            wire::from_controller::Body::Query(_) | wire::from_controller::Body::Behind(_) => self.receive(),
        }
    }

    fn apply(&mut self, delta: &wire::Delta) -> Vec<String> {
        let offered = delta::watermark(delta).unwrap();
        assert_eq!(self.watermark.admits(&offered), Ok(()));
        self.watermark = offered;
        let applied = delta::apply(&mut self.view, delta);
        assert_eq!(applied.rejected, []);
        applied.changed.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_binding_reaches_the_peers_and_comes_back_in_the_watermark() {
    let mut world = World::new();
    world.network(shop());
    let (mut one, mut two) = (world.connect(1), world.connect(2));
    world.takes(&mut one);
    world.takes(&mut two);
    world.binds(&one, vec![binding("web", "10.244.1.7")], 3);
    assert_eq!(world.takes(&mut one), ["Pod shop/web"]);
    assert_eq!(one.watermark.revision("bindings/node-1"), 3);
    let held = world.takes(&mut two);
    assert_eq!((held.len(), held[0].starts_with("AddressSet")), (1, true));

    // Of a pod that the model does not know: an empty delta says that the revision is contained. Nobody else hears.
    world.binds(&one, vec![binding("later", "10.244.1.8")], 4);
    assert_eq!(world.takes(&mut one), [""; 0]);
    assert_eq!(one.watermark.revision("bindings/node-1"), 4);
    assert!(two.queue.try_recv().is_err());
    // It waits for the pod.
    let mut network = shop();
    network.pods.insert(NamespacedName::new("shop", "later"), pod("later", 1));
    world.network(network);
    world.takes(&mut one);
    assert_eq!(one.view.pods[&NamespacedName::new("shop", "later")].addresses.len(), 1);
    // And is taken back by UID.
    let released = ["uid-later".to_owned()].into();
    world.says(&one, Said::Bindings { bound: vec![], released, revision: 5 });
    world.takes(&mut one);
    assert!(one.view.pods[&NamespacedName::new("shop", "later")].addresses.is_empty());
}

#[test]
fn bindings_outlive_the_stream_and_a_hello_replaces_them() {
    let mut world = World::new();
    world.network(shop());
    let (mut one, mut two) = (world.connect(1), world.connect(2));
    world.binds(&one, vec![binding("web", "10.244.1.7")], 3);
    world.takes(&mut one);
    world.takes(&mut two);
    world.state.detach(&name(1), one.session);
    world.state.settle(world.now);
    assert!(two.queue.try_recv().is_err());
    let mut one = world.reconnect(1, one.view, one.watermark, vec![], 4);
    assert_eq!(world.takes(&mut one), ["Pod shop/web"]);
    assert_eq!(world.takes(&mut two).len(), 1);
}

#[test]
fn who_reconnects_gets_the_difference_only() {
    let mut world = World::new();
    world.network(shop());
    let mut two = world.connect(2);
    world.takes(&mut two);
    world.state.detach(&name(2), two.session);
    let mut network = shop();
    network.policies.values_mut().for_each(|policy| policy.generation = 9);
    network.nodes.remove(&name(3));
    world.network(network);
    let mut two = world.reconnect(2, two.view, two.watermark, vec![], 0);
    let delta = two.receive().unwrap();
    assert_eq!((delta.changed.len(), delta.removed.len()), (1, 1));
    two.apply(&delta);
    assert_eq!(two.view, NodeView::of(&world.state.network(), &name(2)));
    // Nothing to say is said too: the agent knows that it is up to date.
    let mut again = world.reconnect(2, two.view, two.watermark, vec![], 0);
    let delta = again.receive().unwrap();
    assert_eq!((delta.changed.len(), delta.removed.len()), (0, 0));
}

#[test]
fn a_slow_agent_gets_the_newest_state_and_never_a_queue() {
    let mut world = World::new();
    world.network(shop());
    let mut two = world.connect(2);
    let generation = |generation| {
        let mut network = shop();
        network.policies.values_mut().for_each(|policy| policy.generation = generation);
        network
    };
    for k in 0..50 {
        world.network(generation(100 + k));
    }
    let waiting: Vec<wire::Delta> = std::iter::from_fn(|| two.receive()).collect();
    assert_eq!(waiting.len(), WINDOW);
    assert!(!world.state.agents()[&name(2)].is_realized());
    // One answer for all of them; one delta leads to the newest state.
    for delta in &waiting {
        two.apply(delta);
    }
    world.says(&two, Said::Answer { nonce: waiting[WINDOW - 1].nonce, rejected: vec![] });
    let last = two.receive().unwrap();
    assert_eq!(two.apply(&last), ["NetworkPolicy shop/db"]);
    assert_eq!(two.view, NodeView::of(&world.state.network(), &name(2)));
    assert!(two.receive().is_none());
    world.says(&two, Said::Answer { nonce: last.nonce, rejected: vec![] });
    assert!(world.state.agents()[&name(2)].is_realized());
}

#[test]
fn a_rejection_is_per_resource_and_ends_with_a_version_that_works() {
    let mut world = World::new();
    world.network(shop());
    let mut two = world.connect(2);
    let delta = two.receive().unwrap();
    let id = api::stream::ResourceId::Policy(PolicyId {
        kind: PolicyKind::NetworkPolicy,
        namespace: "shop".into(),
        name: "db".into(),
    });
    let rejected = vec![Rejection { id: Some(id), reason: "over budget: 9 flows".into() }];
    world.says(&two, Said::Answer { nonce: delta.nonce, rejected });
    let policy = |world: &World| status::policies(&world.state, &Filter::default()).remove(0);
    let item = policy(&world);
    assert_eq!((item.nodes, item.realized), (vec![name(2)], vec![]));
    assert_eq!(item.problems, ["agent of node node-2: not in force there: over budget: 9 flows"]);
    let realized =
        |world: &World| status::nodes(&world.state).into_iter().map(|node| node.realized).collect::<Vec<_>>();
    assert_eq!(realized(&world), [false, false, false]);
    assert_eq!(status::problems(&world.state)[0].object, "NetworkPolicy shop/db");

    let mut network = shop();
    network.policies.values_mut().for_each(|policy| policy.generation = 2);
    world.network(network);
    world.takes(&mut two);
    let item = policy(&world);
    assert_eq!((item.realized, item.problems), (vec![name(2)], vec![]));
    assert_eq!(realized(&world), [false, true, false]);
    assert_eq!(status::problems(&world.state), []);
}

#[test]
fn a_node_lies_about_anothers_pod_and_is_refused() {
    let mut world = World::new();
    world.network(shop());
    let mut two = world.connect(2);
    let three = world.connect(3);
    world.takes(&mut two);
    world.binds(&three, vec![binding("web", "10.244.3.7")], 1);
    assert!(two.receive().is_none());
    let problems = status::problems(&world.state);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("bound to node node-1"), "{problems:?}");
}

#[test]
fn a_new_stream_ends_the_old_one() {
    let mut world = World::new();
    world.network(shop());
    let mut old = world.connect(1);
    let new = world.connect(1);
    old.receive().unwrap();
    assert!(old.queue.try_recv().unwrap().is_err());
    // What the old one still says, and its end, change nothing.
    world.binds(&old, vec![binding("web", "10.244.1.7")], 3);
    world.state.detach(&name(1), old.session);
    assert_eq!(world.state.agents()[&name(1)].session(), Some(new.session));
    assert_eq!(world.state.watermark().revision("bindings/node-1"), 0);
}

#[test]
fn what_an_agent_has_from_another_controller_is_overtaken_by_looking_again() {
    let mut world = World::new();
    world.network(shop());
    let (out, _queue) = mpsc::channel(QUEUE);
    let held = Watermark { epoch: Epoch(12), revisions: [("manifests".into(), 99)].into() };
    let hello = Hello { acknowledged: held.clone(), ..Hello::default() };
    world.state.attach(&name(1), Link { session: SessionId(u64::MAX), out }, hello);
    world.state.settle(world.now);
    // Nothing is sent, and the directory has to be read again.
    assert!(world.state.agents()[&name(1)].is_asking());
    let demand = world.state.take_demand().unwrap();
    assert_eq!((&demand.acknowledged, world.state.take_demand()), (&held, None));
    // It had changed: what others had may have been this or something older.
    let mut network = shop();
    network.nodes.remove(&name(3));
    world.network(network);
    assert!(world.state.agents()[&name(1)].is_asking());
    world.state.confirm(&demand);
    world.state.settle(world.now);
    assert!(!world.state.agents()[&name(1)].is_asking());
    let ours = world.state.watermark();
    assert_eq!((ours.epoch, ours.revision("manifests")), (Epoch(12), 99));
    assert_eq!(world.state.take_unsaved().0, Some(Epoch(12)));
    // Our own revisions go on from there.
    world.network(shop());
    assert_eq!(world.state.watermark().revision("manifests"), 100);

    // Whoever claims what cannot be is not believed, and gets nothing.
    let absurd = Watermark { epoch: Epoch(u64::MAX), revisions: BTreeMap::new() };
    let mut three = world.reconnect(3, NodeView::default(), absurd, vec![], 0);
    assert!(three.receive().is_none());
    assert_eq!(world.state.watermark().epoch, Epoch(12));
}

#[test]
fn an_agent_that_lost_its_count_takes_nobody_back() {
    let mut world = World::new();
    world.network(shop());
    let (mut one, mut two) = (world.connect(1), world.connect(2));
    world.binds(&one, vec![binding("web", "10.244.1.7")], 8);
    world.takes(&mut one);
    world.takes(&mut two);
    // It starts from nothing and counts anew; what it waits for is its own count.
    let mut one = world.reconnect(1, NodeView::default(), Watermark::default(), vec![], 2);
    world.takes(&mut one);
    world.takes(&mut two);
    assert_eq!(
        (one.watermark.revision("bindings/node-1"), two.watermark.revision("bindings/node-1")),
        (2, 8)
    );
    assert_eq!((one.watermark.epoch, two.watermark.epoch), (Epoch(10), Epoch(10)));
    assert!(two.view.sets.values().all(|set| set.members.is_empty()));
}

#[test]
fn after_a_start_without_saved_bindings_agents_with_a_state_wait_for_the_others() {
    let mut world = World::new();
    world.network(shop());
    let held = Watermark { epoch: Epoch(9), revisions: [("bindings/node-1".into(), 4)].into() };
    // Node 2 has addresses of node 1's pod in force; what it would get now has none.
    let mut two = world.reconnect(2, NodeView::default(), held.clone(), vec![], 0);
    let mut fresh = world.connect(3);
    assert!(two.receive().is_none() && fresh.receive().is_some());
    assert_eq!(world.state.wake_at(world.now), Some(world.now + SETTLE));
    world.reconnect(1, NodeView::default(), Watermark::default(), vec![binding("web", "10.244.1.7")], 4);
    let delta = two.receive().unwrap();
    two.apply(&delta);
    assert!(two.view.sets.values().any(|set| set.members.len() == 1));
    assert_eq!(world.state.wake_at(world.now), None);

    // Of a node that never calls again the objects say what there is.
    let held = Watermark { epoch: Epoch(10), revisions: [("bindings/node-3".into(), 9)].into() };
    let mut two = world.reconnect(2, two.view, held, vec![], 0);
    assert!(two.receive().is_none());
    world.now += SETTLE;
    world.state.settle(world.now);
    let delta = two.receive().unwrap();
    two.apply(&delta);
    assert_eq!(two.watermark.revision("bindings/node-3"), 9);
}

/// A source that keeps the epoch: the same revisions for every controller.
fn shared(world: &mut World, epoch: u64, changed: u64, contained: u64) {
    let revisions: BTreeMap<_, _> = [("pods".to_owned(), Revision { changed, contained })].into();
    let snapshot = Snapshot { epoch: Some(Epoch(epoch)), revisions, network: shop(), ..Snapshot::default() };
    world.state.snapshot(snapshot);
    world.state.settle(world.now);
}

#[test]
fn a_shared_source_is_followed_and_what_it_contains_is_said() {
    let mut world = World::new();
    world.state = State::new(Epoch(1), BTreeMap::new(), Metrics::default()).of_shared_source();
    shared(&mut world, 3, 40, 50);
    let held = |epoch, pods| Watermark { epoch: Epoch(epoch), revisions: [("pods".to_owned(), pods)].into() };
    // Nothing changed between 40 and 50: the agent has what we have.
    let mut one = world.reconnect(1, NodeView::default(), held(3, 45), vec![], 0);
    world.takes(&mut one);
    assert_eq!(one.watermark, held(3, 45));

    // Another controller knows more: looked for, and nothing sent until it is found.
    let mut two = world.reconnect(2, NodeView::default(), held(3, 60), vec![], 0);
    assert!(two.receive().is_none());
    let contained = [("pods".to_owned(), Revision { changed: 40, contained: 61 })].into();
    world.state.progress(Progress { epoch: Some(Epoch(3)), contained, ..Progress::default() });
    world.state.settle(world.now);
    world.takes(&mut two);
    assert_eq!(two.watermark, held(3, 60));

    // The history went back: a greater epoch is sent whatever its revisions are.
    let mut three = world.reconnect(3, NodeView::default(), held(3, 900), vec![], 0);
    assert!(three.receive().is_none());
    shared(&mut world, 4, 30, 30);
    world.takes(&mut three);
    world.takes(&mut one);
    assert_eq!((three.watermark, one.watermark), (held(4, 30), held(4, 30)));
}

#[test]
fn who_is_of_no_use_to_agents_says_why() {
    let mut state = State::new(Epoch(1), BTreeMap::new(), Metrics::default());
    assert_eq!(state.obstacles(), ["the source has not been read yet"]);
    let waiting = || Progress { waiting: vec!["pods: waiting".into()], ..Progress::default() };
    state.progress(waiting());
    assert_eq!(state.obstacles(), ["pods: waiting"]);
    // What is in force stays of use while everything is listed anew.
    state.snapshot(Snapshot::default());
    assert_eq!(state.obstacles(), [""; 0]);
    state.progress(Progress { unserved: Some("no certificate".into()), ..waiting() });
    assert_eq!(state.obstacles(), ["no certificate"]);
}

#[test]
fn nothing_is_sent_before_the_first_snapshot() {
    let mut world = World::new();
    let mut one = world.connect(1);
    assert!(one.receive().is_none());
    world.network(shop());
    assert!(one.receive().is_some());
}

#[test]
fn an_agent_of_an_unknown_node_sees_the_nodes_and_no_pod() {
    let mut world = World::new();
    world.network(shop());
    let mut nine = world.connect(9);
    world.takes(&mut nine);
    assert_eq!((nine.view.nodes.len(), nine.view.pods.len()), (3, 0));
    let mut network = shop();
    network.nodes.insert(name(9), node(9));
    world.network(network);
    assert_eq!(world.takes(&mut nine), ["Node node-9"]);
}

#[test]
fn questions_go_to_agents_and_answers_back_once() {
    let mut world = World::new();
    world.network(shop());
    let mut one = world.connect(1);
    world.takes(&mut one);
    assert!(world.state.ask(Some(&name(7)), "/v1alpha1/flows").is_none());
    let asked = world.state.ask(None, "/v1alpha1/flows").unwrap();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[1].1.as_ref().unwrap_err(), "its agent never connected");
    let Some(wire::from_controller::Body::Query(query)) = one.queue.try_recv().unwrap().unwrap().body else {
        panic!("no question")
    };
    assert_eq!(query.path, "/v1alpha1/flows");
    let answer = wire::Answer { id: query.id, status: 200, json: vec![] };
    // Another agent cannot answer for it.
    let two = world.connect(2);
    world.says(&two, Said::Told(answer.clone()));
    world.says(&one, Said::Told(answer.clone()));
    world.says(&one, Said::Told(answer.clone()));
    let (_, first) = asked.into_iter().next().unwrap();
    assert_eq!(first.unwrap().try_recv(), Ok(answer));
    // Many questions never take the room of the deltas.
    let asked: Vec<_> =
        (0..100).map(|_| world.state.ask(Some(&name(1)), "/x").unwrap().remove(0).1).collect();
    assert!(asked.iter().any(Result::is_err));
    let mut network = shop();
    network.nodes.remove(&name(3));
    world.network(network);
    assert!(one.receive().is_some());
}

#[test]
fn a_rejection_that_the_agent_no_longer_lists_is_over() {
    let mut world = World::new();
    world.network(shop());
    let mut two = world.connect(2);
    let delta = two.receive().unwrap();
    let rejected = vec![Rejection {
        id: Some(api::stream::ResourceId::LocalPod(NamespacedName::new("shop", "db"))),
        reason: "over budget".into(),
    }];
    world.says(&two, Said::Answer { nonce: delta.nonce, rejected });
    assert_eq!(status::problems(&world.state).len(), 1);
    // The resource did not change, something else did, and now it fits.
    world.binds(&two, vec![], 1);
    world.takes(&mut two);
    assert_eq!(status::problems(&world.state), []);
}

#[test]
fn a_node_that_left_is_forgotten_with_its_agent() {
    let mut world = World::new();
    world.network(shop());
    let mut three = world.connect(3);
    world.takes(&mut three);
    world.says(&three, Said::Garbage("nonsense".into()));
    world.state.detach(&name(3), three.session);
    assert_eq!(status::nodes(&world.state).len(), 3);
    let mut network = shop();
    network.nodes.remove(&name(3));
    world.network(network);
    assert_eq!(status::nodes(&world.state).len(), 2);
    assert_eq!(status::problems(&world.state), []);
    assert!(world.state.index().resources(&name(3)).is_none());
}

#[path = "standby_tests.rs"]
mod standby;

#[path = "sending_tests.rs"]
mod sending;
