//! Flows in as few bytes as tell them apart. Most flows of a switch have the same shape (table, priority, which fields, under
//! which masks) and differ in the values alone: a shape is kept once, and a flow is a reference to it and the values. Nothing
//! is lost: every flow can be written out again. It must not know what the flows are for.

use std::collections::HashMap;

use openflow::TableId;

use super::{FlowId, Held, MatchBytes};

/// Values that fit without an allocation: those of clauses and of endpoints, which most flows are.
const SHORT: usize = 11;

/// A flow: a shape's place in the list of shapes, and the values of its fields one behind the other. How many bytes these are
/// follows from the shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Packed {
    Short { shape: u32, values: [u8; SHORT] },
    // Two boxes, since one of unknown length would make every flow larger.
    Long { shape: u32, values: Box<Box<[u8]>> },
}

/// What is known of a flow, and whether somebody wants it, in the lowest bit of the fingerprint.
#[derive(Clone, Copy, Debug)]
struct Entry(u64);

/// The bit of a fingerprint that says whether the flow is wanted.
const WANTED: u64 = 1;

impl Entry {
    fn new(held: Held) -> Self {
        Self(held.fingerprint & !WANTED)
    }

    fn held(self) -> Held {
        Held { fingerprint: self.0 & !WANTED }
    }
}

/// Flows, and what is known of each.
#[derive(Clone, Debug, Default)]
pub struct FlowTable {
    flows: HashMap<Packed, Entry>,
    shapes: Vec<Box<[u8]>>,
    places: HashMap<Box<[u8]>, u32>,
}

impl FlowTable {
    /// How many flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// What is known of a flow.
    pub fn get(&self, id: &FlowId) -> Option<Held> {
        Some(self.flows.get(&self.find(id)?)?.held())
    }

    /// Notes a flow, in place of what was known of it.
    pub fn insert(&mut self, id: &FlowId, held: Held) {
        let (shape, values) = split(id);
        let place = match self.places.get(&shape[..]) {
            Some(place) => *place,
            None => {
                // Fewer than there are flows, and those are fewer than 2^32.
                let place = self.shapes.len() as u32;
                let shape: Box<[u8]> = shape.into();
                self.shapes.push(shape.clone());
                self.places.insert(shape, place);
                place
            }
        };
        self.flows.insert(pack(place, &values), Entry::new(held));
    }

    /// Takes a flow out.
    pub fn remove(&mut self, id: &FlowId) {
        if let Some(packed) = self.find(id) {
            self.flows.remove(&packed);
        }
    }

    /// Every flow, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, Held)> {
        self.flows.iter().map(|(packed, entry)| (self.unpack(packed), entry.held()))
    }

    /// Nobody wants any flow.
    pub(super) fn want_nothing(&mut self) {
        self.flows.values_mut().for_each(|entry| entry.0 &= !WANTED);
    }

    /// Somebody wants this one. Tells what is known of it, and whether it was wanted before.
    pub(super) fn want(&mut self, id: &FlowId) -> Option<(Held, bool)> {
        let packed = self.find(id)?;
        let entry = self.flows.get_mut(&packed)?;
        let again = entry.0 & WANTED != 0;
        entry.0 |= WANTED;
        Some((entry.held(), again))
    }

    /// Those that nobody wants.
    pub(super) fn unwanted(&self) -> impl Iterator<Item = FlowId> {
        let unwanted = self.flows.iter().filter(|(_, entry)| entry.0 & WANTED == 0);
        unwanted.map(|(packed, _)| self.unpack(packed))
    }

    fn find(&self, id: &FlowId) -> Option<Packed> {
        let (shape, values) = split(id);
        Some(pack(*self.places.get(&shape[..])?, &values))
    }

    fn unpack(&self, packed: &Packed) -> FlowId {
        let (shape, values) = match packed {
            Packed::Short { shape, values } => (*shape, &values[..]),
            Packed::Long { shape, values } => (*shape, &values[..]),
        };
        // Flows of this table have shapes of this table.
        join(self.shapes.get(shape as usize).map_or(&[][..], |shape| shape), values)
    }
}

fn pack(shape: u32, values: &[u8]) -> Packed {
    let mut short = [0; SHORT];
    match short.get_mut(..values.len()) {
        Some(place) => {
            place.copy_from_slice(values);
            Packed::Short { shape, values: short }
        }
        None => Packed::Long { shape, values: Box::new(values.into()) },
    }
}

/// Bytes before a shape's fields: the table and the priority.
const PREFIX: usize = 3;

/// The head of a field of a match (OpenFlow 1.3.5 §7.2.3.2): class, field and whether there is a mask, length.
const HEADER: usize = 4;

/// A header, as far as it says how the field goes on.
struct Header {
    /// Bytes of the value; those of the mask are as many.
    value: usize,
    mask: usize,
}

impl Header {
    /// The header at the beginning of some bytes.
    fn of(bytes: &[u8]) -> Option<Self> {
        let &[_, _, field, length] = bytes.first_chunk::<HEADER>()?;
        let length = usize::from(length);
        Some(match field & 1 {
            0 => Self { value: length, mask: 0 },
            _ => Self { value: length / 2, mask: length / 2 },
        })
    }
}

