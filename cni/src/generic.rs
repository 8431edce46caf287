//! Generic netlink (`linux/genetlink.h`): what number a family of the kernel's has, and one request to it. The messages are small
//! enough to be written by hand. It must not know what a family is good for.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLMSG_ERROR: u16 = 0x2;
const NLA_F_NESTED: u16 = 0x8000;

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME`.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// A socket to the kernel.
#[derive(Debug)]
pub struct Generic(Socket);

impl Generic {
    /// Opens it.
    pub fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// The number of a family, `None` when the kernel does not have it. One that a module brings has it loaded, if it is
    /// installed.
    pub fn family(&self, name: &str) -> io::Result<Option<u16>> {
        let answer = match self.exchange(CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, &text(name))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            answer => answer?,
        };
        let mut rest = answer.as_slice();
        while let Some((length, kind)) = number(rest, 0).zip(number(rest, 2)) {
            if kind == FAMILY_ID {
                return Ok(number(rest, 4));
            }
            rest = rest.get(usize::from(length.max(4)).next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(None)
    }

    /// One request; the attributes of the first answer behind its two headers, when there is one before the
    /// acknowledgement.
    pub(crate) fn exchange(&self, kind: u16, command: u8, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let length = u32::try_from(20 + body.len()).map_err(io::Error::other)?;
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&[command, 1, 0, 0]);
        bytes.extend_from_slice(body);
        self.0.send(&bytes, 0)?;
        let mut answer = Vec::new();
        loop {
            let (bytes, _) = self.0.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while let Some(header) = rest.first_chunk::<16>() {
                let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                let message = rest.get(..length).unwrap_or(rest);
                if u16::from_ne_bytes([header[4], header[5]]) == NLMSG_ERROR {
                    let code = message
                        .get(16..20)
                        .and_then(|code| code.try_into().ok())
                        .map_or(0, i32::from_ne_bytes);
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
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

pub(crate) fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, value)
}

pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
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

    #[test]
    fn families_that_the_kernel_has_are_told_from_others() {
        let generic = Generic::connect().unwrap();
        assert_eq!(generic.family("nlctrl").unwrap(), Some(CONTROL));
        assert_eq!(generic.family("no-such-thing").unwrap(), None);
    }
}
