//! The OVSDB client against a real ovsdb-server and ovs-vswitchd.

#[path = "../../ovsdb/examples/add_port.rs"]
#[allow(dead_code, missing_docs, reason = "the crate page's program, whose main is not run here")]
mod add_port;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ovsdb::io::{Client, ClientConfig, Remote, SettleError, WaitError};
use ovsdb::vswitch::{self, Bridge, Interface, Open_vSwitch, Port};
use ovsdb::{
    DatabaseSchema, Datum, Event, Failure, Function, Interest, InvalidReason, MonitorMethod, OpResult,
    Replica, Reply, Selection, Session, SessionConfig, Table, TransactError, Transaction,
};
use tests::private_ovs::PrivateOvs;

const LIMIT: Duration = Duration::from_secs(10);

fn interest() -> Interest {
    Interest::new().table::<Open_vSwitch>().table::<Bridge>().table::<Port>().table::<Interface>()
}

fn remote(ovs: &PrivateOvs) -> Remote {
    Remote::unix(ovs.db_socket())
}

async fn connect(ovs: &PrivateOvs) -> Client {
    Client::connect(remote(ovs), interest()).await.expect("connect")
}

fn bridge(replica: &Replica, name: &str) -> Option<Bridge> {
    replica.find::<Bridge>(|row| row.name == name).map(|(_, row)| row)
}

fn interface(replica: &Replica, name: &str) -> Option<Interface> {
    replica.find::<Interface>(|row| row.name == name).map(|(_, row)| row)
}

#[test]
fn a_private_switch_starts_and_answers() {
    let Some(ovs) = PrivateOvs::start().expect("start") else { return };
    ovs.vsctl(["add-br", "br0"]).expect("add-br");
    assert!(ovs.mgmt_socket("br0").exists());
    assert!(ovs.ofctl(["dump-flows", "br0"]).expect("dump").contains("NORMAL"));
}

#[tokio::test]
async fn the_program_of_the_crate_page_adds_a_port() {
    let Some(ovs) = PrivateOvs::start().expect("start") else { return };
    let missing = add_port::add_port(ovs.db_socket(), "br0", "p1").await.expect_err("there is no bridge");
    assert!(missing.to_string().contains("operation 0 (wait on Bridge) failed: timed out"), "{missing}");
    ovs.vsctl(["add-br", "br0"]).expect("add-br");
    let ofport = add_port::add_port(ovs.db_socket(), "br0", "p1").await.expect("add");
    assert_eq!(ofport, Some(1));
    assert_eq!(ovs.vsctl(["get", "Interface", "p1", "ofport"]).expect("get").trim(), "1");
}

#[tokio::test]
async fn the_replica_follows_what_others_do() {
    let Some(ovs) = PrivateOvs::start().expect("start") else { return };
    let client = connect(&ovs).await;
    let missing = client.state().missing;
    assert!(
        missing.iter().all(|missing| !["name", "ofport", "ports", "cur_cfg"]
            .contains(&missing.column.as_deref().unwrap_or("name"))),
        "{missing:?}"
    );
    type Check = fn(&Replica) -> bool;
    let steps: [(&str, Check); 8] = [
        ("add-br br0", |r| bridge(r, "br0").is_some_and(|b| b.ports.len() == 1)),
        ("add-port br0 p1 -- set Interface p1 type=dummy ofport_request=7", |r| {
            interface(r, "p1").is_some_and(|i| i.ofport == Some(7) && i.ofport_request == Some(7))
        }),
        ("set Interface p1 external_ids:a=1 external_ids:b=2", |r| {
            interface(r, "p1").is_some_and(|i| i.external_ids.len() == 2)
        }),
        ("set Interface p1 external_ids:a=3 -- remove Interface p1 external_ids b", |r| {
            interface(r, "p1").is_some_and(|i| i.external_ids.iter().eq([(&"a".to_owned(), &"3".to_owned())]))
        }),
        ("set Bridge br0 protocols=OpenFlow13,OpenFlow15 fail_mode=secure", |r| {
            bridge(r, "br0")
                .is_some_and(|b| b.protocols.len() == 2 && b.fail_mode.as_deref() == Some("secure"))
        }),
        ("remove Bridge br0 protocols OpenFlow15 -- clear Bridge br0 fail_mode", |r| {
            bridge(r, "br0").is_some_and(|b| b.protocols.len() == 1 && b.fail_mode.is_none())
        }),
        ("add-port br0 nowhere -- set Interface nowhere type=nonsense", |r| {
            interface(r, "nowhere").is_some_and(|i| i.error.is_some() && i.ofport == Some(-1))
        }),
        ("del-port p1", |r| interface(r, "p1").is_none()),
    ];
    for (change, check) in steps {
        // ovs-vsctl itself fails on the interface that cannot be made; the database changes all the same.
        let _ = ovs.vsctl(change.split(' '));
        let seen = client.wait_for(LIMIT, |replica| check(replica).then_some(())).await;
        assert_eq!(seen, Ok(()), "{change}: {:?}", client.snapshot());
    }
    settle(&client).await;
    let fresh = connect(&ovs).await;
    let difference = client.snapshot().difference(&fresh.snapshot());
    assert!(difference.is_empty(), "{difference:?}");
}

