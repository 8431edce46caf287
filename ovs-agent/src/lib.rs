//! The node daemon.

pub mod attachment;
pub mod drivers;
pub mod event;
pub mod ipam;
pub mod node;
pub mod plan;
pub mod saved;
pub mod settings;
pub mod shadow;
