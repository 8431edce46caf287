//! What ferrule-cni asks for: the socket, the commands, and the garbage of those that were cut short.

pub mod attach;
pub mod collect;
mod lock;
pub mod server;
