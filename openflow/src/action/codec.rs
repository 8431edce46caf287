//! Actions and lists of actions as bytes (OpenFlow 1.3.5 §7.2.5): standard types here, Nicira's in `nicira`.

use bytes::Bytes;

use super::{Action, nicira};
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::number::{GroupId, PortNo, QueueId};
use crate::oxm::{Field, Oxm, Subfield, encode_header, number_width};
use crate::wire::{Reader, Writer};

const OUTPUT: u16 = 0;
const COPY_TTL_OUT: u16 = 11;
const COPY_TTL_IN: u16 = 12;
const SET_MPLS_TTL: u16 = 15;
const DEC_MPLS_TTL: u16 = 16;
const PUSH_VLAN: u16 = 17;
const POP_VLAN: u16 = 18;
const PUSH_MPLS: u16 = 19;
const POP_MPLS: u16 = 20;
const SET_QUEUE: u16 = 21;
const GROUP: u16 = 22;
const SET_NW_TTL: u16 = 23;
const DEC_NW_TTL: u16 = 24;
const SET_FIELD: u16 = 25;
const PUSH_PBB: u16 = 26;
const POP_PBB: u16 = 27;
const METER: u16 = 29;
pub(super) const EXPERIMENTER: u16 = 0xffff;

/// Actions inside actions inside actions: deeper than this is refused, as nothing sane is.
const MAX_DEPTH: u8 = 16;

pub(crate) fn encode_actions(actions: &[Action], out: &mut Writer<'_>) -> Result<(), EncodeError> {
    actions.iter().try_for_each(|action| encode_action(action, out))
}

pub(crate) fn decode_actions(input: &mut Reader<'_>) -> Result<Vec<Action>, DecodeError> {
    decode_nested(input, 0)
}

pub(super) fn decode_nested(input: &mut Reader<'_>, depth: u8) -> Result<Vec<Action>, DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::new(
            input.offset(),
            DecodeErrorKind::Nesting("an action so many levels deep"),
        ));
    }
    let mut actions = Vec::with_capacity((input.len() / 16).min(8));
    while !input.is_empty() {
        actions.push(decode_action(input, depth)?);
    }
    Ok(actions)
}

/// An action of up to 16 bytes: type, length and what `body` writes, filled up to a multiple of eight.
fn standard(
    out: &mut Writer<'_>,
    kind: u16,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.position();
    out.u16(kind);
    out.measured("action", start, |out| {
        body(out)?;
        out.pad_from(start, 8);
        Ok(())
    })
}

pub(super) fn encode_action(action: &Action, out: &mut Writer<'_>) -> Result<(), EncodeError> {
    let byte = |out: &mut Writer<'_>, kind, value: u8| {
        standard(out, kind, |out| {
            out.u8(value);
            Ok(())
        })
    };
    let short = |out: &mut Writer<'_>, kind, value: u16| {
        standard(out, kind, |out| {
            out.u16(value);
            Ok(())
        })
    };
    let word = |out: &mut Writer<'_>, kind, value: u32| {
        standard(out, kind, |out| {
            out.u32(value);
            Ok(())
        })
    };
    let void = |out: &mut Writer<'_>, kind| standard(out, kind, |_| Ok(()));
    match action {
        Action::Output { port, max_len } => standard(out, OUTPUT, |out| {
            out.u32(port.0);
            out.u16(*max_len);
            out.zeros(6);
            Ok(())
        }),
        Action::Group(group) => word(out, GROUP, group.0),
        Action::SetQueue(queue) => word(out, SET_QUEUE, queue.0),
        Action::SetField(oxm) => standard(out, SET_FIELD, |out| oxm.encode(out)),
        Action::PushVlan(eth_type) => short(out, PUSH_VLAN, *eth_type),
        Action::PopVlan => void(out, POP_VLAN),
        Action::PushMpls(eth_type) => short(out, PUSH_MPLS, *eth_type),
        Action::PopMpls(eth_type) => short(out, POP_MPLS, *eth_type),
        Action::PushPbb(eth_type) => short(out, PUSH_PBB, *eth_type),
        Action::PopPbb => void(out, POP_PBB),
        Action::SetMplsTtl(ttl) => byte(out, SET_MPLS_TTL, *ttl),
        Action::DecMplsTtl => void(out, DEC_MPLS_TTL),
        Action::SetNwTtl(ttl) => byte(out, SET_NW_TTL, *ttl),
        Action::DecNwTtl => void(out, DEC_NW_TTL),
        Action::CopyTtlOut => void(out, COPY_TTL_OUT),
        Action::CopyTtlIn => void(out, COPY_TTL_IN),
        Action::Meter(meter) => word(out, METER, meter.0),
        Action::Unknown { kind, data } => standard(out, *kind, |out| {
            out.bytes(data);
            Ok(())
        }),
        nicira_action => nicira::encode(nicira_action, out),
    }
}

