//! The controller's certificate, from a directory. Knows nothing of streams.
//!
//! Three cases: with `ca.key` the controller is its own authority and issues its certificate anew at every start and every
//! day, for the names that it listens on now; with `tls.crt` and `tls.key` alone it uses them as they are (somebody else
//! issues them); with nothing it makes an authority first. Agents need `ca.crt`. Files that are replaced count within
//! [`LOOK`], for connections from then on.
//!
//! To replace the authority, let `ca.crt` hold the old and the new certificate until every agent has read it, then replace
//! `ca.key`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::stream::SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use sha2::{Digest, Sha256};

use crate::clock::Moment;
use crate::serving::{Serving, UnusableError};
use crate::store::{self, StoreError};

/// How often the files are looked at.
pub const LOOK: Duration = Duration::from_secs(5);
/// How old a certificate of our own authority becomes.
const RENEW: Duration = Duration::from_secs(24 * 3600);
/// How long it is valid: a controller that cannot renew it for weeks is still believed.
const VALID: Duration = Duration::from_secs(90 * 24 * 3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or the directory.
    #[error(transparent)]
    File(#[from] StoreError),
    /// Only a part of what belongs together is there.
    #[error("{} has {present} but not {missing}: put both there, or neither", directory.display())]
    Half {
        /// Where.
        directory: PathBuf,
        /// What is there.
        present: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A key or certificate is not usable.
    #[error("{what}: {source}")]
    Crypto {
        /// What was tried, on which file.
        what: String,
        /// Why it failed.
        source: rcgen::Error,
    },
}

/// Certificate and key in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The certificate, with its chain.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerIdentity")
    }
}

/// What a controller's certificate is good for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Further names and addresses.
    pub more: Vec<String>,
}

/// Replaces what is served when files change, a day has passed or the clock was set; runs until the task is dropped.
pub async fn keep_fresh(directory: PathBuf, names: Names, serving: Serving) {
    let (mut issued, mut seen, mut trouble) = (now(), files(&directory), String::new());
    loop {
        tokio::time::sleep(LOOK).await;
        let is_old = issued.elapsed(now()) >= RENEW || issued.is_another_time(now());
        if !is_old && files(&directory) == seen {
            continue;
        }
        let (path, names) = (directory.clone(), names.clone());
        let renewed = tokio::task::spawn_blocking(move || {
            ServerIdentity::prepare(&path, &names.listen, &names.more).map_err(|error| error.to_string())
        });
        let renewed = renewed.await.unwrap_or_else(|error| Err(error.to_string()));
        match renewed
            .and_then(|it| serving.replace(&it.certificate, &it.key).map_err(|error| error.to_string()))
        {
            Ok(()) => {
                tracing::info!(path = %directory.display(), "a new certificate for agents that connect from now on");
                // With what was just written, or the next look would find it changed.
                (issued, seen) = (now(), files(&directory));
                trouble.clear();
            }
            Err(error) if error == trouble => {}
            Err(error) => {
                tracing::error!(error, path = %directory.display(), "the certificate is not renewed; the old one is served");
                trouble = error;
            }
        }
    }
}

/// Both clocks now.
pub fn now() -> Moment {
    Moment::new(SystemTime::now(), Instant::now())
}

/// What is in the files; a key is kept as short as it is needed.
fn files(directory: &Path) -> [Option<String>; 4] {
    ["ca.crt", "ca.key", "tls.crt", "tls.key"].map(|name| {
        let content = std::fs::read(directory.join(name)).ok()?;
        Some(Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect())
    })
}

impl ServerIdentity {
    /// From the directory; makes what is missing.
    pub fn prepare(directory: &Path, listen: &[SocketAddr], names: &[String]) -> Result<Self, TlsError> {
        std::fs::create_dir_all(directory).map_err(|source| StoreError {
            what: "create",
            path: directory.to_owned(),
            source,
        })?;
        let [ca_crt, ca_key, tls_crt, tls_key] =
            ["ca.crt", "ca.key", "tls.crt", "tls.key"].map(|name| directory.join(name));
        let half = |present, missing| TlsError::Half { directory: directory.to_owned(), present, missing };
        if !ca_key.exists() {
            match (tls_crt.exists(), tls_key.exists()) {
                (true, true) => return Ok(Self { certificate: read(&tls_crt)?, key: read(&tls_key)? }),
                (true, false) => return Err(half("tls.crt", "tls.key")),
                (false, true) => return Err(half("tls.key", "tls.crt")),
                (false, false) if ca_crt.exists() => return Err(half("ca.crt", "ca.key")),
                (false, false) => {
                    let key = KeyPair::generate().map_err(failed(|| "cannot make a key".into()))?;
                    let certificate = authority()
                        .self_signed(&key)
                        .map_err(failed(|| "cannot make an authority".into()))?;
                    // The key last: it is what says that all of it is there.
                    store::replace(&ca_crt, certificate.pem().as_bytes(), 0o644)?;
                    store::replace(&ca_key, key.serialize_pem().as_bytes(), 0o600)?;
                    tracing::info!(path = %ca_crt.display(), "a new certificate authority; agents need its certificate");
                }
            }
        } else if !ca_crt.exists() {
            return Err(half("ca.key", "ca.crt"));
        }
        let ca = KeyPair::from_pem(&read(&ca_key)?)
            .map_err(failed(|| format!("{} is no private key in PEM", ca_key.display())))?;
        let (certificate, key) = issue(&Issuer::new(authority(), ca), listen, names)?;
        store::replace(&tls_crt, certificate.as_bytes(), 0o644)?;
        store::replace(&tls_key, key.as_bytes(), 0o600)?;
        Ok(Self { certificate, key })
    }

