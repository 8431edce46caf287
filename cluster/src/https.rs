//! One HTTP request per connection, over TLS or plain, from inside a network namespace: enough to ask the servers of a control
//! plane for something now and then. HTTP/1.0, so that the end of an answer is the end of the stream.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::error::{Context, Error, Result};

/// How long a server may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 256 << 20;

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Path and query.
    pub path: &'a str,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: &'a str,
}

impl<'a> Request<'a> {
    /// Of something that is there.
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, content_type: "application/json", body: "" }
    }

    pub(crate) fn text(&self) -> String {
        let Self { method, path, content_type, body } = self;
        let length = body.len();
        format!(
            "{method} {path} HTTP/1.0\r\nAccept: application/json\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    server: &'static str,
    /// The status code of HTTP.
    pub status: u16,
    /// What followed the headers.
    pub body: String,
}

impl Answer {
    /// The body of an answer that says so; an error with what it says otherwise.
    pub fn success(self) -> Result<String> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let what = format!("answered {}: {}", self.status, self.body.trim());
        Err(Error::Answer { server: self.server, what })
    }
}

/// A server, as errors call it, and where it is.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name.
    pub name: &'static str,
    /// The file of its namespace.
    pub namespace: PathBuf,
    /// Where it listens there.
    pub address: SocketAddr,
}

impl Server {
    /// Asks in plain HTTP.
    pub fn plain(&self, request: &str) -> Result<Answer> {
        self.exchange(request, Ok)
    }

    /// Asks over TLS, with a client certificate.
    pub fn tls(&self, request: &str, ca: &Path, certificate: &Path, key: &Path) -> Result<Answer> {
        let bad = |what: String| Error::Answer { server: self.name, what };
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|error| bad(format!("has an authority that cannot be used: {error}")))?;
        }
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| bad(format!("cannot be asked with the key in {}: {error}", key.display())))?;
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(certificate)?, key)
            .map_err(|error| bad(format!("cannot be asked with {}: {error}", certificate.display())))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let connection = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| bad(format!("cannot be asked over TLS: {error}")))?;
        self.exchange(request, |stream| Ok(StreamOwned::new(connection, stream)))
    }

    fn exchange<S: Read + Write + Send>(
        &self,
        request: &str,
        secure: impl FnOnce(TcpStream) -> Result<S> + Send,
    ) -> Result<Answer> {
        let what = || format!("ask {} at {}", self.name, self.address);
        lab::netns::run(&self.namespace, || {
            let stream = TcpStream::connect_timeout(&self.address, LIMIT).context(what)?;
            stream.set_read_timeout(Some(LIMIT)).context(what)?;
            stream.set_write_timeout(Some(LIMIT)).context(what)?;
            let mut stream = secure(stream)?;
            stream.write_all(request.as_bytes()).context(what)?;
            let mut answer = Vec::new();
            match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
                Ok(_) => {}
                // A server that closes without TLS's own farewell has still said everything that its headers promise.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error).context(what),
            }
            self.read(&String::from_utf8_lossy(&answer))
        })?
    }

    fn read(&self, answer: &str) -> Result<Answer> {
        let bad = |what: String| Error::Answer { server: self.name, what };
        let (head, body) =
            answer.split_once("\r\n\r\n").ok_or_else(|| bad("closed without an answer".to_owned()))?;
        let line = head.lines().next().unwrap_or_default();
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| bad(format!("answered `{line}`, which is not HTTP")))?;
        Ok(Answer { server: self.name, status, body: body.to_owned() })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error| Error::Io {
        what: format!("read the certificate {}", path.display()),
        source: std::io::Error::other(error),
    })
}