fn decode_action(input: &mut Reader<'_>, depth: u8) -> Result<Action, DecodeError> {
    let at = input.offset();
    let kind = input.u16()?;
    let length = usize::from(input.u16()?);
    if length < 8 || !length.is_multiple_of(8) {
        return Err(DecodeError::bad(at + 2, "action length", length as u64));
    }
    let mut body = input.sub(length - 4)?;
    // The fixed part's length is part of a standard action's definition.
    let exactly = |wanted: usize| {
        if length == wanted { Ok(()) } else { Err(DecodeError::bad(at + 2, "action length", length as u64)) }
    };
    let action = match kind {
        EXPERIMENTER => return nicira::decode(&mut body, depth),
        SET_FIELD => {
            let (oxm, faithful) = Oxm::decode(&mut body)?;
            let padding = body.rest();
            if oxm.mask().is_some() || !faithful || oxm.is_wildcard() {
                return Err(DecodeError::bad(at + 4, "set_field under a mask", 1));
            }
            if padding.len() > 7 || padding.iter().any(|byte| *byte != 0) {
                return Err(DecodeError::bad(at + 2, "set_field length", length as u64));
            }
            return Ok(Action::SetField(oxm));
        }
        OUTPUT => {
            exactly(16)?;
            Action::Output { port: PortNo(body.u32()?), max_len: body.u16()? }
        }
        // 13 and 14 are nobody's, and unknown types may have any length.
        COPY_TTL_OUT | COPY_TTL_IN | SET_MPLS_TTL..=POP_PBB | METER => {
            exactly(8)?;
            match kind {
                COPY_TTL_OUT => Action::CopyTtlOut,
                COPY_TTL_IN => Action::CopyTtlIn,
                SET_MPLS_TTL => Action::SetMplsTtl(body.u8()?),
                DEC_MPLS_TTL => Action::DecMplsTtl,
                PUSH_VLAN => Action::PushVlan(body.u16()?),
                POP_VLAN => Action::PopVlan,
                PUSH_MPLS => Action::PushMpls(body.u16()?),
                POP_MPLS => Action::PopMpls(body.u16()?),
                SET_QUEUE => Action::SetQueue(QueueId(body.u32()?)),
                GROUP => Action::Group(GroupId(body.u32()?)),
                SET_NW_TTL => Action::SetNwTtl(body.u8()?),
                DEC_NW_TTL => Action::DecNwTtl,
                PUSH_PBB => Action::PushPbb(body.u16()?),
                POP_PBB => Action::PopPbb,
                METER => Action::Meter(crate::number::MeterId(body.u32()?)),
                _ => unknown(kind, &mut body),
            }
        }
        _ => unknown(kind, &mut body),
    };
    Ok(action)
}

fn unknown(kind: u16, body: &mut Reader<'_>) -> Action {
    Action::Unknown { kind, data: Bytes::copy_from_slice(body.rest()) }
}

