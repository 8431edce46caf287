//! Turning transmit checksum offload off, by ethtool's generic netlink (`linux/ethtool_netlink.h`, Linux 5.6). The
//! messages are small enough to be written by hand; the ioctl would need unsafe code.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLMSG_ERROR: u16 = 0x2;
const NLA_F_NESTED: u16 = 0x8000;

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME` (`linux/genetlink.h`).
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `ETHTOOL_MSG_FEATURES_SET`, `ETHTOOL_A_FEATURES_HEADER`, `ETHTOOL_A_HEADER_DEV_NAME`, `ETHTOOL_A_FEATURES_WANTED`,
/// `ETHTOOL_A_BITSET_BITS`, `ETHTOOL_A_BITSET_BITS_BIT`, `ETHTOOL_A_BITSET_BIT_NAME`.
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const HEADER_DEV_NAME: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;

/// What `ethtool -K DEV tx off` turns off on a veth.
const CHECKSUMS: [&str; 2] = ["tx-checksum-ip-generic", "tx-checksum-sctp"];

/// Makes the interface compute checksums itself: on the userspace datapath nobody else does, and TCP would stall.
pub(crate) fn disable_transmit_checksums(interface: &str) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let family = family(&socket)?;
    // A bit that is listed without a value is wanted off.
    let bits: Vec<u8> =
        CHECKSUMS.iter().flat_map(|name| nested(BITS_BIT, &attribute(BIT_NAME, &text(name)))).collect();
    let mut body = nested(FEATURES_HEADER, &attribute(HEADER_DEV_NAME, &text(interface)));
    body.extend(nested(FEATURES_WANTED, &nested(BITSET_BITS, &bits)));
    exchange(&socket, family, FEATURES_SET, &body).map(drop)
}

fn family(socket: &Socket) -> io::Result<u16> {
    let missing =
        || io::Error::new(io::ErrorKind::Unsupported, "the kernel has no ethtool netlink (Linux 5.6)");
    let answer = exchange(socket, CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, &text("ethtool")));
    let answer =
        answer.map_err(|error| if error.kind() == io::ErrorKind::NotFound { missing() } else { error })?;
    let mut rest = answer.as_slice();
    while let Some((length, kind)) = number(rest, 0).zip(number(rest, 2)) {
        if kind == FAMILY_ID {
            return number(rest, 4).ok_or_else(missing);
        }
        rest = rest.get(usize::from(length.max(4)).next_multiple_of(4)..).unwrap_or_default();
    }
    Err(missing())
}

/// One request; the attributes of the first answer behind its two headers, when there is one before the
/// acknowledgement.
fn exchange(socket: &Socket, kind: u16, command: u8, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = u32::try_from(20 + body.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[command, 1, 0, 0]);
    bytes.extend_from_slice(body);
    socket.send(&bytes, 0)?;
    let mut answer = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while let Some(header) = rest.first_chunk::<16>() {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let message = rest.get(..length).unwrap_or(rest);
            if u16::from_ne_bytes([header[4], header[5]]) == NLMSG_ERROR {
                let code =
                    message.get(16..20).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
                return match code {
                    0 => Ok(answer),
                    code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                };
            }
            if answer.is_empty() {
                answer = message.get(20..).unwrap_or_default().to_vec();
            }
            rest = rest.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, value)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // Everything here is a few names long.
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nest() {
        assert_eq!(attribute(2, &text("eth0")), b"\x09\x00\x02\x00eth0\0\0\0\0");
        assert_eq!(nested(1, &attribute(2, &[7])), b"\x0c\x00\x01\x80\x05\x00\x02\x00\x07\0\0\0");
        assert_eq!(number(&[1, 0, 2], 0), Some(1));
        assert_eq!(number(&[1, 0, 2], 2), None);
    }
}
