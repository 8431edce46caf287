//! How a selector is spelt for its id: as its `Debug` does, which quotes every string and marks every variant, so that no two
//! are spelt alike. Written out, because ids are made by the hundred thousand and the machinery of formatting takes most of
//! their time. Must know every part of a selector.

use std::fmt::{Debug, Write};

use crate::labels::{LabelSelector, Requirement};
use crate::selector::{NamespaceSelector, Selector};

/// What `Debug` gives.
pub(crate) fn of_selector(selector: &Selector) -> String {
    let mut out = String::with_capacity(256);
    match selector {
        Selector::Pods { namespaces, pods, port } => {
            out.push_str("Pods { namespaces: ");
            match namespaces {
                NamespaceSelector::Name(name) => {
                    out.push_str("Name(");
                    text(&mut out, name);
                }
                NamespaceSelector::Labels(selector) => {
                    out.push_str("Labels(");
                    labels(&mut out, selector);
                }
            }
            out.push_str("), pods: ");
            labels(&mut out, pods);
            out.push_str(", port: ");
            match port {
                None => out.push_str("None"),
                Some(_) => debug(&mut out, port),
            }
            out.push_str(" }");
        }
        Selector::Nodes(selector) => {
            out.push_str("Nodes(");
            labels(&mut out, selector);
            out.push(')');
        }
    }
    out
}

fn labels(out: &mut String, selector: &LabelSelector) {
    out.push_str("LabelSelector { requirements: ");
    set(out, selector.requirements(), |out, Requirement { key, operator, values }| {
        out.push_str("Requirement { key: ");
        text(out, key);
        out.push_str(", operator: ");
        debug(out, operator);
        out.push_str(", values: ");
        set(out, values, |out, value| text(out, value));
        out.push_str(" }");
    });
    out.push_str(" }");
}

fn set<T>(out: &mut String, members: impl IntoIterator<Item = T>, mut member: impl FnMut(&mut String, T)) {
    out.push('{');
    for (index, it) in members.into_iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        member(out, it);
    }
    out.push('}');
}

fn text(out: &mut String, text: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        debug(out, &text);
    }
}

fn debug(out: &mut String, value: &impl Debug) {
    // A string takes everything.
    let _ = write!(out, "{value:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::labels::Operator;
    use crate::protocol::Protocol;
    use crate::selector::DeclaredPort;

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9./_-]{0,12}", any::<String>()]
    }

    fn any_labels() -> impl Strategy<Value = LabelSelector> {
        let operator = prop_oneof![
            Just(Operator::In),
            Just(Operator::NotIn),
            Just(Operator::Exists),
            Just(Operator::DoesNotExist),
        ];
        let values = prop::collection::vec(any_text(), 0..4).prop_map(|values| values.into_iter().collect());
        let requirement = (any_text(), operator, values).prop_map(|(key, operator, values)| Requirement {
            key,
            operator,
            values,
        });
        prop::collection::vec(requirement, 0..4).prop_map(LabelSelector::new)
    }

    fn any_selector() -> impl Strategy<Value = Selector> {
        let namespaces = prop_oneof![
            any_text().prop_map(NamespaceSelector::Name),
            any_labels().prop_map(NamespaceSelector::Labels),
        ];
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
        let port = prop::option::of(
            (any_text(), protocol, any::<u16>()).prop_map(|(name, protocol, number)| DeclaredPort {
                name,
                protocol,
                number,
            }),
        );
        prop_oneof![
            (namespaces, any_labels(), port).prop_map(|(namespaces, pods, port)| Selector::Pods {
                namespaces,
                pods,
                port
            }),
            any_labels().prop_map(Selector::Nodes),
        ]
    }

    proptest! {
        #[test]
        fn it_is_what_debug_gives(selector in any_selector()) {
            prop_assert_eq!(of_selector(&selector), format!("{selector:?}"));
        }
    }
}
