//! Policies and Services: what they name, what it resolves to, what they count for in the group of their subject.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::delta;
use network::view::{Census, Resolved};
use network::{
    Direction, NamespacedName, Network, Peers, Policy, PolicyId, PortMatch, Ports, Protocol, Selector,
    Service, SetId,
};

use super::slab::{PolicyPlace, SetPlace};
use super::{Index, PolicyEntry, ResolvedEntry, ServiceEntry};

impl Index {
    pub(super) fn put_policy(&mut self, policy: Policy, selectors: Vec<(SetId, Selector)>) {
        let before = self.policy_of.get(&policy.id).copied();
        if before.is_some_and(|place| {
            self.policies[place].policy == policy && self.policies[place].resolved.is_some()
        }) {
            return;
        }
        // The new one first: what both name stays as it is.
        let mut selectors: BTreeMap<SetId, Selector> = selectors.into_iter().collect();
        let ids = policy.sets();
        let named = ids.into_iter().filter_map(|id| self.acquire(id, || selectors.remove(&id))).collect();
        let id = policy.id.clone();
        let place = self.policies.insert(PolicyEntry { policy, named, resolved: None });
        self.policy_of.insert(id, place);
        self.watch_names(place, true);
        self.resolve(place);
        if let Some(before) = before {
            self.forget_policy(before);
        }
    }

    pub(super) fn drop_policy(&mut self, id: &PolicyId) {
        if let Some(place) = self.policy_of.remove(id) {
            self.forget_policy(place);
        }
    }

    fn forget_policy(&mut self, place: PolicyPlace) {
        self.watch_names(place, false);
        self.unresolve(place);
        if let Some(entry) = self.policies.remove(place) {
            entry.named.into_iter().for_each(|set| self.release(set));
        }
    }

    /// What of a policy depends on which ports pods declare, and who names which set.
    fn watch_names(&mut self, place: PolicyPlace, there: bool) {
        let PolicyEntry { policy, named, .. } = &self.policies[place];
        let mut by_name = policy.rules.iter().filter(|rule| match &rule.ports {
            Ports::Any => false,
            Ports::Some(ports) => ports.iter().any(|port| matches!(port, PortMatch::Named { .. })),
        });
        let everywhere = policy.rules.iter().any(|rule| {
            rule.direction == Direction::Egress
                && match &rule.peers {
                    Peers::Any => true,
                    Peers::Some { blocks, .. } => !blocks.is_empty(),
                }
        });
        let any = by_name.next().is_some();
        for set in named.clone() {
            let entry = &mut self.sets[set];
            if there {
                entry.named_by.insert(place);
            } else {
                entry.named_by.remove(&place);
            }
            if there && any {
                entry.named.insert(place);
            } else {
                entry.named.remove(&place);
            }
        }
        if there && any && everywhere {
            self.named_everywhere.insert(place);
        } else {
            self.named_everywhere.remove(&place);
        }
    }

    /// Makes the policy what it comes to now, and counts it.
    pub(super) fn resolve(&mut self, place: PolicyPlace) {
        let policy = &self.policies[place].policy;
        let Some(subject) = self.set_of.get(&policy.subject).copied() else { return };
        let resolved = Resolved::of(policy, &self.sets[subject].selector, &*self);
        let entry = delta::policy_entry(&resolved.policy);
        let subjects: Vec<SetPlace> = self.acquire_all(resolved.subjects);
        let peers: Vec<SetPlace> = self.acquire_all(resolved.peers);
        for set in &subjects {
            self.count_subject(*set, true);
        }
        let first = self.sets[subject].group.policies.is_empty();
        self.sets[subject].group.policies.insert(place);
        if first {
            let nodes = self.sets[subject].span.keys();
            self.stale.spans.extend(nodes.map(|node| (subject, *node)));
        }
        for peer in &peers {
            self.count_peer(subject, *peer, true);
        }
        self.stale.groups.push(subject);
        self.policies[place].resolved = Some(ResolvedEntry { subject, subjects, peers, entry });
    }

    fn unresolve(&mut self, place: PolicyPlace) {
        let Some(resolved) = self.policies[place].resolved.take() else { return };
        let subject = resolved.subject;
        for peer in resolved.peers {
            self.count_peer(subject, peer, false);
            self.release(peer);
        }
        self.sets[subject].group.policies.remove(&place);
        self.stale.groups.push(subject);
        if self.sets[subject].group.policies.is_empty() {
            let nodes = self.sets[subject].group.nodes.iter();
            self.stale.spans.extend(nodes.map(|node| (subject, *node)));
        }
        for set in resolved.subjects {
            self.count_subject(set, false);
            self.release(set);
        }
    }

    /// Whether the policies of a namespace are audited may differ between what it is and these labels.
    pub(super) fn audit_changes(&mut self, namespace: &str, labels: &network::Labels) {
        if self.is_audited(namespace) != network::policy::asks_for_audit(labels) {
            let own = self.policy_of.iter().filter(|(id, _)| id.namespace == namespace);
            self.stale.policies.extend(own.map(|(_, place)| *place));
        }
    }

