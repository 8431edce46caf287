//! A connection against a switch made of a few lines, in virtual time, over a transport that splits bytes anywhere.

use super::*;
use crate::flow::FlowMod;
use crate::flow_match::Match;
use crate::instruction::Instruction;
use crate::message::{BundleControlType, BundleFlags, MultipartReply};
use crate::number::TableId;

/// Answers as Open vSwitch does; refuses flows of table 254.
struct Switch {
    received: BytesMut,
    transmit: BytesMut,
    flows: Vec<FlowMod>,
    bundle: Vec<FlowMod>,
    mute: bool,
}

impl Switch {
    fn new() -> Switch {
        let mut transmit = BytesMut::new();
        Message::Hello(Hello::default()).encode(Xid(1), &mut transmit).unwrap();
        Switch { received: BytesMut::new(), transmit, flows: Vec::new(), bundle: Vec::new(), mute: false }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        while let Ok(Some(length)) = Message::length(&self.received) {
            if length > self.received.len() {
                return;
            }
            let bytes = self.received.split_to(length);
            let (xid, message) = Message::decode(&bytes).unwrap();
            if !self.mute {
                self.answer(xid, message);
            }
        }
    }

    fn say(&mut self, xid: Xid, message: Message) {
        message.encode(xid, &mut self.transmit).unwrap();
    }

    fn refuse(&mut self, xid: Xid, kind: u16, code: u16) {
        let code = ErrorCode::Standard { kind, code };
        self.say(xid, Message::Error(ErrorMessage { code, data: Bytes::new() }));
    }

    fn answer(&mut self, xid: Xid, message: Message) {
        match message {
            Message::Hello(_) => {}
            Message::EchoRequest(data) => self.say(xid, Message::EchoReply(data)),
            Message::BarrierRequest => self.say(xid, Message::BarrierReply),
            Message::FlowMod(flow) if flow.table.0 == 254 => self.refuse(xid, 5, 2),
            Message::FlowMod(flow) => self.flows.push(*flow),
            Message::BundleAdd(add) => match add.message {
                Message::FlowMod(flow) if flow.table.0 == 254 => self.refuse(add.xid, 5, 2),
                Message::FlowMod(flow) => self.bundle.push(*flow),
                _ => self.refuse(add.xid, 1, 1),
            },
            Message::BundleControl(mut control) => {
                use BundleControlType::*;
                control.kind = match control.kind {
                    OpenRequest => OpenReply,
                    CommitRequest => {
                        self.flows.append(&mut self.bundle);
                        CommitReply
                    }
                    _ => {
                        self.bundle.clear();
                        DiscardReply
                    }
                };
                self.say(xid, Message::BundleControl(control));
            }
            Message::MultipartRequest(_) => {
                for more in [true, true, false] {
                    let body = MultipartReplyBody::Flow(vec![Default::default()]);
                    self.say(xid, Message::MultipartReply(MultipartReply { more, body }));
                }
            }
            other => panic!("the switch does not know {other:?}"),
        }
    }
}

struct Pair {
    connection: Connection,
    switch: Switch,
    now: Instant,
    piece: usize,
}

impl Pair {
    fn new(piece: usize) -> Pair {
        let now = Instant::now();
        Pair { connection: Connection::new(Config::default(), now), switch: Switch::new(), now, piece }
    }

    /// Carries bytes both ways until both are silent; gives what happened.
    fn run(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let mut quiet = true;
            if let Some(bytes) = self.connection.poll_transmit() {
                bytes.chunks(self.piece).for_each(|piece| self.switch.hear(piece));
                quiet = false;
            }
            let bytes = self.switch.transmit.split();
            for piece in bytes.chunks(self.piece) {
                self.connection.handle_bytes(self.now, piece).unwrap();
                quiet = false;
            }
            events.extend(std::iter::from_fn(|| self.connection.poll_event()));
            if quiet {
                return events;
            }
        }
    }
}

fn flow(table: u8) -> Message {
    let flow =
        FlowMod::add(TableId(table), 7, Match::new(), vec![Instruction::GotoTable(TableId(table + 1))]);
    Message::FlowMod(Box::new(flow))
}

#[test]
fn hello_in_pieces_of_every_size() {
    for piece in 1..20 {
        let mut pair = Pair::new(piece);
        assert!(matches!(pair.run()[..], [Event::Connected]), "piece {piece}");
        assert!(pair.connection.is_connected());
    }
}