/// Writes a field's header as an operand: no value follows.
pub(super) fn put_field(out: &mut Writer<'_>, field: Field) {
    let overhead = if field.experimenter().is_some() { 4 } else { 0 };
    encode_header(out, field, false, field.wire_bytes() + overhead);
}

/// Reads a field's header as an operand.
pub(super) fn take_field(input: &mut Reader<'_>) -> Result<Field, DecodeError> {
    let at = input.offset();
    let header = input.u32()?;
    let class = (header >> 16) as u16;
    let experimenter = if class == 0xffff { input.u32()? } else { 0 };
    let field = Field::from_raw(class, (header >> 9) as u8, experimenter);
    let overhead = if class == 0xffff { 4 } else { 0 };
    if header & 0x100 != 0 || (header & 0xff) as usize != field.wire_bytes() + overhead {
        return Err(DecodeError::bad(at, "field header of an operand", header.into()));
    }
    Ok(field)
}

/// Bits of a known field must exist.
pub(super) fn checked(at: usize, subfield: Subfield) -> Result<Subfield, DecodeError> {
    let width = subfield.field.wire_bits();
    let end = u32::from(subfield.start_bit) + u32::from(subfield.n_bits);
    if subfield.n_bits == 0 || end > u32::from(width) {
        return Err(DecodeError::bad(at, "bits of a field", u64::from(end)));
    }
    Ok(subfield)
}

/// `ofs_nbits`: offset and length in one 16-bit number (nicira-ext.h).
pub(super) fn ofs_nbits(subfield: Subfield) -> Result<u16, EncodeError> {
    let (start, bits) = (subfield.start_bit, subfield.n_bits);
    if start >= 1 << 10 || bits == 0 || bits > 64 {
        return Err(EncodeError::TooLarge {
            what: "bits of a field",
            value: u64::from(start) << 16 | u64::from(bits),
        });
    }
    Ok(start << 6 | (bits - 1))
}

pub(super) fn from_ofs_nbits(field: Field, packed: u16) -> Subfield {
    Subfield::new(field, packed >> 6, (packed & 0x3f) + 1)
}

/// A four-byte field header, where an action has room for no more.
pub(super) fn put_short_field(out: &mut Writer<'_>, field: Field) -> Result<(), EncodeError> {
    if field.experimenter().is_some() || number_width(field).is_none() && field.spec().is_none() {
        return Err(EncodeError::TooLarge {
            what: "field header for this action",
            value: field.number().into(),
        });
    }
    put_field(out, field);
    Ok(())
}

/// A place given by a four-byte header and `ofs_nbits`, for printing actions that stay opaque.
pub(crate) fn short_operand(header: u32, packed: u16) -> Option<Subfield> {
    let field = take_field(&mut Reader::new(&header.to_be_bytes())).ok()?;
    checked(0, from_ofs_nbits(field, packed)).ok()
}

/// The reverse of [`short_operand`], number first; zeros for none.
pub(crate) fn put_operand(out: &mut Writer<'_>, place: Option<Subfield>) -> Result<(), EncodeError> {
    let Some(place) = place else {
        out.zeros(6);
        return Ok(());
    };
    out.u16(ofs_nbits(place)?);
    put_short_field(out, place.field)
}

#[cfg(test)]
mod tests {
    use crate::{FlowMod, Instruction, Message, Xid};

    use super::*;

    #[test]
    fn an_unknown_action_survives_whatever_its_length() {
        for (kind, length) in [(13u16, 4usize), (14, 12), (28, 20), (400, 4)] {
            let action = Action::Unknown { kind, data: Bytes::from(vec![0xab; length]) };
            let flow =
                FlowMod { instructions: vec![Instruction::ApplyActions(vec![action])], ..FlowMod::default() };
            let message = Message::FlowMod(Box::new(flow));
            let bytes = message.to_bytes(Xid(1)).expect("it fits");
            assert_eq!(Message::decode(&bytes), Ok((Xid(1), message)), "type {kind}, {length} bytes");
        }
    }
}
