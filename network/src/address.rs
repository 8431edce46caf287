//! A canonical CIDR. `ipnetwork` keeps host bits and accepts odd spellings; this wrapper does neither.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// A network prefix without host bits: two spellings of one prefix are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNetwork);

/// Why a text or a pair of numbers is no CIDR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The text does not have the form ADDRESS/LENGTH.
    #[error("`{0}` is not a CIDR: write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/48")]
    Malformed(String),
    /// The prefix is longer than the address.
    #[error("prefix length {length} does not fit {address}: at most {max}")]
    TooLong {
        /// The address.
        address: IpAddr,
        /// The length asked for, in bits.
        length: u8,
        /// The longest for this family, in bits.
        max: u8,
    },
}

impl Cidr {
    /// The prefix of `length` bits that holds `address`; host bits are cleared.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, CidrError> {
        let max = width(address);
        if length > max {
            return Err(CidrError::TooLong { address, length, max });
        }
        let bits = address_bits(address) & mask_bits(length, max);
        let network = IpNetwork::new(bits_address(bits, max), length);
        network.map(Self).map_err(|_| CidrError::TooLong { address, length, max })
    }

    /// The prefix that holds one address only.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNetwork::from(address))
    }

    /// The first address of the prefix.
    pub fn address(&self) -> IpAddr {
        self.0.ip()
    }

    /// The length of the prefix in bits.
    pub fn length(&self) -> u8 {
        self.0.prefix()
    }

    /// The last address of the prefix.
    pub fn last(&self) -> IpAddr {
        let max = width(self.address());
        bits_address(address_bits(self.address()) | host_bits(self.length(), max), max)
    }

    /// The address `index` places after the first, when it is still inside.
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        let max = width(self.address());
        (index <= host_bits(self.length(), max))
            .then(|| bits_address(address_bits(self.address()) + index, max))
    }

    /// Whether this is an IPv4 prefix.
    pub fn is_ipv4(&self) -> bool {
        self.address().is_ipv4()
    }

    /// Whether the prefix holds `address` (never across families).
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// Whether every address of `other` is in this prefix.
    pub fn covers(&self, other: &Self) -> bool {
        self.length() <= other.length() && self.contains(other.address())
    }

    /// The two halves, or `None` for a single address.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let max = width(self.address());
        if self.length() == max {
            return None;
        }
        let length = self.length() + 1;
        let low = address_bits(self.address());
        let high = low | (1u128 << (max - length));
        let half = |bits| IpNetwork::new(bits_address(bits, max), length).ok().map(Self);
        Some([half(low)?, half(high)?])
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn mask_bits(length: u8, max: u8) -> u128 {
    !host_bits(length, max) & host_bits(0, max)
}

fn host_bits(length: u8, max: u8) -> u128 {
    match max - length {
        128 => u128::MAX,
        free => (1u128 << free) - 1,
    }
}

/// The address as a number.
pub fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

pub(crate) fn bits_address(bits: u128, max: u8) -> IpAddr {
    if max == 32 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.length())
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(malformed)?;
        if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        let address = address.parse().map_err(|_| malformed())?;
        let length = length.parse().map_err(|_| malformed())?;
        Self::new(address, length)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_cleared_so_spellings_are_equal() {
        assert_eq!(cidr("10.0.0.5/24"), cidr("10.0.0.0/24"));
        assert_eq!(cidr("fd00::1/64").to_string(), "fd00::/64");
        assert_eq!(cidr("0.0.0.0/0").last().to_string(), "255.255.255.255");
    }

    #[test]
    fn what_is_not_address_slash_length_is_refused() {
        for bad in [
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "/8",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nth_stays_inside() {
        let net = cidr("10.244.1.0/30");
        assert_eq!(net.nth(3).unwrap().to_string(), "10.244.1.3");
        assert_eq!(net.nth(4), None);
        assert_eq!(
            cidr("::/0").nth(u128::MAX).unwrap().to_string(),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        );
    }

    #[test]
    fn halves_cover_the_whole_and_nothing_else() {
        let [low, high] = cidr("10.0.0.0/8").halves().unwrap();
        assert_eq!((low.to_string(), high.to_string()), ("10.0.0.0/9".into(), "10.128.0.0/9".into()));
        assert_eq!(cidr("10.0.0.1/32").halves(), None);
        assert!(cidr("::/0").halves().is_some());
    }
}
