//! The agent's counters and gauges, `ferrule_agent_*`. It must not know how they are asked for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use compiler::Table;
use compiler::drops::DropClass;
use openflow::{Cookie, FlowStats};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::ipam::BuiltIn;
use crate::node::Snapshot;

/// Counters that others add to, and gauges that are set when somebody asks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Additions, changes and deletions of flows that were sent.
    pub flow_mods_sent: Counter,
    /// Flows of the switch that somebody else changed.
    pub flows_drifted: Counter,
    drifted: Family<PlaceLabel, Counter>,
    /// Messages of a kind that only newer agents know.
    pub messages_unknown: Counter,
    /// From sending flow-mods to the switch's confirmation.
    pub apply_seconds: Histogram,
    /// Requests of the CNI binary by command and error code; 0 is success.
    pub cni_requests: Family<CniLabels, Counter>,
    /// From a request of the CNI binary to its answer.
    pub cni_seconds: Family<CommandLabel, Histogram, fn() -> Histogram>,
    dropped: Family<ReasonLabel, Counter>,
    /// What the flows that drop had counted when they were read last.
    seen: Mutex<HashMap<Cookie, u64>>,
    flows: Gauge,
    ports: Gauge,
    in_sync: Gauge,
    ovs_connected: Gauge,
    controller_connected: Gauge,
    addresses_allocated: Gauge,
    addresses_free: Gauge,
}

/// Labels of a CNI request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CniLabels {
    /// `ADD`, `DEL`, …
    pub command: &'static str,
    /// The error's code; 0 is success.
    pub code: u32,
}

/// Label of a CNI command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommandLabel {
    /// `ADD`, `DEL`, …
    pub command: &'static str,
}

/// Label of a drop.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// [`DropClass::name`].
    pub reason: &'static str,
}

/// Label of something that somebody else changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PlaceLabel {
    /// `meter`, `group`, `database`, `host`.
    pub place: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ferrule_agent");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let flows = gauge("flows", "Flows in the switch");
        let ports = gauge("ports", "Ports of the bridge");
        let in_sync = gauge("in_sync", "1 while the switch holds what it should");
        let ovs_connected = gauge("ovs_connected", "1 while the switch is connected");
        let controller_connected = gauge("controller_connected", "1 while a controller is connected");
        let addresses_allocated = gauge("addresses_allocated", "Addresses handed out");
        let addresses_free = gauge("addresses_free", "Addresses that can be handed out now");
        let (flow_mods_sent, apply_seconds) = (Counter::default(), seconds());
        registry.register("flow_mods_sent", "Flow-mods sent to the switch", flow_mods_sent.clone());
        let flows_drifted = Counter::default();
        registry.register("flows_drifted", "Flows that somebody else changed", flows_drifted.clone());
        let messages_unknown = Counter::default();
        let help = "Messages of controllers that only newer agents know";
        registry.register("messages_unknown", help, messages_unknown.clone());
        let drifted = Family::<PlaceLabel, Counter>::default();
        let help = "Things beside flows that somebody else changed, by place";
        registry.register("things_drifted", help, drifted.clone());
        registry.register("apply_seconds", "From flow-mods to their confirmation", apply_seconds.clone());
        let cni_requests = Family::<CniLabels, Counter>::default();
        registry.register("cni_requests", "CNI requests by command and error code", cni_requests.clone());
        let cni_seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register("cni_seconds", "CNI requests by command", cni_seconds.clone());
        let dropped = Family::<ReasonLabel, Counter>::default();
        registry.register("dropped_packets", "Packets dropped, by class of reason", dropped.clone());
        Self {
            dropped,
            seen: Mutex::default(),
            registry,
            flow_mods_sent,
            flows_drifted,
            messages_unknown,
            drifted,
            apply_seconds,
            cni_requests,
            cni_seconds,
            flows,
            ports,
            in_sync,
            ovs_connected,
            controller_connected,
            addresses_allocated,
            addresses_free,
        }
    }
}

impl Metrics {
    /// Somebody else changed something there, which is no flow.
    pub fn drifted(&self, place: &'static str) {
        self.drifted.get_or_create(&PlaceLabel { place }).inc();
    }

    /// Takes in what the flows that drop have counted. A flow that was made anew counts from nothing.
    pub fn dropped(&self, flows: &[FlowStats]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = HashMap::with_capacity(flows.len());
        for flow in flows {
            let Some(table) = Table::from_id(flow.table.0) else { continue };
            let label = ReasonLabel { reason: DropClass::of(table, &flow.match_).name() };
            let before = seen.get(&flow.cookie).copied().filter(|before| *before <= flow.packet_count);
            self.dropped.get_or_create(&label).inc_by(flow.packet_count - before.unwrap_or(0));
            now.insert(flow.cookie, flow.packet_count);
        }
        *seen = now;
    }

    /// The text for Prometheus (OpenMetrics 1.0).
    pub fn text(&self, node: &Snapshot, ipam: &BuiltIn, now: SystemTime) -> String {
        self.flows.set(node.flows as i64);
        self.ports.set(node.database.as_ref().map_or(0, |database| database.ports.len()) as i64);
        self.in_sync.set(node.in_sync.into());
        self.ovs_connected.set(node.switch_connected.into());
        self.controller_connected.set(node.controller_connected.into());
        let usage = ipam.usage(now);
        let count = |of: fn(&crate::ipam::Usage) -> u64| usage.iter().map(of).fold(0, u64::saturating_add);
        self.addresses_allocated.set(i64::try_from(count(|u| u.allocated)).unwrap_or(i64::MAX));
        let free = count(|u| u.size.saturating_sub(u.allocated).saturating_sub(u.resting));
        self.addresses_free.set(i64::try_from(free).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/metrics.md");
        let metrics = Metrics::default();
        // Families show when they have a member.
        metrics.cni_requests.get_or_create(&CniLabels { command: "ADD", code: 0 }).inc();
        metrics.cni_seconds.get_or_create(&CommandLabel { command: "ADD" }).observe(0.1);
        metrics.drifted("meter");
        metrics.dropped.get_or_create(&ReasonLabel { reason: "default-deny" }).inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry).unwrap();
        let types: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        assert!(!types.is_empty());
        for (name, kind) in &types {
            let total = if *kind == "counter" { "_total" } else { "" };
            let line = format!("| `{name}{total}` | {kind} |");
            assert!(page.contains(&line), "docs/metrics.md lacks a line `{line} labels | meaning |`");
        }
        assert_eq!(page.matches("| `ferrule_agent_").count(), types.len(), "a documented metric is gone");
    }
}
