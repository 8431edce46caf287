//! Values of match fields: the number that goes into a match, and `Oxm`, one field with its value and mask. It does not
//! know what a whole match is.

use std::cmp::Ordering;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::field::{Field, class};
use crate::error::{DecodeError, EncodeError, FieldError};
use crate::number::{MacAddr, PortNo};
use crate::wire::{Reader, Writer};

/// A field's value: at most 128 bits, right-aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(pub u128);

macro_rules! value_from {
    ($($from:ty => |$x:ident| $into:expr),* $(,)?) => { $(
        impl From<$from> for Value {
            fn from($x: $from) -> Value {
                Value($into)
            }
        }
    )* };
}

value_from! {
    bool => |x| u128::from(x),
    u8 => |x| u128::from(x),
    u16 => |x| u128::from(x),
    u32 => |x| u128::from(x),
    u64 => |x| u128::from(x),
    u128 => |x| x,
    PortNo => |x| u128::from(x.0),
    MacAddr => |x| u128::from(x.to_u64()),
    [u8; 6] => |x| u128::from(MacAddr(x).to_u64()),
    Ipv4Addr => |x| u128::from(x.to_bits()),
    Ipv6Addr => |x| x.to_bits(),
}

/// One OXM TLV: a field, its value and its mask (OpenFlow 1.3.5 §7.2.3.2).
///
/// A known field of at most 128 bits is a number. Everything else (tunnel metadata, unknown fields) keeps the bytes it came
/// with.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Oxm {
    field: Field,
    value: u128,
    /// All ones (in the field's wire width) when the match is exact.
    mask: u128,
    long: Option<Box<Long>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Long {
    has_mask: bool,
    /// Value, then mask, as they stood in the TLV (without an experimenter id).
    bytes: Box<[u8]>,
}

impl Oxm {
    /// An exact value. Fails when the field is not a known field of at most 128 bits or the value has more bits than it.
    pub fn exact(field: Field, value: impl Into<Value>) -> Result<Oxm, FieldError> {
        let value = value.into().0;
        let ones = wire_ones(field).ok_or(FieldError::NotANumber { field })?;
        if value & !value_bits(field) != 0 {
            return Err(FieldError::TooWide { field, value });
        }
        Ok(Oxm { field, value, mask: ones, long: None })
    }

    /// A value under a mask; value bits outside the mask are cleared. A mask that covers every bit is an exact match.
    pub fn masked(field: Field, value: impl Into<Value>, mask: impl Into<Value>) -> Result<Oxm, FieldError> {
        let (value, mask) = (value.into().0, mask.into().0);
        let bits = value_bits(field);
        if mask & bits == bits {
            return Oxm::exact(field, value);
        }
        let ones = wire_ones(field).ok_or(FieldError::NotANumber { field })?;
        if !field.is_maskable() {
            return Err(FieldError::NotMaskable { field });
        }
        if (value | mask) & !ones != 0 {
            return Err(FieldError::TooWide { field, value: value | mask });
        }
        Ok(Oxm { field, value: value & mask, mask, long: None })
    }

    /// As [`Oxm::exact`], but the value may use every bit on the wire.
    pub(crate) fn exact_wire(field: Field, value: u128) -> Result<Oxm, FieldError> {
        let ones = wire_ones(field).ok_or(FieldError::NotANumber { field })?;
        Oxm::masked_wire(field, value, ones)
    }

    /// As [`Oxm::masked`], but value and mask may use every bit on the wire.
    pub(crate) fn masked_wire(field: Field, value: u128, mask: u128) -> Result<Oxm, FieldError> {
        let ones = wire_ones(field).ok_or(FieldError::NotANumber { field })?;
        if (value | mask) & !ones != 0 {
            return Err(FieldError::TooWide { field, value: value | mask });
        }
        Ok(Oxm { field, value: value & mask, mask, long: None })
    }

    /// A field from the bytes of its value and mask, for fields that are not numbers.
    pub fn from_bytes(field: Field, value: &[u8], mask: Option<&[u8]>) -> Result<Oxm, FieldError> {
        let overhead = if field.experimenter().is_some() { 4 } else { 0 };
        let bytes = [value, mask.unwrap_or_default()].concat();
        if mask.is_some_and(|mask| mask.len() != value.len()) || bytes.len() + overhead > 255 {
            return Err(FieldError::BadBytes { field, length: bytes.len() });
        }
        if let Some(width) = number_width(field) {
            if value.len() != width {
                return Err(FieldError::BadBytes { field, length: value.len() });
            }
            let ones = wire_ones(field).ok_or(FieldError::NotANumber { field })?;
            let mask = mask.map_or(ones, number);
            return Ok(Oxm { field, value: number(value), mask, long: None });
        }
        let long = Long { has_mask: mask.is_some(), bytes: bytes.into() };
        Ok(Oxm { field, value: 0, mask: 0, long: Some(Box::new(long)) })
    }

    /// The field.
    pub fn field(&self) -> Field {
        self.field
    }

    /// The value as a number; `None` for tunnel metadata and unknown fields.
    pub fn value(&self) -> Option<u128> {
        self.long.is_none().then_some(self.value)
    }

