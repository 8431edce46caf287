//! Figures of a lab, each as a user would notice it, beside what they are compared with. Measures; judges and prints nothing.

mod attachment;
mod connections;
mod throughput;

use std::time::{Duration, Instant};

use api::insight::PolicyItem;

use crate::control::Component;
use crate::error::{Context, Error, Result};
use crate::http::Endpoint;
use crate::lab::Lab;

pub use attachment::Attachments;
pub use connections::{ConnectionRates, Connections};
pub use throughput::Throughput;

/// How long a policy may take to be in force before the benchmark gives up.
const EDIT_LIMIT: Duration = Duration::from_secs(10);

/// The file that the benchmark edits, beside the manifests of the lab.
const POLICY_FILE: &str = "zz-bench-policy.yaml";

/// Durations of one kind of thing, sorted.
#[derive(Clone, Debug)]
pub struct Samples(Vec<Duration>);

impl Samples {
    fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The value that so many hundredths of all do not exceed; zero when there are none.
    pub fn percentile(&self, hundredths: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * hundredths / 100).min(last)).copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Lab {
    /// Resident memory of the largest agent, in bytes.
    pub fn agent_memory(&self) -> Option<u64> {
        self.record.node_indexes().filter_map(|node| self.process(node, Component::Agent)?.resident()).max()
    }

    /// Edits a policy in the manifests so many times: from the moment the file is in place until the controller knows from every
    /// node that the switch has confirmed that very version.
    pub fn policy_edits(&self, count: usize, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Samples> {
        let controller = Endpoint::Unix(self.layout.controller_socket());
        let namespace = self
            .record
            .pods
            .iter()
            .find(|(_, pod)| pod.is_plugged() && !pod.host_network)
            .map(|(key, _)| key.namespace().to_owned())
            .ok_or_else(|| Error::BadOption("no pod is plugged that a policy could select".to_owned()))?;
        let mut samples = Vec::with_capacity(count);
        // The first one brings everything into memory and is not counted.
        for generation in 0..=count {
            self.interrupt.check()?;
            let text = policy(&namespace, generation + 1);
            let began = self.replace_manifest(POLICY_FILE, &text)?;
            self.wait_for_policy(&controller, &namespace, generation as u64 + 1, began)?;
            if generation > 0 {
                samples.push(began.elapsed());
            }
            progress(generation, count);
        }
        let path = self.record.manifests.join(POLICY_FILE);
        std::fs::remove_file(&path).context(|| format!("remove {}", path.display()))?;
        Ok(Samples::new(samples))
    }

    /// Puts a file into the manifests as editors do: written beside, moved into place. Returns the moment before the move.
    fn replace_manifest(&self, name: &str, text: &str) -> Result<Instant> {
        let path = self.record.manifests.join(name);
        let beside = self.record.manifests.join(format!(".{name}"));
        std::fs::write(&beside, text).context(|| format!("write {}", beside.display()))?;
        let now = Instant::now();
        std::fs::rename(&beside, &path).context(|| format!("write {}", path.display()))?;
        Ok(now)
    }

    fn wait_for_policy(
        &self,
        controller: &Endpoint,
        namespace: &str,
        generation: u64,
        began: Instant,
    ) -> Result<()> {
        let wanted = format!("NetworkPolicy {namespace}/bench");
        loop {
            let list = controller.list::<PolicyItem>("policies", &[("namespace", namespace)])?;
            let found = list.items.iter().find(|policy| policy.policy == wanted);
            if found.is_some_and(|policy| {
                policy.generation == generation
                    && !policy.nodes.is_empty()
                    && policy.realized.len() == policy.nodes.len()
            }) {
                return Ok(());
            }
            self.interrupt.check()?;
            if began.elapsed() > EDIT_LIMIT {
                return Err(Error::NotReady {
                    what: format!("{wanted}, generation {generation},"),
                    seconds: EDIT_LIMIT.as_secs(),
                    detail: format!("; the controller says {found:?}"),
                });
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// A policy that is another one in every generation.
fn policy(namespace: &str, generation: usize) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: bench\n  namespace: {namespace}\n  \
         generation: {generation}\nspec:\n  podSelector: {{}}\n  ingress:\n  - from:\n    - namespaceSelector: {{}}\n    \
         ports:\n    - port: {}\n",
        20_000 + generation % 10_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let samples = Samples::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(samples.percentile(50), Duration::from_millis(101));
        assert_eq!(samples.percentile(99), Duration::from_millis(199));
        assert_eq!(Samples::new(Vec::new()).percentile(99), Duration::ZERO);
    }
}
