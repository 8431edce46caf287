//! Pods by their names. The names are in the slab and nowhere else: a hundred thousand of them are not held a second time.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use network::NamespacedName;

use super::PodEntry;
use super::slab::{PodPlace, Slab};

type Pods = Slab<PodPlace, PodEntry>;

/// Where every pod is.
#[derive(Debug, Default)]
pub struct Named {
    places: HashTable<PodPlace>,
    hashes: RandomState,
}

impl Named {
    /// The place of the pod of this name.
    pub fn get(&self, pods: &Pods, key: &NamespacedName) -> Option<PodPlace> {
        self.places.find(self.hashes.hash_one(key), |place| pods[*place].pod.key == *key).copied()
    }

    /// A pod that is in the slab and whose name was not here.
    pub fn insert(&mut self, pods: &Pods, place: PodPlace) {
        let hash = |place: &PodPlace| self.hashes.hash_one(&pods[*place].pod.key);
        self.places.insert_unique(hash(&place), place, hash);
    }

    /// Forgets the pod of this name, which is in the slab still.
    pub fn remove(&mut self, pods: &Pods, key: &NamespacedName) -> Option<PodPlace> {
        let found = self.places.find_entry(self.hashes.hash_one(key), |place| pods[*place].pod.key == *key);
        Some(found.ok()?.remove().0)
    }
}
