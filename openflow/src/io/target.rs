//! Where a switch listens, in ovs-ofctl's notation.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A switch's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `unix:PATH`, for example `unix:/run/openvswitch/br-int.mgmt`.
    Unix(PathBuf),
    /// `tcp:HOST:PORT`.
    Tcp(String),
}

/// Not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a switch's address; write unix:PATH or tcp:HOST:PORT")]
pub struct TargetError(pub String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Target::Unix(path.into())),
            Some(("tcp", address)) if address.contains(':') => Ok(Target::Tcp(address.to_owned())),
            _ => Err(TargetError(text.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

impl Target {
    pub(super) async fn open(&self) -> io::Result<Box<dyn Transport>> {
        Ok(match self {
            Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_written() {
        for text in ["unix:/run/openvswitch/br-int.mgmt", "tcp:127.0.0.1:6653"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["unix:", "tcp:host", "ssl:1.2.3.4:5", ""] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
