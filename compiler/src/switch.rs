//! What OVSDB must hold: the integration bridge and its ports, by their column names. Plain data; the agent's OVSDB
//! driver makes it so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The integration bridge with its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchRows {
    /// The bridge.
    pub bridge: BridgeRow,
    /// Its ports by name, one interface each. Ports of the bridge that are not listed and carry our mark
    /// (`external_ids:ferrule-role`) are to be removed.
    pub ports: BTreeMap<String, PortRow>,
}

/// Columns of a `Bridge` row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRow {
    /// `name`.
    pub name: String,
    /// `datapath_type`: `system` or `netdev`.
    pub datapath_type: String,
    /// `fail_mode`: always `secure`; without it a restarted switch forwards everything.
    pub fail_mode: String,
    /// `protocols`.
    pub protocols: Vec<String>,
    /// Keys of `other_config` that must have these values.
    pub other_config: BTreeMap<String, String>,
    /// Keys of `external_ids` that must have these values.
    pub external_ids: BTreeMap<String, String>,
}

/// Columns of an `Interface` row and its `Port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRow {
    /// `type`: empty for a system device, `internal`, `geneve`.
    pub interface_type: String,
    /// `options`.
    pub options: BTreeMap<String, String>,
    /// `mac`, where Open vSwitch makes the device.
    pub mac: Option<String>,
    /// `mtu_request` in bytes, where Open vSwitch makes the device.
    pub mtu_request: Option<i64>,
    /// `external_ids` of the interface.
    pub external_ids: BTreeMap<String, String>,
}

/// The key in `external_ids` that marks a port as ours; its value is the role.
pub const ROLE_KEY: &str = "ferrule-role";