    /// The mask, unless the match is exact (or not a number).
    pub fn mask(&self) -> Option<u128> {
        (self.long.is_none() && Some(self.mask) != wire_ones(self.field)).then_some(self.mask)
    }

    /// Value and mask as bytes, for what is not a number.
    pub fn long_bytes(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let long = self.long.as_ref()?;
        if long.has_mask && long.bytes.len().is_multiple_of(2) {
            let (value, mask) = long.bytes.split_at(long.bytes.len() / 2);
            return Some((value, Some(mask)));
        }
        Some((&long.bytes, None))
    }

    /// The same value under the field's preferred code point.
    pub fn preferred(mut self) -> Oxm {
        let preferred = self.field.preferred();
        if preferred != self.field && number_width(preferred) == number_width(self.field) {
            self.field = preferred;
        }
        self
    }

    /// Bytes on the wire, header included.
    pub(crate) fn wire_len(&self) -> usize {
        let overhead = 4 + if self.field.experimenter().is_some() { 4 } else { 0 };
        overhead
            + match &self.long {
                Some(long) => long.bytes.len(),
                None => self.field.wire_bytes() * if self.mask().is_some() { 2 } else { 1 },
            }
    }

    pub(crate) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        let mask = self.mask();
        let has_mask = mask.is_some() || self.long.as_ref().is_some_and(|long| long.has_mask);
        encode_header(out, self.field, has_mask, self.wire_len() - 4);
        match &self.long {
            Some(long) => out.bytes(&long.bytes),
            None => {
                let skip = 16 - self.field.wire_bytes();
                out.bytes(&self.value.to_be_bytes()[skip..]);
                if let Some(mask) = mask {
                    out.bytes(&mask.to_be_bytes()[skip..]);
                }
            }
        }
        Ok(())
    }

    /// Reads one TLV. Also says whether encoding it again gives the same bytes.
    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<(Oxm, bool), DecodeError> {
        let at = input.offset();
        let header = input.u32()?;
        let (has_mask, length) = (header & 0x100 != 0, (header & 0xff) as usize);
        let mut body = input.sub(length)?;
        let class = (header >> 16) as u16;
        let experimenter = if class == 0xffff { body.u32()? } else { 0 };
        let field = Field::from_raw(class, (header >> 9) as u8, experimenter);
        let bytes = body.rest();
        let Some(width) = number_width(field) else {
            let long = Long { has_mask, bytes: bytes.into() };
            return Ok((Oxm { field, value: 0, mask: 0, long: Some(Box::new(long)) }, true));
        };
        if bytes.len() != width * if has_mask { 2 } else { 1 } {
            return Err(DecodeError::bad(at, "match field's length", length as u64));
        }
        let ones = ones_of(width);
        if !has_mask {
            return Ok((Oxm { field, value: number(bytes), mask: ones, long: None }, true));
        }
        let (value, mask) = (number(&bytes[..width]), number(&bytes[width..]));
        let faithful = mask != ones && value & !mask == 0;
        Ok((Oxm { field, value: value & mask, mask, long: None }, faithful))
    }

    /// A mask that matches everything: the field constrains nothing.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.long.is_none() && self.mask == 0
    }
}

/// Writes an OXM header (and experimenter id); `length` counts what follows the first four bytes.
pub(crate) fn encode_header(out: &mut Writer<'_>, field: Field, has_mask: bool, length: usize) {
    out.u16(field.class());
    out.u8(field.number() << 1 | u8::from(has_mask));
    out.u8(length as u8);
    if let Some(experimenter) = field.experimenter() {
        out.u32(experimenter);
    }
}

impl Ord for Oxm {
    fn cmp(&self, other: &Oxm) -> Ordering {
        rank(self.field)
            .cmp(&rank(other.field))
            .then_with(|| (self.value, self.mask, &self.long).cmp(&(other.value, other.mask, &other.long)))
    }
}

impl PartialOrd for Oxm {
    fn partial_cmp(&self, other: &Oxm) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Encoding order: known fields as the table has them, then the unknown ones by code point.
pub(crate) fn rank(field: Field) -> (usize, Field) {
    (field.row().unwrap_or(usize::MAX), field)
}

/// Wire width in bytes of a field that is a number; `None` for tunnel metadata and unknown fields.
pub(crate) fn number_width(field: Field) -> Option<usize> {
    match field.wire_bytes() {
        width @ 1..=16 => Some(width),
        _ => None,
    }
}

fn wire_ones(field: Field) -> Option<u128> {
    number_width(field).map(ones_of)
}

pub(crate) fn ones_of(bytes: usize) -> u128 {
    u128::MAX >> (128 - 8 * bytes as u32)
}

/// Bits that a value may use. `vlan_vid` also has the "present" bit (OpenFlow 1.3.5 §7.2.3.7).
fn value_bits(field: Field) -> u128 {
    match field {
        Field::VLAN_VID => 0x1fff,
        _ if field.class() == class::OXM_OF.0 || field.width_bits() < 128 => {
            u128::MAX >> (128 - u32::from(field.width_bits().clamp(1, 128)))
        }
        _ => u128::MAX,
    }
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}