    /// One that nobody trusts.
    pub fn stranger() -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(failed(|| "cannot make a key".into()))?;
        let certificate = CertificateParams::default()
            .self_signed(&key)
            .map_err(failed(|| "cannot make a certificate".into()))?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// To be shown to whoever connects.
    pub fn serving(&self) -> Result<Serving, UnusableError> {
        Serving::new(&self.certificate, &self.key)
    }
}

/// The same parameters at every start: with the saved key they are the same authority.
pub(crate) fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "ferrule-controller-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(crate) fn issue(
    issuer: &Issuer<'_, KeyPair>,
    listen: &[SocketAddr],
    names: &[String],
) -> Result<(String, String), TlsError> {
    let listened =
        listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
    let mut all: BTreeSet<String> = listened.chain(names.iter().cloned()).collect();
    all.extend([SERVER_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let mut params = CertificateParams::new(all.into_iter().collect::<Vec<_>>())
        .map_err(failed(|| format!("a name for the certificate is not valid, of {names:?}")))?;
    params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A clock of ours that was ahead, or one of a node that is behind, keeps nobody away.
    params.not_before = date_time_ymd(1975, 1, 1);
    params.not_after = date_time_ymd(1970, 1, 1) + since + VALID;
    let key = KeyPair::generate().map_err(failed(|| "cannot make a key".into()))?;
    let certificate =
        params.signed_by(&key, issuer).map_err(failed(|| "cannot issue the certificate".into()))?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn read(path: &Path) -> Result<String, StoreError> {
    std::fs::read_to_string(path).map_err(|source| StoreError { what: "read", path: path.to_owned(), source })
}

fn failed(what: impl FnOnce() -> String) -> impl FnOnce(rcgen::Error) -> TlsError {
    move |source| TlsError::Crypto { what: what(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_authority_is_made_once_and_keys_are_ours_alone() {
        let directory = tempfile::tempdir().unwrap();
        ServerIdentity::prepare(directory.path(), &[], &[]).unwrap();
        let ca = std::fs::read(directory.path().join("ca.crt")).unwrap();
        ServerIdentity::prepare(directory.path(), &["192.0.2.1:1".parse().unwrap()], &["extra".into()])
            .unwrap();
        assert_eq!(std::fs::read(directory.path().join("ca.crt")).unwrap(), ca);
        for key in ["ca.key", "tls.key"] {
            let mode = std::fs::metadata(directory.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn a_given_pair_is_used_as_it_is_and_half_a_pair_is_refused() {
        let made = tempfile::tempdir().unwrap();
        ServerIdentity::prepare(made.path(), &[], &[]).unwrap();
        let given = tempfile::tempdir().unwrap();
        std::fs::copy(made.path().join("tls.crt"), given.path().join("tls.crt")).unwrap();
        let error = ServerIdentity::prepare(given.path(), &[], &[]).unwrap_err().to_string();
        assert!(error.contains("has tls.crt but not tls.key"), "{error}");
        std::fs::copy(made.path().join("tls.key"), given.path().join("tls.key")).unwrap();
        let identity = ServerIdentity::prepare(given.path(), &[], &[]).unwrap();
        assert_eq!(identity.key, std::fs::read_to_string(made.path().join("tls.key")).unwrap());
        assert!(!given.path().join("ca.key").exists());
    }

    #[test]
    fn damage_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["ca.crt", "ca.key"] {
            std::fs::write(directory.path().join(name), "not PEM").unwrap();
        }
        let error = ServerIdentity::prepare(directory.path(), &[], &[]).unwrap_err().to_string();
        assert!(error.contains("ca.key is no private key"), "{error}");
    }
}
