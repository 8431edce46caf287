//! Ethernet addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of the distributed logical router: what every pod and every gateway port has as its next hop. The
    /// same on every node, so that a pod needs no neighbour discovery.
    pub const ROUTER: Self = Self([0x0e, 0x00, 0x00, 0x0f, 0xe0, 0x01]);

    /// A locally administered address derived from a pod's address: unique wherever the address is.
    pub fn from_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self([0x0a, 0x58, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                // The low 32 bits tell hosts of one /64 apart, the fifth byte above them is mixed from the rest.
                let o = v6.octets();
                let mix = o[..12].iter().fold(0x58u8, |mix, byte| mix.rotate_left(3) ^ byte);
                Self([0x0e, mix, o[12], o[13], o[14], o[15]])
            }
        }
    }

    /// The address as a number, for a match field.
    pub fn to_bits(self) -> u64 {
        self.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    /// The IPv6 link-local address that the modified EUI-64 rule gives (RFC 4291 appendix A).
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        std::net::Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six pairs of hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an Ethernet address: write six bytes as 0a:58:0a:f4:01:02")]
pub struct MacError(pub String);

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree() {
        let mac: Mac = "0a:58:0A:f4:01:02".parse().unwrap();
        assert_eq!(mac, Mac::from_address("10.244.1.2".parse().unwrap()));
        assert_eq!(mac.to_string(), "0a:58:0a:f4:01:02");
        assert_eq!(mac.to_bits(), 0x0a58_0af4_0102);
        assert_eq!(mac.link_local().to_string(), "fe80::858:aff:fef4:102");
        for bad in ["", "0a:58:0a:f4:01", "0a:58:0a:f4:01:02:03", "0a:58:0a:f4:01:+2", "0a580af40102"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
