//! Text, both ways, in ovs-ofctl's words: what `ofp-print` prints, and flow, group and meter syntax read into types.

mod consistency;
mod lex;
mod opaque;
mod packet;
mod parse_action;
mod parse_flow;
mod parse_match;
mod parse_nested;
mod parse_opaque;
mod parse_value;
pub(crate) mod print_action;
pub(crate) mod print_flow;
pub(crate) mod print_match;
mod print_message;
mod print_multipart;
mod print_nicira;

pub use lex::ParseError;
pub use parse_flow::{parse_actions, parse_flow, parse_group, parse_instructions, parse_match, parse_meter};
pub use print_message::MessageText;
