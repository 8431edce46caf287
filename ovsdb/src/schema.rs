//! What a server says of its tables and columns (RFC 7047 §3.2); knows nothing of their contents.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value as Json};

use crate::atom::{Atom, AtomicType};
use crate::datum::{Datum, beginning};

/// `<base-type>`: the type of an element, key or value, with its constraints as far as a client can use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseType {
    /// The type of the atom.
    pub atomic: AtomicType,
    /// The only values allowed, if any are named.
    pub allowed: Vec<Atom>,
    /// `minInteger` and `maxInteger`.
    pub integer_range: (Option<i64>, Option<i64>),
    /// The table that a UUID refers to.
    pub referenced_table: Option<String>,
    /// Whether the reference is weak: it goes by itself when its row does.
    pub weak_reference: bool,
}

impl BaseType {
    /// The type without constraints.
    pub fn of(atomic: AtomicType) -> Self {
        Self {
            atomic,
            allowed: Vec::new(),
            integer_range: (None, None),
            referenced_table: None,
            weak_reference: false,
        }
    }
}

/// `<type>`: what a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// The type of the elements, or of a map's keys.
    pub key: BaseType,
    /// The type of a map's values; `None` for a set.
    pub value: Option<BaseType>,
    /// The least number of elements: 0 or 1.
    pub min: usize,
    /// The greatest number of elements; `usize::MAX` stands for `"unlimited"`.
    pub max: usize,
}

impl ColumnType {
    /// A column of exactly one atom.
    pub fn scalar(atomic: AtomicType) -> Self {
        Self { key: BaseType::of(atomic), value: None, min: 1, max: 1 }
    }

    /// What the column holds in a new row that says nothing of it (RFC 7047 §5.2.1).
    pub fn default_datum(&self) -> Datum {
        match (&self.value, self.min) {
            (None, 0) => Datum::Set(Vec::new()),
            (None, _) => Datum::scalar(self.key.atomic.default_atom()),
            (Some(_), 0) => Datum::Map(Vec::new()),
            (Some(value), _) => Datum::map([(self.key.atomic.default_atom(), value.atomic.default_atom())]),
        }
    }

    /// Whether `datum` has the right shape and types to be sent for this column.
    pub fn accepts(&self, datum: &Datum) -> bool {
        let counts = (self.min..=self.max).contains(&datum.len());
        counts
            && match (datum, &self.value) {
                (Datum::Set(atoms), None) => atoms.iter().all(|atom| atom.atomic_type() == self.key.atomic),
                (Datum::Map(pairs), Some(value_type)) => pairs.iter().all(|(key, value)| {
                    key.atomic_type() == self.key.atomic && value.atomic_type() == value_type.atomic
                }),
                _ => false,
            }
    }
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.value, self.min, self.max) {
            (None, 1, 1) => write!(f, "{}", self.key.atomic),
            (None, 0, 1) => write!(f, "optional {}", self.key.atomic),
            (None, ..) => write!(f, "set of {}", self.key.atomic),
            (Some(value), ..) => write!(f, "map of {} to {}", self.key.atomic, value.atomic),
        }
    }
}

/// `<column-schema>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSchema {
    /// What it holds.
    pub column_type: ColumnType,
    /// Whether it is lost when the server restarts.
    pub ephemeral: bool,
    /// Whether it can be changed once the row stands.
    pub mutable: bool,
}

/// `<table-schema>`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TableSchema {
    /// The columns by name, without `_uuid` and `_version`.
    pub columns: BTreeMap<Arc<str>, ColumnSchema>,
    /// The greatest number of rows, if there is a limit.
    pub max_rows: Option<usize>,
    /// Whether its rows stay without a reference to them.
    pub is_root: bool,
    /// Sets of columns that no two rows may have equal.
    pub indexes: Vec<Vec<String>>,
}

impl TableSchema {
    /// The type of a column, also of `_uuid` and `_version` (RFC 7047 §3.2).
    pub fn column_type(&self, name: &str) -> Option<&ColumnType> {
        static IDENTITY: LazyLock<ColumnType> = LazyLock::new(|| ColumnType::scalar(AtomicType::Uuid));
        match name {
            "_uuid" | "_version" => Some(&IDENTITY),
            _ => self.columns.get(name).map(|column| &column.column_type),
        }
    }
}

/// `<database-schema>`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DatabaseSchema {
    /// The database's name, such as `Open_vSwitch`.
    pub name: String,
    /// Its version, `x.y.z`; empty where an old server leaves it out.
    pub version: String,
    /// The tables by name.
    pub tables: BTreeMap<Arc<str>, TableSchema>,
}

/// Why JSON is not a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema: {place}: {problem}")]
pub struct SchemaError {
    /// Where: the table and column.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl DatabaseSchema {
    /// Reads what `get_schema` answered, or a `.ovsschema` file. Members that this crate does not know are ignored.
    pub fn from_json(json: &Json) -> Result<Self, SchemaError> {
        let object = object(json, "the database")?;
        let text = |member: &str| object.get(member).and_then(Json::as_str).unwrap_or_default().to_owned();
        let mut schema = Self { name: text("name"), version: text("version"), tables: BTreeMap::new() };
        if schema.name.is_empty() {
            return Err(error("the database", "it has no name"));
        }
        let tables = object.get("tables").ok_or_else(|| error("the database", "it has no tables"))?;
        for (name, table) in self::object(tables, "tables")? {
            schema.tables.insert(name.as_str().into(), table_from_json(name, table)?);
        }
        Ok(schema)
    }

    /// A table by its name.
    pub fn table(&self, name: &str) -> Option<&TableSchema> {
        self.tables.get(name)
    }
}

