//! `ct`: the connection tracking action with its NAT and its `exec` list. Only what may stand inside is representable.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::codec::{
    checked, decode_nested, encode_action, from_ofs_nbits, ofs_nbits, put_short_field, take_field,
};
use super::{Action, nicira};
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::number::TableId;
use crate::oxm::{Field, Oxm, Subfield};
use crate::wire::{Reader, Writer};

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
    /// A `nat` that does not come first; [`Ct::nat`] is the usual place.
    Nat(Nat),
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

/// `NXAST_NAT`, which stands only inside `NXAST_CT`.
pub(super) const NAT: u16 = 36;

const COMMIT: u16 = 1;
const FORCE: u16 = 2;
const NO_TABLE: u8 = 0xff;

/// Writes what follows the action's header.
pub(super) fn encode(ct: &Ct, out: &mut Writer<'_>) -> Result<(), EncodeError> {
    let commit = if ct.commit { COMMIT } else { 0 };
    let force = if ct.force { FORCE } else { 0 };
    out.u16(commit | force | ct.other_flags & !(COMMIT | FORCE));
    match ct.zone {
        CtZone::Immediate(zone) => {
            out.u32(0);
            out.u16(zone);
        }
        CtZone::Field(subfield) => {
            put_short_field(out, subfield.field)?;
            out.u16(ofs_nbits(subfield)?);
        }
    }
    out.u8(ct.table.map_or(NO_TABLE, |table| table.0));
    out.zeros(3);
    out.u16(ct.alg.0);
    if let Some(nat) = &ct.nat {
        put_nat(nat, out)?;
    }
    ct.exec.iter().try_for_each(|exec| match exec.clone().into_action() {
        Ok(action) => encode_action(&action, out),
        Err(nat) => put_nat(&nat, out),
    })
}

fn put_nat(nat: &Nat, out: &mut Writer<'_>) -> Result<(), EncodeError> {
    nicira::put(out, nicira::NICIRA, NAT, |out| {
        encode_nat(nat, out);
        Ok(())
    })
}

fn encode_nat(nat: &Nat, out: &mut Writer<'_>) {
    out.zeros(2);
    let kind = match nat.kind {
        None => 0,
        Some(NatKind::Src) => 1,
        Some(NatKind::Dst) => 2,
    };
    out.u16(kind | u16::from(nat.persistent) << 2 | u16::from(nat.hash) << 3 | u16::from(nat.random) << 4);
    let range = &nat.range;
    let present = [
        range.ipv4_min.is_some(),
        range.ipv4_max.is_some(),
        range.ipv6_min.is_some(),
        range.ipv6_max.is_some(),
        range.port_min.is_some(),
        range.port_max.is_some(),
    ];
    out.u16(present.iter().enumerate().fold(0, |bits, (bit, present)| bits | u16::from(*present) << bit));
    for address in [range.ipv4_min, range.ipv4_max].into_iter().flatten() {
        out.bytes(&address.octets());
    }
    for address in [range.ipv6_min, range.ipv6_max].into_iter().flatten() {
        out.bytes(&address.octets());
    }
    for port in [range.port_min, range.port_max].into_iter().flatten() {
        out.u16(port);
    }
}

/// Reads what follows the action's header.
pub(super) fn decode(body: &mut Reader<'_>) -> Result<Ct, DecodeError> {
    let flags = body.u16()?;
    let at = body.offset();
    let zone_field = body.u32()?;
    let zone_value = body.u16()?;
    let zone = if zone_field == 0 {
        CtZone::Immediate(zone_value)
    } else {
        let field =
            take_field(&mut Reader::new(&zone_field.to_be_bytes())).map_err(|error| error.shifted(at))?;
        let subfield = checked(at, from_ofs_nbits(field, zone_value))?;
        if subfield.n_bits != 16 {
            return Err(DecodeError::bad(at, "bits of a conntrack zone", subfield.n_bits.into()));
        }
        CtZone::Field(subfield)
    };
    let table = body.u8()?;
    body.skip(3)?;
    let mut ct = Ct {
        commit: flags & COMMIT != 0,
        force: flags & FORCE != 0,
        other_flags: flags & !(COMMIT | FORCE),
        zone,
        table: (table != NO_TABLE).then_some(TableId(table)),
        alg: CtAlg(body.u16()?),
        nat: None,
        exec: Vec::new(),
    };
    if ct.force && !ct.commit {
        return Err(DecodeError::bad(at - 2, "conntrack flags (force without commit)", flags.into()));
    }
    while !body.is_empty() {
        let at = body.offset();
        if let Some(mut nat) = take_nat(body)? {
            let nat = decode_nat(&mut nat)?;
            match ct.nat {
                None if ct.exec.is_empty() => ct.nat = Some(nat),
                _ => ct.exec.push(CtExec::Nat(nat)),
            }
            continue;
        }
        let mut one = *body;
        one.skip(2)?;
        let length = usize::from(one.u16()?);
        let action = decode_nested(&mut body.sub(length.max(8))?, 0)?.pop();
        let exec = action.and_then(|action| CtExec::try_from(action).ok());
        let exec =
            exec.ok_or_else(|| DecodeError::new(at, DecodeErrorKind::Nesting("this action inside ct")))?;
        ct.exec.push(exec);
    }
    let translates = ct.nat.as_ref().is_some_and(|nat| nat.kind.is_some());
    if !ct.commit && (translates || !ct.exec.is_empty()) {
        return Err(DecodeError::new(at, DecodeErrorKind::Nesting("actions inside ct without commit")));
    }
    Ok(ct)
}

