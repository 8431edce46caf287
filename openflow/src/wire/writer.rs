//! `Writer`: puts numbers behind each other; lengths fill themselves in.

use bytes::{BufMut, BytesMut};

use crate::error::EncodeError;

/// Appends to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut BytesMut) -> Writer<'a> {
        Writer { out }
    }

    /// Bytes in the buffer so far.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    /// Appends a big-endian number.
    pub fn u16(&mut self, value: u16) {
        self.out.put_u16(value);
    }

    /// Appends a big-endian number.
    pub fn u32(&mut self, value: u32) {
        self.out.put_u32(value);
    }

    /// Appends a big-endian number.
    pub fn u64(&mut self, value: u64) {
        self.out.put_u64(value);
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends `n` zeros.
    pub fn zeros(&mut self, n: usize) {
        self.out.put_bytes(0, n);
    }

    /// Appends zeros until the distance from `start` is a multiple of `align`.
    pub fn pad_from(&mut self, start: usize, align: usize) {
        let length = self.out.len() - start;
        self.zeros(length.next_multiple_of(align) - length);
    }

    /// Copies a number that is already there to an earlier place: some structures hold one length twice.
    pub(crate) fn copy_u16(&mut self, from: usize, to: usize) {
        self.out.copy_within(from..from + 2, to);
    }

    /// Appends a 16-bit length slot, then what `body` writes, then fills the slot with the distance from `start` to the end.
    /// There is no way to leave the slot unfilled.
    pub fn measured(
        &mut self,
        what: &'static str,
        start: usize,
        body: impl FnOnce(&mut Writer<'a>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let slot = self.out.len();
        self.u16(0);
        body(self)?;
        let length = self.out.len() - start;
        let short = u16::try_from(length).map_err(|_| EncodeError::TooLong {
            what,
            length,
            limit: usize::from(u16::MAX),
        })?;
        self.out[slot..slot + 2].copy_from_slice(&short.to_be_bytes());
        Ok(())
    }
}
