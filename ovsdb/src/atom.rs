//! The atoms of which every OVSDB value is made (RFC 7047 §5.1 `<atom>`); knows nothing of columns or tables.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value as Json, json};

/// A row's identity: 128 bits, written in the canonical form of RFC 4122 (RFC 7047 §5.1 `<uuid>`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// The all-zeros UUID: the default of a column that refers to nothing.
    pub const ZERO: Self = Self([0; 16]);

    /// The UUID with these bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")]
pub struct NotUuid(pub String);

impl FromStr for Uuid {
    type Err = NotUuid;

    fn from_str(text: &str) -> Result<Self, NotUuid> {
        let refused = || NotUuid(text.chars().take(64).collect());
        if text.len() != 36 {
            return Err(refused());
        }
        let mut bytes = [0; 16];
        let mut digits = 0;
        for (index, character) in text.bytes().enumerate() {
            if matches!(index, 8 | 13 | 18 | 23) {
                if character != b'-' {
                    return Err(refused());
                }
                continue;
            }
            let digit = char::from(character).to_digit(16).ok_or_else(refused)?;
            // Below 16, so it fits; 36 characters less 4 hyphens are 32 digits.
            bytes[digits / 2] = bytes[digits / 2] << 4 | digit as u8;
            digits += 1;
        }
        Ok(Self(bytes))
    }
}

/// A finite real number with a total order, so that sets of reals are well-defined (RFC 7047 §5.1 `<atom>`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Real(f64);

impl Real {
    /// The number, unless it is infinite or not a number: JSON can carry neither.
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero turns -0.0 into 0.0, which the server holds to be equal.
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The type of an atom (RFC 7047 §3.2 `<atomic-type>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtomicType {
    /// A signed 64-bit number.
    Integer,
    /// A double-precision number.
    Real,
    /// True or false.
    Boolean,
    /// Unicode text.
    String,
    /// A row's identity.
    Uuid,
}

impl AtomicType {
    /// The type by its name in a schema.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "integer" => Self::Integer,
            "real" => Self::Real,
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    /// The atom that a scalar column has when nothing is given (RFC 7047 §5.2.1).
    pub fn default_atom(self) -> Atom {
        match self {
            Self::Integer => Atom::Integer(0),
            Self::Real => Atom::Real(Real::default()),
            Self::Boolean => Atom::Boolean(false),
            Self::String => Atom::String(String::new()),
            Self::Uuid => Atom::Uuid(Uuid::ZERO),
        }
    }
}

impl fmt::Display for AtomicType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        })
    }
}

/// One indivisible value (RFC 7047 §5.1 `<atom>`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// `<integer>`.
    Integer(i64),
    /// `<real>`.
    Real(Real),
    /// `<boolean>`.
    Boolean(bool),
    /// `<string>`.
    String(String),
    /// `["uuid", …]`.
    Uuid(Uuid),
    /// `["named-uuid", …]`: a row that the same transaction inserts. Never sent by a server.
    NamedUuid(String),
}

impl Atom {
    /// Its type; a named UUID stands for a UUID.
    pub fn atomic_type(&self) -> AtomicType {
        match self {
            Self::Integer(_) => AtomicType::Integer,
            Self::Real(_) => AtomicType::Real,
            Self::Boolean(_) => AtomicType::Boolean,
            Self::String(_) => AtomicType::String,
            Self::Uuid(_) | Self::NamedUuid(_) => AtomicType::Uuid,
        }
    }

    /// Its JSON form.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Integer(value) => json!(value),
            Self::Real(value) => json!(value.get()),
            Self::Boolean(value) => json!(value),
            Self::String(value) => json!(value),
            Self::Uuid(value) => json!(["uuid", value.to_string()]),
            Self::NamedUuid(name) => json!(["named-uuid", name]),
        }
    }

    /// The atom of `expected` type that `json` holds, or `None`.
    ///
    /// A number without a fraction serves as a real, and a real without a fraction as an integer, because JSON does
    /// not tell them apart.
    pub fn from_json(json: &Json, expected: AtomicType) -> Option<Self> {
        /// Every integer below this is exact in a double.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        Some(match (expected, json) {
            (AtomicType::Integer, Json::Number(number)) => match number.as_i64() {
                Some(value) => Self::Integer(value),
                None => {
                    let value = number.as_f64()?;
                    if value.fract() != 0.0 || value.abs() >= EXACT {
                        return None;
                    }
                    Self::Integer(value as i64)
                }
            },
            (AtomicType::Real, Json::Number(number)) => Self::Real(Real::new(number.as_f64()?)?),
            (AtomicType::Boolean, Json::Bool(value)) => Self::Boolean(*value),
            (AtomicType::String, Json::String(value)) => Self::String(value.clone()),
            (AtomicType::Uuid, Json::Array(_)) => Self::Uuid(uuid_from_json(json)?),
            _ => return None,
        })
    }
}

/// The UUID in `["uuid", "…"]`.
pub(crate) fn uuid_from_json(json: &Json) -> Option<Uuid> {
    match json.as_array()?.as_slice() {
        [Json::String(tag), Json::String(text)] if tag == "uuid" => text.parse().ok(),
        _ => None,
    }
}

impl From<i64> for Atom {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<Real> for Atom {
    fn from(value: Real) -> Self {
        Self::Real(value)
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<&str> for Atom {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Atom {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<Uuid> for Atom {
    fn from(value: Uuid) -> Self {
        Self::Uuid(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_round_trip_and_odd_spellings_are_refused() {
        let text = "0123abcd-4567-89ef-0011-223344556677";
        let uuid: Uuid = text.parse().expect("valid");
        assert_eq!(uuid.to_string(), text);
        for wrong in ["", "0123abcd456789ef0011223344556677", "0123abcd-4567-89ef-0011-22334455667g", "é"] {
            assert!(wrong.parse::<Uuid>().is_err(), "{wrong}");
        }
        assert!("0123abcd-4567-89ef-0011x223344556677".parse::<Uuid>().is_err());
    }

    #[test]
    fn numbers_follow_the_expected_type() {
        assert_eq!(Atom::from_json(&json!(5), AtomicType::Real), Some(Atom::Real(Real(5.0))));
        assert_eq!(Atom::from_json(&json!(5.0), AtomicType::Integer), Some(Atom::Integer(5)));
        assert_eq!(Atom::from_json(&json!(5.5), AtomicType::Integer), None);
        assert_eq!(Atom::from_json(&json!(u64::MAX), AtomicType::Integer), None);
        assert_eq!(Atom::from_json(&json!(i64::MIN), AtomicType::Integer), Some(Atom::Integer(i64::MIN)));
        assert_eq!(Atom::from_json(&json!("5"), AtomicType::Integer), None);
        assert_eq!(Real::new(f64::NAN), None);
        assert_eq!(Real::new(-0.0), Real::new(0.0));
    }
}
