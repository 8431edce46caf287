//! One GET over HTTPS, bounded in time and size. It must not know what is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const MOST: usize = 4 << 20;

/// A server, and what proves either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub url: Url,
    /// The authorities of its certificate (PEM); read at every use.
    pub authority: PathBuf,
    /// Our bearer token; read at every use.
    pub token: PathBuf,
}

/// `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write https://HOST:PORT, an IPv6 address in brackets".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) if bare => Ok(Self {
                host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
                port: uri.port_u16().unwrap_or(443),
            }),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// A file of ours.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The authorities.
    #[error("{} holds no certificate in PEM", .0.display())]
    Authority(PathBuf),
    /// The host's name or the token cannot be used.
    #[error("{0}")]
    Unfit(String),
    /// The network, TLS or HTTP.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("no answer within {} s", LIMIT.as_secs())]
    Late,
    /// The server says no.
    #[error("HTTP {status}: {body}")]
    Status {
        /// Its status.
        status: StatusCode,
        /// How its answer begins.
        body: String,
    },
}

/// Reads a path.
pub async fn get(server: &Server, path: &str) -> Result<Vec<u8>, GetError> {
    tokio::time::timeout(LIMIT, read(server, path)).await.unwrap_or(Err(GetError::Late))
}

async fn read(server: &Server, path: &str) -> Result<Vec<u8>, GetError> {
    let pem = file(&server.authority).await?;
    let token = file(&server.token).await?;
    let token = String::from_utf8_lossy(&token);
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&pem).flatten();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(GetError::Authority(server.authority.clone()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| GetError::Failed(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(server.url.host.clone())
        .map_err(|_| GetError::Unfit(format!("`{}` is no name of a host", server.url.host)))?;
    let failed = |what: &str, error: &dyn std::error::Error| {
        GetError::Failed(format!("{what}: {}", api::causes::with_sources(error)))
    };
    let tcp = TcpStream::connect((server.url.host.as_str(), server.url.port)).await;
    let tcp = tcp.map_err(|error| failed("cannot connect", &error))?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    let tls = tls.map_err(|error| failed("TLS", &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
        .await
        .map_err(|error| failed("HTTP", &error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, server.url.to_string().trim_start_matches("https://"))
        .header(header::ACCEPT, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
        .body(Empty::<Bytes>::new())
        .map_err(|error| GetError::Unfit(format!("{}: {error}", server.token.display())))?;
    let answer = sender.send_request(request).await.map_err(|error| failed("HTTP", &error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST).collect().await;
    let body = body.map_err(|error| GetError::Failed(format!("the answer: {error}")))?.to_bytes();
    connection.abort();
    if status != StatusCode::OK {
        let body = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        return Err(GetError::Status { status, body });
    }
    Ok(body.to_vec())
}

async fn file(path: &Path) -> Result<Vec<u8>, GetError> {
    tokio::fs::read(path).await.map_err(|error| GetError::File { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port_over_https() {
        let url = |text: &str| text.parse::<Url>().map(|url| url.to_string());
        assert_eq!(url("https://192.0.2.1:6443"), Ok("https://192.0.2.1:6443".into()));
        assert_eq!(url("https://[2001:db8::1]:6443/"), Ok("https://[2001:db8::1]:6443".into()));
        for bad in ["http://192.0.2.1:6443", "192.0.2.1:6443", "https://192.0.2.1/api", ""] {
            assert!(url(bad).unwrap_err().contains("https://HOST:PORT"), "{bad}");
        }
    }
}
