//! Puts the parts together: opens directories, sockets and listeners, starts the tasks, ends them in order.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::client::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use api::generated::ferrule::v1alpha1::agents_server::AgentsServer;
use api::stream::{MAX_FROM_AGENT_BYTES, MAX_FROM_CONTROLLER_BYTES};
use api::watermark::Watermark;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tonic::transport::Server;

use crate::attach::Service;
use crate::config::{Config, Lists};
use crate::credentials::{self, Credentials};
use crate::http::{self, Api};
use crate::kube::{
    self,
    client::{Access, AccessError},
};
use crate::manifests::{Manifests, Translate, Wake};
use crate::metrics::Metrics;
use crate::owner::{self, Demands, Event, Owner, Saver, Surroundings};
use crate::record::writer::Recorder;
use crate::serving::UnusableError;
use crate::state::{Demand, State};
use crate::store::{Store, StoreError};
use crate::tls::TlsError;

/// How long streams and requests may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the controller does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A directory that has to be there is not.
    #[error("{flag} {}: {source}", path.display())]
    Directory {
        /// The flag that names it.
        flag: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The way to the API server.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate is not one.
    #[error("the certificate or key in {} cannot be used: {error}", directory.display())]
    Certificate {
        /// Where it is from.
        directory: PathBuf,
        /// Why.
        error: String,
    },
    /// An address or socket that cannot be listened on.
    #[error("{flag} {address}: cannot listen: {source}")]
    Listen {
        /// The flag that names it.
        flag: &'static str,
        /// Which.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// What happens cannot be recorded.
    #[error("--record {}: {source}", path.display())]
    Record {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another controller uses the socket.
    #[error("--api unix:{}: another controller answers there; stop it, or give this one another socket", path.display())]
    InUse {
        /// Which socket.
        path: PathBuf,
    },
    /// The manifests cannot be watched.
    #[error("the manifests cannot be watched: {0} (is fs.inotify.max_user_instances reached?)")]
    Watch(#[from] notify::Error),
    /// A part ended although nobody asked.
    #[error("{part} ended: {error}")]
    Ended {
        /// Which part.
        part: String,
        /// Why.
        error: String,
    },
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    owner: Owner,
    addresses: Vec<SocketAddr>,
    socket: PathBuf,
    stop: watch::Sender<bool>,
    stop_owner: oneshot::Sender<()>,
    tasks: JoinSet<Result<(), RunError>>,
    store: std::thread::JoinHandle<()>,
}

impl Controller {
    /// Starts everything; manifests have been read once when this returns, an API server is asked from then on.
    pub async fn start(config: &Config, translate: impl Translate) -> Result<Self, RunError> {
        for path in &config.source.manifests {
            let directory = |source| RunError::Directory { flag: "--manifests", path: path.clone(), source };
            std::fs::read_dir(path).map_err(directory)?;
        }
        let kube = match (&config.source.kubeconfig, config.source.in_cluster) {
            (Some(kubeconfig), _) => Some(Access::Kubeconfig(kubeconfig.clone())),
            (None, true) => Some(Access::InCluster),
            (None, false) => None,
        };
        let kube = match kube {
            Some(access) => Some(kube::client::Api::open(&access, config.api_server.as_deref()).await?),
            None => None,
        };
        let store = Store::open(&config.state_dir)?;
        let epoch = store.epoch()?;
        let namespace = config.namespace.as_deref();
        let namespace = namespace.or(kube.as_ref().and_then(|api| api.namespace())).unwrap_or("kube-system");
        let Credentials { serving, identity, keeper, trouble } =
            credentials::prepare(config, kube.as_ref().map(|api| (api, namespace)))?;

        // Listen before anything runs: what is wrong with a flag is said at once.
        let mut incoming = Vec::new();
        for address in &config.listen {
            let failed = |source| RunError::Listen { flag: "--listen", address: address.to_string(), source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            incoming.push((listener.local_addr().map_err(failed)?, listener));
        }
        let addresses: Vec<SocketAddr> = incoming.iter().map(|(address, _)| *address).collect();
        let unix = listen_unix(&config.api.0).await?;
        let tcp = match config.api_tcp {
            None => None,
            Some(address) => {
                let failed =
                    |source| RunError::Listen { flag: "--api-tcp", address: address.to_string(), source };
                if !address.ip().is_loopback() {
                    tracing::warn!(%address, "--api-tcp shows the network's state to whoever can reach it");
                }
                Some(TcpListener::bind(address).await.map_err(failed)?)
            }
        };
        let scraped = match config.metrics_tcp {
            None => None,
            Some(address) => {
                let failed =
                    |source| RunError::Listen { flag: "--metrics-tcp", address: address.to_string(), source };
                Some(TcpListener::bind(address).await.map_err(failed)?)
            }
        };

        let metrics = Metrics::default();
        let (owner, events) = Owner::channel();
        let mut state = State::new(epoch, store.bindings()?, metrics.clone());
        if config.check_recompute {
            state.check_recompute();
        }
        let (writer, store_thread) = store.writer()?;
        let (tell_ahead, ahead) = watch::channel(Watermark::default());
        let wakes = std::sync::mpsc::channel();
        let demands: Demands = if kube.is_some() {
            state = state.of_shared_source();
            Box::new(move |demand: Demand| drop(tell_ahead.send_replace(demand.acknowledged)))
        } else {
            let wake = wakes.0.clone();
            // The thread ends with the owner.
            Box::new(move |demand| drop(wake.send(Wake::Demand(demand))))
        };
        let recorder = recorder(config, &state)?;
        let (stop_owner, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let surroundings = Surroundings { saver: Some(Saver { store, writer }), recorder, demands };
        tasks.spawn(async move {
            owner::run(state, events, surroundings, stopped).await;
            Ok(())
        });
        match &kube {
            None => {
                let mut manifests = Manifests::new(config.source.manifests.clone(), translate);
                if let Some(snapshot) = manifests.read() {
                    let told = owner.tell(Event::Snapshot(snapshot)).await;
                    told.map_err(|gone| RunError::Ended {
                        part: "the owner".into(),
                        error: gone.to_string(),
                    })?;
                }
                // Its thread sees that the owner is gone.
                let _watching = manifests.watch(owner.clone(), wakes)?;
            }
            Some(api) => {
                let settings = kube::source::Settings {
                    namespace: namespace.to_owned(),
                    streams: config.lists == Lists::Streams,
                };
                let us = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
                let us = format!("{}-{}", us.trim(), std::process::id());
                let writing = kube::writer::run(api.clone(), namespace.to_owned(), us, owner.clone());
                tasks.spawn(async move {
                    writing.await;
                    Ok(())
                });
                let following = kube::source::run(api.clone(), settings, owner.clone(), ahead, trouble);
                tasks.spawn(async move {
                    following.await;
                    Ok(())
                });
            }
        }

        let (stop, stopping) = watch::channel(false);
        let service = Service::new(owner.clone(), identity, metrics.clone());
        let stopped = stopped_by(stopping.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = keeper => {}
                () = stopped => {}
            }
            Ok(())
        });
        for (address, listener) in incoming {
            let failed = |error: UnusableError| RunError::Certificate {
                directory: config.tls_dir.clone().unwrap_or_default(),
                error: error.to_string(),
            };
            let connections = serving.accept(listener).map_err(failed)?;
            let agents = AgentsServer::new(service.clone())
                .max_decoding_message_size(MAX_FROM_AGENT_BYTES)
                .max_encoding_message_size(MAX_FROM_CONTROLLER_BYTES);
            let server = Server::builder()
                .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
                .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
                .add_service(agents)
                .serve_with_incoming_shutdown(connections, stopped_by(stopping.clone()));
            tasks.spawn(async move {
                server.await.map_err(|error| ended(format!("listening on {address}"), &error))
            });
            tracing::info!(%address, "listening for agents");
        }
        let api = Api { owner: owner.clone(), metrics };
        if let Some(listener) = scraped {
            let serving = axum::serve(listener, http::monitoring(api.clone()))
                .with_graceful_shutdown(stopped_by(stopping.clone()));
            tasks.spawn(async move {
                serving.await.map_err(|error| ended("the metrics over TCP".into(), &error))
            });
        }
        let router = http::router(api.clone());
        let serving = axum::serve(unix, http::router_with_changes(api))
            .with_graceful_shutdown(stopped_by(stopping.clone()));
        tasks.spawn(async move { serving.await.map_err(|error| ended("the API socket".into(), &error)) });
        if let Some(tcp) = tcp {
            let serving = axum::serve(tcp, router).with_graceful_shutdown(stopped_by(stopping));
            tasks.spawn(
                async move { serving.await.map_err(|error| ended("the API over TCP".into(), &error)) },
            );
        }
        tracing::info!(socket = %config.api.0.display(), "listening for the CLI");
        let socket = config.api.0.clone();
        Ok(Self { owner, addresses, socket, stop, stop_owner, tasks, store: store_thread })
    }

    /// Where agents may connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The way to the state.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Waits for a part to end that should not.
    pub async fn ended(&mut self) -> RunError {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => RunError::Ended { part: "a task".into(), error: error.to_string() },
            Some(Ok(Ok(()))) | None => {
                RunError::Ended { part: "a task".into(), error: "without a reason".into() }
            }
        }
    }

    /// Ends the streams, then everything, and takes the socket away.
    pub async fn stop(mut self) {
        let _ = self.stop_owner.send(());
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("some streams did not end in time and are cut");
            self.tasks.shutdown().await;
        }
        let _ = std::fs::remove_file(&self.socket);
        // The owner is gone and with it the only way to the store, so its thread ends after what it still has to save.
        let store = self.store;
        let _ = tokio::task::spawn_blocking(move || store.join()).await;
    }
}

fn recorder(config: &Config, state: &State) -> Result<Option<Recorder>, RunError> {
    let Some(path) = &config.record else { return Ok(None) };
    let limit = config.record_limit.saturating_mul(1 << 20);
    Recorder::create(path, limit, config.check_recompute, state, Instant::now())
        .map(Some)
        .map_err(|source| RunError::Record { path: path.clone(), source })
}

async fn stopped_by(mut stopping: watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn ended(part: String, error: &dyn std::error::Error) -> RunError {
    RunError::Ended { part, error: chain(error) }
}

/// An error with what caused it; tonic keeps the reason out of its own text.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Listens on a socket; one that a dead controller left is taken over, one that answers is not.
async fn listen_unix(path: &Path) -> Result<UnixListener, RunError> {
    let failed =
        |source| RunError::Listen { flag: "--api", address: format!("unix:{}", path.display()), source };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    if path.exists() {
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(RunError::InUse { path: path.to_owned() });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}
