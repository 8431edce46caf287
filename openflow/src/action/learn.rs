//! `learn`: the action by which a packet makes a flow. It describes the flow's match and actions as bits to copy.

use bytes::Bytes;

use crate::number::{Cookie, TableId};
use crate::oxm::Subfield;

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
