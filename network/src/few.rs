//! An ordered set for what there are mostly few of: none takes no allocation, one neither, more take one, where a
//! `BTreeSet` takes room for eleven. It compares, hashes and serialises as a `BTreeSet` of the same members does.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Members in ascending order, each once. What it can be asked is what a slice can be asked; it changes as a whole.
#[derive(Clone)]
pub struct Few<T>(Held<T>);

#[derive(Clone)]
enum Held<T> {
    None,
    One(T),
    Many(Box<[T]>),
}

impl<T> Few<T> {
    /// Nothing.
    pub const fn new() -> Self {
        Self(Held::None)
    }

    /// The members in their order.
    pub fn as_slice(&self) -> &[T] {
        match &self.0 {
            Held::None => &[],
            Held::One(member) => std::slice::from_ref(member),
            Held::Many(members) => members,
        }
    }

    fn into_vec(self) -> Vec<T> {
        match self.0 {
            Held::None => Vec::new(),
            Held::One(member) => vec![member],
            Held::Many(members) => members.into_vec(),
        }
    }

    fn of_sorted(mut members: Vec<T>) -> Self {
        Self(match members.len() {
            0 => Held::None,
            1 => members.pop().map_or(Held::None, Held::One),
            _ => Held::Many(members.into()),
        })
    }

    /// Without those that are not to be kept.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        let mut members = std::mem::take(self).into_vec();
        members.retain(keep);
        *self = Self::of_sorted(members);
    }

    /// Takes out the first.
    pub fn pop_first(&mut self) -> Option<T> {
        let mut members = std::mem::take(self).into_vec();
        let first = (!members.is_empty()).then(|| members.remove(0));
        *self = Self::of_sorted(members);
        first
    }
}

impl<T: Ord> Few<T> {
    /// Whether this is a member.
    pub fn contains(&self, member: &T) -> bool {
        self.as_slice().binary_search(member).is_ok()
    }

    /// Adds a member. False when it was one.
    pub fn insert(&mut self, member: T) -> bool {
        let Err(place) = self.as_slice().binary_search(&member) else { return false };
        let mut members = std::mem::take(self).into_vec();
        members.insert(place, member);
        *self = Self::of_sorted(members);
        true
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: Ord> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        let mut members: Vec<T> = members.into_iter().collect();
        members.sort();
        members.dedup();
        Self::of_sorted(members)
    }
}

impl<T: Ord> Extend<T> for Few<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, more: I) {
        *self = std::mem::take(self).into_iter().chain(more).collect();
    }
}

impl<T: Ord> From<BTreeSet<T>> for Few<T> {
    fn from(members: BTreeSet<T>) -> Self {
        Self::of_sorted(members.into_iter().collect())
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Few<T> {
    fn from(members: [T; N]) -> Self {
        members.into_iter().collect()
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T: PartialOrd> PartialOrd for Few<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.as_slice().partial_cmp(other.as_slice())
    }
}

impl<T: Ord> Ord for Few<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl<T: Hash> Hash for Few<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl<T: Serialize> Serialize for Few<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de, T: Deserialize<'de> + Ord> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

/// The same for what there is seldom any of: one word, and an allocation only where there is some.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(
    from = "Few<T>",
    into = "Few<T>",
    bound(serialize = "T: Clone + Serialize", deserialize = "T: Ord + Deserialize<'de>")
)]
pub struct Seldom<T>(
    // Never a box of nothing.
    Option<Box<Few<T>>>,
);

impl<T> Seldom<T> {
    /// Nothing.
    pub const fn new() -> Self {
        Self(None)
    }
}

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Seldom<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map_or(&[], Few::as_slice)
    }
}

impl<T> From<Few<T>> for Seldom<T> {
    fn from(few: Few<T>) -> Self {
        Self((!few.is_empty()).then(|| Box::new(few)))
    }
}

impl<T> From<Seldom<T>> for Few<T> {
    fn from(seldom: Seldom<T>) -> Self {
        seldom.0.map_or(Self::new(), |few| *few)
    }
}

impl<T: Ord> FromIterator<T> for Seldom<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        members.into_iter().collect::<Few<T>>().into()
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Seldom<T> {
    fn from(members: [T; N]) -> Self {
        members.into_iter().collect()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Seldom<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<T: Hash> Hash for Seldom<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn hash_of(value: &impl Hash) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    proptest! {
        #[test]
        fn it_is_what_a_tree_of_the_same_members_is(
            members in prop::collection::vec(0u8..6, 0..6),
            others in prop::collection::vec(0u8..6, 0..6),
            one in 0u8..6,
        ) {
            let both = |members: &[u8]| -> (Few<u8>, BTreeSet<u8>) {
                (members.iter().copied().collect(), members.iter().copied().collect())
            };
            let ((mut few, mut tree), (other_few, other_tree)) = (both(&members), both(&others));
            prop_assert_eq!(few.cmp(&other_few), tree.cmp(&other_tree));
            prop_assert_eq!(hash_of(&few), hash_of(&tree));
            prop_assert_eq!(few.contains(&one), tree.contains(&one));
            prop_assert_eq!(few.insert(one), tree.insert(one));
            let (seldom, other_seldom): (Seldom<u8>, Seldom<u8>) = (few.clone().into(), other_few.clone().into());
            prop_assert_eq!(seldom.cmp(&other_seldom), tree.cmp(&other_tree));
            prop_assert_eq!((hash_of(&seldom), &seldom[..]), (hash_of(&tree), &few[..]));
            few.extend(other_few);
            tree.extend(&other_tree);
            let text = serde_json::to_string(&few).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&tree).unwrap());
            prop_assert_eq!(&serde_json::from_str::<Few<u8>>(&text).unwrap(), &few);
            prop_assert_eq!(&serde_json::to_string(&Seldom::from(few.clone())).unwrap(), &text);
            prop_assert_eq!(&serde_json::from_str::<Seldom<u8>>(&text).unwrap()[..], &few[..]);
            prop_assert_eq!(few.pop_first(), tree.pop_first());
            few.retain(|member| member % 2 == 0);
            tree.retain(|member| member % 2 == 0);
            prop_assert!(few.into_iter().eq(tree));
        }
    }

    #[test]
    fn one_address_and_no_name_take_the_room_of_three_words() {
        assert_eq!(
            (size_of::<Few<IpAddr>>(), size_of::<Few<String>>(), size_of::<Seldom<String>>()),
            (24, 24, 8)
        );
    }
}
