//! Tables and columns with Rust types: what `vswitch` is generated into; must not know any particular table.
//!
//! A server of another version may lack a column, or hold another type in it. Such a column is not monitored and
//! reads as the default of its Rust type: `None`, empty, zero.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use crate::atom::{Atom, AtomicType, Real, Uuid};
use crate::datum::Datum;
use crate::replica::Row;
use crate::schema::ColumnType;
use crate::transaction::{Condition, Function, Mutation, Mutator, Selection};

/// A Rust type that one atom holds.
pub trait Scalar: Sized + Ord + Clone {
    /// The atom's type.
    const ATOMIC: AtomicType;
    /// The atom.
    fn to_atom(&self) -> Atom;
    /// The value, if the atom has the right type.
    fn from_atom(atom: &Atom) -> Option<Self>;
}

macro_rules! scalar {
    ($($rust:ty => $variant:ident),*) => {$(
        impl Scalar for $rust {
            const ATOMIC: AtomicType = AtomicType::$variant;
            fn to_atom(&self) -> Atom {
                Atom::$variant(self.clone())
            }
            fn from_atom(atom: &Atom) -> Option<Self> {
                match atom {
                    Atom::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }
        }
        impl Value for $rust {
            fn fits(column: &ColumnType) -> bool {
                column.value.is_none() && column.key.atomic == AtomicType::$variant
                    && (column.min, column.max) == (1, 1)
            }
            fn to_datum(&self) -> Datum {
                Datum::scalar(self.to_atom())
            }
            fn from_datum(datum: &Datum) -> Option<Self> {
                Self::from_atom(datum.as_scalar()?)
            }
        }
    )*};
}

scalar!(i64 => Integer, Real => Real, bool => Boolean, String => String, Uuid => Uuid);

/// A Rust type that a column holds.
pub trait Value: Sized + Default {
    /// Whether a column of this type always reads as this Rust type.
    fn fits(column: &ColumnType) -> bool;
    /// The column's value.
    fn to_datum(&self) -> Datum;
    /// The Rust value, if the column's value has its shape.
    fn from_datum(datum: &Datum) -> Option<Self>;
}

impl<S: Scalar> Value for Option<S> {
    fn fits(column: &ColumnType) -> bool {
        column.value.is_none() && column.key.atomic == S::ATOMIC && column.max == 1
    }

    fn to_datum(&self) -> Datum {
        Datum::set(self.iter().map(S::to_atom))
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::Set(atoms) if atoms.is_empty() => Some(None),
            datum => S::from_atom(datum.as_scalar()?).map(Some),
        }
    }
}

impl<S: Scalar> Value for BTreeSet<S> {
    fn fits(column: &ColumnType) -> bool {
        column.value.is_none() && column.key.atomic == S::ATOMIC
    }

    fn to_datum(&self) -> Datum {
        Datum::set(self.iter().map(S::to_atom))
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::Set(atoms) => atoms.iter().map(S::from_atom).collect(),
            Datum::Map(_) => None,
        }
    }
}

impl<K: Scalar, V: Scalar> Value for BTreeMap<K, V> {
    fn fits(column: &ColumnType) -> bool {
        column.key.atomic == K::ATOMIC && column.value.as_ref().is_some_and(|value| value.atomic == V::ATOMIC)
    }

    fn to_datum(&self) -> Datum {
        Datum::map(self.iter().map(|(key, value)| (key.to_atom(), value.to_atom())))
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::Map(pairs) => {
                pairs.iter().map(|(key, value)| Some((K::from_atom(key)?, V::from_atom(value)?))).collect()
            }
            Datum::Set(_) => None,
        }
    }
}

/// What is known of a column at compile time.
#[derive(Clone, Copy, Debug)]
pub struct ColumnInfo {
    /// Its name.
    pub name: &'static str,
    /// Whether a column of a server's schema reads as our Rust type.
    pub fits: fn(&ColumnType) -> bool,
}

/// A table with a Rust type for its rows.
pub trait Table: Sized + Default {
    /// The table's name.
    const NAME: &'static str;
    /// Its columns.
    const COLUMNS: &'static [ColumnInfo];

    /// The row in its Rust type; what is absent or of another type reads as the default.
    fn from_row(row: &Row) -> Self;

    /// A row to insert or to update with.
    fn row() -> Fields<Self> {
        Fields::default()
    }

    /// Every row, as the object of an operation.
    fn all() -> Selection {
        Selection::all(Self::NAME)
    }

    /// The row with this identity.
    fn at(uuid: Uuid) -> Selection {
        Selection::all(Self::NAME).and(Condition {
            column: "_uuid".to_owned(),
            function: Function::Equal,
            value: Datum::scalar(uuid),
        })
    }

    /// The rows that meet the condition.
    fn with(condition: Condition) -> Selection {
        Selection::all(Self::NAME).and(condition)
    }
}

/// A column `name` of table `T` that holds `V`.
pub struct Column<T, V> {
    name: &'static str,
    types: PhantomData<fn() -> (T, V)>,
}

impl<T, V> Clone for Column<T, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, V> Copy for Column<T, V> {}

impl<T, V> std::fmt::Debug for Column<T, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Column").field(&self.name).finish()
    }
}

