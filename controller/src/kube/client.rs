//! Requests to the API server, answers into [`Page`]s and [`Event`]s. Knows no states; every failure is one that
//! [`reflector`](super::reflector) knows what to do about.

use std::path::Path;
use std::time::Duration;

use ::kube::client::Body;
use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::{Client, Config};
use axum::http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use objects::live::{Seen, lean};
use serde_json::Value;

use super::kinds::Kind;
use super::reflector::{Event, Failure, Page};

/// Objects per page.
const PAGE: usize = 500;
/// An answer that does not begin, or a page that does not go on, for this long is none.
const PATIENCE: Duration = Duration::from_secs(20);
/// The server ends a watch after this long; servers send bookmarks every minute.
const WATCH_SECONDS: u64 = 290;
/// A watch that was silent for this long is dead: bookmarks come every minute.
const SILENCE: Duration = Duration::from_secs(150);
/// An object is at most 1.5 MiB in etcd.
const MAX_EVENT_BYTES: usize = 8 << 20;
/// A page of the largest objects.
const MAX_PAGE_BYTES: usize = 1 << 30;
/// Where the token and the CA of a pod are.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How the API server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// By a kubeconfig.
    Kubeconfig(std::path::PathBuf),
    /// As a pod, with its service account.
    InCluster,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: {error}")]
pub struct AccessError {
    flag: String,
    error: String,
}

/// The way to the API server.
#[derive(Clone)]
pub struct Api {
    client: Client,
    namespace: Option<String>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    /// Reads what is needed; connects when it is asked for something. `server` takes the place of the address in the
    /// configuration.
    pub async fn open(access: &Access, server: Option<&str>) -> Result<Self, AccessError> {
        let (flag, config) = match access {
            Access::Kubeconfig(path) => {
                (format!("--kubeconfig {}", path.display()), from_kubeconfig(path).await)
            }
            Access::InCluster => ("--in-cluster".to_owned(), in_cluster(server.is_some())),
        };
        let failed = |error: String| AccessError { flag: flag.clone(), error };
        let mut config = config.map_err(failed)?;
        if let Some(server) = server {
            let wrong = |error: String| AccessError { flag: format!("--api-server {server}"), error };
            let url: axum::http::Uri = server.parse().map_err(|error| wrong(format!("{error}")))?;
            if url.scheme_str().is_none_or(|scheme| scheme != "https" && scheme != "http") {
                return Err(wrong("write https://HOST:PORT".into()));
            }
            config.cluster_url = url;
        }
        config.connect_timeout = Some(Duration::from_secs(5));
        // The reflector decides what is tried again, and when.
        config.default_retry = false;
        let namespace = matches!(access, Access::InCluster).then(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| failed(error.to_string()))?;
        Ok(Self { client, namespace })
    }

    /// The namespace that the controller runs in, when it is a pod.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// A page of a kind's list, which is consistent: it contains everything that was there when it was asked for.
    pub async fn list(&self, kind: &Kind, next: Option<&str>, limit: usize) -> Result<Page<Seen>, Failure> {
        let mut path = format!("{}?limit={limit}", kind.path());
        if let Some(next) = next {
            path = format!("{path}&continue={}", encoded(next));
        }
        let body = self.answer(Method::GET, &path, None).await?;
        let page = lean::page(kind.name, &body).map_err(|error| broken(&error))?;
        let metadata = &page["metadata"];
        let version = kind.api_version();
        let revision = revision(metadata)?;
        let next = metadata["continue"].as_str().filter(|next| !next.is_empty()).map(str::to_owned);
        let remaining = metadata["remainingItemCount"].as_u64();
        let objects = match page {
            Value::Object(mut page) => match page.remove("items") {
                Some(Value::Array(items)) => {
                    items.into_iter().map(|item| Seen::of(kind.name, &version, item)).collect()
                }
                _ => Vec::new(),
            },
            _ => return Err(Failure::Broken("the list is no object".into())),
        };
        Ok(Page { objects, revision, next, remaining })
    }

    /// The next page as large as they are.
    pub async fn page(&self, kind: &Kind, next: Option<&str>) -> Result<Page<Seen>, Failure> {
        self.list(kind, next, PAGE).await
    }

