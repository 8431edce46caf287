//! Canonical conjunction ids: a hash of what the conjunction is, so that ids depend on the state and not on its history.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// Gives every key an id. When two hash alike the smaller key keeps the slot and the larger probes on; `bits` is the size
/// of the id space (32 for the switch; tests use fewer to meet collisions).
pub(crate) fn assign<K: Ord + Hash + Clone>(
    keys: impl IntoIterator<Item = K>,
    bits: u32,
) -> BTreeMap<K, u32> {
    let mut keys: Vec<K> = keys.into_iter().collect();
    keys.sort();
    keys.dedup();
    let mask = u32::MAX >> (32 - bits);
    let mut taken: BTreeMap<u32, ()> = BTreeMap::new();
    let mut ids = BTreeMap::new();
    for key in keys {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        key.hash(&mut hash);
        let mut id = (hash.0 >> 32) as u32 & mask;
        // 0 is what a packet that met no conjunction has.
        while id == 0 || taken.contains_key(&id) {
            id = id.wrapping_add(1) & mask;
        }
        taken.insert(id, ());
        ids.insert(key, id);
    }
    ids
}

/// FNV-1a, 64 bits; numbers go in as little-endian bytes, so the result is the same on every machine of our kind.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_distinct_and_do_not_depend_on_the_order(mut keys in prop::collection::btree_set(0u16..500, 0..12), seed: u64) {
            let forward = assign(keys.iter().copied(), 4);
            let mut shuffled: Vec<u16> = keys.iter().copied().collect();
            let len = shuffled.len().max(1);
            shuffled.rotate_left(seed as usize % len);
            prop_assert_eq!(&assign(shuffled, 4), &forward);
            let mut ids: Vec<u32> = forward.values().copied().collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), keys.len());
            prop_assert!(!ids.contains(&0));
            keys.clear();
        }
    }
}
