//! The state written down so that another one can go on from it: what model, views and watermark depend on. What agents were
//! sent is not part of it, nor are questions under way.

use std::collections::BTreeMap;

use api::role::Role;
use api::watermark::Epoch;
use network::NodeName;
use serde::{Deserialize, Serialize};

use super::State;
use crate::agent::{Hello, Link, SessionId};
use crate::bindings::NodeBindings;
use crate::metrics::Metrics;
use crate::source::{Progress, Snapshot};

/// A settled state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    epoch: Epoch,
    keeps_epoch: bool,
    lift: u64,
    source: Option<Snapshot>,
    progress: Progress,
    bindings: BTreeMap<NodeName, NodeBindings>,
    /// Agents with a stream.
    agents: BTreeMap<NodeName, SessionId>,
}

impl Checkpoint {
    /// The streams that were open.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.agents.values().copied()
    }
}

impl State {
    /// Writes the state down; to be called when it is settled.
    pub fn checkpoint(&self) -> Checkpoint {
        let network = self.index.source();
        let source = self.source.clone().map(|source| Snapshot { network, ..source });
        let agents = self.agents.iter().filter_map(|(node, agent)| Some((node.clone(), agent.session()?)));
        Checkpoint {
            epoch: self.epoch,
            keeps_epoch: self.keeps_epoch,
            lift: self.lift,
            source,
            progress: self.progress.clone(),
            bindings: self.bindings.all().clone(),
            agents: agents.collect(),
        }
    }

    /// Goes on from what was written down; agents are greeted anew over these links.
    pub fn restore(
        checkpoint: Checkpoint,
        metrics: Metrics,
        mut link: impl FnMut(SessionId) -> Link,
    ) -> Self {
        let Checkpoint { epoch, keeps_epoch, lift, source, progress, bindings, agents } = checkpoint;
        let mut state = Self::new(epoch, bindings, metrics);
        (state.keeps_epoch, state.lift, state.progress) = (keeps_epoch, lift, progress);
        for (node, session) in agents {
            let held = state.bindings.of(&node).cloned().unwrap_or_default();
            let hello = Hello {
                bindings: held.pods.into_values().collect(),
                bindings_revision: held.revision,
                role: Role::Standby,
                ..Hello::default()
            };
            state.attach(&node, link(session), hello);
        }
        if let Some(source) = source {
            state.snapshot(source);
        }
        state
    }
}
