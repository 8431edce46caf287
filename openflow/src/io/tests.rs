//! The task against a switch that says more than is read.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::ClientEvent;
use super::client::Client;
use super::task::Task;
use crate::message::{ErrorCode, ErrorMessage, Hello, Message};
use crate::number::Xid;

/// A real wait, not a measure: what hangs hangs for ever.
const LIMIT: Duration = Duration::from_secs(20);

/// A client and its switch's end of the socket.
async fn connected() -> (Client, mpsc::Receiver<ClientEvent>, UnixStream) {
    let (ours, mut switch) = UnixStream::pair().unwrap();
    let (commands, inbox) = mpsc::channel(4);
    let (events, outbox) = mpsc::channel(4);
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(Task::new(Box::new(ours), Default::default(), inbox, events, ready).run());
    switch.write_all(&said(&[Message::Hello(Hello::default())])).await.unwrap();
    is_ready.await.unwrap().unwrap();
    (Client::new(commands), outbox, switch)
}

fn said(messages: &[Message]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for message in messages {
        message.encode(Xid(0), &mut bytes).unwrap();
    }
    bytes
}

/// Something that nobody asked for.
fn unasked() -> Message {
    let code = ErrorCode::Standard { kind: 1, code: 1 };
    Message::Error(ErrorMessage { code, data: Bytes::new() })
}

#[tokio::test]
async fn who_reads_may_send_for_every_event_though_more_wait_than_there_is_room() {
    let (client, mut events, mut switch) = connected().await;
    switch.write_all(&said(&vec![unasked(); 600])).await.unwrap();
    let every = async {
        for _ in 0..600 {
            assert!(matches!(events.recv().await, Some(ClientEvent::Error { .. })));
            client.send(Message::EchoRequest(Bytes::new())).await.unwrap();
        }
    };
    timeout(LIMIT, every).await.expect("the task and its reader wait for each other");
}

#[tokio::test]
async fn what_is_sent_goes_out_while_nobody_reads() {
    let (client, mut events, mut switch) = connected().await;
    switch.write_all(&said(&vec![unasked(); 600])).await.unwrap();
    for _ in 0..600 {
        timeout(LIMIT, client.send(Message::BarrierRequest)).await.expect("nothing is sent").unwrap();
    }
    let mut heard = vec![0; 8 * 600];
    timeout(LIMIT, switch.read_exact(&mut heard)).await.expect("nothing goes out").unwrap();
    for _ in 0..600 {
        assert!(matches!(events.recv().await, Some(ClientEvent::Error { .. })), "an event is lost");
    }
}