/// The payload of an `NXAST_NAT`, if that is what comes next.
fn take_nat<'a>(body: &mut Reader<'a>) -> Result<Option<Reader<'a>>, DecodeError> {
    let mut ahead = *body;
    let Ok(head) = ahead.array::<10>() else { return Ok(None) };
    let vendor = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    if head[..2] != [0xff, 0xff] || vendor != nicira::NICIRA || head[8..] != NAT.to_be_bytes() {
        return Ok(None);
    }
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if length < 16 || !length.is_multiple_of(8) {
        return Err(DecodeError::bad(body.offset() + 2, "action length", length as u64));
    }
    let mut nat = body.sub(length)?;
    nat.skip(10)?;
    Ok(Some(nat))
}

fn decode_nat(body: &mut Reader<'_>) -> Result<Nat, DecodeError> {
    body.skip(2)?;
    let at = body.offset();
    let flags = body.u16()?;
    let kind = match flags & 3 {
        0 => None,
        1 => Some(NatKind::Src),
        2 => Some(NatKind::Dst),
        _ => return Err(DecodeError::bad(at, "nat flags (source and destination)", flags.into())),
    };
    let present = body.u16()?;
    if flags >> 5 != 0 || present >> 6 != 0 {
        return Err(DecodeError::bad(at, "nat flags", u64::from(flags) << 16 | u64::from(present)));
    }
    let has = |bit: u16| present >> bit & 1 == 1;
    let mut range = NatRange::default();
    for (bit, place) in [(0, &mut range.ipv4_min), (1, &mut range.ipv4_max)] {
        *place = if has(bit) { Some(body.array::<4>()?.into()) } else { None };
    }
    for (bit, place) in [(2, &mut range.ipv6_min), (3, &mut range.ipv6_max)] {
        *place = if has(bit) { Some(body.array::<16>()?.into()) } else { None };
    }
    for (bit, place) in [(4, &mut range.port_min), (5, &mut range.port_max)] {
        *place = if has(bit) { Some(body.u16()?) } else { None };
    }
    nicira::padding(body)?;
    Ok(Nat { kind, persistent: flags & 4 != 0, hash: flags & 8 != 0, random: flags & 16 != 0, range })
}

impl CtExec {
    /// As an action that could stand elsewhere too; a `nat` could not.
    pub(crate) fn into_action(self) -> Result<Action, Nat> {
        match self {
            CtExec::SetField(oxm) => Ok(Action::SetField(oxm)),
            CtExec::RegLoad2(oxm) => Ok(Action::RegLoad2(oxm)),
            CtExec::RegLoad { dst, value } => Ok(Action::RegLoad { dst, value }),
            CtExec::RegMove { src, dst } => Ok(Action::RegMove { src, dst }),
            CtExec::Nat(nat) => Err(nat),
        }
    }
}

impl TryFrom<Action> for CtExec {
    type Error = Action;

    /// Only writing `ct_mark` and `ct_label` may stand inside `ct`; anything else comes back.
    fn try_from(action: Action) -> Result<CtExec, Action> {
        let own = |field: Field| matches!(field, Field::CT_MARK | Field::CT_LABEL);
        match action {
            Action::SetField(oxm) if own(oxm.field()) => Ok(CtExec::SetField(oxm)),
            Action::RegLoad2(oxm) if own(oxm.field()) => Ok(CtExec::RegLoad2(oxm)),
            Action::RegLoad { dst, value } if own(dst.field) => Ok(CtExec::RegLoad { dst, value }),
            Action::RegMove { src, dst } if own(dst.field) => Ok(CtExec::RegMove { src, dst }),
            other => Err(other),
        }
    }
}
