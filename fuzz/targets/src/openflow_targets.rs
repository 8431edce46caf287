//! OpenFlow's readers: whole messages, streams in pieces, matches, actions, multipart replies, ovs-ofctl's syntax.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use openflow::connection::{Config, Connection, Event};
use openflow::message::{FlowStatsRequest, MeterModCommand, MultipartRequestBody};
use openflow::text::{parse_actions, parse_flow, parse_group, parse_match, parse_meter};
use openflow::{FlowModCommand, GroupModCommand, Match, Message, Xid};

/// What encoding may add to a message that was read: paddings that stood outside of their structure.
const SLACK: usize = 64;

/// A message is a value that encodes to itself, or an error that says where.
pub fn message(data: &[u8]) {
    let (xid, message) = match Message::decode(data) {
        Ok(decoded) => decoded,
        Err(error) => {
            assert!(error.offset <= data.len(), "{error} in {} bytes", data.len());
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    // What was read can be printed.
    let _ = message.display(xid).to_string();
    let again = match message.to_bytes(xid) {
        Ok(again) => again,
        Err(error) => panic!("what was read cannot be written: {error}: {message:?}"),
    };
    assert!(again.len() <= data.len() + SLACK, "{} bytes became {}", data.len(), again.len());
    match Message::decode(&again) {
        Ok((same_xid, same)) => {
            assert_eq!((same_xid, &same), (xid, &message), "reading what was written gives something else");
        }
        Err(error) => panic!("what was written cannot be read: {error}: {message:?}"),
    }
}

/// However a stream is cut, the same events come of it, and an ended connection stays ended.
pub fn stream(data: &[u8]) {
    let (whole, whole_end) = events(data, data.len().max(1));
    let piece = 1 + usize::from(data.first().copied().unwrap_or_default()) % 37;
    let (cut, cut_end) = events(data, piece);
    assert_eq!((whole, whole_end), (cut, cut_end), "in pieces of {piece}");
}

fn events(data: &[u8], piece: usize) -> (Vec<String>, bool) {
    let now = Instant::now();
    let mut connection = Connection::new(Config::default(), now);
    let mut events = Vec::new();
    let mut take = |connection: &mut Connection| {
        while let Some(event) = connection.poll_event() {
            events.push(format!("{event:?}"));
        }
    };
    for part in data.chunks(piece) {
        if connection.handle_bytes(now, part).is_err() {
            break;
        }
        take(&mut connection);
        // Replies to echo requests are no longer than the requests.
        let reply = connection.poll_transmit().map_or(0, |bytes| bytes.len());
        assert!(reply <= data.len() + SLACK, "{reply} bytes of replies to {}", data.len());
    }
    take(&mut connection);
    if let Some(error) = connection.ended().cloned() {
        assert_eq!(connection.handle_bytes(now, b"x").err(), Some(error.clone()), "an end is final");
        assert!(connection.handle_timeout(now + Duration::from_secs(60)).is_err(), "{error}");
        assert!(connection.poll_timeout().is_none() && !connection.is_writable());
    }
    (events, connection.ended().is_some())
}

/// TLVs are a match with the same bytes again, or an error.
pub fn match_fields(data: &[u8]) {
    match Match::from_bytes(data) {
        Ok(read) => {
            assert_eq!(&read.to_bytes()[..], data, "a match keeps the bytes it came from");
            let canonical = read.canonical();
            let again = Match::from_bytes(&canonical.to_bytes()).ok();
            assert_eq!(again.as_ref(), Some(&canonical), "canonical bytes are the canonical match");
            let rebuilt: Match = canonical.iter().cloned().collect();
            assert_eq!(rebuilt, canonical, "an order of its own");
        }
        Err(error) => assert!(error.offset <= data.len(), "{error} in {} bytes", data.len()),
    }
}

/// Actions, inside of a packet-out (OpenFlow 1.3.5 §7.3.7) whose lengths are true.
pub fn actions(data: &[u8]) {
    const HEADER: usize = 24;
    let data = &data[..data.len().min(usize::from(u16::MAX) - HEADER)];
    let length = (HEADER + data.len()) as u16;
    let mut bytes = Vec::with_capacity(HEADER + data.len());
    bytes.extend_from_slice(&[4, 13]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfd]);
    bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes.extend_from_slice(data);
    message(&bytes);
}

/// Parts of a reply that never says it is the last: nothing is collected, and past the limit it is refused. The first byte
/// of the data is the multipart type, what follows is cut into bodies.
pub fn multipart(data: &[u8]) {
    const LIMIT: u64 = 4096;
    let Some((kind, bodies)) = data.split_first() else { return };
    let now = Instant::now();
    let config = Config { max_multipart_bytes: LIMIT, ..Config::default() };
    let mut connection = Connection::new(config, now);
    let _ = connection.handle_bytes(now, &[4, 0, 0, 8, 0, 0, 0, 0]);
    let request = MultipartRequestBody::Flow(FlowStatsRequest::default());
    let Ok(xid) = connection.multipart(request) else { panic!("a new connection takes a request") };
    let mut taken = 0;
    // Without end, but for this test's patience.
    for body in bodies.chunks(512).chain(std::iter::repeat(&[][..])).take(400) {
        let part = part(xid, *kind, body);
        if connection.handle_bytes(now, &part).is_err() {
            break;
        }
        while let Some(event) = connection.poll_event() {
            if matches!(event, Event::Part { .. }) {
                taken += part.len() as u64;
            }
        }
    }
    assert!(taken <= LIMIT, "{taken} bytes of parts were taken");
    assert_eq!(connection.pending(), 0, "nobody waits for the end of it");
}

fn part(xid: Xid, kind: u8, body: &[u8]) -> BytesMut {
    let length = (16 + body.len()) as u16;
    let mut part = BytesMut::new();
    part.extend_from_slice(&[4, 19]);
    part.extend_from_slice(&length.to_be_bytes());
    part.extend_from_slice(&xid.0.to_be_bytes());
    part.extend_from_slice(&[0, kind, 0, 1, 0, 0, 0, 0]);
    part.extend_from_slice(body);
    part
}

/// ovs-ofctl's syntax: what is read can be written and is then a message like any other.
pub fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for command in [FlowModCommand::Add, FlowModCommand::DeleteStrict] {
        if let Ok(flow) = parse_flow(&text, command) {
            encodes(&Message::FlowMod(Box::new(flow)));
        }
    }
    if let Ok(group) = parse_group(&text, GroupModCommand::Add) {
        encodes(&Message::GroupMod(group));
    }
    if let Ok(meter) = parse_meter(&text, MeterModCommand::Add) {
        encodes(&Message::MeterMod(meter));
    }
    if let Ok(match_) = parse_match(&text) {
        match_fields(&match_.to_bytes());
    }
    let _ = parse_actions(&text, &Match::new());
}

/// Text can name more than a message holds; what fits must be a message.
fn encodes(written: &Message) {
    if let Ok(bytes) = written.to_bytes(Xid(0)) {
        // The switch, or our reader, may still refuse it; it may not panic.
        message(&bytes);
    }
}
