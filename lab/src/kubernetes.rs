//! A lab whose objects are in a Kubernetes API: nobody plays kubelet there but who asks for it here. Talks to no API server;
//! whoever does says what it holds.

use std::path::PathBuf;

use objects::SourceText;
use serde::{Deserialize, Serialize};

use crate::daemons;
use crate::error::{Error, Result};
use crate::ground::lock;
use crate::lab::Lab;
use crate::layout::NodeIndex;
use crate::manifests::{self, Manifests};
use crate::measure::Measured;
use crate::progress::silent;
use crate::record::Record;

/// An API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    /// How controllers reach it.
    pub kubeconfig: PathBuf,
    /// The network namespace in which it listens, to which the underlay is joined; `None`: it is reached without.
    pub join: Option<String>,
}

/// Fails when a lab of this record could not reach it.
pub(crate) fn check(record: &Record) -> Result<()> {
    let Some(kubernetes) = &record.kubernetes else { return Ok(()) };
    if !kubernetes.kubeconfig.is_file() {
        return Err(Error::BadOption(format!("{} is no kubeconfig", kubernetes.kubeconfig.display())));
    }
    if kubernetes.join.is_some() && !record.family.has_ipv4() {
        return Err(Error::BadOption("an API server is joined over IPv4: take ipv4 or dual".to_owned()));
    }
    Ok(())
}

impl Lab {
    /// A node's object as its kubelet would register it, in YAML.
    pub fn node_object(&self, node: NodeIndex) -> String {
        daemons::node_object(&self.layout, node, self.record.family, false)
    }

    /// What every node's kubelet does: unplugs the pods that are gone or are others now, plugs the new ones. `objects` are all
    /// Nodes and those Pods that are bound to a node. Returns how many were (unplugged, plugged).
    pub fn run_pods(&mut self, objects: &[SourceText]) -> Result<(usize, usize)> {
        let _lock = lock(&self.layout)?;
        let manifests = self.understood(objects);
        self.follow(&manifests, &silent)
    }

    /// Probes every pair and every served port, and predicts the same from these objects. Waits for nothing. Services take part
    /// whose EndpointSlices are among the objects: only the cluster knows which endpoints are ready.
    pub fn measure_objects(&self, objects: &[SourceText]) -> Result<Measured> {
        let mut manifests = self.understood(objects);
        manifests.only_with_slices();
        self.measure_network(&manifests.network(&self.record), &|_, _| {})
    }

    fn understood(&self, objects: &[SourceText]) -> Manifests {
        let mut manifests = manifests::understand(objects, Vec::new(), &self.record);
        for pod in &mut manifests.pods {
            // A status says which address the pod was given, not which one it asks for.
            pod.addresses.clear();
        }
        manifests
    }
}
