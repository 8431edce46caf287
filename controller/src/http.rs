//! HTTP/JSON for the CLI, health and metrics: the paths and items of `api::insight`. Reads the state, never changes it;
//! what agents change is asked for over the socket alone.

use std::collections::BTreeMap;

use api::insight::{
    self, AuditItem, CostItem, DropItem, FlowItem, Item, List, NetworkItem, PortItem, ProbeItem, RuleItem,
    ServiceItem, SwitchItem, TraceItem, TunnelItem,
};
use axum::Router;
use axum::extract::{Query, State as Shared};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use network::{NamespacedName, NodeName};
use serde::Serialize;

use crate::metrics::Metrics;
use crate::owner::{Gone, Owner};
use crate::relay::{self, Relayed};
use crate::state::State;
use crate::status::{self, Filter};

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where the state is.
    pub owner: Owner,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

type Parameters = Query<BTreeMap<String, String>>;

/// The routes.
pub fn router(api: Api) -> Router {
    health()
        .route("/v1alpha1/nodes", get(nodes))
        .route("/v1alpha1/pods", get(pods))
        .route("/v1alpha1/policies", get(policies))
        .route("/v1alpha1/problems", get(problems))
        .route("/v1alpha1/manifests", get(manifests))
        .route("/v1alpha1/network", get(network))
        .route("/v1alpha1/audit", get(relayed::<AuditItem>))
        .route("/v1alpha1/trace", get(traced))
        .route("/v1alpha1/switches", get(relayed::<SwitchItem>))
        .route("/v1alpha1/ports", get(relayed::<PortItem>))
        .route("/v1alpha1/tunnels", get(relayed::<TunnelItem>))
        .route("/v1alpha1/services", get(services))
        .route("/v1alpha1/flows", get(flows))
        .route("/v1alpha1/drops", get(drops))
        .route("/v1alpha1/rules", get(about_policy::<RuleItem>))
        .route("/v1alpha1/costs", get(about_policy::<CostItem>))
        .fallback(async |uri: Uri| {
            Failure::new(StatusCode::NOT_FOUND, format!("there is no {}; see /v1alpha1/nodes", uri.path()))
        })
        .with_state(api)
}

/// The routes, and those that have agents change something: not for whoever can reach an address.
pub fn router_with_changes(api: Api) -> Router {
    let changes = Router::new()
        .route("/v1alpha1/repair", post(relayed::<AuditItem>))
        .route("/v1alpha1/probe", post(probed))
        .with_state(api.clone());
    router(api).merge(changes)
}

/// What monitoring asks, and nothing of the network.
pub fn monitoring(api: Api) -> Router {
    let other = async |uri: Uri| {
        Failure::new(
            StatusCode::NOT_FOUND,
            format!("{} is not here: /metrics, /healthz and /readyz are", uri.path()),
        )
    };
    health().fallback(other).with_state(api)
}

fn health() -> Router<Api> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(healthz))
        .route("/metrics", get(metrics))
}

/// An error answer.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    error: String,
}

impl Failure {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, gone.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, axum::Json(insight::Error { error: self.error })).into_response()
    }
}

type Answer = Result<Response, Failure>;

fn list<T: Item + Serialize>(items: Vec<T>) -> Answer {
    Ok(axum::Json(List::new(items)).into_response())
}

/// A misspelt parameter must not widen the answer.
fn known(parameters: &BTreeMap<String, String>, known: &[&str]) -> Result<(), Failure> {
    match parameters.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(Failure::new(
                StatusCode::BAD_REQUEST,
                format!("unknown parameter `{key}`; known here: {known}"),
            ))
        }
    }
}

fn filter(parameters: &BTreeMap<String, String>) -> Result<Filter, Failure> {
    known(parameters, &["node", "namespace"])?;
    Ok(Filter {
        node: parameters.get("node").map(NodeName::new),
        namespace: parameters.get("namespace").cloned(),
    })
}

async fn healthz(Shared(api): Shared<Api>) -> Answer {
    let obstacles = api.owner.read(State::obstacles).await?;
    if obstacles.is_empty() {
        return Ok("ok\n".into_response());
    }
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, obstacles.join("; ")))
}

