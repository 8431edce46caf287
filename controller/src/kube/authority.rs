//! The authority of the controllers' certificates, in the API itself: a Secret that all controllers share, and a ConfigMap
//! with what agents are to trust. It is made once, by whoever creates the Secret first, and never again by us; an operator
//! who writes another one into the Secret replaces it, after agents have had the time to read both.

use std::time::{Duration, Instant};

use axum::http::Method;
use rcgen::{Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::client::{Api, encoded};
use super::reflector::Failure;
use crate::clock::Moment;
use crate::identity::reviewer::bytes_of_base64;
use crate::serving::Serving;
use crate::source::{Problem, Reason};
use crate::tls::{self, Names};

/// The Secret (`ca.crt`, `ca.key`) and the ConfigMap (`ca.crt`: one certificate or several), in the controllers' namespace.
pub const NAME: &str = "ferrule-controller-ca";

/// How often the Secret is read.
const LOOK: Duration = Duration::from_secs(60);
/// How long after a failure.
const AGAIN: Duration = Duration::from_secs(2);
/// A failure that passes by itself is told when it has come so often in a row: a server that starts forbids everything for a moment.
const TELL_AFTER: u32 = 3;
/// How old a certificate becomes.
const RENEW: Duration = Duration::from_secs(24 * 3600);
/// How long agents have to see a new authority in the file of their ConfigMap, which the kubelet writes, before a certificate
/// of it is shown to them.
pub const OVERLAP: Duration = Duration::from_secs(180);
/// Authorities that agents are told to trust.
const MOST: usize = 3;

/// An authority: certificate and key in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    certificate: String,
    key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// Why there is no certificate yet, or the old one is still served.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The API server.
    #[error("{}", words(verb, namespace, failure))]
    Api {
        /// What was tried.
        verb: &'static str,
        /// Where.
        namespace: String,
        /// What came of it.
        failure: Failure,
    },
    /// What stands there was not written by us. It is never overwritten.
    #[error(
        "Secret {namespace}/{NAME}: {why}; mend it, or delete it to have a new authority, which no agent trusts before it has read it"
    )]
    Unusable {
        /// Where.
        namespace: String,
        /// What is wrong.
        why: String,
    },
    /// Certificates cannot be made.
    #[error("cannot issue a certificate: {0}")]
    Crypto(String),
}

fn words(verb: &str, namespace: &str, failure: &Failure) -> String {
    match failure {
        Failure::Forbidden(message) => format!(
            "we may not {verb} in namespace {namespace} ({message}); grant that to the controller's account, see \
             deploy/chart/rbac/controller.yaml"
        ),
        other => format!("cannot {verb} in namespace {namespace} ({other}); trying again"),
    }
}

/// What is in the way of serving a certificate of the authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// For people.
    pub problem: Problem,
    /// Whether an earlier certificate is served, which agents trust.
    pub serves: bool,
}

impl Trouble {
    fn of(error: &AuthorityError, namespace: &str, serves: bool) -> Self {
        let kind = match error {
            AuthorityError::Api { verb, .. } if verb.ends_with("configmaps") => "ConfigMap",
            _ => "Secret",
        };
        let outcome = if serves { "the certificate of before is served" } else { "no agent can connect" };
        let problem = Problem {
            object: format!("{kind} {namespace}/{NAME}"),
            source: "the API server".into(),
            message: format!("{error}; {outcome} until then"),
            reason: Reason::NotRealized,
        };
        Self { problem, serves }
    }
}

