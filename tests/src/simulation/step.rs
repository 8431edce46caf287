//! Everything that can happen in the simulated cluster, as values that can be written down and played again.

use api::cni::AttachmentId;
use network::{Labels, NamespacedName, Node, NodeName, Pod, Policy, PolicyId, Selector};
use serde::{Deserialize, Serialize};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// A policy is made or changed; with the selectors that it names.
    Policy(Box<Policy>, Vec<Selector>),
    /// A policy is deleted.
    NoPolicy(PolicyId),
    /// A pod is made (bound already) or changed.
    Pod(Box<Pod>),
    /// A pod is deleted.
    NoPod(NamespacedName),
    /// A namespace gets these labels.
    Namespace(String, Labels),
    /// A node is made or changed.
    Node(Box<Node>),
    /// A node is deleted.
    NoNode(NodeName),

    /// The source of a controller reads the next change.
    Read(usize),
    /// A controller goes on to settle what it took in.
    Settle(usize),
    /// A controller ends.
    ReplicaDown(usize),
    /// A controller starts; having lost its state directory, or not.
    ReplicaUp {
        /// Which.
        replica: usize,
        /// Whether its directory is lost.
        forgetful: bool,
    },

    /// An agent dials a controller.
    Open(NodeName, usize),
    /// The next message of a stream reaches the controller.
    Up(u64),
    /// The next message of a stream reaches the agent.
    Down(u64),
    /// A controller that lags sends an agent what it was sent long ago.
    Stale(NodeName),
    /// A stream breaks; this many messages to the controller still arrive.
    Cut(u64, usize),
    /// The agent notices.
    AgentNotices(u64),
    /// The controller notices.
    ReplicaNotices(u64),

    /// The runtime plugs a pod.
    Plug(NamespacedName),
    /// The runtime unplugs an attachment.
    Unplug(NodeName, AttachmentId),
    /// An agent takes events in without looking at what follows from them.
    Busy(NodeName),
    /// It looks.
    Work(NodeName),
    /// An agent's state reaches its disk.
    Save(NodeName),
    /// An agent ends; whether the bundle under way is carried out.
    AgentDown(NodeName, bool),
    /// An agent starts; with a clock that went back, or not.
    AgentUp {
        /// Where.
        node: NodeName,
        /// Whether the clock went back.
        clock_back: bool,
    },

    /// The switch makes the ports that the database lists; slowly, or not.
    Ports(NodeName, bool),
    /// The agent hears what the database says.
    Database(NodeName),
    /// The agent loses the database.
    DatabaseLost(NodeName),
    /// The switch takes the bundle under way; or refuses the flow-mod at this place.
    Bundle(NodeName, Option<usize>),
    /// Its answer reaches the agent.
    Answer(NodeName),
    /// The connection to the switch breaks.
    SwitchLost {
        /// Where.
        node: NodeName,
        /// Whether the bundle under way is carried out.
        applied: bool,
        /// Whether the switch starts again, empty.
        restart: bool,
        /// Whether it numbers its ports anew then.
        renumber: bool,
    },
    /// The switch is connected again.
    SwitchBack(NodeName),
    /// Time to try again.
    Retry(NodeName),

    /// Milliseconds pass.
    Wait(u64),
    /// From here on nothing changes: no flow-mod and no resource may be sent.
    Quiet(bool),
    /// Everything is delivered and at rest: the whole is compared.
    Rest,
}
