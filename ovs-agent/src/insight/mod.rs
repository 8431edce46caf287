//! What people and tools ask of this node: `GET /v1alpha1/…`, `/healthz`, `/metrics`; over the agent's own socket, and
//! relayed by a controller over its stream. Reads only, but for
//! what [`CHANGES`] names.

mod audit;
mod costs;
mod counters;
mod flows;
pub mod http;
mod items;
mod repair;
mod services;
mod trace;

pub(crate) use counters::tuple_item;
pub(crate) use flows::shown as owner_item;

use std::sync::Arc;
use std::time::SystemTime;

use api::insight::{Error, Item, List};
use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use openflow::FlowStats;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::drivers::nftables::Nftables;
use crate::ipam::BuiltIn;
use crate::metrics::Metrics;
use crate::node::{Part, Snapshot};
use crate::owner::{Ask, Dump, SwitchCommand, ask};

/// What puts right what an audit finds.
pub const REPAIR: &str = "/v1alpha1/repair";

/// What sends a packet.
pub const PROBE: &str = "/v1alpha1/probe";

/// What changes something: to be posted.
pub const CHANGES: [&str; 2] = [REPAIR, PROBE];

/// Answers questions.
#[derive(Clone, Debug)]
pub struct Insight {
    /// To the owner of the node's state.
    pub asks: mpsc::Sender<Ask>,
    /// To the driver of the switch, for what only the switch knows.
    pub switch: mpsc::Sender<SwitchCommand>,
    /// The addresses, for metrics.
    pub ipam: Arc<BuiltIn>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The host's network is kept by this agent.
    pub keeps_host: bool,
    /// Where the switch's sockets are.
    pub rundir: std::path::PathBuf,
    /// The table of the host that it keeps.
    pub nftables: Nftables,
    /// The time, for what rests.
    pub clock: fn() -> SystemTime,
}

/// An answer in HTTP's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `content-type`.
    pub content_type: &'static str,
    /// The document.
    pub body: Vec<u8>,
}

/// What may stand behind the question mark.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    node: Option<String>,
    pod: Option<String>,
    policy: Option<String>,
    namespace: Option<String>,
    service: Option<String>,
    table: Option<String>,
    flow: Option<String>,
    source: Option<std::net::IpAddr>,
    destination: Option<std::net::IpAddr>,
    protocol: Option<u8>,
    #[serde(rename = "sourcePort")]
    source_port: Option<u16>,
    port: Option<u16>,
    length: Option<u16>,
}

/// `GET /healthz`.
#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    problems: &'a std::collections::BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controllers: Vec<Controller<'a>>,
}

/// A controller in [`Health`].
#[derive(Serialize)]
struct Controller<'a> {
    address: &'a str,
    part: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    problem: &'a str,
}

impl Insight {
    /// Answers a path with its query.
    pub async fn answer(&self, path: &str) -> Answer {
        match self.try_answer(path).await {
            Ok(answer) => answer,
            Err((status, error)) => json(status, &Error { error }),
        }
    }

