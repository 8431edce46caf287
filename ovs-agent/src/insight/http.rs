//! HTTP around the answers. It must not know what is asked.

use axum::Router;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::{TcpListener, UnixListener};

use super::{CHANGES, Insight};

/// Serves until the process ends.
pub async fn run(listener: UnixListener, insight: Insight) {
    let router = Router::new().fallback(move |method: Method, uri: Uri| {
        let insight = insight.clone();
        async move { respond(&insight, &method, &uri).await }
    });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the API socket ended");
    }
}

/// What monitoring asks, and nothing of the network.
pub async fn monitor(listener: TcpListener, insight: Insight) {
    let router = Router::new().fallback(move |method: Method, uri: Uri| {
        let insight = insight.clone();
        async move {
            if !["/metrics", "/healthz"].contains(&uri.path()) {
                return (StatusCode::NOT_FOUND, "/metrics and /healthz are here\n").into_response();
            }
            respond(&insight, &method, &uri).await
        }
    });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the metrics' address ended");
    }
}

async fn respond(insight: &Insight, method: &Method, uri: &Uri) -> Response {
    let changes = CHANGES.contains(&uri.path());
    let allowed = if changes { "POST" } else { "GET, HEAD" };
    if !allowed.split(", ").any(|word| word == method.as_str()) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allowed)]).into_response();
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let answer = insight.answer(path).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response()
}
