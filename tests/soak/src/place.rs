//! The cluster as the soak sees it: its tools, its nodes, and the one clock that all of them have.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::{ControlPlane, Interrupt, NodeIndex, Nodes};
use lab::netns;

/// Where the pods of Ferrule are.
pub const SYSTEM: &str = "kube-system";

/// A cluster that is up.
#[derive(Debug)]
pub struct Place {
    pub cluster: ControlPlane,
    pub interrupt: Interrupt,
}

impl Place {
    /// kubectl; the API server may be on its way up again.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        const LIMIT: Duration = Duration::from_secs(90);
        let began = Instant::now();
        loop {
            let mut command = self.cluster.tool("kubectl");
            command.arg("--request-timeout=30s").args(words);
            match lab::command::run_in(&netns::path(&self.cluster.namespace()), &mut command) {
                Ok(said) => return Ok(said),
                Err(error) if began.elapsed() > LIMIT => return Err(error.into()),
                Err(_) => self.pause(Duration::from_secs(1))?,
            }
        }
    }

    /// Applies a manifest.
    pub fn apply(&self, name: &str, manifest: &str) -> Result<()> {
        let path = self.cluster.logs().join(format!("soak-{name}.yaml"));
        std::fs::write(&path, manifest).with_context(|| format!("cannot write {}", path.display()))?;
        self.kubectl(&["apply", "--filename", &path.to_string_lossy()]).map(drop)
    }

    /// Ferrule's command line in a controller's pod.
    pub fn ferrule(&self, words: &[&str]) -> Result<String> {
        let pod = ["--namespace", SYSTEM, "exec", "deployment/ferrule-controller", "--", "ferrule"];
        self.kubectl(&[&pod[..], words].concat())
    }

    /// A command line of the shell on a node.
    pub fn shell(&self, node: NodeIndex, line: &str) -> Result<String> {
        let mut command = self.cluster.on_node(node, "sh")?;
        Ok(lab::command::run(command.args(["-c", line]))?)
    }

    /// Its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        self.cluster.nodes().into_iter().flat_map(Nodes::indexes).collect::<Vec<_>>().into_iter()
    }

    /// Waits a while, unless the user gives up.
    pub fn pause(&self, pause: Duration) -> Result<()> {
        const SLICE: Duration = Duration::from_millis(100);
        let began = Instant::now();
        while began.elapsed() < pause {
            self.interrupt.check()?;
            std::thread::sleep(SLICE.min(pause));
        }
        Ok(())
    }

    /// Waits until it is so.
    pub fn until(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
        let began = Instant::now();
        while !holds() {
            if began.elapsed() > limit {
                bail!("not after {limit:?}: {what}");
            }
            self.pause(Duration::from_millis(300))?;
        }
        Ok(())
    }
}

/// Seconds since boot, which pods on every node read, too: they have one kernel.
pub fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}
