//! Pods and nodes: who is in which set. A change takes an object out of its sets and puts it into those that select it now;
//! what comes to the same leaves no trace, since contents are compared by version when they are settled.

use std::collections::HashMap;
use std::net::IpAddr;

use api::delta;
use network::{Labels, NamespacedName, Node, NodeName, Pod, Selector, SetId};

use super::slab::{NodePlace, PodPlace, SetPlace};
use super::sorted::SortedSet;
use super::{Group, Index, NodeEntry, PodEntry, SetEntry};

static NO_LABELS: Labels = Labels::new();

impl Index {
    pub(super) fn put_pod(&mut self, mut pod: Pod) {
        self.labels.share(&mut pod.labels);
        let place = match self.pod_of.get(&self.pods, &pod.key) {
            Some(place) if self.pods[place].pod == pod => return,
            Some(place) => {
                self.withdraw(place);
                self.pods[place].pod = pod;
                place
            }
            None => {
                let (accepted, member) = (None, Vec::new());
                let entry = PodEntry { pod, node: None, accepted, granted: false, member, entry: None };
                let place = self.pods.insert(entry);
                self.pod_of.insert(&self.pods, place);
                place
            }
        };
        self.admit(place);
    }

    pub(super) fn drop_pod(&mut self, key: &NamespacedName) {
        let Some(place) = self.pod_of.remove(&self.pods, key) else { return };
        self.unreport(place);
        self.withdraw(place);
        self.contested.remove(key);
        self.stale.reports.extend(self.pods.remove(place).map(|entry| entry.pod.key));
    }

    /// A namespace has other labels.
    pub(super) fn reconsider(&mut self, namespace: &str) {
        for place in self.shelves.pods_in(namespace) {
            if self.pods[place].pod.key.namespace() == namespace {
                let sets = self.sets_of(place);
                if sets != self.pods[place].member {
                    self.leave_all(place);
                    self.enter_all(place, sets);
                }
            }
        }
    }

    fn withdraw(&mut self, place: PodPlace) {
        self.leave_all(place);
        self.unsettle_pod(place);
        let entry = &mut self.pods[place];
        let (node, policed) = (entry.node.take(), entry.pod.is_policed());
        entry.entry = None;
        if policed {
            let addresses = entry.addresses().to_vec();
            self.forget_addresses(place, &addresses);
        }
        let pod = &self.pods[place].pod;
        self.shelves.drop_pod(pod.key.namespace(), &pod.labels, place);
        if let Some(node) = node {
            self.nodes[node].pods.remove(&place);
            self.stale.views.insert(node);
            self.tidy_node(node);
        }
    }

    fn admit(&mut self, place: PodPlace) {
        let pod = &self.pods[place].pod;
        self.shelves.put_pod(pod.key.namespace(), &pod.labels, place);
        if pod.is_policed() {
            for address in self.pods[place].addresses() {
                self.at.entry(*address).or_default().insert(place);
            }
            if let Some(name) = self.pods[place].pod.node.clone() {
                let node = self.node_place(&name);
                let entry = &mut self.pods[place];
                entry.node = Some(node);
                // One text for all pods of a node.
                entry.pod.node = Some(self.nodes[node].name.clone());
                self.nodes[node].pods.insert(place);
                self.stale.views.insert(node);
            }
        }
        let sets = self.sets_of(place);
        self.enter_all(place, sets);
        self.unsettle_pod(place);
    }

    /// Everything that depends on what the pod is, beside the sets that it is in.
    fn unsettle_pod(&mut self, place: PodPlace) {
        let entry = &self.pods[place];
        for address in &entry.pod.addresses {
            self.stale.claimants.extend(self.reported.get(address).into_iter().flatten());
        }
        self.stale.claimants.push(place);
        self.stale.reported.push(place);
        self.unsettle_content(place);
    }

    /// What is sent of it, and what is sent because of its addresses.
    fn unsettle_content(&mut self, place: PodPlace) {
        let entry = &self.pods[place];
        self.stale.pods.push(place);
        if entry.has_named_ports() {
            self.stale.policies.extend(&self.named_everywhere);
        }
        if let Some(services) = self.services_of.get(&entry.pod.key) {
            self.stale.services.extend(services.iter().cloned());
        }
    }

