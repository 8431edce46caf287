//! `ferrule await-daemonset`: waits, inside a cluster, until every node runs a DaemonSet's pod. For the chart's uninstall hook, when there are
//! no Services any more: it asks the API server at its own address.

use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client, Config};

use crate::fail::{Fail, Outcome};

/// How often it looks.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Options {
    /// The DaemonSet, as NAMESPACE/NAME
    #[arg(value_name = "NAMESPACE/NAME")]
    pub name: String,

    /// The API server at its own address
    #[arg(long, value_name = "https://HOST:PORT")]
    pub api_server: String,

    /// How long to wait
    #[arg(long, default_value_t = 120)]
    pub seconds: u64,
}

pub fn run(options: &Options) -> Result<Outcome, Fail> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(wait(options))
}

async fn wait(options: &Options) -> Result<Outcome, Fail> {
    let (namespace, name) =
        options.name.split_once('/').ok_or_else(|| format!("`{}` is not NAMESPACE/NAME", options.name))?;
    let server = options.api_server.parse();
    let server = server.map_err(|error| format!("--api-server {}: {error}", options.api_server))?;
    let mut config = Config::incluster().map_err(|error| format!("this runs in pods only: {error}"))?;
    config.cluster_url = server;
    let client = Client::try_from(config).map_err(|error| error.to_string())?;
    let sets = Api::<DaemonSet>::namespaced(client, namespace);
    let began = Instant::now();
    loop {
        let state = match sets.get(name).await {
            Ok(set) => progress(&set),
            Err(error) => Err(error.to_string()),
        };
        match state {
            Ok(()) => return Ok(Outcome::Expected),
            Err(why) if began.elapsed().as_secs() >= options.seconds => {
                return Err(Fail::Said(format!("{} after {} s: {why}", options.name, options.seconds)));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Whether every node that should has a ready pod; why not.
fn progress(set: &DaemonSet) -> Result<(), String> {
    let Some(status) = &set.status else { return Err("nobody has looked at it yet".to_owned()) };
    if status.observed_generation < set.metadata.generation {
        return Err("nobody has looked at it yet".to_owned());
    }
    let (ready, wanted) = (status.number_ready, status.desired_number_scheduled);
    if ready < wanted {
        return Err(format!(
            "{ready} of {wanted} nodes are done; `kubectl get pods --output wide` names the others"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_nodes_must_be_done_and_somebody_must_have_looked() {
        let set = |generation: i64, observed: i64, ready: i32, wanted: i32| -> DaemonSet {
            serde_json::from_value(serde_json::json!({
                "metadata": {"generation": generation},
                "status": {"observedGeneration": observed, "numberReady": ready, "desiredNumberScheduled": wanted,
                           "currentNumberScheduled": wanted, "numberMisscheduled": 0},
            }))
            .unwrap()
        };
        assert_eq!(progress(&set(1, 1, 3, 3)), Ok(()));
        assert!(progress(&set(1, 1, 2, 3)).unwrap_err().contains("2 of 3"));
        assert!(progress(&set(2, 1, 3, 3)).is_err());
        assert!(progress(&DaemonSet::default()).is_err());
    }
}
