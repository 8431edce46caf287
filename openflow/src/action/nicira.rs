//! Nicira's (and one of the ONF's) actions as bytes (nicira-ext.h, `enum nx_action_subtype`; layouts as Open vSwitch 3.1 has
//! them). `ct`, `learn` and `multipath` have files of their own.

use bytes::Bytes;

use super::codec::{
    EXPERIMENTER, checked, decode_nested, encode_actions, from_ofs_nbits, ofs_nbits, put_field,
    put_short_field, take_field,
};
use super::{Action, Controller, ct, learn, multipath};
use crate::error::{DecodeError, EncodeError};
use crate::number::{MeterId, PortNo, TableId};
use crate::oxm::{Field, Oxm, Subfield};
use crate::wire::{Reader, Writer};

pub(crate) const NICIRA: u32 = 0x00002320;
pub(crate) const ONF: u32 = 0x4f4e4600;

const RESUBMIT: u16 = 1;
const SET_TUNNEL: u16 = 2;
const POP_QUEUE: u16 = 5;
const REG_MOVE: u16 = 6;
const REG_LOAD: u16 = 7;
const NOTE: u16 = 8;
const SET_TUNNEL64: u16 = 9;
const MULTIPATH: u16 = 10;
const RESUBMIT_TABLE: u16 = 14;
const OUTPUT_REG: u16 = 15;
const LEARN: u16 = 16;
const EXIT: u16 = 17;
const FIN_TIMEOUT: u16 = 19;
const CONTROLLER: u16 = 20;
const DEC_TTL_CNT_IDS: u16 = 21;
const WRITE_METADATA: u16 = 22;
const STACK_PUSH: u16 = 27;
const STACK_POP: u16 = 28;
const OUTPUT_REG2: u16 = 32;
const REG_LOAD2: u16 = 33;
const CONJUNCTION: u16 = 34;
const CT: u16 = 35;
const CONTROLLER2: u16 = 37;
const OUTPUT_TRUNC: u16 = 39;
const CLONE: u16 = 42;
const CT_CLEAR: u16 = 43;
const RESUBMIT_TABLE_CT: u16 = 44;
const LEARN2: u16 = 45;
const CHECK_PKT_LARGER: u16 = 49;
const DELETE_FIELD: u16 = 50;
const ONF_COPY_FIELD: u16 = 3200;

/// An experimenter action: header, vendor, subtype and what `body` writes, filled up to a multiple of eight.
pub(super) fn put(
    out: &mut Writer<'_>,
    vendor: u32,
    subtype: u16,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.position();
    out.u16(EXPERIMENTER);
    out.measured("action", start, |out| {
        out.u32(vendor);
        out.u16(subtype);
        body(out)?;
        out.pad_from(start, 8);
        Ok(())
    })
}

fn port16(port: PortNo) -> Result<u16, EncodeError> {
    port.to_16().ok_or(EncodeError::TooLarge { what: "port in a 16-bit place", value: port.0.into() })
}

