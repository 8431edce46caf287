//! `learn`: the action by which a packet makes a flow. It describes the flow's match and actions as bits to copy.

use bytes::Bytes;

use super::codec::{put_field, take_field};
use super::nicira::padding;
use crate::error::{DecodeError, EncodeError};
use crate::number::{Cookie, TableId};
use crate::oxm::Subfield;
use crate::wire::{Reader, Writer};

/// `NXAST_LEARN` and `NXAST_LEARN2` (nicira-ext.h, `struct nx_action_learn`, `nx_action_learn2`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Learn {
    /// The new flow's table.
    pub table: TableId,
    /// Its priority.
    pub priority: u16,
    /// Its idle timeout, seconds.
    pub idle_timeout: u16,
    /// Its hard timeout, seconds.
    pub hard_timeout: u16,
    /// Idle timeout after FIN or RST.
    pub fin_idle_timeout: u16,
    /// Hard timeout after FIN or RST.
    pub fin_hard_timeout: u16,
    /// Its cookie.
    pub cookie: Cookie,
    /// `NX_LEARN_F_*`: [`Learn::SEND_FLOW_REM`], [`Learn::DELETE_LEARNED`], [`Learn::WRITE_RESULT`].
    pub flags: u16,
    /// At most so many learned flows (needs `NXAST_LEARN2`); 0: no limit.
    pub limit: u32,
    /// The bit that says whether the limit let it through (with [`Learn::WRITE_RESULT`]).
    pub result: Option<Subfield>,
    /// Match and actions.
    pub specs: Vec<LearnSpec>,
}

impl Learn {
    /// Tell the controller when a learned flow goes.
    pub const SEND_FLOW_REM: u16 = 1;
    /// Learned flows go when this flow goes.
    pub const DELETE_LEARNED: u16 = 2;
    /// Write to `result`.
    pub const WRITE_RESULT: u16 = 4;
}

/// One piece of a learned flow: `n_bits` from `src` to `dst`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LearnSpec {
    /// How many bits.
    pub n_bits: u16,
    /// From where.
    pub src: LearnSrc,
    /// To where.
    pub dst: LearnDst,
}

/// Where bits come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LearnSrc {
    /// The packet's field.
    Field(Subfield),
    /// A constant, right-aligned in `2 * ceil(n_bits / 16)` bytes.
    Immediate(Bytes),
}

/// Where bits go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LearnDst {
    /// The learned flow matches them.
    Match(Subfield),
    /// The learned flow loads them.
    Load(Subfield),
    /// The learned flow sends to the port they name.
    Output,
}

impl LearnSpec {
    /// The learned flow matches `dst` against the same bits that `src` has in this packet.
    pub fn match_field(dst: Subfield, src: Subfield) -> LearnSpec {
        LearnSpec { n_bits: dst.n_bits, src: LearnSrc::Field(src), dst: LearnDst::Match(dst) }
    }

    /// The learned flow matches `dst` against a constant.
    pub fn match_value(dst: Subfield, value: u128) -> LearnSpec {
        LearnSpec {
            n_bits: dst.n_bits,
            src: LearnSrc::immediate(value, dst.n_bits),
            dst: LearnDst::Match(dst),
        }
    }

    /// The learned flow loads into `dst` what `src` has in this packet.
    pub fn load_field(src: Subfield, dst: Subfield) -> LearnSpec {
        LearnSpec { n_bits: dst.n_bits, src: LearnSrc::Field(src), dst: LearnDst::Load(dst) }
    }

    /// The learned flow loads a constant into `dst`.
    pub fn load_value(value: u128, dst: Subfield) -> LearnSpec {
        LearnSpec {
            n_bits: dst.n_bits,
            src: LearnSrc::immediate(value, dst.n_bits),
            dst: LearnDst::Load(dst),
        }
    }

    /// The learned flow sends to the port that `src` names in this packet.
    pub fn output(src: Subfield) -> LearnSpec {
        LearnSpec { n_bits: src.n_bits, src: LearnSrc::Field(src), dst: LearnDst::Output }
    }
}

impl LearnSrc {
    /// A constant of so many bits (at most 128).
    pub fn immediate(value: u128, n_bits: u16) -> LearnSrc {
        let bytes = usize::from(n_bits.min(128).div_ceil(16)) * 2;
        LearnSrc::Immediate(Bytes::copy_from_slice(&value.to_be_bytes()[16 - bytes..]))
    }
}

const SRC_IMMEDIATE: u16 = 1 << 13;
const DST_LOAD: u16 = 1 << 11;
const DST_OUTPUT: u16 = 2 << 11;
const N_BITS: u16 = 0x3ff;