/// The shape of a flow and the values of its fields.
fn split(id: &FlowId) -> (Vec<u8>, Vec<u8>) {
    let mut fields = id.match_.as_slice();
    let (mut shape, mut values) = (Vec::with_capacity(64), Vec::with_capacity(64));
    shape.push(id.table.0);
    shape.extend(id.priority.to_be_bytes());
    // The bytes are a match's own, so that no field is cut off; what would be is kept as it is, in the shape.
    while let Some((header, field)) = whole_field(fields) {
        let (value, mask) = field[HEADER..].split_at(header.value);
        shape.extend(&field[..HEADER]);
        shape.extend(mask);
        values.extend(value);
        fields = &fields[field.len()..];
    }
    shape.extend(fields);
    (shape, values)
}

fn whole_field(fields: &[u8]) -> Option<(Header, &[u8])> {
    let header = Header::of(fields)?;
    let field = fields.get(..HEADER + header.value + header.mask)?;
    Some((header, field))
}

/// What [`split`] took apart. There may be more values than the shape has places for.
fn join(shape: &[u8], values: &[u8]) -> FlowId {
    let (prefix, mut fields) = shape.split_at(PREFIX.min(shape.len()));
    let &[table, high, low] = prefix.first_chunk::<PREFIX>().unwrap_or(&[0; PREFIX]);
    let mut bytes = Vec::with_capacity(shape.len() + values.len());
    let mut values = values.iter().copied();
    while let Some(header) = Header::of(fields) {
        let Some(mask) = fields.get(HEADER..HEADER + header.mask) else { break };
        bytes.extend(&fields[..HEADER]);
        bytes.extend(values.by_ref().take(header.value));
        bytes.extend(mask);
        fields = &fields[HEADER + header.mask..];
    }
    bytes.extend(fields);
    FlowId {
        table: TableId(table),
        priority: u16::from_be_bytes([high, low]),
        match_: MatchBytes::new(&bytes),
    }
}

#[cfg(test)]
mod tests {
    use openflow::{Field, Match};
    use proptest::prelude::*;

    use super::*;

    /// Matches as the compiler makes them, and some that it does not.
    fn any_match() -> impl Strategy<Value = Match> {
        let prefix = |length: u32| u32::MAX.checked_shl(32 - length).unwrap_or(0);
        let v4 = (any::<u32>(), 1u32..=32).prop_map(move |(address, length)| {
            let mask = prefix(length);
            Match::new().with(Field::ETH_TYPE, 0x800u16).with_masked(Field::IPV4_SRC, address & mask, mask)
        });
        let v6 = (any::<u128>(), any::<u128>()).prop_map(|(source, destination)| {
            Match::new()
                .with(Field::ETH_TYPE, 0x86ddu16)
                .with(Field::IPV6_SRC, std::net::Ipv6Addr::from(source))
                .with(Field::IPV6_DST, std::net::Ipv6Addr::from(destination))
        });
        let mark = (any::<u32>(), any::<u32>())
            .prop_map(|(value, mask)| Match::new().with_masked(Field::CT_MARK, value & mask, mask));
        prop_oneof![Just(Match::new()), v4, v6, mark]
    }

    fn any_flow() -> impl Strategy<Value = (FlowId, Held)> {
        let id = (0u8..3, 0u16..3, any_match())
            .prop_map(|(table, priority, match_)| FlowId::new(TableId(table), priority, &match_));
        let held = any::<u64>().prop_map(|print| Held { fingerprint: print & !WANTED });
        (id, held)
    }

    proptest! {
        #[test]
        fn a_table_is_a_map(flows in prop::collection::vec((any_flow(), 0u8..4), 0..60)) {
            let (mut table, mut map) = (FlowTable::default(), HashMap::new());
            for ((id, held), what) in flows {
                if what == 0 {
                    let any = map.keys().next().cloned().unwrap_or(id);
                    table.remove(&any);
                    map.remove(&any);
                } else {
                    table.insert(&id, held);
                    map.insert(id, held);
                }
                prop_assert_eq!(table.len(), map.len());
            }
            for (id, held) in &map {
                prop_assert_eq!(table.get(id), Some(*held));
            }
            prop_assert_eq!(table.iter().collect::<HashMap<_, _>>(), map);
        }
    }

    #[test]
    fn what_is_wanted_once_is_not_unwanted_and_says_so_the_second_time() {
        let mut table = FlowTable::default();
        let id = |priority| FlowId::new(TableId(1), priority, &Match::new());
        let held = Held { fingerprint: 8 };
        table.insert(&id(1), held);
        table.insert(&id(2), held);
        for _ in 0..2 {
            table.want_nothing();
            assert_eq!(table.want(&id(1)), Some((held, false)));
            assert_eq!(table.want(&id(1)), Some((held, true)));
            assert_eq!(table.want(&id(3)), None);
            assert_eq!(table.unwanted().collect::<Vec<_>>(), [id(2)]);
        }
    }

    #[test]
    fn a_flow_costs_few_bytes() {
        assert_eq!((size_of::<Packed>(), size_of::<Entry>()), (16, 8));
    }
}
