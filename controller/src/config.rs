//! What the operator may set: flags, each with an environment variable. Opens nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, ValueEnum};

use crate::identity::judgement::ServiceAccount;

/// The Ferrule controller: turns Kubernetes objects into what every node's agent has to know.
#[derive(Clone, Debug, Parser)]
#[command(name = "ferrule-controller", version)]
pub struct Config {
    /// Where the objects come from.
    #[command(flatten)]
    pub source: SourceFlags,

    /// The API server's own address (https://HOST:PORT), in place of the one that the kubeconfig or the pod's environment
    /// names: nothing needs a Service to start.
    #[arg(long, env = "FERRULE_API_SERVER", value_name = "URL", conflicts_with = "manifests")]
    pub api_server: Option<String>,

    /// Namespace of the controller's own objects in the API; that of its pod, or kube-system with a kubeconfig.
    #[arg(long, env = "FERRULE_NAMESPACE", value_name = "NAME", conflicts_with = "manifests")]
    pub namespace: Option<String>,

    /// How first lists are asked for: as streams where the API server has them, or in pages always.
    #[arg(long, env = "FERRULE_LISTS", value_enum, default_value = "streams")]
    pub lists: Lists,

    /// Address for the agents' streams (gRPC over TLS). May be given several times.
    #[arg(
        long,
        env = "FERRULE_LISTEN",
        value_name = "ADDR:PORT",
        value_delimiter = ',',
        default_value = "0.0.0.0:7470"
    )]
    pub listen: Vec<SocketAddr>,

    /// Directory with ca.crt, ca.key, tls.crt and tls.key; what is missing is made. By default
    /// /var/lib/ferrule/controller/tls for manifests; with an API server, the Secret ferrule-controller-ca of the
    /// controller's namespace is the authority.
    #[arg(long, env = "FERRULE_TLS_DIR", value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,

    /// A further name or address for the certificate to carry. May be given several times.
    #[arg(long, env = "FERRULE_TLS_NAME", value_name = "NAME", value_delimiter = ',')]
    pub tls_name: Vec<String>,

    /// Directory with one file per node: named by the node, holding the token that its agent presents. By default
    /// /var/lib/ferrule/controller/tokens for manifests; with an API server, agents are known by service-account tokens.
    #[arg(long, env = "FERRULE_NODE_TOKENS", value_name = "DIR")]
    pub node_tokens: Option<PathBuf>,

    /// The agents' service account, whose tokens are taken when they are bound to a pod and for the audience `ferrule`; by
    /// default ferrule-agent in the controller's namespace.
    #[arg(
        long,
        env = "FERRULE_AGENT_SERVICE_ACCOUNT",
        value_name = "NAMESPACE/NAME",
        conflicts_with_all = ["manifests", "node_tokens"]
    )]
    pub agent_service_account: Option<ServiceAccount>,

    /// Directory for what has to outlive the controller.
    #[arg(
        long,
        env = "FERRULE_STATE_DIR",
        value_name = "DIR",
        default_value = "/var/lib/ferrule/controller"
    )]
    pub state_dir: PathBuf,

    /// Socket for the CLI (HTTP/JSON), health and metrics.
    #[arg(
        long,
        env = "FERRULE_API",
        value_name = "unix:PATH",
        default_value = "unix:/run/ferrule/controller.sock"
    )]
    pub api: UnixAddress,

    /// The same over TCP, for whoever can reach this address: it is neither encrypted nor authenticated.
    #[arg(long, env = "FERRULE_API_TCP", value_name = "ADDR:PORT")]
    pub api_tcp: Option<SocketAddr>,

    /// /metrics, /healthz and /readyz alone over TCP, for whoever gathers them: neither encrypted nor authenticated.
    #[arg(long, env = "FERRULE_METRICS_TCP", value_name = "ADDR:PORT")]
    pub metrics_tcp: Option<SocketAddr>,

    /// How log lines look, and the steps of --replay.
    #[arg(long, env = "FERRULE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives as `info,controller=debug`.
    #[arg(long, env = "FERRULE_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// Write down everything that happens and what it comes to, for --replay: JSON lines. What an earlier run left there is
    /// kept as FILE.1. For finding faults: every change costs a digest of the whole model.
    #[arg(long, env = "FERRULE_RECORD", value_name = "FILE", conflicts_with = "replay")]
    pub record: Option<PathBuf>,

    /// How much --record may keep, in MiB, FILE and FILE.1 together; when FILE is full it becomes FILE.1 and another begins.
    #[arg(
        long,
        env = "FERRULE_RECORD_LIMIT",
        value_name = "MIB",
        default_value = "1024",
        value_parser = clap::value_parser!(u64).range(2..)
    )]
    pub record_limit: u64,

    /// Recompute everything whole after every event and end where the index says something else (slow; for finding faults).
    #[arg(long, env = "FERRULE_CHECK_RECOMPUTE", hide = true)]
    pub check_recompute: bool,
}

/// Where the objects come from: one of these.
#[derive(Clone, Debug, Default, Args)]
#[group(required = true, multiple = false)]
pub struct SourceFlags {
    /// Directory with Kubernetes YAML or JSON, watched. May be given several times.
    #[arg(long, env = "FERRULE_MANIFESTS", value_name = "DIR", value_delimiter = ',')]
    pub manifests: Vec<PathBuf>,

    /// A Kubernetes API server, reached by this kubeconfig.
    #[arg(long, env = "FERRULE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The Kubernetes API server of the cluster that the controller is a pod of.
    #[arg(long, env = "FERRULE_IN_CLUSTER")]
    pub in_cluster: bool,

    /// A recording of --record: it is played again, step by step, and the controller ends. Exit code 2 when something does
    /// not come to what was recorded.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
}

/// How first lists are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lists {
    /// As streams, where the API server has them.
    Streams,
    /// In pages.
    Pages,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAddress(pub PathBuf);

impl FromStr for UnixAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self(path.into())),
            _ => Err("write unix:PATH, for example unix:/run/ferrule/controller.sock".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_repeat_and_what_is_wrong_is_said() {
        let config =
            Config::try_parse_from(["x", "--manifests", "a", "--manifests", "b", "--api", "unix:s"]).unwrap();
        assert_eq!(config.source.manifests, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(config.api, UnixAddress("s".into()));
        let error = |args: &[&str]| Config::try_parse_from(args).unwrap_err().to_string();
        assert!(error(&["x"]).contains("--manifests") && error(&["x"]).contains("--kubeconfig"));
        assert!(error(&["x", "--manifests", "a", "--in-cluster"]).contains("--in-cluster"));
        assert!(error(&["x", "--kubeconfig", "a", "--in-cluster"]).contains("cannot be used with"));
        assert!(error(&["x", "--manifests", "a", "--replay", "b"]).contains("cannot be used with"));
        assert!(error(&["x", "--replay", "a", "--record", "b"]).contains("cannot be used with"));
        assert!(error(&["x", "--manifests", "a", "--api-server", "https://b"]).contains("--api-server"));
        assert!(error(&["x", "--manifests", "a", "--api", "/s"]).contains("unix:PATH"));
        assert!(error(&["x", "--manifests", "a", "--listen", "7470"]).contains("--listen"));
    }
}