#[test]
fn a_bundle_is_committed_after_the_barrier() {
    let mut pair = Pair::new(3);
    pair.run();
    let bundle = pair.connection.open_bundle(BundleFlags::ATOMIC | BundleFlags::ORDERED).unwrap();
    for table in 0..9 {
        pair.connection.add_to_bundle(bundle, flow(table)).unwrap();
    }
    assert!(pair.run().is_empty());
    assert!(pair.switch.flows.is_empty());
    pair.connection.finish_bundle(bundle).unwrap();
    let events = pair.run();
    assert!(
        matches!(&events[..], [Event::Bundle { outcome: Ok(committed), .. }] if committed.messages == 9),
        "{events:?}"
    );
    assert_eq!(pair.switch.flows.len(), 9);
}

#[test]
fn one_refused_message_discards_the_bundle_and_is_named() {
    for late in [false, true] {
        let mut pair = Pair::new(1000);
        pair.run();
        let bundle = pair.connection.open_bundle(BundleFlags::ATOMIC).unwrap();
        for table in [0, 1, 254, 3] {
            pair.connection.add_to_bundle(bundle, flow(table)).unwrap();
            // Another request between makes the xids jump.
            pair.connection.barrier().unwrap();
        }
        if late {
            pair.connection.finish_bundle(bundle).unwrap();
        }
        let events = pair.run();
        let named = events.iter().any(|event| {
            matches!(event, Event::Bundle { outcome: Err(BundleError::Message { index: 2, error }), .. }
                if error.code.name() == Some("OFPFMFC_BAD_TABLE_ID"))
        });
        assert!(named, "{events:?}");
        assert!(pair.switch.flows.is_empty());
        assert!(!pair.connection.bundle_is_open(bundle));
    }
}

#[test]
fn an_error_leads_to_its_request() {
    let mut pair = Pair::new(1000);
    pair.run();
    let good = pair.connection.send(&flow(1)).unwrap();
    let bad = pair.connection.send(&flow(254)).unwrap();
    let ticket = pair.connection.barrier().unwrap();
    let events = pair.run();
    assert!(good != bad);
    assert!(
        matches!(&events[..], [Event::Error { xid, .. }, Event::Barrier { xid: barrier }] if *xid == bad && *barrier == ticket)
    );
}

