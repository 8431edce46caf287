//! Servers that break the protocol: the fault is named, the replica stays, and the next connection is a new beginning.

use serde_json::{Value as Json, json};

use super::*;

/// The error that a live mirror meets in these bytes, having checked that nothing else came of them.
fn fault(bytes: &[u8]) -> String {
    let [first, second, _] = story();
    let mut world = World::live(MonitorMethod::ConditionalSince, first);
    let before = world.mirror.replica().clone();
    let error = world.mirror.handle_bytes(world.now, bytes).expect_err("a fault");
    assert_eq!(*world.mirror.replica(), before, "nothing is half-applied");
    world.cut();
    world.server.change(second);
    world.connect();
    assert_eq!(world.run(), Ok(()));
    world.assert_true();
    error.to_string()
}

fn update(updates: &Json) -> String {
    fault(
        json!({"id": null, "method": "update3", "params": [3, Uuid::ZERO.to_string(), updates]})
            .to_string()
            .as_bytes(),
    )
}

fn row(number: u8, update: &Json) -> Json {
    json!({"Thing": {uuid(number).to_string(): update}})
}

#[test]
fn streams_that_are_not_of_messages() {
    assert!(fault(b"HTTP/1.1 400 Bad Request").contains("is 0x48 where a message must begin"));
    assert!(fault(b"{]").contains("closes a bracket of the other kind"));
    let deep = format!("{{\"id\":{}", "[".repeat(10_000));
    assert!(fault(deep.as_bytes()).contains("nests deeper than 32 levels"));
    assert!(fault(b"{\"id\":1,}").contains("not JSON"));
    assert!(fault(b"{\"a\":1}").contains("neither a request nor a reply"));
}

#[test]
fn a_message_without_end_is_given_up_at_the_limit() {
    let mut world = World::new(MonitorMethod::Plain, Contents::new());
    world.mirror.config.limits.message_bytes = 10_000;
    world.connect();
    assert_eq!(world.run(), Ok(()));
    let mut sent = 0;
    let error = loop {
        assert!(sent < 20_000, "it never gives up");
        sent += 100;
        let begin: &[u8] = if sent == 100 { b"{\"method\":\"" } else { &[b'x'; 100] };
        if let Err(error) = world.mirror.handle_bytes(world.now, begin) {
            break error.to_string();
        }
    };
    assert_eq!(error, "database server: a message is longer than 10000 bytes");
}

#[test]
fn replies_and_updates_that_make_no_sense() {
    let cases = [
        (fault(b"{\"id\":99,\"result\":{},\"error\":null}"), "a reply to request 99, which was not made"),
        (fault(b"{\"id\":{},\"result\":{},\"error\":null}"), "a reply to request {}"),
        (fault(b"{\"id\":null,\"method\":\"update3\",\"params\":[3]}"), "wrong parameters"),
        (fault(b"{\"id\":null,\"method\":\"update2\",\"params\":[77,{}]}"), "no monitor of ours"),
        (fault(b"{\"id\":null,\"method\":\"locked\",\"params\":{}}"), "no lock"),
        (
            fault(b"{\"id\":null,\"method\":\"monitor_canceled\",\"params\":[3]}"),
            "went or changed its schema",
        ),
        (update(&json!([])), "expected an object"),
        (update(&json!({"Nothing": {}})), "this table is not monitored"),
        (update(&json!({"Thing": {"x": {}}})), "is not a UUID"),
        (update(&row(1, &json!({}))), "not exactly one of"),
        (update(&row(1, &json!({"modify": {}, "delete": null}))), "not exactly one of"),
        (update(&row(1, &json!({"explode": {}}))), "unknown kind"),
        (update(&row(1, &json!({"modify": {"colour": 1}}))), "column \"colour\" is not monitored"),
        (update(&row(1, &json!({"modify": {"number": "many"}}))), "number: expected integer, got \"many\""),
        (update(&row(1, &json!({"modify": {"map": ["map", [["k"]]]}}))), "pair of a key and a value"),
        (update(&row(1, &json!({"insert": {"name": "again"}}))), "the row was there before"),
        (update(&row(9, &json!({"modify": {"number": 1}}))), "there is no such row"),
        (update(&row(9, &json!({"delete": null}))), "there is no such row"),
        (
            update(&row(9, &json!({"insert": {"name": ["set", []]}}))),
            "0 elements where the schema allows 1 to 1",
        ),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        assert!(error.starts_with("database server: "), "{error}");
    }
}

