//! HTTP around the answers. It must not know what is asked.

use axum::Router;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::UnixListener;

use super::Insight;

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

async fn respond(insight: &Insight, method: &Method, uri: &Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let answer = insight.answer(path).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response()
}
