//! `Reader`: takes numbers off a slice and, when they run out, says at which offset.

use crate::error::{DecodeError, DecodeErrorKind};

/// A cursor over bytes that remembers where in the message it stands.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

macro_rules! take_number {
    ($($name:ident $type:ty),*) => { $(
        #[doc = concat!("Takes a big-endian `", stringify!($type), "`.")]
        #[inline]
        pub fn $name(&mut self) -> Result<$type, DecodeError> {
            match self.rest.split_first_chunk() {
                Some((head, rest)) => {
                    self.rest = rest;
                    self.offset += head.len();
                    Ok(<$type>::from_be_bytes(*head))
                }
                None => Err(self.truncated(size_of::<$type>())),
            }
        }
    )* };
}

impl<'a> Reader<'a> {
    /// Reads a message from its first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, offset: 0 }
    }

    /// Where it stands, from the message's first byte.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Nothing left?
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    take_number!(u8 u8, u16 u16, u32 u32, u64 u64, u128 u128);

    /// Takes `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(n) {
            Some((head, rest)) => {
                self.rest = rest;
                self.offset += n;
                Ok(head)
            }
            None => Err(self.truncated(n)),
        }
    }

    /// Takes an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk() {
            Some((head, rest)) => {
                self.rest = rest;
                self.offset += N;
                Ok(*head)
            }
            None => Err(self.truncated(N)),
        }
    }

    /// Takes `n` bytes nobody looks at.
    pub fn skip(&mut self, n: usize) -> Result<(), DecodeError> {
        self.bytes(n).map(drop)
    }

    /// Takes the next `n` bytes as a reader of their own, which knows its offset.
    pub fn sub(&mut self, n: usize) -> Result<Reader<'a>, DecodeError> {
        let offset = self.offset;
        Ok(Reader { rest: self.bytes(n)?, offset })
    }

    /// What is left, without taking it.
    pub fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.offset += rest.len();
        self.rest = &[];
        rest
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::new(self.offset, DecodeErrorKind::TrailingBytes(self.rest.len())))
    }

    #[cold]
    fn truncated(&self, needed: usize) -> DecodeError {
        DecodeError::new(self.offset, DecodeErrorKind::Truncated { needed, available: self.rest.len() })
    }
}
