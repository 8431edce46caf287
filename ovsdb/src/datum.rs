//! The value of a column: a set or a map of atoms, and the differences between two of them (RFC 7047 §5.1 `<value>`,
//! ovsdb-server(7) §4.1.14); knows nothing of tables.

use serde_json::{Value as Json, json};

use crate::atom::{Atom, AtomicType};
use crate::schema::ColumnType;

/// A column's value. A scalar is a set of one; an optional scalar is a set of none or one.
///
/// The vectors are sorted and without duplicates, which the constructors see to; a sorted vector takes a small part
/// of the memory of a tree for the sets of one of which most rows consist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    /// `<atom>` or `["set", […]]`.
    Set(Vec<Atom>),
    /// `["map", […]]`.
    Map(Vec<(Atom, Atom)>),
}

/// Why JSON is not a value of a column's type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatumError {
    /// An atom of another type.
    #[error("expected {expected}, got {got}")]
    Atom {
        /// What the schema asks for.
        expected: AtomicType,
        /// The beginning of what came.
        got: String,
    },
    /// Neither an atom, nor a set, nor a map where one was expected.
    #[error("expected a {expected}, got {got}")]
    Shape {
        /// `set` or `map`.
        expected: &'static str,
        /// The beginning of what came.
        got: String,
    },
    /// The same element or key twice.
    #[error("an element or key stands twice")]
    Duplicate,
    /// More or fewer elements than the schema allows.
    #[error("{count} elements where the schema allows {min} to {max}")]
    Count {
        /// How many came.
        count: usize,
        /// The least number allowed.
        min: usize,
        /// The greatest number allowed.
        max: usize,
    },
}

impl Datum {
    /// A set of one.
    pub fn scalar(atom: impl Into<Atom>) -> Self {
        Self::Set(vec![atom.into()])
    }