    async fn try_answer(&self, path: &str) -> Result<Answer, (StatusCode, String)> {
        let wrong = |error: String| (StatusCode::BAD_REQUEST, error);
        let uri: Uri = path.parse().map_err(|error| wrong(format!("`{path}` is no path: {error}")))?;
        let Query(parameters) = Query::<Parameters>::try_from_uri(&uri).map_err(|error| {
            wrong(format!("{error}; an agent knows node, pod, policy, namespace, service and table"))
        })?;
        let node = ask(&self.asks, Ask::Snapshot)
            .await
            .ok_or((StatusCode::SERVICE_UNAVAILABLE, "the agent is ending".to_owned()))?;
        let elsewhere = parameters.node.as_ref().is_some_and(|name| name != node.config.node.as_str());
        Ok(match uri.path() {
            "/healthz" => health(&node),
            "/metrics" => {
                // A switch that is away shows in other metrics; its counters stay where they were.
                if let Ok(drops) = self.dump(None, true, Box::new(|_| true)).await {
                    self.metrics.dropped(&drops);
                }
                Answer {
                    status: 200,
                    content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    body: self.metrics.text(&node, &self.ipam, (self.clock)()).into_bytes(),
                }
            }
            "/v1alpha1/switches" => list(elsewhere, || vec![items::switch(&node)]),
            "/v1alpha1/ports" => list(elsewhere, || items::ports(&node)),
            "/v1alpha1/tunnels" => {
                let routing = Some(openflow::TableId(compiler::Table::Routing.id()));
                let flows = if elsewhere {
                    Ok(Vec::new())
                } else {
                    self.dump(routing, false, Box::new(|_| true)).await
                };
                let warnings = flows.as_ref().err().cloned().into_iter().collect();
                let mut list = List::new(if elsewhere {
                    Vec::new()
                } else {
                    items::tunnels(&node, &flows.unwrap_or_default())
                });
                list.warnings = warnings;
                json(StatusCode::OK, &list)
            }
            "/v1alpha1/services" if !elsewhere => {
                let table = Some(openflow::TableId(compiler::Table::EndpointDnat.id()));
                let dump = self.dump(table, false, Box::new(|_| true)).await;
                let warnings = dump.as_ref().err().cloned().into_iter().collect();
                let services = services::wanted(&node, &parameters);
                let mut list = List::new(services::items(&node, services, &dump.unwrap_or_default()));
                list.warnings = warnings;
                json(StatusCode::OK, &list)
            }
            "/v1alpha1/services" => list(true, Vec::<api::insight::ServiceItem>::new),
            "/v1alpha1/flows" => {
                let filter = flows::Filter::new(&parameters, &node).map_err(wrong)?;
                if elsewhere {
                    list(true, Vec::<api::insight::FlowItem>::new)
                } else {
                    let reasons = Arc::clone(&node.reasons);
                    let table = filter.table.map(openflow::TableId);
                    let wanted = move |flow: &FlowStats| filter.wants(flow, reasons.get(&flow.cookie));
                    let dump = self.dump(table, false, Box::new(wanted)).await;
                    let dump = dump.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error))?;
                    json(StatusCode::OK, &List::new(flows::items(&node, dump)))
                }
            }
            "/v1alpha1/drops" if !elsewhere => {
                let filter = flows::Filter::new(&parameters, &node).map_err(wrong)?;
                let reasons = Arc::clone(&node.reasons);
                let wanted = move |flow: &FlowStats| {
                    flow.packet_count > 0 && filter.wants(flow, reasons.get(&flow.cookie))
                };
                let dump = self.dump(None, true, Box::new(wanted)).await;
                let dump = dump.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error))?;
                let (reply, answer) = oneshot::channel();
                let _ = self.switch.send(SwitchCommand::Seen(reply)).await;
                let seen = answer.await.unwrap_or_default();
                json(StatusCode::OK, &List::new(counters::drops(&node, &dump, &seen)))
            }
            "/v1alpha1/drops" => list(true, Vec::<api::insight::DropItem>::new),
            "/v1alpha1/rules" if !elsewhere => {
                let filter = flows::Filter::new(&parameters, &node).map_err(wrong)?;
                let reasons = Arc::clone(&node.reasons);
                // Most flows of a policy are clauses, which count nothing but that they are there.
                let tally = counters::Tally::shared();
                let wanted = {
                    let tally = Arc::clone(&tally);
                    move |flow: &FlowStats| {
                        let reason = reasons.get(&flow.cookie);
                        if let Some(reason) = reason.filter(|_| filter.wants(flow, reason)) {
                            counters::Tally::add(&tally, flow, reason);
                        }
                        false
                    }
                };
                let dump = self.dump(None, false, Box::new(wanted)).await;
                dump.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error))?;
                json(StatusCode::OK, &List::new(counters::rules(&node, &tally)))
            }
            "/v1alpha1/audit" if !elsewhere => {
                let mut list = self.audit(&node).await;
                list.items.extend(self.past(&node).await);
                json(StatusCode::OK, &list)
            }
            REPAIR if !elsewhere => json(StatusCode::OK, &self.repair(&node).await),
            "/v1alpha1/trace" if !elsewhere => {
                json(StatusCode::OK, &trace::trace(&self.rundir, &node, &parameters).await?)
            }
            "/v1alpha1/trace" => list(true, Vec::<api::insight::TraceItem>::new),
            PROBE if !elsewhere => json(StatusCode::OK, &self.probe(&node, &parameters).await?),
            PROBE => list(true, Vec::<api::insight::ProbeItem>::new),
            "/v1alpha1/audit" | REPAIR => list(true, Vec::<api::insight::AuditItem>::new),
            "/v1alpha1/rules" => list(true, Vec::<api::insight::RuleItem>::new),
            "/v1alpha1/costs" => list(elsewhere, || costs::items(&node, parameters.policy.as_deref())),
            other => {
                let error = format!(
                    "an agent has no {other}; it has /v1alpha1/switches, ports, tunnels, services, flows, drops, rules, costs, audit and \
                     trace, /healthz and /metrics"
                );
                return Err((StatusCode::NOT_FOUND, error));
            }
        })
    }

    /// Flows of the switch with their counters.
    async fn dump(
        &self,
        table: Option<openflow::TableId>,
        drops: bool,
        wanted: Box<dyn Fn(&FlowStats) -> bool + Send + Sync>,
    ) -> Result<Vec<FlowStats>, String> {
        let ended = || "the agent is ending".to_owned();
        let (reply, answer) = oneshot::channel();
        let dump = Dump { table, drops, wanted, reply };
        self.switch.send(SwitchCommand::Dump(dump)).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn health(node: &Snapshot) -> Answer {
    // A controller that is away leaves the node working on what it knows; so does a policy that is refused.
    let broken = ["switch", "database", "host"].iter().any(|part| node.problems.contains_key(part));
    let (code, status) = match (broken, node.problems.is_empty()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "broken"),
        (false, false) => (StatusCode::OK, "degraded"),
        (false, true) => (StatusCode::OK, "ok"),
    };
    let controllers = node.controllers.iter().map(|controller| Controller {
        address: &controller.address,
        part: match controller.part {
            Part::Leads => "leads",
            Part::Asked => "asked to lead",
            Part::StandsBy => "stands by",
            Part::Away => "away",
        },
        problem: &controller.problem,
    });
    json(code, &Health { status, problems: &node.problems, controllers: controllers.collect() })
}

fn list<T: Item + Serialize>(elsewhere: bool, items: impl FnOnce() -> Vec<T>) -> Answer {
    json(StatusCode::OK, &List::new(if elsewhere { Vec::new() } else { items() }))
}

fn json(status: StatusCode, document: &impl Serialize) -> Answer {
    // Strings, numbers and lists, which JSON always takes.
    let body = serde_json::to_vec(document).unwrap_or_default();
    Answer { status: status.as_u16(), content_type: "application/json", body }
}
