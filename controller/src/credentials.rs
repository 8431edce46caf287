//! Which certificate agents are shown and how their tokens are judged: by files, or by the API server. Knows no streams.
//!
//! | source | `--tls-dir` | `--node-tokens` |
//! |---|---|---|
//! | manifests | a directory, by default ours | a directory, by default ours |
//! | an API server | when given; else the authority is a Secret | when given; else service-account tokens are reviewed |

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;
use crate::identity::Identity;
use crate::identity::judgement::ServiceAccount;
use crate::identity::reviewer::Reviewer;
use crate::kube::authority::{self, Trouble};
use crate::kube::client::Api;
use crate::run::RunError;
use crate::serving::{Serving, UnusableError};
use crate::tls::{self, Names, ServerIdentity};

/// Without a flag, for manifests.
const TLS_DIR: &str = "/var/lib/ferrule/controller/tls";
/// Without a flag, for manifests.
const NODE_TOKENS: &str = "/var/lib/ferrule/controller/tokens";
/// The agents' service account, in the controller's namespace.
const AGENT: &str = "ferrule-agent";

/// What a controller shows and demands.
pub struct Credentials {
    /// The certificate.
    pub serving: Serving,
    /// How tokens are judged.
    pub identity: Identity,
    /// Keeps the certificate fresh; never ends.
    pub keeper: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What is in the way of the authority in the API, where there is one.
    pub trouble: watch::Receiver<Option<Trouble>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// As the flags say. `kube` is the API server, where there is one, and the controller's namespace.
pub fn prepare(config: &Config, kube: Option<(&Api, &str)>) -> Result<Credentials, RunError> {
    let names = Names { listen: config.listen.clone(), more: config.tls_name.clone() };
    let (tell, trouble) = watch::channel(None);
    let (serving, keeper): (_, Pin<Box<dyn Future<Output = ()> + Send>>) = match (&config.tls_dir, kube) {
        (None, Some((api, namespace))) => {
            // Nobody trusts this one: it stands in until the Secret was read.
            let serving =
                ServerIdentity::stranger()?.serving().map_err(|error| unusable(Path::new(""), &error))?;
            let keeper = authority::keep(api.clone(), namespace.to_owned(), names, serving.clone(), tell);
            (serving, Box::pin(keeper))
        }
        (directory, _) => {
            let directory = directory.clone().unwrap_or_else(|| PathBuf::from(TLS_DIR));
            let identity = ServerIdentity::prepare(&directory, &names.listen, &names.more)?;
            let serving = identity.serving().map_err(|error| unusable(&directory, &error))?;
            let keeper = tls::keep_fresh(directory, names, serving.clone());
            (serving, Box::pin(keeper))
        }
    };
    let identity = match (&config.node_tokens, kube) {
        (None, Some((api, namespace))) => {
            let own = || ServiceAccount { namespace: namespace.to_owned(), name: AGENT.to_owned() };
            let account = config.agent_service_account.clone().unwrap_or_else(own);
            tracing::info!(%account, "agents are known by tokens of this service account");
            Identity::ServiceAccount(Arc::new(Reviewer::new(api.clone(), account)))
        }
        (directory, _) => {
            let directory = directory.clone().unwrap_or_else(|| PathBuf::from(NODE_TOKENS));
            let failed =
                |source| RunError::Directory { flag: "--node-tokens", path: directory.clone(), source };
            std::fs::create_dir_all(&directory).map_err(failed)?;
            std::fs::read_dir(&directory).map_err(failed)?;
            Identity::Tokens(directory)
        }
    };
    Ok(Credentials { serving, identity, keeper, trouble })
}

fn unusable(directory: &Path, error: &UnusableError) -> RunError {
    RunError::Certificate { directory: directory.to_owned(), error: error.to_string() }
}
