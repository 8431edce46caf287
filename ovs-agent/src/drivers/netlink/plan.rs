//! From what the node's network stack holds and what it should hold to the changes between them. Pure; it must not know
//! how a change is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use compiler::host::{HostState, InterfaceAddress, Neighbour, Route};
use network::Mac;

/// What the network stack holds that may be ours: all devices; the global addresses and permanent neighbours of the
/// devices that are ours; the routes with our protocol number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every device by its name.
    pub devices: BTreeMap<String, Device>,
    /// Addresses.
    pub addresses: BTreeSet<InterfaceAddress>,
    /// Routes.
    pub routes: BTreeSet<Route>,
    /// Neighbours.
    pub neighbours: BTreeSet<Neighbour>,
}

/// A device as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Ethernet address, where it has one.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Set a device up, with this Ethernet address and MTU where they differ.
    SetLink {
        /// The device.
        device: String,
        /// Its new Ethernet address.
        mac: Option<Mac>,
        /// Its new MTU in bytes.
        mtu: Option<u32>,
    },
    /// Remove a route.
    RemoveRoute(Route),
    /// Remove a neighbour.
    RemoveNeighbour(Neighbour),
    /// Remove an address.
    RemoveAddress(InterfaceAddress),
    /// Add an address.
    AddAddress(InterfaceAddress),
    /// Add a neighbour, or give it another Ethernet address.
    SetNeighbour(Neighbour),
    /// Add a route where there is none of ours to the same destination.
    AddRoute(Route),
    /// Put a route in the place of ours to the same destination.
    ReplaceRoute(Route),
}

impl Change {
    /// Whether it can take other state with it: the kernel drops routes and neighbours of a device that gets another
    /// address or goes down. Such changes come first, then everything is observed again.
    pub(super) fn is_disturbing(&self) -> bool {
        matches!(
            self,
            Self::SetLink { .. } | Self::RemoveRoute(_) | Self::RemoveNeighbour(_) | Self::RemoveAddress(_)
        )
    }
}

/// The changes that lead from `observed` to `desired`, in the order in which the kernel takes them. What concerns a
/// device that does not exist is left out, see [`missing`].
pub fn plan(desired: &HostState, observed: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
    for link in &desired.links {
        let Some(device) = observed.devices.get(&link.device) else { continue };
        let mac = Some(link.mac).filter(|mac| device.mac != Some(*mac));
        let mtu = Some(link.mtu).filter(|mtu| device.mtu != *mtu);
        if mac.is_some() || mtu.is_some() || !device.up {
            changes.push(Change::SetLink { device: link.device.clone(), mac, mtu });
        }
    }
    let exists = |device: &str| observed.devices.contains_key(device);
    for route in observed.routes.difference(&desired.routes) {
        if !desired
            .routes
            .iter()
            .any(|wanted| wanted.destination == route.destination && exists(&wanted.device))
        {
            changes.push(Change::RemoveRoute(route.clone()));
        }
    }
    for neighbour in observed.neighbours.difference(&desired.neighbours) {
        let kept =
            |wanted: &&Neighbour| (&wanted.device, wanted.address) == (&neighbour.device, neighbour.address);
        if !desired.neighbours.iter().any(|wanted| kept(&wanted)) {
            changes.push(Change::RemoveNeighbour(neighbour.clone()));
        }
    }
    changes.extend(observed.addresses.difference(&desired.addresses).cloned().map(Change::RemoveAddress));
    let new = desired.addresses.difference(&observed.addresses).filter(|one| exists(&one.device));
    changes.extend(new.cloned().map(Change::AddAddress));
    let new = desired.neighbours.difference(&observed.neighbours).filter(|one| exists(&one.device));
    changes.extend(new.cloned().map(Change::SetNeighbour));
    for route in desired.routes.difference(&observed.routes).filter(|one| exists(&one.device)) {
        let ours = observed.routes.iter().any(|held| held.destination == route.destination);
        let route = route.clone();
        changes.push(if ours { Change::ReplaceRoute(route) } else { Change::AddRoute(route) });
    }
    changes
}

/// The devices that the desired state speaks of and that do not exist (yet).
pub fn missing(desired: &HostState, observed: &Observed) -> BTreeSet<String> {
    let named = desired
        .links
        .iter()
        .map(|link| &link.device)
        .chain(desired.addresses.iter().map(|address| &address.device))
        .chain(desired.routes.iter().map(|route| &route.device))
        .chain(desired.neighbours.iter().map(|neighbour| &neighbour.device));
    named.filter(|device| !observed.devices.contains_key(*device)).cloned().collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetLink { device, mac, mtu } => {
                write!(f, "set device {device} up")?;
                if let Some(mac) = mac {
                    write!(f, " address {mac}")?;
                }
                match mtu {
                    Some(mtu) => write!(f, " mtu {mtu}"),
                    None => Ok(()),
                }
            }
            Self::RemoveRoute(route) => write!(f, "remove the route to {}", text(route)),
            Self::AddRoute(route) => write!(f, "add the route to {}", text(route)),
            Self::ReplaceRoute(route) => write!(f, "change the route to {}", text(route)),
            Self::RemoveNeighbour(one) => {
                write!(f, "remove neighbour {} of device {}", one.address, one.device)
            }
            Self::SetNeighbour(one) => {
                write!(f, "set neighbour {} of device {} to {}", one.address, one.device, one.mac)
            }
            Self::RemoveAddress(one) => {
                write!(f, "remove {}/{} from device {}", one.address, one.length, one.device)
            }
            Self::AddAddress(one) => write!(f, "add {}/{} to device {}", one.address, one.length, one.device),
        }
    }
}