pub(super) fn encode(action: &Action, out: &mut Writer<'_>) -> Result<(), EncodeError> {
    let nx = |out: &mut Writer<'_>, subtype, body: &dyn Fn(&mut Writer<'_>) -> Result<(), EncodeError>| {
        put(out, NICIRA, subtype, body)
    };
    match action {
        Action::Resubmit { port, table, ct } => {
            let subtype = match (table, ct) {
                (_, true) => RESUBMIT_TABLE_CT,
                (Some(_), false) => RESUBMIT_TABLE,
                (None, false) => RESUBMIT,
            };
            let port = port16(*port)?;
            nx(out, subtype, &|out| {
                out.u16(port);
                out.u8(if subtype == RESUBMIT { 0 } else { table.unwrap_or(TableId::ALL).0 });
                out.zeros(3);
                Ok(())
            })
        }
        Action::RegMove { src, dst } => nx(out, REG_MOVE, &|out| {
            out.u16(src.n_bits);
            out.u16(src.start_bit);
            out.u16(dst.start_bit);
            put_field(out, src.field);
            put_field(out, dst.field);
            Ok(())
        }),
        Action::RegLoad { dst, value } => nx(out, REG_LOAD, &|out| {
            out.u16(ofs_nbits(*dst)?);
            put_short_field(out, dst.field)?;
            out.u64(*value);
            Ok(())
        }),
        Action::RegLoad2(oxm) => nx(out, REG_LOAD2, &|out| oxm.encode(out)),
        Action::CopyField { src, dst } => put(out, ONF, ONF_COPY_FIELD, |out| {
            out.zeros(2);
            out.u16(src.n_bits);
            out.u16(src.start_bit);
            out.u16(dst.start_bit);
            out.zeros(2);
            put_field(out, src.field);
            put_field(out, dst.field);
            Ok(())
        }),
        Action::OutputReg { src, max_len } if src.field.experimenter().is_none() => {
            nx(out, OUTPUT_REG, &|out| {
                out.u16(ofs_nbits(*src)?);
                put_short_field(out, src.field)?;
                out.u16(*max_len);
                out.zeros(6);
                Ok(())
            })
        }
        Action::OutputReg { src, max_len } => nx(out, OUTPUT_REG2, &|out| {
            out.u16(ofs_nbits(*src)?);
            out.u16(*max_len);
            put_field(out, src.field);
            Ok(())
        }),
        Action::OutputTrunc { port, max_len } => {
            let port = port16(*port)?;
            nx(out, OUTPUT_TRUNC, &|out| {
                out.u16(port);
                out.u32(*max_len);
                Ok(())
            })
        }
        Action::StackPush(subfield) => nx(out, STACK_PUSH, &|out| stack(out, *subfield)),
        Action::StackPop(subfield) => nx(out, STACK_POP, &|out| stack(out, *subfield)),
        Action::Ct(ct) => nx(out, CT, &|out| ct::encode(ct, out)),
        Action::CtClear => nx(out, CT_CLEAR, &|_| Ok(())),
        Action::Conjunction { clause, n_clauses, id } => nx(out, CONJUNCTION, &|out| {
            out.u8(*clause);
            out.u8(*n_clauses);
            out.u32(*id);
            Ok(())
        }),
        Action::Learn(learn) => {
            nx(out, if learn.limit > 0 || learn.result.is_some() { LEARN2 } else { LEARN }, &|out| {
                learn::encode(learn, out)
            })
        }
        Action::Multipath(multipath) => nx(out, MULTIPATH, &|out| multipath::encode(multipath, out)),
        Action::Controller(controller) => encode_controller(controller, out),
        Action::Note(note) => nx(out, NOTE, &|out| {
            out.bytes(note);
            out.zeros(6usize.saturating_sub(note.len()));
            Ok(())
        }),
        Action::Clone(actions) => nx(out, CLONE, &|out| {
            out.zeros(6);
            encode_actions(actions, out)
        }),
        Action::CheckPktLarger { length, dst } => nx(out, CHECK_PKT_LARGER, &|out| {
            out.u16(*length);
            out.u16(dst.start_bit);
            put_field(out, dst.field);
            out.zeros(if dst.field.experimenter().is_some() { 2 } else { 6 });
            Ok(())
        }),
        Action::DecTtlCntIds(ids) => {
            let count = u16::try_from(ids.len()).map_err(|_| EncodeError::TooLarge {
                what: "number of controllers",
                value: ids.len() as u64,
            })?;
            nx(out, DEC_TTL_CNT_IDS, &|out| {
                out.u16(count);
                out.zeros(4);
                ids.iter().for_each(|id| out.u16(*id));
                Ok(())
            })
        }
        Action::FinTimeout { idle, hard } => nx(out, FIN_TIMEOUT, &|out| {
            out.u16(*idle);
            out.u16(*hard);
            Ok(())
        }),
        Action::WriteMetadata { metadata, mask } => nx(out, WRITE_METADATA, &|out| {
            out.zeros(6);
            out.u64(*metadata);
            out.u64(*mask);
            Ok(())
        }),
        Action::DeleteField(field) => nx(out, DELETE_FIELD, &|out| {
            put_field(out, *field);
            out.zeros(if field.experimenter().is_some() { 6 } else { 10 });
            Ok(())
        }),
        Action::SetTunnel(id) => nx(out, SET_TUNNEL, &|out| {
            out.zeros(2);
            out.u32(*id);
            Ok(())
        }),
        Action::SetTunnel64(id) => nx(out, SET_TUNNEL64, &|out| {
            out.zeros(6);
            out.u64(*id);
            Ok(())
        }),
        Action::PopQueue => nx(out, POP_QUEUE, &|_| Ok(())),
        Action::Exit => nx(out, EXIT, &|_| Ok(())),
        Action::Experimenter { vendor, data } => {
            let start = out.position();
            out.u16(EXPERIMENTER);
            out.measured("action", start, |out| {
                out.u32(*vendor);
                out.bytes(data);
                out.pad_from(start, 8);
                Ok(())
            })
        }
        // `codec` encodes the standard ones and never passes them on.
        standard => unreachable!("{standard:?} is a standard action"),
    }
}

