//! What the endpoints of a Service come from. No node needs it and none gets it: it is for whoever works out what becomes of them when
//! pods, slices or the Service itself change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::few::Few;
use crate::labels::Labels;
use crate::service::ServiceEndpoint;

/// What the endpoints of a Service come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Backing {
    /// The labels of the pods that it selects; none: it selects nobody, and its slices are somebody's own.
    pub selector: Labels,
    /// At which number a pod serves a port, in the order of the Service's ports.
    pub targets: Vec<Target>,
    /// Whom clients shall prefer (`spec.trafficDistribution`).
    pub prefers: Prefers,
    /// Its EndpointSlices by name: what somebody's own hold; `None` of those that a cluster keeps for the selector.
    pub slices: BTreeMap<String, Option<Slice>>,
}

/// The endpoints that a slice lists, by the name of the port.
pub type Slice = BTreeMap<String, Few<ServiceEndpoint>>;

/// `spec.ports[].targetPort`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    /// This number.
    Number(u16),
    /// The number that each pod declares by this name.
    Name(String),
}

/// Whom clients of a Service shall prefer (KEP-3015).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Prefers {
    /// Nobody.
    #[default]
    Nobody,
    /// Endpoints of their zone.
    SameZone,
    /// Endpoints of their node, then of their zone.
    SameNode,
}
