//! The controller: sources make the network, the index makes every node's view of it, agents get what changed for them.
//!
//! ```text
//!  manifests ── Snapshot ──┐                       ┌── Delta ──▶ agent's stream (bounded)
//!  agents ── Hello, ───────┼──▶ owner: State ──────┤
//!            Bindings, ACK │    (one task)         └── Query ──▶ agent's stream
//!  HTTP ──── Read, Relay ──┘
//! ```
//!
//! What happens to the owner can be recorded, and played again elsewhere ([`record`]).
//!
//! **Invariants.** All state has one owner task ([`owner`]); [`state`] and what it is made of ([`bindings`], [`index`],
//! [`agent`]) do no IO and get the time as an argument. The controller never opens OVSDB or OpenFlow.

pub mod agent;
pub mod attach;
pub mod bindings;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod floor;
pub mod hearing;
pub mod http;
pub mod identity;
pub mod index;
pub mod kube;
pub mod manifests;
pub mod metrics;
pub mod news;
pub mod owner;
pub mod record;
pub mod relay;
pub mod run;
pub mod serving;
pub mod source;
pub mod state;
pub mod status;
pub mod store;
pub mod tls;
pub mod translate;