/// Lets ovs-vswitchd come to rest, and the client hear of it.
async fn settle(client: &Client) {
    client.transact_and_settle(Transaction::new(), LIMIT).await.expect("settle");
}

#[tokio::test]
async fn each_way_of_failing_is_told_with_its_operation() {
    let Some(ovs) = PrivateOvs::start().expect("start") else { return };
    ovs.vsctl(["add-br", "br0"]).expect("add-br");
    let client = connect(&ovs).await;
    let before = client.snapshot();
    let br0 = || Bridge::with(Bridge::NAME.equals("br0"));
    let nobody = ovsdb::Uuid::from_bytes([7; 16]);
    type Build<'a> = &'a dyn Fn(&mut Transaction);
    let cases: [(&str, Failure, &str, Build<'_>); 8] = [
        ("a value out of its range", Failure::ConstraintViolation, "operation 1 (update on Bridge)", &|t| {
            t.comment("first");
            t.update(br0(), Bridge::row().set(Bridge::FAIL_MODE, Some("open".to_owned())));
        }),
        ("an index", Failure::ConstraintViolation, "commit", &|t| {
            let row = t.insert(Bridge::row().set(Bridge::NAME, "br0"));
            t.mutate(Open_vSwitch::all(), [Open_vSwitch::BRIDGES.insert([row])]);
        }),
        ("a dangling reference", Failure::ReferentialIntegrity, "commit", &|t| {
            t.mutate(br0(), [Bridge::PORTS.insert([nobody])]);
        }),
        ("a wait in vain", Failure::TimedOut, "operation 0 (wait on Bridge)", &|t| {
            t.require(Bridge::NAME, "br1");
        }),
        ("a lock of others", Failure::NotOwner, "operation 0 (assert)", &|t| {
            t.assert_lock("not_mine");
        }),
        ("an abort", Failure::Aborted, "operation 1 (abort)", &|t| {
            t.delete(br0());
            t.abort();
        }),
        ("a division by zero", Failure::Domain, "operation 0 (mutate on Open_vSwitch)", &|t| {
            let (mutator, value) = (ovsdb::Mutator::Divide, Datum::scalar(0));
            t.mutate(Open_vSwitch::all(), [ovsdb::Mutation { column: "next_cfg".into(), mutator, value }]);
        }),
        ("a condition of the wrong type", Failure::Syntax, "operation 0 (delete on Bridge)", &|t| {
            let (function, value) = (Function::Equal, Datum::scalar(5));
            t.delete(Selection::all("Bridge").and(ovsdb::Condition {
                column: "name".into(),
                function,
                value,
            }));
        }),
    ];
    for (case, failure, expected, build) in cases {
        let mut transaction = Transaction::new();
        build(&mut transaction);
        let error = client.transact(transaction).await.expect_err(case);
        match &error {
            TransactError::Refused { place, failure: got, error } => {
                assert_eq!((place.to_string().as_str(), *got), (expected, failure), "{case}: {error}");
                assert!(!error.details.is_empty(), "{case}");
            }
            other => panic!("{case}: {other}"),
        }
    }
    let unsent: [(&str, InvalidReason, Build<'_>); 4] = [
        ("a lock's name", InvalidReason::LockName { name: "not-mine".into() }, &|t| {
            t.assert_lock("not-mine");
        }),
        (
            "an unknown column",
            InvalidReason::UnknownColumn { column: "flavour".into(), version: client_schema(&ovs) },
            &|t| {
                t.update(br0(), Bridge::row().set_datum("flavour", Datum::scalar("sweet")));
            },
        ),
        ("a fixed column", InvalidReason::Immutable { column: "name".into() }, &|t| {
            t.update(br0(), Bridge::row().set(Bridge::NAME, "br1"));
        }),
        (
            "a number for a text",
            InvalidReason::WrongType { column: "name".into(), expected: "string".into(), value: "5".into() },
            &|t| drop(t.insert(Bridge::row().set_datum("name", Datum::scalar(5)))),
        ),
    ];
    for (case, reason, build) in unsent {
        let mut transaction = Transaction::new();
        build(&mut transaction);
        match client.transact(transaction).await {
            Err(TransactError::Invalid(invalid)) => assert_eq!(invalid.problem, reason, "{case}"),
            other => panic!("{case}: {other:?}"),
        }
    }
    assert!(before.difference(&client.snapshot()).is_empty(), "nothing of what failed took effect");
    assert_eq!(client.state().synchronizations, 1, "nor did it cost the connection");
}

fn client_schema(ovs: &PrivateOvs) -> String {
    let version = std::process::Command::new("ovsdb-tool").arg("db-version").arg(ovs.database()).output();
    String::from_utf8_lossy(&version.expect("ovsdb-tool runs").stdout).trim().to_owned()
}

#[tokio::test]
async fn every_operation_answers() {
    let Some(ovs) = PrivateOvs::start().expect("start") else { return };
    ovs.vsctl(["add-br", "br0"]).expect("add-br");
    let client = connect(&ovs).await;
    let mut t = Transaction::new();
    let br0 = t.require(Bridge::NAME, "br0");
    t.comment("every operation");
    t.update(br0.clone(), Bridge::row().set(Bridge::DATAPATH_TYPE, "netdev"));
    t.mutate(br0.clone(), Bridge::EXTERNAL_IDS.put("k".to_owned(), "v".to_owned()));
    t.mutate(br0.clone(), Bridge::EXTERNAL_IDS.put("k".to_owned(), "w".to_owned()));
    let read = t.select(br0.clone(), None);
    t.delete(Bridge::with(Bridge::NAME.equals("none")));
    t.commit(true);
    let outcome = client.transact(t).await.expect("transact");
    let row = &outcome.rows(read).expect("rows")[0];
    let typed: Bridge = row.read();
    assert_eq!(typed.external_ids.get("k").map(String::as_str), Some("w"));
    assert!(row.uuid().is_some());
    let count = |index: usize| outcome.count(index);
    assert_eq!([count(2), count(3), count(6)], [Some(1), Some(1), Some(0)]);
    assert_eq!([&outcome.results[0], &outcome.results[1], &outcome.results[7]], [&OpResult::Done; 3]);
    let seen = bridge(&client.snapshot(), "br0").expect("br0");
    assert_eq!(seen.external_ids, typed.external_ids, "the outcome comes after the update that it caused");
}

/// A session over a blocking socket, with its replica.
struct Blocking {
    stream: UnixStream,
    session: Session,
    replica: Replica,
}

impl Blocking {
    /// Monitors every table by the given method, with the schema of the server.
    fn monitor(ovs: &PrivateOvs, method: MonitorMethod) -> (Self, Arc<DatabaseSchema>) {
        let stream = UnixStream::connect(ovs.db_socket()).expect("connect");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        let session = Session::new(SessionConfig::default(), Instant::now());
        let mut this = Self { stream, session, replica: Replica::default() };
        this.session.get_schema(vswitch::DATABASE);
        let Event::Reply { reply: Ok(Reply::Schema(schema)), .. } = this.next() else { panic!("no schema") };
        let everything =
            schema.tables.keys().fold(Interest::new(), |interest, table| interest.whole_table(table));
        let (monitored, missing) = everything.agree(&schema);
        assert_eq!(missing, []);
        let monitored = Arc::new(monitored);
        this.session.monitor_by(method, Arc::clone(&monitored), None);
        let Event::Reply { reply: Ok(Reply::Monitoring(start)), .. } = this.next() else { panic!("no rows") };
        assert_eq!((start.method, start.continues), (method, false));
        this.replica = Replica::initial(&monitored, &start.updates).expect("consistent");
        (this, schema)
    }

    fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.session.poll_event() {
                return event;
            }
            while let Some(message) = self.session.poll_transmit() {
                self.stream.write_all(&message).expect("write");
            }
            let mut bytes = [0; 1000];
            let count = self.stream.read(&mut bytes).expect("read");
            assert!(count > 0, "the server hung up");
            self.session.handle_bytes(Instant::now(), &bytes[..count]).expect("honest");
        }
    }

    /// Applies every update that precedes the reply to a transaction of ours.
    fn catch_up(&mut self, schema: &Arc<DatabaseSchema>) {
        let mut nothing = Transaction::new();
        nothing.comment("catch up");
        let asked = self.session.transact(Arc::new(nothing), schema).expect("valid");
        loop {
            match self.next() {
                Event::Update { updates, .. } => drop(self.replica.apply(&updates).expect("consistent")),
                Event::Transaction { request, outcome } if request == asked => {
                    return drop(outcome.expect("good"));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn each_way_of_monitoring_leads_to_the_same_rows() {
    let Some(ovs) = PrivateOvs::start_database().expect("start") else { return };
    let methods = [MonitorMethod::ConditionalSince, MonitorMethod::Conditional, MonitorMethod::Plain];
    let mut followers = methods.map(|method| Blocking::monitor(&ovs, method));
    for change in [
        "add-br br0 -- set Bridge br0 protocols=OpenFlow13 other_config:a=1 external_ids:é=\"\\\"}\"",
        "add-br br1 -- set Bridge br1 flood_vlans=1,2,3 fail_mode=secure",
        "set Bridge br0 protocols=OpenFlow13,OpenFlow14 other_config:a=2 other_config:b=3",
        "set Bridge br1 flood_vlans=3,4 -- remove Bridge br0 other_config a",
        "clear Bridge br1 flood_vlans -- clear Bridge br1 fail_mode -- set Open_vSwitch . cur_cfg=-7",
        "add-port br0 p0 tag=5 trunks=1,2 -- set Interface p0 ofport=3 statistics:x=1 statistics:y=2",
        "clear Port p0 tag -- set Port p0 trunks=2 -- set Interface p0 ofport=4 statistics:x=2",
        "clear Interface p0 ofport -- del-br br1",
        "set-manager ptcp:1:127.0.0.1 ptcp:2:127.0.0.1 -- set-fail-mode br0 standalone",
        "del-manager -- del-br br0",
    ] {
        ovs.vsctl(change.split(' ')).expect(change);
        let (fresh, _) = Blocking::monitor(&ovs, MonitorMethod::Plain);
        for (follower, schema) in &mut followers {
            follower.catch_up(schema);
            let difference = follower.replica.difference(&fresh.replica);
            assert!(difference.is_empty(), "{change}: {difference:?}");
        }
    }
}

#[tokio::test]
async fn a_restart_of_the_server_is_one_synchronisation() {
    let Some(mut ovs) = PrivateOvs::start_database().expect("start") else { return };
    ovs.vsctl(["add-br", "br0"]).expect("add-br");
    let client = connect(&ovs).await;
    let before = client.snapshot();
    ovs.kill_ovsdb().expect("kill");
    let down = client.wait_for_state(LIMIT, |state| (!state.live).then(|| state.replica.clone())).await;
    assert!(before.difference(&down.expect("down")).is_empty(), "the replica outlives the connection");
    let mut change = Transaction::new();
    let br0 = change.require(Bridge::NAME, "br0");
    change.mutate(br0, Bridge::EXTERNAL_IDS.put("while".to_owned(), "down".to_owned()));
    let (waiting, ()) = tokio::join!(client.transact(change), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        ovs.start_ovsdb().expect("start again");
    });
    waiting.expect("a transaction waits for the next connection");
    let state = client.state();
    assert_eq!((state.live, state.synchronizations, state.error), (true, 2, None));
    assert_eq!(bridge(&state.replica, "br0").expect("br0").external_ids["while"], "down");
    assert_eq!(before.difference(&state.replica).rows.len(), 1, "all else is as it was");
    let fresh = connect(&ovs).await.snapshot();
    assert!(state.replica.difference(&fresh).is_empty());
}

#[tokio::test]
async fn a_server_that_stops_to_answer_is_noticed_and_outcomes_are_honest() {
    let Some(ovs) = PrivateOvs::start_database().expect("start") else { return };
    let config = ClientConfig {
        session: SessionConfig { probe_interval: Duration::from_millis(200), ..SessionConfig::default() },
        ..ClientConfig::default()
    };
    let client = Client::connect_with(remote(&ovs), interest(), config).await.expect("connect");
    let pid = Pid::from_raw(ovs.ovsdb_pid().expect("it runs").try_into().expect("a pid"));
    kill(pid, Signal::SIGSTOP).expect("stop");
    let mut change = Transaction::new();
    change.mutate(Open_vSwitch::all(), [Open_vSwitch::NEXT_CFG.increase_by(1)]);
    let outcome = client.transact(change).await;
    assert!(
        matches!(&outcome, Err(TransactError::OutcomeUnknown { reason }) if reason.contains("silent")),
        "{outcome:?}"
    );
    kill(pid, Signal::SIGCONT).expect("continue");
    let next =
        client.wait_for_state(LIMIT, |state| (state.live && state.synchronizations > 1).then_some(())).await;
    assert_eq!(next, Ok(()));
}

#[tokio::test]
async fn an_idle_client_answers_the_servers_probes() {
    let Some(ovs) = PrivateOvs::start_database().expect("start") else { return };
    let socket = ovs.rundir().join("probing.sock");
    let target = format!("punix:{}", socket.display());
    ovs.vsctl(["set-manager", &target, "--", "set", "Manager", ".", "inactivity_probe=1000"])
        .expect("set-manager");
    let client = Client::start(Remote::unix(&socket), interest(), ClientConfig::default());
    client.wait_for(LIMIT, |_| Some(())).await.expect("connect");
    // The default of our own probes is 5 s: in this time only the server probes.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let state = client.state();
    assert_eq!((state.live, state.synchronizations), (true, 1));
}

#[tokio::test]
async fn a_switch_that_is_down_is_told_from_a_change_that_failed() {
    let Some(mut ovs) = PrivateOvs::start().expect("start") else { return };
    let client = connect(&ovs).await;
    ovs.kill_vswitchd().expect("kill");
    let limit = Duration::from_millis(200);
    match client.transact_and_settle(Transaction::new(), limit).await {
        Err(SettleError::Switch { error: WaitError::TimedOut(waited), .. }) => assert_eq!(waited, limit),
        other => panic!("{other:?}"),
    }
    ovs.start_vswitchd().expect("start again");
    settle(&client).await;
}

#[tokio::test]
async fn a_lock_has_one_owner_and_passes_on() {
    let Some(mut ovs) = PrivateOvs::start_database().expect("start") else { return };
    let (first, second) = (connect(&ovs).await, connect(&ovs).await);
    let has = |client: &Client, held| {
        let client = client.clone();
        async move {
            let found = client
                .wait_for_state(LIMIT, |state| (state.locks.get("L") == Some(&held)).then_some(()))
                .await;
            assert_eq!(found, Ok(()));
        }
    };
    first.lock("L").await;
    has(&first, true).await;
    second.lock("L").await;
    let mut change = Transaction::new();
    change.assert_lock("L");
    assert_eq!(
        second.transact(change.clone()).await.map_err(|error| error.failure()),
        Err(Some(Failure::NotOwner))
    );
    first.transact(change.clone()).await.expect("it is ours");
    drop(first);
    has(&second, true).await;
    ovs.kill_ovsdb().expect("kill");
    has(&second, false).await;
    ovs.start_ovsdb().expect("start again");
    has(&second, true).await;
    second.transact(change).await.expect("it is ours again");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let Some(ovs) = PrivateOvs::start_database().expect("start") else { return };
    let config = || ClientConfig { connect_timeout: Duration::from_millis(300), ..ClientConfig::default() };
    let nowhere = Remote::unix(ovs.rundir().join("nowhere.sock"));
    let error =
        Client::connect_with(nowhere, interest(), config()).await.expect_err("nothing listens").to_string();
    assert!(error.contains("nowhere.sock") && error.contains("ovsdb-server"), "{error}");
    let other = ClientConfig { database: "Nonsense".to_owned(), ..config() };
    let error =
        Client::connect_with(remote(&ovs), Interest::new(), other).await.expect_err("no such database");
    assert!(error.to_string().contains("get_schema of database Nonsense"), "{error}");
    let name = vswitch::DATABASE;
    assert_eq!(name, "Open_vSwitch");
}
