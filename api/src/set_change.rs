//! What an address set has more and less than an earlier version of itself: one member that comes or goes costs one member
//! on the wire, whatever the size of the set. Pure; it must not know who holds which version.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use network::{AddressSet, NodeView, SetId};

use crate::convert::{self, Malformed};
use crate::generated::ferrule::v1alpha1 as wire;
use crate::resources::Members;
use crate::stream::{ResourceId, Version};

/// Versions that an entry remembers at most. An agent is at most a few deltas behind; one that is further gets the whole.
const MOST_STEPS: usize = 16;
/// Members that small sets may remember in all; larger ones half as many as they have.
const FEW_MEMBERS: usize = 8;

/// From one version of a set to the next.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    from: Version,
    added: Vec<IpAddr>,
    removed: Vec<IpAddr>,
}

impl Step {
    fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }
}

/// How a set came to be what it is, as far as it is remembered; the newest step last.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Vec<Arc<Step>>);

impl History {
    /// One step more: from a version with these members to one with those. Both each once and in order.
    pub(crate) fn then(&self, from: Version, before: &[IpAddr], now: &[IpAddr]) -> Self {
        let mut steps = self.0.clone();
        steps.push(Arc::new(step(from, before, now)));
        let room = FEW_MEMBERS + now.len() / 2;
        let (mut kept, mut members) = (0, 0);
        for step in steps.iter().rev().take(MOST_STEPS) {
            members += step.len();
            if members > room {
                break;
            }
            kept += 1;
        }
        steps.drain(..steps.len() - kept);
        Self(steps)
    }

    /// What leads from a version to the present one; `None` when that is not remembered.
    pub(crate) fn since(&self, from: Version) -> Option<wire::AddressSetChange> {
        let first = self.0.iter().rposition(|step| step.from == from)?;
        // Whether it was there at first, and whether it is there at last.
        let mut members: BTreeMap<IpAddr, (bool, bool)> = BTreeMap::new();
        for step in self.0.get(first..)? {
            let touched = step.added.iter().map(|member| (member, true));
            for (member, there) in touched.chain(step.removed.iter().map(|member| (member, false))) {
                members.entry(*member).or_insert((!there, there)).1 = there;
            }
        }
        let of = |was: bool| -> Vec<Vec<u8>> {
            let differ = members.iter().filter(|(_, (first, last))| *first == was && *last != was);
            differ.map(|(member, _)| convert::encode_address(*member)).collect()
        };
        Some(wire::AddressSetChange { from: from.0, added: of(false), removed: of(true) })
    }
}

fn step(from: Version, before: &[IpAddr], now: &[IpAddr]) -> Step {
    let without = |from: &[IpAddr], other: &[IpAddr]| -> Vec<IpAddr> {
        let mut rest = other.iter().peekable();
        let mut only = Vec::new();
        for member in from {
            while rest.next_if(|other| *other < member).is_some() {}
            if rest.peek() != Some(&member) {
                only.push(*member);
            }
        }
        only
    };
    Step { from, added: without(now, before), removed: without(before, now) }
}

/// What the sets of a view add up to: kept beside it, so that a change costs what it changes. Filled as it is needed.
#[derive(Clone, Debug, Default)]
pub struct Sums(BTreeMap<SetId, Members>);

impl Sums {
    /// The set is another one now, or gone.
    pub(crate) fn forget(&mut self, id: SetId) {
        self.0.remove(&id);
    }

    /// Brings a set of the view from one version to another, or leaves it as it is.
    pub(crate) fn apply(
        &mut self,
        view: &mut NodeView,
        id: SetId,
        to: Version,
        change: &wire::AddressSetChange,
    ) -> Result<(), Malformed> {
        let fault = |field: &str, reason: String| Malformed {
            resource: ResourceId::AddressSet(id).to_string(),
            field: format!("address_set_change.{field}"),
            reason,
        };
        let added = convert::decode_members("added", &change.added)
            .map_err(|(field, reason)| fault(&field, reason))?;
        let removed = convert::decode_members("removed", &change.removed)
            .map_err(|(field, reason)| fault(&field, reason))?;
        let Some(set) = view.sets.get_mut(&id) else {
            return Err(fault("from", "changes a set that is not held".into()));
        };
        let sum = self.0.entry(id).or_insert_with(|| set.members.iter().copied().collect());
        let held = sum.version(id);
        if held.0 != change.from {
            return Err(fault("from", format!("changes {:?}, but {held:?} is held", Version(change.from))));
        }
        let outcome = sum.changed(set, &added, &removed);
        if outcome.version(id) != to {
            return Err(fault("added", format!("leads to {:?}, not to {to:?}", outcome.version(id))));
        }
        *sum = outcome;
        for member in removed {
            set.members.remove(&member);
        }
        set.members.extend(added);
        Ok(())
    }
}

