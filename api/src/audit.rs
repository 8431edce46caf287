//! What an agent says of what its node holds and should not, or does not hold and should: the items of `/v1alpha1/audit`.

use network::NodeName;
use serde::{Deserialize, Serialize};

use crate::insight::Owner;

/// Something on a node that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditItem {
    /// Where.
    pub node: NodeName,
    /// `flow`, `meter`, `group`, `database`, `host`.
    pub place: String,
    /// How it differs.
    pub difference: Difference,
    /// What differs: a flow in ovs-ofctl's words, or a sentence.
    pub object: String,
    /// As it should be; absent where nothing should be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// As it is; absent where nothing is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// Everything that made what should be there.
    pub owners: Vec<Owner>,
    /// What it does.
    pub what: String,
    /// It was put right since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repaired: bool,
    /// When the agent saw that somebody had changed it, of what the agent put right by itself (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// How something differs from what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// It is not there.
    Missing,
    /// Nobody wants it.
    Extra,
    /// It is other than it should be.
    Changed,
}