    /// The pod has other addresses, because somebody's report is believed or no longer.
    pub(super) fn readdress(&mut self, place: PodPlace, change: impl FnOnce(&mut PodEntry)) {
        let sets = std::mem::take(&mut self.pods[place].member);
        for set in &sets {
            self.leave(*set, place);
        }
        if self.pods[place].pod.is_policed() {
            let addresses = self.pods[place].addresses().to_vec();
            self.forget_addresses(place, &addresses);
        }
        change(&mut self.pods[place]);
        if self.pods[place].pod.is_policed() {
            for address in self.pods[place].addresses() {
                self.at.entry(*address).or_default().insert(place);
            }
        }
        self.enter_all(place, sets);
        self.unsettle_content(place);
    }

    fn forget_addresses(&mut self, place: PodPlace, addresses: &[IpAddr]) {
        for address in addresses {
            if let Some(pods) = self.at.get_mut(address) {
                pods.remove(&place);
                if pods.is_empty() {
                    self.at.remove(address);
                }
            }
        }
    }

    fn sets_of(&self, place: PodPlace) -> Vec<SetPlace> {
        let pod = &self.pods[place].pod;
        if !pod.is_policed() {
            return Vec::new();
        }
        let namespace = self.namespaces.get(pod.key.namespace()).unwrap_or(&NO_LABELS);
        let mut sets = self.shelves.sets_for(pod.key.namespace(), namespace, &pod.labels);
        sets.retain(|set| self.sets[*set].selector.selects_pod(pod, namespace));
        sets
    }

    fn enter_all(&mut self, place: PodPlace, sets: Vec<SetPlace>) {
        for set in &sets {
            self.enter(*set, place);
        }
        self.pods[place].member = sets;
        self.stale.pods.push(place);
    }

    fn leave_all(&mut self, place: PodPlace) {
        for set in std::mem::take(&mut self.pods[place].member) {
            self.leave(set, place);
        }
        self.stale.pods.push(place);
    }

    /// The pod is in the set from now on; `member` is up to the caller.
    fn enter(&mut self, set: SetPlace, place: PodPlace) {
        let (pod, entry) = (&self.pods[place], &mut self.sets[set]);
        if let Some(members) = &mut entry.members {
            brings(&self.at, &entry.pods, place, pod).for_each(|address| members.add(address));
        }
        entry.pods.insert(place);
        if let Some(node) = pod.node {
            entry.span.count(node, true);
        }
        self.unsettle_set(set, place);
    }

    fn leave(&mut self, set: SetPlace, place: PodPlace) {
        let (pod, entry) = (&self.pods[place], &mut self.sets[set]);
        entry.pods.remove(&place);
        if let Some(members) = &mut entry.members {
            brings(&self.at, &entry.pods, place, pod).for_each(|address| members.remove(address));
        }
        if let Some(node) = pod.node {
            entry.span.count(node, false);
        }
        self.unsettle_set(set, place);
    }

    fn unsettle_set(&mut self, set: SetPlace, place: PodPlace) {
        let (pod, entry) = (&self.pods[place], &self.sets[set]);
        if !entry.peer_of.is_empty() {
            self.stale.sets.push(set);
        }
        if let Some(node) = pod.node.filter(|_| !entry.group.policies.is_empty()) {
            self.stale.spans.push((set, node));
        }
        if pod.has_named_ports() {
            self.stale.policies.extend(&entry.named);
        }
    }

    /// One more policy needs the set.
    pub(super) fn acquire(
        &mut self,
        id: SetId,
        selector: impl FnOnce() -> Option<Selector>,
    ) -> Option<SetPlace> {
        if let Some(set) = self.set_of.get(&id).copied() {
            self.sets[set].uses += 1;
            return Some(set);
        }
        let selector = selector()?;
        let set = self.sets.insert(SetEntry {
            id,
            selector,
            uses: 1,
            pods: Default::default(),
            hosts: Default::default(),
            members: None,
            span: Default::default(),
            subject_uses: 0,
            named: Default::default(),
            named_by: Default::default(),
            group: Group::default(),
            peer_of: Default::default(),
            entry: None,
        });
        self.set_of.insert(id, set);
        let selector = &self.sets[set].selector;
        self.shelves.put_set(selector, set);
        match selector {
            Selector::Nodes(_) => {
                self.node_sets.insert(set);
                self.recount_hosts(set);
            }
            Selector::Pods { namespaces, pods, .. } => {
                let mut selected = Vec::new();
                for name in self.shelves.namespaces_for(namespaces) {
                    let labels = self.namespaces.get(&name).unwrap_or(&NO_LABELS);
                    let found = self.shelves.pods_for(&name, pods).into_iter();
                    selected.extend(found.filter(|place| {
                        let pod = &self.pods[*place].pod;
                        pod.key.namespace() == name && selector.selects_pod(pod, labels)
                    }));
                }
                for place in selected {
                    if !self.sets[set].pods.contains(&place) {
                        self.enter(set, place);
                        let member = &mut self.pods[place].member;
                        let at = member.partition_point(|other| *other < set);
                        member.insert(at, set);
                    }
                }
            }
        }
        Some(set)
    }

