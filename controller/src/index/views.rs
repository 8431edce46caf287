//! What is sent: entries of what changed, and each node's view as sections of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::delta::{self, Entry, Members, Resources, Section};
use network::{LocalPod, NodeName, Selector};

use super::slab::{NodePlace, PodPlace, SetPlace};
use super::{Index, each_once, parallel};

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
        self.settle_sets();
        self.settle_pods();
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

    fn settle_sets(&mut self) {
        let sets = each_once(&mut self.stale.sets);
        let made = parallel::map(&sets, |set| self.set_entry(*set));
        for (set, made) in sets.into_iter().zip(made) {
            let Some(entry) = self.sets.get_mut(set) else { continue };
            if entry.peer_of.is_empty() {
                (entry.entry, entry.members) = (None, None);
            } else if let Some((members, made)) = made {
                entry.members = Some(members);
                if made.is_some() {
                    entry.entry = made;
                    self.stale.views.extend(&entry.peer_of);
                }
            }
        }
    }

    /// The members of a set, and what is sent of it where that is another than before.
    fn set_entry(&self, set: SetPlace) -> Option<(Members, Option<Entry>)> {
        let entry = self.sets.get(set).filter(|entry| !entry.peer_of.is_empty())?;
        let whole = entry.members.is_none().then(|| self.members_of(set));
        let members = entry.members.unwrap_or_else(|| whole.iter().flatten().copied().collect());
        let version = members.version(entry.id);
        if entry.entry.as_ref().is_some_and(|held| held.version == version) {
            return Some((members, None));
        }
        let whole = whole.unwrap_or_else(|| self.members_of(set));
        Some((members, Some(delta::next_set_entry(entry.entry.as_ref(), entry.id, version, &whole))))
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

    fn settle_pods(&mut self) {
        let pods = each_once(&mut self.stale.pods);
        let made = parallel::map(&pods, |place| self.pod_entry(*place));
        for (place, made) in pods.into_iter().zip(made) {
            if let Some((node, entry)) = made {
                self.pods[place].entry = Some(entry);
                self.stale.views.insert(node);
            }
        }
    }

    /// What is sent of a pod, where that is another than before, and whereto.
    fn pod_entry(&self, place: PodPlace) -> Option<(NodePlace, Entry)> {
        let pod = self.pods.get(place)?;
        let node = pod.node?;
        let subjects = pod.member.iter().map(|set| &self.sets[*set]).filter(|set| set.subject_uses > 0);
        let local = LocalPod {
            key: pod.pod.key.clone(),
            uid: pod.pod.uid.clone(),
            addresses: pod.addresses().to_vec(),
            member_of: subjects.map(|set| set.id).collect(),
        };
        let made = delta::pod_entry(&local);
        pod.entry.as_ref().is_none_or(|held| held.version != made.version).then_some((node, made))
    }

    /// Views of what changed; returns whose are different from before.
    pub(super) fn settle_views(&mut self) -> BTreeSet<NodeName> {
        let stale = self.stale.views.take();
        let stale: Vec<NodePlace> = match std::mem::take(&mut self.stale.every_view) {
            true => self.nodes.places().collect(),
            false => stale,
        };
        let made = parallel::map(&stale, |place| self.changed_view(*place));
        let mut changed = BTreeSet::new();
        for (place, made) in stale.into_iter().zip(made) {
            if let Some(made) = made {
                changed.insert(self.nodes[place].name.clone());
                self.nodes[place].resources = Some(Arc::new(made));
            }
        }
        changed
    }

    /// A node's view, where somebody wants it and it is another than before.
    fn changed_view(&self, place: NodePlace) -> Option<Resources> {
        let node = self.nodes.get(place).filter(|node| node.object.is_some() || node.attended)?;
        let made = self.view(place);
        node.resources.as_ref().is_none_or(|held| !held.is_same(&made)).then_some(made)
    }

    /// A node's view as it is now.
    pub(super) fn view(&self, place: NodePlace) -> Resources {
        let node = &self.nodes[place];
        let mut sections = Vec::with_capacity(node.groups.iter().len() + 4);
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
