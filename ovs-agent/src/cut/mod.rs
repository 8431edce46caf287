//! Cutting connections that a later policy denies: who may lose one ([`threat`]), when the switch is to be asked
//! ([`schedule`]), and how ([`question`]). Pure; the driver that lists and asks is `drivers::cutter`.

pub mod connection;
pub mod question;
pub mod schedule;
pub mod stale;
pub mod threat;

use network::NodeView;

pub use connection::Connection;
pub use question::Senders;
pub use schedule::Cuts;
pub use threat::Threat;

/// What the driver has to do: list the connections, and ask the switch about those that are threatened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose connections.
    pub threat: Threat,
    /// Where their packets come from.
    pub senders: Senders,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Connections in the zone.
    pub listed: u64,
    /// Those that were asked about.
    pub asked: u64,
}

impl Senders {
    /// The other nodes of a view, as the pipeline's arrival tables know them.
    pub fn others(view: &NodeView, own: &network::NodeName) -> Vec<(network::Cidr, std::net::IpAddr)> {
        let others = view.nodes.values().filter(|node| node.name != *own);
        let ranges = |node: &network::Node| -> Vec<_> {
            let Some(outer) = node.tunnel_address() else { return Vec::new() };
            let hosts = node.addresses.iter().map(|address| network::Cidr::host(*address));
            node.pod_cidrs.iter().copied().chain(hosts).map(|range| (range, outer)).collect()
        };
        others.flat_map(ranges).collect()
    }
}