    /// A set of these atoms; duplicates count once.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self::Set(atoms)
    }

    /// A map of these pairs; the last of two pairs with one key counts.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs: std::collections::BTreeMap<Atom, Atom> =
            pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self::Map(pairs.into_iter().collect())
    }

    /// How many elements or pairs it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Set(atoms) => atoms.len(),
            Self::Map(pairs) => pairs.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The only element of a set of one.
    pub fn as_scalar(&self) -> Option<&Atom> {
        match self {
            Self::Set(atoms) => match atoms.as_slice() {
                [atom] => Some(atom),
                _ => None,
            },
            Self::Map(_) => None,
        }
    }

    /// The value under a key of a map.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        match self {
            Self::Map(pairs) => {
                let index = pairs.binary_search_by(|(candidate, _)| candidate.cmp(key)).ok()?;
                pairs.get(index).map(|(_, value)| value)
            }
            Self::Set(_) => None,
        }
    }

    /// Whether it has this element, or this key.
    pub fn contains(&self, atom: &Atom) -> bool {
        match self {
            Self::Set(atoms) => atoms.binary_search(atom).is_ok(),
            Self::Map(_) => self.get(atom).is_some(),
        }
    }

    /// Its JSON form; a set of one is written as its bare atom, which RFC 7047 §5.1 holds to be equal.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Set(atoms) => match atoms.as_slice() {
                [atom] => atom.to_json(),
                atoms => json!(["set", atoms.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            },
            Self::Map(pairs) => {
                let pairs: Vec<_> =
                    pairs.iter().map(|(key, value)| json!([key.to_json(), value.to_json()])).collect();
                json!(["map", pairs])
            }
        }
    }

    /// The value of a column of type `column` that `json` holds.
    pub fn from_json(json: &Json, column: &ColumnType) -> Result<Self, DatumError> {
        let datum = Self::difference_from_json(json, column)?;
        let (count, min, max) = (datum.len(), column.min, column.max);
        if count < min || count > max {
            return Err(DatumError::Count { count, min, max });
        }
        Ok(datum)
    }

    /// Like [`Datum::from_json`], without regard to the number of elements: a difference may have more or fewer.
    pub fn difference_from_json(json: &Json, column: &ColumnType) -> Result<Self, DatumError> {
        let tagged = match json.as_array().map(Vec::as_slice) {
            Some([Json::String(tag), Json::Array(elements)]) => Some((tag.as_str(), elements)),
            _ => None,
        };
        if let Some(value_type) = &column.value {
            let Some(("map", pairs)) = tagged else {
                return Err(DatumError::Shape { expected: "map", got: beginning(json) });
            };
            let mut map = Vec::with_capacity(pairs.len());
            for pair in pairs {
                let [key, value] = pair.as_array().map(Vec::as_slice).unwrap_or_default() else {
                    return Err(DatumError::Shape {
                        expected: "pair of a key and a value",
                        got: beginning(pair),
                    });
                };
                map.push((atom(key, column.key.atomic)?, atom(value, value_type.atomic)?));
            }
            map.sort_unstable();
            if map.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(DatumError::Duplicate);
            }
            return Ok(Self::Map(map));
        }
        match tagged {
            Some(("set", elements)) => {
                let mut set = Vec::with_capacity(elements.len());
                for element in elements {
                    set.push(atom(element, column.key.atomic)?);
                }
                set.sort_unstable();
                if set.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(DatumError::Duplicate);
                }
                Ok(Self::Set(set))
            }
            Some(_) => Err(DatumError::Shape { expected: "set", got: beginning(json) }),
            None => Ok(Self::Set(vec![atom(json, column.key.atomic)?])),
        }
    }

    /// The value after a "modify" of `update2` or `update3` (ovsdb-server(7) §4.1.14).
    ///
    /// For a column of at most one element the difference is the new value. For a set it is what belongs to only one
    /// side; for a map, a pair that is equal on both sides goes, any other comes or replaces.
    #[must_use]
    pub fn with_difference(&self, difference: &Self, column: &ColumnType) -> Self {
        if column.max <= 1 {
            return difference.clone();
        }
        match (self, difference) {
            (Self::Set(old), Self::Set(difference)) => {
                let stays = old.iter().filter(|atom| difference.binary_search(atom).is_err());
                let comes = difference.iter().filter(|atom| old.binary_search(atom).is_err());
                let mut new: Vec<Atom> = stays.chain(comes).cloned().collect();
                new.sort_unstable();
                Self::Set(new)
            }
            (Self::Map(old), Self::Map(pairs)) => {
                let stays = old.iter().filter(|(key, _)| !difference.contains(key));
                let comes = pairs.iter().filter(|(key, value)| self.get(key) != Some(value));
                let mut new: Vec<(Atom, Atom)> = stays.chain(comes).cloned().collect();
                new.sort_unstable();
                Self::Map(new)
            }
            // Both were read with one column type, so both have its shape.
            (_, difference) => difference.clone(),
        }
    }

    /// What [`Datum::with_difference`] needs to make `new` of `self`; equal values have no difference to send.
    #[must_use]
    pub fn difference_to(&self, new: &Self, column: &ColumnType) -> Self {
        if column.max <= 1 {
            return new.clone();
        }
        match (self, new) {
            // A symmetric difference undoes itself.
            (Self::Set(_), Self::Set(_)) => self.with_difference(new, column),
            (Self::Map(old), Self::Map(pairs)) => {
                let gone = old.iter().filter(|(key, _)| !new.contains(key));
                let comes = pairs.iter().filter(|(key, value)| self.get(key) != Some(value));
                let mut difference: Vec<(Atom, Atom)> = gone.chain(comes).cloned().collect();
                difference.sort_unstable();
                Self::Map(difference)
            }
            (_, new) => new.clone(),
        }
    }
}

fn atom(json: &Json, expected: AtomicType) -> Result<Atom, DatumError> {
    Atom::from_json(json, expected).ok_or_else(|| DatumError::Atom { expected, got: beginning(json) })
}

