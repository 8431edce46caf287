//! Where to look for the sets that may select a pod, and for the pods that a set may select. Gives candidates; whether one
//! is selected is the selector's word. A key is a hash of a scope and of one label that is required: two that collide cost
//! a look and no more.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use network::{LabelSelector, Labels, NamespaceSelector, Operator, Selector};

use super::slab::{PodPlace, SetPlace};
use super::sorted::SortedSet;

type Key = u64;

/// The shelves.
#[derive(Debug, Default)]
pub struct Shelves {
    sets: HashMap<Key, SortedSet<SetPlace>>,
    pods: HashMap<Key, SortedSet<PodPlace>>,
    namespaces: HashMap<Key, BTreeSet<String>>,
    /// How many pods each namespace has.
    populated: HashMap<String, usize>,
}

#[derive(Clone, Copy, Hash)]
enum Scope<'a> {
    Namespace(&'a str),
    NamespaceLabel(&'a str, &'a str),
    Everywhere,
}

fn key(scope: Scope<'_>, term: Option<(&str, &str)>) -> Key {
    let mut hasher = DefaultHasher::new();
    (scope, term).hash(&mut hasher);
    hasher.finish()
}

/// One label that every selected object has: each value that it may have. Empty when there is no such label.
fn terms(selector: &LabelSelector) -> Vec<(&str, &str)> {
    let required = selector.requirements().filter(|it| it.operator == Operator::In);
    let best = required.min_by_key(|it| it.values.len());
    best.map_or_else(Vec::new, |it| it.values.iter().map(|v| (it.key.as_str(), v.as_str())).collect())
}

impl Shelves {
    /// Takes a set in.
    pub fn put_set(&mut self, selector: &Selector, set: SetPlace) {
        for key in set_keys(selector) {
            self.sets.entry(key).or_default().insert(set);
        }
    }

    /// Takes a set out.
    pub fn drop_set(&mut self, selector: &Selector, set: SetPlace) {
        for key in set_keys(selector) {
            if let Some(sets) = self.sets.get_mut(&key) {
                sets.remove(&set);
                if sets.is_empty() {
                    self.sets.remove(&key);
                }
            }
        }
    }

    /// The sets that may select a pod.
    pub fn sets_for(&self, namespace: &str, of_namespace: &Labels, labels: &Labels) -> Vec<SetPlace> {
        if self.sets.is_empty() {
            return Vec::new();
        }
        let scopes = [Scope::Namespace(namespace), Scope::Everywhere].into_iter();
        let scopes = scopes.chain(of_namespace.iter().map(|(k, v)| Scope::NamespaceLabel(k, v)));
        let mut found: Vec<SetPlace> = Vec::new();
        for scope in scopes {
            let terms = labels.iter().map(|(k, v)| Some((k.as_str(), v.as_str()))).chain([None]);
            for term in terms {
                found.extend(self.sets.get(&key(scope, term)).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// A namespace has other labels than it had.
    pub fn put_namespace(&mut self, name: &str, before: Option<&Labels>, labels: &Labels) {
        for (k, v) in before.into_iter().flatten() {
            let key = key(Scope::NamespaceLabel(k, v), None);
            if let Some(names) = self.namespaces.get_mut(&key) {
                names.remove(name);
                if names.is_empty() {
                    self.namespaces.remove(&key);
                }
            }
        }
        for (k, v) in labels {
            let key = key(Scope::NamespaceLabel(k, v), None);
            self.namespaces.entry(key).or_default().insert(name.to_owned());
        }
    }

    /// The namespaces that may have selected pods.
    pub fn namespaces_for(&self, selector: &NamespaceSelector) -> Vec<String> {
        match selector {
            NamespaceSelector::Name(name) => vec![name.clone()],
            NamespaceSelector::Labels(labels) => {
                let terms = terms(labels);
                if terms.is_empty() {
                    return self.populated.keys().cloned().collect();
                }
                let keys = terms.into_iter().map(|(k, v)| key(Scope::NamespaceLabel(k, v), None));
                keys.filter_map(|key| self.namespaces.get(&key)).flatten().cloned().collect()
            }
        }
    }

    /// Takes a pod in.
    pub fn put_pod(&mut self, namespace: &str, labels: &Labels, pod: PodPlace) {
        match self.populated.get_mut(namespace) {
            Some(pods) => *pods += 1,
            None => drop(self.populated.insert(namespace.to_owned(), 1)),
        }
        for key in pod_keys(namespace, labels) {
            self.pods.entry(key).or_default().insert(pod);
        }
    }

    /// Takes a pod out.
    pub fn drop_pod(&mut self, namespace: &str, labels: &Labels, pod: PodPlace) {
        if let Some(pods) = self.populated.get_mut(namespace) {
            *pods -= 1;
            if *pods == 0 {
                self.populated.remove(namespace);
            }
        }
        for key in pod_keys(namespace, labels) {
            if let Some(pods) = self.pods.get_mut(&key) {
                pods.remove(&pod);
                if pods.is_empty() {
                    self.pods.remove(&key);
                }
            }
        }
    }

    /// All pods of a namespace (and perhaps others).
    pub fn pods_in(&self, namespace: &str) -> Vec<PodPlace> {
        self.pods.get(&key(Scope::Namespace(namespace), None)).into_iter().flatten().copied().collect()
    }

    /// The pods of a namespace that a label selector may select.
    pub fn pods_for(&self, namespace: &str, selector: &LabelSelector) -> Vec<PodPlace> {
        let terms = terms(selector);
        if terms.is_empty() {
            return self.pods_in(namespace);
        }
        let keys = terms.into_iter().map(|term| key(Scope::Namespace(namespace), Some(term)));
        keys.filter_map(|key| self.pods.get(&key)).flatten().copied().collect()
    }
}

fn set_keys(selector: &Selector) -> Vec<Key> {
    let Selector::Pods { namespaces, pods, .. } = selector else { return Vec::new() };
    let scopes = match namespaces {
        NamespaceSelector::Name(name) => vec![Scope::Namespace(name)],
        NamespaceSelector::Labels(labels) => {
            let labels = terms(labels);
            if labels.is_empty() {
                vec![Scope::Everywhere]
            } else {
                labels.into_iter().map(|(k, v)| Scope::NamespaceLabel(k, v)).collect()
            }
        }
    };
    let terms = terms(pods);
    let mut keys = Vec::with_capacity(1);
    for scope in scopes {
        if terms.is_empty() {
            keys.push(key(scope, None));
        }
        keys.extend(terms.iter().map(|term| key(scope, Some(*term))));
    }
    keys
}

fn pod_keys<'a>(namespace: &'a str, labels: &'a Labels) -> impl Iterator<Item = Key> + 'a {
    let terms = labels.iter().map(|(k, v)| Some((k.as_str(), v.as_str()))).chain([None]);
    terms.map(move |term| key(Scope::Namespace(namespace), term))
}
