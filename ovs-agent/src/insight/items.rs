//! Switches, ports and tunnels as people see them. Pure: from a picture of the node and the switch's flows.

use std::collections::BTreeMap;

use api::insight::{PortItem, PortRole, SwitchItem, TunnelItem};
use compiler::{Owner, Table};
use network::{Mac, Node};
use openflow::FlowStats;

use crate::attachment::Attachment;
use crate::node::Snapshot;

pub(super) fn switch(node: &Snapshot) -> SwitchItem {
    let database = node.database.clone().unwrap_or_default();
    SwitchItem {
        node: node.config.node.clone(),
        bridge: node.config.bridge.clone(),
        datapath_type: database.datapath_type,
        fail_mode: database.fail_mode,
        ovs_version: node.switch_version.clone(),
        ports: database.ports.len(),
        flows: node.flows,
        flow_mods_sent: node.flow_mods_sent,
        in_sync: node.in_sync && database.realized,
        pod_mtu: Some(node.pod_mtu),
    }
}

pub(super) fn ports(node: &Snapshot) -> Vec<PortItem> {
    let database = node.database.clone().unwrap_or_default();
    let status = |interface: &str| database.ports.get(interface).cloned().unwrap_or_default();
    let infrastructure = |interface: &str, role| {
        let status = status(interface);
        PortItem {
            node: node.config.node.clone(),
            interface: interface.to_owned(),
            ofport: status.ofport,
            role,
            pod: None,
            mac: None,
            addresses: Vec::new(),
            error: status.error,
        }
    };
    let mut gateway = infrastructure(&node.config.gateway, PortRole::Gateway);
    gateway.addresses = node.pod_cidrs.iter().filter_map(network::node::gateway_address).collect();
    gateway.mac = gateway.addresses.first().map(|address| Mac::from_address(*address));
    let mut tunnel = infrastructure(&node.config.tunnel, PortRole::Tunnel);
    tunnel.addresses = local_end(node).into_iter().collect();
    let mut items = vec![gateway, tunnel];
    items.extend(node.attachments.iter().map(|attachment| {
        let role = if attachment.pod.is_some() { PortRole::Pod } else { PortRole::Attachment };
        let mut item = infrastructure(&attachment.host_interface, role);
        item.pod = attachment.pod_name();
        item.mac = Some(attachment.mac);
        item.addresses = addresses(attachment);
        item
    }));
    items.sort_by(|a, b| (a.role, &a.pod, &a.interface).cmp(&(b.role, &b.pod, &b.interface)));
    items
}

pub(super) fn addresses(attachment: &Attachment) -> Vec<std::net::IpAddr> {
    attachment.addresses.iter().map(|address| address.address).collect()
}

fn local_end(node: &Snapshot) -> Option<std::net::IpAddr> {
    node.addresses.iter().find(|address| address.is_ipv4()).or(node.addresses.first()).copied()
}

pub(super) fn tunnels(node: &Snapshot, flows: &[FlowStats]) -> Vec<TunnelItem> {
    let mut packets: BTreeMap<&network::NodeName, u64> = BTreeMap::new();
    for flow in flows.iter().filter(|flow| flow.table.0 == Table::Routing.id()) {
        for owner in node.reasons.get(&flow.cookie).into_iter().flat_map(|reason| &reason.owners) {
            if let Owner::Node(name) = owner {
                let count = packets.entry(name).or_default();
                *count = count.saturating_add(flow.packet_count);
            }
        }
    }
    let remote = |other: &Node| TunnelItem {
        node: node.config.node.clone(),
        remote: other.name.clone(),
        local_address: local_end(node),
        remote_address: other.tunnel_address(),
        remote_pod_cidrs: other.pod_cidrs.clone(),
        mtu: node.pod_mtu,
        packets: packets.get(&other.name).copied().unwrap_or(0),
    };
    node.view.nodes.values().filter(|other| other.name != node.config.node).map(remote).collect()
}
