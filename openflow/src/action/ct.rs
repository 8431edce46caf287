//! `ct`: the connection tracking action with its NAT and its `exec` list. Only what may stand inside is representable.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::number::TableId;
use crate::oxm::{Oxm, Subfield};

/// `NXAST_CT` (nicira-ext.h, `struct nx_action_conntrack`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ct {
    /// Enter the connection into the table.
    pub commit: bool,
    /// With `commit`: replace an entry of the other direction.
    pub force: bool,
    /// Flag bits beyond commit and force, kept as they came.
    pub other_flags: u16,
    /// Which connection table.
    pub zone: CtZone,
    /// The packet goes on in this table, with `ct_state`; `None`: no recirculation.
    pub table: Option<TableId>,
    /// Helper.
    pub alg: CtAlg,
    /// Address translation.
    pub nat: Option<Nat>,
    /// What is written into the entry.
    pub exec: Vec<CtExec>,
}

/// Where the zone comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CtZone {
    /// A number.
    Immediate(u16),
    /// 16 bits of a field.
    Field(Subfield),
}

impl Default for CtZone {
    fn default() -> CtZone {
        CtZone::Immediate(0)
    }
}

/// Protocol helper: the server's well-known port, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CtAlg(pub u16);

impl CtAlg {
    /// No helper.
    pub const NONE: CtAlg = CtAlg(0);
    /// FTP.
    pub const FTP: CtAlg = CtAlg(21);
    /// TFTP.
    pub const TFTP: CtAlg = CtAlg(69);
}

/// What may stand in `exec(…)`: writing `ct_mark` and `ct_label`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CtExec {
    /// `set_field:VALUE->ct_mark`.
    SetField(Oxm),
    /// `set_field:VALUE/MASK->ct_label` as `NXAST_REG_LOAD2`.
    RegLoad2(Oxm),
    /// `load:VALUE->NXM_NX_CT_MARK[..]`.
    RegLoad {
        /// Where.
        dst: Subfield,
        /// What.
        value: u64,
    },
    /// `move:SRC->NXM_NX_CT_MARK[..]`.
    RegMove {
        /// From.
        src: Subfield,
        /// To.
        dst: Subfield,
    },
}

/// `NXAST_NAT` (nicira-ext.h, `struct nx_action_nat`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nat {
    /// Source or destination; `None`: translate as the entry says.
    pub kind: Option<NatKind>,
    /// Same address for the same client.
    pub persistent: bool,
    /// Choose ports by hash.
    pub hash: bool,
    /// Choose ports at random.
    pub random: bool,
    /// Addresses and ports to choose from.
    pub range: NatRange,
}

/// Which end is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum NatKind {
    Src,
    Dst,
}

/// Addresses and ports to choose from, each with an optional upper end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct NatRange {
    pub ipv4_min: Option<Ipv4Addr>,
    pub ipv4_max: Option<Ipv4Addr>,
    pub ipv6_min: Option<Ipv6Addr>,
    pub ipv6_max: Option<Ipv6Addr>,
    pub port_min: Option<u16>,
    pub port_max: Option<u16>,
}

impl Nat {
    /// Translate to one source address.
    pub fn src(address: std::net::IpAddr) -> Nat {
        Nat { kind: Some(NatKind::Src), range: NatRange::address(address), ..Nat::default() }
    }

    /// Translate to one destination address.
    pub fn dst(address: std::net::IpAddr) -> Nat {
        Nat { kind: Some(NatKind::Dst), range: NatRange::address(address), ..Nat::default() }
    }

    /// Translate the port too.
    #[must_use]
    pub fn port(mut self, port: u16) -> Nat {
        self.range.port_min = Some(port);
        self
    }
}

impl NatRange {
    /// One address.
    pub fn address(address: std::net::IpAddr) -> NatRange {
        match address {
            std::net::IpAddr::V4(v4) => NatRange { ipv4_min: Some(v4), ..NatRange::default() },
            std::net::IpAddr::V6(v6) => NatRange { ipv6_min: Some(v6), ..NatRange::default() },
        }
    }
}