fn stack(out: &mut Writer<'_>, subfield: Subfield) -> Result<(), EncodeError> {
    out.u16(subfield.start_bit);
    put_field(out, subfield.field);
    out.u16(subfield.n_bits);
    // The structure has room for an eight-byte field header.
    out.zeros(if subfield.field.experimenter().is_some() { 2 } else { 6 });
    Ok(())
}

fn encode_controller(controller: &Controller, out: &mut Writer<'_>) -> Result<(), EncodeError> {
    if controller.userdata.is_none() && !controller.pause && controller.meter.is_none() {
        return put(out, NICIRA, CONTROLLER, |out| {
            out.u16(controller.max_len);
            out.u16(controller.controller_id);
            out.u8(controller.reason);
            Ok(())
        });
    }
    put(out, NICIRA, CONTROLLER2, |out| {
        out.zeros(6);
        if controller.max_len != 0xffff {
            property(out, 0, |out| out.u32(u32::from(controller.max_len) << 16))?;
        }
        if controller.controller_id != 0 {
            property(out, 1, |out| out.u32(u32::from(controller.controller_id) << 16))?;
        }
        if controller.reason != 1 {
            property(out, 2, |out| out.u8(controller.reason))?;
        }
        if let Some(userdata) = &controller.userdata {
            property(out, 3, |out| out.bytes(userdata))?;
        }
        if controller.pause {
            property(out, 4, |_| ())?;
        }
        if let Some(meter) = controller.meter {
            property(out, 5, |out| out.u32(meter.0))?;
        }
        Ok(())
    })
}

fn property(out: &mut Writer<'_>, kind: u16, body: impl FnOnce(&mut Writer<'_>)) -> Result<(), EncodeError> {
    let start = out.position();
    out.u16(kind);
    out.measured("property", start, |out| {
        body(out);
        Ok(())
    })?;
    out.pad_from(start, 8);
    Ok(())
}

