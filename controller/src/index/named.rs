//! Things by their names. The names are in the slab and nowhere else: a hundred thousand of them are not held a second time.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;
use network::{NamespacedName, PolicyId};

use super::slab::{Place, Slab};
use super::{PodEntry, PolicyEntry};

/// Something that has a name.
pub trait Name {
    /// What names are.
    type Of: Hash + Eq;

    /// Its own.
    fn name(&self) -> &Self::Of;
}

impl Name for PodEntry {
    type Of = NamespacedName;

    fn name(&self) -> &NamespacedName {
        &self.pod.key
    }
}

impl Name for PolicyEntry {
    type Of = PolicyId;

    fn name(&self) -> &PolicyId {
        &self.policy.id
    }
}

/// Where everything of a slab is.
#[derive(Debug)]
pub struct Named<P> {
    places: HashTable<P>,
    hashes: RandomState,
}

impl<P> Default for Named<P> {
    fn default() -> Self {
        Self { places: HashTable::new(), hashes: RandomState::new() }
    }
}

impl<P: Place> Named<P> {
    /// The place of what has this name.
    pub fn get<T: Name>(&self, slab: &Slab<P, T>, name: &T::Of) -> Option<P> {
        self.places.find(self.hashes.hash_one(name), |place| slab[*place].name() == name).copied()
    }

    /// Something that is in the slab and whose name was not here.
    pub fn insert<T: Name>(&mut self, slab: &Slab<P, T>, place: P) {
        let hash = |place: &P| self.hashes.hash_one(slab[*place].name());
        self.places.insert_unique(hash(&place), place, hash);
    }

    /// Forgets this name; what has it is in the slab still.
    pub fn remove<T: Name>(&mut self, slab: &Slab<P, T>, name: &T::Of) -> Option<P> {
        let found = self.places.find_entry(self.hashes.hash_one(name), |place| slab[*place].name() == name);
        Some(found.ok()?.remove().0)
    }
}
