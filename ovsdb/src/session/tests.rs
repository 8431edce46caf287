//! Each request in its bytes, and each reply in its meaning (RFC 7047 §4.1).

use serde_json::{Value as Json, json};

use super::*;
use crate::atom::Atom;
use crate::datum::Datum;
use crate::fake_server::{FakeServer, monitored, schema, schema_json};
use crate::outcome::{Failure, OpResult, Place};
use crate::transaction::{Condition, Function, Mutation, Mutator, Operation, Selection, Transaction};

fn session() -> (Session, Instant) {
    let now = Instant::now();
    (Session::new(SessionConfig::default(), now), now)
}

/// The only message that waits to be written.
fn sent(session: &mut Session) -> Json {
    let message = session.poll_transmit().expect("a message");
    assert!(session.poll_transmit().is_none());
    serde_json::from_slice(&message).expect("JSON")
}

fn say(session: &mut Session, json: &Json) -> Result<(), SessionError> {
    session.handle_bytes(Instant::now(), json.to_string().as_bytes())
}

#[test]
fn each_request_and_its_reply() {
    type Ask = fn(&mut Session) -> RequestId;
    let id = "01020304-0506-0708-090a-0b0c0d0e0f10";
    let cases: [(Ask, Json, Json, Reply); 10] = [
        (
            |s| s.list_dbs(),
            json!(["list_dbs", []]),
            json!(["a", "b"]),
            Reply::Databases(vec!["a".into(), "b".into()]),
        ),
        (
            |s| s.get_schema("Fake"),
            json!(["get_schema", ["Fake"]]),
            schema_json(),
            Reply::Schema(Arc::new(schema())),
        ),
        (
            |s| s.monitor_cancel(MonitorId(7)),
            json!(["monitor_cancel", [7]]),
            json!({}),
            Reply::MonitorCanceled,
        ),
        (|s| s.lock("L"), json!(["lock", ["L"]]), json!({"locked": false}), Reply::Lock { held: false }),
        (|s| s.steal("L"), json!(["steal", ["L"]]), json!({"locked": true}), Reply::Lock { held: true }),
        (|s| s.unlock("L"), json!(["unlock", ["L"]]), json!({}), Reply::Unlocked),
        (|s| s.echo(), json!(["echo", []]), json!([]), Reply::Echoed),
        (
            |s| s.set_db_change_aware(true),
            json!(["set_db_change_aware", [true]]),
            json!({}),
            Reply::ChangeAware,
        ),
        (
            |s| s.server_id(),
            json!(["get_server_id", []]),
            json!(id),
            Reply::ServerId(id.parse().expect("a UUID")),
        ),
        (
            |s| s.change_conditions(MonitorId(7), "Thing", &[]),
            json!(["monitor_cond_change", [7, 7, {"Thing": [{"where": [true]}]}]]),
            json!({}),
            Reply::ConditionsChanged,
        ),
    ];
    for (ask, asked, result, reply) in cases {
        let (mut session, _) = session();
        let request = ask(&mut session);
        assert_eq!(sent(&mut session), json!({"method": asked[0], "params": asked[1], "id": request.0}));
        assert_eq!(session.unanswered(), 1);
        assert_eq!(say(&mut session, &json!({"id": request.0, "result": result, "error": null})), Ok(()));
        assert_eq!(session.poll_event(), Some(Event::Reply { request, reply: Ok(reply) }));
        assert_eq!((session.poll_event(), session.unanswered()), (None, 0));
    }
}

#[test]
fn a_refusal_names_the_request_that_was_refused() {
    let (mut session, _) = session();
    let lock = session.lock("L");
    let schema = session.get_schema("Nope");
    // Out of order, as a server may answer.
    let error = json!({"error": "unknown database", "details": "no Nope", "syntax": "[\"Nope\"]"});
    assert_eq!(say(&mut session, &json!({"id": schema.0, "error": error})), Ok(()));
    assert_eq!(say(&mut session, &json!({"id": lock.0, "error": "busy"})), Ok(()));
    let mut refused = || match session.poll_event() {
        Some(Event::Reply { request, reply: Err(refused) }) => (request, refused.to_string()),
        other => panic!("{other:?}"),
    };
    let expected =
        "the database server refused get_schema of database Nope: unknown database: no Nope (in [\"Nope\"])";
    assert_eq!(refused(), (schema, expected.to_owned()));
    assert_eq!(refused(), (lock, "the database server refused lock of lock L: busy".to_owned()));
}

