//! Text, both ways, in ovs-ofctl's words: what `ofp-print` prints, and flow, group and meter syntax read into types.

mod opaque;
mod packet;
pub(crate) mod print_action;
pub(crate) mod print_flow;
pub(crate) mod print_match;
mod print_message;
mod print_multipart;
mod print_nicira;

pub use print_message::MessageText;
