//! Bundles: messages that take effect together (ONF extension 230; OpenFlow 1.4 §7.3.9, `struct ofp14_bundle_ctrl_msg`).

use bytes::Bytes;

use super::{Message, decode_from, rest};
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::number::{BundleId, Xid};
use crate::wire::{Reader, Writer};

pub(super) const CONTROL: u32 = 2300;
pub(super) const ADD: u32 = 2301;

/// `ONFT13_BUNDLE_CONTROL`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BundleControl {
    /// Which bundle.
    pub bundle: BundleId,
    /// What to do, or what was done.
    pub kind: BundleControlType,
    /// The same in every message of a bundle.
    pub flags: BundleFlags,
    /// Properties, uninterpreted.
    pub properties: Bytes,
}

/// `enum ofp14_bundle_ctrl_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum BundleControlType {
    OpenRequest,
    OpenReply,
    CloseRequest,
    CloseReply,
    CommitRequest,
    CommitReply,
    DiscardRequest,
    DiscardReply,
    /// A type that the specification does not have.
    Other(u16),
}

impl BundleControlType {
    const KNOWN: [BundleControlType; 8] = [
        BundleControlType::OpenRequest,
        BundleControlType::OpenReply,
        BundleControlType::CloseRequest,
        BundleControlType::CloseReply,
        BundleControlType::CommitRequest,
        BundleControlType::CommitReply,
        BundleControlType::DiscardRequest,
        BundleControlType::DiscardReply,
    ];

    /// `OFPBCT_*`.
    pub fn number(self) -> u16 {
        match self {
            BundleControlType::Other(number) => number,
            known => {
                BundleControlType::KNOWN.iter().position(|kind| *kind == known).unwrap_or_default() as u16
            }
        }
    }

    fn from_number(number: u16) -> BundleControlType {
        let known = BundleControlType::KNOWN.get(usize::from(number));
        known.copied().unwrap_or(BundleControlType::Other(number))
    }
}

/// `enum ofp14_bundle_flags`, with unknown bits kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BundleFlags(pub u16);

impl BundleFlags {
    /// All or nothing.
    pub const ATOMIC: BundleFlags = BundleFlags(1);
    /// In the order of adding.
    pub const ORDERED: BundleFlags = BundleFlags(2);
}

impl std::ops::BitOr for BundleFlags {
    type Output = BundleFlags;

    fn bitor(self, other: BundleFlags) -> BundleFlags {
        BundleFlags(self.0 | other.0)
    }
}

/// `ONFT13_BUNDLE_ADD_MESSAGE`. The message inside must carry the xid of the message around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleAdd {
    /// Which bundle.
    pub bundle: BundleId,
    /// As in the opening message.
    pub flags: BundleFlags,
    /// The inner message's xid.
    pub xid: Xid,
    /// The inner message.
    pub message: Message,
    /// Properties, uninterpreted.
    pub properties: Bytes,
}

impl BundleControl {
    /// Without properties.
    pub fn new(bundle: BundleId, kind: BundleControlType, flags: BundleFlags) -> BundleControl {
        BundleControl { bundle, kind, flags, properties: Bytes::new() }
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.u32(self.bundle.0);
        out.u16(self.kind.number());
        out.u16(self.flags.0);
        out.bytes(&self.properties);
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<BundleControl, DecodeError> {
        let bundle = BundleId(body.u32()?);
        let kind = BundleControlType::from_number(body.u16()?);
        Ok(BundleControl { bundle, kind, flags: BundleFlags(body.u16()?), properties: rest(body) })
    }
}

impl BundleAdd {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        put_header(out, self.bundle, self.flags);
        self.message.encode_to(self.xid, out)?;
        out.bytes(&self.properties);
        Ok(())
    }

    pub(super) fn decode(body: &mut Reader<'_>, depth: u8) -> Result<BundleAdd, DecodeError> {
        if depth > 0 {
            return Err(DecodeError::new(
                body.offset(),
                DecodeErrorKind::Nesting("a bundle inside a bundle"),
            ));
        }
        let bundle = BundleId(body.u32()?);
        body.skip(2)?;
        let flags = BundleFlags(body.u16()?);
        let (xid, message) = decode_from(body, depth + 1)?;
        Ok(BundleAdd { bundle, flags, xid, message, properties: rest(body) })
    }
}

/// What stands between the experimenter header and the inner message.
pub(crate) fn put_header(out: &mut Writer<'_>, bundle: BundleId, flags: BundleFlags) {
    out.u32(bundle.0);
    out.zeros(2);
    out.u16(flags.0);
}
