//! A stream between an agent and a controller: messages under way in both directions, in order; a break loses an end of
//! them, and either side notices when it does. It does not know what messages mean.

use std::collections::VecDeque;
use std::sync::Arc;

use api::generated::ferrule::v1alpha1 as wire;
use api::role::Role;
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
    /// The agent asked the controller to lead, and has not let another one lead since: as its words were.
    pub asked: bool,
    /// How often it asked after its Hello.
    pub term: u64,
    /// The agent uses it.
    pub agent_end: bool,
    /// The controller uses it.
    pub replica_end: bool,
    /// Nothing new travels.
    pub broken: bool,
}

impl Stream {
    /// What the agent says; its words tell whose deltas it takes.
    pub fn say(&mut self, message: wire::FromAgent) {
        match &message.body {
            Some(wire::from_agent::Body::Hello(hello)) => {
                self.asked = Role::decode(hello.role) == Role::Leader;
            }
            Some(wire::from_agent::Body::Lead(lead)) => (self.asked, self.term) = (true, lead.term),
            Some(wire::from_agent::Body::StandBy(_)) => self.asked = false,
            _ => {}
        }
        if !self.broken {
            self.up.push_back(message);
        }
    }

    /// Where the controller is, in the agent's words.
    pub fn address(&self) -> String {
        address(self.replica)
    }

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

/// Where a controller is, in the agents' words.
pub fn address(replica: usize) -> String {
    format!("192.0.2.{}:7470", 100 + replica)
}
