//! The source that is a Kubernetes API server: kinds are listed and watched, what they come to is told to the owner.
//!
//! ```text
//!  API server ──list, watch──▶ follow (one per kind, a Reflector each) ──Learnt──┐
//!             ──ConfigMap────▶ epoch::keep ────────────────────────────── Told ──┤
//!  owner ──what agents acknowledged and we lack─────────────────────────────────▶ source: Model ──Snapshot, Progress──▶ owner
//!             ◀─Events, conditions── writer (while it holds the Lease) ──reads problems─────────────────────────────▶ owner
//! ```
//!
//! **One history.** Everything that is told is of one epoch: the epoch is read before the kinds are listed. When a list is
//! older than what was known, or an agent has acknowledged what no list contains, etcd was restored: a greater epoch is
//! put into the API, all kinds are listed anew, and the new state takes the place of the old at once (ADR-0007).

pub mod authority;
pub mod client;
pub mod epoch;
pub mod follow;
pub mod history;
pub mod kinds;
pub mod lease;
pub mod model;
#[cfg(test)]
mod permissions;
pub mod reflector;
pub mod report;
pub mod review;
pub mod source;
pub mod writer;
