//! What goes wrong with bytes and values: one enum per direction, each saying where and why.

use crate::oxm::Field;

/// Bytes that are not a message. `offset` counts from the message's first byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {kind}")]
pub struct DecodeError {
    /// Where.
    pub offset: usize,
    /// Why.
    pub kind: DecodeErrorKind,
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The structure goes on beyond the end of what holds it.
    #[error("{needed} bytes are needed, {available} are left")]
    Truncated {
        /// Bytes that the structure wants.
        needed: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// Not OpenFlow 1.3.
    #[error("OpenFlow version {0:#04x} is not spoken here, only 0x04 (1.3)")]
    Version(u8),
    /// A length, type or value that makes no sense.
    #[error("bad {what}: {value:#x}")]
    Bad {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The same field twice in one match.
    #[error("match field {0} stands there twice")]
    DuplicateField(Field),
    /// A field whose prerequisite is missing.
    #[error("match field {0} lacks its prerequisite (see ovs-fields(7))")]
    Prerequisite(Field),
    /// Actions where they may not stand.
    #[error("{0} may not stand here")]
    Nesting(&'static str),
    /// Bytes after the end of a structure.
    #[error("{0} bytes too many")]
    TrailingBytes(usize),
}

impl DecodeError {
    pub(crate) fn new(offset: usize, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { offset, kind }
    }

    pub(crate) fn bad(offset: usize, what: &'static str, value: u64) -> DecodeError {
        DecodeError { offset, kind: DecodeErrorKind::Bad { what, value } }
    }

    /// The same error in a structure that starts `by` bytes further on.
    pub(crate) fn shifted(mut self, by: usize) -> DecodeError {
        self.offset += by;
        self
    }
}

/// A value that does not fit on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// OpenFlow lengths have 16 bits.
    #[error("{what} of {length} bytes does not fit: at most {limit}; split it")]
    TooLong {
        /// Which structure.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A number that the wire has too few bits for.
    #[error("{what} {value:#x} does not fit on the wire")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
}

/// A value or mask that a field cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// More bits than the field.
    #[error("{value:#x} has more bits than {field} ({})", field.width_bits())]
    TooWide {
        /// The field.
        field: Field,
        /// The value or mask.
        value: u128,
    },
    /// The field is all or nothing.
    #[error("{field} cannot be masked")]
    NotMaskable {
        /// The field.
        field: Field,
    },
    /// An unknown field, or tunnel metadata, given as a number.
    #[error("{field} is not a number of at most 128 bits; give its bytes")]
    NotANumber {
        /// The field.
        field: Field,
    },
    /// Bytes of the wrong length.
    #[error("{length} bytes are not a value of {field}")]
    BadBytes {
        /// The field.
        field: Field,
        /// How many there were.
        length: usize,
    },
}
