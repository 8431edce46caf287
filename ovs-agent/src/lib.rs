//! The node daemon: observe what the switch, its database and the host hold, compute what they should hold, apply the
//! difference.
//!
//! ```text
//!   ferrule-cni ─▶ cni::server ──▶ cni::attach ─┐ asks                         ┌─▶ drivers::switch ─── OpenFlow ──▶ br-int
//!   ferrule ─────▶ insight::http ─▶ Insight ────┤        ┌────────────────┐    ├─▶ drivers::database ─ OVSDB ─────▶ ovsdb
//!   controller ◀─▶ drivers::controller ─────────┴──────▶ │ owner ─▶ Node  │ ───┼─▶ drivers::host ──── netlink, nft ▶ host
//!                          ▲        events of all        │ (pure state)   │    ├─▶ the disk (saved state)
//!                          │        drivers  ──────────▶ └────────────────┘    └─▶ drivers::controller (answers)
//!                          └───────────────────────────────────────────────────────────┘
//! ```
//!
//! [`node::Node`] decides everything and touches nothing; [`owner`] feeds it one event at a time and hands its work out;
//! the [`drivers`] touch the world. Start-up, a restart of the agent (nothing differs, nothing is sent), a restart of Open
//! vSwitch and a change of policy all take the same path.

pub mod attachment;
pub mod cni;
pub mod cut;
pub mod datagram;
pub mod drift;
pub mod drivers;
pub mod event;
pub mod health_check;
pub mod insight;
pub mod ipam;
pub mod metrics;
pub mod node;
pub mod owner;
pub mod plan;
pub mod recipe;
mod run;
pub mod saved;
pub mod seen;
pub mod settings;
pub mod shadow;
pub mod time;

pub use run::{StartError, run};
