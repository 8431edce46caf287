//! TLS under the agents' streams with a certificate that can be replaced while they go on. Knows where connections come
//! from, not where certificates do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at a time; who comes then waits to be accepted.
const AT_ONCE: usize = 256;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum UnusableError {
    /// Not PEM.
    #[error("the {0} is not in PEM")]
    Pem(&'static str),
    /// The key does not fit, or is of an unknown kind.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate that is presented to whoever connects from now on.
#[derive(Clone, Debug)]
pub struct Serving(Arc<Current>);

#[derive(Debug)]
struct Current {
    provider: Arc<CryptoProvider>,
    key: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

impl Serving {
    /// Begins with a certificate (with its chain) and key in PEM.
    pub fn new(certificate: &str, key: &str) -> Result<Self, UnusableError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = ArcSwap::from_pointee(certified(&provider, certificate, key)?);
        Ok(Self(Arc::new(Current { provider, key })))
    }

    /// Connections from now on are shown this one; those that are open go on.
    pub fn replace(&self, certificate: &str, key: &str) -> Result<(), UnusableError> {
        self.0.key.store(Arc::new(certified(&self.0.provider, certificate, key)?));
        Ok(())
    }

    /// The connections of a listener, each after its handshake.
    pub fn accept(&self, listener: TcpListener) -> Result<Incoming, UnusableError> {
        let config = ServerConfig::builder_with_provider(Arc::clone(&self.0.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::clone(&self.0) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (ready, incoming) = mpsc::channel(AT_ONCE);
        tokio::spawn(accept(listener, acceptor, ready));
        Ok(Incoming(incoming))
    }
}

fn certified(provider: &CryptoProvider, certificate: &str, key: &str) -> Result<CertifiedKey, UnusableError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes()).flatten().collect();
    if chain.is_empty() {
        return Err(UnusableError::Pem("certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| UnusableError::Pem("key"))?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, for example: what is open goes on, and the next one may be luckier.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let _turn = turn;
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                Ok(Err(error)) => tracing::info!(%peer, %error, "no TLS with this peer"),
                Err(_) => tracing::info!(%peer, "no TLS handshake from this peer in time"),
            }
        });
    }
}

/// Connections, after their handshake.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<io::Result<TlsStream<TcpStream>>>);

impl tokio_stream::Stream for Incoming {
    type Item = io::Result<TlsStream<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_said_and_does_not_replace_one() {
        let made = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key);
            (certificate.unwrap().pem(), key.serialize_pem())
        };
        let (a, b) = (made("a"), made("b"));
        let serving = Serving::new(&a.0, &a.1).unwrap();
        let shown = || serving.0.key.load().cert[0].clone();
        let first = shown();
        assert!(serving.replace("", &b.1).unwrap_err().to_string().contains("certificate"));
        assert!(serving.replace(&b.0, "").unwrap_err().to_string().contains("key"));
        assert!(serving.replace(&b.0, &a.1).is_err(), "the key of another one");
        assert_eq!(shown(), first);
        serving.replace(&b.0, &b.1).unwrap();
        assert_ne!(shown(), first);
    }
}
