//! Sets of numbers that may be nearly everything: a list, or everything but a list. Knows no networks.

use std::ops::Range;

/// A set of the numbers of a universe, which the caller keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bunch {
    /// `listed` is what is not in the set.
    pub(super) complement: bool,
    /// Sorted, each once.
    pub(super) listed: Vec<u32>,
}

impl Bunch {
    /// The numbers of a sorted list.
    pub(super) fn only(listed: Vec<u32>) -> Self {
        Self { complement: false, listed }
    }

    /// Everything but the numbers of a sorted list.
    pub(super) fn all_but(listed: Vec<u32>) -> Self {
        Self { complement: true, listed }
    }

    /// The numbers of a sorted list that are in a universe.
    pub(super) fn within(listed: &[u32], universe: &Range<u32>) -> Self {
        Self::only(listed.iter().copied().filter(|number| universe.contains(number)).collect())
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        match (self.complement, other.complement) {
            (false, false) => Self::only(merge(&self.listed, &other.listed, |a, b| a && b)),
            (false, true) => Self::only(merge(&self.listed, &other.listed, |a, b| a && !b)),
            (true, false) => Self::only(merge(&self.listed, &other.listed, |a, b| !a && b)),
            (true, true) => Self::all_but(merge(&self.listed, &other.listed, |a, b| a || b)),
        }
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        self.intersection(&other.inverse())
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        self.inverse().intersection(&other.inverse()).inverse()
    }

    fn inverse(&self) -> Self {
        Self { complement: !self.complement, listed: self.listed.clone() }
    }

    pub(super) fn len(&self, universe: &Range<u32>) -> usize {
        if self.complement { universe.len() - self.listed.len() } else { self.listed.len() }
    }

    pub(super) fn iter<'a>(&'a self, universe: &Range<u32>) -> Box<dyn Iterator<Item = u32> + 'a> {
        match self.complement {
            false => Box::new(self.listed.iter().copied()),
            true => {
                let mut out = self.listed.iter().copied().peekable();
                Box::new(universe.clone().filter(move |number| out.next_if_eq(number).is_none()))
            }
        }
    }

    /// The one way in which this set is written: with the shorter list.
    pub(super) fn canonical(self, universe: &Range<u32>) -> Self {
        if self.listed.len() * 2 <= universe.len() {
            return self;
        }
        let complement = !self.complement;
        Self { complement, listed: Self::all_but(self.listed).iter(universe).collect() }
    }
}

/// The numbers of two sorted lists that `keep` wants, told whether each list has them.
fn merge(left: &[u32], right: &[u32], keep: impl Fn(bool, bool) -> bool) -> Vec<u32> {
    let (mut left, mut right) = (left.iter().copied().peekable(), right.iter().copied().peekable());
    let mut kept = Vec::new();
    loop {
        let next = match (left.peek(), right.peek()) {
            (None, None) => return kept,
            (Some(a), Some(b)) => *a.min(b),
            (Some(one), None) | (None, Some(one)) => *one,
        };
        let (a, b) = (left.next_if_eq(&next).is_some(), right.next_if_eq(&next).is_some());
        if keep(a, b) {
            kept.push(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const UNIVERSE: Range<u32> = 5..15;

    fn bunch() -> impl Strategy<Value = Bunch> {
        (any::<bool>(), prop::collection::btree_set(UNIVERSE, 0..8))
            .prop_map(|(complement, listed)| Bunch { complement, listed: listed.into_iter().collect() })
    }

    proptest! {
        #[test]
        fn the_algebra_is_that_of_sets(a in bunch(), b in bunch()) {
            let set = |bunch: &Bunch| bunch.iter(&UNIVERSE).collect::<BTreeSet<u32>>();
            let (left, right) = (set(&a), set(&b));
            prop_assert_eq!(set(&a.intersection(&b)), &left & &right);
            prop_assert_eq!(set(&a.union(&b)), &left | &right);
            prop_assert_eq!(set(&a.minus(&b)), &left - &right);
            prop_assert_eq!(a.len(&UNIVERSE), left.len());
            prop_assert_eq!(set(&a.clone().canonical(&UNIVERSE)), left.clone());
            if left == right {
                prop_assert_eq!(a.canonical(&UNIVERSE).len(&UNIVERSE), b.canonical(&UNIVERSE).len(&UNIVERSE));
            }
        }
    }
}
