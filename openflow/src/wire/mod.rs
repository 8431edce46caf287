//! Bytes in and out, big-endian, with offsets and lengths that cannot be got wrong. It knows nothing of OpenFlow.

mod reader;
mod structure;
mod writer;

pub use reader::Reader;
pub(crate) use structure::wire_structs;
pub use structure::{FixedText, Wire};
pub use writer::Writer;

/// Reads structures of fixed size until the end.
pub(crate) fn read_all<T: Wire>(input: &mut Reader<'_>) -> Result<Vec<T>, crate::error::DecodeError> {
    let mut items = Vec::new();
    while !input.is_empty() {
        items.push(T::read(input)?);
    }
    Ok(items)
}
