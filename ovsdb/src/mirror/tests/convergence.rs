//! However the stream is cut, the replica ends as the server is, and never shows a state that the server never had.

use proptest::prelude::*;

use super::*;

#[test]
fn updates_of_every_kind_lead_to_the_servers_contents() {
    let [first, second, third] = story();
    for method in METHODS {
        let mut world = World::live(method, first.clone());
        world.assert_true();
        for contents in [second.clone(), third.clone(), Contents::new(), first.clone()] {
            world.server.change(contents);
            assert_eq!(world.run(), Ok(()));
            world.assert_true();
        }
        assert_eq!(world.synchronizations, [2]);
        let asked: Vec<_> =
            world.server.received.iter().filter(|method| method.starts_with("monitor")).collect();
        let all = ["monitor_cond_since", "monitor_cond", "monitor"];
        assert_eq!(asked, all[..asked.len()], "it asks for the best first");
    }
}

#[test]
fn a_stream_cut_at_any_byte_leaves_a_state_that_was_and_the_next_connection_mends_it() {
    let [first, second, third] = story();
    for method in METHODS {
        // What the server sends in all, when nothing is cut.
        let script = |world: &mut World, budget: usize, chunk: usize| -> (usize, Ticket) {
            world.connect();
            let left = world.run_for(budget, chunk).expect("honest");
            world.server.change(second.clone());
            let ticket = world.transact(Duration::from_secs(60));
            let left = world.run_for(left, chunk).expect("honest");
            world.server.change(third.clone());
            (world.run_for(left, chunk).expect("honest"), ticket)
        };
        let budget = 1 << 20;
        let (left, _) = script(&mut World::new(method, first.clone()), budget, usize::MAX);
        let total = budget - left;
        assert!(total > 1000);
        let states =
            [Contents::new(), first.clone(), second.clone(), third.clone()].map(|it| replica_of(&it));
        let mut seen = [0; 4];
        for cut in 0..=total {
            let mut world = World::new(method, first.clone());
            let (left, ticket) = script(&mut world, cut, if cut % 2 == 0 { 1 } else { 7 });
            assert_eq!(left, 0);
            let replica = world.mirror.replica();
            // Before the first synchronisation the replica has no tables; after it they may be empty.
            let rows = |replica: &Replica| Replica::default().difference(replica);
            let state = states.iter().position(|state| rows(state) == rows(replica));
            seen[state.unwrap_or_else(|| panic!("cut at {cut}: {replica:?}"))] += 1;
            let was_sent = world.server.received.iter().any(|method| method == "transact");
            let answered = world.outcomes.contains_key(&ticket);
            world.cut();
            match world.outcomes.get(&ticket) {
                Some(Ok(_)) => assert!(answered),
                Some(Err(TransactError::OutcomeUnknown { .. })) => assert!(was_sent && !answered),
                None => assert!(!was_sent, "what was not sent waits"),
                other => panic!("cut at {cut}: {other:?}"),
            }
            world.connect();
            assert_eq!(world.run(), Ok(()));
            world.assert_true();
            assert!(world.outcomes.contains_key(&ticket), "what waited was sent now");
        }
        assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
    }
}

#[test]
fn a_reconnect_tells_only_what_differs() {
    let [first, second, _] = story();
    let mut world = World::live(MonitorMethod::Conditional, second);
    world.cut();
    assert!(!world.mirror.is_live());
    assert_eq!(world.mirror.replica().table("Thing").count(), 2, "the replica outlives the connection");
    world.connect();
    assert_eq!(world.run(), Ok(()));
    world.cut();
    world.server.change(first);
    world.connect();
    assert_eq!(world.run(), Ok(()));
    world.assert_true();
    assert_eq!(world.synchronizations, [3, 0, 3]);
}

#[test]
fn a_server_with_history_sends_only_what_came_since() {
    let [first, second, third] = story();
    let mut world = World::new(MonitorMethod::ConditionalSince, first);
    world.server.last_transaction = 1;
    world.connect();
    assert_eq!(world.run(), Ok(()));
    world.server.change(second.clone());
    assert_eq!(world.run(), Ok(()));
    world.cut();
    world.server.change(third);
    world.connect();
    assert_eq!(world.run(), Ok(()));
    world.assert_true();
    assert_eq!(world.synchronizations, [2, 4]);
    // It forgot: everything is sent, and still only the difference is told.
    world.cut();
    world.server.history.clear();
    world.server.change(second);
    world.server.history.clear();
    world.connect();
    assert_eq!(world.run(), Ok(()));
    world.assert_true();
    assert_eq!(world.synchronizations, [2, 4, 4]);
}

#[derive(Clone, Debug)]
enum Step {
    Change(Contents),
    Deliver { bytes: usize, chunk: usize },
    Cut,
    Connect,
    Transact,
}

fn contents() -> impl Strategy<Value = Contents> {
    let name = prop_oneof![Just("a"), Just("b}"), Just("\"{"), Just("é")];
    let row = (
        prop::option::of(-2_i64..3),
        prop::collection::btree_set(name.clone(), 0..4),
        prop::collection::btree_map(name, -1_i64..2, 0..4),
    );
    prop::collection::btree_map(1_u8..6, row, 0..5).prop_map(|rows| {
        let rows = rows.into_iter().map(|(number, (value, tags, map))| {
            let tags: Vec<_> = tags.into_iter().collect();
            let map: Vec<_> = map.into_iter().collect();
            (("Thing", uuid(number)), thing("n", value, &tags, &map))
        });
        rows.collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => contents().prop_map(Step::Change),
        4 => (0_usize..600, 1_usize..90).prop_map(|(bytes, chunk)| Step::Deliver { bytes, chunk }),
        1 => Just(Step::Cut),
        2 => Just(Step::Connect),
        1 => Just(Step::Transact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_happens_the_replica_ends_as_a_fresh_dump(
        method in prop::sample::select(METHODS.to_vec()),
        history: bool,
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut world = World::new(method, Contents::new());
        world.server.last_transaction = u8::from(history);
        let mut tickets = 0;
        for step in steps {
            match step {
                Step::Change(contents) => world.server.change(contents),
                Step::Deliver { bytes, chunk } => drop(world.run_for(bytes, chunk).expect("honest")),
                Step::Cut => world.cut(),
                Step::Connect => world.connect(),
                Step::Transact => {
                    world.transact(Duration::from_secs(3600));
                    tickets += 1;
                }
            }
        }
        if !world.mirror.is_live() {
            world.connect();
        }
        prop_assert_eq!(world.run(), Ok(()));
        world.assert_true();
        prop_assert_eq!(world.outcomes.len(), tickets);
    }
}
