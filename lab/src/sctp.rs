//! The two SCTP chunks that a probe needs, as bytes: INIT and INIT ACK (RFC 9260 §3.3.2 and §3.3.3). Kernels without SCTP
//! sockets still pass raw packets of protocol 132. Opens no socket.

/// The IANA protocol number of SCTP.
pub const PROTOCOL: i32 = 132;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const STATE_COOKIE: u16 = 7;
const COMMON_HEADER: usize = 12;
const INIT_FIXED: usize = 20;

/// What a packet with one INIT or INIT ACK says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Verification tag of the common header: 0 in an INIT, the peer's tag in an INIT ACK.
    pub tag: u32,
    /// The chunk.
    pub chunk: Chunk,
}

/// The chunks we speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Asks for an association.
    Init {
        /// The tag that the answer must carry.
        initiate_tag: u32,
    },
    /// Grants it.
    InitAck {
        /// The answerer's own tag.
        initiate_tag: u32,
        /// The state cookie: opaque to the protocol, so a responder says in it who it is.
        cookie: Vec<u8>,
    },
}

impl Packet {
    /// The packet's bytes, checksum included.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, tag, cookie) = match &self.chunk {
            Chunk::Init { initiate_tag } => (INIT, *initiate_tag, None),
            Chunk::InitAck { initiate_tag, cookie } => (INIT_ACK, *initiate_tag, Some(cookie.as_slice())),
        };
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        let parameter = cookie.map_or(0, |cookie| 4 + cookie.len());
        // A chunk's length leaves the padding out (RFC 9260 §3.2); what we send is far below 64 KiB.
        let length = u16::try_from(INIT_FIXED + parameter).unwrap_or(u16::MAX);
        bytes.extend([kind, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(tag.to_be_bytes());
        bytes.extend(65_536_u32.to_be_bytes());
        bytes.extend(1_u16.to_be_bytes());
        bytes.extend(1_u16.to_be_bytes());
        bytes.extend(tag.to_be_bytes());
        if let Some(cookie) = cookie {
            bytes.extend(STATE_COOKIE.to_be_bytes());
            bytes.extend(u16::try_from(parameter).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(cookie);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let checksum = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a packet whose first chunk is one of ours and whose checksum is right; anything else is `None`.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let chunk = bytes.get(COMMON_HEADER..)?;
        let sum = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
        let mut zeroed = bytes.to_vec();
        zeroed[8..12].fill(0);
        if crc32c(&zeroed) != sum {
            return None;
        }
        let length = usize::from(be16(chunk, 2)?);
        let chunk = chunk.get(..length)?;
        let initiate_tag = be32(chunk, 4)?;
        let chunk = match *chunk.first()? {
            INIT if length >= INIT_FIXED => Chunk::Init { initiate_tag },
            INIT_ACK if length >= INIT_FIXED => {
                Chunk::InitAck { initiate_tag, cookie: cookie(chunk.get(INIT_FIXED..)?).unwrap_or_default() }
            }
            _ => return None,
        };
        Some(Self { source: be16(bytes, 0)?, destination: be16(bytes, 2)?, tag: be32(bytes, 4)?, chunk })
    }

    /// The answer of an endpoint that serves the destination port.
    pub fn accept(&self, own_tag: u32, cookie: &[u8]) -> Option<Self> {
        let Chunk::Init { initiate_tag } = self.chunk else { return None };
        Some(Self {
            source: self.destination,
            destination: self.source,
            tag: initiate_tag,
            chunk: Chunk::InitAck { initiate_tag: own_tag, cookie: cookie.to_vec() },
        })
    }
}

fn cookie(mut parameters: &[u8]) -> Option<Vec<u8>> {
    loop {
        let (kind, length) = (be16(parameters, 0)?, usize::from(be16(parameters, 2)?));
        let value = parameters.get(4..length)?;
        if kind == STATE_COOKIE {
            return Some(value.to_vec());
        }
        parameters = parameters.get(length.next_multiple_of(4)..)?;
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// CRC32c (RFC 9260 appendix A: polynomial 0x1EDC6F41, here reflected). The field is sent low byte first.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // The check value of CRC-32C, and RFC 3720 §B.4: 32 bytes of zeroes.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn an_init_is_answered_with_its_tag_and_a_name() {
        let init =
            Packet { source: 40_000, destination: 3868, tag: 0, chunk: Chunk::Init { initiate_tag: 7 } };
        let read = Packet::decode(&init.encode()).unwrap();
        assert_eq!(read, init);
        let answer = Packet::decode(&read.accept(9, b"shop/pay").unwrap().encode()).unwrap();
        assert_eq!((answer.source, answer.destination, answer.tag), (3868, 40_000, 7));
        assert_eq!(answer.chunk, Chunk::InitAck { initiate_tag: 9, cookie: b"shop/pay".to_vec() });
        assert_eq!(answer.accept(1, b""), None);
    }

    #[test]
    fn garbage_and_cut_packets_are_nothing() {
        let bytes =
            Packet { source: 1, destination: 2, tag: 3, chunk: Chunk::Init { initiate_tag: 4 } }.encode();
        for length in 0..bytes.len() {
            assert_eq!(Packet::decode(&bytes[..length]), None);
        }
        let mut wrong = bytes;
        wrong[5] ^= 1;
        assert_eq!(Packet::decode(&wrong), None);
    }
}
