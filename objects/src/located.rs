//! A tree of values that remembers where each one stands. Knows no kinds.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) position: Position,
    pub(crate) tree: Tree,
}

/// Line and column inside one document, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Scalar(Value),
    List(Vec<Located>),
    Map(Vec<(String, Located)>),
}

impl Located {
    /// The value without its places. Of equal keys the last one counts.
    pub(crate) fn value(&self) -> Value {
        match &self.tree {
            Tree::Scalar(value) => value.clone(),
            Tree::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Tree::Map(entries) => {
                Value::Object(entries.iter().map(|(key, v)| (key.clone(), v.value())).collect::<Map<_, _>>())
            }
        }
    }

    /// The same tree from a value that has no places; everything stands at `position`.
    pub(crate) fn anywhere(value: Value, position: Position) -> Self {
        let tree = match value {
            Value::Array(items) => {
                Tree::List(items.into_iter().map(|v| Self::anywhere(v, position)).collect())
            }
            Value::Object(map) => {
                Tree::Map(map.into_iter().map(|(key, v)| (key, Self::anywhere(v, position))).collect())
            }
            scalar => Tree::Scalar(scalar),
        };
        Self { position, tree }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.tree {
            Tree::Map(entries) => entries.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.tree {
            Tree::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.tree, Tree::Scalar(Value::Null))
    }

    /// What stands here, in words.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.tree {
            Tree::Map(_) => "a map",
            Tree::List(_) => "a list",
            Tree::Scalar(Value::Null) => "nothing",
            Tree::Scalar(Value::String(_)) => "a text",
            Tree::Scalar(_) => "a number or boolean",
        }
    }

    /// The place of every field below this one, by path (`spec.ingress[0].from`).
    pub(crate) fn positions(&self) -> BTreeMap<String, Position> {
        let mut all = BTreeMap::new();
        self.collect(String::new(), &mut all);
        all
    }

    fn collect(&self, path: String, all: &mut BTreeMap<String, Position>) {
        match &self.tree {
            Tree::Scalar(_) => {}
            Tree::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect(format!("{path}[{index}]"), all);
                }
            }
            Tree::Map(entries) => {
                for (key, item) in entries {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    item.collect(path, all);
                }
            }
        }
        if !path.is_empty() {
            all.insert(path, self.position);
        }
    }
}

/// The path of what holds a field.
pub(crate) fn parent(path: &str) -> Option<&str> {
    path.rfind(['.', '[']).map(|end| &path[..end])
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Tree>::deserialize(deserializer)?;
        let at = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        let position =
            Position { line: at(spanned.referenced.line()), column: at(spanned.referenced.column()) };
        Ok(Self { position, tree: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Number(value.into())))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Number(value.into())))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Tree, E> {
        Ok(Tree::Scalar(Number::from_i128(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Tree, E> {
        Ok(Tree::Scalar(Number::from_u128(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::String(value.to_owned())))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::String(value)))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}
