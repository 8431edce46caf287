//! `Field`: a match field's identity on the wire (class, number, experimenter), known or not. It holds no value.

use std::fmt;

use super::table::FIELDS;

/// OXM classes (OpenFlow 1.3.5 §7.2.3.3) with the experimenter id that a class 0xffff field starts with.
pub mod class {
    /// `OFPXMC_NXM_0`.
    pub const NXM_OF: (u16, u32) = (0x0000, 0);
    /// `OFPXMC_NXM_1`.
    pub const NXM_NX: (u16, u32) = (0x0001, 0);
    /// Ericsson's class, used by Open vSwitch for two ND fields.
    pub const ERICSSON: (u16, u32) = (0x1000, 0);
    /// `OFPXMC_OPENFLOW_BASIC`.
    pub const OXM_OF: (u16, u32) = (0x8000, 0);
    /// `OFPXMC_PACKET_REGS` (OpenFlow 1.5), Open vSwitch's xregs.
    pub const PKT_REG: (u16, u32) = (0x8001, 0);
    /// `OFPXMC_EXPERIMENTER` with the ONF's id.
    pub const ONF_ET: (u16, u32) = (0xffff, 0x4f4e4600);
    /// `OFPXMC_EXPERIMENTER` with Nicira's id.
    pub const NX_ET: (u16, u32) = (0xffff, 0x00002320);
    /// `OFPXMC_EXPERIMENTER` with the NSH id.
    pub const NX_NSH: (u16, u32) = (0xffff, 0x005ad650);
}

/// Whether a field may be matched under a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// All or nothing.
    Exact,
    /// Any subset of bits.
    Bitwise,
}

/// Whether actions may change a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Matching only.
    ReadOnly,
    /// Matching and setting.
    ReadWrite,
}

/// How a value is written for people (`ovs-fields(7)`, "Format").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    Decimal,
    Hexadecimal,
    Ethernet,
    Ipv4,
    Ipv6,
    Port16,
    Port,
    Fragment,
    TunnelFlags,
    TcpFlags,
    CtState,
    PacketType,
}

/// What the same match must also say before a field means anything (OpenFlow 1.3.5 §7.2.3.6, `ovs-fields(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Prerequisite {
    None,
    Ethernet,
    Arp,
    VlanVid,
    Ipv4,
    Ipv6,
    Ip,
    Nsh,
    Mpls,
    Pbb,
    Tcp,
    Udp,
    Sctp,
    Icmpv4,
    Icmpv6,
    Nd,
    NdSolicit,
    NdAdvert,
    Tracked,
}

/// One way of naming a field on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// For example `NXM_NX_REG0`.
    pub name: &'static str,
    /// OXM class.
    pub class: u16,
    /// Experimenter id when `class` is 0xffff.
    pub experimenter: u32,
    /// Field number in the class.
    pub number: u8,
    /// First OpenFlow version that has this code point; empty for Nicira's.
    pub since_openflow: &'static str,
    /// First Open vSwitch version that has it; empty when none does.
    pub since_ovs: &'static str,
}

/// One row of [`FIELDS`].
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Name in ovs-ofctl's syntax.
    pub name: &'static str,
    /// Alternative name, or empty.
    pub aka: &'static str,
    /// Bytes on the wire (without an experimenter id and a mask).
    pub wire_bytes: u8,
    /// Significant low-order bits.
    pub bits: u16,
    /// How people read it.
    pub format: Format,
    /// Maskable or not.
    pub masking: Masking,
    /// What must stand beside it.
    pub prerequisite: Prerequisite,
    /// Writable or not.
    pub access: Access,
    /// Code points, the one preferred under OpenFlow 1.3 first.
    pub codes: &'static [Code],
}

/// The identity of a match field: 16-bit class, 7-bit number and, in class 0xffff, a 32-bit experimenter id.
///
/// Fields that [`FIELDS`] does not list are as good as any other: they survive decoding and encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field(u64);

impl Field {
    /// A field by its raw code point. `experimenter` counts only in class 0xffff.
    pub const fn from_raw(class: u16, number: u8, experimenter: u32) -> Field {
        let experimenter = if class == 0xffff { experimenter } else { 0 };
        Field((class as u64) << 40 | ((number & 0x7f) as u64) << 32 | experimenter as u64)
    }

    pub(super) const fn first(codes: &[((u16, u32), u8)]) -> Field {
        Field::from_raw(codes[0].0.0, codes[0].1, codes[0].0.1)
    }

    /// OXM class.
    pub const fn class(self) -> u16 {
        (self.0 >> 40) as u16
    }

    /// Field number within the class (7 bits).
    pub const fn number(self) -> u8 {
        (self.0 >> 32) as u8 & 0x7f
    }

    /// Experimenter id, for class 0xffff.
    pub const fn experimenter(self) -> Option<u32> {
        if self.class() == 0xffff { Some(self.0 as u32) } else { None }
    }

    /// `reg0` … `reg15`. Panics beyond: a register number is written by a programmer, never read from outside.
    pub const fn reg(n: u8) -> Field {
        assert!(n < 16, "Open vSwitch has the registers reg0 to reg15");
        Field::from_raw(class::NXM_NX.0, n, 0)
    }

    /// `xreg0` … `xreg7`; `xreg0` is `reg0` (high half) and `reg1`.
    pub const fn xreg(n: u8) -> Field {
        assert!(n < 8, "Open vSwitch has the registers xreg0 to xreg7");
        Field::from_raw(class::PKT_REG.0, n, 0)
    }

    /// `xxreg0` … `xxreg3`; `xxreg0` is `reg0` (highest quarter) to `reg3`.
    pub const fn xxreg(n: u8) -> Field {
        assert!(n < 4, "Open vSwitch has the registers xxreg0 to xxreg3");
        Field::from_raw(class::NXM_NX.0, 111 + n, 0)
    }