impl Members {
    fn changed(mut self, set: &AddressSet, added: &[IpAddr], removed: &[IpAddr]) -> Self {
        added.iter().filter(|it| !set.members.contains(*it)).for_each(|it| self.add(*it));
        removed.iter().filter(|it| set.members.contains(*it)).for_each(|it| self.remove(*it));
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::delta;
    use crate::resources::{Entry, next_set_entry};

    const ID: SetId = SetId(7);

    fn address(host: u8) -> IpAddr {
        // Both families, so that the order of the bytes is not that of the addresses.
        if host.is_multiple_of(2) {
            IpAddr::from([10, 0, 0, host])
        } else {
            IpAddr::from([u16::from(host); 8])
        }
    }

    fn entry(before: Option<&Entry>, members: &BTreeSet<u8>) -> Entry {
        let members: BTreeSet<IpAddr> = members.iter().map(|host| address(*host)).collect();
        let version = members.iter().copied().collect::<Members>().version(ID);
        next_set_entry(before, ID, version, &members.into_iter().collect::<Vec<_>>())
    }

    proptest! {
        /// Somebody who hears of some versions only holds what one holds who heard of all.
        #[test]
        fn changes_lead_where_the_whole_leads(
            states in prop::collection::vec((prop::collection::btree_set(0u8..12, 0..12), any::<bool>()), 1..30),
        ) {
            let (mut view, mut sums) = (NodeView::default(), Sums::default());
            let (mut known, mut last) = (delta::Versions::new(), None);
            for (members, heard) in states {
                let now = entry(last.as_ref(), &members);
                if heard {
                    let resources = delta::Resources::new(vec![Arc::new(delta::Section::new(vec![now.clone()]))]);
                    let delta = delta::delta_where(&known, &resources, false, |_| true).delta;
                    let applied = delta::apply_with(&mut view, &mut sums, &delta);
                    prop_assert_eq!(&applied.rejected, &vec![]);
                    known = resources.versions();
                    let held: BTreeSet<IpAddr> = view.sets[&ID].members.clone();
                    prop_assert_eq!(held, members.iter().map(|host| address(*host)).collect());
                    prop_assert_eq!(&delta::versions(&view), &known);
                }
                last = Some(now);
            }
        }
    }

    #[test]
    fn one_member_of_many_costs_one() {
        let many: BTreeSet<u8> = (0..200).collect();
        let first = entry(None, &many);
        let second = entry(Some(&first), &(0..201).collect());
        let third = entry(Some(&second), &(1..201).collect());
        let change = third.change_since(first.version).unwrap();
        let Some(wire::resource::Body::AddressSetChange(change)) = change.body else { panic!("{change:?}") };
        assert_eq!((change.added.len(), change.removed.len()), (1, 1));
        // Nobody remembers for ever, nor more than half a set.
        assert!(entry(Some(&third), &BTreeSet::from([1])).change_since(first.version).is_none());
        let mut last = third;
        for host in 201..=220 {
            last = entry(Some(&last), &(1..=host).collect());
        }
        assert_eq!(last.change_since(first.version), None);
    }

    #[test]
    fn a_change_of_something_else_is_refused_and_changes_nothing() {
        let (mut view, mut sums) = (NodeView::default(), Sums::default());
        let (before, now) = (entry(None, &(0..50).collect()), entry(None, &(0..51).collect()));
        let change = wire::AddressSetChange { from: before.version.0, ..Default::default() };
        let refused = |view: &mut NodeView, sums: &mut Sums, change: &wire::AddressSetChange| {
            sums.apply(view, ID, now.version, change).unwrap_err().to_string()
        };
        assert!(refused(&mut view, &mut sums, &change).contains("not held"));
        let members = (0..50).map(address).collect();
        view.sets.insert(ID, AddressSet { id: ID, members });
        let held = view.clone();
        assert!(refused(&mut view, &mut sums, &change).contains("leads to"));
        let other = wire::AddressSetChange { from: 1, added: vec![vec![10, 0, 0, 50]], ..change.clone() };
        assert!(refused(&mut view, &mut sums, &other).contains("is held"));
        let short = wire::AddressSetChange { removed: vec![vec![1]], ..change.clone() };
        assert!(refused(&mut view, &mut sums, &short).contains("removed[0]"));
        assert_eq!(view, held);
        let right = wire::AddressSetChange { added: vec![vec![10, 0, 0, 50]], ..change };
        sums.apply(&mut view, ID, now.version, &right).unwrap();
        assert_eq!(view.sets[&ID].members.len(), 51);
    }
}