async fn metrics(Shared(api): Shared<Api>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.metrics.text()).into_response()
}

async fn nodes(Shared(api): Shared<Api>, Query(parameters): Parameters) -> Answer {
    known(&parameters, &[])?;
    list(api.owner.read(status::nodes).await?)
}

async fn problems(Shared(api): Shared<Api>, Query(parameters): Parameters) -> Answer {
    known(&parameters, &[])?;
    list(api.owner.read(status::problems).await?)
}

async fn manifests(Shared(api): Shared<Api>, Query(parameters): Parameters) -> Answer {
    known(&parameters, &[])?;
    list(api.owner.read(status::manifests).await?)
}

/// Everything at once: whoever explains or plans needs it whole.
async fn network(Shared(api): Shared<Api>, Query(parameters): Parameters) -> Answer {
    known(&parameters, &[])?;
    let network = api.owner.read(|state| state.index().network()).await?;
    list(vec![NetworkItem::from(network)])
}

async fn pods(Shared(api): Shared<Api>, Query(parameters): Parameters) -> Answer {
    let filter = filter(&parameters)?;
    list(api.owner.read(move |state| status::pods(state, &filter)).await?)
}

async fn policies(Shared(api): Shared<Api>, Query(parameters): Parameters) -> Answer {
    let mut parameters = parameters;
    let with_rules = parameters.remove("rules").is_some_and(|wanted| wanted == "true");
    let filter = filter(&parameters)?;
    let node = filter.node.clone();
    let mut list = List::new(api.owner.read(move |state| status::policies(state, &filter)).await?);
    if with_rules && !list.items.is_empty() {
        match relay::ask(&api.owner, node, "/v1alpha1/rules".into(), RuleItem::KIND).await? {
            Relayed::List(counted) => {
                list.warnings = counted.warnings;
                let counted = counted.items.into_iter().filter_map(|item| serde_json::from_value(item).ok());
                status::add_rules(&mut list.items, counted);
            }
            Relayed::NoSuchNode | Relayed::Refused { .. } => {
                list.warnings.push("no agent says what its rules count".into());
            }
        }
    }
    Ok(axum::Json(list).into_response())
}

async fn relayed<T: Item>(Shared(api): Shared<Api>, uri: Uri, Query(parameters): Parameters) -> Answer {
    known(&parameters, &["node"])?;
    relay_to(&api, parameters.get("node").map(NodeName::new), &uri, T::KIND, Vec::new()).await
}

async fn traced(Shared(api): Shared<Api>, uri: Uri, Query(parameters): Parameters) -> Answer {
    known(&parameters, &["node", "flow"])?;
    of_one_node(&api, &uri, &parameters, TraceItem::KIND).await
}

async fn probed(Shared(api): Shared<Api>, uri: Uri, Query(parameters): Parameters) -> Answer {
    known(&parameters, &["node", "source", "destination", "protocol", "sourcePort", "port", "length"])?;
    of_one_node(&api, &uri, &parameters, ProbeItem::KIND).await
}

/// What makes no sense on every node at once.
async fn of_one_node(api: &Api, uri: &Uri, parameters: &BTreeMap<String, String>, kind: &str) -> Answer {
    let node = parameters.get("node").map(NodeName::new);
    let node = node.ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, "node is missing: on which one?"))?;
    relay_to(api, Some(node), uri, kind, Vec::new()).await
}

async fn flows(Shared(api): Shared<Api>, uri: Uri, Query(parameters): Parameters) -> Answer {
    known(&parameters, &["node", "pod", "policy", "service", "table"])?;
    concerning(&api, &uri, &parameters, FlowItem::KIND, Vec::new()).await
}

async fn services(Shared(api): Shared<Api>, uri: Uri, Query(parameters): Parameters) -> Answer {
    known(&parameters, &["node", "namespace", "service"])?;
    let beside = beside_the_data_path(&api, &parameters).await?;
    if let Some(wanted) = parameters.get("service").cloned().filter(|_| !beside.is_empty())
        && !api.owner.read(move |state| state.index().has_service(&wanted)).await?
    {
        // No agent knows of it.
        return list(beside);
    }
    let beside = beside.iter().filter_map(|item| serde_json::to_value(item).ok()).collect();
    concerning(&api, &uri, &parameters, ServiceItem::KIND, beside).await
}

