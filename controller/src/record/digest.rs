//! What a settled state comes to, in few bytes: two states with equal digests have the same model, the same view of every
//! node and, where they are asked for, the same program on every node, bit by bit.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use api::delta::{self, Resources, Versions};
use api::watermark::Watermark;
use compiler::{Datapath, LocalPort, NodeConfig};
use network::{Mac, Network, NodeName, NodeView};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::state::State;

/// The first 16 bytes of a SHA-256, in hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    pub(super) fn of(hash: Sha256) -> Self {
        let bytes = hash.finalize();
        Self(bytes.iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a state was settled to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// How much of every source it contains.
    pub watermark: Watermark,
    /// The whole model.
    pub model: Digest,
    /// The views that differ from the settled state before; `None` where there is none any more.
    pub views: BTreeMap<NodeName, Option<Digest>>,
    /// The programs of these views, where somebody asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<NodeName, Digest>,
}

/// Digests one settled state after the other.
#[derive(Debug, Default)]
pub struct Digester {
    programs: bool,
    recomputes: Option<u64>,
    model: Digest,
    views: BTreeMap<NodeName, (Arc<Resources>, Digest)>,
}

impl Digester {
    /// Of programs too, which costs a whole compilation of every view that changes.
    pub fn with_programs(programs: bool) -> Self {
        Self { programs, ..Self::default() }
    }

    /// What the state, which is settled, comes to.
    pub fn digest(&mut self, state: &State) -> Digests {
        // Most of what agents say changes neither model nor views.
        if self.recomputes.replace(state.recomputes()) != Some(state.recomputes()) {
            self.model = model(&state.network());
        }
        let index = state.index();
        let mut digests = Digests {
            watermark: state.watermark(),
            model: self.model.clone(),
            views: BTreeMap::new(),
            programs: BTreeMap::new(),
        };
        let now: BTreeMap<&NodeName, &Arc<Resources>> = index
            .attended()
            .chain(index.node_names())
            .filter_map(|node| Some((node, index.resources(node)?)))
            .collect();
        self.views.retain(|node, _| {
            let stays = now.contains_key(node);
            if !stays {
                digests.views.insert(node.clone(), None);
            }
            stays
        });
        for (node, resources) in now {
            let held = self.views.get(node);
            if held.is_some_and(|(held, _)| Arc::ptr_eq(held, resources)) {
                continue;
            }
            let digest = view(resources);
            if held.is_none_or(|(_, held)| *held != digest) {
                digests.views.insert(node.clone(), Some(digest.clone()));
                if self.programs {
                    digests.programs.insert(node.clone(), program(node, resources));
                }
            }
            self.views.insert(node.clone(), (Arc::clone(resources), digest));
        }
        digests
    }
}

fn model(network: &Network) -> Digest {
    let mut hash = Hashing::default();
    for change in network.changes_since(&Network::default()) {
        hash.debug(&change);
    }
    Digest::of(hash.0)
}

/// Versions are hashes of the content as it is sent.
fn view(resources: &Resources) -> Digest {
    let mut hash = Hashing::default();
    for (id, version) in resources.versions() {
        hash.debug(&id);
        hash.0.update(version.0.to_be_bytes());
    }
    Digest::of(hash.0)
}

/// What the node must hold when every pod of the view is plugged.
fn program(node: &NodeName, resources: &Resources) -> Digest {
    let mut view = NodeView::default();
    delta::apply(&mut view, &delta::delta(&Versions::new(), resources));
    let plugged = |pod: &network::LocalPod| {
        Some(LocalPort {
            interface: pod.key.to_string(),
            pod: Some((pod.key.clone(), pod.uid.clone())),
            mac: Mac::from_address(*pod.addresses.first()?),
            addresses: pod.addresses.clone(),
        })
    };
    let ports: Vec<LocalPort> = view.pods.values().filter_map(plugged).collect();
    let config = NodeConfig::new(node.clone(), Datapath::System, 1500);
    let mut hash = Hashing::default();
    hash.debug(&compiler::compile(&view, &config, &ports));
    Digest::of(hash.0)
}

#[derive(Default)]
struct Hashing(Sha256);

impl Hashing {
    /// Everything here is ordered, and prints all that it is.
    fn debug(&mut self, value: &impl fmt::Debug) {
        // Hashing cannot fail.
        let _ = writeln!(self, "{value:?}");
    }
}

impl fmt::Write for Hashing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
