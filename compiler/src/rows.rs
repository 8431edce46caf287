//! From the node's view and ports to the rows of OVSDB.

use std::collections::BTreeMap;

use crate::input::{LocalPort, NodeConfig};
use crate::pipeline::Context;
use crate::switch::{BridgeRow, PortRow, ROLE_KEY, SwitchRows};

/// Keys in `external_ids` that tell an operator whose a port is.
pub const POD_KEY: &str = "ferrule-pod";
/// The pod's UID.
pub const POD_UID_KEY: &str = "ferrule-pod-uid";

pub(crate) fn build(context: &Context<'_>, mtu: u32) -> SwitchRows {
    let NodeConfig { bridge, gateway, tunnel, datapath, node, .. } = context.config;
    let mut ports = BTreeMap::new();
    let role = |role: &str| BTreeMap::from([(ROLE_KEY.to_owned(), role.to_owned())]);
    ports.insert(
        gateway.clone(),
        PortRow {
            interface_type: "internal".into(),
            mac: Some(context.gateway_mac().to_string()),
            mtu_request: Some(i64::from(mtu)),
            external_ids: role("gateway"),
            ..PortRow::default()
        },
    );
    let options = [("remote_ip", "flow"), ("key", "flow")];
    ports.insert(
        tunnel.clone(),
        PortRow {
            interface_type: "geneve".into(),
            options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            external_ids: role("tunnel"),
            ..PortRow::default()
        },
    );
    for port in context.ports {
        ports.insert(port.interface.clone(), pod_port(port, role("pod")));
    }
    SwitchRows {
        bridge: BridgeRow {
            name: bridge.clone(),
            datapath_type: datapath.as_str().into(),
            fail_mode: "secure".into(),
            protocols: ["OpenFlow10", "OpenFlow13", "OpenFlow15"].map(str::to_owned).into(),
            other_config: BTreeMap::from([("disable-in-band".to_owned(), "true".to_owned())]),
            external_ids: BTreeMap::from([("ferrule-node".to_owned(), node.to_string())]),
        },
        ports,
    }
}

fn pod_port(port: &LocalPort, mut external_ids: BTreeMap<String, String>) -> PortRow {
    if let Some((key, uid)) = &port.pod {
        external_ids.insert(POD_KEY.into(), key.to_string());
        external_ids.insert(POD_UID_KEY.into(), uid.clone());
    }
    PortRow { external_ids, ..PortRow::default() }
}
