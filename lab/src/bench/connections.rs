//! New TCP connections: how many there are in a second, and what each costs the switch in upcalls and megaflows. From pod to
//! pod, over a Service, and over a bridge with a single NORMAL flow.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::throughput::{Normal, mtu};
use crate::error::{Context, Error, Result};
use crate::lab::Lab;
use crate::layout::NodeIndex;

/// Connections of each kind. With those of three kinds the ports of a client suffice.
pub const COUNT: usize = 2_000;

/// Clients that connect at the same time, each one connection after the other.
const CLIENTS: usize = 8;

/// One that takes longer is none.
const LIMIT: Duration = Duration::from_secs(3);

/// What [`COUNT`] connections came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connections {
    /// Connections in a second.
    pub rate: f64,
    /// Packets per connection that no megaflow matched.
    pub upcalls: f64,
    /// Megaflows that there were afterwards, per connection.
    pub megaflows: f64,
    /// Packets that were lost because there were too many upcalls.
    pub lost: u64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionRates {
    /// Between two pods of one node.
    pub pods: Connections,
    /// Between the same two, over a Service.
    pub service: Connections,
    /// Between two ports of a bridge with one NORMAL flow.
    pub normal: Connections,
}

impl Lab {
    /// Connections between two pods of one node that may talk, and over the reference.
    pub fn connection_rates(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<ConnectionRates> {
        let (from, to, node) = self.talkers()?;
        let pods = self.count(node, || from.run(|| connect(to))?)?;
        progress(1, 3);
        let over = self.over_a_service(to)?;
        let service = self.count(node, || from.run(|| connect(over))?);
        self.without_service()?;
        progress(2, 3);
        let reference = Normal::new(self, node, mtu(&from)?)?;
        let normal = self.count(node, || reference.accepting(connect))?;
        progress(3, 3);
        Ok(ConnectionRates { pods, service: service?, normal })
    }

    /// What connections cost the switch of a node. It forgets its megaflows before.
    fn count(&self, node: NodeIndex, connect: impl FnOnce() -> Result<()>) -> Result<Connections> {
        self.interrupt.check()?;
        self.ovs(node, "ovs-appctl", ["revalidator/purge"])?;
        let before = self.datapath(node)?;
        let began = Instant::now();
        connect()?;
        let elapsed = began.elapsed();
        let after = self.datapath(node)?;
        let each = |count: u64| count as f64 / COUNT as f64;
        Ok(Connections {
            rate: COUNT as f64 / elapsed.as_secs_f64(),
            upcalls: each(after.missed.saturating_sub(before.missed)),
            megaflows: each(after.flows),
            lost: after.lost.saturating_sub(before.lost),
        })
    }

    fn datapath(&self, node: NodeIndex) -> Result<Datapath> {
        let shown = self.ovs(node, "ovs-appctl", ["dpctl/show"])?;
        Datapath::of(&shown).ok_or_else(|| Error::NotReady {
            what: "the counters of the datapath".to_owned(),
            seconds: 0,
            detail: format!("; ovs-appctl dpctl/show says {shown}"),
        })
    }
}

/// What a datapath counts (ovs-dpctl(8), `show`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Datapath {
    missed: u64,
    lost: u64,
    flows: u64,
}

impl Datapath {
    fn of(shown: &str) -> Option<Self> {
        let number = |key: &str| -> Option<u64> {
            let (_, rest) = shown.split_once(key)?;
            rest.split_whitespace().next()?.parse().ok()
        };
        Some(Self { missed: number(" missed:")?, lost: number(" lost:")?, flows: number(" flows:")? })
    }
}

/// Makes [`COUNT`] connections from where it is called, and closes them.
fn connect(to: SocketAddr) -> Result<()> {
    std::thread::scope(|scope| {
        let client = || -> std::io::Result<()> {
            (0..COUNT / CLIENTS).try_for_each(|_| TcpStream::connect_timeout(&to, LIMIT).map(drop))
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| {
            let made = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            made.context(|| format!("connect to {to}"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_a_datapath_are_read() {
        let shown = "netdev@ovs-netdev:\n  lookups: hit:91 missed:12 lost:3\n  flows: 7\n  port 0: ovs-netdev (tap)\n";
        assert_eq!(Datapath::of(shown), Some(Datapath { missed: 12, lost: 3, flows: 7 }));
        assert_eq!(Datapath::of("ovs-appctl: no such datapath"), None);
    }
}
