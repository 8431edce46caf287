//! The node's own network stack: keeps links, addresses, routes, neighbours, kernel settings and the nftables table as they
//! should be. It must not know what they are for.

use std::net::IpAddr;
use std::sync::Arc;

use compiler::host::HostState;
use tokio::sync::{mpsc, watch};

use crate::event::Event;

/// Which device bounds the tunnels' MTU.
#[derive(Clone, Debug)]
pub struct Underlay {
    /// By name.
    pub device: Option<String>,
    /// Or by an address on it.
    pub addresses: Vec<IpAddr>,
}

/// Runs until the owner is gone. Unless `managed`, it only reports the underlay.
pub async fn run(
    managed: bool,
    underlay: Underlay,
    mut wanted: watch::Receiver<Option<Arc<HostState>>>,
    events: mpsc::Sender<Event>,
) {
    let _ = (managed, underlay, events);
    while wanted.changed().await.is_ok() {}
}
