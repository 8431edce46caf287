//! Bytes in and out, big-endian, with offsets and lengths that cannot be got wrong. It knows nothing of OpenFlow.

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;
