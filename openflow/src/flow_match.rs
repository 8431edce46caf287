//! `Match`: the set of fields that a packet must have. It keeps them in one canonical order; it does not know what happens
//! to packets that match.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use bytes::BytesMut;

use crate::error::{DecodeError, DecodeErrorKind, EncodeError, FieldError};
use crate::oxm::{Field, Oxm, Value, rank};
use crate::wire::{Reader, Writer};

/// A flow match (OpenFlow 1.3.5 §7.2.3): a set of fields with values and masks.
///
/// However it was built, an equal set is an equal match with the same bytes: fields stand in Open vSwitch's own order,
/// prerequisites first. A match that was *received* in another order is equal too, but encodes to the bytes it came from.
#[derive(Clone, Default)]
pub struct Match {
    /// Sorted by `rank`, at most one per field.
    fields: Vec<Oxm>,
    /// The TLVs as received, when encoding `fields` would give others.
    received: Option<Box<[u8]>>,
}

impl Match {
    /// Matches every packet.
    pub fn new() -> Match {
        Match::default()
    }

    /// Adds (or replaces) an exact field.
    ///
    /// Panics when the value has more bits than the field or the field is unknown: with fields and values that come from
    /// outside, use [`Match::set`].
    #[must_use]
    pub fn with(mut self, field: Field, value: impl Into<Value>) -> Match {
        match Oxm::exact(field, value) {
            Ok(oxm) => self.set(oxm),
            Err(error) => panic!("{error}"),
        }
        self
    }

    /// Adds (or replaces) a field under a mask. A mask of zero says nothing and adds nothing.
    ///
    /// Panics as [`Match::with`] does, and when the field cannot be masked.
    #[must_use]
    pub fn with_masked(mut self, field: Field, value: impl Into<Value>, mask: impl Into<Value>) -> Match {
        match Oxm::masked(field, value, mask) {
            Ok(oxm) => self.set(oxm),
            Err(error) => panic!("{error}"),
        }
        self
    }

    /// Adds a field, or says what is wrong with it.
    pub fn try_with(
        mut self,
        field: Field,
        value: impl Into<Value>,
        mask: Option<u128>,
    ) -> Result<Match, FieldError> {
        self.set(match mask {
            Some(mask) => Oxm::masked(field, value, mask)?,
            None => Oxm::exact(field, value)?,
        });
        Ok(self)
    }

    /// Adds (or replaces) a field.
    pub fn set(&mut self, oxm: Oxm) {
        self.received = None;
        if oxm.is_wildcard() {
            return;
        }
        let oxm = oxm.preferred();
        match self.find(oxm.field()) {
            Ok(at) => self.fields[at] = oxm,
            Err(at) => self.fields.insert(at, oxm),
        }
    }

    /// Takes a field out.
    pub fn remove(&mut self, field: Field) -> Option<Oxm> {
        let at = self.find(field).ok()?;
        self.received = None;
        Some(self.fields.remove(at))
    }

    /// A field's value, and its mask unless the match is exact.
    pub fn get(&self, field: Field) -> Option<(u128, Option<u128>)> {
        let oxm = self.oxm(field)?;
        Some((oxm.value()?, oxm.mask()))
    }

    /// A field's exact value; `None` when it is missing or masked.
    pub fn exact(&self, field: Field) -> Option<u128> {
        match self.get(field)? {
            (value, None) => Some(value),
            _ => None,
        }
    }

    /// A field with its value, whatever its type.
    pub fn oxm(&self, field: Field) -> Option<&Oxm> {
        self.find(field).ok().map(|at| &self.fields[at])
    }

    /// Every field, in canonical order.
    pub fn iter(&self) -> std::slice::Iter<'_, Oxm> {
        self.fields.iter()
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Matches every packet?
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Rows are unique to a meaning: two code points of one field are the same field here.
    fn find(&self, field: Field) -> Result<usize, usize> {
        match field.row() {
            Some(row) => self.fields.binary_search_by(|oxm| rank(oxm.field()).0.cmp(&row)),
            None => self.fields.binary_search_by(|oxm| rank(oxm.field()).cmp(&(usize::MAX, field))),
        }
    }

