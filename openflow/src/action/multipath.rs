//! `multipath`: a hash of the packet's fields, reduced to a number of links, into a field.

use super::codec::{checked, from_ofs_nbits, ofs_nbits, put_short_field, take_field};
use crate::error::{DecodeError, EncodeError};
use crate::oxm::Subfield;
use crate::wire::{Reader, Writer};

/// `NXAST_MULTIPATH` (nicira-ext.h, `struct nx_action_multipath`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Multipath {
    /// What is hashed.
    pub fields: HashFields,
    /// Makes hashes differ between uses.
    pub basis: u16,
    /// How a hash becomes a link.
    pub algorithm: MultipathAlgorithm,
    /// Highest link: links are 0 to `max_link`.
    pub max_link: u16,
    /// Operand of the algorithm (only `iter_hash` reads it).
    pub arg: u32,
    /// Where the link goes.
    pub dst: Subfield,
}

/// `enum nx_hash_fields`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HashFields(pub u16);

impl HashFields {
    /// `eth_src`.
    pub const ETH_SRC: HashFields = HashFields(0);
    /// `symmetric_l4`: Ethernet, VLAN, IP and TCP ports (not UDP's).
    pub const SYMMETRIC_L4: HashFields = HashFields(1);
    /// `symmetric_l3l4`: IP addresses and TCP or SCTP ports.
    pub const SYMMETRIC_L3L4: HashFields = HashFields(2);
    /// `symmetric_l3l4+udp`: and UDP ports.
    pub const SYMMETRIC_L3L4_UDP: HashFields = HashFields(3);
    /// `nw_src`.
    pub const NW_SRC: HashFields = HashFields(4);
    /// `nw_dst`.
    pub const NW_DST: HashFields = HashFields(5);
    /// `symmetric_l3`.
    pub const SYMMETRIC_L3: HashFields = HashFields(6);
}

/// `enum nx_mp_algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MultipathAlgorithm(pub u16);

impl MultipathAlgorithm {
    /// `modulo_n`.
    pub const MODULO_N: MultipathAlgorithm = MultipathAlgorithm(0);
    /// `hash_threshold`.
    pub const HASH_THRESHOLD: MultipathAlgorithm = MultipathAlgorithm(1);
    /// `hrw`.
    pub const HRW: MultipathAlgorithm = MultipathAlgorithm(2);
    /// `iter_hash`.
    pub const ITER_HASH: MultipathAlgorithm = MultipathAlgorithm(3);
}

/// Writes what follows the action's header.
pub(super) fn encode(multipath: &Multipath, out: &mut Writer<'_>) -> Result<(), EncodeError> {
    out.u16(multipath.fields.0);
    out.u16(multipath.basis);
    out.zeros(2);
    out.u16(multipath.algorithm.0);
    out.u16(multipath.max_link);
    out.u32(multipath.arg);
    out.zeros(2);
    out.u16(ofs_nbits(multipath.dst)?);
    put_short_field(out, multipath.dst.field)
}

/// Reads what follows the action's header.
pub(super) fn decode(body: &mut Reader<'_>) -> Result<Multipath, DecodeError> {
    let (fields, basis) = (HashFields(body.u16()?), body.u16()?);
    body.skip(2)?;
    let (algorithm, max_link, arg) = (MultipathAlgorithm(body.u16()?), body.u16()?, body.u32()?);
    body.skip(2)?;
    let at = body.offset();
    let packed = body.u16()?;
    let dst = checked(at, from_ofs_nbits(take_field(body)?, packed))?;
    Ok(Multipath { fields, basis, algorithm, max_link, arg, dst })
}
