//! Ordered sets and counts of small numbers in one allocation each. There are very many of them and most are small: a tree takes
//! room for eleven and a node of its own. A large one costs a move of memory where something is put into its middle, some
//! microseconds for a hundred thousand places. Knows nothing of the index.

use smallvec::SmallVec;

use super::slab::Place;

/// A set, in order. So many fit without an allocation in what the number of more takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedSet<T>(SmallVec<[T; 5]>);

impl<T> Default for SortedSet<T> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T: Ord> SortedSet<T> {
    /// Puts something in; false when it was there.
    pub fn insert(&mut self, member: T) -> bool {
        // Mostly what comes is the newest.
        if self.0.last().is_none_or(|last| *last < member) {
            self.0.push(member);
            return true;
        }
        let place = self.0.binary_search(&member);
        place.map_err(|place| self.0.insert(place, member)).is_err()
    }

    /// Takes something out; false when it was not there.
    pub fn remove(&mut self, member: &T) -> bool {
        let place = self.0.binary_search(member);
        place.map(|place| self.0.remove(place)).is_ok()
    }

    /// Whether it is there.
    pub fn contains(&self, member: &T) -> bool {
        self.0.binary_search(member).is_ok()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> IntoIterator for SortedSet<T> {
    type Item = T;
    type IntoIter = smallvec::IntoIter<[T; 5]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a SortedSet<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// How often something is there, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts<K>(SmallVec<[(K, u32); 3]>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<K: Ord> Counts<K> {
    /// Once more or once less; whether it came or went with that. What is not there cannot be there less often.
    pub fn count(&mut self, key: K, more: bool) -> bool {
        match self.0.binary_search_by(|(held, _)| held.cmp(&key)) {
            Ok(place) => {
                let Some((_, count)) = self.0.get_mut(place) else { return false };
                *count = if more { *count + 1 } else { *count - 1 };
                let gone = *count == 0;
                if gone {
                    self.0.remove(place);
                }
                gone
            }
            Err(place) if more => {
                self.0.insert(place, (key, 1));
                true
            }
            Err(_) => false,
        }
    }

    /// Whether it is there.
    pub fn contains(&self, key: &K) -> bool {
        self.0.binary_search_by(|(held, _)| held.cmp(key)).is_ok()
    }

    /// What is there, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }
}

/// Places that are marked again and again, to be taken once.
#[derive(Debug)]
pub struct Marks<P> {
    marked: Vec<bool>,
    places: Vec<P>,
}

impl<P> Default for Marks<P> {
    fn default() -> Self {
        Self { marked: Vec::new(), places: Vec::new() }
    }
}

impl<P: Place + Ord> Marks<P> {
    /// Marks one.
    pub fn insert(&mut self, place: P) {
        let number = place.number();
        if number >= self.marked.len() {
            self.marked.resize(number + 1, false);
        }
        if let Some(marked) = self.marked.get_mut(number).filter(|marked| !**marked) {
            *marked = true;
            self.places.push(place);
        }
    }

    /// Marks several.
    pub fn extend<'a>(&mut self, places: impl IntoIterator<Item = &'a P>)
    where
        P: 'a,
    {
        places.into_iter().for_each(|place| self.insert(*place));
    }

    /// Those that are marked, in order; none is from then on.
    pub fn take(&mut self) -> Vec<P> {
        self.marked.clear();
        let mut places = std::mem::take(&mut self.places);
        places.sort_unstable();
        places
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_trees_are(steps in prop::collection::vec((any::<bool>(), 0u8..12), 0..80)) {
            let (mut set, mut tree) = (SortedSet::default(), BTreeSet::new());
            let (mut counts, mut map) = (Counts::default(), BTreeMap::<u8, u32>::new());
            for (more, member) in steps {
                let (ours, theirs) = match more {
                    true => (set.insert(member), tree.insert(member)),
                    false => (set.remove(&member), tree.remove(&member)),
                };
                prop_assert_eq!(ours, theirs);
                prop_assert_eq!(set.contains(&member), tree.contains(&member));
                let before = map.get(&member).copied().unwrap_or(0);
                let now = if more { before + 1 } else { before.saturating_sub(1) };
                prop_assert_eq!(counts.count(member, more), (before == 0) != (now == 0));
                if now == 0 { map.remove(&member); } else { map.insert(member, now); }
                prop_assert_eq!(counts.contains(&member), map.contains_key(&member));
            }
            prop_assert_eq!(set.is_empty(), tree.is_empty());
            prop_assert!(set.iter().eq(&tree) && (&set).into_iter().eq(&tree));
            prop_assert!(counts.keys().eq(map.keys()));
            prop_assert!(set.into_iter().eq(tree));
        }
    }
}
