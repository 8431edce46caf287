//! Canonical conjunction ids: a hash of what the conjunction is, so that ids depend on the state and not on its history.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};

use openflow::canonical::StableHash;

/// 64 bits that tell keys apart.
pub(crate) fn print(key: &impl Hash) -> u64 {
    let mut hasher = Stable(StableHash::new());
    key.hash(&mut hasher);
    hasher.finish()
}

/// Gives every key an id; `prints` are the keys' in the order of the keys. When two hash alike the smaller key keeps the slot
/// and the larger probes on; `bits` is the size of the id space (32 for the switch; tests use fewer to meet collisions).
pub(crate) fn assign(prints: impl Iterator<Item = u64>, bits: u32) -> Vec<u32> {
    let mask = u32::MAX >> (32 - bits);
    let mut taken = HashSet::new();
    let probe = |print: u64| {
        let mut id = (print >> 32) as u32 & mask;
        // 0 is what a packet that met no conjunction has.
        while id == 0 || !taken.insert(id) {
            id = id.wrapping_add(1) & mask;
        }
        id
    };
    prints.map(probe).collect()
}

/// The ids of some keys, whatever their order.
pub(crate) fn ids<K: Ord + Hash>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, u32> {
    let keys: BTreeSet<K> = keys.into_iter().collect();
    let ids = assign(keys.iter().map(print), 32);
    keys.into_iter().zip(ids).collect()
}

/// Numbers go in as little-endian bytes, so the result is the same on every machine of our kind.
struct Stable(StableHash);

impl Hasher for Stable {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_distinct_and_a_smaller_key_does_not_see_a_larger_one(keys in prop::collection::btree_set(0u16..500, 0..12)) {
            let prints: Vec<u64> = keys.iter().map(print).collect();
            let ids = assign(prints.iter().copied(), 4);
            let distinct: HashSet<u32> = ids.iter().copied().collect();
            prop_assert_eq!(distinct.len(), keys.len());
            prop_assert!(!distinct.contains(&0));
            for fewer in 0..prints.len() {
                prop_assert_eq!(&assign(prints[..fewer].iter().copied(), 4), &ids[..fewer]);
            }
        }
    }
}
