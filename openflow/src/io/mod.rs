//! The tokio side: a socket, one task that owns it, and a [`Client`] whose methods wait for answers. All protocol is in
//! [`crate::connection`].
//!
//! ```text
//!  Client ──commands──▶ task (owns socket and Connection) ──▶ ClientEvent
//!    ▲                    │
//!    └── oneshot/mpsc ◀───┘ replies, parts of multipart replies, bundle outcomes
//! ```

mod client;
mod target;
mod task;

pub use client::{Client, ClientError, MultipartStream};
pub use target::{Target, TargetError};
pub use task::ClientEvent;

#[cfg(test)]
mod tests;