/// Reads what follows type and length of an experimenter action.
///
/// What this crate would not write back byte for byte stays opaque.
pub(super) fn decode(body: &mut Reader<'_>, depth: u8) -> Result<Action, DecodeError> {
    let mut whole = *body;
    let vendor = body.u32()?;
    let subtype = body.u16()?;
    let opaque = |whole: &mut Reader<'_>| {
        whole.skip(4)?;
        Ok(Action::Experimenter { vendor, data: Bytes::copy_from_slice(whole.rest()) })
    };
    let length = whole.len() + 4;
    let wanted = match (vendor, subtype) {
        (NICIRA, RESUBMIT | RESUBMIT_TABLE | RESUBMIT_TABLE_CT | SET_TUNNEL | POP_QUEUE | EXIT) => Some(16),
        (NICIRA, FIN_TIMEOUT | CONTROLLER | CONJUNCTION | OUTPUT_TRUNC | CT_CLEAR) => Some(16),
        (NICIRA, REG_LOAD | SET_TUNNEL64 | OUTPUT_REG | OUTPUT_REG2 | STACK_PUSH | STACK_POP) => Some(24),
        (NICIRA, CHECK_PKT_LARGER | DELETE_FIELD) => Some(24),
        (NICIRA, WRITE_METADATA | MULTIPATH) => Some(32),
        _ => None,
    };
    if wanted.is_some_and(|wanted| wanted != length) {
        return Err(DecodeError::bad(whole.offset() - 2, "action length", length as u64));
    }
    if needs_wide_header(vendor, subtype, whole.peek()) {
        return opaque(&mut whole);
    }
    let at = body.offset();
    Ok(match (vendor, subtype) {
        (NICIRA, RESUBMIT | RESUBMIT_TABLE | RESUBMIT_TABLE_CT) => {
            let port = PortNo::from_16(body.u16()?);
            let table = TableId(body.u8()?);
            let (table, ct) = match subtype {
                RESUBMIT => (None, false),
                RESUBMIT_TABLE => (Some(table), false),
                _ => (Some(table), true),
            };
            Action::Resubmit { port, table, ct }
        }
        (NICIRA, SET_TUNNEL) => {
            body.skip(2)?;
            Action::SetTunnel(body.u32()?)
        }
        (NICIRA, SET_TUNNEL64) => {
            body.skip(6)?;
            Action::SetTunnel64(body.u64()?)
        }
        (NICIRA, POP_QUEUE) => Action::PopQueue,
        (NICIRA, EXIT) => Action::Exit,
        (NICIRA, CT_CLEAR) => Action::CtClear,
        (NICIRA, REG_MOVE) => {
            let (src, dst) = move_operands(body, at)?;
            Action::RegMove { src, dst }
        }
        (ONF, ONF_COPY_FIELD) => {
            body.skip(2)?;
            let (n_bits, src_start, dst_start) = (body.u16()?, body.u16()?, body.u16()?);
            body.skip(2)?;
            let src = checked(at, Subfield::new(take_field(body)?, src_start, n_bits))?;
            let dst = checked(at, Subfield::new(take_field(body)?, dst_start, n_bits))?;
            padding(body)?;
            Action::CopyField { src, dst }
        }
        (NICIRA, REG_LOAD) => {
            let packed = body.u16()?;
            let dst = checked(at, from_ofs_nbits(take_field(body)?, packed))?;
            let value = body.u64()?;
            if dst.n_bits < 64 && value >> dst.n_bits != 0 {
                return Err(DecodeError::bad(at, "load value (it has more bits than its place)", value));
            }
            Action::RegLoad { dst, value }
        }
        (NICIRA, REG_LOAD2) => {
            let (oxm, faithful) = Oxm::decode(body)?;
            padding(body)?;
            if !faithful || oxm.is_wildcard() {
                return opaque(&mut whole);
            }
            Action::RegLoad2(oxm)
        }
        (NICIRA, NOTE) => Action::Note(Bytes::copy_from_slice(body.rest())),
        (NICIRA, MULTIPATH) => Action::Multipath(multipath::decode(body)?),
        (NICIRA, OUTPUT_REG) => {
            let packed = body.u16()?;
            let src = checked(at, from_ofs_nbits(take_field(body)?, packed))?;
            Action::OutputReg { src, max_len: body.u16()? }
        }
        (NICIRA, OUTPUT_REG2) => {
            let (packed, max_len) = (body.u16()?, body.u16()?);
            let src = checked(at, from_ofs_nbits(take_field(body)?, packed))?;
            if src.field.experimenter().is_none() {
                return opaque(&mut whole);
            }
            Action::OutputReg { src, max_len }
        }
        (NICIRA, OUTPUT_TRUNC) => {
            Action::OutputTrunc { port: PortNo::from_16(body.u16()?), max_len: body.u32()? }
        }
        (NICIRA, LEARN | LEARN2) => match learn::decode(body, subtype == LEARN2)? {
            Some(learn) => Action::Learn(Box::new(learn)),
            None => return opaque(&mut whole),
        },
        (NICIRA, FIN_TIMEOUT) => Action::FinTimeout { idle: body.u16()?, hard: body.u16()? },
        (NICIRA, CONTROLLER) => Action::Controller(Box::new(Controller {
            max_len: body.u16()?,
            controller_id: body.u16()?,
            reason: body.u8()?,
            ..Controller::default()
        })),
        (NICIRA, CONTROLLER2) => match decode_controller2(body)? {
            Some(controller) => Action::Controller(Box::new(controller)),
            None => return opaque(&mut whole),
        },
        (NICIRA, DEC_TTL_CNT_IDS) => {
            let count = usize::from(body.u16()?);
            body.skip(4)?;
            let mut ids = body.sub(count * 2)?;
            let ids = (0..count).map(|_| ids.u16()).collect::<Result<Vec<_>, _>>()?;
            padding(body)?;
            Action::DecTtlCntIds(ids)
        }
        (NICIRA, WRITE_METADATA) => {
            body.skip(6)?;
            Action::WriteMetadata { metadata: body.u64()?, mask: body.u64()? }
        }
        (NICIRA, STACK_PUSH | STACK_POP) => {
            let start = body.u16()?;
            let field = take_field(body)?;
            let subfield = checked(at, Subfield::new(field, start, body.u16()?))?;
            if subtype == STACK_PUSH { Action::StackPush(subfield) } else { Action::StackPop(subfield) }
        }
        (NICIRA, CONJUNCTION) => {
            let (clause, n_clauses) = (body.u8()?, body.u8()?);
            if !(2..=64).contains(&n_clauses) || clause >= n_clauses {
                return Err(DecodeError::bad(
                    at,
                    "conjunction clause",
                    u64::from(clause) << 8 | u64::from(n_clauses),
                ));
            }
            Action::Conjunction { clause, n_clauses, id: body.u32()? }
        }
        (NICIRA, CT) => Action::Ct(Box::new(ct::decode(body)?)),
        (NICIRA, CLONE) => {
            body.skip(6)?;
            Action::Clone(decode_nested(body, depth + 1)?)
        }
        (NICIRA, CHECK_PKT_LARGER) => {
            let (length, start) = (body.u16()?, body.u16()?);
            let dst = checked(at, Subfield::bit(take_field(body)?, start))?;
            Action::CheckPktLarger { length, dst }
        }
        (NICIRA, DELETE_FIELD) => Action::DeleteField(take_field(body)?),
        (NICIRA, ct::NAT) => {
            return Err(DecodeError::new(at, crate::error::DecodeErrorKind::Nesting("nat outside ct")));
        }
        _ => return opaque(&mut whole),
    })
}

