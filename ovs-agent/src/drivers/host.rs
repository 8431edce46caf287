//! The node's own network stack: keeps links, addresses, routes, neighbours, kernel settings and the nftables table as they
//! should be, whoever changes them. It must not know what they are for.
//!
//! The gateway's device belongs to Open vSwitch: on the userspace datapath it goes with ovs-vswitchd, and everything on it;
//! the kernel tells when it is back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::insight::Difference;
use compiler::host::HostState;
use ovsdb::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::netlink::{Netlink, NetlinkError};
use super::nftables::Nftables;
use super::sysctl::Sysctls;
use crate::drift::Drift;
use crate::event::Event;

/// Which device bounds the tunnels' MTU.
#[derive(Clone, Debug)]
pub struct Underlay {
    /// By name.
    pub device: Option<String>,
    /// Or by an address on it.
    pub addresses: Vec<IpAddr>,
}

/// How often is looked without an occasion: nftables and sysctls do not tell of changes.
const INTERVAL: Duration = Duration::from_secs(30);
/// Changes come in bursts.
const BURST: Duration = Duration::from_millis(10);

type Wanted = watch::Receiver<Option<Arc<HostState>>>;

/// Runs until the owner is gone. Unless `managed`, it only reports the underlay.
pub async fn run(
    managed: bool,
    underlay: Underlay,
    nftables: Nftables,
    mut wanted: Wanted,
    events: mpsc::Sender<Event>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let mut told = None;
    loop {
        let error = match Netlink::open() {
            Ok(netlink) => {
                let mut host = Host::new(managed, &underlay, (netlink, nftables.clone()), &events);
                match host.keep(&mut wanted).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        if told.as_ref() != Some(&error) {
            told = Some(error.clone());
            if events.send(Event::Host(None, Err(error))).await.is_err() {
                return;
            }
        }
        sleep(backoff.failed()).await;
    }
}

/// What is looked at in one round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// What the kernel tells changes of.
    Links,
    /// Everything.
    Whole,
}

/// Of which target what became.
type Told = (Option<Arc<HostState>>, Result<(), String>);

struct Host<'a> {
    managed: bool,
    underlay: &'a Underlay,
    netlink: Netlink,
    nftables: Nftables,
    sysctls: Sysctls,
    events: &'a mpsc::Sender<Event>,
    /// What was told last.
    told: Option<Told>,
    mtu: Option<u32>,
    /// What was all there: what of its filters and settings differs later is somebody else's doing. (Devices come and go with
    /// ovs-vswitchd, and their routes and settings with them.)
    held: Option<Arc<HostState>>,
}

impl<'a> Host<'a> {
    fn new(
        managed: bool,
        underlay: &'a Underlay,
        (netlink, nftables): (Netlink, Nftables),
        events: &'a mpsc::Sender<Event>,
    ) -> Self {
        let sysctls = Sysctls::default();
        Self { managed, underlay, netlink, nftables, sysctls, events, told: None, mtu: None, held: None }
    }

