//! Answers load balancers over HTTP on the health-check node ports. It is told what to answer; it must not know Services.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::health_check::HealthChecks;

/// Before a port that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// Ports of this node, each with the task that answers; they end with this.
#[derive(Default)]
struct Listening(BTreeMap<SocketAddr, AbortHandle>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

/// Serves until whoever says what to answer ends.
pub async fn run(mut wanted: watch::Receiver<Arc<HealthChecks>>) {
    let mut listening = Listening::default();
    loop {
        let now = Arc::clone(&wanted.borrow_and_update());
        let failed = follow(&mut listening.0, &now, &wanted);
        let changed = if failed {
            tokio::time::timeout(RETRY, wanted.changed()).await.unwrap_or(Ok(()))
        } else {
            wanted.changed().await
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Opens what is missing and closes what is too much; whether something could not be opened.
fn follow(
    listening: &mut BTreeMap<SocketAddr, AbortHandle>,
    now: &HealthChecks,
    wanted: &watch::Receiver<Arc<HealthChecks>>,
) -> bool {
    listening.retain(|at, task| {
        let stays = now.addresses.contains(&at.ip()) && now.checks.contains_key(&at.port());
        if !stays || task.is_finished() {
            task.abort();
        }
        stays && !task.is_finished()
    });
    let mut failed = false;
    for at in now.addresses.iter().flat_map(|ip| now.checks.keys().map(|port| SocketAddr::new(*ip, *port))) {
        if listening.contains_key(&at) {
            continue;
        }
        match open(at) {
            Ok(listener) => {
                let task = tokio::spawn(serve(listener, at.port(), wanted.clone()));
                listening.insert(at, task.abort_handle());
            }
            Err(error) => {
                let service = now.checks.get(&at.port()).map(|check| check.service.to_string());
                tracing::warn!(%error, %at, service, "the health check of a Service cannot be answered; trying again");
                failed = true;
            }
        }
    }
    failed
}

/// A node's address may come and go with its switch: it need not be there to listen at it.
fn open(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match at.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

async fn serve(listener: TcpListener, port: u16, wanted: watch::Receiver<Arc<HealthChecks>>) {
    let router = Router::new().fallback(move || {
        let now = Arc::clone(&wanted.borrow());
        async move { respond(&now, port) }
    });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, port, "the health check of a Service is not answered any more");
    }
}

fn respond(now: &HealthChecks, port: u16) -> Response {
    let Some(check) = now.checks.get(&port) else { return StatusCode::NOT_FOUND.into_response() };
    let answer = check.answer(now.is_serving);
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/json".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff".to_owned()),
        ("x-load-balancing-endpoint-weight", answer.weight.to_string()),
    ];
    (status, headers, answer.body).into_response()
}

#[cfg(test)]
mod tests {
    use network::NamespacedName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::health_check::HealthCheck;

    fn checks(port: u16, local_endpoints: usize) -> Arc<HealthChecks> {
        let check = HealthCheck { service: NamespacedName::new("shop", "web"), local_endpoints };
        let localhost = IpAddr::from([127, 0, 0, 1]);
        Arc::new(HealthChecks {
            addresses: [localhost].into(),
            checks: [(port, check)].into(),
            is_serving: true,
        })
    }

    async fn ask(port: u16) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.to_lowercase())
    }

    #[tokio::test]
    async fn a_port_opens_answers_what_is_so_now_and_closes() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (say, wanted) = watch::channel(checks(free, 2));
        let mut listening = BTreeMap::new();
        assert!(!follow(&mut listening, &checks(free, 2), &wanted));
        let answer = ask(free).await.unwrap();
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        assert!(answer.contains("x-load-balancing-endpoint-weight: 2"), "{answer}");
        assert!(answer.contains(r#""localendpoints": 2"#), "{answer}");
        say.send_replace(checks(free, 0));
        assert!(ask(free).await.unwrap().starts_with("http/1.1 503"));
        assert!(!follow(&mut listening, &HealthChecks::default(), &wanted));
        assert!(listening.is_empty());
    }

    #[tokio::test]
    async fn a_port_that_somebody_else_has_is_tried_again() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let (_say, wanted) = watch::channel(checks(port, 1));
        let mut listening = BTreeMap::new();
        assert!(follow(&mut listening, &checks(port, 1), &wanted));
        drop(other);
        assert!(!follow(&mut listening, &checks(port, 1), &wanted));
        assert!(ask(port).await.unwrap().starts_with("http/1.1 200"));
    }
}