    /// The versions of its group in which the server has a kind, other than the one that is read.
    pub async fn other_versions(&self, kind: &Kind) -> Result<Vec<String>, Failure> {
        let group = format!("/apis/{}", kind.group);
        let found = self.json(Method::GET, &group, None).await?;
        let mut others = Vec::new();
        for version in found["versions"].as_array().into_iter().flatten() {
            let Some(version) = version["version"].as_str().filter(|version| *version != kind.version) else {
                continue;
            };
            let path = format!("{group}/{}", encoded(version));
            let resources = self.json(Method::GET, &path, None).await?;
            let mut resources = resources["resources"].as_array().into_iter().flatten();
            if resources.any(|resource| resource["name"] == kind.plural) {
                others.push(version.to_owned());
            }
        }
        Ok(others)
    }

    /// Opens a watch: of what changed since `from`, or of everything.
    pub async fn watch(&self, kind: &Kind, from: Option<u64>) -> Result<Watch, Failure> {
        let path =
            format!("{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}", kind.path());
        let path = match from {
            Some(revision) => format!("{path}&resourceVersion={revision}"),
            None => format!("{path}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
        };
        let response = self.send(Method::GET, &path, None).await?;
        let response = accepted(response).await?;
        Ok(Watch {
            kind: *kind,
            version: kind.api_version(),
            body: response.into_body(),
            buffer: Vec::new(),
            searched: 0,
        })
    }

    /// Reads or writes one thing as JSON.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let answer = self.answer(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(|error| broken(&error))
    }

    async fn answer(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Vec<u8>, Failure> {
        let response = accepted(self.send(method, path, body).await?).await?;
        collect(response.into_body(), MAX_PAGE_BYTES).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Body>, Failure> {
        // A patch is a server-side apply, for which JSON is YAML.
        let kind = if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, kind)
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string().into_bytes())))
            .map_err(|error| broken(&error))?;
        match tokio::time::timeout(PATIENCE, self.client.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(Failure::Broken(format!("no answer within {PATIENCE:?}"))),
        }
    }
}

/// An open watch.
pub struct Watch {
    kind: Kind,
    version: String,
    body: Body,
    buffer: Vec<u8>,
    /// Bytes of the buffer without an end of line.
    searched: usize,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({})", self.kind.plural)
    }
}

impl Watch {
    /// The next event; `None` when the server ended the watch. May be cancelled without losing anything.
    pub async fn next(&mut self) -> Option<Event<Seen>> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let end = self.searched + length;
                let event = self.event(&self.buffer[..end]);
                self.buffer.drain(..=end);
                self.searched = 0;
                return Some(event);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_EVENT_BYTES {
                return Some(Event::Failed(Failure::Broken("an event of more than 8 MiB".into())));
            }
            match tokio::time::timeout(SILENCE, self.body.frame()).await {
                Err(_) => {
                    return Some(Event::Failed(Failure::Broken(format!(
                        "nothing was heard for {SILENCE:?}"
                    ))));
                }
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some(Event::Failed(broken(&error))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn event(&self, line: &[u8]) -> Event<Seen> {
        let parsed = lean::event(self.kind.name, line).map_err(|error| broken(&error));
        parsed.and_then(|event| self.read(event)).unwrap_or_else(Event::Failed)
    }

    fn read(&self, mut event: Value) -> Result<Event<Seen>, Failure> {
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        let seen = |object| Seen::of(self.kind.name, &self.version, object);
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => {
                let revision = revision(&object["metadata"])?;
                Ok(Event::There(seen(object), revision))
            }
            Some("DELETED") => {
                let revision = revision(&object["metadata"])?;
                Ok(Event::Gone(seen(object), revision))
            }
            Some("BOOKMARK") => {
                let complete = &object["metadata"]["annotations"]["k8s.io/initial-events-end"];
                Ok(Event::Bookmark(revision(&object["metadata"])?, complete == "true"))
            }
            Some("ERROR") => {
                let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
                let message = object["message"].as_str().unwrap_or("no reason given").to_owned();
                Err(failure(code, message, None))
            }
            other => Err(Failure::Broken(format!("an event of type {other:?}"))),
        }
    }
}

fn revision(metadata: &Value) -> Result<u64, Failure> {
    let text = metadata["resourceVersion"].as_str().unwrap_or_default();
    text.parse().map_err(|_| Failure::Broken(format!("`{text}` is no resourceVersion of etcd (a number)")))
}

/// The answer if it is a good one, else why not.
async fn accepted(response: Response<Body>) -> Result<Response<Body>, Failure> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let body = collect(response.into_body(), MAX_EVENT_BYTES).await.unwrap_or_default();
    let message = match serde_json::from_slice::<Value>(&body) {
        Ok(answer) if answer["message"].is_string() => {
            answer["message"].as_str().unwrap_or_default().to_owned()
        }
        _ => String::from_utf8_lossy(&body).chars().take(200).collect::<String>().trim().to_owned(),
    };
    let message = if message.is_empty() { status.to_string() } else { message };
    Err(failure(status.as_u16(), message, after))
}

