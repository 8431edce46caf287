//! What the controller counts, in the OpenMetrics text format. Names are `ferrule_controller_*`.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// All metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Nodes in the model.
    pub nodes: Gauge,
    /// Pods in the model.
    pub pods: Gauge,
    /// Policies in the model.
    pub policies: Gauge,
    /// Problems to be shown.
    pub problems: Gauge,
    /// Agents with a stream.
    pub agents_connected: Gauge,
    /// Agents that confirmed everything.
    pub agents_realized: Gauge,
    /// Deltas.
    pub deltas_sent: Counter,
    /// Resources in them.
    pub resources_sent: Counter,
    /// Their bytes.
    pub delta_bytes: Counter,
    /// Resources that agents refused.
    pub rejections: Counter,
    /// Streams refused for want of a good token.
    pub denied: Counter,
    /// Messages after which an agent had to wait.
    pub slowed: Counter,
    /// Messages of a kind that only newer controllers know.
    pub unknown: Counter,
    /// Model and views after a change.
    pub recompute_seconds: Histogram,
    /// From sending a delta to its answer.
    pub acknowledge_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        // 0.1 ms to 6.5 s.
        let seconds = || Histogram::new(exponential_buckets(0.0001, 2.0, 17));
        let mut metrics = Self {
            registry: Arc::default(),
            nodes: Gauge::default(),
            pods: Gauge::default(),
            policies: Gauge::default(),
            problems: Gauge::default(),
            agents_connected: Gauge::default(),
            agents_realized: Gauge::default(),
            deltas_sent: Counter::default(),
            resources_sent: Counter::default(),
            delta_bytes: Counter::default(),
            rejections: Counter::default(),
            denied: Counter::default(),
            slowed: Counter::default(),
            unknown: Counter::default(),
            recompute_seconds: seconds(),
            acknowledge_seconds: seconds(),
        };
        let mut registry = Registry::with_prefix("ferrule_controller");
        registry.register("nodes", "Nodes in the model", metrics.nodes.clone());
        registry.register("pods", "Pods in the model", metrics.pods.clone());
        registry.register("policies", "Policies in the model", metrics.policies.clone());
        registry.register("problems", "Things read or sent that could not be used", metrics.problems.clone());
        registry.register("agents_connected", "Agents with a stream", metrics.agents_connected.clone());
        registry.register(
            "agents_realized",
            "Agents that have confirmed everything sent, without a rejection",
            metrics.agents_realized.clone(),
        );
        registry.register("deltas_sent", "Deltas sent to agents", metrics.deltas_sent.clone());
        registry.register("resources_sent", "Resources in these deltas", metrics.resources_sent.clone());
        registry.register("delta_bytes", "Encoded size of these deltas", metrics.delta_bytes.clone());
        registry.register("rejections", "Resources that agents rejected", metrics.rejections.clone());
        registry.register(
            "streams_denied",
            "Streams refused for want of a valid token",
            metrics.denied.clone(),
        );
        registry.register(
            "messages_slowed",
            "Messages after which an agent that says too much had to wait",
            metrics.slowed.clone(),
        );
        registry.register(
            "messages_unknown",
            "Messages of agents that only newer controllers know",
            metrics.unknown.clone(),
        );
        registry.register_with_unit(
            "recompute",
            "Time to make model and views after a change",
            Unit::Seconds,
            metrics.recompute_seconds.clone(),
        );
        registry.register_with_unit(
            "acknowledge",
            "Time from sending a delta to its answer",
            Unit::Seconds,
            metrics.acknowledge_seconds.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }
}

impl Metrics {
    /// The text that a scraper reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/metrics.md");
        let text = Metrics::default().text();
        let types: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        assert!(!types.is_empty());
        for (name, kind) in &types {
            let total = if *kind == "counter" { "_total" } else { "" };
            let line = format!("| `{name}{total}` | {kind} |");
            assert!(page.contains(&line), "docs/metrics.md lacks a line `{line} labels | meaning |`");
        }
        assert_eq!(
            page.matches("| `ferrule_controller_").count(),
            types.len(),
            "a documented metric is gone"
        );
    }

    #[test]
    fn every_name_begins_with_the_component() {
        let metrics = Metrics::default();
        metrics.deltas_sent.inc();
        let text = metrics.text();
        assert!(text.contains("ferrule_controller_deltas_sent_total 1"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("ferrule_controller_"), "{line}");
        }
    }
}
