//! The driver against a server in memory behind a real socket, one that hangs up wherever a test wants.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::datum::Datum;
use crate::fake_server::{Contents, DATABASE, FakeServer, interest, replica_of};
use crate::session::MonitorMethod;
use crate::transaction::{Selection, Transaction};
use crate::{TransactError, Uuid};

const LIMIT: Duration = Duration::from_secs(10);

fn config() -> ClientConfig {
    ClientConfig {
        database: DATABASE.to_owned(),
        backoff_first: Duration::ZERO,
        transact_timeout: Duration::from_secs(60),
        ..ClientConfig::default()
    }
}

fn contents(number: u8) -> Contents {
    let row = BTreeMap::from([("name", Datum::scalar("a")), ("number", Datum::scalar(i64::from(number)))]);
    Contents::from([(("Thing", Uuid::from_bytes([1; 16])), row)])
}

/// Serves one connection until so many bytes were sent or the client has been idle so long, then hangs up.
async fn serve(server: &mut FakeServer, stream: &mut TcpStream, mut budget: usize, idle: Duration) {
    server.reconnected();
    let mut bytes = [0; 4096];
    while budget > 0 {
        match tokio::time::timeout(idle, stream.read(&mut bytes)).await {
            Ok(Ok(count)) if count > 0 => server.handle_bytes(&bytes[..count]),
            _ => return,
        }
        let out = server.take(budget);
        budget -= out.len();
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_at_every_byte_is_outlived() {
    const BYTES: u8 = 255;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let client = Client::start(Remote::tcp(address.to_string()), interest(), config());
    let mut change = Transaction::new();
    change.delete(Selection::all("Thing"));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.transact(change).await }
    });
    let mut server = FakeServer::new(MonitorMethod::Conditional, Contents::new());
    // Each connection gets four bytes further, through schema, rows and the transaction's outcome.
    for number in 0..BYTES {
        let (mut stream, _) = listener.accept().await.expect("the client comes again");
        server.change(contents(number));
        serve(&mut server, &mut stream, usize::from(number) * 4, Duration::from_millis(20)).await;
    }
    let (mut stream, _) = listener.accept().await.expect("the client comes again");
    let serving = tokio::spawn(async move {
        serve(&mut server, &mut stream, usize::MAX, LIMIT).await;
        server
    });
    let expected = replica_of(&contents(BYTES - 1));
    let whole = client.wait_for(LIMIT, |replica| (*replica == expected).then_some(())).await;
    assert_eq!(whole, Ok(()), "{:?}", client.state());
    let outcome = waiting.await.expect("no panic");
    assert!(matches!(outcome, Ok(_) | Err(TransactError::OutcomeUnknown { .. })), "{outcome:?}");
    drop(client);
    tokio::time::timeout(LIMIT, serving)
        .await
        .expect("the last client ends the connection")
        .expect("no panic");
}

#[tokio::test]
async fn a_dead_client_says_so() {
    let client = {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = {
            let _inside = runtime.enter();
            Client::start(Remote::tcp("127.0.0.1:1"), interest(), config())
        };
        runtime.shutdown_background();
        client
    };
    let ended = client.wait_for(LIMIT, |_| Some(())).await;
    assert!(matches!(ended, Err(WaitError::Ended)), "{ended:?}");
    let outcome = client.transact(Transaction::new()).await;
    assert!(matches!(outcome, Err(TransactError::NotConnected { .. })), "{outcome:?}");
}
