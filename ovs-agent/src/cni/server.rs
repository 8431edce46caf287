//! The CNI socket: one request and one reply per connection. It must not know commands.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use api::cni::{Command, Failure, Reply, Request, code};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::attach::Attacher;
use crate::metrics::{CniLabels, CommandLabel, Metrics};

/// The largest request in bytes; a GC lists every container of the node.
const REQUEST_LIMIT: u64 = 4 << 20;
/// How long a request may take to arrive, and a reply to leave.
const TRANSFER_LIMIT: Duration = Duration::from_secs(10);
/// Requests that are carried out at the same time.
const AT_ONCE: usize = 64;

/// Serves until the process ends.
pub async fn run(
    listener: UnixListener,
    attacher: Attacher,
    metrics: Arc<Metrics>,
    clock: fn() -> SystemTime,
) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (attacher, metrics) = (attacher.clone(), Arc::clone(&metrics));
                tokio::spawn(async move {
                    serve(stream, &attacher, &metrics, clock).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: others will be freed.
                tracing::warn!(%error, "cannot accept a CNI request");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, attacher: &Attacher, metrics: &Metrics, clock: fn() -> SystemTime) {
    let began = Instant::now();
    let (command, pod, reply) = match timeout(TRANSFER_LIMIT, read(&mut stream)).await {
        Ok(Ok(Some(request))) => {
            let (command, pod) = (name(&request.command), pod(&request.command));
            let (early, assigned) = oneshot::channel();
            let work = attacher.carry_out(request, clock(), early);
            tokio::pin!(work);
            let reply = tokio::select! {
                reply = &mut work => reply,
                Ok(answer) = assigned => {
                    // Who went away is told of by the answer.
                    let _ = stream.write_all(&encode(&Reply::Assigned(answer))).await;
                    work.await
                }
            };
            (command, pod, reply)
        }
        // Somebody looked whether the agent listens.
        Ok(Ok(None)) => return,
        Ok(Err(failure)) => ("UNREADABLE", None, Reply::Failed(failure)),
        Err(_) => ("UNREADABLE", None, Reply::Failed(decode("the request did not arrive in time".into()))),
    };
    let (code, error) = match &reply {
        Reply::Failed(failure) => (failure.code, Some(failure.msg.as_str())),
        Reply::Assigned(_) | Reply::Added(_) | Reply::Done => (0, None),
    };
    let elapsed = began.elapsed();
    metrics.cni_requests.get_or_create(&CniLabels { command, code }).inc();
    metrics.cni_seconds.get_or_create(&CommandLabel { command }).observe(elapsed.as_secs_f64());
    tracing::info!(command, code, pod, error, elapsed_ms = elapsed.as_micros() as f64 / 1e3, "CNI");
    let text = encode(&reply);
    let written = timeout(TRANSFER_LIMIT, async {
        stream.write_all(&text).await?;
        stream.shutdown().await
    });
    if !matches!(written.await, Ok(Ok(()))) {
        tracing::warn!(command, "ferrule-cni went away before its answer");
    }
}

fn encode(reply: &Reply) -> Vec<u8> {
    // Strings, numbers and addresses, which JSON always takes.
    serde_json::to_vec(reply).unwrap_or_default()
}

async fn read(stream: &mut UnixStream) -> Result<Option<Request>, Failure> {
    let mut text = Vec::new();
    let read = stream.take(REQUEST_LIMIT + 1).read_to_end(&mut text).await;
    read.map_err(|error| Failure {
        code: code::IO,
        msg: format!("cannot read the request: {error}"),
        details: String::new(),
    })?;
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() as u64 > REQUEST_LIMIT {
        return Err(decode(format!("the request is longer than {REQUEST_LIMIT} bytes")));
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| decode(format!("the request cannot be read: {error}")))
}

fn decode(msg: String) -> Failure {
    Failure { code: code::DECODE, msg, details: String::new() }
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Add(_) => "ADD",
        Command::Del(_) => "DEL",
        Command::Check(_) => "CHECK",
        Command::Status => "STATUS",
        Command::Gc { .. } => "GC",
    }
}

/// `namespace/name`, where the runtime says it: it does for what is made and checked.
fn pod(command: &Command) -> Option<String> {
    match command {
        Command::Add(request) | Command::Check(request) => {
            request.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name))
        }
        Command::Del(_) | Command::Status | Command::Gc { .. } => None,
    }
}

/// Listens at a path of ours; only root may connect. What an earlier agent left there is taken away.
pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