    fn acquire_all(&mut self, sets: BTreeMap<SetId, Option<Selector>>) -> Vec<SetPlace> {
        // What the object names itself is there already.
        sets.into_iter().filter_map(|(id, selector)| self.acquire(id, || selector)).collect()
    }

    /// Policies whose port names may have come to stand for other numbers.
    pub(super) fn settle_names(&mut self) {
        // Resolving takes sets in and out, and never a pod: it makes no other policy stale.
        let stale = std::mem::take(&mut self.stale.policies);
        for place in stale.into_iter().filter(|place| self.policies.get(*place).is_some()).collect::<Vec<_>>()
        {
            let entry = &self.policies[place];
            let (Some(held), Some(subject)) = (&entry.resolved, self.set_of.get(&entry.policy.subject))
            else {
                continue;
            };
            let now = Resolved::of(&entry.policy, &self.sets[*subject].selector, &*self);
            if delta::policy_entry(&now.policy).version != held.entry.version {
                // The raw sets are held by the policy itself, so nothing that stays is forgotten in between.
                self.unresolve(place);
                self.resolve(place);
            }
        }
        self.stale.policies.clear();
    }

    pub(super) fn put_service(&mut self, service: Service) {
        let key = service.key.clone();
        if self.services.get(&key).is_some_and(|held| held.service == service) {
            return;
        }
        // What is sent of it stays until it is settled: the difference to that is what counts.
        let entry = self.services.get(&key).and_then(|held| held.entry.clone());
        self.drop_service(&key);
        for pod in pods_of(&service) {
            self.services_of.entry(pod).or_default().insert(key.clone());
        }
        self.services.insert(key.clone(), ServiceEntry { service, entry });
        self.stale.services.insert(key);
    }

    pub(super) fn drop_service(&mut self, key: &NamespacedName) {
        let Some(held) = self.services.remove(key) else { return };
        for pod in pods_of(&held.service) {
            if let Some(services) = self.services_of.get_mut(&pod) {
                services.remove(key);
                if services.is_empty() {
                    self.services_of.remove(&pod);
                }
            }
        }
        self.stale.services.insert(key.clone());
    }

    /// A Service with the addresses of its endpoints' pods.
    pub(super) fn resolved_service(&self, service: &Service) -> Service {
        let mut around = Network::default();
        for key in pods_of(service) {
            let Some(entry) = self.pod_of.get(&self.pods, &key).map(|place| &self.pods[place]) else {
                continue;
            };
            let mut pod = entry.pod.clone();
            pod.addresses = entry.addresses().to_vec();
            if let Some(node) = pod.node.as_ref().and_then(|name| self.node(name)) {
                around.nodes.insert(node.name.clone(), node.clone());
            }
            around.pods.insert(key, pod);
        }
        service.resolved(&around)
    }
}

fn pods_of(service: &Service) -> BTreeSet<NamespacedName> {
    service.ports.iter().flat_map(|port| &port.endpoints).filter_map(|it| it.pod.clone()).collect()
}

impl Census for Index {
    fn selector(&self, id: SetId) -> Option<&Selector> {
        self.set_of.get(&id).map(|set| &self.sets[*set].selector)
    }

    fn numbers(
        &self,
        set: Option<SetId>,
        selector: &Selector,
        name: &str,
        protocol: Protocol,
    ) -> BTreeSet<u16> {
        match set.and_then(|id| self.set_of.get(&id)) {
            Some(set) => {
                let pods = self.sets[*set].pods.iter().map(|pod| &self.pods[*pod].pod);
                pods.flat_map(|pod| pod.port_numbers(name, protocol)).collect()
            }
            None => {
                let none = network::Labels::new();
                let labels = |pod: &network::Pod| self.namespaces.get(&pod.key.namespace).unwrap_or(&none);
                let pods = self.pods.values().map(|entry| &entry.pod);
                let selected =
                    pods.filter(|pod| pod.ports.iter().any(|port| port.name.as_deref() == Some(name)));
                let selected = selected.filter(|pod| selector.selects_pod(pod, labels(pod)));
                selected.flat_map(|pod| pod.port_numbers(name, protocol)).collect()
            }
        }
    }

    fn is_audited(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(network::policy::asks_for_audit)
    }

    fn declaring(&self, name: &str, protocol: Protocol) -> Vec<(Vec<IpAddr>, BTreeSet<u16>)> {
        let policed = self.pods.values().filter(|entry| entry.pod.is_policed());
        let all = policed.map(|it| (it.addresses().to_vec(), it.pod.port_numbers(name, protocol).collect()));
        all.filter(|(_, numbers): &(_, BTreeSet<u16>)| !numbers.is_empty()).collect()
    }
}
