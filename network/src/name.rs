//! Names of things: a node, and anything that lives in a namespace. Knows no kinds.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a Kubernetes node. There are few and they are named often: copies share the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// A node name from anything that is a string.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `namespace/name`; sorts by namespace first. Serialises as the one string. A thing is named in many places: copies share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamespacedName(Arc<str>);

/// Between the parts; smaller than anything in them, so the text sorts as the parts do.
const BETWEEN: char = '\0';

impl NamespacedName {
    /// Puts the two parts together.
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        let (namespace, name) = (namespace.as_ref(), name.as_ref());
        let mut text = String::with_capacity(namespace.len() + BETWEEN.len_utf8() + name.len());
        text.push_str(namespace);
        text.push(BETWEEN);
        text.push_str(name);
        Self(text.into())
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The name inside it.
    pub fn name(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(BETWEEN).unwrap_or_default()
    }
}

/// As of two strings, whatever is between them: ids are made from it.
impl Hash for NamespacedName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Debug for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = self.parts();
        write!(f, "{namespace}/{name}")
    }
}

/// The text is not `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form NAMESPACE/NAME")]
pub struct NameError(pub String);

impl FromStr for NamespacedName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty()
                    && !name.is_empty()
                    && !name.contains(['/', BETWEEN])
                    && !namespace.contains(BETWEEN) =>
            {
                Ok(Self::new(namespace, name))
            }
            _ => Err(NameError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for NamespacedName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<NamespacedName> for String {
    fn from(name: NamespacedName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_text_and_garbage_does_not_parse() {
        let name: NamespacedName = "shop/cart-0".parse().unwrap();
        assert_eq!(name, NamespacedName::new("shop", "cart-0"));
        assert_eq!(name.to_string(), "shop/cart-0");
        for bad in ["", "shop", "/cart", "shop/", "a/b/c", "a\0b/c", "a/b\0c"] {
            assert_eq!(bad.parse::<NamespacedName>(), Err(NameError(bad.to_owned())));
        }
    }

    #[test]
    fn names_sort_by_namespace_first() {
        let mut names =
            ["a/z", "a-b/a", "a/b", "a.b/a", "ab/a"].map(|text| text.parse::<NamespacedName>().unwrap());
        names.sort();
        assert_eq!(names.map(|name| name.to_string()), ["a/b", "a/z", "a-b/a", "a.b/a", "ab/a"]);
    }
}
