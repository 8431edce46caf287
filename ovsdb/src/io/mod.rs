//! The tokio driver: connects, reads, writes and waits for a [`Mirror`](crate::Mirror); must not decide anything that
//! the mirror decides.

mod client;
mod driver;
mod remote;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientConfig, ConnectError, SettleError, State, WaitError};
pub use remote::{NotRemote, Remote};