/// Operands that name tunnel metadata or unknown fields carry lengths that only the switch knows: such actions stay opaque.
fn needs_wide_header(vendor: u32, subtype: u16, whole: &[u8]) -> bool {
    let at: &[usize] = match (vendor, subtype) {
        (NICIRA, REG_MOVE) => &[12, 16],
        (NICIRA, REG_LOAD | OUTPUT_REG | STACK_PUSH | STACK_POP) => &[8],
        (NICIRA, MULTIPATH) => &[24],
        (NICIRA, CHECK_PKT_LARGER) => &[10],
        (NICIRA, OUTPUT_REG2) => &[10],
        _ => return false,
    };
    at.iter().any(|at| {
        let Some(header) = whole.get(*at..*at + 4) else { return false };
        let class = u16::from_be_bytes([header[0], header[1]]);
        let field = Field::from_raw(class, header[2] >> 1, 0);
        let known = matches!(field.wire_bytes(), 1..=16) || usize::from(header[3]) == field.wire_bytes();
        class != 0xffff && !known
    })
}

fn move_operands(body: &mut Reader<'_>, at: usize) -> Result<(Subfield, Subfield), DecodeError> {
    let (n_bits, src_start, dst_start) = (body.u16()?, body.u16()?, body.u16()?);
    let src = checked(at, Subfield::new(take_field(body)?, src_start, n_bits))?;
    let dst = checked(at, Subfield::new(take_field(body)?, dst_start, n_bits))?;
    padding(body)?;
    Ok((src, dst))
}

/// Up to seven zeros fill an action up.
pub(super) fn padding(body: &mut Reader<'_>) -> Result<(), DecodeError> {
    let at = body.offset();
    let rest = body.rest();
    if rest.len() > 7 || rest.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::bad(at, "padding of an action", rest.len() as u64));
    }
    Ok(())
}

/// `None` when a property is unknown or stands where this crate would not write it.
fn decode_controller2(body: &mut Reader<'_>) -> Result<Option<Controller>, DecodeError> {
    body.skip(6)?;
    let mut controller = Controller::default();
    let mut last = None;
    while !body.is_empty() {
        let at = body.offset();
        let kind = body.u16()?;
        let length = usize::from(body.u16()?);
        let Some(payload) = length.checked_sub(4) else {
            return Err(DecodeError::bad(at + 2, "property length", length as u64));
        };
        let mut value = body.sub(payload)?;
        body.skip(length.next_multiple_of(8) - length)?;
        if last.is_some_and(|last| last >= kind) {
            return Ok(None);
        }
        last = Some(kind);
        match kind {
            // Short numbers stand in the upper part of a word.
            0 => controller.max_len = (value.u32()? >> 16) as u16,
            1 => controller.controller_id = (value.u32()? >> 16) as u16,
            2 => controller.reason = value.u8()?,
            3 => controller.userdata = Some(Bytes::copy_from_slice(value.rest())),
            4 => controller.pause = true,
            5 => controller.meter = Some(MeterId(value.u32()?)),
            _ => return Ok(None),
        }
        value.finish()?;
        let said_nothing = kind == 0 && controller.max_len == 0xffff
            || kind == 1 && controller.controller_id == 0
            || kind == 2 && controller.reason == 1;
        if said_nothing {
            return Ok(None);
        }
    }
    let plain = controller.userdata.is_none() && !controller.pause && controller.meter.is_none();
    Ok((!plain).then_some(controller))
}
