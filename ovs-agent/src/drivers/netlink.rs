//! The node's links, addresses, routes and neighbours, by rtnetlink: observe, plan, apply. It speaks to the namespace in
//! which it was opened, and must not know why the state should be so.
//!
//! Ours are the devices of `HostState::links` with all their global addresses and permanent neighbours, and the routes
//! that carry our protocol number; nothing else is ever changed or removed.

mod message;
mod plan;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use compiler::host::{HostState, InterfaceAddress, Neighbour};
use futures::StreamExt;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use plan::{Change, Device, Observed, missing, plan};

/// A connection to the kernel's rtnetlink.
#[derive(Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    tasks: [AbortHandle; 3],
    changes: watch::Receiver<u64>,
}

/// What the kernel is to tell of: devices, addresses, routes. Neighbours come and go by themselves all the time.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// What [`Netlink::realize`] did.
#[derive(Debug, Default)]
pub struct Report {
    /// Changes that were made.
    pub applied: Vec<Change>,
    /// What could not be done; the rest was.
    pub failed: Vec<NetlinkError>,
}

/// Why the network stack could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No connection to the kernel.
    #[error("cannot open rtnetlink: {0}; ferrule-agent needs CAP_NET_ADMIN")]
    Open(io::Error),
    /// A list could not be read.
    #[error("cannot read the node's {what}: {error}")]
    Read {
        /// What was to be listed.
        what: &'static str,
        /// What the kernel or the connection said.
        error: io::Error,
    },
    /// The kernel refused a change.
    #[error("cannot {change}: {error}{}", cure(change, error))]
    Change {
        /// The change.
        change: Box<Change>,
        /// What the kernel said.
        error: io::Error,
    },
    /// A device is not there; what concerns it waits.
    #[error(
        "device {0} does not exist: Open vSwitch makes it when its port is in the bridge; see whether ovs-vswitchd runs"
    )]
    NoDevice(String),
}

