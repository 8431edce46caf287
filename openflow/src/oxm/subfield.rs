//! `Subfield`: a run of bits of a field, the operand of `move`, `load`, `learn` and their kin.

use std::fmt;

use super::field::Field;

/// Bits `start_bit` to `start_bit + n_bits - 1` of a field (nicira-ext.h, `ofs_nbits`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subfield {
    /// The field.
    pub field: Field,
    /// First bit, counted from the least significant.
    pub start_bit: u16,
    /// How many bits.
    pub n_bits: u16,
}

impl Subfield {
    /// Some bits of a field.
    pub const fn new(field: Field, start_bit: u16, n_bits: u16) -> Subfield {
        Subfield { field, start_bit, n_bits }
    }

    /// The whole field.
    pub fn all(field: Field) -> Subfield {
        Subfield { field, start_bit: 0, n_bits: field.width_bits() }
    }

    /// One bit.
    pub const fn bit(field: Field, bit: u16) -> Subfield {
        Subfield { field, start_bit: bit, n_bits: 1 }
    }

    /// The last bit.
    pub const fn end_bit(self) -> u16 {
        self.start_bit + self.n_bits.saturating_sub(1)
    }

    /// The field's bits that belong to it, as a mask.
    pub fn mask(self) -> u128 {
        if self.n_bits == 0 || self.n_bits > 128 || self.start_bit >= 128 {
            return 0;
        }
        (u128::MAX >> (128 - u32::from(self.n_bits))) << self.start_bit
    }
}

impl fmt::Display for Subfield {
    /// As ovs-ofctl does: `NXM_NX_REG0[0..15]`, `NXM_NX_REG0[3]`, `NXM_NX_REG0[]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.nxm_name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{}", self.field)?,
        }
        let whole = self.start_bit == 0 && self.n_bits == self.field.width_bits();
        match self.n_bits {
            _ if whole => f.write_str("[]"),
            1 => write!(f, "[{}]", self.start_bit),
            _ => write!(f, "[{}..{}]", self.start_bit, self.end_bit()),
        }
    }
}
