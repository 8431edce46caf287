//! What is sent: entries of what changed, and each node's view as sections of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::delta::{self, Resources, Section};
use network::{LocalPod, NodeName, Selector};

use super::slab::{NodePlace, PodPlace, SetPlace};
use super::{Index, each_once};

impl Index {
    /// Sets, pods, nodes and Services whose content changed.
    pub(super) fn settle_contents(&mut self) {
        if std::mem::take(&mut self.stale.nodes) {
            for set in self.node_sets.clone() {
                self.recount_hosts(set);
            }
            let objects = self.nodes.values().filter_map(|node| node.object.as_ref());
            self.all_nodes = Arc::new(Section::new(objects.map(|(_, entry)| entry.clone()).collect()));
            self.stale.every_view = true;
        }
        for set in each_once(&mut self.stale.sets) {
            self.settle_set(set);
        }
        for place in each_once(&mut self.stale.pods) {
            self.settle_pod(place);
        }
        let services = std::mem::take(&mut self.stale.services);
        let mut changed = false;
        for key in services {
            let Some(held) = self.services.get(&key) else {
                changed = true;
                continue;
            };
            let in_path = held.service.is_in_data_path();
            let entry = in_path.then(|| delta::service_entry(&self.resolved_service(&held.service)));
            let same = entry.as_ref().map(|it| it.version) == held.entry.as_ref().map(|it| it.version);
            if let Some(held) = self.services.get_mut(&key).filter(|_| !same) {
                held.entry = entry;
                changed = true;
            }
        }
        if changed {
            let entries = self.services.values().filter_map(|service| service.entry.clone());
            self.all_services = Arc::new(Section::new(entries.collect()));
            self.stale.every_view = true;
        }
    }

    fn settle_set(&mut self, set: SetPlace) {
        let Some(entry) = self.sets.get(set) else { return };
        if entry.peer_of.is_empty() {
            self.sets[set].entry = None;
            return;
        }
        let version = entry.members.version(entry.id);
        if entry.entry.as_ref().is_some_and(|held| held.version == version) {
            return;
        }
        let made = delta::next_set_entry(entry.entry.as_ref(), entry.id, version, &self.members_of(set));
        let entry = &mut self.sets[set];
        entry.entry = Some(made);
        self.stale.views.extend(&entry.peer_of);
    }

    /// The addresses in a set, each once and in order.
    pub(super) fn members_of(&self, set: SetPlace) -> Vec<IpAddr> {
        let entry = &self.sets[set];
        match entry.selector {
            Selector::Nodes(_) => entry.hosts.iter().copied().collect(),
            Selector::Pods { .. } => {
                let pods = entry.pods.iter().map(|place| &self.pods[*place]);
                let mut members: Vec<IpAddr> = pods.flat_map(|pod| pod.addresses()).copied().collect();
                members.sort_unstable();
                members.dedup();
                members
            }
        }
    }

    fn settle_pod(&mut self, place: PodPlace) {
        let Some(pod) = self.pods.get(place) else { return };
        let Some(node) = pod.node else { return };
        let subjects = pod.member.iter().map(|set| &self.sets[*set]).filter(|set| set.subject_uses > 0);
        let local = LocalPod {
            key: pod.pod.key.clone(),
            uid: pod.pod.uid.clone(),
            addresses: pod.addresses().to_vec(),
            member_of: subjects.map(|set| set.id).collect(),
        };
        let made = delta::pod_entry(&local);
        let entry = &mut self.pods[place].entry;
        if entry.as_ref().is_none_or(|held| held.version != made.version) {
            *entry = Some(made);
            self.stale.views.insert(node);
        }
    }

    /// Views of what changed; returns whose are different from before.
    pub(super) fn settle_views(&mut self) -> BTreeSet<NodeName> {
        let stale = std::mem::take(&mut self.stale.views);
        let stale: Vec<NodePlace> = match std::mem::take(&mut self.stale.every_view) {
            true => self.nodes.places().collect(),
            false => stale.into_iter().collect(),
        };
        let mut changed = BTreeSet::new();
        for place in stale {
            let Some(node) = self.nodes.get(place).filter(|node| node.object.is_some() || node.attended)
            else {
                continue;
            };
            let made = self.view(place);
            if node.resources.as_ref().is_none_or(|held| !held.is_same(&made)) {
                changed.insert(node.name.clone());
                self.nodes[place].resources = Some(Arc::new(made));
            }
        }
        changed
    }

    /// A node's view as it is now.
    pub(super) fn view(&self, place: NodePlace) -> Resources {
        let node = &self.nodes[place];
        let mut sections = Vec::with_capacity(node.groups.len() + 4);
        sections.push(Arc::clone(&self.all_nodes));
        let sets = node.peers.keys().filter_map(|set| self.sets[*set].entry.clone());
        sections.push(Arc::new(Section::new(sets.collect())));
        // In the order of the subjects, which knows no history.
        let mut groups: Vec<_> = node.groups.iter().map(|set| &self.sets[*set]).collect();
        groups.sort_unstable_by_key(|set| set.id);
        sections.extend(groups.into_iter().map(|set| Arc::clone(&set.group.section)));
        let pods = node.pods.iter().filter_map(|pod| self.pods[*pod].entry.clone());
        sections.push(Arc::new(Section::new(pods.collect())));
        sections.push(Arc::clone(&self.all_services));
        Resources::new(sections)
    }
}