#[test]
fn an_update_that_is_wrong_in_its_last_row_changes_nothing() {
    let both = json!({"Thing": {
        uuid(1).to_string(): {"modify": {"number": 9}},
        uuid(9).to_string(): {"modify": {"number": 9}},
    }});
    assert!(update(&both).contains("there is no such row"));
}

#[test]
fn lies_before_the_first_synchronisation() {
    let say = |request: u64, result: Json| json!({"id": request, "result": result, "error": null});
    let refuse = |request: u64, error: &str| json!({"id": request, "error": error});
    let update2 = json!({"id": null, "method": "update2", "params": [3, {}]});
    let schema = crate::fake_server::schema_json();
    let other = json!({"name": "Other", "tables": {}});
    for (script, expected) in [
        (vec![say(2, json!({}))], "schema: the database: it has no name"),
        (vec![say(2, other)], "the schema of another database"),
        (vec![refuse(2, "unknown database")], "refused get_schema of database Fake: unknown database"),
        (vec![refuse(1, "unknown method"), update2.clone()], "no monitor of ours"),
        (vec![say(2, schema.clone()), update2], "it precedes the rows that it changes"),
        (vec![say(2, schema.clone()), say(3, json!({}))], "not [found, last transaction, updates]"),
        (vec![say(2, schema.clone()), refuse(3, "no")], "refused monitor_cond_since of database Fake: no"),
        (vec![say(2, schema), say(2, json!({}))], "a reply to request 2, which was not made or was answered"),
    ] {
        let mut world = World::new(MonitorMethod::Plain, Contents::new());
        world.connect();
        let error = script
            .iter()
            .find_map(|message| world.mirror.handle_bytes(world.now, message.to_string().as_bytes()).err());
        let error = error.expect("a lie").to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}

#[test]
fn a_server_that_asks_without_reading_is_cut_off() {
    let mut world = World::live(MonitorMethod::Plain, Contents::new());
    let echo = json!({"id": 1, "method": "echo", "params": ["x".repeat(10_000)]}).to_string();
    let mut asked = 0;
    let error = loop {
        assert!(asked < 1_000, "it never gives up");
        asked += 1;
        if let Err(error) = world.mirror.handle_bytes(world.now, echo.as_bytes()) {
            break error.to_string();
        }
    };
    assert!(error.contains("it asks without reading the answers"), "{error}");
}

#[test]
fn what_is_unknown_and_harmless_is_passed_over() {
    let mut world = World::live(MonitorMethod::Plain, Contents::new());
    world.server.say(&json!({"id": null, "method": "news", "params": []}));
    world.server.say(&json!({"id": "q", "method": "how_are_you", "params": []}));
    assert_eq!(world.run(), Ok(()));
    assert_eq!(world.server.received.last().map(String::as_str), Some("reply"));
}

proptest::proptest! {
    #[test]
    fn one_wrong_byte_never_panics(position: proptest::sample::Index, byte: u8, chunk in 1_usize..50) {
        let [first, second, _] = story();
        let mut world = World::new(MonitorMethod::ConditionalSince, first);
        world.connect();
        while let Some(message) = world.mirror.poll_transmit() {
            world.server.handle_bytes(&message);
        }
        let mut honest = world.server.take(usize::MAX);
        let index = position.index(honest.len());
        honest[index] = byte;
        for bytes in honest.chunks(chunk) {
            if world.mirror.handle_bytes(world.now, bytes).is_err() {
                break;
            }
        }
        world.cut();
        world.server.change(second);
        world.connect();
        proptest::prop_assert_eq!(world.run(), Ok(()));
        proptest::prop_assert_eq!(world.mirror.replica(), &replica_of(&world.server.contents));
    }
}