fn text(route: &Route) -> String {
    let part =
        |word: &str, value: Option<String>| value.map_or(String::new(), |value| format!(" {word} {value}"));
    format!(
        "{} dev {}{}{}{}",
        route.destination,
        route.device,
        part("via", route.via.map(|via| via.to_string())),
        part("src", route.source.map(|source| source.to_string())),
        part("mtu", route.mtu.map(|mtu| mtu.to_string())),
    )
}

#[cfg(test)]
mod tests {
    use compiler::host::Link;

    use super::*;

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    fn route(destination: &str, source: &str) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            device: "gw0".into(),
            via: Some("169.254.254.1".parse().unwrap()),
            source: Some(source.parse().unwrap()),
            mtu: None,
        }
    }

    fn desired() -> HostState {
        let mut state = HostState::default();
        state.links.insert(Link { device: "gw0".into(), mac: mac(1), mtu: 1400 });
        let address = |text: &str, length| InterfaceAddress {
            device: "gw0".into(),
            address: text.parse().unwrap(),
            length,
        };
        state.addresses.extend([address("10.244.1.1", 32), address("fd00::1", 128)]);
        state.routes.extend([route("10.244.1.0/24", "192.0.2.1"), route("10.244.2.0/24", "192.0.2.1")]);
        state.neighbours.insert(Neighbour {
            device: "gw0".into(),
            address: "169.254.254.1".parse().unwrap(),
            mac: mac(9),
        });
        state
    }

    fn held(state: &HostState) -> Observed {
        let device = Device { index: 7, mac: Some(mac(1)), mtu: 1400, up: true };
        Observed {
            devices: [("gw0".to_owned(), device)].into(),
            addresses: state.addresses.clone(),
            routes: state.routes.clone(),
            neighbours: state.neighbours.clone(),
        }
    }

    fn texts(changes: &[Change]) -> Vec<String> {
        changes.iter().map(Change::to_string).collect()
    }

    #[test]
    fn nothing_differs_nothing_changes() {
        assert_eq!(plan(&desired(), &held(&desired())), []);
        assert_eq!(plan(&HostState::default(), &Observed::default()), []);
    }

    #[test]
    fn everything_is_made_when_nothing_is_there_but_the_device() {
        let device = Device { index: 7, mac: Some(mac(2)), mtu: 1500, up: false };
        let observed = Observed { devices: [("gw0".to_owned(), device)].into(), ..Observed::default() };
        assert_eq!(
            texts(&plan(&desired(), &observed)),
            [
                "set device gw0 up address 02:00:00:00:00:01 mtu 1400",
                "add 10.244.1.1/32 to device gw0",
                "add fd00::1/128 to device gw0",
                "set neighbour 169.254.254.1 of device gw0 to 02:00:00:00:00:09",
                "add the route to 10.244.1.0/24 dev gw0 via 169.254.254.1 src 192.0.2.1",
                "add the route to 10.244.2.0/24 dev gw0 via 169.254.254.1 src 192.0.2.1",
            ]
        );
    }

    #[test]
    fn a_missing_device_is_named_and_waited_for() {
        assert_eq!(plan(&desired(), &Observed::default()), []);
        assert_eq!(missing(&desired(), &Observed::default()), ["gw0".to_owned()].into());
    }

    #[test]
    fn what_is_not_wanted_goes_and_what_differs_is_replaced() {
        let mut was = desired();
        was.routes = [route("10.244.1.0/24", "192.0.2.9"), route("10.244.7.0/24", "192.0.2.1")].into();
        was.addresses.insert(InterfaceAddress {
            device: "gw0".into(),
            address: "10.9.9.9".parse().unwrap(),
            length: 32,
        });
        was.neighbours.clear();
        for last in [1, 2] {
            let address = format!("169.254.254.{last}").parse().unwrap();
            was.neighbours.insert(Neighbour { device: "gw0".into(), address, mac: mac(8) });
        }
        assert_eq!(
            texts(&plan(&desired(), &held(&was))),
            [
                "remove the route to 10.244.7.0/24 dev gw0 via 169.254.254.1 src 192.0.2.1",
                "remove neighbour 169.254.254.2 of device gw0",
                "remove 10.9.9.9/32 from device gw0",
                "set neighbour 169.254.254.1 of device gw0 to 02:00:00:00:00:09",
                "change the route to 10.244.1.0/24 dev gw0 via 169.254.254.1 src 192.0.2.1",
                "add the route to 10.244.2.0/24 dev gw0 via 169.254.254.1 src 192.0.2.1",
            ]
        );
    }
}
