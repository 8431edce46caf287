//! Which groups of policies a node has, and which sets they bring with them.

use std::sync::Arc;

use api::delta::Section;

use smallvec::SmallVec;

use super::slab::{NodePlace, SetPlace};
use super::{Index, each_once};

impl Index {
    /// One policy (or restricted rule) more or fewer is about the set.
    pub(super) fn count_subject(&mut self, set: SetPlace, more: bool) {
        let entry = &mut self.sets[set];
        let before = entry.subject_uses;
        entry.subject_uses = if more { before + 1 } else { before - 1 };
        // A pod is told the subjects that it is in.
        if before == 0 || entry.subject_uses == 0 {
            self.stale.pods.extend(&entry.pods);
        }
    }

    /// One policy more or fewer of the group names the set as a peer.
    pub(super) fn count_peer(&mut self, subject: SetPlace, peer: SetPlace, more: bool) {
        if self.sets[subject].group.peers.count(peer, more) {
            for node in self.sets[subject].group.nodes.iter().copied().collect::<Vec<_>>() {
                self.count_at(node, peer, more);
            }
        }
    }

    /// One group more or fewer of the node names the set.
    fn count_at(&mut self, node: NodePlace, peer: SetPlace, more: bool) {
        if self.nodes[node].peers.count(peer, more) {
            let peer_of = &mut self.sets[peer].peer_of;
            let _ = if more { peer_of.insert(node) } else { peer_of.remove(&node) };
        }
        self.stale.sets.push(peer);
        self.stale.views.insert(node);
    }

    /// Groups come to the nodes of their pods, and leave the others.
    pub(super) fn settle_spans(&mut self) {
        for (set, node) in each_once(&mut self.stale.spans) {
            let (Some(entry), Some(_)) = (self.sets.get(set), self.nodes.get(node)) else { continue };
            let wanted = !entry.group.policies.is_empty() && entry.span.contains(&node);
            if wanted == entry.group.nodes.contains(&node) {
                continue;
            }
            let peers: SmallVec<[SetPlace; 8]> = entry.group.peers.keys().copied().collect();
            if wanted {
                self.sets[set].group.nodes.insert(node);
                self.nodes[node].groups.insert(set);
            } else {
                self.sets[set].group.nodes.remove(&node);
                self.nodes[node].groups.remove(&set);
            }
            for peer in peers {
                self.count_at(node, peer, wanted);
            }
            self.stale.views.insert(node);
            self.tidy_node(node);
        }
        for set in each_once(&mut self.stale.groups) {
            let Some(entry) = self.sets.get_mut(set) else { continue };
            let policies = entry.group.policies.iter().filter_map(|place| self.policies.get(*place));
            let entries = policies.filter_map(|policy| Some(policy.resolved.as_ref()?.entry.clone()));
            entry.group.section = Arc::new(Section::new(entries.collect()));
            self.stale.views.extend(&entry.group.nodes);
        }
    }
}