/// The Services that are asked for and that no node balances.
async fn beside_the_data_path(
    api: &Api,
    parameters: &BTreeMap<String, String>,
) -> Result<Vec<ServiceItem>, Failure> {
    if parameters.contains_key("node") {
        return Ok(Vec::new());
    }
    let (service, namespace) = (parameters.get("service").cloned(), parameters.get("namespace").cloned());
    let is_asked = move |key: &NamespacedName| {
        service.as_ref().is_none_or(|text| key.to_string() == *text || key.name() == *text)
            && namespace.as_ref().is_none_or(|namespace| key.namespace() == *namespace)
    };
    let items = api.owner.read(move |state| -> Vec<ServiceItem> {
        let beside = state.index().beside_the_data_path().filter(|service| is_asked(&service.key));
        beside.map(|service| api::services::item(None, &service, |_, _| None, &[])).collect()
    });
    Ok(items.await?)
}

async fn drops(Shared(api): Shared<Api>, uri: Uri, Query(parameters): Parameters) -> Answer {
    known(&parameters, &["node", "pod"])?;
    concerning(&api, &uri, &parameters, DropItem::KIND, Vec::new()).await
}

async fn about_policy<T: Item>(Shared(api): Shared<Api>, uri: Uri, Query(parameters): Parameters) -> Answer {
    known(&parameters, &["node", "policy"])?;
    concerning(&api, &uri, &parameters, T::KIND, Vec::new()).await
}

/// What agents know about a pod, a policy or a Service, and `more` behind it.
async fn concerning(
    api: &Api,
    uri: &Uri,
    parameters: &BTreeMap<String, String>,
    kind: &str,
    more: Vec<serde_json::Value>,
) -> Answer {
    let mut node = parameters.get("node").map(NodeName::new);
    if let Some(pod) = parameters.get("pod") {
        let key: NamespacedName = pod.parse().map_err(|error: network::name::NameError| {
            Failure::new(StatusCode::BAD_REQUEST, error.to_string())
        })?;
        // Only the pod's own node has flows of it.
        let place = {
            let key = key.clone();
            api.owner.read(move |state| state.index().pod_node(&key).map(|node| node.cloned())).await?
        };
        match place {
            None => {
                let error = format!("there is no pod {key}; see `ferrule get pods`");
                return Err(Failure::new(StatusCode::NOT_FOUND, error));
            }
            Some(place) => node = node.or(place),
        }
    }
    // No flow at all is an answer; that of a policy which is not there would mislead.
    if let Some(policy) = parameters.get("policy") {
        let wanted = policy.clone();
        if !api.owner.read(move |state| status::has_policy(state, &wanted)).await? {
            let error = format!("there is no policy {policy}; see `ferrule get policies`");
            return Err(Failure::new(StatusCode::NOT_FOUND, error));
        }
    }
    if let Some(service) = parameters.get("service") {
        let wanted = service.clone();
        if !api.owner.read(move |state| state.index().has_service(&wanted)).await? {
            let error = format!("there is no Service {service} to be balanced; see `ferrule get services`");
            return Err(Failure::new(StatusCode::NOT_FOUND, error));
        }
    }
    relay_to(api, node, uri, kind, more).await
}

async fn relay_to(
    api: &Api,
    node: Option<NodeName>,
    uri: &Uri,
    kind: &str,
    more: Vec<serde_json::Value>,
) -> Answer {
    let path = uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string);
    match relay::ask(&api.owner, node.clone(), path, kind).await? {
        Relayed::List(mut list) => {
            list.items.extend(more);
            Ok(axum::Json(list).into_response())
        }
        Relayed::NoSuchNode => {
            let node = node.map(|node| node.to_string()).unwrap_or_default();
            let error = format!("there is no node {node}; see `ferrule get nodes`");
            Err(Failure::new(StatusCode::NOT_FOUND, error))
        }
        Relayed::Refused { status, body } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
        }
    }
}
