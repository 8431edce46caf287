//! A stream between an agent and a controller: messages under way in both directions, in order; a break loses an end of
//! them, and either side notices when it does. It does not know what messages mean.

use std::collections::VecDeque;
use std::sync::Arc;

use api::generated::ferrule::v1alpha1 as wire;
use controller::agent::SessionId;
use network::{Network, NodeName};
use ovs_agent::event::Session;
use tokio::sync::mpsc;
use tonic::Status;

/// The controller's messages under way.
pub type Incoming = mpsc::Receiver<Result<wire::FromController, Status>>;

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// Whose.
    pub node: NodeName,
    /// To which controller, and to which run of it: a restarted one knows nothing of it.
    pub replica: usize,
    /// The agent's name for it.
    pub session: Session,
    /// The controller's name for it.
    pub id: SessionId,
    /// From the agent.
    pub up: VecDeque<wire::FromAgent>,
    /// From the controller, once it has taken the agent in.
    pub down: Option<Incoming>,
    /// What each message of the controller is made of: the checks' own note.
    pub models: VecDeque<Arc<Network>>,
    /// The agent uses it.
    pub agent_end: bool,
    /// The controller uses it.
    pub replica_end: bool,
    /// Nothing new travels.
    pub broken: bool,
}

impl Stream {
    /// The line breaks: of what was under way upwards, `keep` messages arrive.
    pub fn cut(&mut self, keep: usize) {
        if !self.broken {
            self.up.truncate(keep);
        }
        self.broken = true;
    }

    /// Nobody uses it any more.
    pub fn is_over(&self) -> bool {
        self.broken && !self.agent_end && !self.replica_end
    }
}