    /// `tun_metadata0` … `tun_metadata63`.
    pub const fn tun_metadata(n: u8) -> Field {
        assert!(n < 64, "Open vSwitch has tun_metadata0 to tun_metadata63");
        Field::from_raw(class::NXM_NX.0, 40 + n, 0)
    }

    /// The field named so in ovs-ofctl's syntax (`ip_src`, `nw_src`) or by a code point (`NXM_NX_REG0`).
    pub fn by_name(name: &str) -> Option<Field> {
        for spec in FIELDS {
            if spec.name == name || (!spec.aka.is_empty() && spec.aka == name) {
                return Some(spec.preferred());
            }
            if let Some(code) = spec.codes.iter().find(|code| code.name == name) {
                return Some(code.field());
            }
        }
        None
    }

    /// Position in [`FIELDS`], which is also the encoding order.
    pub(crate) fn row(self) -> Option<usize> {
        let n = self.number() as usize;
        let at = match self.class() {
            0x0000 => ROWS[0][n],
            0x0001 => ROWS[1][n],
            0x8000 => ROWS[2][n],
            0x8001 => ROWS[3][n],
            0x1000 => ROWS[4][n],
            0xffff => match self.0 as u32 {
                0x4f4e4600 => ROWS[5][n],
                0x00002320 => ROWS[6][n],
                0x005ad650 => ROWS[7][n],
                _ => NONE,
            },
            _ => NONE,
        };
        (at != NONE).then_some(at as usize)
    }

    /// The code point under which ovs-ofctl writes it as an operand: the NXM one where there is one.
    pub fn operand(self) -> Field {
        let nxm = self.spec().and_then(|spec| spec.codes.iter().find(|code| code.since_openflow.is_empty()));
        nxm.map_or(self.preferred(), Code::field)
    }

    /// What is known about the field.
    pub fn spec(self) -> Option<&'static FieldSpec> {
        self.row().map(|row| &FIELDS[row])
    }

    /// The same field under the code point that Open vSwitch prefers under OpenFlow 1.3 (itself when unknown).
    pub fn preferred(self) -> Field {
        self.spec().map_or(self, FieldSpec::preferred)
    }

    /// Significant bits; 0 when the field is unknown.
    pub fn width_bits(self) -> u16 {
        self.spec().map_or(0, |spec| spec.bits)
    }

    /// Bits that operands may address: the significant ones, but for `vlan_vid`, whose "present" bit counts too.
    pub(crate) fn wire_bits(self) -> u16 {
        self.spec().map_or(0, |spec| u16::from(spec.wire_bytes) * 8)
    }

    /// Bytes of a value on the wire; 0 when the field is unknown.
    pub fn wire_bytes(self) -> usize {
        self.spec().map_or(0, |spec| usize::from(spec.wire_bytes))
    }

    /// ovs-ofctl's name, when known. `Display` also names unknown fields.
    pub fn name(self) -> Option<&'static str> {
        self.spec().map(|spec| spec.name)
    }

    /// The name of this very code point, for example `NXM_OF_ETH_SRC`.
    pub fn code_name(self) -> Option<&'static str> {
        self.spec()?.codes.iter().find(|code| code.field() == self).map(|code| code.name)
    }

    /// The name under which ovs-ofctl prints it as an operand: the NXM name where there is one, else the OXM name.
    pub fn nxm_name(self) -> Option<&'static str> {
        let codes = self.spec()?.codes;
        let nxm = codes.iter().find(|code| code.since_openflow.is_empty()).or(codes.first());
        nxm.map(|code| code.name)
    }

    /// Whether `set_field`, `load` and their kin may write it.
    pub fn is_writable(self) -> bool {
        self.spec().is_some_and(|spec| spec.access == Access::ReadWrite)
    }

    /// Whether it may be matched under a mask.
    pub fn is_maskable(self) -> bool {
        self.spec().is_some_and(|spec| spec.masking == Masking::Bitwise)
    }
}

impl FieldSpec {
    /// The field under the code point preferred for OpenFlow 1.3.
    pub fn preferred(&self) -> Field {
        self.codes[0].field()
    }
}

impl Code {
    /// The field of this code point.
    pub const fn field(&self) -> Field {
        Field::from_raw(self.class, self.number, self.experimenter)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.experimenter()) {
            (Some(name), _) => f.write_str(name),
            (None, Some(id)) => write!(f, "NXM:0xffff:{id:#x}:{}", self.number()),
            (None, None) => write!(f, "NXM:{:#06x}:{}", self.class(), self.number()),
        }
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field({self})")
    }
}

const NONE: u16 = u16::MAX;

/// Number → row, per class; computed by the compiler from the table, which thereby checks that no code point is used twice.
static ROWS: [[u16; 128]; 8] = [
    rows_of(class::NXM_OF),
    rows_of(class::NXM_NX),
    rows_of(class::OXM_OF),
    rows_of(class::PKT_REG),
    rows_of(class::ERICSSON),
    rows_of(class::ONF_ET),
    rows_of(class::NX_ET),
    rows_of(class::NX_NSH),
];

const fn rows_of(wanted: (u16, u32)) -> [u16; 128] {
    let mut rows = [NONE; 128];
    let mut row = 0;
    while row < super::table::ROWS_FOR_INDEX.len() {
        let codes = super::table::ROWS_FOR_INDEX[row];
        let mut i = 0;
        while i < codes.len() {
            let ((class, experimenter), number) = codes[i];
            if class == wanted.0 && experimenter == wanted.1 {
                assert!(rows[number as usize] == NONE, "two rows share one code point");
                rows[number as usize] = row as u16;
            }
            i += 1;
        }
        row += 1;
    }
    rows
}
