//! `OFPT_ERROR`: types and codes by name (OpenFlow 1.3.5 §7.4.4).

use std::fmt;

use bytes::Bytes;

use super::error_names::{EXPERIMENTER, STANDARD};
use super::{HEADER_LEN, rest};
use crate::error::DecodeError;
use crate::wire::{Reader, Writer};

/// What the switch refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ErrorMessage {
    /// Why.
    pub code: ErrorCode,
    /// At least the first 64 bytes of what was refused (text, when the hello failed).
    pub data: Bytes,
}

/// Type and code of an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorCode {
    /// `struct ofp_error_msg`.
    Standard {
        /// `OFPET_*`.
        kind: u16,
        /// Its code.
        code: u16,
    },
    /// `struct ofp_error_experimenter_msg`.
    Experimenter {
        /// Whose.
        vendor: u32,
        /// Which.
        kind: u16,
    },
}

impl ErrorCode {
    /// `OFPHFC_INCOMPATIBLE`: no version in common.
    pub const HELLO_INCOMPATIBLE: ErrorCode = ErrorCode::Standard { kind: 0, code: 0 };
    /// `OFPBRC_BAD_TYPE`: a message that is not understood.
    pub const BAD_REQUEST_TYPE: ErrorCode = ErrorCode::Standard { kind: 1, code: 1 };
    /// `OFPGMFC_GROUP_EXISTS`.
    pub const GROUP_EXISTS: ErrorCode = ErrorCode::Standard { kind: 6, code: 0 };
    /// `OFPGMFC_UNKNOWN_GROUP`.
    pub const UNKNOWN_GROUP: ErrorCode = ErrorCode::Standard { kind: 6, code: 8 };
    /// `OFPFMFC_TABLE_FULL`.
    pub const TABLE_FULL: ErrorCode = ErrorCode::Standard { kind: 5, code: 1 };
    /// `OFPBFC_TIMEOUT`: the bundle stood open too long.
    pub const BUNDLE_TIMEOUT: ErrorCode = ErrorCode::Experimenter { vendor: 0x4f4e4600, kind: 2314 };

    /// The name that the specification or Open vSwitch gives it.
    pub fn name(self) -> Option<&'static str> {
        match self {
            ErrorCode::Standard { kind, code } => {
                STANDARD.iter().find(|row| (row.0, row.1) == (kind, code)).map(|row| row.2)
            }
            ErrorCode::Experimenter { vendor, kind } => {
                EXPERIMENTER.iter().find(|row| (row.0, row.1) == (vendor, kind)).map(|row| row.2)
            }
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self) {
            (Some(name), _) => f.write_str(name),
            (None, ErrorCode::Standard { kind, code }) => write!(f, "error type {kind} code {code}"),
            (None, ErrorCode::Experimenter { vendor, kind }) => {
                write!(f, "error of experimenter {vendor:#010x} type {kind}")
            }
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ErrorMessage {
    /// The type of the message that was refused, as far as `data` shows it.
    pub fn refused_kind(&self) -> Option<u8> {
        (self.data.len() >= HEADER_LEN).then(|| self.data[1])
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        match self.code {
            ErrorCode::Standard { kind, code } => {
                out.u16(kind);
                out.u16(code);
            }
            ErrorCode::Experimenter { vendor, kind } => {
                out.u16(0xffff);
                out.u16(kind);
                out.u32(vendor);
            }
        }
        out.bytes(&self.data);
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<ErrorMessage, DecodeError> {
        let (kind, code) = (body.u16()?, body.u16()?);
        let code = if kind == 0xffff {
            ErrorCode::Experimenter { vendor: body.u32()?, kind: code }
        } else {
            ErrorCode::Standard { kind, code }
        };
        Ok(ErrorMessage { code, data: rest(body) })
    }
}