    /// One policy fewer needs the set.
    pub(super) fn release(&mut self, set: SetPlace) {
        self.sets[set].uses -= 1;
        if self.sets[set].uses > 0 {
            return;
        }
        let Some(entry) = self.sets.remove(set) else { return };
        self.set_of.remove(&entry.id);
        self.shelves.drop_set(&entry.selector, set);
        self.node_sets.remove(&set);
        for place in entry.pods {
            self.pods[place].member.retain(|other| *other != set);
        }
        for node in entry.group.nodes {
            self.nodes[node].groups.remove(&set);
            self.stale.views.insert(node);
            self.tidy_node(node);
        }
    }

    pub(super) fn put_node(&mut self, node: Node) {
        let place = self.node_place(&node.name);
        if self.nodes[place].object.as_ref().is_some_and(|(held, _)| *held == node) {
            return;
        }
        let entry = delta::node_entry(&node);
        self.node_changed(&node.name);
        self.nodes[place].object = Some((node, entry));
        self.stale.views.insert(place);
    }

    pub(super) fn drop_node(&mut self, name: &NodeName) {
        let Some(place) = self.node_of.get(name).copied() else { return };
        if self.nodes[place].object.take().is_none() {
            return;
        }
        self.node_changed(name);
        if !self.nodes[place].attended {
            self.nodes[place].resources = None;
        }
        self.tidy_node(place);
    }

    fn node_changed(&mut self, name: &NodeName) {
        self.stale.nodes = true;
        self.stale.every_view = true;
        self.stale.reporters.insert(name.clone());
        // Endpoints in the node's own network have its addresses.
        if !self.services_of.is_empty() {
            self.stale.services.extend(self.services.keys().cloned());
        }
    }

    /// The addresses of a set of nodes, anew.
    pub(super) fn recount_hosts(&mut self, set: SetPlace) {
        let objects = self.nodes.values().filter_map(|node| node.object.as_ref());
        let selected =
            objects.map(|(node, _)| node).filter(|node| self.sets[set].selector.selects_node(node));
        let hosts = selected.flat_map(Node::meant_addresses).collect();
        let entry = &mut self.sets[set];
        if entry.hosts != hosts {
            entry.members = None;
            entry.hosts = hosts;
            self.stale.sets.push(set);
        }
    }

    pub(super) fn node_place(&mut self, name: &NodeName) -> NodePlace {
        if let Some(place) = self.node_of.get(name) {
            return *place;
        }
        let place = self.nodes.insert(NodeEntry {
            name: name.clone(),
            object: None,
            attended: false,
            pods: Default::default(),
            groups: Default::default(),
            peers: Default::default(),
            resources: None,
        });
        self.node_of.insert(name.clone(), place);
        place
    }

    /// Forgets a node that is nothing any more.
    pub(super) fn tidy_node(&mut self, place: NodePlace) {
        let Some(node) = self.nodes.get(place) else { return };
        if node.object.is_none() && !node.attended && node.pods.is_empty() && node.groups.is_empty() {
            let name = node.name.clone();
            self.node_of.remove(&name);
            self.nodes.remove(place);
        }
    }
}

/// The addresses that a set of pods has by this one alone, each once.
fn brings<'a>(
    at: &'a HashMap<IpAddr, SortedSet<PodPlace>>,
    pods: &'a SortedSet<PodPlace>,
    place: PodPlace,
    pod: &'a PodEntry,
) -> impl Iterator<Item = IpAddr> + 'a {
    let all = pod.addresses();
    let is_held = move |address: &IpAddr| {
        let mut others = at.get(address).into_iter().flatten().filter(|other| **other != place);
        others.any(|other| pods.contains(other))
    };
    let alone =
        move |(index, address): &(usize, &IpAddr)| !is_held(address) && !all[..*index].contains(*address);
    all.iter().enumerate().filter(alone).map(|(_, address)| *address)
}