/// Writes what follows the action's header.
pub(super) fn encode(learn: &Learn, out: &mut Writer<'_>) -> Result<(), EncodeError> {
    out.u16(learn.idle_timeout);
    out.u16(learn.hard_timeout);
    out.u16(learn.priority);
    out.u64(learn.cookie.0);
    out.u16(learn.flags);
    out.u8(learn.table.0);
    out.zeros(1);
    out.u16(learn.fin_idle_timeout);
    out.u16(learn.fin_hard_timeout);
    if learn.limit > 0 || learn.result.is_some() {
        out.u32(learn.limit);
        out.u16(learn.result.map_or(0, |result| result.start_bit));
        out.zeros(2);
        if let Some(result) = learn.result {
            put_field(out, result.field);
        }
    }
    learn.specs.iter().try_for_each(|spec| encode_spec(spec, out))
}

fn encode_spec(spec: &LearnSpec, out: &mut Writer<'_>) -> Result<(), EncodeError> {
    if spec.n_bits == 0 || spec.n_bits > N_BITS {
        return Err(EncodeError::TooLarge {
            what: "bits of a learn specification",
            value: spec.n_bits.into(),
        });
    }
    let src = if matches!(spec.src, LearnSrc::Immediate(_)) { SRC_IMMEDIATE } else { 0 };
    let dst = match spec.dst {
        LearnDst::Match(_) => 0,
        LearnDst::Load(_) => DST_LOAD,
        LearnDst::Output => DST_OUTPUT,
    };
    out.u16(spec.n_bits | src | dst);
    match &spec.src {
        LearnSrc::Field(src) => {
            put_field(out, src.field);
            out.u16(src.start_bit);
        }
        LearnSrc::Immediate(bytes) if bytes.len() == usize::from(spec.n_bits.div_ceil(16)) * 2 => {
            out.bytes(bytes)
        }
        LearnSrc::Immediate(bytes) => {
            return Err(EncodeError::TooLarge {
                what: "length of a learned constant",
                value: bytes.len() as u64,
            });
        }
    }
    if let LearnDst::Match(dst) | LearnDst::Load(dst) = spec.dst {
        put_field(out, dst.field);
        out.u16(dst.start_bit);
    }
    Ok(())
}

/// Reads what follows the action's header. `None`: this crate would not write it back byte for byte.
pub(super) fn decode(body: &mut Reader<'_>, second: bool) -> Result<Option<Learn>, DecodeError> {
    let mut learn = Learn {
        idle_timeout: body.u16()?,
        hard_timeout: body.u16()?,
        priority: body.u16()?,
        cookie: Cookie(body.u64()?),
        flags: body.u16()?,
        table: TableId(body.u8()?),
        ..Learn::default()
    };
    body.skip(1)?;
    learn.fin_idle_timeout = body.u16()?;
    learn.fin_hard_timeout = body.u16()?;
    if second {
        learn.limit = body.u32()?;
        let start = body.u16()?;
        body.skip(2)?;
        if learn.flags & Learn::WRITE_RESULT != 0 {
            learn.result = Some(Subfield::bit(take_field(body)?, start));
        }
        if learn.limit == 0 && learn.result.is_none() {
            return Ok(None);
        }
    }
    while body.len() >= 2 && body.peek()[..2] != [0, 0] {
        learn.specs.push(decode_spec(body)?);
    }
    padding(body)?;
    Ok(Some(learn))
}

fn decode_spec(body: &mut Reader<'_>) -> Result<LearnSpec, DecodeError> {
    let at = body.offset();
    let header = body.u16()?;
    let n_bits = header & N_BITS;
    let bad = || DecodeError::bad(at, "learn specification", header.into());
    if header & 0xc400 != 0 || n_bits == 0 {
        return Err(bad());
    }
    let src = if header & SRC_IMMEDIATE != 0 {
        LearnSrc::Immediate(Bytes::copy_from_slice(body.bytes(usize::from(n_bits.div_ceil(16)) * 2)?))
    } else {
        LearnSrc::Field(subfield(body, n_bits)?)
    };
    let dst = match header & (3 << 11) {
        0 => LearnDst::Match(subfield(body, n_bits)?),
        DST_LOAD => LearnDst::Load(subfield(body, n_bits)?),
        DST_OUTPUT if header & SRC_IMMEDIATE == 0 => LearnDst::Output,
        _ => return Err(bad()),
    };
    Ok(LearnSpec { n_bits, src, dst })
}

fn subfield(body: &mut Reader<'_>, n_bits: u16) -> Result<Subfield, DecodeError> {
    let at = body.offset();
    let field = take_field(body)?;
    super::codec::checked(at, Subfield::new(field, body.u16()?, n_bits))
}
