//! What a source said since the index followed it last. Keeps the index as it was settled until it is settled again.

use network::{Change, Network};

/// Changes in their order, or a whole network in place of everything before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// What happened.
    Changes(Vec<Change>),
    /// What there is now.
    Whole(Box<Network>),
}

impl Default for News {
    fn default() -> Self {
        Self::Changes(Vec::new())
    }
}

impl News {
    /// There is this network now, whatever was said before.
    pub fn replace(&mut self, network: Network) {
        *self = Self::Whole(Box::new(network));
    }

    /// This happened then.
    pub fn extend(&mut self, changes: Vec<Change>) {
        match self {
            Self::Changes(said) => said.extend(changes),
            Self::Whole(network) => changes.into_iter().for_each(|change| network.apply(change)),
        }
    }

    /// What leads from the earlier network to the newest; the earlier one is made only where it is needed.
    pub fn since(self, earlier: impl FnOnce() -> Network) -> Vec<Change> {
        match self {
            Self::Changes(changes) => changes,
            Self::Whole(network) => network.changes_since(&earlier()),
        }
    }
}

#[cfg(test)]
mod tests {
    use network::{Labels, NodeName};

    use super::*;

    fn namespace(name: &str) -> Change {
        Change::Namespace(name.to_owned(), Labels::new())
    }

    fn network(names: &[&str]) -> Network {
        let namespaces = names.iter().map(|name| ((*name).to_owned(), Labels::new())).collect();
        Network { namespaces, ..Network::default() }
    }

    #[test]
    fn a_whole_network_stands_for_all_that_was_said_before_it() {
        let mut news = News::default();
        news.extend(vec![namespace("lost")]);
        news.replace(network(&["lost too"]));
        news.replace(network(&["a", "b"]));
        news.extend(vec![namespace("c"), Change::NamespaceGone("a".to_owned())]);
        let changes = news.since(|| network(&["a", "b"]));
        assert_eq!(changes, [Change::NamespaceGone("a".to_owned()), namespace("c")]);
    }

    #[test]
    fn changes_keep_their_order_and_nobody_is_asked_what_was_before() {
        let gone = Change::NodeGone(NodeName::new("node-1"));
        let mut news = News::default();
        news.extend(vec![namespace("a"), gone.clone()]);
        news.extend(vec![Change::NamespaceGone("a".to_owned())]);
        let changes = news.since(|| panic!("not needed"));
        assert_eq!(changes, [namespace("a"), gone, Change::NamespaceGone("a".to_owned())]);
    }
}
