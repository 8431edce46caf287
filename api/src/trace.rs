//! What a switch says of a packet: the items of `/v1alpha1/trace` and `POST /v1alpha1/probe`.

use network::NodeName;
use serde::{Deserialize, Serialize};

/// The way of a packet through the flows of one switch, by the switch's own account (`ofproto/trace`). Nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceItem {
    /// Where.
    pub node: NodeName,
    /// The packet, in ovs-ofctl's words.
    pub flow: String,
    /// The flows that it meets in `br-int`, in their order; copies to the agent are left out.
    pub steps: Vec<TraceStep>,
    /// What the switch said, in full.
    pub text: String,
}

/// A flow that a packet meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceStep {
    /// Table number.
    pub table_id: u8,
    /// Table name.
    pub table: String,
    /// Cookie, hexadecimal; `0x0` where no flow matches, or nobody marked it.
    pub cookie: String,
    /// Match and priority, in the switch's words.
    pub flow: String,
}

/// A packet that an agent sent into its switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeItem {
    /// Where.
    pub node: NodeName,
    /// The number of the port by which it came in.
    pub port: u32,
}