fn failure(code: u16, message: String, after: Option<Duration>) -> Failure {
    match StatusCode::from_u16(code) {
        Ok(StatusCode::GONE) => Failure::Expired,
        // "Too large resource version": the server is behind what was asked for, or was restored.
        Ok(StatusCode::GATEWAY_TIMEOUT) => Failure::Busy { message, after },
        Ok(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Failure::Forbidden(message),
        Ok(StatusCode::NOT_FOUND) => Failure::NotFound,
        Ok(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => Failure::Refused(message),
        Ok(StatusCode::CONFLICT) => Failure::Conflict(message),
        Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
            Failure::Busy { message, after }
        }
        _ => Failure::Broken(format!("{code}: {message}")),
    }
}

async fn collect(mut body: Body, most: usize) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, body.frame()).await {
            Err(_) => return Err(Failure::Broken(format!("the answer stopped for {PATIENCE:?}"))),
            Ok(None) => return Ok(all),
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    all.extend_from_slice(&data);
                }
            }
        }
        if all.len() > most {
            return Err(Failure::Broken(format!("an answer of more than {most} bytes")));
        }
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::Broken(crate::run::chain(error))
}

/// Percent-encoding of a query's value.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

async fn from_kubeconfig(path: &Path) -> Result<Config, String> {
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| crate::run::chain(&error))?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| crate::run::chain(&error))
}

/// The environment names a ClusterIP, which needs us to be reachable; with an address of one's own it is not asked.
fn in_cluster(has_address: bool) -> Result<Config, String> {
    if !Path::new(SERVICE_ACCOUNT).join("token").exists() {
        return Err(format!("{SERVICE_ACCOUNT}/token is not there: not in a pod? give --kubeconfig FILE"));
    }
    let config = if has_address { Config::incluster_dns() } else { Config::incluster_env() };
    config.map_err(|error| crate::run::chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        let kind = super::super::kinds::WATCHED[2];
        Watch { kind, version: "v1".into(), body: Body::empty(), buffer: Vec::new(), searched: 0 }
    }

    #[test]
    fn events_of_all_types() {
        let read = |line: &str| watch().event(line.as_bytes());
        let pod = r#"{"metadata":{"name":"a","namespace":"b","resourceVersion":"12"}}"#;
        let Event::There(seen, 12) = read(&format!(r#"{{"type":"ADDED","object":{pod}}}"#)) else { panic!() };
        assert_eq!(seen.object.to_string(), "Pod b/a");
        assert!(matches!(read(&format!(r#"{{"type":"DELETED","object":{pod}}}"#)), Event::Gone(_, 12)));
        let bookmark = |annotations: &str| {
            let line = format!(
                r#"{{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"9"{annotations}}}}}}}"#
            );
            match read(&line) {
                Event::Bookmark(9, complete) => complete,
                _ => panic!("{line}"),
            }
        };
        assert!(!bookmark(""));
        assert!(bookmark(r#","annotations":{"k8s.io/initial-events-end":"true"}"#));
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#;
        assert!(matches!(read(gone), Event::Failed(Failure::Expired)));
        for bad in ["{", r#"{"type":"ADDED","object":{}}"#, r#"{"type":"NEW"}"#] {
            assert!(matches!(read(bad), Event::Failed(Failure::Broken(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn lines_are_found_whatever_the_frames() {
        let mut watch = watch();
        watch.body = Body::from(
            b"{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n{\"type\":\"B"
                .to_vec(),
        );
        assert!(matches!(watch.next().await, Some(Event::Bookmark(9, false))));
        // The server ended in the middle of a line.
        assert!(watch.next().await.is_none());
    }

    #[test]
    fn codes_are_told_apart() {
        let of = |code| failure(code, "x".into(), Some(Duration::from_secs(3)));
        assert_eq!(of(410), Failure::Expired);
        assert_eq!(of(403), Failure::Forbidden("x".into()));
        assert_eq!(of(429), Failure::Busy { message: "x".into(), after: Some(Duration::from_secs(3)) });
        assert_eq!(of(422), Failure::Refused("x".into()));
        assert_eq!(of(500), Failure::Broken("500: x".into()));
        assert_eq!(encoded("a+b/c=="), "a%2Bb%2Fc%3D%3D");
    }
}
