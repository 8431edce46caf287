//! What `ferrule get` shows of each resource: its columns. Knows items, not where they come from.

use api::insight::{
    DropItem, NodeItem, Owner, PodItem, PolicyItem, PolicyRule, PortItem, PortRole, ProblemItem, ServiceItem,
    ServicePortItem, SightingItem, SwitchItem, TunnelItem,
};

use crate::table::{list, or_dash, yes};

/// An item as a row.
pub trait Row {
    /// Headings; more of them when wide.
    fn headings(wide: bool) -> Vec<&'static str>;
    /// Cells under them.
    fn cells(&self, wide: bool) -> Vec<String>;
}

fn with_wide<T>(wide: bool, mut narrow: Vec<T>, more: impl FnOnce() -> Vec<T>) -> Vec<T> {
    if wide {
        narrow.extend(more());
    }
    narrow
}

impl Row for NodeItem {
    fn headings(wide: bool) -> Vec<&'static str> {
        with_wide(wide, vec!["NAME", "AGENT", "REALIZED", "PODS", "ADDRESSES", "POD RANGES"], || {
            vec!["VERSION", "PENDING"]
        })
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let agent = if self.connected { "connected" } else { "away" };
        let narrow = vec![
            self.name.to_string(),
            agent.to_owned(),
            yes(self.realized),
            self.pods.to_string(),
            list(&self.addresses),
            list(&self.pod_cidrs),
        ];
        with_wide(wide, narrow, || vec![self.agent_version.clone(), self.pending.to_string()])
    }
}

impl Row for SwitchItem {
    fn headings(wide: bool) -> Vec<&'static str> {
        with_wide(wide, vec!["NODE", "BRIDGE", "IN SYNC", "FAIL MODE", "PORTS", "FLOWS", "FLOW-MODS"], || {
            vec!["DATAPATH", "OVS"]
        })
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let narrow = vec![
            self.node.to_string(),
            self.bridge.clone(),
            yes(self.in_sync),
            self.fail_mode.clone(),
            self.ports.to_string(),
            self.flows.to_string(),
            self.flow_mods_sent.to_string(),
        ];
        with_wide(wide, narrow, || vec![self.datapath_type.clone(), self.ovs_version.clone()])
    }
}

impl Row for PortItem {
    fn headings(wide: bool) -> Vec<&'static str> {
        with_wide(wide, vec!["NODE", "INTERFACE", "ROLE", "POD", "ADDRESSES", "ERROR"], || {
            vec!["OFPORT", "MAC"]
        })
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let role = match self.role {
            PortRole::Pod => "pod",
            PortRole::Gateway => "gateway",
            PortRole::Tunnel => "tunnel",
            PortRole::Attachment => "attachment",
        };
        let narrow = vec![
            self.node.to_string(),
            self.interface.clone(),
            role.to_owned(),
            or_dash(self.pod.as_ref()),
            list(&self.addresses),
            or_dash(self.error.as_ref()),
        ];
        with_wide(wide, narrow, || vec![or_dash(self.ofport), or_dash(self.mac)])
    }
}

impl Row for PodItem {
    fn headings(wide: bool) -> Vec<&'static str> {
        with_wide(wide, vec!["NAMESPACE", "NAME", "NODE", "ADDRESSES", "ISOLATED"], || {
            vec!["INGRESS POLICIES", "EGRESS POLICIES", "UID"]
        })
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let isolated =
            match (self.host_network, self.ingress_policies.is_empty(), self.egress_policies.is_empty()) {
                (true, ..) => "host network",
                (_, true, true) => "no",
                (_, false, true) => "ingress",
                (_, true, false) => "egress",
                (_, false, false) => "ingress, egress",
            };
        let narrow = vec![
            self.pod.namespace().to_owned(),
            self.pod.name().to_owned(),
            or_dash(self.node.as_ref()),
            list(&self.addresses),
            isolated.to_owned(),
        ];
        with_wide(wide, narrow, || {
            vec![list(&self.ingress_policies), list(&self.egress_policies), self.uid.clone()]
        })
    }
}

impl Row for PolicyItem {
    fn headings(wide: bool) -> Vec<&'static str> {
        with_wide(
            wide,
            vec!["POLICY", "PODS", "INGRESS RULES", "EGRESS RULES", "REALIZED", "PROBLEMS"],
            || vec!["TIER", "GENERATION", "NODES"],
        )
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let narrow = vec![
            self.policy.clone(),
            self.pods.to_string(),
            self.ingress_rules.to_string(),
            self.egress_rules.to_string(),
            format!("{} of {}", self.realized.len(), self.nodes.len()),
            list(&self.problems),
        ];
        with_wide(wide, narrow, || vec![self.tier.clone(), self.generation.to_string(), list(&self.nodes)])
    }
}

/// Headings of what rules met.
pub const RULE_HEADINGS: [&str; 6] =
    ["POLICY", "RULE", "PACKETS", "BYTES", "FLOWS", "IN FORCE ON (GENERATION)"];