impl<T: Table, V: Value> Column<T, V> {
    /// The column of this name. For generated code: nothing checks the name here.
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Its value in a row.
    pub fn of(self, row: &Row) -> V {
        row.get(self.name).and_then(V::from_datum).unwrap_or_default()
    }

    /// `column == value`.
    pub fn equals(self, value: impl Into<V>) -> Condition {
        self.condition(Function::Equal, value.into().to_datum())
    }

    /// `column != value`.
    pub fn differs(self, value: impl Into<V>) -> Condition {
        self.condition(Function::NotEqual, value.into().to_datum())
    }

    /// `column includes value`: every element of `value` is in the column.
    pub fn includes(self, value: impl Into<V>) -> Condition {
        self.condition(Function::Includes, value.into().to_datum())
    }

    /// `column excludes value`: no element of `value` is in the column.
    pub fn excludes(self, value: impl Into<V>) -> Condition {
        self.condition(Function::Excludes, value.into().to_datum())
    }

    fn condition(self, function: Function, value: Datum) -> Condition {
        Condition { column: self.name.to_owned(), function, value }
    }

    fn mutation(self, mutator: Mutator, value: Datum) -> Mutation {
        Mutation { column: self.name.to_owned(), mutator, value }
    }
}

impl<T: Table> Column<T, i64> {
    /// `column += number`.
    pub fn increase_by(self, number: i64) -> Mutation {
        self.mutation(Mutator::Add, Datum::scalar(number))
    }
}

impl<T: Table, S: Scalar> Column<T, BTreeSet<S>> {
    /// Puts elements into the set; rows of the same transaction are named by what its `insert` gave.
    pub fn insert<A: Into<Atom>>(self, atoms: impl IntoIterator<Item = A>) -> Mutation {
        self.mutation(Mutator::Insert, Datum::set(atoms))
    }

    /// Takes elements out of the set, if they are there.
    pub fn remove<A: Into<Atom>>(self, atoms: impl IntoIterator<Item = A>) -> Mutation {
        self.mutation(Mutator::Delete, Datum::set(atoms))
    }
}

impl<T: Table, K: Scalar, V: Scalar> Column<T, BTreeMap<K, V>> {
    /// Puts a pair into the map, in the place of what the key had: the server's `insert` alone would leave that.
    pub fn put(self, key: K, value: V) -> [Mutation; 2] {
        let pair = [(key.to_atom(), value.to_atom())];
        [
            self.mutation(Mutator::Delete, Datum::set([key.to_atom()])),
            self.mutation(Mutator::Insert, Datum::map(pair)),
        ]
    }

    /// Takes keys out of the map, if they are there.
    pub fn remove_keys(self, keys: impl IntoIterator<Item = K>) -> Mutation {
        self.mutation(Mutator::Delete, Datum::set(keys.into_iter().map(|key| key.to_atom())))
    }
}

/// Some columns of a row of table `T`, to insert or to update with.
#[derive(Debug)]
pub struct Fields<T> {
    pub(crate) values: BTreeMap<String, Datum>,
    table: PhantomData<fn() -> T>,
}

impl<T> Default for Fields<T> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), table: PhantomData }
    }
}

impl<T> Clone for Fields<T> {
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), table: PhantomData }
    }
}

impl<T: Table> Fields<T> {
    /// Gives the column this value.
    #[must_use]
    pub fn set<V: Value>(self, column: Column<T, V>, value: impl Into<V>) -> Self {
        let datum = value.into().to_datum();
        self.set_datum(column.name, datum)
    }

    /// Lets the column refer to rows: standing ones by their UUID, ones that the same transaction inserts by what its
    /// `insert` gave.
    #[must_use]
    pub fn refer<V: Value, A: Into<Atom>>(
        self,
        column: Column<T, V>,
        rows: impl IntoIterator<Item = A>,
    ) -> Self {
        self.set_datum(column.name, Datum::set(rows))
    }

    /// Gives a column of this name, which the generated table may not know, a value.
    #[must_use]
    pub fn set_datum(mut self, column: &str, datum: Datum) -> Self {
        self.values.insert(column.to_owned(), datum);
        self
    }
}

/// Declares the Rust type of each table, its columns' constants and its reading. The generator writes its input.
macro_rules! typed_tables {
    ($(
        $(#[doc = $doc:literal])*
        $table:ident $name:literal {
            $( $(#[doc = $column_doc:literal])* $field:ident: $type:ty = $constant:ident $column:literal, )*
        }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[allow(non_camel_case_types, reason = "tables keep the spelling of the schema")]
        pub struct $table {
            $( $(#[doc = $column_doc])* pub $field: $type, )*
        }

        impl $table {
            $(
                #[doc = concat!("Column `", $column, "` of table `", $name, "`.")]
                pub const $constant: $crate::typed::Column<Self, $type> = $crate::typed::Column::new($column);
            )*
        }

        impl $crate::typed::Table for $table {
            const NAME: &'static str = $name;
            const COLUMNS: &'static [$crate::typed::ColumnInfo] = &[
                $($crate::typed::ColumnInfo { name: $column, fits: <$type as $crate::typed::Value>::fits },)*
            ];

            fn from_row(row: &$crate::replica::Row) -> Self {
                Self { $($field: Self::$constant.of(row),)* }
            }
        }
    )*};
}
pub(crate) use typed_tables;
