//! The table registry: every table of the pipeline with its number and its purpose, in the order a packet meets them.
//! `docs/pipeline.md` is generated from it. Numbers are fixed and sparse: an upgrade must not shift them under running
//! traffic.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! tables {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal, $stage:literal;)*) => {
        /// A table of `br-int`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Table {
            $($(#[doc = $doc])+ $name = $id,)*
        }

        impl Table {
            /// All tables in the order of the pipeline.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, as `ferrule get flows` shows it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The part of the pipeline that it belongs to.
            pub fn stage(self) -> &'static str {
                match self { $(Self::$name => $stage,)* }
            }

            /// What it decides.
            pub fn doc(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii(),)* }
            }
        }
    };
}

tables! {
    /// Where a packet comes from: a pod's port, the gateway, a tunnel. Anything else is dropped.
    Classifier = 0, "arrival";
    /// Nobody speaks for another: MAC, IP, ARP and ND per port; at the tunnel the outer source is a node and the inner source belongs to it.
    SpoofGuard = 8, "arrival";
    /// Answers ARP requests with the router's address.
    ArpResponder = 16, "neighbours";
    /// Turns a neighbour solicitation for the router into an advertisement (first half: source and type).
    NdResponder = 20, "neighbours";
    /// Second half of the advertisement: the target's link-layer address; then back where it came from.
    NdAdvertise = 22, "neighbours";
    /// Undoes SNAT for replies to the node.
    UnSnat = 28, "connections";
    /// Sends every IP packet through connection tracking.
    Conntrack = 36, "connections";
    /// Judges the tracked state: invalid, blocked, reply, established, new.
    ConntrackState = 40, "connections";
    /// The switch's own: the reverse of every SCTP association that policy allowed, learned. The userspace datapath tracks SCTP without its ports, so an entry there says nothing about an association.
    SctpReplies = 44, "connections";
    /// Judges SCTP by what was found among the learned replies.
    SctpState = 46, "connections";
    /// Who has its endpoint already, and who asks a node for something.
    ServiceAddress = 48, "services";
    /// The switch's own: the endpoint that a client was given and keeps for a while, learned.
    ServiceAffinity = 50, "services";
    /// Which Service a new connection asks for, and the hash that chooses among its endpoints.
    ServiceLb = 52, "services";
    /// From the choice to the endpoint.
    EndpointSelect = 54, "services";
    /// Rewrites the destination to the chosen endpoint.
    EndpointDnat = 56, "services";
    /// Egress rules of the Admin tier.
    EgressAdmin = 64, "egress policy";
    /// Egress rules of NetworkPolicies, and isolation.
    Egress = 68, "egress policy";
    /// Egress rules of the Baseline tier.
    EgressBaseline = 72, "egress policy";
    /// Where to: a local pod, another node, the gateway.
    Routing = 80, "routing";
    /// Sets the Ethernet addresses of the last hop.
    Switching = 88, "routing";
    /// Ingress rules of the Admin tier.
    IngressAdmin = 96, "ingress policy";
    /// Ingress rules of NetworkPolicies, and isolation.
    Ingress = 100, "ingress policy";
    /// Ingress rules of the Baseline tier.
    IngressBaseline = 104, "ingress policy";
    /// Commits what was allowed to connection tracking.
    Commit = 112, "departure";
    /// Rewrites the source where replies would otherwise miss this node. Last: policies see who really speaks.
    Snat = 116, "departure";
    /// Out of the chosen port.
    Output = 120, "departure";
    /// Marks a connection that a policy no longer allows as blocked, and drops.
    Block = 128, "departure";
    /// Beside the way of a packet: tells the agent of connections that audited policies allow.
    Audit = 136, "departure";
}

impl Table {
    /// The number.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Whether its flows are the switch's own (`learn`): reconciliation leaves them alone.
    pub fn is_learned(self) -> bool {
        matches!(self, Self::SctpReplies | Self::ServiceAffinity)
    }

    /// The table of this number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|table| table.id() == id)
    }

    /// The table of this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|table| table.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_stay_below_what_the_switch_refuses() {
        assert!(Table::ALL.windows(2).all(|pair| pair[0].id() < pair[1].id()));
        assert!(Table::ALL.iter().all(|table| table.id() < 254));
        for table in Table::ALL {
            assert_eq!(Table::from_id(table.id()), Some(*table));
            assert_eq!(Table::from_name(table.name()), Some(*table));
            assert!(!table.doc().is_empty());
        }
    }
}
