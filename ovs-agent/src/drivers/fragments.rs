//! Datagrams in pieces that the switch hands over (ADR-0045): joined, and sent in again where they came from; taken apart, and
//! sent out where they were to leave. It must not know whose they are.

use std::time::Instant;

use bytes::Bytes;
use compiler::Table;
use compiler::copies::Copied;
use compiler::register::{HAIRPIN, JOINED, OUT_PORT, PIECE_SIZE, Slot};
use openflow::message::{Message, NiciraMessage, PacketIn2, PacketOut, PacketProperty};
use openflow::{Action, BufferId, Field, Match, PortNo, TableId};

use crate::datagram::{Gatherer, Joined, apart};

/// What of the tunnel an arriving packet is judged by, and a leaving one is sent by.
const OUTER: [Field; 5] =
    [Field::TUN_ID, Field::TUN_SRC, Field::TUN_DST, Field::TUN_IPV6_SRC, Field::TUN_IPV6_DST];

/// Pieces that wait for others.
#[derive(Debug)]
pub struct Fragments {
    gatherer: Gatherer<Origin>,
    /// Of the datagram that was taken apart last.
    name: u32,
}

/// Where a packet came in: the port, and the outer header's fields.
type Origin = (PortNo, Vec<(Field, u128)>);

impl Fragments {
    /// Names datagrams from this number on.
    pub fn new(name: u32) -> Self {
        Self { gatherer: Gatherer::default(), name }
    }

    /// Takes a message of the switch in; what the switch is to send for it. Anything but a packet that was handed over is
    /// nothing.
    pub fn take(&mut self, message: &Message, now: Instant) -> Vec<PacketOut> {
        let Some((what, metadata, frame)) = read(message) else { return Vec::new() };
        let Some(port) = metadata.exact(Field::IN_PORT) else { return Vec::new() };
        let port = PortNo(port as u32);
        let outer = OUTER.into_iter().filter_map(|field| Some((field, metadata.exact(field)?)));
        let outer: Vec<(Field, u128)> = outer.filter(|(_, value)| *value != 0).collect();
        match what {
            Copied::Piece => {
                let joined = self.gatherer.take((port, outer.clone()), frame, now);
                joined.map(|joined| again(port, &outer, joined)).into_iter().collect()
            }
            Copied::Joined => {
                self.name = self.name.wrapping_add(1);
                leave(port, &outer, metadata, frame, self.name)
            }
            _ => Vec::new(),
        }
    }
}

fn read(message: &Message) -> Option<(Copied, &Match, &Bytes)> {
    let Message::Nicira(message) = message else { return None };
    let NiciraMessage::PacketIn2(packet @ PacketIn2 { properties }) = &**message else { return None };
    let what = properties.iter().find_map(|property| match property {
        PacketProperty::Userdata(userdata) => Copied::from_userdata(userdata),
        _ => None,
    });
    let metadata = properties.iter().find_map(|property| match property {
        PacketProperty::Metadata(metadata) => Some(metadata),
        _ => None,
    });
    Some((what?, metadata?, packet.packet()?))
}

/// Through all tables, as if it had come whole.
fn again(port: PortNo, outer: &[(Field, u128)], joined: Joined) -> PacketOut {
    let loads = [JOINED.load(1), PIECE_SIZE.load(joined.size.into())];
    let first = Some(TableId(Table::Classifier.id()));
    let through = Action::Resubmit { port: PortNo::IN_PORT, table: first, ct: false };
    let actions = set(outer).chain(loads).chain([through]).collect();
    PacketOut { buffer_id: BufferId::NONE, in_port: port, actions, data: joined.frame.into() }
}

/// Out of the port that was chosen for it, in pieces of the size that it came in.
fn leave(port: PortNo, outer: &[(Field, u128)], metadata: &Match, frame: &[u8], name: u32) -> Vec<PacketOut> {
    let register = |slot: Slot| {
        let value = metadata.get(slot.bits.field).map_or(0, |(value, _)| value);
        ((value & slot.bits.mask()) >> slot.bits.start_bit) as u32
    };
    let out = match register(HAIRPIN) {
        0 => PortNo(register(OUT_PORT)),
        _ => PortNo::IN_PORT,
    };
    let actions: Vec<Action> = set(outer).chain([Action::output(out)]).collect();
    let piece = |data: Vec<u8>| PacketOut {
        buffer_id: BufferId::NONE,
        in_port: port,
        actions: actions.clone(),
        data: data.into(),
    };
    apart(frame, register(PIECE_SIZE) as u16, name).into_iter().map(piece).collect()
}

fn set(outer: &[(Field, u128)]) -> impl Iterator<Item = Action> + '_ {
    outer.iter().map(|(field, value)| Action::set_field(*field, *value))
}
