//! Newtypes for the numbers of OpenFlow: ports, tables, groups, cookies. They know their reserved values and nothing else.

use std::fmt;
use std::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $repr);

        impl From<$repr> for $name {
            fn from(raw: $repr) -> $name {
                $name(raw)
            }
        }
    };
}

number! {
    /// Transaction id: pairs a reply or an error with its request (OpenFlow 1.3.5 §7.1).
    Xid(u32)
}
number! {
    /// Flow table (OpenFlow 1.3.5 §7.3.1).
    TableId(u8)
}
number! {
    /// Port number, 32 bits (OpenFlow 1.3.5 §7.2.1).
    PortNo(u32)
}
number! {
    /// Group (OpenFlow 1.3.5 §7.3.4.2).
    GroupId(u32)
}
number! {
    /// Meter (OpenFlow 1.3.5 §7.3.4.3).
    MeterId(u32)
}
number! {
    /// Queue of a port (OpenFlow 1.3.5 §7.2.2).
    QueueId(u32)
}
number! {
    /// Opaque mark that a controller gives a flow (OpenFlow 1.3.5 §7.3.4.1).
    Cookie(u64)
}
number! {
    /// A packet that the switch keeps; [`BufferId::NONE`] when it keeps none (OpenFlow 1.3.5 §7.4.1).
    BufferId(u32)
}
number! {
    /// Bundle (ONF extension 230; Open vSwitch speaks it under 1.3).
    BundleId(u32)
}

impl TableId {
    /// `OFPTT_ALL`: every table, in deletions and statistics.
    pub const ALL: TableId = TableId(0xff);
    /// `OFPTT_MAX`: the last table that a flow may stand in; Open vSwitch keeps 254 for itself.
    pub const MAX: TableId = TableId(0xfe);
}

impl PortNo {
    /// `OFPP_MAX`: ordinary ports stay below or at it.
    pub const MAX: PortNo = PortNo(0xffffff00);
    /// `OFPP_UNSET` (OpenFlow 1.5): the action set's output is not decided.
    pub const UNSET: PortNo = PortNo(0xfffffff7);
    /// `OFPP_IN_PORT`: back where the packet came from.
    pub const IN_PORT: PortNo = PortNo(0xfffffff8);
    /// `OFPP_TABLE`: a packet-out goes through the tables.
    pub const TABLE: PortNo = PortNo(0xfffffff9);
    /// `OFPP_NORMAL`: the switch's own learning.
    pub const NORMAL: PortNo = PortNo(0xfffffffa);
    /// `OFPP_FLOOD`.
    pub const FLOOD: PortNo = PortNo(0xfffffffb);
    /// `OFPP_ALL`: every port but the packet's own.
    pub const ALL: PortNo = PortNo(0xfffffffc);
    /// `OFPP_CONTROLLER`.
    pub const CONTROLLER: PortNo = PortNo(0xfffffffd);
    /// `OFPP_LOCAL`: the bridge's internal port.
    pub const LOCAL: PortNo = PortNo(0xfffffffe);
    /// `OFPP_ANY`: no restriction, or no port.
    pub const ANY: PortNo = PortNo(0xffffffff);

    const NAMES: &[(PortNo, &str)] = &[
        (PortNo::IN_PORT, "IN_PORT"),
        (PortNo::TABLE, "TABLE"),
        (PortNo::NORMAL, "NORMAL"),
        (PortNo::FLOOD, "FLOOD"),
        (PortNo::ALL, "ALL"),
        (PortNo::CONTROLLER, "CONTROLLER"),
        (PortNo::LOCAL, "LOCAL"),
        (PortNo::ANY, "ANY"),
        (PortNo::UNSET, "UNSET"),
    ];

    /// The name of a reserved port.
    pub fn reserved_name(self) -> Option<&'static str> {
        PortNo::NAMES.iter().find(|(port, _)| *port == self).map(|(_, name)| *name)
    }

    /// The reserved port of that name, whatever its case; `NONE` is `ANY`.
    pub fn by_name(name: &str) -> Option<PortNo> {
        if name.eq_ignore_ascii_case("NONE") {
            return Some(PortNo::ANY);
        }
        PortNo::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(port, _)| *port)
    }

    /// From the 16-bit numbers of OpenFlow 1.0, which Nicira's actions still use: 0xff00 and up are reserved.
    pub fn from_16(port: u16) -> PortNo {
        if port >= 0xff00 { PortNo(0xffff0000 | u32::from(port)) } else { PortNo(u32::from(port)) }
    }

    /// Into the 16-bit numbers of OpenFlow 1.0; `None` when it does not fit.
    pub fn to_16(self) -> Option<u16> {
        match self.0 {
            low @ 0..=0xfeff => Some(low as u16),
            high @ 0xffffff00.. => Some(high as u16),
            _ => None,
        }
    }
}

impl fmt::Display for PortNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reserved_name() {
            Some(name) => f.write_str(name),
            // Open vSwitch prints the 16-bit number of what is reserved and has no name.
            None if self.0 >= PortNo::MAX.0 => write!(f, "{}", self.0 & 0xffff),
            None => write!(f, "{}", self.0),
        }
    }
}

impl GroupId {
    /// `OFPG_MAX`: the last ordinary group.
    pub const MAX: GroupId = GroupId(0xffffff00);
    /// `OFPG_ALL`: every group, in deletions.
    pub const ALL: GroupId = GroupId(0xfffffffc);
    /// `OFPG_ANY`: no restriction.
    pub const ANY: GroupId = GroupId(0xffffffff);
}

impl MeterId {
    /// `OFPM_SLOWPATH`.
    pub const SLOWPATH: MeterId = MeterId(0xfffffffd);
    /// `OFPM_CONTROLLER`.
    pub const CONTROLLER: MeterId = MeterId(0xfffffffe);
    /// `OFPM_ALL`: every meter, in deletions and statistics.
    pub const ALL: MeterId = MeterId(0xffffffff);
}

impl QueueId {
    /// `OFPQ_ALL`.
    pub const ALL: QueueId = QueueId(0xffffffff);
}

impl BufferId {
    /// `OFP_NO_BUFFER`.
    pub const NONE: BufferId = BufferId(0xffffffff);
}

macro_rules! plain_display {
    ($($name:ident $format:literal),*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    )* };
}

plain_display!(Xid "{:#x}", TableId "{}", GroupId "{}", MeterId "{}", QueueId "{}", Cookie "{:#x}", BufferId "{:#x}", BundleId "{:#x}");

/// An Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// From the low 48 bits.
    pub fn from_u64(bits: u64) -> MacAddr {
        let b = bits.to_be_bytes();
        MacAddr([b[2], b[3], b[4], b[5], b[6], b[7]])
    }

    /// As a number of 48 bits.
    pub fn to_u64(self) -> u64 {
        self.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not six colon-separated bytes in hex.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an Ethernet address; write six bytes in hex, like 0a:00:00:00:00:01")]
pub struct MacAddrError(pub String);

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<MacAddr, MacAddrError> {
        let bad = || MacAddrError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            if part.is_empty() || part.len() > 2 || part.starts_with('+') {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(MacAddr(bytes))
    }
}
