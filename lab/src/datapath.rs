//! Which datapath the switches of a lab forward with, and what of the lab follows from that. Touches nothing but the list of
//! the kernel's modules.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::{switch, underlay};

/// `Bridge.datapath_type` of br-int (ovs-vswitchd.conf.db(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// Userspace: works on every kernel.
    #[default]
    Netdev,
    /// The kernel's, by its module openvswitch; one for every node, since each has a network namespace.
    System,
}

/// The kernel's module, as long as it is there.
const MODULE: &str = "/sys/module/openvswitch";

impl Datapath {
    /// Fails with what to do when the kernel does not have it.
    pub fn check(self) -> Result<()> {
        if self == Self::System && !Path::new(MODULE).exists() {
            return Err(Error::MissingModule { module: "openvswitch" });
        }
        Ok(())
    }

    /// The device with a node's address: on the userspace datapath tunnels find their way only through a bridge of the switch.
    pub fn underlay_device(self) -> &'static str {
        match self {
            Self::Netdev => switch::BRIDGE,
            Self::System => underlay::UPLINK,
        }
    }
}

impl FromStr for Datapath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "netdev" => Ok(Self::Netdev),
            "system" => Ok(Self::System),
            _ => Err(Error::BadOption(format!(
                "`{text}` is not a datapath: use netdev (userspace) or system (the kernel's)"
            ))),
        }
    }
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Netdev => "netdev",
            Self::System => "system",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datapaths_read_back_and_others_are_refused() {
        for datapath in [Datapath::Netdev, Datapath::System] {
            assert_eq!(datapath.to_string().parse::<Datapath>().unwrap(), datapath);
        }
        let error = "kernel".parse::<Datapath>().unwrap_err().to_string();
        assert!(error.contains("netdev (userspace)"), "{error}");
    }
}
