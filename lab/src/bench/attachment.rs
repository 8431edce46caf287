//! ADD of a pod, beside the reference plugins `bridge` and `host-local` doing the same in a namespace of their own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api::cni::PodIdentity;
use serde_json::{Value, json};

use super::Samples;
use crate::cni::{self, Call};
use crate::error::{Context, Error, Result};
use crate::lab::Lab;
use crate::netns;

/// Where distributions put the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// How long an ADD took.
#[derive(Clone, Debug)]
pub struct Attachments {
    /// With Ferrule, of a pod that the controller knows and policies select.
    pub ferrule: Samples,
    /// With the reference plugins; `None` when they are not installed.
    pub reference: Option<Samples>,
}

impl Lab {
    /// Unplugs and plugs a pod so many times, and lets the reference plugins do as much, by turns.
    pub fn attachments(&self, count: usize, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Attachments> {
        let (key, plugged) = self
            .record
            .pods
            .iter()
            .find(|(_, pod)| pod.is_plugged() && !pod.host_network && pod.wanted.is_empty())
            .ok_or_else(|| Error::BadOption("no pod is plugged that could be plugged anew".to_owned()))?;
        let identity = PodIdentity {
            namespace: key.namespace().to_owned(),
            name: key.name().to_owned(),
            uid: plugged.uid.clone(),
        };
        let pod = netns::path(&self.layout.pod_namespace(key));
        let call = Call {
            layout: &self.layout,
            binaries: &self.record.binaries,
            node: plugged.node,
            container: &plugged.container,
            netns: &pod,
            pod: &identity,
            addresses: &[],
        };
        let reference = Reference::new(self)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for done in 0..count {
            self.interrupt.check()?;
            refused("DEL", cni::del(&call)?)?;
            let began = Instant::now();
            refused("ADD", cni::add(&call)?)?;
            ours.push(began.elapsed());
            if let Some(reference) = &reference {
                theirs.push(reference.add(done)?);
                reference.del(done)?;
            }
            progress(done + 1, count);
        }
        Ok(Attachments {
            ferrule: Samples::new(ours),
            reference: reference.is_some().then(|| Samples::new(theirs)),
        })
    }
}

fn refused(verb: &str, answer: cni::Answer) -> Result<()> {
    answer.map(drop).map_err(|failure| Error::Command {
        what: format!("CNI {verb}"),
        said: format!("error {}: {} {}", failure.code, failure.msg, failure.details),
    })
}

/// A node of the reference plugins: two namespaces, removed when dropped.
struct Reference {
    node: String,
    pod: String,
    data: String,
}

impl Reference {
    fn new(lab: &Lab) -> Result<Option<Self>> {
        if !Path::new(REFERENCE).join("bridge").is_file() {
            return Ok(None);
        }
        let prefix = lab.layout.namespace_prefix();
        let reference = Self {
            node: format!("{prefix}bench-node"),
            pod: format!("{prefix}bench-pod"),
            data: lab.layout.state().join("bench-host-local").display().to_string(),
        };
        netns::create(&[reference.node.clone(), reference.pod.clone()])?;
        Ok(Some(reference))
    }

    fn add(&self, number: usize) -> Result<Duration> {
        let began = Instant::now();
        self.call("ADD", number)?;
        Ok(began.elapsed())
    }

    fn del(&self, number: usize) -> Result<()> {
        self.call("DEL", number)
    }

    fn configuration(&self) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "reference", "type": "bridge", "bridge": "reference0", "isGateway": true,
            "ipam": {
                "type": "host-local", "dataDir": self.data, "ranges": [[{ "subnet": "10.99.0.0/16" }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        })
    }

    fn call(&self, verb: &str, number: usize) -> Result<()> {
        let mut command = Command::new(Path::new(REFERENCE).join("bridge"));
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("reference-{number}"))
            .env("CNI_NETNS", netns::path(&self.pod))
            .env("CNI_IFNAME", cni::INTERFACE)
            .env("CNI_PATH", REFERENCE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = netns::spawn(Some(&netns::path(&self.node)), &mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            // Its answer tells when it did not read this.
            let _ = stdin.write_all(self.configuration().to_string().as_bytes());
        }
        let output = child.wait_with_output().context(|| "wait for the bridge plugin".to_owned())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Err(Error::Command { what: format!("{verb} of the reference plugin bridge"), said })
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // What stays is removed with the lab: it has the lab's prefix.
        let _ = netns::remove(&[self.pod.clone(), self.node.clone()]);
    }
}
