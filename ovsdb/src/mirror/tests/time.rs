//! What happens when nothing comes: probes, deadlines, cancellation; all in virtual time.

use super::*;

impl World {
    /// Moves the clock to the next thing due, and lets both sides speak if the server `speaks`.
    fn tick(&mut self, speaks: bool) -> Result<(), MirrorError> {
        if let Some(due) = self.mirror.poll_timeout() {
            self.now = self.now.max(due);
        }
        let result = self.mirror.handle_timeout(self.now);
        self.listen();
        result?;
        if speaks { self.run() } else { Ok(()) }
    }
}

fn live() -> World {
    World::live(MonitorMethod::Conditional, Contents::new())
}

#[test]
fn an_idle_server_is_probed_and_a_silent_one_given_up() {
    let mut world = live();
    let began = world.now;
    for probes in 1..4 {
        assert_eq!(world.tick(true), Ok(()));
        assert_eq!(world.now - began, Duration::from_secs(5 * probes));
        assert_eq!(world.server.received.last().map(String::as_str), Some("echo"));
    }
    assert_eq!(world.tick(false), Ok(()));
    let error = world.tick(false).expect_err("it is silent");
    assert_eq!(world.now - began, Duration::from_secs(25));
    assert!(error.to_string().contains("silent for 10s, and no answer to a probe"), "{error}");
}

#[test]
fn a_server_that_never_lets_us_synchronise_is_given_up() {
    let mut world = World::new(MonitorMethod::Plain, Contents::new());
    world.connect();
    let began = world.now;
    let error = loop {
        // It is alive, and answers nothing but probes.
        world.server.say(&serde_json::json!({"id": 1, "method": "echo", "params": []}));
        let bytes = world.server.take(usize::MAX);
        assert_eq!(world.mirror.handle_bytes(world.now, &bytes), Ok(()));
        while world.mirror.poll_transmit().is_some() {}
        if let Err(error) = world.tick(false) {
            break error;
        }
    };
    assert_eq!((error, world.now - began), (MirrorError::SlowStart, Duration::from_secs(20)));
}

#[test]
fn a_transaction_that_no_connection_carried_was_not_sent() {
    let mut world = World::new(MonitorMethod::Plain, Contents::new());
    let ticket = world.transact(Duration::from_secs(3));
    world.mirror.handle_disconnected("cannot connect: refused");
    assert_eq!(world.tick(false), Ok(()));
    assert_eq!(
        world.outcomes.get(&ticket),
        Some(&Err(TransactError::NotConnected { reason: "cannot connect: refused".to_owned() }))
    );
    world.connect();
    assert_eq!(world.run(), Ok(()));
    assert!(!world.server.received.iter().any(|method| method == "transact"));
}

#[test]
fn a_transaction_over_its_time_is_cancelled() {
    let mut world = live();
    world.server.answers = false;
    let ticket = world.transact(Duration::from_secs(2));
    assert_eq!(world.run(), Ok(()));
    assert_eq!(world.tick(true), Ok(()));
    assert_eq!(world.server.received.last().map(String::as_str), Some("cancel"));
    assert!(world.outcomes.is_empty());
    world.server.say(&serde_json::json!({"id": 4, "error": "canceled"}));
    let _ = world.run().map_err(|error| panic!("{error}"));
    assert_eq!(world.outcomes.get(&ticket), Some(&Err(TransactError::Canceled)));
}

#[test]
fn a_transaction_that_is_not_even_cancelled_has_an_unknown_outcome_and_a_late_answer_harms_nothing() {
    let mut world = live();
    world.server.answers = false;
    let ticket = world.transact(Duration::from_secs(2));
    assert_eq!(world.run(), Ok(()));
    assert_eq!(world.tick(true), Ok(()));
    assert_eq!(world.tick(true), Ok(()));
    assert!(matches!(world.outcomes.get(&ticket), Some(Err(TransactError::OutcomeUnknown { .. }))));
    world.server.say(&serde_json::json!({"id": 4, "result": [{"count": 1}], "error": null}));
    let late = world.run();
    assert!(late.is_ok() && world.outcomes.len() == 1, "{late:?}");
    assert!(world.mirror.is_live());
}

#[test]
fn locks_are_asked_for_again_on_each_connection() {
    let mut world = live();
    world.mirror.lock("L");
    world.mirror.lock("L");
    assert_eq!(world.run(), Ok(()));
    assert_eq!(world.mirror.locks().get("L"), Some(&true));
    world.cut();
    assert_eq!(world.mirror.locks().get("L"), Some(&false));
    world.connect();
    assert_eq!(world.run(), Ok(()));
    assert_eq!(world.mirror.locks().get("L"), Some(&true));
    world.server.say(&serde_json::json!({"id": null, "method": "stolen", "params": ["L"]}));
    assert_eq!(world.run(), Ok(()));
    assert_eq!(world.mirror.locks().get("L"), Some(&false));
    assert_eq!(world.server.received.iter().filter(|method| *method == "lock").count(), 2);
}
