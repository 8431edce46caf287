//! Reads what a controller or an agent answers over HTTP (`api::insight`), on a unix socket or over TCP. One request per
//! connection, HTTP/1.0, so that the end of an answer is the end of the stream.

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use api::insight::{self, List};
use serde::de::DeserializeOwned;

use crate::bundle::Bundle;
use crate::error::{Error, Result};

/// How long an answer may take; an agent is asked through its controller, which waits less.
const LIMIT: Duration = Duration::from_secs(30);

/// The longest answer that is read, in bytes: a million flows.
const MAX_ANSWER: u64 = 512 << 20;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// `HOST:PORT` over TCP.
    Tcp(String),
    /// A bundle, which answers in their place.
    Bundle(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.strip_prefix("//").unwrap_or(path).into()));
        }
        match text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')) {
            Some(host) if !host.is_empty() && !host.contains('/') => {
                let has_port = host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
                let bare_v6 = host.ends_with(']');
                Ok(Self::Tcp(if has_port && !bare_v6 { host.to_owned() } else { format!("{host}:80") }))
            }
            _ => Err(format!("`{text}` is no address: write unix:PATH or http://HOST:PORT")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host) => write!(f, "http://{host}"),
            Self::Bundle(path) => write!(f, "bundle {}", path.display()),
        }
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Endpoint {
    /// `GET /v1alpha1/RESOURCE?QUERY`, as a list of items.
    pub fn list<T: DeserializeOwned>(&self, resource: &str, query: &[(&str, &str)]) -> Result<List<T>> {
        let path = path(resource, query);
        if let Self::Bundle(file) = self {
            let bundle = Bundle::read(file).map_err(Error::Bundle)?;
            let answer = bundle.answer(resource, query).map_err(|what| self.error(what))?;
            return serde_json::from_value(answer).map_err(|error| self.unexpected(&path, &error));
        }
        serde_json::from_slice(&self.get(&path)?).map_err(|error| self.unexpected(&path, &error))
    }

    /// `POST /v1alpha1/RESOURCE?QUERY`: has something changed or done; what came of it, as a list of items.
    pub fn post<T: DeserializeOwned>(&self, resource: &str, query: &[(&str, &str)]) -> Result<List<T>> {
        let path = path(resource, query);
        let body = self.request("POST", &path)?;
        serde_json::from_slice(&body).map_err(|error| self.unexpected(&path, &error))
    }

    fn unexpected(&self, path: &str, error: &serde_json::Error) -> Error {
        self.error(format!(
            "answered {path} with something unexpected ({error}): is it a Ferrule of this version?"
        ))
    }

    /// The body of a successful answer.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        self.request("GET", path)
    }

    fn request(&self, method: &str, path: &str) -> Result<Vec<u8>> {
        let mut stream = self.connect()?;
        let host = match self {
            Self::Unix(_) => "ferrule",
            Self::Tcp(host) => host,
            Self::Bundle(_) => "",
        };
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\nContent-Length: 0\r\n\r\n"
        );
        let mut answer = Vec::new();
        stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.take(MAX_ANSWER).read_to_end(&mut answer))
            .map_err(|error| self.error(format!("did not answer {path}: {error}")))?;
        let (status, body) = split(&answer)
            .ok_or_else(|| self.error(format!("answered {path} with something that is not HTTP")))?;
        if (200..300).contains(&status) {
            return Ok(body.to_vec());
        }
        let said = serde_json::from_slice::<insight::Error>(body)
            .map_or_else(|_| String::from_utf8_lossy(body).trim().to_owned(), |error| error.error);
        Err(self.error(format!("refused {path} ({status}): {said}")))
    }

    fn connect(&self) -> Result<Box<dyn Stream>> {
        let failed = |error: std::io::Error| self.error(format!("cannot be reached: {error}"));
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(failed)?;
                stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
                Ok(Box::new(stream))
            }
            Self::Tcp(host) => {
                let address = host
                    .to_socket_addrs()
                    .map_err(failed)?
                    .next()
                    .ok_or_else(|| self.error("has no address".to_owned()))?;
                let stream = TcpStream::connect_timeout(&address, LIMIT).map_err(failed)?;
                stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
                Ok(Box::new(stream))
            }
            Self::Bundle(_) => {
                Err(self.error("answers lists only, and nothing can be done to it".to_owned()))
            }
        }
    }

    fn error(&self, what: String) -> Error {
        Error::Http { endpoint: self.to_string(), what }
    }
}

fn path(resource: &str, query: &[(&str, &str)]) -> String {
    let mut path = format!("/v1alpha1/{resource}");
    for (index, (key, value)) in query.iter().enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(&format!("{key}={}", encoded(value)));
    }
    path
}

/// Status and body.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut words = head.lines().next()?.split(' ');
    let version = words.next()?;
    let status = words.next()?.parse().ok()?;
    version.starts_with("HTTP/1.").then_some((status, answer.get(end + 4..)?))
}

/// RFC 3986 §2.1: everything but the unreserved characters as `%XX`.
fn encoded(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_and_others_are_explained() {
        for (text, shown) in [
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
            ("http://10.0.0.1:7471/", "http://10.0.0.1:7471"),
            ("http://[fd00::1]", "http://[fd00::1]:80"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for bad in ["", "unix:", "/run/x.sock", "https://x", "http://"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_is_split_and_a_cut_one_is_refused() {
        assert_eq!(split(b"HTTP/1.0 404 Not Found\r\nx: y\r\n\r\nbody"), Some((404, &b"body"[..])));
        assert_eq!(split(b"HTTP/1.0 200 OK\r\n"), None);
        assert_eq!(split(b"SSH-2.0\r\n\r\n"), None);
        assert_eq!(encoded("shop/cart 0&x"), "shop/cart%200%26x");
    }

    #[test]
    fn the_error_of_the_other_side_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n{\"error\":\"no node x\"}").unwrap();
        });
        let error = Endpoint::Unix(path).get("/v1alpha1/nodes").unwrap_err().to_string();
        server.join().unwrap();
        assert!(error.contains("404") && error.ends_with("no node x"), "{error}");
    }
}