#[test]
fn a_multipart_reply_streams() {
    let mut pair = Pair::new(11);
    pair.run();
    let xid = pair.connection.multipart(MultipartRequestBody::Flow(Default::default())).unwrap();
    let more: Vec<_> = pair
        .run()
        .into_iter()
        .map(|event| match event {
            Event::Part { xid: of, more, .. } if of == xid => more,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(more, [true, true, false]);
    assert_eq!(pair.connection.pending(), 0);
}

#[test]
fn silence_is_asked_about_and_then_the_end() {
    let mut pair = Pair::new(1000);
    pair.run();
    pair.now = pair.connection.poll_timeout().unwrap();
    pair.connection.handle_timeout(pair.now).unwrap();
    assert!(pair.run().is_empty());
    pair.switch.mute = true;
    pair.now = pair.connection.poll_timeout().unwrap();
    pair.connection.handle_timeout(pair.now).unwrap();
    pair.run();
    pair.now = pair.connection.poll_timeout().unwrap();
    let error = pair.connection.handle_timeout(pair.now).unwrap_err();
    assert!(matches!(error, ConnectionError::Unresponsive(_)), "{error}");
    assert!(matches!(pair.connection.send(&flow(0)), Err(SendError::Ended(_))));
}

#[test]
fn a_starved_process_gives_the_switch_a_second_chance() {
    let mut pair = Pair::new(1000);
    pair.run();
    pair.now = pair.connection.poll_timeout().unwrap();
    pair.connection.handle_timeout(pair.now).unwrap();
    // The answer lies in the socket, but this process did not run for a minute.
    pair.now += Duration::from_secs(60);
    pair.connection.handle_timeout(pair.now).unwrap();
    pair.run();
    assert!(pair.connection.is_connected());
}

#[test]
fn another_version_is_refused_with_a_cure() {
    let now = Instant::now();
    let mut connection = Connection::new(Config::default(), now);
    let error = connection.handle_bytes(now, &[1, 0, 0, 8, 0, 0, 0, 1]).unwrap_err();
    assert_eq!(error, ConnectionError::Version { offered: 1 });
    let sent = connection.poll_transmit().unwrap();
    assert!(matches!(Message::decode(&sent[16..]), Ok((_, Message::Error(_)))));
}

#[test]
fn what_is_no_hello_and_what_is_no_message() {
    let now = Instant::now();
    let mut connection = Connection::new(Config::default(), now);
    let error = connection.handle_bytes(now, &[4, 5, 0, 8, 0, 0, 0, 1]).unwrap_err();
    assert_eq!(error, ConnectionError::NoHello { kind: 5 });
    let mut pair = Pair::new(1000);
    pair.run();
    let error = pair.connection.handle_bytes(now, &[4, 5, 0, 7, 0, 0, 0, 1]).unwrap_err();
    assert!(matches!(error, ConnectionError::Framing(_)));
}

#[test]
fn the_window_is_bounded() {
    let mut pair = Pair::new(1000);
    pair.run();
    pair.switch.mute = true;
    for _ in 0..Config::default().max_pending {
        pair.connection.barrier().unwrap();
    }
    assert!(matches!(pair.connection.barrier(), Err(SendError::WindowFull(_))));
}

mod anything {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bundle_is_all_or_nothing_however_the_bytes_travel(
            piece in 1usize..60,
            tables in prop::collection::vec(prop_oneof![5 => 0u8..100, 1 => Just(254u8)], 0..20),
        ) {
            let mut pair = Pair::new(piece);
            pair.run();
            let bundle = pair.connection.open_bundle(BundleFlags::ATOMIC | BundleFlags::ORDERED).unwrap();
            for table in &tables {
                let instructions = vec![Instruction::ClearActions];
                let flow = FlowMod::add(TableId(*table), 7, Match::new(), instructions);
                pair.connection.add_to_bundle(bundle, Message::FlowMod(Box::new(flow))).unwrap();
            }
            pair.connection.finish_bundle(bundle).unwrap();
            let mut outcomes = pair.run().into_iter().filter_map(|event| match event {
                Event::Bundle { outcome, .. } => Some(outcome),
                _ => None,
            });
            let (outcome, more) = (outcomes.next().unwrap(), outcomes.count());
            prop_assert_eq!(more, 0);
            match tables.iter().position(|table| *table == 254) {
                None => {
                    prop_assert_eq!(outcome.map(|committed| committed.messages), Ok(tables.len()));
                    prop_assert_eq!(pair.switch.flows.len(), tables.len());
                }
                Some(first) => {
                    let named = matches!(outcome, Err(BundleError::Message { index, .. }) if index == first);
                    prop_assert!(named, "the first refused one is named");
                    prop_assert!(pair.switch.flows.is_empty());
                }
            }
        }

        #[test]
        fn wherever_it_is_cut_the_outcome_is_never_a_lie(cut in 0usize..900, count in 0usize..6, piece in 1usize..40) {
            let mut pair = Pair::new(piece);
            pair.run();
            let bundle = pair.connection.open_bundle(BundleFlags::ATOMIC | BundleFlags::ORDERED).unwrap();
            for table in 0..count {
                pair.connection.add_to_bundle(bundle, flow(table as u8)).unwrap();
            }
            pair.connection.finish_bundle(bundle).unwrap();
            let mut left = cut;
            let mut take = |bytes: &[u8]| {
                let taken = bytes.len().min(left);
                left -= taken;
                taken
            };
            for _ in 0..10 {
                let sent = pair.connection.poll_transmit().unwrap_or_default();
                let taken = take(&sent);
                sent[..taken].chunks(piece).for_each(|bytes| pair.switch.hear(bytes));
                let answer = pair.switch.transmit.split();
                let taken = take(&answer);
                for bytes in answer[..taken].chunks(piece) {
                    pair.connection.handle_bytes(pair.now, bytes).unwrap();
                }
            }
            pair.connection.handle_close(None);
            let told = std::iter::from_fn(|| pair.connection.poll_event()).find_map(|event| match event {
                Event::Bundle { outcome, .. } => Some(outcome),
                _ => None,
            });
            let lost = pair.connection.lost_bundles();
            prop_assert!(pair.connection.ended().is_some());
            match told {
                Some(outcome) => {
                    prop_assert_eq!(outcome.map(|committed| committed.messages), Ok(count));
                    prop_assert_eq!(pair.switch.flows.len(), count);
                    prop_assert!(lost.is_empty());
                }
                // Whether it was committed is not known, and that is what is said.
                None => prop_assert!(matches!(lost[..], [(id, BundleError::Lost)] if id == bundle)),
            }
        }
    }
}
