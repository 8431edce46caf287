//! `OFPT_HELLO` and its version bitmap (OpenFlow 1.3.5 §7.5.1).

use bytes::Bytes;

use super::{VERSION, put_property, rest, take_property};
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Reader, Writer};

/// The first message on a connection, in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The highest version that the sender speaks: this message alone may have another than 4.
    pub version: u8,
    /// What else it says.
    pub elements: Vec<HelloElement>,
}

/// `struct ofp_hello_elem_header`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HelloElement {
    /// `OFPHET_VERSIONBITMAP`: bit *v* of the first word says that version *v* is spoken.
    VersionBitmap(Vec<u32>),
    /// Another element.
    Unknown {
        /// Its type.
        kind: u16,
        /// Its payload.
        data: Bytes,
    },
}

impl Default for Hello {
    /// Speaks OpenFlow 1.3 and nothing else.
    fn default() -> Hello {
        Hello { version: VERSION, elements: vec![HelloElement::VersionBitmap(vec![1 << VERSION])] }
    }
}

impl Hello {
    /// Does the sender speak `version`? Without a bitmap: every version up to the header's.
    pub fn speaks(&self, version: u8) -> bool {
        let bitmap = self.elements.iter().find_map(|element| match element {
            HelloElement::VersionBitmap(words) => Some(words),
            HelloElement::Unknown { .. } => None,
        });
        match bitmap {
            Some(words) => {
                words.get(usize::from(version / 32)).is_some_and(|word| word >> (version % 32) & 1 == 1)
            }
            None => version <= self.version && version != 0,
        }
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        self.elements.iter().try_for_each(|element| match element {
            HelloElement::VersionBitmap(words) => put_property(out, 1, |out| {
                words.iter().for_each(|word| out.u32(*word));
                Ok(())
            }),
            HelloElement::Unknown { kind, data } => put_property(out, *kind, |out| {
                out.bytes(data);
                Ok(())
            }),
        })
    }

    pub(super) fn decode(version: u8, body: &mut Reader<'_>) -> Result<Hello, DecodeError> {
        let mut elements = Vec::new();
        while !body.is_empty() {
            let (kind, mut value) = take_property(body)?;
            elements.push(if kind == 1 && value.len().is_multiple_of(4) {
                let words = (0..value.len() / 4).map(|_| value.u32()).collect::<Result<Vec<_>, _>>()?;
                HelloElement::VersionBitmap(words)
            } else {
                HelloElement::Unknown { kind, data: rest(&mut value) }
            });
        }
        Ok(Hello { version, elements })
    }
}