/// What a rule met.
pub fn rule(policy: &PolicyItem, rule: &PolicyRule) -> Vec<String> {
    let shared = |count: u64| if rule.shared { format!("{count} (shared)") } else { count.to_string() };
    vec![
        policy.policy.clone(),
        rule.rule.clone(),
        shared(rule.packets),
        shared(rule.bytes),
        rule.flows.to_string(),
        list(rule.nodes.iter().map(|(node, generation)| format!("{node} ({generation})"))),
    ]
}

impl Row for ServiceItem {
    fn headings(wide: bool) -> Vec<&'static str> {
        with_wide(wide, vec!["NODE", "SERVICE", "TYPE", "CLUSTER ADDRESSES", "OUTSIDE", "PORTS"], || {
            vec!["AFFINITY"]
        })
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let port = |port: &ServicePortItem| match port.node_port {
            Some(number) => format!("{}/{}:{number}", port.protocol, port.port),
            None => format!("{}/{}", port.protocol, port.port),
        };
        let narrow = vec![
            or_dash(self.node.as_ref()),
            self.service.to_string(),
            self.kind.clone(),
            list(&self.cluster_ips),
            list(&self.outside_ips),
            list(self.ports.iter().map(port)),
        ];
        with_wide(wide, narrow, || vec![or_dash(self.affinity_seconds.map(|seconds| format!("{seconds} s")))])
    }
}

/// Headings of what Services go without.
pub const LOST_HEADINGS: [&str; 4] = ["NODE", "SERVICE", "GOES WITHOUT", "WHICH OLDER SERVICE HAS"];

/// What a Service goes without.
pub fn lost(service: &ServiceItem) -> Vec<Vec<String>> {
    let row = |lost: &api::insight::LostItem| {
        let node = or_dash(service.node.as_ref());
        vec![node, service.service.to_string(), lost.what.clone(), lost.owner.to_string()]
    };
    service.lost.iter().map(row).collect()
}

/// Headings of who serves.
pub const ENDPOINT_HEADINGS: [&str; 8] =
    ["NODE", "SERVICE", "PORT", "ENDPOINT", "POD", "STATE", "CONNECTIONS", "SHARE"];

/// Who serves a Service's ports.
pub fn endpoints(service: &ServiceItem) -> Vec<Vec<String>> {
    let of_port = |port: &ServicePortItem| -> Vec<Vec<String>> {
        let row = |endpoint: &api::insight::ServiceEndpointItem| {
            let at = endpoint.address.map(|address| std::net::SocketAddr::new(address, endpoint.port));
            vec![
                or_dash(service.node.as_ref()),
                service.service.to_string(),
                format!("{}/{}", port.protocol, port.port),
                or_dash(at),
                or_dash(endpoint.pod.as_ref()),
                match endpoint.used || service.node.is_none() {
                    true => endpoint.state.clone(),
                    false => format!("{}, not used", endpoint.state),
                },
                or_dash(service.node.as_ref().map(|_| endpoint.connections)),
                if endpoint.used { format!("{:.1} %", endpoint.share * 100.0) } else { "-".into() },
            ]
        };
        port.endpoints.iter().map(row).collect()
    };
    service.ports.iter().flat_map(of_port).collect()
}

impl Row for DropItem {
    fn headings(wide: bool) -> Vec<&'static str> {
        let narrow = vec!["NODE", "REASON", "PACKETS", "BY", "WHAT", "LAST"];
        with_wide(wide, narrow, || vec!["BYTES", "TABLE", "BEFORE"])
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let seen = |seen: &SightingItem| format!("{} ({})", seen.tuple, seen.time);
        let owner = |owner: &Owner| {
            let parts = [owner.kind.as_str(), owner.name.as_str(), owner.rule.as_str()];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        };
        let narrow = vec![
            self.node.to_string(),
            self.reason.clone(),
            self.packets.to_string(),
            list(self.owners.iter().map(owner)),
            self.what.clone(),
            or_dash(self.last.first().map(seen)),
        ];
        with_wide(wide, narrow, || {
            let before = self.last.iter().skip(1).map(seen);
            vec![self.bytes.to_string(), self.table.clone(), list(before)]
        })
    }
}

impl Row for TunnelItem {
    fn headings(wide: bool) -> Vec<&'static str> {
        with_wide(wide, vec!["FROM", "TO", "REMOTE ADDRESS", "POD RANGES", "MTU", "PACKETS"], || {
            vec!["LOCAL ADDRESS"]
        })
    }

    fn cells(&self, wide: bool) -> Vec<String> {
        let narrow = vec![
            self.node.to_string(),
            self.remote.to_string(),
            or_dash(self.remote_address),
            list(&self.remote_pod_cidrs),
            self.mtu.to_string(),
            self.packets.to_string(),
        ];
        with_wide(wide, narrow, || vec![or_dash(self.local_address)])
    }
}

impl Row for ProblemItem {
    fn headings(_wide: bool) -> Vec<&'static str> {
        vec!["OBJECT", "SOURCE", "PROBLEM"]
    }

    fn cells(&self, _wide: bool) -> Vec<String> {
        vec![self.object.clone(), self.source.clone(), self.message.clone()]
    }
}
