//! Match fields (OXM and NXM): their identities, the table that describes them, values, and parts of fields. It knows
//! nothing of messages.

mod field;
mod format;
mod subfield;
mod table;
mod value;

pub use field::{Access, Code, Field, FieldSpec, Format, Masking, Prerequisite, class};
pub(crate) use format::{CT_STATE_FLAGS, Hex, Ipv6Text, TCP_FLAGS, TUN_FLAGS, ValueText, flags, ipv4, ipv6};
pub use subfield::Subfield;
pub use table::FIELDS;
pub use value::{Oxm, Value};
pub(crate) use value::{encode_header, number_width, rank};