    /// Appends `ofp_match`: type, length, TLVs, padding to eight bytes.
    pub(crate) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        let start = out.position();
        out.u16(OFPMT_OXM);
        out.measured("match", start, |out| self.encode_fields(out))?;
        out.pad_from(start, 8);
        Ok(())
    }

    /// Appends the TLVs alone.
    pub(crate) fn encode_fields(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        match &self.received {
            Some(received) => out.bytes(received),
            None => self.fields.iter().try_for_each(|oxm| oxm.encode(out))?,
        }
        Ok(())
    }

    /// Reads `ofp_match` with its padding.
    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Match, DecodeError> {
        let start = input.offset();
        let match_type = input.u16()?;
        if match_type != OFPMT_OXM {
            return Err(DecodeError::bad(start, "match type (only OXM is known)", match_type.into()));
        }
        let length = usize::from(input.u16()?);
        let body = length
            .checked_sub(4)
            .ok_or_else(|| DecodeError::bad(start + 2, "match length", length as u64))?;
        let decoded = Match::decode_fields(&mut input.sub(body)?)?;
        input.skip(length.next_multiple_of(8) - length)?;
        Ok(decoded)
    }

    /// Reads TLVs until the end of `input`.
    pub(crate) fn decode_fields(input: &mut Reader<'_>) -> Result<Match, DecodeError> {
        let bytes = input.peek();
        // Fourteen bytes are what a field takes on average; the message's own length bounds it.
        let mut fields: Vec<Oxm> = Vec::with_capacity((bytes.len() / 6).min(16));
        let mut faithful = true;
        while !input.is_empty() {
            let at = input.offset();
            let (oxm, same) = Oxm::decode(input)?;
            faithful &= same;
            if oxm.is_wildcard() {
                faithful = false;
                continue;
            }
            let oxm_rank = rank(oxm.field());
            if fields.last().is_none_or(|last| rank(last.field()) < oxm_rank && !same_row(last, &oxm)) {
                fields.push(oxm);
                continue;
            }
            faithful = false;
            let row = oxm.field().row();
            let twice = match row {
                Some(row) => fields.binary_search_by(|other| rank(other.field()).0.cmp(&row)),
                None => fields.binary_search_by(|other| rank(other.field()).cmp(&oxm_rank)),
            };
            match twice {
                Ok(_) => return Err(DecodeError::new(at, DecodeErrorKind::DuplicateField(oxm.field()))),
                Err(place) => fields.insert(place, oxm),
            }
        }
        Ok(Match { fields, received: (!faithful).then(|| bytes.into()) })
    }

    /// The TLVs alone, without header and padding: the shortest faithful form to keep a match in.
    pub fn to_bytes(&self) -> Box<[u8]> {
        let mut bytes = BytesMut::new();
        // A field of a match is at most 255 bytes long: only the header's length, which is not written, could overflow.
        let encoded = self.encode_fields(&mut Writer::new(&mut bytes));
        debug_assert!(encoded.is_ok(), "{self:?}");
        bytes[..].into()
    }

    /// Reads what [`Match::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Match, DecodeError> {
        Match::decode_fields(&mut Reader::new(bytes))
    }

    /// The same match, with every field under its preferred code point and no memory of the bytes it came from.
    pub fn canonical(&self) -> Match {
        Match { fields: self.fields.iter().cloned().map(Oxm::preferred).collect(), received: None }
    }
}

const OFPMT_OXM: u16 = 1;

fn same_row(a: &Oxm, b: &Oxm) -> bool {
    a.field().row().is_some() && a.field().row() == b.field().row()
}

impl PartialEq for Match {
    fn eq(&self, other: &Match) -> bool {
        self.fields == other.fields
    }
}

impl Eq for Match {}

impl Hash for Match {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fields.hash(state);
    }
}

impl Ord for Match {
    fn cmp(&self, other: &Match) -> Ordering {
        self.fields.cmp(&other.fields)
    }
}

impl PartialOrd for Match {
    fn partial_cmp(&self, other: &Match) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> IntoIterator for &'a Match {
    type Item = &'a Oxm;
    type IntoIter = std::slice::Iter<'a, Oxm>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Oxm> for Match {
    fn from_iter<I: IntoIterator<Item = Oxm>>(fields: I) -> Match {
        let mut built = Match::new();
        for oxm in fields {
            built.set(oxm);
        }
        built
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    fn bytes_of(match_: &Match) -> BytesMut {
        let mut out = BytesMut::new();
        match_.encode(&mut Writer::new(&mut out)).unwrap();
        out
    }

    #[test]
    fn order_of_building_does_not_matter() {
        let one = Match::new()
            .with(Field::TCP_DST, 80u16)
            .with(Field::IP_PROTO, 6u8)
            .with(Field::ETH_TYPE, 0x800u16);
        let two = Match::new()
            .with(Field::ETH_TYPE, 0x800u16)
            .with(Field::IP_PROTO, 6u8)
            .with(Field::TCP_DST, 80u16);
        assert_eq!(one, two);
        assert_eq!(bytes_of(&one), bytes_of(&two));
        assert_eq!(
            &bytes_of(&one)[4..],
            b"\x80\x00\x0a\x02\x08\x00\x80\x00\x14\x01\x06\x80\x00\x1c\x02\x00\x50\0\0\0"
        );
    }

    #[test]
    fn another_order_decodes_equal_and_encodes_as_it_came() {
        let wire = b"\0\x01\0\x0f\x80\x00\x14\x01\x06\x80\x00\x0a\x02\x08\x00\0";
        let decoded = Match::decode(&mut Reader::new(wire)).unwrap();
        assert_eq!(decoded, Match::new().with(Field::ETH_TYPE, 0x800u16).with(Field::IP_PROTO, 6u8));
        assert_eq!(&bytes_of(&decoded)[..], wire);
    }

    #[test]
    fn unknown_fields_survive() {
        let wire = b"\0\x01\0\x0e\x12\x34\x15\x06\x01\x02\x03\x04\x05\x06\0\0";
        let decoded = Match::decode(&mut Reader::new(wire)).unwrap();
        assert_eq!(&bytes_of(&decoded)[..], wire);
        assert_eq!(decoded.iter().next().unwrap().long_bytes(), Some((&[1, 2, 3][..], Some(&[4, 5, 6][..]))));
    }

    #[test]
    fn a_field_twice_is_an_error() {
        let wire = b"\0\x01\0\x10\x80\x00\x0a\x02\x08\x00\x80\x00\x0a\x02\x08\x00";
        let error = Match::decode(&mut Reader::new(wire)).unwrap_err();
        assert_eq!((error.offset, error.kind), (10, DecodeErrorKind::DuplicateField(Field::ETH_TYPE)));
    }
}