    /// Ends well when the owner is gone.
    async fn keep(&mut self, wanted: &mut Wanted) -> Result<(), NetlinkError> {
        let mut changes = self.netlink.changes();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));
        let mut scope = Scope::Whole;
        let mut next_whole = Instant::now() + INTERVAL;
        loop {
            changes.mark_unchanged();
            // Whatever woke us, a new target is realized whole: taking it marks it as seen, and nobody would tell of it again.
            let (target, fresh) = {
                let seen = wanted.borrow_and_update();
                (seen.clone(), seen.has_changed())
            };
            if fresh {
                scope = Scope::Whole;
                // Each is answered, also one that was there before the one of before.
                self.told = None;
            }
            self.report_underlay(target.as_deref()).await?;
            let mut retry = None;
            let mut next_scope = Scope::Links;
            match target {
                Some(target) if self.managed => {
                    let outcome = self.realize(&target, scope).await?;
                    match &outcome {
                        Ok(()) => {
                            backoff.succeeded();
                            self.held = Some(Arc::clone(&target));
                        }
                        Err(_) => {
                            // Until all of it has succeeded once, nobody knows which part is well.
                            next_scope = Scope::Whole;
                            retry = Some(Instant::now() + backoff.failed());
                        }
                    }
                    self.report(Some(target), outcome).await;
                }
                unmanaged if !self.managed => self.report(unmanaged, Ok(())).await,
                _ => {}
            }
            scope = next_scope;
            let retried = retry.unwrap_or(next_whole);
            tokio::select! {
                changed = wanted.changed() => match changed {
                    // The top of the loop takes it.
                    Ok(()) => wanted.mark_changed(),
                    Err(_) => return Ok(()),
                },
                _ = changes.changed() => sleep(BURST).await,
                () = sleep_until(retried.min(next_whole)) => {
                    scope = Scope::Whole;
                    next_whole = Instant::now() + INTERVAL;
                }
            }
        }
    }

    /// Filters first, so that no address is ever without them.
    async fn realize(&self, target: &HostState, scope: Scope) -> Result<Result<(), String>, NetlinkError> {
        let mut failed = Vec::new();
        let held = self.held.as_deref() == Some(target);
        let mut drifts = Vec::new();
        if scope == Scope::Whole {
            if held && let Ok(meddled) = self.nftables.differences(&target.nftables).await {
                drifts.extend(meddled.into_iter().map(|one| {
                    Drift::other("host", one.difference, format!("nftables {}", one.object), &one.what)
                }));
            }
            match self.nftables.realize(&target.nftables).await {
                Ok(true) => tracing::info!("nftables: the table was written"),
                Ok(false) => {}
                Err(error) => failed.push(error.to_string()),
            }
        }
        let report = self.netlink.realize(target).await?;
        for change in &report.applied {
            tracing::info!(?change, "host");
        }
        failed.extend(report.failed.iter().map(ToString::to_string));
        let (written, refused) = self.sysctls.realize(&target.sysctls);
        for name in &written {
            tracing::info!(name, "sysctl");
            let of_device = target.links.iter().any(|link| name.split('/').any(|part| part == link.device));
            if held && !of_device {
                let object = format!("sysctl {name}");
                drifts.push(Drift::other("host", Difference::Changed, object, "a setting of the kernel"));
            }
        }
        if !drifts.is_empty() {
            // An owner that is gone is seen by the next wait.
            let _ = self.events.send(Event::Drifted(drifts)).await;
        }
        failed.extend(refused.iter().map(ToString::to_string));
        Ok(if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) })
    }

    async fn report(&mut self, target: Option<Arc<HostState>>, outcome: Result<(), String>) {
        let told = (target, outcome);
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told.clone());
            // An owner that is gone is seen by the next wait.
            let _ = self.events.send(Event::Host(told.0, told.1)).await;
        }
    }

    async fn report_underlay(&mut self, target: Option<&HostState>) -> Result<(), NetlinkError> {
        let found = match &self.underlay.device {
            Some(name) => self.netlink.observe(&Default::default()).await?.devices.remove(name),
            None => {
                let addresses = underlay_addresses(&self.underlay.addresses, target);
                self.netlink.device_with(&addresses).await?.map(|(_, device)| device)
            }
        };
        let mtu = found.map(|device| device.mtu);
        if mtu.is_some() && mtu != self.mtu {
            self.mtu = mtu;
            tracing::info!(mtu, "the underlay's MTU");
            let _ = self.events.send(Event::UnderlayMtu(mtu.unwrap_or_default())).await;
        }
        Ok(())
    }
}

/// The node's own addresses, as the command line says them and as routes leave with them; the controller may know them
/// better. Never those of our own devices: a gateway that set the measure for its own MTU would shrink without end.
fn underlay_addresses(described: &[IpAddr], target: Option<&HostState>) -> Vec<IpAddr> {
    let sources = target.into_iter().flat_map(|target| &target.routes).filter_map(|route| route.source);
    let ours = |address: &IpAddr| {
        target.is_some_and(|target| target.addresses.iter().any(|held| held.address == *address))
    };
    described.iter().copied().chain(sources).filter(|address| !ours(address)).collect()
}

#[cfg(test)]
mod tests {
    use compiler::host::{InterfaceAddress, Route};

    use super::*;

    #[test]
    fn the_gateway_is_never_the_underlay() {
        let [node, gateway] = ["192.168.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut target = HostState::default();
        target.addresses.insert(InterfaceAddress { device: "gw".into(), address: gateway, length: 128 });
        for source in [node, gateway] {
            let destination = network::Cidr::host(source);
            let route =
                Route { destination, device: "gw".into(), via: None, source: Some(source), mtu: None };
            target.routes.insert(route);
        }
        assert_eq!(underlay_addresses(&[], Some(&target)), [node]);
        assert_eq!(underlay_addresses(&[gateway], Some(&target)), [node]);
        assert_eq!(underlay_addresses(&[gateway], None), [gateway]);
    }
}
