//! Compact numbers for things that come and go: a vector with holes that are used again.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A place in a slab, of its own kind.
pub trait Place: Copy {
    /// The number as a place.
    fn new(number: u32) -> Self;
    /// The place as a number.
    fn number(self) -> usize;
}

macro_rules! place {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl Place for $name {
            fn new(number: u32) -> Self {
                Self(number)
            }

            fn number(self) -> usize {
                self.0 as usize
            }
        }
    };
}

place!(NodePlace, "A node, known or only named by pods.");
place!(PodPlace, "A pod.");
place!(SetPlace, "A set.");
place!(PolicyPlace, "A policy.");

/// The slab.
#[derive(Debug)]
pub struct Slab<P, T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
    place: PhantomData<P>,
}

impl<P, T> Default for Slab<P, T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), place: PhantomData }
    }
}

impl<P: Place, T> Slab<P, T> {
    /// Puts something in.
    pub fn insert(&mut self, value: T) -> P {
        match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = Some(value);
                P::new(number)
            }
            None => {
                self.entries.push(Some(value));
                // 2^32 objects do not fit into memory.
                P::new(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
            }
        }
    }

    /// Takes something out.
    pub fn remove(&mut self, place: P) -> Option<T> {
        let taken = self.entries.get_mut(place.number())?.take();
        if taken.is_some() {
            self.free.push(u32::try_from(place.number()).unwrap_or(u32::MAX));
        }
        taken
    }

    /// What is there, if anything.
    pub fn get(&self, place: P) -> Option<&T> {
        self.entries.get(place.number())?.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, place: P) -> Option<&mut T> {
        self.entries.get_mut(place.number())?.as_mut()
    }

    /// Everything, in no order that means something.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten()
    }

    /// Every place that is used.
    pub fn places(&self) -> impl Iterator<Item = P> + '_ {
        let used = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_some());
        used.map(|(number, _)| P::new(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

/// A place is handed out by `insert` and forgotten before `remove`: an empty one is a fault of the index itself.
impl<P: Place, T> Index<P> for Slab<P, T> {
    type Output = T;

    fn index(&self, place: P) -> &T {
        match &self.entries[place.number()] {
            Some(entry) => entry,
            None => unreachable!("place {} of the index is used after it was given up", place.number()),
        }
    }
}

impl<P: Place, T> IndexMut<P> for Slab<P, T> {
    fn index_mut(&mut self, place: P) -> &mut T {
        match &mut self.entries[place.number()] {
            Some(entry) => entry,
            None => unreachable!("place {} of the index is used after it was given up", place.number()),
        }
    }
}