fn cure(change: &Change, error: &io::Error) -> &'static str {
    match (change, error.raw_os_error()) {
        (_, Some(nix::libc::EPERM)) => "; ferrule-agent needs CAP_NET_ADMIN",
        (Change::AddRoute(_), Some(nix::libc::EEXIST)) => {
            "; a route of somebody else leads there: remove it, or give the cluster other pod ranges"
        }
        (Change::AddRoute(_) | Change::ReplaceRoute(_), Some(nix::libc::EINVAL)) => {
            "; its source has to be an address of this node"
        }
        _ => "",
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Netlink {
    /// Opens it in the namespace of the calling thread; needs a running tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        // A socket of its own: when it overflows, no answer to a request may be lost with what it was told.
        let (listener, _, mut told) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(NetlinkError::Open)?;
        let (sender, changes) = watch::channel(0);
        let count = async move {
            while told.next().await.is_some() {
                sender.send_modify(|count| *count = u64::wrapping_add(*count, 1));
            }
        };
        let tasks = [
            tokio::spawn(connection).abort_handle(),
            tokio::spawn(listener).abort_handle(),
            tokio::spawn(count).abort_handle(),
        ];
        Ok(Self { handle, tasks, changes })
    }

    /// Changes whenever the kernel tells of a change, whoever made it: time to look again. What was told is not kept,
    /// since only what is counts. It ends when the kernel had more to tell than fits its buffer: look now and then anyway.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// The first device that holds one of these addresses.
    pub async fn device_with(&self, addresses: &[IpAddr]) -> Result<Option<(String, Device)>, NetlinkError> {
        let devices = self.observe(&BTreeSet::new()).await?.devices;
        for answer in
            self.list("addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default())).await?
        {
            if let RouteNetlinkMessage::NewAddress(one) = answer
                && let Some((index, address, _)) = message::read_address(&one)
                && addresses.contains(&address)
            {
                return Ok(devices.into_iter().find(|(_, device)| device.index == index));
            }
        }
        Ok(None)
    }

    /// What there is on `devices`, and every route of ours.
    pub async fn observe(&self, devices: &BTreeSet<String>) -> Result<Observed, NetlinkError> {
        let mut observed = Observed::default();
        for answer in self.list("devices", RouteNetlinkMessage::GetLink(LinkMessage::default())).await? {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                observed.devices.extend(message::read_link(&link));
            }
        }
        let all = &observed.devices;
        let name = |index| all.iter().find(|(_, device)| device.index == index).map(|(name, _)| name.clone());
        let ours = |index| name(index).filter(|name| devices.contains(name));
        for answer in
            self.list("addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default())).await?
        {
            if let RouteNetlinkMessage::NewAddress(one) = answer
                && let Some((index, address, length)) = message::read_address(&one)
                && let Some(device) = ours(index)
            {
                observed.addresses.insert(InterfaceAddress { device, address, length });
            }
        }
        let asked = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        for answer in self.list("neighbours", asked).await? {
            if let RouteNetlinkMessage::NewNeighbour(one) = answer
                && let Some((index, address, mac)) = message::read_neighbour(&one)
                && let Some(device) = ours(index)
            {
                observed.neighbours.insert(Neighbour { device, address, mac });
            }
        }
        for answer in self.list("routes", RouteNetlinkMessage::GetRoute(RouteMessage::default())).await? {
            if let RouteNetlinkMessage::NewRoute(one) = answer {
                observed.routes.extend(message::read_route(&one, name));
            }
        }
        Ok(observed)
    }

    /// What is to be changed for links, addresses, routes and neighbours to be as desired; nothing is.
    pub async fn difference(&self, desired: &HostState) -> Result<Vec<Change>, NetlinkError> {
        let devices: BTreeSet<_> = desired.links.iter().map(|link| link.device.clone()).collect();
        let observed = self.observe(&devices).await?;
        match missing(desired, &observed).into_iter().next() {
            Some(device) => Err(NetlinkError::NoDevice(device)),
            None => Ok(plan(desired, &observed)),
        }
    }

    /// Makes links, addresses, routes and neighbours as desired. One refusal does not keep the rest from being done. Fails
    /// only when the state cannot be read.
    pub async fn realize(&self, desired: &HostState) -> Result<Report, NetlinkError> {
        let devices: BTreeSet<_> = desired.links.iter().map(|link| link.device.clone()).collect();
        let mut report = Report::default();
        let mut observed = self.observe(&devices).await?;
        let disturbing: Vec<_> = plan(desired, &observed).into_iter().filter(Change::is_disturbing).collect();
        if !disturbing.is_empty() {
            self.apply(disturbing, &observed, &mut report).await;
            observed = self.observe(&devices).await?;
        }
        // What was refused once is not tried twice.
        let rest = plan(desired, &observed).into_iter().filter(|change| !change.is_disturbing()).collect();
        self.apply(rest, &observed, &mut report).await;
        report.failed.extend(missing(desired, &observed).into_iter().map(NetlinkError::NoDevice));
        Ok(report)
    }

    async fn apply(&self, changes: Vec<Change>, observed: &Observed, report: &mut Report) {
        for change in changes {
            let Some(device) = observed.devices.get(message::device_name(&change)) else { continue };
            let (message, flags) = message::change(&change, device.index);
            match self.exchange(message, NLM_F_ACK | flags).await {
                Ok(_) => report.applied.push(change),
                // It went by itself meanwhile, with its device or its address.
                Err(error) if is_gone(&change, &error) => {}
                Err(error) => report.failed.push(NetlinkError::Change { change: Box::new(change), error }),
            }
        }
    }

    async fn list(
        &self,
        what: &'static str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(message, NLM_F_DUMP).await.map_err(|error| NetlinkError::Read { what, error })
    }

    async fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        // A handle is a sender; requests of several tasks do not mix.
        let mut answers = self
            .handle
            .clone()
            .request(request)
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error.to_string()))?;
        let mut all = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => all.push(inner),
                _ => {}
            }
        }
        Ok(all)
    }
}

fn is_gone(change: &Change, error: &io::Error) -> bool {
    let removes =
        matches!(change, Change::RemoveRoute(_) | Change::RemoveNeighbour(_) | Change::RemoveAddress(_));
    let gone = matches!(
        error.raw_os_error(),
        Some(nix::libc::ENOENT | nix::libc::ESRCH | nix::libc::EADDRNOTAVAIL | nix::libc::ENODEV)
    );
    removes && gone
}
