//! Labels and label selectors, with the semantics of Kubernetes (`NotIn` is true when the key is missing).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::few::Few;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// The operator of a requirement (apimachinery `LabelSelectorRequirement.operator`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// The key is there and its value is listed.
    In,
    /// The key is missing or its value is not listed.
    NotIn,
    /// The key is there.
    Exists,
    /// The key is missing.
    DoesNotExist,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How its value is judged.
    pub operator: Operator,
    /// The values of `In` and `NotIn`; empty for the others.
    pub values: Few<String>,
}

impl Requirement {
    /// Whether labels satisfy this requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// A conjunction of requirements; the empty one selects everything. `matchLabels` become `In` requirements of one value,
/// so that equal selectors written differently are equal.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "BTreeSet<Requirement>", into = "BTreeSet<Requirement>")]
pub struct LabelSelector {
    /// In order, each once: there are many selectors, and a tree's leaf has room for eleven.
    requirements: Box<[Requirement]>,
}

impl fmt::Debug for LabelSelector {
    /// As a set: the ids of sets are hashes of this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Set<'a>(&'a [Requirement]);
        impl fmt::Debug for Set<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_set().entries(self.0).finish()
            }
        }
        f.debug_struct("LabelSelector").field("requirements", &Set(&self.requirements)).finish()
    }
}

impl From<BTreeSet<Requirement>> for LabelSelector {
    fn from(requirements: BTreeSet<Requirement>) -> Self {
        Self { requirements: requirements.into_iter().collect() }
    }
}

impl From<LabelSelector> for BTreeSet<Requirement> {
    fn from(selector: LabelSelector) -> Self {
        selector.requirements.into_iter().collect()
    }
}

impl LabelSelector {
    /// Selects everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects objects that satisfy all `requirements`.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        requirements.into_iter().collect::<BTreeSet<_>>().into()
    }

    /// Selects objects that carry all of `labels`.
    pub fn from_labels(labels: &Labels) -> Self {
        Self::new(labels.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: [value.clone()].into(),
        }))
    }

    /// The requirements in their order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.requirements.iter()
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether labels satisfy every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn requirement(operator: Operator, values: &[&str]) -> Requirement {
        Requirement { key: "app".into(), operator, values: values.iter().map(|v| (*v).to_owned()).collect() }
    }

    #[test]
    fn operators_on_present_absent_and_other_values() {
        let (cart, shop, none) = (labels(&[("app", "cart")]), labels(&[("app", "shop")]), labels(&[]));
        let truth = |r: &Requirement| [r.matches(&cart), r.matches(&shop), r.matches(&none)];
        assert_eq!(truth(&requirement(Operator::In, &["cart"])), [true, false, false]);
        assert_eq!(truth(&requirement(Operator::NotIn, &["cart"])), [false, true, true]);
        assert_eq!(truth(&requirement(Operator::Exists, &[])), [true, true, false]);
        assert_eq!(truth(&requirement(Operator::DoesNotExist, &[])), [false, false, true]);
    }

    /// The ids of sets are hashes of it: agents of another version know them by these.
    #[test]
    fn a_selector_is_spelt_as_ever() {
        let selector =
            LabelSelector::new([requirement(Operator::Exists, &[]), requirement(Operator::In, &["b", "a"])]);
        let spelt = r#"LabelSelector { requirements: {Requirement { key: "app", operator: In, values: {"a", "b"} }, Requirement { key: "app", operator: Exists, values: {} }} }"#;
        assert_eq!(format!("{selector:?}"), spelt);
        let id = crate::Selector::pods_in("shop", selector).id().to_string();
        assert_eq!(id, "99e35235e4474e6ca8c0c363e2e17efa");
    }

    #[test]
    fn match_labels_and_in_are_one_spelling() {
        let by_labels = LabelSelector::from_labels(&labels(&[("app", "cart")]));
        assert_eq!(by_labels, LabelSelector::new([requirement(Operator::In, &["cart"])]));
        assert!(LabelSelector::everything().matches(&labels(&[])));
    }
}