#[test]
fn the_peers_echo_is_answered_under_its_id() {
    let (mut session, _) = session();
    assert_eq!(say(&mut session, &json!({"id": ["x", 1], "method": "echo", "params": [1, "a"]})), Ok(()));
    assert_eq!(sent(&mut session), json!({"id": ["x", 1], "result": [1, "a"], "error": null}));
    assert_eq!(session.poll_event(), None);
}

#[test]
fn monitoring_falls_back_under_one_id() {
    for method in [MonitorMethod::ConditionalSince, MonitorMethod::Conditional, MonitorMethod::Plain] {
        let (mut session, now) = session();
        let mut server = FakeServer::new(method, BTreeMap::new());
        let request = session.monitor(Arc::new(monitored()), None);
        for _ in 0..3 {
            while let Some(message) = session.poll_transmit() {
                server.handle_bytes(&message);
            }
            assert_eq!(session.handle_bytes(now, &server.take(usize::MAX)), Ok(()));
        }
        match session.poll_event() {
            Some(Event::Reply { request: answered, reply: Ok(Reply::Monitoring(start)) }) => {
                assert_eq!((answered, start.method), (request, method));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn notifications_of_locks_and_monitors() {
    let (mut session, _) = session();
    let monitored = Arc::new(monitored());
    let RequestId(monitor) = session.monitor_by(MonitorMethod::Plain, monitored, None);
    let notify = |session: &mut Session, method: &str, params: Json| {
        say(session, &json!({"id": null, "method": method, "params": params}))
    };
    assert_eq!(notify(&mut session, "locked", json!(["L"])), Ok(()));
    assert_eq!(notify(&mut session, "stolen", json!(["L"])), Ok(()));
    assert_eq!(notify(&mut session, "monitor_canceled", json!([monitor])), Ok(()));
    assert_eq!(session.poll_event(), Some(Event::Locked { lock: "L".into() }));
    assert_eq!(session.poll_event(), Some(Event::Stolen { lock: "L".into() }));
    assert_eq!(session.poll_event(), Some(Event::MonitorCanceled { monitor: MonitorId(monitor) }));
    let error = notify(&mut session, "update", json!([monitor, {}])).expect_err("it was cancelled");
    assert!(matches!(error, SessionError::MalformedNotification { .. }));
}

/// A transaction with every operation.
fn every_operation() -> Transaction {
    let mut t = Transaction::new();
    let row = BTreeMap::from([("name".to_owned(), Datum::scalar("a"))]);
    let condition =
        Condition { column: "name".into(), function: Function::NotEqual, value: Datum::scalar("b") };
    let rows = Selection::all("Thing").and(condition);
    let new = t.insert_untyped("Thing", row.clone());
    t.select(rows.clone(), Some(&["name", "_uuid"]));
    let number = BTreeMap::from([("number".to_owned(), Datum::set([1]))]);
    t.push(Operation::Update { rows: rows.clone(), row: number });
    let mutation =
        Mutation { column: "tags".into(), mutator: Mutator::Insert, value: Datum::set(["x", "y"]) };
    t.mutate(rows.clone(), [mutation]);
    t.delete(rows.clone());
    t.push(Operation::Wait {
        rows,
        columns: vec!["name".into()],
        equal: false,
        expected: vec![row],
        timeout: Some(Duration::from_millis(20)),
    });
    t.commit(true);
    t.comment("why");
    t.assert_lock("L");
    t.abort();
    assert_eq!(Atom::from(new), Atom::NamedUuid("row0".into()));
    t
}

#[test]
fn operations_have_the_form_of_the_specification() {
    let rows = json!([["name", "!=", "b"]]);
    let expected = json!([
        "Fake",
        {"op": "insert", "table": "Thing", "row": {"name": "a"}, "uuid-name": "row0"},
        {"op": "select", "table": "Thing", "where": rows, "columns": ["name", "_uuid"]},
        {"op": "update", "table": "Thing", "where": rows, "row": {"number": 1}},
        {"op": "mutate", "table": "Thing", "where": rows, "mutations": [["tags", "insert", ["set", ["x", "y"]]]]},
        {"op": "delete", "table": "Thing", "where": rows},
        {"op": "wait", "table": "Thing", "where": rows, "columns": ["name"], "until": "!=", "rows": [{"name": "a"}],
         "timeout": 20},
        {"op": "commit", "durable": true},
        {"op": "comment", "comment": "why"},
        {"op": "assert", "lock": "L"},
        {"op": "abort"},
    ]);
    assert_eq!(every_operation().to_json(&schema()), Ok(expected));
}

/// What becomes of a transaction that is answered by `reply`.
fn answered(transaction: Transaction, reply: Json) -> Result<Outcome, TransactError> {
    let (mut session, _) = session();
    let request = session.transact(Arc::new(transaction), &Arc::new(schema())).expect("valid");
    let mut message = json!({ "id": request.0 });
    message.as_object_mut().expect("an object").extend(reply.as_object().expect("an object").clone());
    say(&mut session, &message).expect("a reply");
    match session.poll_event() {
        Some(Event::Transaction { request: told, outcome }) if told == request => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn outcomes_and_failures_name_their_operation() {
    let uuid = json!(["uuid", "01020304-0506-0708-090a-0b0c0d0e0f10"]);
    let results = json!([
        {"uuid": uuid}, {"rows": [{"name": "a", "_uuid": uuid}]}, {"count": 1}, {"count": 2}, {"count": 0},
        {}, {}, {}, {}, {}
    ]);
    let outcome = answered(every_operation(), json!({"result": results, "error": null})).expect("good");
    let row = &outcome.rows(1).expect("rows")[0];
    assert_eq!(row.get("name"), Some(&Datum::scalar("a")));
    assert_eq!(outcome.results[0], OpResult::Inserted(row.uuid().expect("a UUID")));
    assert_eq!([2, 3, 4, 5].map(|index| outcome.count(index)), [Some(1), Some(2), Some(0), None]);

    let refused =
        json!([{"uuid": uuid}, {"rows": []}, {"error": "constraint violation", "details": "d"}, null]);
    match answered(every_operation(), json!({"result": refused, "error": null})) {
        Err(error @ TransactError::Refused { .. }) => {
            assert_eq!(error.failure(), Some(Failure::ConstraintViolation));
            assert_eq!(error.to_string(), "operation 2 (update on Thing) failed: constraint violation: d");
        }
        other => panic!("{other:?}"),
    }
    let mut delete = Transaction::new();
    delete.delete(Selection::all("Thing"));
    let commit = json!([{"count": 1}, {"error": "referential integrity violation"}]);
    match answered(delete.clone(), json!({"result": commit, "error": null})) {
        Err(TransactError::Refused {
            place: Place::Commit, failure: Failure::ReferentialIntegrity, ..
        }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(answered(delete.clone(), json!({"error": "canceled"})), Err(TransactError::Canceled));
    let whole =
        answered(delete.clone(), json!({"error": {"error": "unknown database", "details": "no Fake"}}));
    assert_eq!(whole.map_err(|error| error.failure()), Err(Some(Failure::UnknownDatabase)));
    for (reply, problem) in [
        (json!({"result": {}}), "the result is {}, not an array"),
        (json!({"result": []}), "0 results for 1 operations"),
        (json!({"result": [{}]}), "no \"count\" in {}"),
        (json!({"result": [{"count": -1}]}), "-1 is no count"),
        (json!({"result": [null]}), "no \"count\" in null"),
        (json!({"result": [{"count": 1}, {"count": 1}]}), "2 results for 1 operations"),
    ] {
        match answered(delete.clone(), reply.clone()) {
            Err(TransactError::Malformed { problem: told }) => {
                assert!(told.contains(problem), "{reply}: {told}")
            }
            other => panic!("{reply}: {other:?}"),
        }
    }
}

#[test]
fn what_the_schema_cannot_hold_is_not_sent() {
    let (mut session, _) = session();
    let mut t = Transaction::new();
    t.comment("first");
    t.delete(Selection::all("Nothing"));
    let error = session.transact(Arc::new(t), &Arc::new(schema())).expect_err("no such table").to_string();
    assert_eq!(
        error,
        "operation 1 (delete on Nothing): the server's database Fake (schema 1.0.0) has no such table"
    );
    assert!(session.poll_transmit().is_none());
}