/// The first characters of what a server sent, for an error message.
pub(crate) fn beginning(json: &Json) -> String {
    const SHOWN: usize = 120;
    // Only a leaf or a short prefix is rendered: the value itself may be megabytes.
    let text = match json {
        Json::Array(items) if items.len() > 16 => format!("an array of {} elements", items.len()),
        Json::Object(members) if members.len() > 16 => format!("an object of {} members", members.len()),
        Json::String(text) => format!("{:?}", text.chars().take(SHOWN).collect::<String>()),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::BaseType;

    fn column(key: AtomicType, value: Option<AtomicType>, min: usize, max: usize) -> ColumnType {
        ColumnType { key: BaseType::of(key), value: value.map(BaseType::of), min, max }
    }

    #[test]
    fn a_set_of_one_may_be_a_bare_atom() {
        let strings = column(AtomicType::String, None, 0, usize::MAX);
        let one = Datum::set(["a"]);
        assert_eq!(Datum::from_json(&json!("a"), &strings), Ok(one.clone()));
        assert_eq!(Datum::from_json(&json!(["set", ["a"]]), &strings), Ok(one.clone()));
        assert_eq!(one.to_json(), json!("a"));
        assert_eq!(Datum::from_json(&json!(["set", []]), &strings), Ok(Datum::Set(vec![])));
        let uuids = column(AtomicType::Uuid, None, 0, 1);
        let uuid = json!(["uuid", "0123abcd-4567-89ef-0011-223344556677"]);
        assert_eq!(Datum::from_json(&uuid, &uuids).map(|datum| datum.to_json()), Ok(uuid));
    }

    #[test]
    fn what_a_column_cannot_hold_is_refused() {
        let optional = column(AtomicType::Integer, None, 0, 1);
        let map = column(AtomicType::String, Some(AtomicType::String), 0, usize::MAX);
        assert!(matches!(
            Datum::from_json(&json!(["set", [1, 2]]), &optional),
            Err(DatumError::Count { count: 2, min: 0, max: 1 })
        ));
        assert!(matches!(Datum::from_json(&json!("x"), &optional), Err(DatumError::Atom { .. })));
        assert!(matches!(Datum::from_json(&json!(["map", []]), &optional), Err(DatumError::Shape { .. })));
        assert!(matches!(Datum::from_json(&json!(["set", []]), &map), Err(DatumError::Shape { .. })));
        assert!(matches!(Datum::from_json(&json!(["map", [["k"]]]), &map), Err(DatumError::Shape { .. })));
        assert_eq!(
            Datum::from_json(&json!(["map", [["k", "1"], ["k", "2"]]]), &map),
            Err(DatumError::Duplicate)
        );
        assert_eq!(
            Datum::from_json(&json!(["set", [3, 3]]), &column(AtomicType::Integer, None, 0, 9)),
            Err(DatumError::Duplicate)
        );
    }

    proptest! {
        #[test]
        fn differences_of_sets_undo_and_redo(old: Vec<i64>, new: Vec<i64>, max in prop_oneof![Just(1), Just(99)]) {
            let column = column(AtomicType::Integer, None, 0, max);
            let (old, new) = (Datum::set(old), Datum::set(new));
            prop_assert_eq!(old.with_difference(&old.difference_to(&new, &column), &column), new);
        }

        #[test]
        fn differences_of_maps_undo_and_redo(
            old: std::collections::BTreeMap<u8, i64>,
            new: std::collections::BTreeMap<u8, i64>,
        ) {
            let column = column(AtomicType::Integer, Some(AtomicType::Integer), 0, usize::MAX);
            let datum = |map: std::collections::BTreeMap<u8, i64>| {
                Datum::map(map.into_iter().map(|(key, value)| (i64::from(key) % 7, value % 3)))
            };
            let (old, new) = (datum(old), datum(new));
            prop_assert_eq!(old.with_difference(&old.difference_to(&new, &column), &column), new);
        }

        #[test]
        fn json_round_trips(strings: std::collections::BTreeMap<String, String>) {
            let column = column(AtomicType::String, Some(AtomicType::String), 0, usize::MAX);
            let datum = Datum::map(strings);
            prop_assert_eq!(Datum::from_json(&datum.to_json(), &column), Ok(datum));
        }
    }
}