fn table_from_json(name: &str, json: &Json) -> Result<TableSchema, SchemaError> {
    let members = object(json, name)?;
    let mut table = TableSchema {
        max_rows: members.get("maxRows").and_then(Json::as_u64).and_then(|rows| rows.try_into().ok()),
        is_root: members.get("isRoot").and_then(Json::as_bool).unwrap_or(false),
        ..TableSchema::default()
    };
    for index in members.get("indexes").and_then(Json::as_array).into_iter().flatten() {
        let columns = index.as_array().into_iter().flatten().filter_map(Json::as_str);
        table.indexes.push(columns.map(str::to_owned).collect());
    }
    let columns = members.get("columns").ok_or_else(|| error(name, "it has no columns"))?;
    for (column, json) in object(columns, name)? {
        let place = format!("{name}.{column}");
        let members = object(json, &place)?;
        let flag = |member: &str, absent| members.get(member).and_then(Json::as_bool).unwrap_or(absent);
        let column_type = members.get("type").ok_or_else(|| error(&place, "it has no type"))?;
        table.columns.insert(
            column.as_str().into(),
            ColumnSchema {
                column_type: type_from_json(&place, column_type)?,
                ephemeral: flag("ephemeral", false),
                mutable: flag("mutable", true),
            },
        );
    }
    Ok(table)
}

fn type_from_json(place: &str, json: &Json) -> Result<ColumnType, SchemaError> {
    let Json::Object(members) = json else {
        return Ok(ColumnType { key: base_from_json(place, json)?, value: None, min: 1, max: 1 });
    };
    let key = members.get("key").ok_or_else(|| error(place, "its type has no key"))?;
    let value = members.get("value").map(|value| base_from_json(place, value)).transpose()?;
    let limit = |member: &str| match members.get(member) {
        None => Ok(1),
        Some(Json::String(word)) if word == "unlimited" && member == "max" => Ok(usize::MAX),
        Some(number) => number
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| error(place, &format!("{member} is {}", beginning(number)))),
    };
    let (min, max) = (limit("min")?, limit("max")?);
    if min > 1 || max < 1 {
        return Err(error(place, "min must be 0 or 1, and max at least 1"));
    }
    Ok(ColumnType { key: base_from_json(place, key)?, value, min, max })
}

fn base_from_json(place: &str, json: &Json) -> Result<BaseType, SchemaError> {
    let (name, members) = match json {
        Json::Object(members) => (members.get("type").unwrap_or(&Json::Null), Some(members)),
        other => (other, None),
    };
    let atomic = name
        .as_str()
        .and_then(AtomicType::from_name)
        .ok_or_else(|| error(place, &format!("{} is not an atomic type", beginning(name))))?;
    let mut base = BaseType::of(atomic);
    let Some(members) = members else { return Ok(base) };
    if let Some(allowed) = members.get("enum") {
        let set = ColumnType { key: BaseType::of(atomic), value: None, min: 0, max: usize::MAX };
        match Datum::from_json(allowed, &set) {
            Ok(Datum::Set(atoms)) => base.allowed = atoms,
            Ok(Datum::Map(_)) => return Err(error(place, "enum: a map")),
            Err(problem) => return Err(error(place, &format!("enum: {problem}"))),
        }
    }
    let integer = |member: &str| members.get(member).and_then(Json::as_i64);
    base.integer_range = (integer("minInteger"), integer("maxInteger"));
    base.referenced_table = members.get("refTable").and_then(Json::as_str).map(str::to_owned);
    base.weak_reference = members.get("refType").and_then(Json::as_str) == Some("weak");
    Ok(base)
}

fn object<'a>(json: &'a Json, place: &str) -> Result<&'a Map<String, Json>, SchemaError> {
    json.as_object().ok_or_else(|| error(place, &format!("expected an object, got {}", beginning(json))))
}

fn error(place: &str, problem: &str) -> SchemaError {
    SchemaError { place: place.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_and_their_defaults() {
        let read = |json| type_from_json("T.c", &json).expect("valid");
        assert_eq!(read(json!("integer")).default_datum(), Datum::scalar(0));
        assert_eq!(read(json!({"key": "string", "min": 0})).default_datum(), Datum::Set(vec![]));
        let map = read(json!({"key": "string", "value": "uuid", "min": 0, "max": "unlimited"}));
        assert_eq!(map.default_datum(), Datum::Map(vec![]));
        assert_eq!(map.to_string(), "map of string to uuid");
        let optional =
            read(json!({"key": {"type": "string", "enum": ["set", ["a", "b"]]}, "min": 0, "max": 1}));
        assert_eq!(optional.key.allowed, [Atom::from("a"), Atom::from("b")]);
        assert!(optional.accepts(&Datum::set::<Atom>([])));
        assert!(!optional.accepts(&Datum::set(["a", "b"])));
        assert!(!optional.accepts(&Datum::scalar(1)));
    }

    #[test]
    fn a_schema_that_lies_is_refused_where_it_lies() {
        for (json, place) in [
            (json!([]), "the database"),
            (json!({"name": "D"}), "the database"),
            (json!({"name": "D", "tables": {"T": 1}}), "T"),
            (json!({"name": "D", "tables": {"T": {}}}), "T"),
            (json!({"name": "D", "tables": {"T": {"columns": {"c": {"type": "blob"}}}}}), "T.c"),
            (
                json!({"name": "D", "tables": {"T": {"columns": {"c": {"type": {"key": "real", "min": -1}}}}}}),
                "T.c",
            ),
            (
                json!({"name": "D", "tables": {"T": {"columns": {"c": {"type": {"key": "real", "max": 0}}}}}}),
                "T.c",
            ),
        ] {
            assert_eq!(DatabaseSchema::from_json(&json).expect_err("invalid").place, place, "{json}");
        }
    }
}
