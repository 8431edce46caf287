//! `multipath`: a hash of the packet's fields, reduced to a number of links, into a field.

use crate::oxm::Subfield;

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