/// Serves certificates of the authority in the API, renewed every day, until the task is dropped. What lasts is in `trouble`.
pub async fn keep(
    api: Api,
    namespace: String,
    names: Names,
    serving: Serving,
    trouble: watch::Sender<Option<Trouble>>,
) {
    let keeper = Keeper { api, namespace };
    let mut served: Option<(Authority, Moment)> = None;
    let mut next: Option<(Authority, Instant)> = None;
    let mut failures = 0_u32;
    loop {
        let pause = match keeper.look(&names, &serving, &mut served, &mut next).await {
            Ok(()) => {
                failures = 0;
                trouble.send_replace(None);
                if next.is_some() { AGAIN } else { LOOK }
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures >= TELL_AFTER {
                    trouble.send_replace(Some(Trouble::of(&error, &keeper.namespace, served.is_some())));
                }
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[derive(Debug)]
struct Keeper {
    api: Api,
    namespace: String,
}

impl Keeper {
    async fn look(
        &self,
        names: &Names,
        serving: &Serving,
        served: &mut Option<(Authority, Moment)>,
        next: &mut Option<(Authority, Instant)>,
    ) -> Result<(), AuthorityError> {
        let found = self.obtain().await?;
        let stands = served.as_ref().is_some_and(|(authority, _)| *authority == found);
        let is_good =
            |since: &Moment| since.elapsed(tls::now()) < RENEW && !since.is_another_time(tls::now());
        if stands && served.as_ref().is_some_and(|(_, since)| is_good(since)) {
            *next = None;
            return Ok(());
        }
        if served.is_some() && !stands {
            match next {
                Some((waiting, since)) if *waiting == found => {
                    if since.elapsed() < OVERLAP {
                        return Ok(());
                    }
                }
                _ => {
                    self.publish(&found.certificate).await?;
                    tracing::info!(wait = ?OVERLAP, "another authority stands in the Secret; agents read it first");
                    *next = Some((found, Instant::now()));
                    return Ok(());
                }
            }
        } else {
            self.publish(&found.certificate).await?;
        }
        let crypto = |error: &dyn std::error::Error| AuthorityError::Crypto(error.to_string());
        let key = KeyPair::from_pem(&found.key).map_err(|error| self.unusable(format!("ca.key: {error}")))?;
        let issuer = Issuer::new(tls::authority(), key);
        let (certificate, key) =
            tls::issue(&issuer, &names.listen, &names.more).map_err(|error| crypto(&error))?;
        serving.replace(&certificate, &key).map_err(|error| crypto(&error))?;
        tracing::info!(
            namespace = self.namespace,
            "a certificate of the authority in Secret {NAME} is served"
        );
        *served = Some((found, tls::now()));
        *next = None;
        Ok(())
    }

    /// What stands in the Secret, which is made when there is none.
    async fn obtain(&self) -> Result<Authority, AuthorityError> {
        let secrets = format!("/api/v1/namespaces/{}/secrets", encoded(&self.namespace));
        for _ in 0..2 {
            match self.api.json(Method::GET, &format!("{secrets}/{NAME}"), None).await {
                Ok(secret) => return read(&secret).map_err(|why| self.unusable(why)),
                Err(Failure::NotFound) => {}
                Err(failure) => return Err(self.failed("get secrets", failure)),
            }
            let crypto = |error: rcgen::Error| AuthorityError::Crypto(error.to_string());
            let key = KeyPair::generate().map_err(crypto)?;
            let certificate = tls::authority().self_signed(&key).map_err(crypto)?.pem();
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": NAME},
                "stringData": {"ca.crt": certificate, "ca.key": key.serialize_pem()},
            });
            match self.api.json(Method::POST, &secrets, Some(&secret)).await {
                Ok(_) => tracing::info!(namespace = self.namespace, "a new authority, in Secret {NAME}"),
                // Another controller was faster: its authority is everybody's.
                Err(Failure::Conflict(_)) => {}
                Err(failure) => return Err(self.failed("create secrets", failure)),
            }
        }
        Err(self.unusable("it comes and goes".into()))
    }

    /// Adds a certificate to those that agents trust.
    async fn publish(&self, certificate: &str) -> Result<(), AuthorityError> {
        let maps = format!("/api/v1/namespaces/{}/configmaps", encoded(&self.namespace));
        let one = format!("{maps}/{NAME}");
        loop {
            let (method, path, map) = match self.api.json(Method::GET, &one, None).await {
                Ok(mut map) => {
                    let held = map["data"]["ca.crt"].as_str().unwrap_or_default().to_owned();
                    let Some(bundle) = bundle(&held, certificate) else { return Ok(()) };
                    map["data"]["ca.crt"] = bundle.into();
                    // With the resourceVersion that was read: what somebody else adds meanwhile is not lost.
                    (Method::PUT, &one, map)
                }
                Err(Failure::NotFound) => (
                    Method::POST,
                    &maps,
                    json!({
                        "apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"name": NAME},
                        "data": {"ca.crt": certificate},
                    }),
                ),
                Err(failure) => return Err(self.failed("get configmaps", failure)),
            };
            match self.api.json(method, path, Some(&map)).await {
                Ok(_) => return Ok(()),
                Err(Failure::Conflict(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(failure) => return Err(self.failed("create and update configmaps", failure)),
            }
        }
    }

    fn failed(&self, verb: &'static str, failure: Failure) -> AuthorityError {
        AuthorityError::Api { verb, namespace: self.namespace.clone(), failure }
    }

    fn unusable(&self, why: String) -> AuthorityError {
        AuthorityError::Unusable { namespace: self.namespace.clone(), why }
    }
}

fn read(secret: &Value) -> Result<Authority, String> {
    let field = |name: &str| {
        let encoded = secret["data"][name].as_str().ok_or_else(|| format!("it has no {name}"))?;
        let bytes = bytes_of_base64(encoded).ok_or_else(|| format!("{name} is not in base64"))?;
        String::from_utf8(bytes).map_err(|_| format!("{name} is no text"))
    };
    Ok(Authority { certificate: field("ca.crt")?, key: field("ca.key")? })
}

/// What agents are to trust when this certificate joins those; `None` when it is among them. The oldest go first.
fn bundle(held: &str, certificate: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut all: Vec<String> = held
        .split_inclusive(END)
        .map(str::trim)
        .filter(|part| part.ends_with(END))
        .map(str::to_owned)
        .collect();
    let certificate = certificate.trim();
    if all.iter().any(|one| one == certificate) {
        return None;
    }
    all.push(certificate.to_owned());
    let extra = all.len().saturating_sub(MOST);
    Some(all.split_off(extra).join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(name: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----")
    }

    #[test]
    fn agents_trust_the_last_few_and_nothing_twice() {
        let mut held = String::new();
        for name in ["a", "b", "c"] {
            held = bundle(&held, &pem(name)).unwrap();
        }
        assert_eq!(held, format!("{}\n{}\n{}\n", pem("a"), pem("b"), pem("c")));
        assert_eq!(bundle(&held, &format!("{}\n", pem("b"))), None);
        assert_eq!(bundle(&held, &pem("d")), Some(format!("{}\n{}\n{}\n", pem("b"), pem("c"), pem("d"))));
    }

    #[test]
    fn a_right_that_is_missing_is_a_problem_of_the_object() {
        let failed = |verb| AuthorityError::Api {
            verb,
            namespace: "net".into(),
            failure: Failure::Forbidden("secrets is forbidden".into()),
        };
        let trouble = Trouble::of(&failed("get secrets"), "net", false);
        assert_eq!(trouble.problem.object, "Secret net/ferrule-controller-ca");
        for part in ["may not get secrets in namespace net", "rbac/controller.yaml", "no agent can connect"] {
            assert!(trouble.problem.message.contains(part), "{trouble:?}");
        }
        let later = Trouble::of(&failed("create and update configmaps"), "net", true);
        assert_eq!(later.problem.object, "ConfigMap net/ferrule-controller-ca");
        assert!(later.problem.message.contains("of before is served"), "{later:?}");
    }

    #[test]
    fn a_secret_that_is_not_ours_is_no_authority() {
        let secret = |data: Value| read(&json!({ "data": data }));
        assert_eq!(secret(json!({"ca.crt": "YQ=="})).unwrap_err(), "it has no ca.key");
        assert!(secret(json!({"ca.crt": "YQ==", "ca.key": "!"})).unwrap_err().contains("base64"));
        let good = secret(json!({"ca.crt": "YQ==", "ca.key": "Yg=="})).unwrap();
        assert_eq!((good.certificate.as_str(), good.key.as_str()), ("a", "b"));
    }
}
