//! Several controllers at once: which one leads, and what an agent tells the others of what it holds. Knows no streams.
//!
//! An agent keeps a stream to every controller. The leader sends deltas and gets their answers; the others stand by, hear
//! bindings, answer questions, and are told in short what the agent holds, so that any of them can take over with the
//! difference alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::convert::{self, Malformed};
use crate::delta::Versions;
use crate::generated::ferrule::v1alpha1 as wire;
use crate::stream::{ResourceId, Version};
use crate::watermark::Watermark;

/// What a controller is to an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// It sends deltas.
    #[default]
    Leader,
    /// It waits to be the leader.
    Standby,
}

impl Role {
    /// As the Hello carries it.
    pub fn encode(self) -> wire::Role {
        match self {
            Self::Leader => wire::Role::Leader,
            Self::Standby => wire::Role::Standby,
        }
    }

    /// From a Hello; one without the field comes from an agent that knows one controller.
    pub fn decode(role: i32) -> Self {
        if role == i32::from(wire::Role::Standby) { Self::Standby } else { Self::Leader }
    }
}

/// What an agent holds, as the difference to what it said before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Resources with the version that is held now; `None` for one that is no longer held.
    #[serde(with = "crate::pairs")]
    pub changes: BTreeMap<ResourceId, Option<Version>>,
    /// The watermark of all that is held.
    pub watermark: Watermark,
}

impl Holding {
    /// The changes of `later` on top of ours, and its watermark.
    pub fn extend(&mut self, later: &Self) {
        self.changes.extend(later.changes.iter().map(|(id, version)| (id.clone(), *version)));
        self.watermark.clone_from(&later.watermark);
    }

    /// Brings what is known of an agent up to date.
    pub fn update(&self, held: &mut Versions) {
        for (id, version) in &self.changes {
            match version {
                Some(version) => drop(held.insert(id.clone(), *version)),
                None => drop(held.remove(id)),
            }
        }
    }

    /// For the wire.
    pub fn encode(&self) -> wire::Holding {
        let changed = self.changes.iter().filter_map(|(id, version)| {
            Some(wire::ResourceVersion { id: Some(convert::encode_id(id)), version: (*version)?.0 })
        });
        let removed = self.changes.iter().filter(|(_, version)| version.is_none());
        wire::Holding {
            changed: changed.collect(),
            removed: removed.map(|(id, _)| convert::encode_id(id)).collect(),
            watermark: Some(convert::encode_watermark(&self.watermark)),
        }
    }

    /// From the wire, whole or not at all: half of it would claim what is not so. But resources of a kind that only newer peers know
    /// are none of ours.
    pub fn decode(holding: &wire::Holding) -> Result<Self, Malformed> {
        let mut changes = BTreeMap::new();
        for id in holding.removed.iter().filter(|id| convert::knows_kind(id)) {
            changes.insert(convert::decode_id(id)?, None);
        }
        for (id, version) in decode_versions(&holding.changed)? {
            changes.insert(id, Some(version));
        }
        Ok(Self { changes, watermark: convert::decode_watermark(holding.watermark.as_ref())? })
    }
}

/// Versions for the wire.
pub fn encode_versions(versions: &Versions) -> Vec<wire::ResourceVersion> {
    let encode = |(id, version): (&ResourceId, &Version)| wire::ResourceVersion {
        id: Some(convert::encode_id(id)),
        version: version.0,
    };
    versions.iter().map(encode).collect()
}

/// Versions from the wire, all or none, but for resources of a kind that only newer peers know.
pub fn decode_versions(versions: &[wire::ResourceVersion]) -> Result<Versions, Malformed> {
    let unset = wire::ResourceId::default();
    let decode = |held: &wire::ResourceVersion| {
        Ok((convert::decode_id(held.id.as_ref().unwrap_or(&unset))?, Version(held.version)))
    };
    let known = |held: &&wire::ResourceVersion| held.id.as_ref().is_none_or(convert::knows_kind);
    versions.iter().filter(known).map(decode).collect()
}

/// What applying a delta changed of what is held: the versions that the delta gave to what changed.
pub fn held_by(delta: &wire::Delta, changed: &BTreeSet<ResourceId>, watermark: Watermark) -> Holding {
    let mut changes: BTreeMap<ResourceId, Option<Version>> =
        changed.iter().map(|id| (id.clone(), None)).collect();
    for (id, given) in crate::delta::changed_versions(delta) {
        if let Some(version) = changes.get_mut(&id) {
            *version = Some(given);
        }
    }
    Holding { changes, watermark }
}

#[cfg(test)]
mod tests {
    use network::NodeName;

    use super::*;

    fn node(name: &str) -> ResourceId {
        ResourceId::Node(NodeName::new(name))
    }

    fn holding(changes: &[(&str, Option<u64>)], revision: u64) -> Holding {
        let changes = changes.iter().map(|(name, version)| (node(name), version.map(Version)));
        let revisions = [("manifests".to_owned(), revision)].into();
        Holding { changes: changes.collect(), watermark: Watermark { revisions, ..Watermark::default() } }
    }

    #[test]
    fn what_is_held_survives_the_wire_and_adds_up() {
        let mut sum = holding(&[("a", Some(1)), ("b", Some(2))], 4);
        sum.extend(&holding(&[("b", None), ("c", Some(3))], 5));
        assert_eq!(sum, holding(&[("a", Some(1)), ("b", None), ("c", Some(3))], 5));
        assert_eq!(Holding::decode(&sum.encode()), Ok(sum.clone()));
        let mut held = Versions::from([(node("b"), Version(2)), (node("d"), Version(9))]);
        sum.update(&mut held);
        assert_eq!(
            held,
            [("a", 1), ("c", 3), ("d", 9)].map(|(name, version)| (node(name), Version(version))).into()
        );
        assert_eq!(decode_versions(&encode_versions(&held)), Ok(held));
    }

    #[test]
    fn half_of_a_holding_is_none() {
        let mut wire = holding(&[("a", Some(1))], 4).encode();
        wire.changed.push(wire::ResourceVersion::default());
        assert!(Holding::decode(&wire).unwrap_err().to_string().contains("kind"));
    }

    #[test]
    fn a_hello_without_a_role_makes_a_leader() {
        assert_eq!(Role::decode(0), Role::Leader);
        for role in [Role::Leader, Role::Standby] {
            assert_eq!(Role::decode(role.encode().into()), role);
        }
    }
}
